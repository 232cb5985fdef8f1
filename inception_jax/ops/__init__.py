"""Operations with exact semantics: convolution, padding, pooling, normalisation. `cpu` and `gpu` have fast paths."""

from inception_jax.ops.activation import relu
from inception_jax.ops.convolution import convolve, convolve_1x1s, convolve_in_training
from inception_jax.ops.normalization import local_response_norm
from inception_jax.ops.padding import explicit_padding
from inception_jax.ops.pooling import adaptive_avg_pool, avg_pool, max_pool, max_pool_in_training

__all__ = [
    "adaptive_avg_pool",
    "avg_pool",
    "convolve",
    "convolve_1x1s",
    "convolve_in_training",
    "explicit_padding",
    "local_response_norm",
    "max_pool",
    "max_pool_in_training",
    "relu",
]
