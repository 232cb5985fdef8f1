"""Resizing against independent formulas; tests/parity compares with the packages that define the protocols."""

import jax
import numpy as np
import pytest
from PIL import Image

from inception_jax.fid import protocols
from inception_jax.fid.protocols import PROTOCOLS, prepare, resize, stack

SIZE = 37


def bilinear(image, places_y, places_x):
    """Interpolates at real-valued places in float64, one pixel at a time."""
    height, width = image.shape[:2]
    image = image.astype(np.float64)
    result = np.empty((len(places_y), len(places_x), 3))
    for i, y in enumerate(places_y):
        for j, x in enumerate(places_x):
            top, left = min(int(y), height - 1), min(int(x), width - 1)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            above = image[top, left] * (1 - x + left) + image[top, right] * (x - left)
            below = image[bottom, left] * (1 - x + left) + image[bottom, right] * (x - left)
            result[i, j] = above * (1 - y + top) + below * (y - top)
    return result


def places(name, size):
    """Both references compute places in float32, which moves a place of 300 by 3e-5."""
    i, scale, half = np.arange(SIZE, dtype=np.float32), np.float32(size / SIZE), np.float32(0.5)
    return (i * scale if name == "tf" else np.maximum((i + half) * scale - half, 0)).astype(np.float64)


@pytest.fixture(scope="module")
def images():
    """Smaller and larger than the input, and over twice as high or wide, where the host keeps only what is read."""
    rng = np.random.default_rng(0)
    shapes = ((SIZE, SIZE), (1, 1), (20, 30), (40, 73), (200, 30), (90, 301))
    return [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]


def test_bilinear_protocols_are_their_formulas(images):
    for name in ("tf", "pytorch_fid"):
        protocol = PROTOCOLS[name]
        batch = stack([prepare(image, protocol, SIZE) for image in images])
        assert batch.pixels.dtype == np.uint8
        found = np.asarray(jax.jit(resize)(batch))
        for result, image in zip(found, images, strict=True):
            expected = bilinear(image, places(name, image.shape[0]), places(name, image.shape[1]))
            np.testing.assert_allclose(result, expected, atol=255 * 1e-5, err_msg=f"{name} {image.shape}")
    np.testing.assert_array_equal(found[0], images[0])  # the size that it has already


def test_large_images_are_cut_to_what_is_read(images):
    pixels = prepare(images[-1], PROTOCOLS["tf"], SIZE).pixels
    assert pixels.shape == (2 * SIZE, 2 * SIZE, 3)


def test_clean_is_pillows_filter_of_each_channel(images):
    protocol = PROTOCOLS["clean"]
    batch = stack([prepare(image, protocol, SIZE) for image in images])
    found = np.asarray(jax.jit(resize)(batch))
    assert found.shape == (len(images), SIZE, SIZE, 3)
    for result, image in zip(found, images, strict=True):
        red = Image.fromarray(image[..., 0].astype(np.float32)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(result[..., 0], np.clip(np.asarray(red), 0, 255))
    assert (found % 1 != 0).any()  # not rounded


def test_values_reach_the_network_as_each_protocol_says():
    said = {name: (each.mean, each.std) for name, each in protocols.PROTOCOLS.items()}
    assert said == {"tf": (128, 128), "pytorch_fid": (127.5, 127.5), "clean": (128, 128)}
