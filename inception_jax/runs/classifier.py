"""Trained networks, ready to use.

classifier = inception_jax.load("/data/googlenet")
probabilities = classifier.predict(["cat.jpg", "dog.jpg"])
pooled = classifier.features(["cat.jpg", "dog.jpg"], "pool5")
"""

import dataclasses
import functools
import math
import os
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import flax
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from inception_jax.data.augment import Preprocessing
from inception_jax.data.crops import CropConfig
from inception_jax.data.decoding import PlainJpeg, array_to_rgb, open_image, read_file, to_rgb
from inception_jax.errors import UserError, check_choice
from inception_jax.models import create_model, options_of
from inception_jax.models.network import Network
from inception_jax.names import readable, text_of
from inception_jax.parallel import REPLICATED, SPLIT, DataParallel
from inception_jax.paths import AnyPath, is_bucket, local_copy, to_path, written
from inception_jax.runs.checkpoints import DamagedCheckpoint, best_first, read_metadata, read_weights, steps_in
from inception_jax.runs.renamed import MISSING_FIELDS, STATE_FIELDS, current_config
from inception_jax.runs.run import Run
from inception_jax.weights import files, formats
from inception_jax.weights.export import archive
from inception_jax.weights.sources import catalogue, importing

Picture = np.ndarray | Image.Image | str | os.PathLike | bytes | BinaryIO
_POLL_SECONDS = 10.0


