"""Optimizers."""

import jax
import optax

from inception_jax.errors import UserError


def make_optimizer(
    schedule: optax.Schedule,
    *,
    name: str,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """Returns the gradient transformation.

    In Caffe's order: the gradients are clipped, then weight decay is added, then momentum is taken.

    Args:
      schedule: learning rate by step.
      name: 'sgd'.
      momentum: v <- momentum * v + gradient; w <- w - learning_rate * v. (Caffe takes the learning rate into v, which
        differs where the rate changes.)
      nesterov: Nesterov's momentum.
      weight_decay: lambda of lambda / 2 * |w|^2 over kernels; biases and batch normalisation are not decayed.
      clip_norm: the largest norm of all gradients together; 0: no clipping.
    """
    if name != "sgd":
        raise UserError(f"config.optimizer.name={name!r} is not one of sgd")
    parts = []
    if clip_norm:
        parts.append(optax.clip_by_global_norm(clip_norm))
    if weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay, mask=kernels))
    parts.append(optax.sgd(schedule, momentum=momentum or None, nesterov=nesterov))
    return optax.chain(*parts)


def kernels(params):
    """True for the kernels of convolutions and dense layers, False for every other parameter."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
