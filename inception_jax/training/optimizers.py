"""Builds optimizers, with options for single parameters."""

import re
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import optax

from inception_jax.errors import check_choice
from inception_jax.weights.files import path_of

Optimizer = Literal["sgd", "rmsprop", "adamw", "lars", "lamb"]
OPTIMIZERS = get_args(Optimizer)
WEIGHT_DECAY_STYLES = ("caffe", "tf", "decoupled")


def make_optimizer(
    *,
    name: Optimizer,
    momentum: float,
    nesterov: bool,
    caffe_momentum: bool,
    rms_decay: float,
    rms_epsilon: float,
    weight_decay: float,
    weight_decay_style: str,
    weight_decay_on: Sequence[str],
    lr_multipliers: Sequence[tuple[str, float]],
    freeze: Sequence[str],
    clip_norm: float,
    max_norm: float,
    max_rms: float,
) -> optax.GradientTransformation:
    """Returns the optimizer; its learning rate is part of its state (`optax.inject_hyperparams`).

    Patterns are regular expressions, searched in the path of a parameter ('inception_4a/conv1x1/kernel').

    Args:
      name: 'sgd'; 'rmsprop', TensorFlow's variant; 'adamw', 'lars' or 'lamb', as in optax. In TensorFlow's variant
        (tensorflow/python/training/rmsprop.py) the mean of squares starts at 1, epsilon is inside the root, and
        momentum accumulates updates.
      momentum: momentum of sgd, rmsprop and lars: v <- momentum * v + gradient; w <- w - learning_rate * v.
      nesterov: Nesterov momentum.
      caffe_momentum: for sgd: v <- momentum * v + learning_rate * gradient; w <- w - v, as in AlexNet (section 5) and
        Caffe (src/caffe/solvers/sgd_solver.cpp). It differs when the learning rate changes.
      rms_decay: decay of the mean of squares of rmsprop.
      rms_epsilon: epsilon of rmsprop.
      weight_decay: lambda.
      weight_decay_style: 'caffe': lambda * w is added to the clipped gradients; 'tf': lambda / 2 * |w|^2 is a term of
        the loss, so lambda * w is clipped too; 'decoupled': learning_rate * lambda * w is subtracted in addition to the
        update. Without clipping the first two are the same. adamw and lamb always use their own, decoupled decay.
      weight_decay_on: patterns of the parameters that decay.
      lr_multipliers: pairs of a pattern and a factor on the learning rate; the first pattern that matches is used.
      freeze: patterns of the parameters that are not trained.
      clip_norm: largest global norm of the gradients; 0: no clipping.
      max_norm: largest norm of the weights that enter one filter or unit (Hinton et al. 2012,
        https://arxiv.org/abs/1207.0580). Larger ones are scaled down after the step. 0: no limit.
      max_rms: largest root mean square of a convolution's filter, likewise (ZFNet, section 3.1: 0.1). 0: no limit.

    Raises:
      UserError: there is no such optimizer or style.
    """
    check_choice("name", name, OPTIMIZERS)
    check_choice("weight_decay_style", weight_decay_style, WEIGHT_DECAY_STYLES)

    def decaying(params):
        return select(params, weight_decay_on)

    def decay(rate):
        return optax.add_decayed_weights(rate, mask=decaying)

    def update_rule(learning_rate) -> list[optax.GradientTransformation]:
        match name:
            case "sgd" if caffe_momentum:
                return [optax.scale_by_learning_rate(learning_rate), optax.trace(momentum, nesterov)]
            case "sgd":
                return [optax.sgd(learning_rate, momentum or None, nesterov)]
            case "rmsprop":
                options = {"initial_scale": 1.0, "eps_in_sqrt": True, "momentum": momentum, "nesterov": nesterov}
                return [optax.rmsprop(learning_rate, rms_decay, rms_epsilon, **options)]
            case "adamw":
                return [optax.adamw(learning_rate, weight_decay=weight_decay, mask=decaying)]
            case "lars":
                return [optax.lars(learning_rate, trust_ratio_mask=decaying, momentum=momentum, nesterov=nesterov)]
            case "lamb":
                return [optax.lamb(learning_rate, weight_decay=weight_decay, mask=decaying)]

    # Where the weight decay is in the chain below; '' if adamw or lamb does it, or there is none.
    style = weight_decay_style if weight_decay and name in ("sgd", "rmsprop", "lars") else ""

    @optax.inject_hyperparams
    def optimizer(learning_rate):
        parts = [
            decay(weight_decay) if style == "tf" else None,
            optax.clip_by_global_norm(clip_norm) if clip_norm else None,
            decay(weight_decay) if style == "caffe" else None,
            *update_rule(learning_rate),
            decay(-learning_rate * weight_decay) if style == "decoupled" else None,
            _multiply(lambda path: lr_factor(path, freeze, lr_multipliers)) if freeze or lr_multipliers else None,
            _project(lambda w: max_norm if w.ndim > 1 else None) if max_norm else None,
            _project(lambda w: max_rms * (w[..., 0].size ** 0.5) if w.ndim == 4 else None) if max_rms else None,
        ]
        return optax.chain(*filter(None, parts))

    return optimizer(learning_rate=0.0)


def with_learning_rate(opt_state: optax.OptState, learning_rate: jax.Array) -> optax.OptState:
    """Returns the state of an optimizer from `make_optimizer` with a new learning rate."""
    return opt_state._replace(hyperparams=opt_state.hyperparams | {"learning_rate": learning_rate})


def select(params, patterns: Sequence[str]):
    """Returns a tree like `params`, True for each parameter whose path matches one of the patterns."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(re.search(pattern, path_of(path)) for pattern in patterns), params
    )


def lr_factor(path: str, freeze: Sequence[str], lr_multipliers: Sequence[tuple[str, float]]) -> float:
    """Returns the factor on the learning rate of the parameter at `path`, see `make_optimizer`; 0: not trained."""
    factors = [*((pattern, 0.0) for pattern in freeze), *lr_multipliers]
    return next((factor for pattern, factor in factors if re.search(pattern, path)), 1.0)


def _multiply(factor_of: Callable[[str], float]) -> optax.GradientTransformation:
    def update(updates, params):  # noqa: ARG001 (optax's signature)
        def scaled(path, update):
            factor = factor_of(path_of(path))
            return update if factor == 1 else factor * update

        return jax.tree_util.tree_map_with_path(scaled, updates)

    return optax.stateless(update)


def _project(limit: Callable[[jax.Array], float | None]) -> optax.GradientTransformation:
    """Reduces the update so that the norm of no filter (the weights of one output) exceeds `limit`."""

    def shortened(update, param):
        longest = limit(param)
        if longest is None:
            return update
        new = param + update
        norm = jnp.sqrt(jnp.sum(jnp.square(new), axis=tuple(range(new.ndim - 1)), keepdims=True))
        return jnp.where(norm > longest, new * (longest / norm) - param, update)

    return optax.stateless(lambda updates, params: jax.tree.map(shortened, updates, params))