@dataclasses.dataclass(frozen=True, eq=False)  # equal only to itself, so that it can be hashed
class Classifier:
    """A network with its weights, and the preprocessing of its training.

    Attributes:
      name: name of the network.
      source: checkpoint or file that the weights were read from.
      options: arguments of `create_model`, the name among them.
      variables: 'params', 'batch_stats' and 'dataset_stats' (of the training set, see `Preprocessing`).
      class_names: names by class index.
      preprocessing: what is done to cropped images, on the device.
      crop_config: the evaluation crop, made on the host.
    """

    name: str
    source: AnyPath
    options: Mapping[str, Any]
    variables: Mapping[str, dict]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    crop_config: CropConfig

    @property
    def workdir(self) -> AnyPath:
        """Run directory that holds the checkpoint; of a file of weights the folder that it is in."""
        return workdir_of(self.source)

    @property
    def title(self) -> str:
        """Run and checkpoint for a table: 'googlenet_0/120000'."""
        return readable(text_of(f"{self.workdir.name}/{self.source.name}"))

    @property
    def metadata(self) -> dict[str, Any]:
        """What is needed to use the weights: network, preprocessing and class names, as JSON."""
        return {
            "model": dict(self.options),
            "class_names": list(self.class_names),
            "preprocessing": dataclasses.asdict(self.preprocessing) | dataclasses.asdict(self.crop_config),
        }

    @functools.cached_property
    def model(self) -> Network:
        """The network."""
        return create_model(num_classes=len(self.class_names), **self.options)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the network's input."""
        return (self.crop_config.size, self.crop_config.size, self.preprocessing.channels)

    @functools.cached_property
    def dense_model(self) -> Network:
        """The network with its dense layers sliding over images larger than its input (VGG, section 3.2).

        Raises:
          UserError: its dense layers see a grid of one size only.
        """
        options = dict(self.options)
        if "dense_window" in options_of(self.name) and options.get("dense_window") is None:
            options["dense_window"] = self.crop_config.size // 32  # VGG's last grid, of which fc6 sees all in training
        model = create_model(num_classes=len(self.class_names), **options)
        side = self.crop_config.size + self.crop_config.size // 2
        try:
            jax.eval_shape(lambda: model.apply(self.variables, jnp.zeros((1, side, side, self.preprocessing.channels))))
        except flax.errors.ScopeParamShapeError:
            raise UserError(
                f"protocol='dense' does not work with {self.name}: its dense layers see a grid of one size"
            ) from None
        return model

    @functools.cached_property
    def fingerprint(self) -> str:
        """A string that changes when the weights change."""
        leaves = jax.tree_util.tree_leaves_with_path(self.variables)
        checksum = 0
        for path, leaf in leaves:
            checksum = zlib.crc32(jax.tree_util.keystr(path).encode(), checksum)
            checksum = zlib.crc32(np.ascontiguousarray(leaf), checksum)  # type: ignore[arg-type]  # an array is a buffer
        return f"{checksum:08x}"

    @functools.cached_property
    def end_points(self) -> tuple[str, ...]:
        """Names of the layers that `features` takes, from first to last; the last one gives the logits."""
        return tuple(name for name, _ in self.model.layers)

    def predict(self, images: Picture | Iterable[Picture], batch_size: int = 32) -> np.ndarray:
        """Classifies images by the network's evaluation crop.

        Args:
          images: one image or several, of any sizes. An image is a path, the content of a file as bytes or as a file
            object, a PIL image, or an array: uint8, uint16 or bool, [H, W] or [H, W, 1 to 4]. All are converted to
            upright RGB alike, see `decoding.to_rgb`.
          batch_size: number of images in one forward pass.

        Returns:
          Probabilities, float32 [N, K]; N is 1 for a single image.

        Raises:
          UserError: something is no image, or the batch size is less than 1.
          DamagedImage: a file is missing, or an image cannot be decoded.
        """
        logits = [self.run(crops, self.end_points[-1])[0][:n] for crops, n in self.batches(images, batch_size)]
        return softmax(np.concatenate(logits)) if logits else np.zeros((0, len(self.class_names)), np.float32)

    def features(self, images: Picture | Iterable[Picture], end_point: str, batch_size: int = 32) -> np.ndarray:
        """Returns the output of a layer for the evaluation crops of images, float32 [N, ...].

        Args:
          images: see `predict`.
          end_point: name of the layer, one of `end_points`.
          batch_size: number of images in one forward pass.

        Raises:
          UserError: the network has no such layer; and as `predict`.
          DamagedImage: as `predict`.
        """
        check_choice("end_point", end_point, self.end_points)
        outputs = [self.run(crops, end_point)[0][:n] for crops, n in self.batches(images, batch_size)]
        return np.concatenate(outputs) if outputs else np.zeros((0,), np.float32)

    def run(self, crops: np.ndarray, *end_points: str) -> list[np.ndarray]:
        """Returns the outputs of layers for crops from one forward pass, float32 each.

        Layers that none of them needs are not computed. Each number of crops with each choice of layers is compiled.

        Args:
          crops: uint8 [N, size, size, 3], see `crop`.
          *end_points: names of layers; the last layer of the network gives the logits.
        """
        return self.begin(crops, *end_points)()

    def begin(self, crops: np.ndarray, *end_points: str) -> Callable[[], list[np.ndarray]]:
        """Starts what `run` computes, on all devices of this process; returns a function that waits for the result."""
        return self.begin_mapped(self._apply(end_points), crops)

    def begin_mapped(
        self, program: Callable, *arrays: np.ndarray, variables: Mapping[str, dict] | None = None
    ) -> Callable[[], Any]:
        """Starts a program on all devices of this process; returns a function that waits for its NumPy results.

        Args:
          program: made by `parallel.map`, of the variables and of arrays that are split over the devices, as its
            results are.
          *arrays: of as many examples each; copies of the first one fill up the last device.
          variables: in place of the network's own.
        """
        count = len(arrays[0])
        padding = -count % self.parallel.device_count
        if padding:
            arrays = tuple(np.concatenate([array, np.repeat(array[:1], padding, axis=0)]) for array in arrays)
        placed = self._on_devices if variables is None else self.parallel.replicate(variables)
        outputs = program(placed, *jax.device_put(arrays, self.parallel.split))
        return lambda: jax.tree.map(lambda output: np.asarray(output)[:count], outputs)

    @functools.cached_property
    def parallel(self) -> DataParallel:
        """The devices of this process."""
        return DataParallel(devices=jax.local_devices())

    @functools.cached_property
    def _on_devices(self) -> dict:
        return self.parallel.replicate(self.variables)

    @functools.cache  # noqa: B019 (a classifier lives as long as its process)
    def _apply(self, names: tuple[str, ...]):
        def apply(variables, images):
            images = self.preprocessing.evaluate(images, variables["dataset_stats"])
            _, end_points = self.model.apply(variables, images)
            return [end_points[name].astype(jnp.float32) for name in names]

        return self.parallel.map(apply, (REPLICATED, SPLIT), SPLIT)

    def end_point_shape(self, end_point: str) -> tuple[int, ...]:
        """Returns the shape of a layer's output for one image."""
        size = self.crop_config.size
        crops = jax.ShapeDtypeStruct((self.parallel.device_count, size, size, 3), np.uint8)
        return jax.eval_shape(self._apply((end_point,)), self.variables, crops)[0].shape[1:]

    def crop(self, image: np.ndarray | PlainJpeg) -> np.ndarray:
        """Returns the evaluation crop of a decoded image, uint8 [size, size, 3]."""
        out = np.empty((self.crop_config.size, self.crop_config.size, 3), np.uint8)
        self.crop_config.eval_crop(image, out)
        return out

    def resized(self, size: int | None = None, resize: int | None = None) -> "Classifier":
        """Returns a classifier with the same weights that sees images of another size.

        Args:
          size: height and width of the network's input in pixels; None keeps it.
          resize: shorter side of the image before the crop; None keeps its ratio to `size`. All other lengths change in
            proportion to `size`.
        """
        own = self.crop_config
        size = size or own.size
        resize = resize or math.floor(own.resize * size / own.size)
        if (size, resize) == (own.size, own.resize):
            return self
        low, high = (math.ceil(side * size / own.size) for side in own.scale)
        config = dataclasses.replace(own, size=size, resize=resize, scale=(low, high))
        return dataclasses.replace(self, crop_config=config)

    def save(self, file: str | os.PathLike) -> int:
        """Writes the weights to one .npz file, which `load` and another run can start from.

        The arrays have names such as 'params/inception_4a/conv1x1/kernel'. 'metadata' is a JSON text: network,
        preprocessing and class names.

        Returns:
          The number of arrays.

        Raises:
          UserError: the file cannot be written.
        """
        with written(to_path(file)) as local:
            return files.write(local, self.variables, self.metadata)

    def batches(self, images: Any, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
        """Yields the evaluation crops of images in batches, uint8 [batch_size, size, size, 3].

        The last batch is filled up with copies of its first crop; the number of images comes with each.

        Args:
          images: see `predict`.
          batch_size: number of images in each batch.

        Raises:
          UserError, DamagedImage: as `predict`.
        """
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size} must be 1 or more")
        crops = []
        for place, image in enumerate([images] if _is_one(images) else images):
            crops.append(self.crop(read_picture(image, self.crop_config.max_pixels, f"images[{place}]")))
            if len(crops) == batch_size:
                yield np.stack(crops), batch_size
                crops = []
        if crops:
            count = len(crops)
            yield np.stack(crops + crops[:1] * (batch_size - count)), count


