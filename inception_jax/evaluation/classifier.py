"""A trained network, ready to use (`training.weights.load` makes one):

classifier = inception_jax.load("/data/googlenet")
probabilities = classifier.predict(["cat.jpg", "dog.jpg"])
pooled = classifier.features(["cat.jpg", "dog.jpg"], "pool5")
"""

import dataclasses
import functools
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import flax
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from inception_jax.data.augment import Preprocessing
from inception_jax.data.decoding import PlainJpeg, array_to_rgb, open_image, read_file, to_rgb
from inception_jax.data.loader import Geometry
from inception_jax.errors import UserError, choose
from inception_jax.models import create_model, options_of
from inception_jax.models.network import Network

Picture = np.ndarray | Image.Image | str | os.PathLike | bytes | BinaryIO


@dataclasses.dataclass(frozen=True, eq=False)  # the same only as itself, so that it can be hashed
class Classifier:
    """A network with its weights, and what was done to images in its training.

    Attributes:
      name: of the network.
      source: the checkpoint or file that the weights are of.
      options: of `create_model`, the name among them.
      variables: 'params', 'batch_stats' and 'statistics' (of the training set, see `Preprocessing`).
      class_names: by class index.
      preprocessing: of cropped images, on the device.
      geometry: of the evaluation crop, on the host.
    """

    name: str
    source: Path
    options: Mapping[str, object]
    variables: Mapping[str, dict]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    geometry: Geometry

    @functools.cached_property
    def model(self) -> Network:
        """The network."""
        return create_model(num_classes=len(self.class_names), **self.options)

    @functools.cached_property
    def dense_model(self) -> Network:
        """The network with its dense layers sliding over images larger than its own (VGG, section 3.2).

        Raises:
          UserError: they see a grid of one size only.
        """
        options = dict(self.options)
        if "dense_window" in options_of(self.name) and options.get("dense_window") is None:
            options["dense_window"] = self.geometry.size // 32  # VGG's last grid, of which fc6 sees all in training
        model = create_model(num_classes=len(self.class_names), **options)
        side = self.geometry.size + self.geometry.size // 2
        try:
            jax.eval_shape(lambda: model.apply(self.variables, jnp.zeros((1, side, side, self.preprocessing.channels))))
        except flax.errors.ScopeParamShapeError:
            raise UserError(
                f"protocol 'dense' does not work with {self.name}: its dense layers see a grid of one size"
            ) from None
        return model

    @functools.cached_property
    def fingerprint(self) -> str:
        """A text that is another one where the weights are others."""
        leaves = jax.tree_util.tree_leaves_with_path(self.variables)
        checksum = 0
        for path, leaf in leaves:
            checksum = zlib.crc32(jax.tree_util.keystr(path).encode(), checksum)
            checksum = zlib.crc32(np.ascontiguousarray(leaf), checksum)
        return f"{checksum:08x}"

    @functools.cached_property
    def end_points(self) -> tuple[str, ...]:
        """Names of the layers, which `features` takes."""
        return tuple(name for name, _ in self.model.layers)

    def predict(self, images: Picture | Iterable[Picture], batch_size: int = 32) -> np.ndarray:
        """Classifies images by the network's evaluation crop.

        Args:
          images: of any sizes, or a single one. An image is a path, the content of a file as bytes or as a file object,
            a PIL image, or an array: uint8, uint16 or bool, [H, W] or [H, W, 1 to 4]. All are converted alike, see
            `decoding.to_rgb`.
          batch_size: images that the network sees at once.

        Returns:
          Probabilities, float32 [N, K]; N is 1 for a single image.

        Raises:
          UserError: there is something that is no image, or the batch size is less than 1.
          DamagedImage: a file is not there, or an image cannot be decoded.
        """
        logits = [self.run(crops, self.end_points[-1])[0][:n] for crops, n in self._batches(images, batch_size)]
        return softmax(np.concatenate(logits)) if logits else np.zeros((0, len(self.class_names)), np.float32)

    def features(self, images: Picture | Iterable[Picture], end_point: str, batch_size: int = 32) -> np.ndarray:
        """The output of a layer for the evaluation crop of images, float32 [N, ...]; arguments as `predict`.

        Raises:
          UserError: there is no such layer; and as `predict`.
          DamagedImage: as `predict`.
        """
        choose("end point", end_point, dict.fromkeys(self.end_points))
        outputs = [self.run(crops, end_point)[0][:n] for crops, n in self._batches(images, batch_size)]
        return np.concatenate(outputs) if outputs else np.zeros((0,), np.float32)

    def run(self, crops: np.ndarray, *end_points: str) -> list[np.ndarray]:
        """The outputs of layers for crops, uint8 [N, size, size, 3], from one pass; float32.

        Those of the last layer are the logits; layers that none of them needs are not computed. Each N with each choice
        of layers is compiled.
        """
        return [np.asarray(output) for output in self._apply(end_points)(self._on_device, crops)]

    @functools.cached_property
    def _on_device(self) -> dict:
        return jax.device_put(self.variables)

    @functools.cache  # noqa: B019 (a classifier lives as long as its process)
    def _apply(self, names: tuple[str, ...]):
        def apply(variables, images):
            images = self.preprocessing.evaluate(images, variables["statistics"])
            _, end_points = self.model.apply(variables, images)
            return [end_points[name].astype(jnp.float32) for name in names]

        return jax.jit(apply)

    def crop(self, image: np.ndarray | PlainJpeg) -> np.ndarray:
        """The evaluation crop of a decoded image, uint8 [size, size, 3]."""
        out = np.empty((self.geometry.size, self.geometry.size, 3), np.uint8)
        self.geometry.eval_crop(image, out)
        return out

    def _batches(self, images: Picture | Iterable[Picture], batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size} must be 1 or more")
        crops = []
        for place, image in enumerate([images] if _is_one(images) else images):
            crops.append(self.crop(read_picture(image, self.geometry.max_pixels, f"images[{place}]")))
            if len(crops) == batch_size:
                yield np.stack(crops), batch_size
                crops = []
        if crops:
            count = len(crops)
            yield np.stack(crops + crops[:1] * (batch_size - count)), count


_PATHS = str | os.PathLike
_BYTES = bytes | bytearray | memoryview


def _is_one(images: Picture | Iterable[Picture]) -> bool:
    """Whether it is a single image: a string is a path and not its letters, a file an image and not its lines."""
    if hasattr(images, "__array__"):
        return np.ndim(images) < 4
    return isinstance(images, _PATHS | _BYTES) or hasattr(images, "read") or not isinstance(images, Iterable)


def read_picture(image: Picture, max_pixels: int, name: str) -> np.ndarray | PlainJpeg:
    """Reads what `Classifier.predict` takes, decoded no further than needed.

    Args:
      image: see there.
      max_pixels: a file of more pixels counts as damaged.
      name: what to call the image in an error, if it has no path.

    Raises:
      UserError: it is no image.
      DamagedImage: there is no such file, or it cannot be decoded.
    """
    if isinstance(image, Image.Image):
        return to_rgb(image, getattr(image, "filename", "") or name)
    if hasattr(image, "__array__"):
        return array_to_rgb(np.asarray(image), name)
    if isinstance(image, _PATHS):
        return open_image(read_file(image, str(image)), str(image), max_pixels)
    if hasattr(image, "read"):
        image, name = image.read(), getattr(image, "name", name)
    if not isinstance(image, _BYTES):
        raise UserError(f"{name} is a {type(image).__name__}, which is no image: give an array, a PIL image or a path")
    return open_image(bytes(image), str(name), max_pixels)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last dimension, in float32."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
