"""What a file of weights holds, and the limits of what is read."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np


class Malformed(Exception):
    """A file is damaged, or holds what is not read; the message completes 'FILE cannot be read: ...'."""


@dataclasses.dataclass(frozen=True)
class Content:
    """What a file of weights holds.

    Attributes:
      format: 'safetensors', 'torch zip', 'torch legacy', 'torch tar', 'keras h5', 'keras', 'keras weights',
        'tensorflow', 'caffe', 'graphdef', 'onnx' or 'npz'.
      arrays: by the file's own names, in its order.
      metadata: what else the file states, as JSON.
    """

    format: str
    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)


DTYPES = {
    **{name: np.dtype(name) for name in ("float64", "float32", "float16", "bool")},
    **{f"{sign}int{bits}": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


def limit(file: Path) -> int:
    """Number of bytes that a compressed file may become: weights hardly shrink, so more than this is a bomb."""
    return 2**26 + 50 * file.stat().st_size


def check_size(shape: Iterable[int], dtype: np.dtype, most: int) -> tuple[int, ...]:
    """Returns the shape of an array that has no more than `most` bytes.

    Raises:
      Malformed: a dimension is no natural number, or the array is larger.
    """
    shape = tuple(shape)
    if len(shape) > 32 or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise Malformed(f"an array has the shape {shape}")
    if math.prod(shape) * dtype.itemsize > most:
        raise Malformed(f"an array of {'x'.join(map(str, shape))} is larger than the file can hold")
    return shape


def array(data: Any, dtype: np.dtype, shape: Iterable[int]) -> np.ndarray:
    """Returns bytes as an array; the last dimension varies fastest, the byte order is little-endian.

    Raises:
      Malformed: the number of bytes is not that of the shape.
    """
    shape = check_size(shape, dtype, len(data))
    if math.prod(shape) * dtype.itemsize != len(data):
        raise Malformed(f"an array of {'x'.join(map(str, shape))} has {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)
