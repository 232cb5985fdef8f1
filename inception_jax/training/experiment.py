"""Builds data, network and steps from a config."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from inception_jax.data.augment import Preprocessing
from inception_jax.data.box_targets import boxes_of
from inception_jax.data.boxes import with_boxes
from inception_jax.data.crops import CropConfig
from inception_jax.data.dataset_stats import blank_stats, training_stats
from inception_jax.data.resident import KeptSource
from inception_jax.data.sources import Source, Subset, check_same_classes, open_source
from inception_jax.errors import UserError, section
from inception_jax.models import create_model, trace
from inception_jax.parallel import AXIS, FAST_COMPILE, DataParallel
from inception_jax.training.optimizers import lr_factor, make_optimizer
from inception_jax.training.schedules import Clock, make_plateau, make_schedule
from inception_jax.training.state import TrainState, create_state
from inception_jax.training.step import make_train_step
from inception_jax.training.tasks import make_task
from inception_jax.weights.files import path_of


class Experiment:
    """Data, network, schedule and train step of a config; none of it changes during training."""

    def __init__(self, config: ConfigDict, parallel: DataParallel):
        """Opens the data and builds the network.

        Raises:
          UserError: the config contradicts itself, the data or the machine.
        """
        self.config = config
        data, train, optimizer = config.data, config.train, config.optimizer
        devices = parallel.device_count
        self.accumulate = _parts(train.batch_size, train.microbatch, devices)
        if data.crop != "central" and data.resize < data.image_size:
            raise UserError(f"config.data.resize={data.resize} is less than config.data.image_size={data.image_size}")
        self.train_source = _source(config, data.train_split)
        self.eval_source = _source(config, data.eval_split)
        check_same_classes(self.train_source, self.eval_source)
        self.class_names = self.train_source.class_names
        cache = data.get("cache", "none")  # the report of an older run reads its config here
        if cache != "none" and data.processes > 0:
            raise UserError(
                f"config.data.processes={data.processes}: each process would keep all images of "
                f"config.data.cache={cache!r}; set it to 0"
            )
        if cache == "memory":
            self.train_source = KeptSource(self.train_source, data.max_pixels)
            self.eval_source = KeptSource(self.eval_source, data.max_pixels)
        with section("config.data"):
            self.crop_config = crop_config_of(data)
            self.preprocessing = Preprocessing(**_fields(Preprocessing, data))
        if self.preprocessing.mixes and (train.batch_size // devices // self.accumulate) % 2:
            raise UserError(
                "config.data.mixup and cutmix mix pairs of images: each device must take an even number at once"
            )
        if self.preprocessing.mixes and train.loss == "map":
            raise UserError("config.train.loss='map' has no mixed labels; set config.data.mixup and cutmix to 0")

        with section("config.model"):
            model = create_model(num_classes=len(self.class_names), **config.model)
        self.model = model.clone(
            batch_norm_axis=AXIS if train.sync_batch_norm else None,
            batch_statistics=False if train.freeze_batch_norm else None,
            recompute=train.recompute if "recompute" in train else "nothing",  # for the report of an older run
        )
        # By layer. This is also the first check that the network works with its image size.
        self.parameters = trace.parameters(self.model, self.image_shape)
        self.multiply_adds = trace.multiply_adds(self.model, self.image_shape)
        heads = [head.name for head in self.model.aux_heads]
        if heads and sorted(heads) != sorted(train.aux_weights):
            raise UserError(
                f"config.train.aux_weights has {', '.join(sorted(train.aux_weights)) or 'no heads'}; "
                f"the network's auxiliary heads are {', '.join(heads)}"
            )
        self.aux_weights = {head: train.aux_weights[head] for head in heads}
        with section("config.train"):
            self.task = make_task(train.loss, train.label_smoothing, self.aux_weights)
        if self.task.boxes:
            _check_boxes((self.train_source, self.eval_source), self.preprocessing)
            if cache == "device":
                raise UserError(
                    "config.data.cache='device' has no boxes for config.train.loss='euclidean'; use 'memory'"
                )
        if self.task.boxes != bool(self.model.boxes):
            outputs = ("classes", "boxes")[bool(self.model.boxes)]
            raise UserError(
                f"config.train.loss={train.loss!r} does not fit the network, which predicts {outputs}: 'euclidean' is "
                "for boxes, see config.model.boxes of the VGGs"
            )

        # Steps in a row that may be skipped because they are not finite.
        self.max_skips = {"stop": 0, "skip": train.max_skips}[train.on_nonfinite]
        self.clock = Clock(train.batch_size, len(self.train_source))
        with section("config.train"):
            self.total_steps = self.clock.total_steps(train.steps, train.epochs, train.examples)
        with section("config.schedule"):
            self.schedule = make_schedule(self.clock, self.total_steps, **config.schedule)
            self.plateau = make_plateau(**config.schedule)
        with section("config.optimizer"):
            self.optimizer = make_optimizer(**optimizer)
        params = trace.abstract_variables(self.model, self.image_shape)["params"]
        names = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for key, patterns in {
            "reinit": config.reinit,
            "optimizer.freeze": optimizer.freeze,
            "optimizer.lr_multipliers": [pattern for pattern, _ in optimizer.lr_multipliers],
            "optimizer.weight_decay_on": optimizer.weight_decay_on if optimizer.weight_decay else (),
        }.items():
            _check_patterns(patterns, names, key)
        if not any(lr_factor(name, optimizer.freeze, optimizer.lr_multipliers) for name in names):
            raise UserError(
                "nothing would be trained: config.optimizer.freeze, or a factor of 0 in "
                "config.optimizer.lr_multipliers, holds every parameter; leave some out"
            )
        self.eval_batch_size = -(-(config.eval.batch_size or train.batch_size) // devices) * devices
        self.batch_norm_sample = self._batch_norm_sample(config.eval.batch_norm_check)

    def _batch_norm_sample(self, wanted: int) -> Subset | None:
        """Chooses training images for the check of batch statistics: whole batches, spread over the split."""
        if not wanted:
            return None
        batches = min(-(-wanted // self.eval_batch_size), len(self.train_source) // self.eval_batch_size)
        if not batches:
            raise UserError(
                f"config.eval.batch_norm_check needs a batch of {self.eval_batch_size} images, and there are "
                f"{len(self.train_source)} to train on; lower config.eval.batch_size"
            )
        places = np.linspace(0, len(self.train_source) - 1, batches * self.eval_batch_size).astype(int)
        # Shuffled, because the images of a folder are sorted by class.
        return Subset(self.train_source, np.random.default_rng(0).permutation(places).tolist())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the network's input."""
        return (self.crop_config.size, self.crop_config.size, self.preprocessing.channels)

    @property
    def name(self) -> str:
        """Title, such as 'googlenet on digits'."""
        return f"{self.config.model.name} on {self.config.data.name}"

    def create_state(self) -> TrainState:
        """Initialises the state from the config's seed; its `dataset_stats` are blank, see `fit_dataset_stats`."""
        # Hundreds of random draws that run only once, so they should compile fast.
        return jax.jit(self._create_state, compiler_options=FAST_COMPILE)()

    def abstract_state(self) -> TrainState:
        """Returns the shapes and dtypes of the state."""
        return jax.eval_shape(self._create_state)

    def _create_state(self) -> TrainState:
        return self.state_from(jax.random.key(self.config.seed))

    def state_from(self, key: jax.Array) -> TrainState:
        """Initialises the state from a random key, which may be traced; its `dataset_stats` are blank."""
        return create_state(
            self.model,
            self.optimizer,
            key,
            self.image_shape,
            ema=bool(self.config.train.ema_decay),
            dataset_stats=blank_stats(self.crop_config.size, **self._dataset_stats_options()),
            plateau=self.plateau.start() if self.plateau else {},
        )

    def evaluates_at(self, step: int) -> bool:
        """Whether the network is evaluated after `step`."""
        return step == self.total_steps or self.clock.due(step, self.config.eval.every)

    @property
    def needs_dataset_stats(self) -> bool:
        """Whether preprocessing needs statistics of the training set."""
        return bool(blank_stats(self.crop_config.size, **self._dataset_stats_options()))

    def fit_dataset_stats(self, say: Callable[[str], None]) -> dict[str, np.ndarray]:
        """Returns the statistics of the training set that preprocessing needs; computes them unless cached."""
        data = self.config.data
        return training_stats(
            self.train_source,
            name=data.name,
            split=data.train_split,
            directory=data.dir,
            crop_config=self.crop_config,
            threads=data.threads,
            say=say,
            **self._dataset_stats_options(),
        )

    def _dataset_stats_options(self) -> dict:
        data = self.config.data
        return {"channels": data.channels, "pca_noise": data.pca_noise > 0, "whitening": data.whitening}

    def train_step(self, details: bool = False, schedule: optax.Schedule | None = None):
        """Returns the training step of one device.

        Args:
          details: see `step.make_train_step`.
          schedule: learning rate by step; None: that of the config.
        """
        train = self.config.train
        return make_train_step(
            self.model,
            self.optimizer,
            schedule or self.schedule,
            self.preprocessing,
            self.task.objective,
            accumulate=self.accumulate,
            ema_decay=train.ema_decay,
            freeze=self.config.optimizer.freeze,
            max_skips=self.max_skips,
            details=details,
        )

    def facts(self, parallel: DataParallel) -> dict[str, int | str]:
        """Returns what config.json says of the network and the data, as 'network'."""
        return {
            "parameters": sum(self.parameters.values()),
            "multiply_adds": sum(self.multiply_adds.values()),
            "total_steps": self.total_steps,
            "train_images": len(self.train_source),
            "device": f"{parallel.device_count} x {jax.devices()[0].device_kind}",
        }

    def inference_metadata(self) -> dict:
        """Returns the metadata of a checkpoint with which its arrays can be used without the config."""
        return {
            "model": self.config.model.to_dict(),
            "class_names": list(self.class_names),
            "preprocessing": dataclasses.asdict(self.preprocessing) | dataclasses.asdict(self.crop_config),
            "total_steps": self.total_steps,  # tells whether a run is finished
        }


