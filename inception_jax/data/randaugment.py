"""RandAugment (Cubuk et al. 2019, https://arxiv.org/abs/1909.13719) on the device, for a whole batch.

The operations are the paper's fourteen, drawn uniformly and with replacement. Magnitudes follow the public TensorFlow
code (github.com/tensorflow/tpu, models/official/efficientnet/autoaugment.py), on its scale from 0 to 10. The operations
themselves are Pillow's, which that code reproduces. At magnitude m:

  autocontrast, equalize, identity             have no magnitude
  rotate                                       3 m degrees
  shear_x, shear_y                             0.03 m, about the top left corner
  translate_x, translate_y                     100 m / 10 pixels of 224
  posterize                                    the int(0.4 m) highest bits are kept
  solarize                                     levels of at least int(25.6 m) are inverted
  color, contrast, brightness, sharpness       enhanced by 0.18 m + 0.1

Geometric operations go either way, with probability 1/2 each. They take the nearest pixel; what comes from outside the
image is grey, 128. As in that code, and unlike in many others, a larger m changes less in posterize and solarize, and
the last four operations change nothing at m = 5 rather than at 0. This module differs from that code:

- It draws from the paper's 14 operations. The code has 16: invert, cutout and solarize_add too, but no identity.
- Translations scale with the image: 10 m pixels of 224. The code moves by 10 m pixels whatever the image's size.
- At least 1 bit stays in posterize. The code keeps 0 bits below m = 2.5, which is black
  (github.com/tensorflow/tpu/issues/495).
- Contrast uses the image's mean. The code uses a constant (github.com/tensorflow/models/issues/8328).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)


def randaugment(images: jax.Array, keys: jax.Array, count: int, magnitude: float) -> jax.Array:
    """Applies `count` random operations to each image, one after another.

    Args:
      images: uint8 [N, H, W, 3].
      keys: [N], one for each image.
      count: number of operations per image, N in the paper.
      magnitude: magnitude of all operations, 0 to 10.

    Returns:
      uint8 [N, H, W, 3].
    """
    # An operation and its direction are drawn at once.
    draws = jax.vmap(lambda key: jax.random.randint(key, (count,), 0, 2 * len(OPERATIONS)))(keys)
    reverse, operations = jnp.divmod(draws, len(OPERATIONS))
    for i in range(count):
        images = apply_operations(images, operations[:, i], reverse[:, i] == 1, magnitude)
    return images


def apply_operations(images: jax.Array, operations: jax.Array, reverse: jax.Array, magnitude: float) -> jax.Array:
    """Applies one operation to each image.

    Args:
      images: uint8 [N, H, W, 3].
      operations: int32 [N], indices into `OPERATIONS`.
      reverse: bool [N], whether a geometric operation goes the other way: clockwise, to the right, or downwards.
      magnitude: 0 to 10.

    Returns:
      uint8 [N, H, W, 3].
    """
    # Under vmap every image would pay for all operations. So all geometric operations are one, with coefficients for
    # each image (the identity's for other images). The arithmetic operations are one pass over the pixels. Only
    # equalize, whose histogram is slow, runs in a loop over just the images that need it.
    _, height, width, _ = images.shape
    coefficients = jnp.asarray(_coefficients(height, width, magnitude))[reverse.astype(int), operations]
    images = jax.vmap(_warp)(images, coefficients)
    images = _equalize_some(images, operations == OPERATIONS.index("equalize"))
    return jax.vmap(lambda image, operation: _recolour(image, operation, magnitude))(images, operations)


def _coefficients(height: int, width: int, magnitude: float) -> np.ndarray:
    """Returns where each pixel comes from, for `_warp`: int32 [2, operations, 2, 3] in 65536ths of a pixel."""
    fraction = magnitude / 10
    matrices = np.zeros((2, len(OPERATIONS), 2, 3))
    matrices[..., 0, 0] = matrices[..., 1, 1] = 1
    for matrices_of_direction, sign in zip(matrices, (1, -1), strict=True):
        matrix = dict(zip(OPERATIONS, matrices_of_direction, strict=True))
        angle, centre = sign * fraction * math.radians(30), np.array([width, height]) / 2
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        matrix["rotate"][:] = np.column_stack([rotation, centre - rotation @ centre])
        matrix["shear_x"][0, 1] = matrix["shear_y"][1, 0] = sign * fraction * 0.3
        matrix["translate_x"][0, 2] = sign * round(fraction * 100 / 224 * width)
        matrix["translate_y"][1, 2] = sign * round(fraction * 100 / 224 * height)
    matrices[..., 2] += matrices[..., :2].sum(axis=-1) / 2  # the centre of a pixel is at 0.5
    return np.floor(matrices * 65536 + 0.5).astype(np.int32)


def _warp(image: jax.Array, coefficients: jax.Array) -> jax.Array:
    """Moves the nearest source pixel to each position.

    Uses fixed-point numbers, as Pillow does, so that the result is bit-for-bit the same on every platform.
    """
    height, width, _ = image.shape
    y, x = jnp.arange(height, dtype=jnp.int32)[:, None], jnp.arange(width, dtype=jnp.int32)
    column, row = ((a * x + b * y + c) >> 16 for a, b, c in coefficients)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = jnp.where(inside, row * width + column, height * width)
    return image.reshape(-1, 3).at[place].get(mode="fill", fill_value=128)


def _equalize_some(images: jax.Array, chosen: jax.Array) -> jax.Array:
    order = jnp.argsort(~chosen)  # chosen images first
    equalize_next = lambda i, images: images.at[order[i]].set(_equalize(images[order[i]]))  # noqa: E731
    return lax.fori_loop(0, chosen.sum(), equalize_next, images)


def _equalize(image: jax.Array) -> jax.Array:
    """Equalises the histogram of each channel, as Pillow's `ImageOps.equalize` does."""
    channels = jnp.arange(3)
    histogram = jnp.zeros((3, 256), jnp.int32).at[channels, image].add(1)
    highest = histogram[channels, image.max(axis=(0, 1))]
    step = ((image.shape[0] * image.shape[1] - highest) // 255)[:, None]
    below = jnp.cumsum(histogram, axis=1) - histogram
    levels = jnp.minimum((below + step // 2) // jnp.maximum(step, 1), 255)
    levels = jnp.where(step > 0, levels, jnp.arange(256)).astype(jnp.uint8)
    return levels[channels, image]


def _recolour(image: jax.Array, operation: jax.Array, magnitude: float) -> jax.Array:
    """Applies an operation that is arithmetic on the pixels; returns the image unchanged for any other."""
    fraction = magnitude / 10
    is_ = lambda name: operation == OPERATIONS.index(name)  # noqa: E731

    pixels = image.astype(jnp.int32)
    low, high = pixels.min(axis=(0, 1)), pixels.max(axis=(0, 1))
    # Adding a half makes the quotient of whole numbers exact after rounding down.
    stretched = (255 * (pixels - low) + 0.5) / jnp.maximum(high - low, 1)
    autocontrast = jnp.where(high > low, stretched.astype(jnp.uint8), image)
    solarize = jnp.where(pixels < int(fraction * 256), image, 255 - image)
    posterize = image & (256 - 2 ** (8 - max(1, int(fraction * 4))))

    # Enhancements interpolate between a degenerate image and the given one by a factor, or extrapolate beyond it.
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    grey = ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16)[..., None]  # Pillow's rounding of the luma
    mean = jnp.floor(grey.sum() / grey.size + 0.5).astype(jnp.int32)
    degenerate = jnp.where(is_("color"), grey, jnp.where(is_("contrast"), mean, 0))
    degenerate = jnp.where(is_("sharpness"), _smooth(pixels), degenerate)
    enhanced = degenerate + (fraction * 1.8 + 0.1) * (pixels - degenerate)
    enhanced = jnp.clip(enhanced, 0, 255).astype(jnp.uint8)

    image = jnp.where(is_("autocontrast"), autocontrast, image)
    image = jnp.where(is_("solarize"), solarize, image)
    image = jnp.where(is_("posterize"), posterize, image)
    enhances = is_("color") | is_("contrast") | is_("brightness") | is_("sharpness")
    return jnp.where(enhances, enhanced, image)


def _smooth(pixels: jax.Array) -> jax.Array:
    """Applies Pillow's `ImageFilter.SMOOTH`, 5/13 of a pixel and 1/13 of each neighbour, except at the edge."""
    rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * pixels[1:-1, 1:-1]
    return pixels.at[1:-1, 1:-1].set((2 * sums + 13) // 26)
