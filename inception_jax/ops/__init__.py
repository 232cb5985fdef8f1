"""Operations with exact semantics: padding, pooling, local response normalisation."""

from inception_jax.ops.normalization import local_response_norm
from inception_jax.ops.padding import explicit_padding
from inception_jax.ops.pooling import adaptive_avg_pool, avg_pool, max_pool

__all__ = ["adaptive_avg_pool", "avg_pool", "explicit_padding", "local_response_norm", "max_pool"]