_PATHS = str | os.PathLike
_BYTES = bytes | bytearray | memoryview


def _is_one(images: Any) -> bool:
    """Whether it is a single image: a string is a path and not its letters, a file an image and not its lines."""
    if hasattr(images, "__array__"):
        return np.ndim(images) < 4
    return isinstance(images, _PATHS | _BYTES) or hasattr(images, "read") or not isinstance(images, Iterable)


def read_picture(image: Picture, max_pixels: int, name: str) -> np.ndarray | PlainJpeg:
    """Reads an image, decoded no further than needed.

    Args:
      image: see `Classifier.predict`.
      max_pixels: a file of more pixels counts as damaged.
      name: name of the image in errors, if it has no path.

    Raises:
      UserError: it is no image.
      DamagedImage: the file is missing, or it cannot be decoded.
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
    """Returns the softmax over the last dimension, in float32."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def load(
    path: str | os.PathLike, checkpoint: str = "best", weights: str = "", warn: Callable[[str], None] = warnings.warn
) -> Classifier:
    """Loads a trained network that names classes.

    Args:
      path: a workdir of training, one of its checkpoints, a file of weights (`Classifier.save`), a file of a known
        publisher, or its name: 'timm/inception_v3.tf_in1k' (`weights.sources.catalogue`), which is fetched once.
      checkpoint: of a workdir: 'best' (highest top-1), 'last' or a step; see `read_checkpoint`.
      weights: 'ema', the moving averages, or 'raw', the latest weights; '': the averages if the run kept them.
      warn: called with one line if a checkpoint is damaged and another one is taken.

    Raises:
      UserError: nothing is found there, it is damaged, or the network predicts boxes.
    """
    classifier = load_network(path, checkpoint, weights, warn)
    if classifier.model.boxes:
        raise UserError(f"{path} is a network that predicts boxes, and names no classes")
    return classifier


