"""Explains what a trained network says of images, by a method of `methods.METHODS`."""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.errors import UserError, check_choice, choose
from inception_jax.explain.methods import METHODS, ActivationMap, IntegratedGradients, Method, Summed
from inception_jax.explain.network import Explained, check_channels, last_grid, receptive_field
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
      field: of a unit the rows and columns of the image that it sees; None of a class.
    """

    title: str
    index: int
    number: float
    crop: np.ndarray
    values: np.ndarray
    heat: np.ndarray
    error: float | None = None
    field: tuple[slice, slice] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Explainer:
    """A method for one network, compiled once for each number of crops.

    Attributes:
      classifier: the network.
      method: the method.
      unit: what is explained in place of a class; None: classes.
      layer: whose grid is shown; '' of methods that show pixels.
    """

    classifier: Classifier
    method: Method
    unit: Unit | None = None
    layer: str = ""

    def __call__(
        self, crops: np.ndarray, classes: Sequence[int | str | None] = (), variables: Mapping[str, dict] | None = None
    ) -> list[Explanation]:
        """Explains crops, all in one batch.

        Args:
          crops: uint8 [N, size, size, 3], see `Classifier.crop`.
          classes: of each crop the class by its index or name, or None for the most probable one; () for these.
          variables: in place of the network's own.

        Raises:
          UserError: the network has no such class.
        """
        if self.unit is not None:
            indices = [self.unit.channel] * len(crops)
        else:
            indices = [
                -1 if one is None else class_index(self.classifier, one) for one in classes or [None] * len(crops)
            ]
        run = functools.partial(self.classifier.begin_mapped, variables=variables)
        outputs = run(self._numbers, crops, np.array(indices, np.int32))()
        explained = [run(self._values, crops, outputs["channels"], np.full(len(crops), part))() for part in self._parts]
        values = functools.reduce(np.add, explained)
        heat = self.method.heat(values, crops.shape[1:3])
        return [
            Explanation(
                title=self._title(int(outputs["channels"][i])),
                index=int(outputs["channels"][i]),
                number=float(outputs["number"][i]),
                crop=crop,
                values=values[i],
                heat=heat[i],
                error=_error(outputs, values, i),
                field=self._field(int(outputs["cells"][i])),
            )
            for i, crop in enumerate(crops)
        ]

    def check(self) -> None:
        """Raises a UserError if the network has not what the method needs; nothing is computed."""
        count, size = self.classifier.parallel.device_count, self.classifier.input_shape[:2]
        crops, numbers = jax.ShapeDtypeStruct((count, *size, 3), np.uint8), jax.ShapeDtypeStruct((count,), np.int32)
        jax.eval_shape(self._values, self.classifier.variables, crops, numbers, numbers)

    def _title(self, index: int) -> str:
        return self.classifier.class_names[index] if self.unit is None else f"{self.unit.layer} {index}"

    def _field(self, cell: int) -> tuple[slice, slice] | None:
        """Returns what a unit sees, given its place in the rows of the grid."""
        if self.unit is None:
            return None
        columns = self.classifier.end_point_shape(self.unit.layer)[1:-1] or (1,)
        field = receptive_field(self.classifier, self.unit.layer)
        return field.pixels(divmod(cell, columns[0]), self.classifier.input_shape[:2])

    @property
    def _parts(self) -> range:
        return range(self.method.parts if isinstance(self.method, Summed) else 1)

    @functools.cached_property
    def _numbers(self) -> Callable:
        """Program of variables, crops and channels (-1: the most probable class): what is explained of each crop."""
        explained = _explained(self.classifier, self.unit)

        def run(variables, crops, channels):
            images = explained.normalise(variables, crops)
            if self.unit is None:
                channels = jnp.where(channels < 0, explained.run(variables, images).argmax(axis=-1), channels)
            outputs = {
                "channels": channels,
                "number": explained.score(variables, images, channels),
                "cells": explained.place(variables, images, channels),
            }
            if isinstance(self.method, IntegratedGradients):
                start = self.method.start(explained, variables, images)
                outputs["baseline"] = explained.score(variables, start, channels)
            return outputs

        return self.classifier.parallel.map(run, (REPLICATED, SPLIT, SPLIT), SPLIT)

    @functools.cached_property
    def _values(self) -> Callable:
        """Program of variables, crops, channels and the number of a part: what the method computes."""
        explained = _explained(self.classifier, self.unit)
        layers: dict[str, Any] = {"layer": self.layer} if self.layer else {}

        def run(variables, crops, channels, part):
            images = explained.normalise(variables, crops)
            parts = {"part": part[0]} if isinstance(self.method, Summed) else {}
            return self.method(explained, variables, images, channels, **layers, **parts).astype(jnp.float32)

        return self.classifier.parallel.map(run, (REPLICATED, SPLIT, SPLIT, SPLIT), SPLIT)


def make_explainer(
    classifier: Classifier, method: str | Method = "gradcam", *, unit: Unit | None = None, layer: str = ""
) -> Explainer:
    """Returns a method for a network.

    Args:
      classifier: the network.
      method: a key of `methods.METHODS`, or such a method with other options.
      unit: what is explained in place of a class.
      layer: of class activation maps and their relatives, the layer whose grid is shown; '': the last one before the
        target with a convolution and a grid, see `network.last_grid`.

    Raises:
      UserError: an argument is invalid, or the network has not what the method needs.
    """
    chosen = choose("method", method, METHODS) if isinstance(method, str) else method
    explained = _explained(classifier, unit)
    if isinstance(chosen, ActivationMap):
        layer = layer or last_grid(explained, classifier.input_shape)
        check_choice("layer", layer, classifier.end_points)
        shape = classifier.end_point_shape(layer)
        if len(shape) != 3 or shape[:2] == (1, 1):
            raise UserError(f"layer={layer!r} has no grid of more than one cell")
    elif layer:
        raise UserError(f"layer={layer!r} is for class activation maps; to explain a channel, give it as the unit")
    explainer = Explainer(classifier, chosen, unit, layer)
    explainer.check()
    return explainer


def attribute(
    classifier: Classifier,
    images: Picture | Iterable[Picture],
    method: str | Method = "gradcam",
    classes: int | str | Sequence[int | str | None] | None = None,
    *,
    unit: Unit | None = None,
    layer: str = "",
    batch_size: int = 8,
) -> list[Explanation]:
    """Explains the scores of classes, or the output of a unit, for the evaluation crops of images.

    Args:
      classifier: the network.
      images: one or several, see `Classifier.predict`.
      method: see `make_explainer`.
      classes: a class by its index or name, or a sequence with one for each image; None: the most probable one.
      unit: what is explained in place of a class.
      layer: see `make_explainer`.
      batch_size: number of images at once.

    Returns:
      One explanation for each image.

    Raises:
      UserError: an argument is invalid, or the network has not what the method needs.
      DamagedImage: an image cannot be decoded.
    """
    explainer = make_explainer(classifier, method, unit=unit, layer=layer)
    found: list[Explanation] = []
    for crops, count in classifier.batches(images, batch_size):
        wanted: list[int | str | None]
        if classes is None or isinstance(classes, int | str):
            wanted = [classes] * count
        else:
            wanted = list(classes[len(found) : len(found) + count])
            if len(wanted) < count:
                raise UserError(f"classes has {len(classes)} entries, but there are more images")
        found += explainer(crops, wanted + wanted[:1] * (len(crops) - count))[:count]
    return found


def _explained(classifier: Classifier, unit: Unit | None) -> Explained:
    layer = classifier.end_points[-1]
    if unit is not None:
        check_channels(classifier, unit.layer, [unit.channel])
        layer = unit.layer
    return Explained(classifier.model, layer, classifier.preprocessing)


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


def _error(outputs: dict[str, np.ndarray], values: np.ndarray, i: int) -> float | None:
    if "baseline" not in outputs:
        return None
    difference = float(outputs["number"][i] - outputs["baseline"][i])
    return abs(float(values[i].sum(dtype=np.float64)) - difference) / max(abs(difference), 1e-12)
