"""Trains a network several times, with other seeds and learning rates, by one compiled program.

The runs of an ablation differ in little: the images, the seed, the learning rate. All of these are arguments of the
step here, so that runs on several sets of images share one compilation. The images are on the device, see `resident`.
A run is that of `loop.train_and_evaluate` with the cache 'device', without its checkpoints.

On accelerators all runs of a call are one program, vmapped over a leading axis of the state. On a CPU they follow one
another: vmapped convolutions become grouped ones, which are slow there.
"""

import dataclasses
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.data import resident
from inception_jax.data.loader import ProcessShard, rows
from inception_jax.errors import UserError
from inception_jax.evaluation.metrics import Evaluation, evaluate
from inception_jax.parallel import AXIS, FAST_COMPILE, REPLICATED, SPLIT, DataParallel
from inception_jax.training.experiment import Experiment
from inception_jax.training.schedules import make_schedule
from inception_jax.training.state import TrainState

_ALONE = ProcessShard(0, 1)


class Start(NamedTuple):
    """What a run starts with."""

    seed: int
    base_lr: float


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
      start: what it started with.
      rows: of metrics.jsonl, see `workdir.Workdir`: two for each evaluation.
      evaluation: of the last step.
      state: the last one.
      failed_at: number of the step that was not finite; 0: none. The state is that before this step.
    """

    start: Start
    rows: list[dict[str, Any]]
    evaluation: Evaluation
    state: TrainState
    failed_at: int


class SeedTrainer:
    """Trains the networks of experiments that differ only in their images, seed and learning rate."""

    def __init__(self, experiment: Experiment, parallel: DataParallel, together: bool | None = None):
        """Prepares the programs; they are compiled when they are first called.

        Args:
          experiment: one of them.
          parallel: devices.
          together: whether the runs of a call are one vmapped program; None: on accelerators.

        Raises:
          UserError: the learning rate depends on evaluations, or the preprocessing on the training images.
        """
        if experiment.plateau or experiment.needs_dataset_stats:
            raise UserError("a plateau schedule, PCA noise and whitening are not for runs that share a program")
        self._model, self._parallel = experiment.model, parallel
        self._together = jax.default_backend() != "cpu" if together is None else together

        def examples(images, batch):
            return resident.examples(images, batch, experiment.crop_config)

        def step(state, batch, rate):
            return experiment.train_step(schedule=lambda _: rate)(state, batch)

        start = experiment.state_from
        if self._together:
            start = jax.vmap(start)
            examples = jax.vmap(examples, (None, {"row": 1, "index": None, "seed": 1}), 1)
            step = jax.vmap(step, (0, 1, 0))
        self._start = jax.jit(start, compiler_options=FAST_COMPILE)
        # Apart from the step, because its program depends on the number and size of the images.
        self._examples = parallel.map(examples, (REPLICATED, SPLIT), SPLIT)
        self._step = parallel.map(step, (REPLICATED, SPLIT, REPLICATED), (REPLICATED, REPLICATED), donate=(0,))
        evaluation = experiment.task.make_eval_step(experiment.model, experiment.preprocessing, AXIS)
        self._evaluate = parallel.map(evaluation, (REPLICATED, SPLIT), (REPLICATED, SPLIT))

    def train(self, experiment: Experiment, starts: Sequence[Start]) -> Generator[Trained]:
        """Trains and evaluates; yields the runs in their order.

        Args:
          experiment: its images, schedule and dates of evaluations are used.
          starts: of the runs.

        Raises:
          UserError: an image is damaged, images differ in size, or they do not fit the device's memory.
        """
        if experiment.model != self._model:
            raise ValueError("the experiments have different networks")
        crops = experiment.crop_config
        images = resident.place(experiment.train_source, crops, self._parallel, crops=crops.crop == "central")
        evaluated = resident.place(experiment.eval_source, crops, self._parallel, crops=True)
        for group in [starts] if self._together else [[start] for start in starts]:
            yield from self._train(experiment, group, images, evaluated)

    def _train(self, experiment: Experiment, group: Sequence[Start], images, evaluated) -> Generator[Trained]:
        total, batch_size = experiment.total_steps, experiment.config.train.batch_size
        rates = np.stack([_rates(experiment, start.base_lr) for start in group], axis=1)
        keys = jnp.stack([jax.random.key(start.seed) for start in group])
        state = self._parallel.replicate(self._start(keys if self._together else keys[0]))
        logs: list[list[dict]] = [[] for _ in group]
        window: list[Mapping[str, jax.Array]] = []
        failed_at = [0] * len(group)
        began, done = 0.0, 0
        for step in range(total):
            rate = jnp.asarray(rates[step] if self._together else rates[step, 0])
            batch = self._examples(images, self._batch(group, step, batch_size, len(experiment.train_source)))
            state, metrics = self._step(state, batch, rate)
            window.append(metrics)
            if not step:  # its time is that of the compilation
                jax.block_until_ready(metrics)
                began, done = time.perf_counter(), 1
            if not experiment.evaluates_at(step + 1):
                continue
            fetched = jax.tree.map(lambda *x: np.stack(x).reshape(len(x), -1), *jax.device_get(window))
            seconds, count, window = time.perf_counter() - began, step + 1 - done, []
            speed = {"images_per_second": len(group) * count * batch_size / seconds} if count else {}
            evaluations = []
            for run in range(len(group)):
                values = {name: value[:, run] for name, value in fetched.items()}
                if values["failed"].any() and not failed_at[run]:
                    failed_at[run] = step + 2 - len(values["failed"]) + int(values["failed"].argmax())
                means = {name: float(values[name].mean()) for name in ("loss", "top1", "top5")}
                means["learning_rate"] = float(values["learning_rate"][-1])
                logs[run].append({"step": step + 1, "split": "train"} | means | speed)
                variables = self._of(state, run).inference_variables
                batches = resident.eval_batches(
                    evaluated, self._parallel, batch_size=experiment.eval_batch_size, shard=_ALONE
                )
                evaluations.append(evaluate(self._evaluate, variables, batches, len(experiment.eval_source)))
                split = experiment.config.data.eval_split
                logs[run].append({"step": step + 1, "split": split} | evaluations[-1].summary())
            began, done = time.perf_counter(), step + 1
        for run, start in enumerate(group):
            yield Trained(start, logs[run], evaluations[run], self._of(state, run), failed_at[run])

    def _batch(self, group: Sequence[Start], step: int, batch_size: int, count: int) -> dict[str, jax.Array]:
        positions = _ALONE.positions(step, batch_size)
        batch = {
            "row": np.stack([rows(count, start.seed, positions) for start in group], axis=1),
            "seed": np.tile(np.array([start.seed for start in group], np.uint32), (batch_size, 1)),
        }
        if not self._together:
            batch = {name: values[:, 0] for name, values in batch.items()}
        return self._parallel.shard(batch | {"index": np.array(positions).astype(np.uint32)})

    def _of(self, state: TrainState, run: int) -> TrainState:
        """The state of one run of a group."""
        return jax.tree.map(lambda x: x[run], state) if self._together else state


def _rates(experiment: Experiment, base_lr: float) -> np.ndarray:
    """Returns the learning rate of each step, float32 [steps]."""
    settings = experiment.config.schedule.to_dict() | {"base_lr": base_lr}
    schedule = make_schedule(experiment.clock, experiment.total_steps, **settings)
    return np.asarray(
        jax.vmap(lambda step: jnp.asarray(schedule(step), jnp.float32))(jnp.arange(experiment.total_steps))
    )
