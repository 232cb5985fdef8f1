"""RandAugment: each operation beside Pillow's."""

import functools

import jax
import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats
from sklearn.datasets import load_sample_image

from inception_jax.data import randaugment
from inception_jax.data.randaugment import OPERATIONS, apply_operations

GREY = (128, 128, 128)
COUNT = len(OPERATIONS)


@functools.cache
def pictures():
    """A photograph, noise of little contrast, and two colours, of which equalize and autocontrast leave a channel."""
    photograph = load_sample_image("china.jpg")[100:200:2, 300:380:2]
    noise = np.random.default_rng(0).integers(60, 90, photograph.shape, np.uint8)
    colours = np.zeros_like(noise)
    colours[:20], colours[20:] = (0, 200, 255), (0, 90, 0)
    return photograph, noise, colours


def pillow(name, image, magnitude, reverse):
    """The operation as it is in Pillow, at the magnitude of TensorFlow's autoaugment.py."""
    fraction, sign = magnitude / 10, -1 if reverse else 1
    width, height = image.size
    if name in ("color", "contrast", "brightness", "sharpness"):
        return getattr(ImageEnhance, name.capitalize())(image).enhance(fraction * 1.8 + 0.1)
    if name == "rotate":
        return image.rotate(sign * fraction * 30, Image.Resampling.NEAREST, fillcolor=GREY)
    coefficients = {
        "shear_x": (1, sign * fraction * 0.3, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, sign * fraction * 0.3, 1, 0),
        "translate_x": (1, 0, sign * round(fraction * width * 100 / 224), 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, sign * round(fraction * height * 100 / 224)),
    }
    if name in coefficients:
        affine = Image.Transform.AFFINE
        return image.transform(image.size, affine, coefficients[name], Image.Resampling.NEAREST, fillcolor=GREY)
    return {
        "identity": lambda: image,
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "solarize": lambda: ImageOps.solarize(image, int(fraction * 256)),
        "posterize": lambda: ImageOps.posterize(image, max(1, int(fraction * 4))),
    }[name]()


def test_operations_are_pillows():
    for magnitude in (0.0, 7.0, 9.0):
        cases = [(name, image, reverse) for name in OPERATIONS for image in pictures() for reverse in (False, True)]
        names, images, reverse = zip(*cases, strict=True)
        operations = np.array([OPERATIONS.index(name) for name in names])
        apply = jax.jit(apply_operations, static_argnames="magnitude")
        results = apply(np.array(images), operations, np.array(reverse), magnitude=magnitude)
        assert results.dtype == np.uint8
        changed = set()
        for (name, image, backwards), ours in zip(cases, np.asarray(results, int), strict=True):
            theirs = np.asarray(pillow(name, Image.fromarray(image), magnitude, backwards), int)
            if not np.array_equal(theirs, image):
                changed.add(name)
            away = np.abs(ours - theirs)
            if name in ("autocontrast", "color", "contrast", "brightness", "sharpness"):
                # Both cut decimals off, which rounding of the product may have moved over a whole number.
                assert away.max() <= 1, name
                assert (away > 0).mean() < 0.02, name
            else:
                assert away.max() == 0, name
        none = {"identity"} | ({"rotate", *(name for name in OPERATIONS if "_" in name)} if magnitude == 0 else set())
        assert changed == set(OPERATIONS) - none


def test_operations_are_drawn_uniformly(monkeypatch):
    drawn = []
    monkeypatch.setattr(randaugment, "apply_operations", lambda images, *draws: drawn.append(draws) or images)
    keys = jax.random.split(jax.random.key(0), 3000)
    randaugment.randaugment(np.zeros((3000, 1, 1, 3), np.uint8), keys, 2, 9.0)
    (first, reverse_first, magnitude), (second, reverse_second, _) = jax.device_get(drawn)
    assert magnitude == 9.0
    pairs = np.bincount(first * COUNT + second, minlength=COUNT**2)
    assert stats.chisquare(pairs).pvalue > 0.01
    signs = np.bincount(2 * reverse_first + reverse_second, minlength=4)
    assert stats.chisquare(signs).pvalue > 0.01


def test_operations_follow_each_other():
    images = np.stack([pictures()[0]] * 8)
    keys = jax.random.split(jax.random.key(1), 8)
    both = jax.jit(lambda images, keys: randaugment.randaugment(images, keys, 2, 9.0))(images, keys)
    for image, key, result in zip(images, keys, np.asarray(both, int), strict=True):
        expected = Image.fromarray(image)
        for draw in jax.random.randint(key, (2,), 0, 2 * COUNT):
            expected = pillow(OPERATIONS[draw % COUNT], expected, 9.0, draw >= COUNT)
        # A level of difference after the first operation may become several in the second.
        assert np.abs(result - np.asarray(expected, int)).mean() < 0.1


def test_an_image_does_not_depend_on_its_batch():
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 10, 3), np.uint8)
    apply = jax.jit(apply_operations, static_argnames="magnitude")
    operations, reverse = np.arange(COUNT), np.arange(COUNT) % 2 == 0
    whole = np.asarray(apply(images, operations, reverse, magnitude=9.0))
    chosen = np.array([9, 2, 3] + [2] * (COUNT - 3))
    again = apply(images[chosen], operations[chosen], reverse[chosen], magnitude=9.0)
    np.testing.assert_array_equal(again, whole[chosen])
