"""Draws procedural textures, the images of `textures`, with NumPy alone."""

import itertools
import math
from typing import NamedTuple

import numpy as np

from inception_jax.data import glyph_images
from inception_jax.data.glyph_images import SPLITS

_SEED = 1  # to change the images, change this number and the VERSION of the builder


class Difficulty(NamedTuple):
    """Ranges of uniform draws. Lengths are fractions of the image's side, colours are 0 to 255 (our choice)."""

    wavelength: tuple[float, float]  # of the texture: from one stripe or dot to the next
    rotation: float  # maximum, either way, in degrees
    contrast: tuple[float, float]  # difference in luminance between the two colours
    warp: float  # maximum displacement by the slow deformation, in each direction
    gradient: float  # maximum difference between the lighting's middle and edge, in each channel and direction
    blur: float  # maximum standard deviation
    noise: float  # maximum standard deviation, for each pixel and channel
    dark: bool = False  # whether the ink is always darker than the paper


DIFFICULTIES = {
    0: Difficulty((0.22, 0.28), 15, (80, 200), 0.02, 20, 0.02, 10, dark=True),
    1: Difficulty((0.2, 0.3), 45, (80, 200), 0.02, 20, 0.02, 10),
    2: Difficulty((0.18, 0.32), 90, (60, 160), 0.03, 30, 0.025, 20),
    3: Difficulty((0.16, 0.35), 180, (40, 130), 0.045, 45, 0.03, 28),
}


def label(split: str, index: int) -> int:
    """Returns an image's class, an index into `CLASSES`; each block of ten images has each class once."""
    return glyph_images.label(split, index, len(CLASSES))