def load_network(
    path: str | os.PathLike, checkpoint: str = "best", weights: str = "", warn: Callable[[str], None] = warnings.warn
) -> Classifier:
    """Loads a trained network, as `load` does, also one that predicts boxes: then only `run` and `features` fit."""
    source = _published(path)
    place = source.fetch() if source else _existing(path)
    if place.is_dir():
        variables, metadata, place = read_checkpoint(place, checkpoint, weights, warn)
        return _classifier(variables, metadata["inference"], place)
    with local_copy(place) as file:
        return dataclasses.replace(_of_file(file, source, weights), source=place)


def _of_file(place: Path, source: catalogue.Source | None, weights: str) -> Classifier:
    """Returns a classifier of a file of weights, written by `Classifier.save` or by a publisher."""
    if weights:
        raise UserError(f"weights={weights!r} is for workdirs; {place} holds one kind of weights")
    if not source and not files.is_ours(place) and (found := archive.read(formats.read(place))):
        return _classifier(*found, place)
    if source or not files.is_ours(place):
        return imported(importing.read(place, source), place)
    variables, metadata = files.read(place)
    if not metadata:
        raise UserError(f"{place} does not say which network its weights belong to; export it again")
    return _classifier(variables, metadata, place)


def imported(weights: importing.Imported, file: Path) -> Classifier:
    """Returns a classifier of published weights, with their publisher's preprocessing."""
    data = weights.source.data | {"size": weights.source.image_size, "flip": True, "area": (0.08, 1.0)}
    metadata = {
        "model": weights.options,
        "class_names": weights.class_names,
        "preprocessing": data | {"aspect": (3 / 4, 4 / 3), "scale": (weights.source.resize,) * 2},
    }
    return _classifier(weights.variables, metadata, file)


def _published(path: str | os.PathLike) -> catalogue.Source | None:
    """Returns the published file of this name, unless a file or directory has it."""
    if is_bucket(path) or Path(os.path.expanduser(path)).exists():
        return None
    return catalogue.sources().get(os.fspath(path))


def load_each(
    workdir: str | os.PathLike,
    weights: str = "",
    follow: bool = False,
    warn: Callable[[str], None] = warnings.warn,
) -> Iterator[Classifier]:
    """Loads every checkpoint of a workdir in turn, the first step first.

    A damaged checkpoint is skipped with a warning, and with `follow` one that training has removed meanwhile too.

    Args:
      workdir: of a run.
      weights: see `load`.
      follow: whether to wait for the checkpoints to come, until the run has ended.
      warn: called with one line for each checkpoint that is skipped.

    Raises:
      UserError: no checkpoint can be loaded.
    """
    workdir, error, loaded = _existing(workdir), None, False
    for step in _steps(workdir, follow):
        try:
            classifier = load(workdir, str(step), weights, warn)
        except UserError as reason:
            if not (follow or isinstance(reason, DamagedCheckpoint)):
                raise
            error = error or reason
            warn(f"checkpoint {step} is skipped: {reason}")
            continue
        loaded = True
        yield classifier
    if not loaded:
        raise error or UserError(f"{workdir} has no checkpoints")


def _steps(workdir: AnyPath, follow: bool) -> Iterator[int]:
    """Steps of the checkpoints in order; with `follow` also those that training adds until its end."""
    seen: set[int] = set()
    while True:
        steps = steps_in(workdir)
        yield from (step for step in steps if step not in seen)
        seen.update(steps)
        if not follow or (steps and steps[-1] >= (Run.read(workdir, metrics_bytes=0).total_steps or 0)):
            return
        time.sleep(_POLL_SECONDS)


def load_weights(path: str | os.PathLike, warn: Callable[[str], None] = warnings.warn) -> dict[str, np.ndarray]:
    """Reads weights by names such as 'params/inception_4a/conv1x1/kernel' and 'batch_stats/...'.

    Args:
      path: a workdir (its best checkpoint), a checkpoint (WORKDIR/checkpoints/STEP), or a file of weights, also a
        published one or its name, see `load`. Moving averages are taken if the run kept them.
      warn: see `load`.

    Raises:
      UserError: it is none of these, or damaged.
    """
    source = _published(path)
    place = source.fetch() if source else _existing(path)
    if place.is_dir():
        variables = read_checkpoint(place, warn=warn)[0]
    else:
        with local_copy(place) as file:
            variables = _variables_of_file(file, source)
    return files.flatten({part: variables.get(part, {}) for part in ("params", "batch_stats")})


