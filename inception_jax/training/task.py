"""What a config means."""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from inception_jax.data import loader
from inception_jax.data.augment import Preprocessing
from inception_jax.data.sources import Subset, check_same_classes, open_source
from inception_jax.data.statistics import blank_statistics, training_statistics
from inception_jax.errors import UserError
from inception_jax.models import create_model, summary
from inception_jax.training.losses import make_loss
from inception_jax.training.optimizers import lr_factor, make_optimizer, path_of
from inception_jax.training.parallelism import AXIS, HASTY, DataParallel
from inception_jax.training.schedules import Clock, make_plateau, make_schedule
from inception_jax.training.state import TrainState, create_state
from inception_jax.training.step import make_train_step


class Task:
    """What a config means: data, network, length of training, steps. Nothing here changes in training."""

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
        self.train_source = open_source(data.name, data.train_split, data.dir)
        self.eval_source = open_source(data.name, data.eval_split, data.dir)
        check_same_classes(self.train_source, self.eval_source)
        self.class_names = self.train_source.class_names
        self.geometry = loader.Geometry(
            size=data.image_size,
            resize=data.resize,
            area=tuple(data.area),
            aspect=tuple(data.aspect),
            crop=data.crop,
            scale=tuple(data.scale),
            interpolation=data.interpolation,
            max_pixels=data.max_pixels,
        )
        self.preprocessing = Preprocessing(
            mean=tuple(data.mean),
            std=tuple(data.std),
            flip=data.flip,
            channels=data.channels,
            randaugment=data.randaugment,
            randaugment_magnitude=data.randaugment_magnitude,
            photometric=data.photometric,
            photometric_strength=data.photometric_strength,
            pca_noise=data.pca_noise,
            whitening=data.whitening,
            shift=data.shift,
            mixup=data.mixup,
            cutmix=data.cutmix,
        )
        self.loss = make_loss(train.loss, train.label_smoothing)
        if self.preprocessing.mixes and (train.batch_size // devices // self.accumulate) % 2:
            raise UserError(
                "config.data.mixup and cutmix mix pairs of images: each device must take an even number at once"
            )
        if self.preprocessing.mixes and train.loss == "map":
            raise UserError("config.train.loss='map' has no mixed labels; set config.data.mixup and cutmix to 0")

        model = create_model(num_classes=len(self.class_names), **config.model)
        self.model = model.clone(
            batch_norm_axis=AXIS if train.sync_batch_norm else None,
            batch_statistics=False if train.freeze_batch_norm else None,
        )
        # By layer; also the first time that the network meets its image size.
        self.parameters = summary.parameters(self.model, self.image_shape)
        self.multiply_adds = summary.multiply_adds(self.model, self.image_shape)
        heads = [head.name for head in self.model.aux_heads]
        if heads and sorted(heads) != sorted(train.aux_weights):
            raise UserError(
                f"config.train.aux_weights has {', '.join(sorted(train.aux_weights)) or 'no heads'}; "
                f"the network's auxiliary heads are {', '.join(heads)}"
            )
        self.aux_weights = {head: train.aux_weights[head] for head in heads}

        self.clock = Clock(train.batch_size, len(self.train_source))
        self.total_steps = self.clock.total_steps(train.steps, train.epochs, train.examples)
        self.schedule = make_schedule(self.clock, self.total_steps, **config.schedule)
        self.plateau = make_plateau(**config.schedule)
        self.optimizer = functools.partial(make_optimizer, **config.optimizer)
        self.optimizer(0.0)  # raises what there is to raise
        params = summary.abstract_variables(self.model, self.image_shape)["params"]
        names = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for key, patterns in {
            "init_new": config.init_new,
            "optimizer.freeze": optimizer.freeze,
            "optimizer.lr_multipliers": [pattern for pattern, _ in optimizer.lr_multipliers],
            "optimizer.weight_decay_on": optimizer.weight_decay_on if optimizer.weight_decay else (),
        }.items():
            _check_patterns(patterns, names, key)
        if not any(lr_factor(n, freeze=optimizer.freeze, lr_multipliers=optimizer.lr_multipliers) for n in names):
            raise UserError(
                "nothing would be trained: config.optimizer.freeze, or a factor of 0 in "
                "config.optimizer.lr_multipliers, holds every parameter; leave some out"
            )
        self.eval_batch_size = -(-(config.eval.batch_size or train.batch_size) // devices) * devices
        self.batch_norm_sample = self._batch_norm_sample(config.eval.batch_norm_check)

    def _batch_norm_sample(self, wanted: int) -> Subset | None:
        """Training images for the check of batch statistics, spread over the split, in whole batches."""
        if not wanted:
            return None
        batches = min(-(-wanted // self.eval_batch_size), len(self.train_source) // self.eval_batch_size)
        if not batches:
            raise UserError(
                f"config.eval.batch_norm_check needs a batch of {self.eval_batch_size} images, and there are "
                f"{len(self.train_source)} to train on; lower config.eval.batch_size"
            )
        places = np.linspace(0, len(self.train_source) - 1, batches * self.eval_batch_size).astype(int)
        # Batches of all classes, though the images of a folder come sorted by class.
        return Subset(self.train_source, np.random.default_rng(0).permutation(places).tolist())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the network's input."""
        return (self.geometry.size, self.geometry.size, self.preprocessing.channels)

    @property
    def name(self) -> str:
        """For titles: 'googlenet on digits'."""
        return f"{self.config.model.name} on {self.config.data.name}"

    def create_state(self) -> TrainState:
        """Initialises the state from the config's seed; `statistics` are blank, see `fit_statistics`."""
        average = bool(self.config.train.average_decay)
        # Hundreds of random draws that run once.
        init = jax.jit(create_state, static_argnums=(0, 1, 3, 4), compiler_options=HASTY)
        state = init(self.model, self.optimizer(0.0), jax.random.key(self.config.seed), self.image_shape, average)
        blank = blank_statistics(self.geometry.size, **self._statistics_options())
        return state.replace(statistics=blank, plateau=self.plateau.start() if self.plateau else {})

    def fit_statistics(self, say: Callable[[str], None]) -> dict[str, np.ndarray]:
        """The statistics of the training set that the preprocessing needs, from a cache or computed now."""
        data = self.config.data
        return training_statistics(
            self.train_source,
            name=data.name,
            split=data.train_split,
            directory=data.dir,
            geometry=self.geometry,
            threads=data.threads,
            say=say,
            **self._statistics_options(),
        )

    def _statistics_options(self) -> dict:
        data = self.config.data
        return {"channels": data.channels, "pca_noise": data.pca_noise > 0, "whitening": data.whitening}

    def train_step(self):
        """The training step of one device."""
        train = self.config.train
        return make_train_step(
            self.model,
            self.optimizer,
            self.schedule,
            self.preprocessing,
            self.loss,
            aux_weights=self.aux_weights,
            accumulate=self.accumulate,
            average_decay=train.average_decay,
            freeze=self.config.optimizer.freeze,
        )

    def inference_facts(self) -> dict:
        """What a checkpoint must say besides its arrays, so that it can be used without the config."""
        return {
            "model": self.config.model.to_dict(),
            "class_names": list(self.class_names),
            "preprocessing": dataclasses.asdict(self.preprocessing) | dataclasses.asdict(self.geometry),
            "total_steps": self.total_steps,  # tells a run that goes on from one at its end
        }


def _parts(batch_size: int, microbatch: int, devices: int) -> int:
    """Number of parts in which each device takes its share of a batch."""
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
                f"config.{key}: {pattern!r} fits no parameter; they have names such as {', '.join(names[:3])}"
            )
