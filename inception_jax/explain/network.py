"""The numbers that are explained, as functions of a network: the score of a class, or the output of a unit."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from inception_jax.data.augment import Preprocessing
from inception_jax.errors import UserError, check_choice
from inception_jax.models import trace
from inception_jax.models.network import Network
from inception_jax.models.trace import ReceptiveField
from inception_jax.models.units import AverageLogits, AvgPool, Chain, Dropout, GlobalAvgPool, Logits, Unit
from inception_jax.runs.classifier import Classifier


@dataclasses.dataclass(frozen=True)
class Explained:
    """A network and one of its layers, whose channels are explained: those of the last layer are the classes.

    Attributes:
      model: the network.
      layer: name of the layer.
      preprocessing: makes the network's input from crops.
    """

    model: Network
    layer: str
    preprocessing: Preprocessing

    def normalise(self, variables: Mapping[str, Any], crops: jax.Array) -> jax.Array:
        """Returns the network's input, float32 [N, H, W, C], for uint8 [N, H, W, 3]."""
        return self.preprocessing.evaluate(crops, variables["dataset_stats"])

    def run(self, variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
        """Returns the layer's output for normalised images [N, H, W, C]."""
        return self.model.apply(variables, images)[1][self.layer]

    def score(self, variables: Mapping[str, Any], images: jax.Array, channels: jax.Array) -> jax.Array:
        """Returns the number that is explained of each image, float32 [N].

        It is the score of a class before the softmax (Simonyan et al. 2013, section 3), or the largest output of a
        channel over the grid, that of its strongest unit (Zeiler and Fergus 2013, section 2.1).

        Args:
          variables: of the network.
          images: normalised, [N, H, W, C].
          channels: int [N], a channel or class for each image.
        """
        return _of_channel(self.run(variables, images), channels).max(axis=1)

    def place(self, variables: Mapping[str, Any], images: jax.Array, channels: jax.Array) -> jax.Array:
        """Returns the cell of the strongest unit, int32 [N], counted along the rows of the grid; of a class 0."""
        return _of_channel(self.run(variables, images), channels).argmax(axis=1)

    def total(self, variables: Mapping[str, Any], images: jax.Array, channels: jax.Array) -> jax.Array:
        """Returns the class's probability, or the sum of a channel's outputs over the grid, float32 [N].

        Zeiler and Fergus 2013, Fig. 7d and 7b.
        """
        output = self.run(variables, images)
        if self.layer == self.model.layers[-1][0]:
            output = jax.nn.softmax(output.astype(jnp.float32), axis=-1)
        return _of_channel(output, channels).sum(axis=1)

    def split(self, layer: str) -> tuple[Network, Network]:
        """Returns the network up to and with `layer`, and the rest of it, which takes that layer's output.

        Raises:
          UserError: the rest is empty, or does not contain the explained layer.
        """
        names = [name for name, _ in self.model.layers]
        place, end = names.index(layer) + 1, names.index(self.layer) + 1
        if place >= end:
            raise UserError(f"layer={layer!r} must come before {self.layer}, which is explained")
        below = self.model.clone(layers=self.model.layers[:place])
        return below, self.model.clone(layers=self.model.layers[place:end], min_size=1)


def _of_channel(output: jax.Array, channels: jax.Array) -> jax.Array:
    """Returns the outputs of one channel of each image, float32 [N, cells]."""
    cells = output.reshape(len(output), -1, output.shape[-1])
    return jnp.take_along_axis(cells, channels[:, None, None], axis=2)[:, :, 0].astype(jnp.float32)


def check_channels(classifier: Classifier, layer: str, channels: Iterable[int] = ()) -> None:
    """Raises a UserError if a network has no such layer, or the layer has not these channels."""
    check_choice("layer", layer, classifier.end_points)
    count = classifier.end_point_shape(layer)[-1]
    for channel in channels:
        if not 0 <= channel < count:
            raise UserError(f"channel={channel} is not in 0 to {count - 1}, which {layer} has")


@functools.lru_cache(maxsize=16)  # the network is traced
def receptive_field(classifier: Classifier, layer: str) -> ReceptiveField:
    """Returns the receptive field of a cell of a layer.

    Raises:
      UserError: the network has no such layer.
    """
    check_choice("layer", layer, classifier.end_points)
    main, _ = trace.layers(classifier.model, classifier.input_shape)
    return next(each.field for each in main if each.name == layer)


def last_grid(explained: Explained, image_shape: tuple[int, ...]) -> str:
    """Returns the name of the last layer below the explained one with convolutions and more than one cell.

    It is the layer of CAM and Grad-CAM: inception_5b of GoogLeNet, conv5_3 of VGG-D (Selvaraju et al. 2016, section 3,
    https://arxiv.org/abs/1610.02391).

    Raises:
      UserError: there is none.
    """
    main, _ = trace.layers(explained.model, image_shape)
    place = [layer.name for layer in main].index(explained.layer)
    for layer in reversed(main[:place]):
        has_kernels = any(operation.kind == "convolution" for operation in layer.operations)
        if has_kernels and len(layer.output) == 3 and max(layer.output[:2]) > 1:
            return layer.name
    raise UserError(f"no layer before {explained.layer} has a grid of more than one cell")


def mean_weights(rest: Network, variables: Mapping[str, Any], shape: tuple[int, int, int]) -> jax.Array:
    """Returns the weights by which the outputs of a network read the mean of its input, [channels, outputs].

    Args:
      rest: the network.
      variables: of the network.
      shape: (height, width, channels) of its input.

    Raises:
      UserError: it is more than a mean over the whole grid and one linear layer.
    """
    match [(name, part) for name, unit in rest.layers for part in _parts(unit)]:
        case [(_, pool)] if _is_mean(pool, shape[:2]):  # the channels are the classes
            return jnp.eye(shape[-1])
        case [(_, pool), (name, Logits(activation=False) as logits)] if _is_mean(pool, shape[:2]):
            return variables["params"][name][logits.name]["kernel"]
    raise UserError("a class activation map needs a mean over the grid and at most one linear layer; take 'gradcam'")


def _parts(unit: Unit) -> list[Unit]:
    """Returns the units of a chain, without dropout, which does nothing in inference."""
    parts = [part for each in unit.units for part in _parts(each)] if isinstance(unit, Chain) else [unit]
    return [part for part in parts if not isinstance(part, Dropout)]


def _is_mean(unit: Unit, grid: tuple[int, int]) -> bool:
    match unit:
        case GlobalAvgPool() | AverageLogits():
            return True
        case AvgPool(window, padding="VALID"):
            return window >= max(grid)
    return False
