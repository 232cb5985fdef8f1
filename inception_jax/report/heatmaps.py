"""Pictures of explanations, and of the outputs of layers."""

import math

import cv2
import numpy as np

from inception_jax.explain.attribution import Explanation
from inception_jax.explain.methods import Gradient, Method

_OPACITY = 0.55  # of the heat where it is largest
_WIDTH, _CELL = 640, 24  # width of a picture of channels, and least width of one of them, in pixels


def picture(method: Method, explanation: Explanation) -> np.ndarray:
    """Returns an explanation as a picture, uint8 [H, W, 3].

    - 'deconvnet' and 'guided': their values as a picture, in which grey is 0 (Zeiler and Fergus 2013, Fig. 2).
    - Other values of pixels: heat alone, from black to yellow.
    - Values of a grid or of places: heat over the image in grey.
    """
    if isinstance(method, Gradient) and method.rule != "backprop":
        return reconstruction(explanation.values)
    if explanation.values.ndim == 3:
        return colours(explanation.heat)
    return overlay(explanation.crop, explanation.heat)


def colours(heat: np.ndarray) -> np.ndarray:
    """Returns heat, float32 [H, W], in the colours of 'inferno', uint8 [H, W, 3].

    Values above the 99th percentile are as bright as that (Smilkov et al. 2017, section 3.2).
    """
    return _inferno(heat / (np.percentile(heat, 99) or heat.max() or 1))


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Returns an image, uint8 [H, W, 3], in grey, under its heat, float32 [H, W]; no heat is transparent."""
    scaled = np.clip(heat / (heat.max() or 1), 0, 1)[:, :, None]
    grey = image @ np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601
    opacity = _OPACITY * np.sqrt(scaled)
    mixed = (1 - opacity) * grey[:, :, None] + opacity * _inferno(scaled[:, :, 0])
    return np.rint(mixed).clip(0, 255).astype(np.uint8)


def reconstruction(values: np.ndarray) -> np.ndarray:
    """Returns signed values of pixels, float32 [H, W, 1 or 3], as a picture, uint8 [H, W, 3]; 0 is grey."""
    scale = np.percentile(np.abs(values), 99.5) or np.abs(values).max() or 1
    pixels = np.rint(127.5 + 127.5 * np.clip(values / scale, -1, 1)).astype(np.uint8)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def channel_grid(values: np.ndarray) -> np.ndarray:
    """Returns the outputs of all channels of a layer, float32 [H, W, C], as small pictures in rows, uint8 [h, w, 3].

    All have one scale: dark is the least value, yellow the 99.9th percentile.
    """
    count = values.shape[2]
    columns, cell = _places(count)
    low, high = values.min(), np.percentile(values, 99.9)
    fractions = (values - low) / ((high - low) or 1)
    grid = np.full((math.ceil(count / columns) * cell + 1, columns * cell + 1, 3), 255, np.uint8)
    inside = cell - 1  # beside a white line
    for channel in range(count):
        row, column = divmod(channel, columns)
        method = cv2.INTER_AREA if max(values.shape[:2]) > inside else cv2.INTER_NEAREST
        small = cv2.resize(fractions[:, :, channel], (inside, inside), interpolation=method)
        grid[row * cell + 1 : (row + 1) * cell, column * cell + 1 : (column + 1) * cell] = _inferno(small)
    return grid


def channel_at(x: int, y: int, count: int) -> int | None:
    """Returns the channel at a pixel of the picture of `count` channels; None if there is none."""
    columns, cell = _places(count)
    channel = y // cell * columns + x // cell
    return channel if x < columns * cell and channel < count else None


def _places(count: int) -> tuple[int, int]:
    """Returns the number of columns, and the side of one channel in pixels with its white line."""
    columns = min(_WIDTH // _CELL, math.ceil(math.sqrt(count)))
    return columns, min(_WIDTH // columns, _WIDTH // 4)


def _inferno(fractions: np.ndarray) -> np.ndarray:
    levels = np.rint(255 * np.clip(fractions, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[:, :, ::-1])


def framed(image: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Returns an image, uint8 [H, W, 3], that is dark outside of a rectangle with a white frame."""
    shown = image // 3
    shown[rows, columns] = image[rows, columns]
    if min(shown[rows, columns].shape[:2]) > 4:  # else a frame would hide what is in it
        cv2.rectangle(shown, (columns.start, rows.start), (columns.stop - 1, rows.stop - 1), (255, 255, 255))
    return shown


def weight_picture(weights: np.ndarray, scale: float, side: int) -> np.ndarray:
    """Returns weights, float32 [rows, columns], as a picture, uint8 [side, side, 3]: `scale` red, its negative blue."""
    fractions = np.clip(weights / (scale or 1), -1, 1)[:, :, None]
    end = np.where(fractions > 0, np.array([178, 24, 43]), np.array([33, 102, 172]))  # ColorBrewer's RdBu
    pixels = np.rint(255 + np.abs(fractions) * (end - 255)).astype(np.uint8)
    picture = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_NEAREST)
    return cv2.rectangle(picture, (0, 0), (side - 1, side - 1), (200, 200, 200))
