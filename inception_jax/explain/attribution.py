"""Explains what a trained network says of images, by a method of `methods.METHODS`."""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from inception_jax.errors import UserError, check_choice, choose
from inception_jax.explain.methods import METHODS, ActivationMap, IntegratedGradients, Method
from inception_jax.explain.network import Explained, last_grid
from inception_jax.parallel import REPLICATED, SPLIT
from inception_jax.runs.classifier import Classifier, Picture


class Unit(NamedTuple):
    """A channel of a layer, which stands for its strongest unit in an image."""

    layer: str
    channel: int


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Where a number of the network comes from, in one image.

    Attributes:
      title: what is explained: the name of a class, or 'inception_4a 27'.
      index: of the class or the channel.
      number: score of the class before the softmax, or the largest output of the channel.
      crop: uint8 [H, W, 3], the image as the network gets it.
      values: float32, what the method computes, see its docstring: [H, W, C] of the normalised pixels, or [rows,
        columns] of a layer's grid or of places.
      heat: float32 [H, W], at least 0: how much each pixel counts.
      error: of integrated gradients: |sum of the values - difference of the numbers| / |difference|; None of others.
    """

    title: str
    index: int
    number: float
    crop: np.ndarray
    values: np.ndarray
    heat: np.ndarray
    error: float | None = None


def attribute(
    classifier: Classifier,
    images: Picture | Iterable[Picture],
    method: str | Method = "gradcam",
    target: int | str | Unit | Sequence[int | str] | None = None,
    *,
    layer: str = "",
    batch_size: int = 8,
) -> list[Explanation]:
    """Explains a class's score, or the output of a unit, for the evaluation crops of images.

    Args:
      classifier: the network.
      images: one or several, see `Classifier.predict`.
      method: a key of `methods.METHODS`, or such a method with other options.
      target: a class by its index or name, a sequence with one for each image, or a unit; None: the most probable
        class.
      layer: of class activation maps and their relatives, the layer whose grid is shown; '': the last one before the
        target with a convolution and a grid, see `network.last_grid`.
      batch_size: number of images at once.

    Returns:
      One explanation for each image.

    Raises:
      UserError: an argument is invalid, or the network has not what the method needs.
      DamagedImage: an image cannot be decoded.
    """
    chosen = choose("method", method, METHODS) if isinstance(method, str) else method
    if layer and not isinstance(chosen, ActivationMap):
        raise UserError(f"layer={layer!r} is for class activation maps; to explain a channel, give it as the target")
    explained = _explained(classifier, target)
    program = _program(classifier, chosen, explained, _layer(classifier, chosen, explained, layer))
    found: list[Explanation] = []
    for crops, count in classifier.batches(images, batch_size):
        wanted = _channels(classifier, target, len(found), count)
        outputs = classifier.begin_mapped(program, crops, np.resize(wanted, len(crops)))()
        heat = chosen.heat(outputs["values"], crops.shape[1:3])
        for i in range(count):
            index = int(outputs["channels"][i])
            found.append(
                Explanation(
                    title=_title(classifier, target, index),
                    index=index,
                    number=float(outputs["number"][i]),
                    crop=crops[i],
                    values=outputs["values"][i],
                    heat=heat[i],
                    error=_error(outputs, i),
                )
            )
    if isinstance(target, Sequence) and not isinstance(target, str | Unit) and len(target) != len(found):
        raise UserError(f"target has {len(target)} classes for {len(found)} images")
    return found


def _explained(classifier: Classifier, target) -> Explained:
    layer = classifier.end_points[-1]
    if isinstance(target, Unit):
        check_choice("layer", target.layer, classifier.end_points)
        count, layer = classifier.end_point_shape(target.layer)[-1], target.layer
        if not 0 <= target.channel < count:
            raise UserError(f"channel={target.channel} is not in 0 to {count - 1}, which {layer} has")
    return Explained(classifier.model, layer, classifier.preprocessing)


def _layer(classifier: Classifier, method: Method, explained: Explained, layer: str) -> str:
    """The layer whose grid is shown; '' of methods that show pixels."""
    if not isinstance(method, ActivationMap):
        return ""
    if layer:
        check_choice("layer", layer, classifier.end_points)
    else:
        layer = last_grid(explained, classifier.input_shape)
    shape = classifier.end_point_shape(layer)
    if len(shape) != 3 or shape[:2] == (1, 1):
        raise UserError(f"layer={layer!r} has no grid of more than one cell")
    explained.split(layer)  # checks that it comes before the target
    return layer


def _channels(classifier: Classifier, target, first: int, count: int) -> np.ndarray:
    """The class or channel of `count` images, the first of which has number `first`; -1: the most probable class."""
    if target is None:
        return np.full(count, -1, np.int32)
    if isinstance(target, Unit):
        return np.full(count, target.channel, np.int32)
    if isinstance(target, int | str):
        return np.full(count, class_index(classifier, target), np.int32)
    return np.array([class_index(classifier, one) for one in target[first : first + count]], np.int32)


def class_index(classifier: Classifier, name: int | str) -> int:
    """Returns the index of a class, given by its name or its index.

    Raises:
      UserError: there is none, or the name is that of several classes.
    """
    names = classifier.class_names
    if isinstance(name, str) and names.count(name) == 1:
        return names.index(name)
    if isinstance(name, str) and names.count(name) > 1:
        indices = [index for index, other in enumerate(names) if other == name]
        raise UserError(f"{len(indices)} classes are named {name!r}: give an index, {' or '.join(map(str, indices))}")
    if not str(name).isdecimal() or int(name) >= len(names):
        near = difflib.get_close_matches(str(name), names, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has {len(names)}, by name or index"
        raise UserError(f"the network has no class {name!r}; {hint}")
    return int(name)


def _title(classifier: Classifier, target, index: int) -> str:
    return f"{target.layer} {index}" if isinstance(target, Unit) else classifier.class_names[index]


def _error(outputs: dict[str, np.ndarray], i: int) -> float | None:
    if "baseline" not in outputs:
        return None
    difference = float(outputs["number"][i] - outputs["baseline"][i])
    return abs(float(outputs["values"][i].sum(dtype=np.float64)) - difference) / max(abs(difference), 1e-12)


@functools.cache
def _program(classifier: Classifier, method: Method, explained: Explained, layer: str) -> Callable:
    """Compiles a method for a network; a program is kept as long as the process lives."""
    layers = {"layer": layer} if layer else {}

    def run(variables, crops, channels):
        images = explained.normalise(variables, crops)
        if explained.layer == classifier.end_points[-1]:
            best = explained.run(variables, images).argmax(axis=-1)
            channels = jnp.where(channels < 0, best, channels)
        outputs = {
            "channels": channels,
            "number": explained.score(variables, images, channels),
            "values": method(explained, variables, images, channels, **layers).astype(jnp.float32),
        }
        if isinstance(method, IntegratedGradients):
            outputs["baseline"] = explained.score(variables, method.start(explained, variables, images), channels)
        return outputs

    return classifier.parallel.map(run, (REPLICATED, SPLIT, SPLIT), SPLIT)
