"""What a config means."""

import dataclasses

import jax
from ml_collections import ConfigDict

from inception_jax.data import loader
from inception_jax.data.augment import Preprocessing
from inception_jax.data.sources import check_same_classes, open_source
from inception_jax.errors import UserError
from inception_jax.models import create_model, summary
from inception_jax.training.optimizers import make_optimizer
from inception_jax.training.parallelism import AXIS, DataParallel
from inception_jax.training.schedules import Clock, make_schedule
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
        data, train = config.data, config.train
        devices = parallel.device_count
        parts = devices * train.accumulate
        if train.batch_size % parts:
            raise UserError(
                f"config.train.batch_size={train.batch_size} does not divide over {devices} devices "
                f"(times config.train.accumulate={train.accumulate}); the next that does is "
                f"{-(-train.batch_size // parts) * parts}"
            )
        if data.resize < data.image_size:
            raise UserError(f"config.data.resize={data.resize} is less than config.data.image_size={data.image_size}")
        self.train_source = open_source(data.name, data.train_split, data.dir)
        self.eval_source = open_source(data.name, data.eval_split, data.dir)
        check_same_classes(self.train_source, self.eval_source)
        self.class_names = self.train_source.class_names
        self.geometry = loader.Geometry(data.image_size, data.resize, tuple(data.area), tuple(data.aspect))
        self.preprocessing = Preprocessing(tuple(data.mean), tuple(data.std), data.flip)

        model = create_model(num_classes=len(self.class_names), **config.model)
        self.model = model.clone(batch_norm_axis=AXIS if train.sync_batch_norm else None)
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
        self.optimizer = make_optimizer(self.schedule, **config.optimizer)
        self.eval_batch_size = -(-(config.eval.batch_size or train.batch_size) // devices) * devices

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the network's input."""
        return (self.geometry.size, self.geometry.size, 3)

    @property
    def name(self) -> str:
        """For titles: 'googlenet on digits'."""
        return f"{self.config.model.name} on {self.config.data.name}"

    def create_state(self) -> TrainState:
        """Initialises the state from the config's seed."""
        average = bool(self.config.train.average_decay)
        # Hundreds of random draws that run once: compiling them without optimization is four times faster.
        hasty = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
        init = jax.jit(create_state, static_argnums=(0, 1, 3, 4), compiler_options=hasty)
        return init(self.model, self.optimizer, jax.random.key(self.config.seed), self.image_shape, average)

    def train_step(self):
        """The training step of one device."""
        train = self.config.train
        return make_train_step(
            self.model,
            self.optimizer,
            self.schedule,
            self.preprocessing,
            seed=self.config.seed,
            aux_weights=self.aux_weights,
            label_smoothing=train.label_smoothing,
            accumulate=train.accumulate,
            average_decay=train.average_decay,
        )

    def inference_facts(self) -> dict:
        """What a checkpoint must say besides its arrays, so that it can be used without the config."""
        return {
            "model": self.config.model.to_dict(),
            "class_names": list(self.class_names),
            "preprocessing": dataclasses.asdict(self.preprocessing) | dataclasses.asdict(self.geometry),
        }