def draw(split: str, index: int, size: int, difficulty: int) -> np.ndarray:
    """Draws an image, uint8 [size, size, 3], RGB. It depends only on the arguments and the version of NumPy.

    Args:
      split: one of `SPLITS`.
      index: number of the image, from 0; its class is `label(split, index)`.
      size: height and width in pixels. The texture is the same in any size; the noise is not.
      difficulty: a key of `DIFFICULTIES`.
    """
    rng, ranges = np.random.default_rng((_SEED, SPLITS.index(split), index)), DIFFICULTIES[difficulty]
    least, most = ranges.contrast
    while True:
        paper, ink = rng.uniform(0, 255, (2, 3))
        difference = np.dot((0.299, 0.587, 0.114), paper - ink)  # luma of ITU-R BT.601
        if least <= (difference if ranges.dark else abs(difference)) <= most:
            break

    middles = (np.arange(size) + 0.5) / size - 0.5
    x, y = np.meshgrid(middles, middles)
    wavelength = rng.uniform(*ranges.wavelength)
    angle = math.radians(rng.uniform(-ranges.rotation, ranges.rotation))
    warped_x, warped_y = (axis + rng.uniform(0, ranges.warp) * _slow_wave(x, y, rng) for axis in (x, y))
    # The position is any of many periods, so that all parts of a period are equally likely.
    u = (math.cos(angle) * warped_x + math.sin(angle) * warped_y) / wavelength + rng.uniform(0, 100)
    v = (math.cos(angle) * warped_y - math.sin(angle) * warped_x) / wavelength + rng.uniform(0, 100)
    pixel = 1 / (size * wavelength)
    texture = _TEXTURES[CLASSES[label(split, index)]]
    amount = _blurred(texture(u, v, pixel, rng), rng.uniform(0, ranges.blur) * size)

    right, down = rng.uniform(-2 * ranges.gradient, 2 * ranges.gradient, (2, 3))
    pixels = paper + amount[..., None] * (ink - paper) + x[..., None] * right + y[..., None] * down
    pixels += rng.uniform(0, ranges.noise) * rng.standard_normal(pixels.shape, np.float32)
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def _slow_wave(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A plane wave of half a period to one and a half over the image, with any direction and phase."""
    direction, phase = rng.uniform(0, 2 * math.pi, 2)
    periods = rng.uniform(0.5, 1.5)
    return np.sin(2 * math.pi * periods * (math.cos(direction) * x + math.sin(direction) * y) + phase)


def _blurred(amount: np.ndarray, deviation: float) -> np.ndarray:
    """Blurs by a Gaussian with that standard deviation in pixels; outside of the image there is nothing to weigh."""
    positions = np.arange(len(amount))
    weights = np.exp(-0.5 * ((positions - positions[:, None]) / max(deviation, 1e-3)) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    # Not `@`: for matrices as small as these, OpenBLAS starts threads that wait for each other.
    return np.einsum("ij,kj->ik", np.einsum("ij,jk->ik", weights, amount), weights)


# Each texture is a function of u and v, float64 [size, size], coordinates in wavelengths; of a pixel's side in
# wavelengths; and of a generator. It returns the amount of ink, 0 to 1. Most measure the distance from the edge of the
# ink, positive inside, from which `_smooth` makes an edge that is a pixel wide.


def _smooth(distance: np.ndarray, pixel: float) -> np.ndarray:
    return (0.5 + distance / pixel).clip(0, 1)


def _off_centre(u: np.ndarray) -> np.ndarray:
    """Distance from the nearest half: 0 at 0.5, 1.5, ..., and 0.5 at whole numbers."""
    return np.abs(u - np.floor(u) - 0.5)


def _stripes(u, v, pixel, rng):
    del v
    return _smooth(rng.uniform(0.18, 0.32) - _off_centre(u), pixel)


def _zigzag(u, v, pixel, rng):
    slope = rng.uniform(0.8, 1.2)
    folded = u + slope * 1.5 * _off_centre(v / 1.5)
    return _smooth((rng.uniform(0.18, 0.32) * math.hypot(1, slope) - _off_centre(folded)) / math.hypot(1, slope), pixel)


def _checks(u, v, pixel, rng):
    del rng
    across, along = 0.25 - _off_centre(u / 1.2), 0.25 - _off_centre(v / 1.2)
    return _smooth(1.2 * np.sign(across * along) * np.minimum(np.abs(across), np.abs(along)), pixel)


def _plaid(u, v, pixel, rng):
    width = rng.uniform(0.18, 0.28)
    return (_smooth(width - _off_centre(u), pixel) + _smooth(width - _off_centre(v), pixel)) / 2


def _bricks(u, v, pixel, rng):
    rows = v / 0.7
    end = 1.4 * (0.5 - _off_centre(u / 1.4 + np.floor(rows) / 2))
    side = 0.7 * (0.5 - _off_centre(rows))
    return _smooth(np.minimum(end, side) - rng.uniform(0.06, 0.12), pixel)


def _hexagonal(u, v):
    """Distance from the nearest point of a hexagonal lattice, whose points are 1 apart."""
    height = math.sqrt(3)
    whole = np.hypot(u - np.rint(u), v - height * np.rint(v / height))
    half = np.hypot(_off_centre(u), height * _off_centre(v / height))
    return np.minimum(whole, half)


def _dots(u, v, pixel, rng):
    return _smooth(rng.uniform(0.24, 0.34) - _hexagonal(u, v), pixel)


def _rings(u, v, pixel, rng):
    distance = 1.4 * _hexagonal(u / 1.4, v / 1.4)
    return _smooth(rng.uniform(0.12, 0.18) - np.abs(distance - 0.45), pixel)


def _two_nearest(u, v, rng):
    """Distances from the two nearest of scattered points, one at a random place in each square of side 1."""
    places = rng.uniform(0, 1, (16, 16, 2))
    column, row = np.floor(u).astype(int), np.floor(v).astype(int)
    nearest = second = np.full(u.shape, np.inf)
    for down, right in itertools.product(range(-2, 3), repeat=2):  # squares further away are at least 2 away
        place = places[(row + down) % 16, (column + right) % 16]
        distance = np.hypot(column + right + place[..., 0] - u, row + down + place[..., 1] - v)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    return nearest, second


def _cells(u, v, pixel, rng):
    nearest, second = _two_nearest(u / 1.2, v / 1.2, rng)
    return _smooth(0.6 * (second - nearest) - rng.uniform(0.06, 0.1), pixel)


def _spots(u, v, pixel, rng):
    nearest, _ = _two_nearest(u, v, rng)
    return _smooth(rng.uniform(0.24, 0.34) - nearest, pixel)


def _blotches(u, v, pixel, rng):
    directions, phases = rng.uniform(0, 2 * math.pi, (2, 16))
    frequencies = rng.uniform(0.4, 1, 16)
    across, along = frequencies * np.cos(directions), frequencies * np.sin(directions)
    waves = np.sin(2 * math.pi * (u[..., None] * across + v[..., None] * along) + phases)
    return _smooth(waves.sum(axis=-1) / 16, pixel)


_TEXTURES = {
    "stripes": _stripes,
    "zigzag": _zigzag,
    "checks": _checks,
    "plaid": _plaid,
    "bricks": _bricks,
    "dots": _dots,
    "rings": _rings,
    "cells": _cells,
    "spots": _spots,
    "blotches": _blotches,
}

CLASSES = tuple(_TEXTURES)
