"""Optimizers, and what a recipe may say of single parameters."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from inception_jax.errors import choose

OPTIMIZERS = ("sgd", "rmsprop", "adamw", "lars", "lamb")
WEIGHT_DECAY_READINGS = ("caffe", "tf", "decoupled")


def make_optimizer(
    learning_rate: jax.typing.ArrayLike,
    *,
    name: str,
    momentum: float = 0.9,
    nesterov: bool = False,
    lr_in_momentum: bool = False,
    rms_decay: float = 0.9,
    rms_epsilon: float = 1.0,
    weight_decay: float = 0.0,
    weight_decay_reading: str = "caffe",
    weight_decay_on: Sequence[str] = (r"kernel[^/]*$",),
    lr_multipliers: Sequence[tuple[str, float]] = (),
    freeze: Sequence[str] = (),
    clip_norm: float = 0.0,
    max_norm: float = 0.0,
    max_rms: float = 0.0,
) -> optax.GradientTransformation:
    """Returns the gradient transformation of one step.

    Its state does not depend on the learning rate, so a step makes it anew with the rate of its own.

    Patterns are regular expressions that are searched in a parameter's path ('inception_4a/conv1x1/kernel').

    Args:
      learning_rate: of this step.
      name: 'sgd'; 'rmsprop', TensorFlow's (tensorflow/python/training/rmsprop.py): the mean of squares starts at 1, its
        epsilon is inside the root, the momentum is of updates; 'adamw', 'lars', 'lamb' as in optax.
      momentum: of sgd, rmsprop and lars: v <- momentum * v + gradient; w <- w - learning_rate * v.
      nesterov: Nesterov's momentum.
      lr_in_momentum: of sgd: v <- momentum * v + learning_rate * gradient; w <- w - v. So has AlexNet (section 5) and
        Caffe (src/caffe/solvers/sgd_solver.cpp); it differs where the rate changes.
      rms_decay: of the mean of squares, of rmsprop.
      rms_epsilon: of rmsprop.
      weight_decay: lambda.
      weight_decay_reading: 'caffe': lambda * w is added to the gradients after they are clipped; 'tf': it is the
        gradient of a term lambda / 2 * |w|^2 of the loss, and clipped with the rest; 'decoupled': learning_rate *
        lambda * w is subtracted besides. Without clipping the first two are the same. adamw and lamb have their own,
        decoupled one.
      weight_decay_on: patterns of the parameters that decay.
      lr_multipliers: pairs of a pattern and a factor on the learning rate; the first that fits counts.
      freeze: patterns of the parameters that stay as they are.
      clip_norm: the largest norm of all gradients together; 0: no clipping.
      max_norm: the largest norm of the weights that enter one filter or unit (Hinton et al. 2012,
        https://arxiv.org/abs/1207.0580); longer ones are scaled down after the step. 0: any.
      max_rms: the largest root mean square of a convolution's filter, likewise (ZFNet, section 3.1: 0.1). 0: any.

    Raises:
      UserError: there is no such optimizer or reading.
    """
    choose("config.optimizer.name", name, dict.fromkeys(OPTIMIZERS))
    choose("config.optimizer.weight_decay_reading", weight_decay_reading, dict.fromkeys(WEIGHT_DECAY_READINGS))

    def decaying(params):
        return select(params, weight_decay_on)

    def decay(rate):
        return optax.add_decayed_weights(rate, mask=decaying)

    coupled = weight_decay and name in ("sgd", "rmsprop", "lars") and weight_decay_reading != "decoupled"
    parts = []
    if coupled and weight_decay_reading == "tf":
        parts.append(decay(weight_decay))
    if clip_norm:
        parts.append(optax.clip_by_global_norm(clip_norm))
    if coupled and weight_decay_reading == "caffe":
        parts.append(decay(weight_decay))
    match name:
        case "sgd" if lr_in_momentum:
            parts += [optax.scale_by_learning_rate(learning_rate), optax.trace(momentum, nesterov)]
        case "sgd":
            parts.append(optax.sgd(learning_rate, momentum or None, nesterov))
        case "rmsprop":
            parts.append(
                optax.rmsprop(
                    learning_rate,
                    rms_decay,
                    rms_epsilon,
                    initial_scale=1.0,
                    eps_in_sqrt=True,
                    momentum=momentum,
                    nesterov=nesterov,
                )
            )
        case "adamw":
            parts.append(optax.adamw(learning_rate, weight_decay=weight_decay, mask=decaying))
        case "lars":
            parts.append(optax.lars(learning_rate, trust_ratio_mask=decaying, momentum=momentum, nesterov=nesterov))
        case "lamb":
            parts.append(optax.lamb(learning_rate, weight_decay=weight_decay, mask=decaying))
    if weight_decay and name in ("sgd", "rmsprop", "lars") and not coupled:
        parts.append(decay(-learning_rate * weight_decay))
    if freeze or lr_multipliers:
        parts.append(_multiply(functools.partial(lr_factor, freeze=freeze, lr_multipliers=lr_multipliers)))
    if max_norm:
        parts.append(_project(lambda w: max_norm if w.ndim > 1 else None))
    if max_rms:
        parts.append(_project(lambda w: max_rms * (w[..., 0].size ** 0.5) if w.ndim == 4 else None))
    return optax.chain(*parts)


def path_of(path: Sequence[Any]) -> str:
    """A parameter's path as patterns see it: 'inception_4a/conv1x1/kernel'."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def select(params, patterns: Sequence[str]):
    """A tree like `params`: True where one of the patterns is found in the parameter's path."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(re.search(pattern, path_of(path)) for pattern in patterns), params
    )


def lr_factor(name: str, *, freeze: Sequence[str], lr_multipliers: Sequence[tuple[str, float]]) -> float:
    """Factor on the learning rate of the parameter `name`, see `make_optimizer`; 0: it stays as it is."""
    factors = [*((pattern, 0.0) for pattern in freeze), *lr_multipliers]
    return next((factor for pattern, factor in factors if re.search(pattern, name)), 1.0)


def _multiply(factor_of: Callable[[str], float]) -> optax.GradientTransformation:
    def update(updates, params):  # noqa: ARG001 (optax's signature)
        def scaled(path, update):
            factor = factor_of(path_of(path))
            return update if factor == 1 else factor * update

        return jax.tree_util.tree_map_with_path(scaled, updates)

    return optax.stateless(update)


def _project(limit: Callable[[jax.Array], float | None]) -> optax.GradientTransformation:
    """Shortens the update so that no filter (the weights that lead to one output) gets longer than `limit`."""

    def shortened(update, param):
        longest = limit(param)
        if longest is None:
            return update
        new = param + update
        norm = jnp.sqrt(jnp.sum(jnp.square(new), axis=tuple(range(new.ndim - 1)), keepdims=True))
        return jnp.where(norm > longest, new * (longest / norm) - param, update)

    return optax.stateless(lambda updates, params: jax.tree.map(shortened, updates, params))
