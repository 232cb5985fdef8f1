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
        'tensorflow v1', 'tensorflow v2', 'caffe', 'caffe v1', 'graphdef', 'onnx' or 'npz'.
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


def limit(size: int) -> int:
    """Number of bytes that the content of a file of `size` bytes may have: weights hardly shrink by compression."""
    return 2**26 + 10 * size


class Room:
    """Counts the bytes that the arrays of one file may still have.

    A small file can describe large arrays: compressed ones, constant ones, or the same one under many names.
    """

    def __init__(self, *files: Path):
        self.left = limit(sum(file.stat().st_size for file in files))

    def take(self, shape: Iterable[int], dtype: np.dtype) -> tuple[int, ...]:
        """Returns the shape of one more array.

        Raises:
          Malformed: a dimension is no natural number, or there is not so much room.
        """
        shape = check_size(shape, dtype, self.left)
        self.left -= math.prod(shape) * dtype.itemsize
        return shape


def put(arrays: dict[str, np.ndarray], name: str, value: np.ndarray) -> None:
    """Adds an array.

    Raises:
      Malformed: there is one of this name.
    """
    if name in arrays:
        raise Malformed(f"it has two arrays named {name}")
    arrays[name] = value


def is_numeric(dtype: np.dtype) -> bool:
    """Whether arrays are of numbers; bfloat16 is known to NumPy and HDF5 only as two bytes, V2."""
    return dtype.kind in "fiub" or dtype == np.dtype("V2")


def native(value: np.ndarray) -> np.ndarray:
    """Returns an array of numbers in this machine's byte order, and two bytes as bfloat16."""
    if value.dtype == np.dtype("V2"):
        return value.view(DTYPES["bfloat16"])
    return value.astype(value.dtype.newbyteorder("="), copy=False)


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
    shape = check_size(shape, dtype, 2**63)
    if math.prod(shape) * dtype.itemsize != len(data):
        raise Malformed(f"an array {'x'.join(map(str, shape)) or 'of one number'} of {dtype} has {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)
