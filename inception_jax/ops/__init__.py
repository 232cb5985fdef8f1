"""Operations with exact semantics: padding, pooling, normalisation, sliding dense layers; fast on each platform."""

from inception_jax.ops.convolution import sliding_dense
from inception_jax.ops.normalization import local_response_norm
from inception_jax.ops.padding import explicit_padding
from inception_jax.ops.pooling import adaptive_avg_pool, avg_pool, max_pool

__all__ = ["adaptive_avg_pool", "avg_pool", "explicit_padding", "local_response_norm", "max_pool", "sliding_dense"]
