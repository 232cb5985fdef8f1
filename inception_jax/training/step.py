"""The training step of one device."""

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from inception_jax.data.augment import Preprocessing
from inception_jax.evaluation.metrics import label_rank
from inception_jax.training.losses import Loss
from inception_jax.training.optimizers import select
from inception_jax.training.parallelism import AXIS
from inception_jax.training.state import TrainState


def make_train_step(
    model: nn.Module,
    optimizer: Callable[[jax.Array], optax.GradientTransformation],
    schedule: optax.Schedule,
    preprocessing: Preprocessing,
    loss: Loss,
    *,
    aux_weights: Mapping[str, float],
    accumulate: int = 1,
    average_decay: float = 0.0,
    freeze: Sequence[str] = (),
) -> Callable:
    """Returns `step(state, batch) -> ((state, metrics), ())`, to be mapped over the devices.

    The batch of one device is {'image': uint8 [N, H, W, 3], 'label': int32 [N], 'index': uint32 [N], 'seed': uint32
    [N]}; the seed, of augmentation and dropout, is the same for all, and comes with the batch so that one compiled
    program serves every seed. The metrics are scalars over all devices: the means 'loss' (with the auxiliary losses,
    without weight decay), 'top1', 'top5' and for each auxiliary head NAME 'NAME_loss'; 'grad_norm', before clipping;
    'learning_rate'.

    Randomness is a function of the seed, the step and the example: the augmentation of an example does not depend on
    how many devices there are; dropout masks do, they are drawn per device.

    Args:
      model: network.
      optimizer: makes the gradient transformation for a learning rate; it is given the gradients averaged over
        devices.
      schedule: learning rate by step; times the state's plateau scale, where there is one.
      preprocessing: turns bytes into the network's input.
      loss: of all heads, see `losses.make_loss`.
      aux_weights: weight of each auxiliary head's loss by the head's name; heads with weight 0 are trained by nobody.
      accumulate: the device's batch is taken in so many parts one after another, and their gradients are averaged.
        Batch normalisation then takes its statistics from each part, and updates the running ones with each.
      average_decay: of the moving averages of parameters and batch statistics, 0: none. In its first steps the decay is
        (1 + step) / (10 + step), as in TensorFlow's ExponentialMovingAverage.
      freeze: patterns of the parameters of which no gradients are taken.
    """

    def loss_and_metrics(params, batch_stats, images, labels, share, dropout_key):
        if freeze:
            frozen = select(params, freeze)
            params = jax.tree.map(lambda p, still: lax.stop_gradient(p) if still else p, params, frozen)
        (logits, end_points), updated = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        targets = jax.nn.one_hot(labels, logits.shape[-1])
        if share is not None:
            partners = targets[jnp.arange(len(labels)) ^ 1]  # as in `Preprocessing.mix`
            targets = share[:, None] * targets + (1 - share)[:, None] * partners
        total = loss(logits, targets).mean()
        metrics = {}
        for head, weight in aux_weights.items():
            metrics[f"{head}_loss"] = loss(end_points[head], targets).mean()
            total += weight * metrics[f"{head}_loss"]
        rank = label_rank(logits, labels)
        metrics |= {"loss": total, "top1": jnp.mean(rank < 1), "top5": jnp.mean(rank < 5)}
        return total, (updated.get("batch_stats", {}), metrics)

    def part_of_batch(carry, part):
        params, batch_stats, statistics, gradients, dropout_key, augment_key = carry
        dropout_key, this_dropout_key = jax.random.split(dropout_key)
        images = preprocessing.train(part["image"], part["index"], augment_key, statistics)
        share = None
        if preprocessing.mixes:
            images, share = preprocessing.mix(images, part["index"], augment_key)
        grad = jax.grad(loss_and_metrics, has_aux=True)
        new, (batch_stats, metrics) = grad(params, batch_stats, images, part["label"], share, this_dropout_key)
        gradients = jax.tree.map(jnp.add, gradients, new) if gradients is not None else new
        return (params, batch_stats, statistics, gradients, dropout_key, augment_key), metrics

    def step(state: TrainState, batch):
        augment_key, dropout_key = jax.random.split(jax.random.key(batch["seed"][0]))
        dropout_key = jax.random.fold_in(jax.random.fold_in(dropout_key, state.step), lax.axis_index(AXIS))
        start = (state.params, state.batch_stats, state.statistics)
        if accumulate == 1:
            carry = (*start, None, dropout_key, augment_key)
            (_, batch_stats, _, gradients, *_), metrics = part_of_batch(carry, batch)
        else:
            parts = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:]), batch)
            zeros = jax.tree.map(jnp.zeros_like, state.params)
            carry = (*start, zeros, dropout_key, augment_key)
            (_, batch_stats, _, gradients, *_), metrics = lax.scan(part_of_batch, carry, parts)
            gradients = jax.tree.map(lambda x: x / accumulate, gradients)
            metrics = jax.tree.map(lambda x: x.mean(axis=0), metrics)
        # Each device has statistics of its own batch; their mean keeps the state replicated.
        gradients, batch_stats, metrics = lax.pmean((gradients, batch_stats, metrics), AXIS)
        learning_rate = schedule(state.step)
        if state.plateau:
            learning_rate *= state.plateau["scale"]
        updates, opt_state = optimizer(learning_rate).update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average_decay:
            decay = jnp.minimum(average_decay, (1.0 + state.step) / (10.0 + state.step))
            latest = {"params": params, "batch_stats": batch_stats}
            average = optax.incremental_update(latest, average, 1.0 - decay)
        metrics |= {"grad_norm": optax.tree.norm(gradients), "learning_rate": learning_rate}
        state = state.replace(
            step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state, average=average
        )
        return (state, metrics), ()

    return step
