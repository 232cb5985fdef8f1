"""Losses."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Softmax cross-entropy of each example, float32 [N], for `logits` [N, K] and integer `labels` [N].

    With smoothing the target is (1 - e) * onehot + e / K (Szegedy et al. 2015, https://arxiv.org/abs/1512.00567,
    section 7).
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)
