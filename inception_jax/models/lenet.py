"""LeNet-5.

LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998, section II.B.
"""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from inception_jax import ops
from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.units import AvgPool, Conv, Custom, Dense, Logits, MaxPool, Style

# Table I: the maps of S2 that each map of C3 sees: three in a row, four in a row, four with a gap, all six. It is from
# memory and unverified. The number of kernels, 60, is the paper's.
TABLE_I = (
    *(tuple(sorted((i + j) % 6 for j in range(3))) for i in range(6)),
    *(tuple(sorted((i + j) % 6 for j in range(4))) for i in range(6)),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)

# The targets of the RBF units, 7 wide and 12 high: stylised digits as in Fig. 3. They were drawn for this file, because
# the paper has them only as a picture.
# fmt: off
DIGITS = (
    "..###.. ...##.. .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.",
    ".#####. ..###.. ##...## ##...## ...###. ####### .##..## ####### ##...## ##...##",
    "##...## .####.. ##...## .....## ...###. ##..... ##..... .....## ##...## ##...##",
    "##...## ...##.. .....## .....## ..#.##. ##..... ##..... ....##. ##...## ##...##",
    "##...## ...##.. .....## ...###. ..#.##. ######. ######. ....##. .#####. ##...##",
    "##...## ...##.. ....##. ...###. .#..##. ##...## ##...## ...##.. .#####. .######",
    "##...## ...##.. ...##.. .....## .#..##. .....## ##...## ...##.. ##...## .....##",
    "##...## ...##.. ..##... .....## ####### .....## ##...## ..##... ##...## .....##",
    "##...## ...##.. .##.... .....## ####### .....## ##...## ..##... ##...## .....##",
    "##...## ...##.. ##..... ##...## ....##. ##...## ##...## .##.... ##...## ....##.",
    ".#####. .###### ####### ##...## ....##. ##...## .##.##. .##.... ##...## ##.###.",
    "..###.. .###### ####### .#####. ....##. .#####. ..###.. .##.... .#####. .####..",
)
# fmt: on


def squash(x: jax.Array) -> jax.Array:
    """Returns 1.7159 tanh(2 x / 3), appendix A (2 / 3 is from memory, unverified)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


def _uniform(fan_in: int):
    """Uniform within 2.4 / fan_in, appendix A (from memory, unverified). Biases are 0 at first, our choice."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -2.4 / fan_in, 2.4 / fan_in)


def _by_shape(key, shape, dtype=jnp.float32):
    return _uniform(int(np.prod(shape[:-1])))(key, shape, dtype)


class Subsampling(nn.Module):
    """S2 and S4: the sum of 2x2 cells, times a trained coefficient, plus a trained bias; squashed.

    Each map has one coefficient and one bias.
    """

    dtype: Any

    @nn.compact
    def __call__(self, x, train: bool = False):  # noqa: ARG002, D102
        coefficient = self.param("coefficient", _uniform(4), x.shape[-1:])
        bias = self.param("bias", initializers.zeros, x.shape[-1:])
        total = 4 * ops.avg_pool(x, 2, 2, "VALID", count_include_pad=False)
        return squash(total * coefficient.astype(self.dtype) + bias.astype(self.dtype))


class SparseConv(nn.Module):
    """C3: a 5x5 convolution in which each map sees only its maps of Table I; squashed. 60 kernels, 16 biases."""

    dtype: Any

    @nn.compact
    def __call__(self, x, train: bool = False):  # noqa: ARG002, D102
        kernels = [
            self.param(f"kernel_{i}", _uniform(25 * len(maps)), (5, 5, len(maps))) for i, maps in enumerate(TABLE_I)
        ]
        bias = self.param("bias", initializers.zeros, (len(TABLE_I),))
        full = jnp.zeros((5, 5, 6, len(TABLE_I)))
        for i, (maps, kernel) in enumerate(zip(TABLE_I, kernels, strict=True)):
            full = full.at[:, :, np.array(maps), i].set(kernel)
        x = lax.conv_general_dilated(
            x, full.astype(self.dtype), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return squash(x + bias.astype(self.dtype))


class RadialBasis(nn.Module):
    """Minus the squared Euclidean distance of the 84 inputs to each class's fixed target of -1 and 1, in float32.

    The paper's output is the squared distance. With its sign changed, the nearest class has the highest score. Where
    there are not 10 classes the targets are random, which the paper names as a possibility.
    """

    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x, train: bool = False):  # noqa: ARG002, D102
        targets = rbf_targets(self.num_classes)
        return -jnp.sum(jnp.square(x.astype(jnp.float32)[:, None] - targets), axis=-1)


@functools.cache
def _radial_basis(num_classes: int):
    return functools.partial(RadialBasis, num_classes)


def rbf_targets(num_classes: int) -> np.ndarray:
    """Returns the targets of the RBF units, float32 [num_classes, 84]."""
    if num_classes == 10:
        columns = zip(*(row.split() for row in DIGITS), strict=True)
        return np.array([[1.0 if c == "#" else -1.0 for c in "".join(digit)] for digit in columns], np.float32)
    return np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (num_classes, 84))


def lenet5(num_classes: int = 10, *, dtype: Any = jnp.float32) -> Network:
    """Builds LeNet-5 as published, for grey images of 32x32: 60,000 trained parameters.

    The background of its input is -0.1, the foreground 1.175.

    Args:
      num_classes: number of classes.
      dtype: dtype of the computation.
    """
    return Network(
        layers=(
            ("c1", Conv("conv5x5", 6, 5)),
            ("s2", Custom("subsampling", Subsampling)),
            ("c3", Custom("conv5x5", SparseConv)),
            ("s4", Custom("subsampling", Subsampling)),
            ("c5", Conv("conv5x5", 120, 5)),
            ("f6", Dense("dense", 84)),
            ("output", Custom("rbf", _radial_basis(num_classes))),
        ),
        style=Style(conv_padding="VALID", pool_padding="VALID", kernel_init=_by_shape, activation=squash),
        input_shape=(32, 32, 1),
        min_size=32,
        dtype=dtype,
    )


def lenet5_modern(
    num_classes: int = 10,
    *,
    activation: Literal["relu", "tanh"] = "relu",
    pool: Literal["max", "average"] = "max",
    dtype: Any = jnp.float32,
) -> Network:
    """Builds LeNet-5 as it is taught today, for grey images of 32x32: 61,706 parameters.

    C3 sees all maps, pools have no parameters, and the output is linear.

    Args:
      num_classes: number of classes.
      activation: 'relu' or 'tanh'.
      pool: 'max' or 'average'.
      dtype: dtype of the computation.
    """
    pool_unit = MaxPool(2, 2) if pool == "max" else AvgPool(2, 2)
    return Network(
        layers=(
            ("c1", Conv("conv5x5", 6, 5)),
            ("s2", pool_unit),
            ("c3", Conv("conv5x5", 16, 5)),
            ("s4", pool_unit),
            ("c5", Conv("conv5x5", 120, 5)),
            ("f6", Dense("dense", 84)),
            ("output", Logits("classifier", num_classes)),
        ),
        style=Style(
            conv_padding="VALID",
            pool_padding="VALID",
            kernel_init=initializers.glorot_uniform(),
            activation=ops.relu if activation == "relu" else jnp.tanh,
        ),
        input_shape=(32, 32, 1),
        min_size=32,
        dtype=dtype,
    )
