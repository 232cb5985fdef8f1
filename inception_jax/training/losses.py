"""Loss functions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from inception_jax.errors import UserError

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def make_loss(name: str, label_smoothing: float) -> Loss:
    """Returns the loss, a function from logits and targets, both [N, K], to float32 [N].

    The targets of each example sum to 1. (That of boxes is `box_metrics.box_losses`.)

    Args:
      name: 'softmax', see `cross_entropy`, or 'map', see `map_criterion`.
      label_smoothing: label smoothing of 'softmax'.

    Raises:
      UserError: 'map' with label smoothing.
    """
    if name == "softmax":
        return lambda logits, targets: cross_entropy(logits, targets, label_smoothing)
    if label_smoothing:
        raise UserError(f"label_smoothing={label_smoothing} needs loss='softmax'; set it to 0")
    return map_criterion


def cross_entropy(logits: jax.Array, targets: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Softmax cross-entropy of each example, float32 [N], for `logits` and `targets` [N, K].

    With smoothing the targets become (1 - e) * targets + e / K (Szegedy et al. 2015, https://arxiv.org/abs/1512.00567,
    section 7).
    """
    targets = optax.smooth_labels(targets, label_smoothing)
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)


# e^-J is the weight of an imaginary class that matches no input. The paper gives no value, so it is chosen here. A
# wrong class is pushed away up to a squared distance of 10; two targets are 4 apart for each unit in which they differ.
J = 10.0


def map_criterion(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """LeNet-5's maximum a posteriori criterion of each example, float32 [N], for `logits` and `targets` [N, K].

    With distances y = -logits it is y of the right class + log(e^-J + sum over all classes of e^-y): LeCun et al. 1998,
    equation 9 (its number and form from memory, unverified). It reduces the distance of the right class, like a squared
    error, and increases the distances of the wrong classes until they reach `J`.
    """
    distances = -logits.astype(jnp.float32)
    everything = jnp.pad(-distances, ((0, 0), (0, 1)), constant_values=-J)
    return jnp.sum(targets * distances, axis=1) + jax.nn.logsumexp(everything, axis=1)
