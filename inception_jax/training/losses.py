"""Losses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from inception_jax.errors import UserError

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def make_loss(name: str, label_smoothing: float = 0.0) -> Loss:
    """Returns the loss of each example, float32 [N], of logits and targets, both [N, K]; the targets add up to 1.

    Args:
      name: 'softmax', see `cross_entropy`, or 'map', see `map_criterion`.
      label_smoothing: of 'softmax'.

    Raises:
      UserError: 'map' with label smoothing.
    """
    if name == "softmax":
        return lambda logits, targets: cross_entropy(logits, targets, label_smoothing)
    if label_smoothing:
        raise UserError("config.train.label_smoothing is for config.train.loss='softmax'; set it to 0")
    return map_criterion


def cross_entropy(logits: jax.Array, targets: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Softmax cross-entropy of each example, float32 [N], for `logits` and `targets` [N, K].

    With smoothing the targets become (1 - e) * targets + e / K (Szegedy et al. 2015, https://arxiv.org/abs/1512.00567,
    section 7).
    """
    targets = optax.smooth_labels(targets, label_smoothing)
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)


# e^-J is the weight of an imagined class that fits nothing. The paper gives no value; this one is ours: beyond a
# squared distance of 10 a wrong class is pushed no further. Two targets are 4 apart for each unit that differs.
J = 10.0


def map_criterion(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """LeNet-5's maximum a posteriori criterion of each example, float32 [N], for `logits` and `targets` [N, K].

    With distances y = -logits: y of the right class + log(e^-J + sum over all classes of e^-y), LeCun et al. 1998,
    equation 9 (the number and the form from memory, unverified). It pulls the right class's distance down as a squared
    error does, and pushes the wrong ones' up until they reach `J`.
    """
    distances = -logits.astype(jnp.float32)
    everything = jnp.pad(-distances, ((0, 0), (0, 1)), constant_values=-J)
    return jnp.sum(targets * distances, axis=1) + jax.nn.logsumexp(everything, axis=1)
