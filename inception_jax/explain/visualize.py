"""Images that excite a part of a network most, made by gradient ascent.

Olah et al. 2017, "Feature Visualization", https://distill.pub/2017/feature-visualization, with the constants of its
code (https://github.com/tensorflow/lucid, lucid/optvis):

- What is optimised is the spectrum of the image, in colours that are as independent as those of photographs
  (param/spatial.py, param/color.py).
- In each step the network sees the image moved, scaled and rotated by other small amounts (transform.py). Lucid draws
  them from lists; here they are drawn evenly from the same ranges, for inputs of 224 pixels, for others in proportion.

An objective is a list of terms: `[channel("inception_4a", 27), diversity("inception_4a")]`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.scipy.ndimage import map_coordinates

from inception_jax import ops
from inception_jax.explain.network import check_channels
from inception_jax.explain.rules import with_rule
from inception_jax.models.network import Network
from inception_jax.parallel import REPLICATED, SPLIT
from inception_jax.runs.classifier import Classifier

# Square root of the covariance of the colours of photographs (lucid/optvis/param/color.py).
_COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_PAD, _JITTER, _SCALE, _DEGREES, _LAST_JITTER = 12, 8, 0.1, 10, 4
_LEARNING_RATE, _START = 0.05, 0.01  # of Adam, and the standard deviation of the first spectrum


class Term(NamedTuple):
    """A part of an objective.

    Attributes:
      layer: name of the layer that it reads.
      score: of that layer's outputs for the copies of one image, float32 [copies, rows, columns, channels]: a scalar.
      weight: factor on the score.
    """

    layer: str
    score: Callable[[jax.Array], jax.Array]
    weight: float = 1.0


Objective = Sequence[Term]


def channel(layer: str, index: int | jax.Array) -> Term:
    """The mean of a channel over the grid; of the last layer the score of a class."""
    return Term(layer, lambda outputs: outputs[..., index].mean())


def unit(layer: str, index: int | jax.Array) -> Term:
    """The unit of a channel in the middle of the grid."""
    return Term(layer, lambda outputs: outputs[:, outputs.shape[1] // 2, outputs.shape[2] // 2, index].mean())


def everything(layer: str) -> Term:
    """Half the sum of the squares of all outputs, which DeepDream amplifies."""
    return Term(layer, lambda outputs: 0.5 * (outputs**2).sum())


def diversity(layer: str, weight: float = 1.0) -> Term:
    """How much the copies differ: minus the cosine similarity of their Gram matrices, summed over the others."""

    def score(outputs):
        grams = _grams(outputs).reshape(len(outputs), -1)
        grams /= jnp.sqrt((grams**2).sum(axis=1, keepdims=True) + 1e-10)
        similar = grams @ grams.T
        return -(similar.sum() - jnp.trace(similar)) / len(outputs)

    return Term(layer, score, weight)


def caricature(layer: str, target: np.ndarray) -> Term:
    """How strongly the outputs are those of an image: their dot product times their cosine similarity, at least 0.1.

    Args:
      layer: name of the layer.
      target: its outputs for the image, float32 [rows, columns, channels] or [channels].
    """

    def score(outputs):
        flat, wanted = outputs.reshape(len(outputs), -1), target.reshape(-1)
        dot = flat @ wanted
        cosine = dot / (jnp.linalg.norm(flat, axis=1) * jnp.linalg.norm(wanted) + 1e-6)
        return (dot * jnp.maximum(cosine, 0.1)).mean()

    return Term(layer, score)


def style(layer: str, target: np.ndarray, weight: float = 1.0) -> Term:
    """Minus the mean difference of the Gram matrix of the channels from that of an image.

    Gatys et al. 2015, https://arxiv.org/abs/1505.07376.

    Args:
      layer: name of the layer.
      target: its outputs for the image, float32 [rows, columns, channels].
      weight: factor on the score.
    """
    return Term(layer, lambda outputs: -jnp.abs(_grams(outputs) - _grams(jnp.asarray(target)[None])).mean(), weight)


def _grams(outputs: jax.Array) -> jax.Array:
    """Returns the Gram matrix of the channels of each image, a mean over the cells: float32 [N, C, C]."""
    flat = outputs.reshape(len(outputs), -1, outputs.shape[-1])
    return jnp.einsum("nca,ncb->nab", flat, flat) / flat.shape[1]


def visualize(
    classifier: Classifier,
    objective: Callable[[Any], Objective],
    targets: Sequence[int] = (0,),
    *,
    copies: int = 1,
    steps: int = 512,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Makes images for which an objective is large, all targets at once.

    Args:
      classifier: the network, which sees images of its own size; see `Classifier.resized`.
      objective: gives the objective of each target, such as `lambda k: [channel("inception_4a", k)]`. It is traced.
      targets: numbers, such as those of channels. An image does not depend on the others.
      copies: number of images of each target, which start differently.
      steps: number of steps of Adam.
      seed: of the first images and of the changes that the network sees.
      advance: called after each step.

    Returns:
      uint8 [targets, copies, side, side, 3]; the side is that of the network's input less a border.

    Raises:
      UserError: the network has no such layer.
    """
    network = _below(classifier, objective(targets[0]))
    view, optimizer = classifier.input_shape[0], optax.adam(_LEARNING_RATE)
    side = view - round(view * _PAD / 224)
    grey = classifier.preprocessing.channels == 1

    def start(targets):
        keys = jax.vmap(lambda target: jax.random.fold_in(jax.random.key(seed), target))(targets)
        shape = (copies, side, side // 2 + 1, 3, 2)
        spectra = jax.vmap(lambda key: _START * jax.random.normal(key, shape))(keys)
        return spectra, jax.vmap(optimizer.init)(spectra)

    def ascend(variables, state, targets, steps):
        def score(spectrum, target, key):
            seen = _seen(key, _image(spectrum, side, grey), view)
            inputs = classifier.preprocessing.evaluate(255 * seen, variables["dataset_stats"])
            _, outputs = network.apply(variables, inputs)
            return sum(term.weight * term.score(_grid(outputs[term.layer])) for term in objective(target))

        def one(spectrum, moments, target, step):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), target), step + 1)
            # Of the score, not of a loss: the rule of the ReLUs lets signals pass that raise their outputs.
            gradient = jax.grad(score)(spectrum, target, key)
            updates, moments = optimizer.update(-gradient, moments)
            return optax.apply_updates(spectrum, updates), moments

        spectra, moments = state
        return jax.vmap(one)(spectra, moments, targets, steps)

    parallel = classifier.parallel
    numbers = np.array([*targets, *[targets[0]] * (-len(targets) % parallel.device_count)], np.int32)
    placed, variables = jax.device_put(numbers, parallel.split), parallel.replicate(classifier.variables)
    state = parallel.map(start, (SPLIT,), SPLIT)(placed)
    run = parallel.map(ascend, (REPLICATED, SPLIT, SPLIT, SPLIT), SPLIT, donate=(1,))
    for step in range(steps):
        state = run(variables, state, placed, jax.device_put(np.full_like(numbers, step), parallel.split))
        advance()
    show = parallel.map(lambda spectra: jax.vmap(lambda one: _image(one, side, grey))(spectra), (SPLIT,), SPLIT)
    return np.rint(255 * np.asarray(show(state[0])))[: len(targets)].astype(np.uint8)


