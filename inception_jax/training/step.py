"""Training step of one device."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from inception_jax.data.augment import Preprocessing
from inception_jax.parallel import AXIS, mean_over_devices
from inception_jax.training.optimizers import select, with_learning_rate
from inception_jax.training.state import TrainState
from inception_jax.training.tasks import Objective
from inception_jax.weights.files import path_of


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    preprocessing: Preprocessing,
    objective: Objective,
    *,
    accumulate: int,
    ema_decay: float,
    freeze: Sequence[str],
    max_skips: int = 0,
    details: bool = False,
) -> Callable[[TrainState, Mapping[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]:
    """Returns `step(state, batch) -> (state, metrics)` of one device, to be mapped over the axis `parallel.AXIS`.

    The batch of one device is {'image': uint8 [N, H, W, 3], 'label': int32 [N], 'index': uint32 [N], 'seed': uint32
    [N]}, and 'box' float32 [N, 4] if the objective learns boxes. The seed, for augmentation and dropout, is the same
    for all examples. It is part of the batch so that one compiled program serves every seed.

    The metrics are scalars over all devices. Those of the objective are means; none includes weight decay. 'grad_norm'
    is taken before clipping. The others are 'learning_rate' and the flags 'skipped' and 'failed'.

    A step whose loss, gradient norm, new parameters or new batch statistics are not finite is skipped: it changes
    nothing but the numbers of steps and of skips. If more than `max_skips` steps in a row are not finite, the run has
    failed: the last of them and all later steps keep the state from before it. So a failure may be noticed later, and
    the state still says which step failed and what it started from.

    Randomness is a function of the seed, the step and the example. The augmentation of an example does not depend on
    the number of devices; dropout masks do, because each device draws its own.

    Args:
      model: network.
      optimizer: optimizer from `make_optimizer`; it receives the gradients averaged over devices.
      schedule: learning rate by step; multiplied by the state's plateau scale, if there is one.
      preprocessing: turns bytes into the network's input.
      objective: the loss, see `tasks`.
      accumulate: number of microbatches into which the device splits its batch; their gradients are averaged. Batch
        normalisation uses the statistics of each microbatch, and updates the running statistics with each.
      ema_decay: decay of the moving averages of parameters and batch statistics; 0: none. In the first steps the decay
        is (1 + step) / (10 + step), as in TensorFlow's ExponentialMovingAverage.
      freeze: patterns of the parameters for which no gradients are computed.
      max_skips: largest number of steps in a row that may be skipped.
      details: whether the metrics have an entry 'details' too, for `nonfinite.diagnose`. Its entries are dicts of
        scalars: 'outputs', 'params', 'new_params' and 'new_batch_stats' have the number of values that are not finite,
        in each end point (and in 'images') and in each array by its path; 'gradients' have the norm of each array. The
        numbers of 'outputs' are means over devices and microbatches.
    """

    def loss_and_metrics(params, batch_stats, images, targets, dropout_key):
        if freeze:
            params = jax.tree.map(lambda p, f: lax.stop_gradient(p) if f else p, params, select(params, freeze))
        (outputs, end_points), updated = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        metrics: dict[str, Any] = objective(outputs, end_points, targets)
        if details:
            metrics["outputs"] = _by_path({"images": images, **end_points}, _nonfinite_count)
        return metrics["loss"], (updated.get("batch_stats", {}), metrics)

    gradients_of = jax.grad(loss_and_metrics, has_aux=True)

    def step(state: TrainState, batch):
        # -- Randomness
        augment_key, dropout_key = jax.random.split(jax.random.key(batch["seed"][0]))
        dropout_key = jax.random.fold_in(jax.random.fold_in(dropout_key, state.step), lax.axis_index(AXIS))

        # -- Gradients of the batch, or of its microbatches one after another
        def of_part(carry, part):
            batch_stats, gradients, dropout_key = carry
            dropout_key, this_dropout_key = jax.random.split(dropout_key)
            images = preprocessing.train(part["image"], part["index"], augment_key, state.dataset_stats)
            targets = {"label": part["label"]}
            if preprocessing.mixes:
                images, targets["mix_lambda"] = preprocessing.mix(images, part["index"], augment_key)
            if "box" in part:
                targets["box"] = preprocessing.train_boxes(part["box"], part["index"], augment_key)
            new, (batch_stats, metrics) = gradients_of(state.params, batch_stats, images, targets, this_dropout_key)
            gradients = new if gradients is None else jax.tree.map(jnp.add, gradients, new)
            return (batch_stats, gradients, dropout_key), metrics

        if accumulate == 1:
            (batch_stats, gradients, _), metrics = of_part((state.batch_stats, None, dropout_key), batch)
        else:
            parts = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:]), batch)
            zeros = jax.tree.map(jnp.zeros_like, state.params)
            (batch_stats, gradients, _), metrics = lax.scan(of_part, (state.batch_stats, zeros, dropout_key), parts)
            gradients = jax.tree.map(lambda x: x / accumulate, gradients)
            metrics = jax.tree.map(lambda x: x.mean(axis=0), metrics)

        # -- Mean over devices, also of the batch statistics, so that the state stays replicated
        gradients, batch_stats, metrics = mean_over_devices((gradients, batch_stats, metrics))

        # -- Update
        learning_rate = schedule(state.step)
        if state.plateau:
            learning_rate *= state.plateau["scale"]
        opt_state = with_learning_rate(state.opt_state, learning_rate)
        updates, opt_state = optimizer.update(gradients, opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema_decay:
            decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
            latest = {"params": params, "batch_stats": batch_stats}
            ema = optax.incremental_update(latest, ema, 1.0 - decay)
        metrics |= {"grad_norm": optax.tree.norm(gradients), "learning_rate": learning_rate}
        if details:
            metrics["details"] = {
                "outputs": metrics.pop("outputs"),
                "params": _by_path(state.params, _nonfinite_count),
                "gradients": _by_path(gradients, optax.tree.norm),
                "new_params": _by_path(params, _nonfinite_count),
                "new_batch_stats": _by_path(batch_stats, _nonfinite_count),
            }

        # -- A step that is not finite changes nothing. All devices decide alike, because all these values are averaged.
        # Not by optax.apply_if_finite: it applies the update after all if there are too many in a row, and it does not
        # know of the loss, the EMA and the batch statistics.
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"]) & _all_finite(params, batch_stats)
        skips = jnp.where(finite, 0, state.skips + 1)
        failed = (state.skips < 0) | (skips > max_skips)
        skipped = failed | ~finite
        metrics |= {"skipped": skipped, "failed": failed}
        new = {"params": params, "batch_stats": batch_stats, "opt_state": opt_state, "ema": ema}
        old = {name: getattr(state, name) for name in new}
        new = jax.tree.map(lambda old, new: jnp.where(skipped, old, new), old, new)
        return state.replace(step=state.step + ~failed, skips=jnp.where(failed, -1, skips), **new), metrics

    return step


def _all_finite(*trees) -> jax.Array:
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(trees)]))


def _nonfinite_count(array: jax.Array) -> jax.Array:
    # Not a fraction: XLA multiplies by 1 / size, so that of a finite array may be 1 - 6e-8.
    return (~jnp.isfinite(array)).sum(dtype=jnp.float32)


def _by_path(tree, measure: Callable[[jax.Array], jax.Array]) -> dict[str, jax.Array]:
    return {path_of(path): measure(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