def _variables_of_file(place: Path, source: catalogue.Source | None) -> dict[str, dict]:
    if not source and not files.is_ours(place) and (found := archive.read(formats.read(place))):
        return found[0]
    if source or not files.is_ours(place):
        return importing.read(place, source).variables
    return files.read(place)[0]


def read_checkpoint(
    path: AnyPath, checkpoint: str = "best", weights: str = "", warn: Callable[[str], None] = warnings.warn
) -> tuple[dict, dict, AnyPath]:
    """Reads what inference needs from a checkpoint of a workdir.

    If the best or the last checkpoint is damaged, the next one takes its place, as in training.

    Args:
      path: a workdir, or a checkpoint itself.
      checkpoint: 'best' (highest top-1; the last, if none was evaluated), 'last', or a step.
      weights: see `checkpoints.read_weights`.
      warn: called with one line if a damaged checkpoint was skipped.

    Returns:
      Variables and metadata, see `checkpoints.read_weights`, and the directory of the checkpoint.

    Raises:
      UserError: no such checkpoint exists, all are damaged, or the path is not UTF-8.
    """
    to_path(path)  # checks it
    if (path / "state").is_dir():
        return *read_weights(path, weights), path
    steps = steps_in(path)
    if not steps:
        raise UserError(f"{path} is neither a workdir with checkpoints nor a checkpoint nor a file of weights")
    if checkpoint.isdecimal() and int(checkpoint) in steps:
        directory = path / "checkpoints" / str(int(checkpoint))
        return *read_weights(directory, weights), directory
    if checkpoint not in ("best", "last"):
        choices = ", ".join(map(str, ("best", "last", *steps)))
        raise UserError(f"checkpoint={checkpoint!r} is not in {path}, which has {choices}")
    steps.reverse()
    damaged: list[DamagedCheckpoint] = []
    if checkpoint == "best":
        metrics = {}
        for step in steps:
            try:
                metrics[step] = read_metadata(path / "checkpoints" / str(step))["metrics"]
            except DamagedCheckpoint as error:
                damaged.append(error)
        steps = best_first(metrics)
    for step in steps:
        directory = path / "checkpoints" / str(step)
        try:
            found = *read_weights(directory, weights), directory
        except DamagedCheckpoint as error:
            damaged.append(error)
            continue
        if damaged:
            warn(f"{damaged[0]}; checkpoint {step} takes its place")
        return found
    raise damaged[0]


def workdir_of(path: str | os.PathLike) -> AnyPath:
    """Returns the run directory of a workdir (itself), of a checkpoint in it or of a file of weights in it.

    Raises:
      UserError: the path does not exist.
    """
    path = to_path(path)
    if path.parent.name == "checkpoints":  # may have been removed by training meanwhile
        return path.parent.parent
    return path if _existing(path).is_dir() else path.parent


def _existing(path: str | os.PathLike) -> AnyPath:
    place = to_path(path) if is_bucket(path) else Path(os.path.expanduser(path))
    if not place.exists():
        raise UserError(f"{place} does not exist")
    if not (place.is_file() or place.is_dir()):  # such as a pipe, which may never end
        raise UserError(f"{place} is neither a file nor a directory")
    return place


def _classifier(variables: Mapping[str, dict], metadata: Mapping[str, Any], source: AnyPath) -> Classifier:
    """A classifier of what a checkpoint or a file holds, also of version 0.1."""
    current = {STATE_FIELDS.get(part, part): tree for part, tree in variables.items()}
    options = current_config({"model": metadata["model"]})["model"]
    return Classifier(
        name=options["name"],
        source=source,
        options=options,
        variables={part: current.get(part, {}) for part in ("params", "batch_stats", "dataset_stats")},
        class_names=tuple(map(readable, metadata["class_names"])),
        preprocessing=_from(Preprocessing, metadata["preprocessing"]),
        crop_config=_from(CropConfig, metadata["preprocessing"]),
    )


def _from(kind: type, values: Mapping[str, Any]):
    """An instance of the dataclass, from the entries of `values` (JSON) that are its fields."""
    fields, values = {field.name for field in dataclasses.fields(kind)}, MISSING_FIELDS | dict(values)
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in fields})