def dream(
    classifier: Classifier,
    image: np.ndarray,
    objective: Objective,
    *,
    octaves: int = 4,
    steps: int = 10,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Changes a photograph so that an objective grows, from its coarse to its fine structures: DeepDream.

    Mordvintsev et al. 2015 (https://github.com/google/deepdream, dream.ipynb): octaves with a ratio of 1.4, shifts of
    up to 32 pixels, steps of 1.5 grey levels on average. Pixels themselves are changed, and nothing else is done.

    Args:
      classifier: the network.
      image: uint8 [H, W, 3], of any size.
      objective: such as `[everything("inception_4c")]`.
      octaves: number of sizes.
      steps: number of steps for each size.
      seed: of the shifts.
      advance: called after each step.

    Returns:
      uint8 [H, W, 3].

    Raises:
      UserError: the network has no such layer, or it does not work with images of these sizes.
    """
    network = _below(classifier, objective)
    variables = jax.device_put(dict(classifier.variables))

    @jax.jit
    def ascend(pixels, key):
        shift = jax.random.randint(key, (2,), -32, 33)

        def score(pixels):
            inputs = classifier.preprocessing.evaluate(pixels[None], variables["dataset_stats"])
            _, outputs = network.apply(variables, inputs)
            return sum(term.weight * term.score(_grid(outputs[term.layer])) for term in objective)

        gradient = jax.grad(score)(jnp.roll(pixels, shift, (0, 1)))
        gradient *= 1.5 / (jnp.abs(gradient).mean() + 1e-12)
        return jnp.clip(pixels + jnp.roll(gradient, -shift, (0, 1)), 0, 255)

    sizes = [tuple(round(length / 1.4**octave) for length in image.shape[:2]) for octave in range(octaves)]
    sizes = [size for size in sizes[1:] if min(size) >= network.min_size][::-1] + sizes[:1]
    whole, pixels = image.astype(np.float32), np.zeros((1, 1, 3), np.float32)
    base: np.ndarray = pixels
    for octave, (height, width) in enumerate(sizes):
        detail = cv2.resize(pixels - base, (width, height))
        base = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
        pixels = base + detail
        for step in range(octave * steps, (octave + 1) * steps):
            pixels = ascend(pixels, jax.random.fold_in(jax.random.key(seed), step))
            advance()
        pixels = np.asarray(pixels)
    return np.rint(pixels).astype(np.uint8)


def _below(classifier: Classifier, objective: Objective) -> Network:
    """Returns the network up to the last layer of the objective, whose ReLUs let blocked gradients pass."""
    for term in objective:
        check_channels(classifier, term.layer)
    names, model = classifier.end_points, classifier.model
    model = with_rule(model, "redirected" if model.style.activation is ops.relu else "backprop")
    return model.clone(layers=model.layers[: 1 + max(names.index(term.layer) for term in objective)])


def _grid(outputs: jax.Array) -> jax.Array:
    """Returns outputs as float32 [N, rows, columns, channels]; those of a dense layer are one cell."""
    outputs = outputs.astype(jnp.float32)
    return outputs if outputs.ndim == 4 else outputs.reshape(len(outputs), 1, 1, -1)


def _image(spectrum: jax.Array, side: int, grey: bool) -> jax.Array:
    """Returns the images of spectra [N, side, side // 2 + 1, 3, 2], from 0 to 1: [N, side, side, 3]."""
    frequencies = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    # Waves of all lengths have the same energy, as in photographs; and side is the norm of a Fourier transform.
    scale = side / np.maximum(frequencies, 1 / side)
    waves = lax.complex(spectrum[..., 0], spectrum[..., 1]) * scale[:, :, None]
    values = jnp.fft.irfft2(waves, (side, side), axes=(1, 2)) / 4
    values = values @ (_COLOURS / np.linalg.norm(_COLOURS, axis=0).max()).T
    if grey:
        values = jnp.broadcast_to(values.mean(axis=-1, keepdims=True), values.shape)
    return jax.nn.sigmoid(values)


def _seen(key: jax.Array, images: jax.Array, view: int) -> jax.Array:
    """Returns images [N, side, side, 3] on grey [N, view, view, 3], all moved, scaled and rotated in the same way."""
    keys, pixel = jax.random.split(key, 4), view / 224
    before = jax.random.uniform(keys[0], (2,), minval=-_JITTER / 2, maxval=_JITTER / 2) * pixel
    after = jax.random.uniform(keys[1], (2,), minval=-_LAST_JITTER / 2, maxval=_LAST_JITTER / 2) * pixel
    scale = jax.random.uniform(keys[2], minval=1 - _SCALE, maxval=1 + _SCALE)
    angle = jnp.deg2rad(jax.random.uniform(keys[3], minval=-_DEGREES, maxval=_DEGREES))
    back = jnp.array([[jnp.cos(angle), jnp.sin(angle)], [-jnp.sin(angle), jnp.cos(angle)]]) / scale
    places = jnp.stack(jnp.meshgrid(*[jnp.arange(view) - (view - 1) / 2] * 2, indexing="ij"))
    places = jnp.einsum("ab,brc->arc", back, places - after[:, None, None]) - before[:, None, None]
    places += (images.shape[1] - 1) / 2

    def warped(plane):
        return map_coordinates(plane, list(places), order=1, mode="constant", cval=0.5)

    return jnp.moveaxis(jax.vmap(jax.vmap(warped))(jnp.moveaxis(images, -1, 1)), 1, -1)