def _source(config: ConfigDict, split: str) -> Source:
    """Opens a split; with `data.boxes` only the images that this file has boxes of."""
    data, learns_boxes = config.data, config.train.loss == "euclidean"
    if data.boxes and not learns_boxes:
        raise UserError(f"config.data.boxes={data.boxes!r} is for config.train.loss='euclidean'; leave it empty")
    if learns_boxes and not data.boxes and data.name == "folder":
        raise UserError("config.data.boxes must name the images' boxes: a CSV file or a directory of XML files")
    source = open_source(data.name, split, data.dir)
    return with_boxes(source, data.boxes) if data.boxes else source


def _check_boxes(sources: Sequence[Source], preprocessing: Preprocessing) -> None:
    for name, value in preprocessing.moving.items():
        raise UserError(f"config.data.{name}={value} would move or mix images without their boxes; set it to 0")
    for source in sources:
        boxes_of(source, 0)  # it tells at once if there are none


def crop_config_of(data: Mapping[str, Any]) -> CropConfig:
    """Returns the crops of a config's section 'data'."""
    return CropConfig(**_fields(CropConfig, data, size="image_size"))


def _fields(kind: type, section: Mapping[str, Any], **keys: str) -> dict[str, Any]:
    """The fields of a dataclass from a section of the config; `keys` are those that are not called like the field."""
    values = {field.name: section[keys.get(field.name, field.name)] for field in dataclasses.fields(kind)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _parts(batch_size: int, microbatch: int, devices: int) -> int:
    """Returns the number of microbatches into which each device splits its part of a batch."""
    unit = devices * (microbatch or 1)
    if batch_size % unit:
        what = f"over {devices} devices" + (f" in parts of config.train.microbatch={microbatch}" if microbatch else "")
        raise UserError(
            f"config.train.batch_size={batch_size} does not divide {what}; the next that does is "
            f"{-(-batch_size // unit) * unit}"
        )
    return batch_size // unit if microbatch else 1


def _check_patterns(patterns: Sequence[str], names: Sequence[str], key: str) -> None:
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in names):
            raise UserError(
                f"config.{key}: {pattern!r} matches no parameter; they have names such as {', '.join(names[:3])}"
            )
