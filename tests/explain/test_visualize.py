"""Images made by gradient ascent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inception_jax
from inception_jax.errors import UserError
from inception_jax.explain import visualize as module
from inception_jax.explain.rules import relu
from inception_jax.explain.visualize import caricature, channel, diversity, dream, everything, style, unit, visualize


@pytest.fixture(scope="module")
def classifier(trained):
    return inception_jax.load(trained)


def test_an_image_is_the_sum_of_its_waves():
    side = 7
    spectrum = np.random.default_rng(0).normal(size=(1, side, side // 2 + 1, 3, 2))
    spectrum[0, :, 0, :, 1] = 0  # waves along one side alone, whose imaginary parts cancel
    down, right = np.arange(side)[:, None], np.arange(side)
    values = np.zeros((side, side, 3))
    for u in range(side):
        for v in range(side // 2 + 1):
            frequency = np.hypot(min(u, side - u), v) / side
            angle = 2 * np.pi * (u * down + v * right) / side
            real, imaginary = spectrum[0, u, v, :, 0], spectrum[0, u, v, :, 1]
            wave = real * np.cos(angle)[..., None] - imaginary * np.sin(angle)[..., None]
            # A wave and its mirror image; the division by side is that of a transform that keeps lengths.
            values += (1 if v == 0 else 2) * wave / max(frequency, 1 / side) / side / 4
    colours = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    values = values @ colours.T / np.sqrt(0.26**2 + 2 * 0.27**2)
    found = module._image(jnp.array(spectrum), side, grey=False)
    np.testing.assert_allclose(found[0], 1 / (1 + np.exp(-values)), atol=1e-5)
    assert np.ptp(module._image(jnp.array(spectrum), side, grey=True), axis=-1).max() == 0


def test_the_network_sees_the_image_moved_scaled_and_rotated_a_little():
    images = np.zeros((1, 212, 212, 3), np.float32)
    images[0, 100:112, 100:112], images[0, 100:112, 180:192] = 1, 1  # centres 80 pixels apart
    distances, angles, moved = [], [], []
    for key in jax.random.split(jax.random.key(0), 25):
        seen = np.asarray(module._seen(key, jnp.array(images), 224))[0, :, :, 0]
        assert 0.5 in seen[[0, 0, -1, -1], [0, -1, 0, -1]]  # grey around the image
        rows, columns = np.nonzero(seen > 0.75)
        is_right = columns > 112 + 40
        first, second = ((rows[of].mean(), columns[of].mean()) for of in (~is_right, is_right))
        down, right = np.subtract(second, first)
        distances.append(np.hypot(down, right))
        angles.append(np.degrees(np.arctan2(down, right)))
        moved.append(np.subtract(first, 111.5))
    assert 72 - 0.5 < min(distances) < 76
    assert 84 < max(distances) < 88 + 0.5
    assert -10.5 < min(angles) < -5
    assert 5 < max(angles) < 10.5
    assert 2 < np.abs(moved).max() < 4 * 1.1 + 2 + 0.5


def test_a_blocked_signal_passes_to_the_units_that_it_raises():
    x = jnp.array([[-1.0, -2.0], [-1.0, 2.0]])[:, :, None]
    signal = jnp.array([[3.0, -3.0], [3.0, -3.0]])[:, :, None]
    _, backward = jax.vjp(lambda x: relu(x, "redirected"), x)
    # Nothing would pass in the first image; in the second one the active unit's signal does.
    np.testing.assert_array_equal(backward(signal)[0][:, :, 0], [[3, 0], [0, -3]])


def test_terms_are_what_they_say():
    outputs = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    assert channel("a", 2).score(outputs) == pytest.approx(outputs[..., 2].mean())
    assert unit("a", 2).score(outputs) == pytest.approx(outputs[:, 1, 2, 2].mean())
    assert everything("a").score(outputs) == pytest.approx((outputs**2).sum() / 2, rel=1e-6)
    same, other = jnp.zeros((2, 2, 2, 2)).at[..., 0].set(1), jnp.zeros((2, 2, 2, 2)).at[0, ..., 0].set(1)
    assert diversity("a").score(same) == pytest.approx(-1)
    assert diversity("a").score(other.at[1, ..., 1].set(7)) == pytest.approx(0)
    assert style("a", outputs[0]).score(outputs[:1]) == pytest.approx(0, abs=1e-6)
    assert style("a", np.zeros((1, 1, 4))).score(outputs[:1, :1, :1] * 0 + 2) == pytest.approx(-4)
    assert caricature("a", np.array([3.0, 4.0])).score(jnp.array([[[[6.0, 8.0]]]])) == pytest.approx(50)
    # Where they are opposite, the cosine counts as 0.1, so that the sign of the product stays.
    assert caricature("a", np.array([3.0, 4.0])).score(jnp.array([[[[-6.0, -8.0]]]])) == pytest.approx(-5)


def test_excites_a_channel_more_than_any_image_of_the_data(classifier, image_folder):
    def outputs(images):
        seen = np.pad(images, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=128)
        return classifier.run(seen, "body")[0].mean(axis=(1, 2))

    options = {"objective": lambda k: [channel("body", k)], "targets": [3, 0]}
    start, made = (visualize(classifier, steps=steps, **options)[:, 0] for steps in (0, 256))
    assert made.shape == (2, 15, 15, 3)
    of_data = classifier.features(sorted(image_folder.glob("*/*/*.png")), "body").mean(axis=(1, 2))
    assert outputs(made)[0, 3] > 1.2 * of_data[:, 3].max()
    # Noise does not excite channel 0 at all, so its gradient is 0.
    assert outputs(start)[1, 0] == 0
    assert outputs(made)[1, 0] > 1
    # An image alone is the same.
    [[alone]] = visualize(classifier, lambda k: [channel("body", k)], [0], steps=256)
    assert np.abs(alone.astype(int) - made[1]).max() <= 2


def test_copies_start_differently_and_each_step_is_told(classifier):
    told = []
    objective = lambda k: [channel("top", k), diversity("body", 0.1)]  # noqa: E731
    made = visualize(classifier, objective, [0], copies=2, steps=3, advance=lambda: told.append(1))
    assert len(told) == 3
    assert (made[0, 0] != made[0, 1]).any()


def test_dreams_on_an_image_of_any_size(classifier):
    image = np.random.default_rng(0).integers(0, 256, (21, 30, 3), np.uint8)
    told = []
    made = dream(classifier, image, [everything("body")], steps=5, advance=lambda: told.append(1))
    # Sizes of 21, 15, 11 and 8 pixels.
    assert len(told) == 4 * 5
    assert made.shape == image.shape
    strength = lambda crop: (classifier.run(crop[None, 4:20, 4:20], "body")[0] ** 2).sum()  # noqa: E731
    assert strength(made) > 1.1 * strength(image)
    # Images under 4 pixels are too small for this network.
    told.clear()
    dream(classifier, image[:6, :6], [everything("body")], steps=1, advance=lambda: told.append(1))
    assert len(told) == 2


def test_names_a_missing_layer(classifier):
    with pytest.raises(UserError, match="layer='bodi' is not one of stem, body"):
        visualize(classifier, lambda k: [channel("bodi", k)])
