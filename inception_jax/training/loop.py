"""Training from a config to a report."""

import contextlib
import json
import math
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from clu import parameter_overview
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from inception_jax.data import loader
from inception_jax.errors import UserError
from inception_jax.evaluation.metrics import Evaluation, evaluate, make_eval_step
from inception_jax.evaluation.page import Sample
from inception_jax.evaluation.report import write_report
from inception_jax.models import summary
from inception_jax.runtime import peak_memory, release_free_memory
from inception_jax.training.checkpoints import Checkpoints
from inception_jax.training.config import validate
from inception_jax.training.interruption import Interrupted, Signals
from inception_jax.training.parallelism import AXIS, DataParallel
from inception_jax.training.pictures import augmented_batch
from inception_jax.training.progress import Progress, Stopwatch, duration
from inception_jax.training.state import TrainState
from inception_jax.training.task import Task
from inception_jax.training.weights import load_weights, transfer
from inception_jax.training.workdir import Workdir


def train_and_evaluate(config: ConfigDict, workdir: str, exits: bool = False) -> TrainState:
    """Trains the network of `config` in `workdir`, or resumes the run there, evaluates it and writes the report.

    Args:
      config: of configs/.
      workdir: directory of this run, see `workdir.Workdir`.
      exits: whether a signal may end the process, see `interruption.Signals`.

    Returns:
      The final state.

    Raises:
      UserError: something is wrong with the config, the data, the workdir, or the loss is not finite.
      Interrupted: SIGTERM or SIGINT came.
    """
    validate(config)
    with Signals(exits) as signals, contextlib.ExitStack() as stack:
        with signals.at_once():
            parallel = DataParallel(config.parallel, hasty=config.hasty)
            task = Task(config, parallel)
            directory = Workdir(workdir, config)
            checkpoints = Checkpoints(directory.checkpoints, config.checkpoint.keep)
            trainer = stack.enter_context(contextlib.closing(Trainer(task, parallel, directory, checkpoints)))
            signals.finish = checkpoints.wait
        return trainer.run(signals)


class Trainer:
    """The state of one run in this process, and what it does with it."""

    def __init__(self, task: Task, parallel: DataParallel, directory: Workdir, checkpoints: Checkpoints):
        self.task, self.parallel, self.directory, self.checkpoints = task, parallel, directory, checkpoints
        self.progress, self.stopwatch = Progress(), Stopwatch()
        self.share = loader.ProcessShare(jax.process_index(), jax.process_count())
        self.train_damage = loader.DamageReport(task.train_source)
        self.eval_damage = loader.DamageReport(task.eval_source)
        self.eval_step = parallel.map(make_eval_step(task.model, task.preprocessing, AXIS))
        own = task.model.clone(batch_statistics=True)
        self.batch_statistics_step = parallel.map(make_eval_step(own, task.preprocessing, AXIS))
        self.first_step = 0

    def close(self) -> None:
        """Ends the background threads; what was begun is written."""
        self.progress.stop()
        self.checkpoints.close()
        self.directory.close()

    def run(self, signals: Signals) -> TrainState:
        """Trains to the end, evaluates, writes the report; see `train_and_evaluate`."""
        task, config = self.task, self.task.config
        with signals.at_once():
            state = task.create_state()
            restored = self.checkpoints.restore(self.parallel.replicate(state), self.progress.say)
            state = self.parallel.replicate(self._begin(state)) if restored is None else restored
            self.first_step = step = int(state.step)
            self._describe(step)
        if restored is not None:
            signals.step = step
        self.directory.open_metrics(step, config.log.tensorboard, self.progress.say)
        evaluation = None
        # An interruption may have come between the checkpoint and its evaluation.
        if self._evaluates_at(step):
            if self.checkpoints.metrics(step) is None or step == task.total_steps:
                evaluation = self._evaluate(state, step, signals)
            state = self._after_evaluation(state, step)
        if step < task.total_steps:
            state, evaluation = self._train(state, step, signals)
        self._finish(state, evaluation, signals)
        return state

    def _begin(self, state: TrainState) -> TrainState:
        """The state before the first step, with all that it takes from elsewhere."""
        config, say = self.task.config, self.progress.say
        if state.statistics:
            # Another machine's library of linear algebra may give other last bits: all take those of process 0.
            first = jax.process_index() == 0
            statistics = self.task.fit_statistics(say) if first else state.statistics
            state = state.replace(statistics=multihost_utils.broadcast_one_to_all(statistics))
        if config.init_from:
            variables = {"params": state.params, "batch_stats": state.batch_stats}
            variables, lines = transfer(variables, load_weights(config.init_from, say), config.init_new)
            for line in lines:
                say(f"{config.init_from}: {line}")
            average = jax.tree.map(np.copy, variables) if state.average else {}
            state = state.replace(**variables, average=average)
        return state

    def _train(self, state: TrainState, step: int, signals: Signals) -> tuple[TrainState, Evaluation]:
        profiler = _Profiler(self.task.config.log, self.directory)
        with contextlib.closing(profiler), contextlib.closing(self._train_batches(step)) as batches:
            return self._train_steps(state, step, signals, profiler, batches)

    def _train_steps(
        self, state: TrainState, step: int, signals: Signals, profiler: "_Profiler", batches: Iterator[dict]
    ) -> tuple[TrainState, Evaluation]:
        task, config = self.task, self.task.config
        train_step = self.parallel.map(task.train_step(), donate=True)
        window = _Window()
        evaluation = None
        compiling = time.perf_counter()
        self.progress.start(step, task.total_steps)
        self.stopwatch.reset()
        while step < task.total_steps:
            is_first = step == self.first_step
            try:
                with signals.at_once(saved=is_first):
                    batch = self.stopwatch.wait(batches)
            except (UserError, Interrupted) as stop:  # too many damaged images; what is trained so far is good
                if not is_first:
                    self._save(state, window, signals)
                if isinstance(stop, Interrupted):
                    raise self._interrupted(stop.signal_number, signals) from None
                raise
            profiler.before(step)
            with signals.at_once() if is_first else contextlib.nullcontext():  # compiles
                (state, metrics), _ = train_step(state, batch)
            step += 1
            # The step now runs in the background; the metrics of the one before it are ready or nearly so.
            window.add(step, metrics)
            self.stopwatch.count(config.train.batch_size)
            profiler.after(step, metrics)
            if is_first:
                window.flush()
                self.progress.say(f"first step after {duration(time.perf_counter() - compiling)} of compilation")
                release_free_memory()
                self.stopwatch.reset()
            self.progress.advance(step)
            if task.clock.due(step, config.log.every) or step == task.total_steps:
                self._log(step, window)
            stopped = signals.received(step)
            evaluates = self._evaluates_at(step)
            if stopped or evaluates or task.clock.due(step, config.checkpoint.every):
                self._save(state, window, signals)
            if stopped:
                raise self._interrupted(stopped, signals)
            if evaluates:
                evaluation = self._evaluate(state, step, signals)
                state = self._after_evaluation(state, step)
                self.stopwatch.reset()
        return state, evaluation

    def _save(self, state: TrainState, window: "_Window", signals: Signals) -> None:
        window.flush()  # raises if the loss is not finite
        self.checkpoints.save(state, self.task.inference_facts())
        signals.step = int(state.step)

    def _interrupted(self, signal_number: int, signals: Signals) -> Interrupted:
        self.checkpoints.wait()
        return Interrupted(signal_number, signals.step)

    def _train_batches(self, step: int) -> Iterator[dict[str, jax.Array]]:
        config = self.task.config
        return loader.train_batches(
            self.task.train_source,
            self.task.geometry,
            self.train_damage,
            seed=config.seed,
            batch_size=config.train.batch_size,
            first_step=step,
            last_step=self.task.total_steps,
            share=self.share,
            threads=config.data.threads,
            processes=config.data.processes,
            place=self.parallel.shard,
        )

    def _evaluates_at(self, step: int) -> bool:
        return step == self.task.total_steps or self.task.clock.due(step, self.task.config.eval.every)

    def _after_evaluation(self, state: TrainState, step: int) -> TrainState:
        # A checkpoint is written before its evaluation, so this is done again after one is restored.
        if self.task.plateau is None:
            return state
        plateau = self.task.plateau.after(jax.device_get(state.plateau), self.checkpoints.metrics(step)["top1"])
        return state.replace(plateau=self.parallel.replicate(plateau))

    def _evaluate(self, state: TrainState, step: int, signals: Signals) -> Evaluation:
        task = self.task

        def run(eval_step, variables, source, damage):
            placed = loader.eval_batches(
                source,
                task.geometry,
                damage,
                batch_size=task.eval_batch_size,
                share=self.share,
                threads=task.config.data.threads,
                place=lambda batch: (batch.pop("position"), self.parallel.shard(batch)),
            )
            with signals.at_once(), contextlib.closing(placed):  # the state is saved
                return evaluate(eval_step, variables, placed, expected=len(source))

        result = run(self.eval_step, state.inference_variables, task.eval_source, self.eval_damage)
        if not math.isfinite(result.loss):
            raise UserError(f"the loss of the evaluation after step {step} is {result.loss}; see config.optimizer")
        new = self.checkpoints.metrics(step) is None  # else this is a finished run, begun again
        if new:
            self.directory.log(step, task.config.data.eval_split, result.summary())
            self.checkpoints.add_metrics(step, result.summary())
        best = self.checkpoints.best()
        results = {
            "last": {"step": step} | result.summary(),
            "best": {"step": best} | self.checkpoints.metrics(best),
        }
        self.directory.write("results.json", json.dumps(results, indent=2) + "\n")
        self.progress.say(
            f"step {step}: {task.config.data.eval_split} top-1 {result.top1:.2%}, top-5 {result.top5:.2%}, "
            f"loss {result.loss:.4f} on {result.count:,} images"
        )
        if new and task.batch_norm_sample is not None:
            self._check_batch_norm(state, step, run)
        return result

    def _check_batch_norm(self, state: TrainState, step: int, run: Callable[..., Evaluation]) -> None:
        """Evaluates training images with the running and with their own batch statistics; warns if they disagree."""
        # The latest weights: the averaged ones are not those whose batches the running statistics follow.
        variables = state.replace(average={}).inference_variables
        results = {}
        for name, eval_step in {"running": self.eval_step, "batch": self.batch_statistics_step}.items():
            results[name] = run(eval_step, variables, self.task.batch_norm_sample, self.train_damage)
            self.directory.log(step, f"train ({name} statistics)", results[name].summary())
        running, own = results["running"], results["batch"]
        if abs(running.top1 - own.top1) > 0.05:
            self.progress.say(
                f"warning: on {own.count:,} training images top-1 is {running.top1:.2%} with the running batch "
                f"statistics and {own.top1:.2%} with each batch's own; see batch_norm_decay of the network, "
                "config.train.freeze_batch_norm and config.train.sync_batch_norm"
            )

    def _log(self, step: int, window: "_Window") -> None:
        task = self.task
        values = window.read()
        rate, waited = self.stopwatch.read()
        if rate:  # not where this is the first step, which is not timed
            values |= {"images_per_second": rate, "data_wait": waited}
        values["peak_memory"] = peak_memory()
        self.directory.log(step, "train", values)
        remaining = (task.total_steps - step) * task.config.train.batch_size
        shown = {
            "epoch": f"{task.clock.epochs(step):.1f}",
            "loss": f"{values['loss']:.4f}",
            "top-1": f"{values['top1']:.1%}",
            "lr": f"{values['learning_rate']:.3g}",
            "img/s": f"{rate:.0f}",
            "waiting for data": f"{waited:.0%}",
            "left": duration(remaining / rate) if rate else "?",
        }
        self.progress.report(step, task.total_steps, shown)

    def _describe(self, step: int) -> None:
        task, say = self.task, self.progress.say
        # In the order of computation; the auxiliary heads, which inference does not run, come last.
        names = dict.fromkeys([*task.multiply_adds, *task.parameters])
        rows = [(name, task.parameters[name], task.multiply_adds.get(name, 0)) for name in names]
        rows.append(("total", sum(task.parameters.values()), sum(task.multiply_adds.values())))
        say(f"{'layer':<16}{'parameters':>14}{'multiply-adds':>16}")
        for name, count, cost in rows:
            say(f"{name:<16}{count:>14,}{cost:>16,}")
        variables = summary.abstract_variables(task.model, task.image_shape)
        overview = parameter_overview.get_parameter_overview(variables["params"], include_stats=False)
        self.directory.write("parameters.txt", overview + "\n")
        device = f"{self.parallel.device_count} x {jax.devices()[0].device_kind}"
        self.directory.describe(
            parameters=sum(task.parameters.values()),
            multiply_adds=sum(task.multiply_adds.values()),
            total_steps=task.total_steps,
            device=device,
        )
        say(
            f"{task.name}: {len(task.train_source):,} images to train on, {len(task.eval_source):,} to evaluate, "
            f"{len(task.class_names)} classes, {task.total_steps:,} steps of {task.config.train.batch_size}, {device}"
        )
        if step:
            say(f"going on after step {step} of {task.total_steps}, from {self.checkpoints.directory}")

    def _finish(self, state: TrainState, evaluation: Evaluation, signals: Signals) -> None:
        self.progress.stop()
        self.checkpoints.wait()
        for damage in (self.train_damage, self.eval_damage):
            if damage:
                self.progress.say(damage.summary())
        if jax.process_index() != 0:
            return
        facts = self._facts(evaluation)
        shown = {"Experiment": self.task.name} | facts
        if self.task.config.log.report:
            report = self.directory.path / "report.html"
            try:
                with signals.at_once():  # the state is saved, and the file appears whole or not at all
                    self._write_report(report, state, evaluation, facts)
                shown["Report"] = str(report)
            except Exception as error:  # of whatever kind, it is no reason to lose a finished run
                self.progress.say(f"warning: {report} is not written: {type(error).__name__}: {error}")
        shown["Workdir"] = str(self.directory.path)
        print("\n" + "\n".join(f"  {name:<16}{value}" for name, value in shown.items()) + "\n", flush=True)

    def _facts(self, evaluation: Evaluation) -> dict[str, str]:
        task = self.task
        best = self.directory.results()["best"]
        facts = {
            "Top-1": f"{100 * evaluation.top1:.2f} %",
            "Top-5": f"{100 * evaluation.top5:.2f} %",
            "Images counted": f"{evaluation.count:,}",
            "Split": task.config.data.eval_split,
            "Loss": f"{evaluation.loss:.4f}",
            "Best top-1": f"{100 * best['top1']:.2f} % at step {best['step']:,}",
            "Trained": f"{task.total_steps:,} steps, {task.clock.epochs(task.total_steps):.1f} epochs",
            "Devices": f"{self.parallel.device_count} x {jax.devices()[0].device_kind}",
        }
        if self.stopwatch.total_seconds:  # not where a finished run was begun again
            facts["Training speed"] = f"{self.stopwatch.total_examples / self.stopwatch.total_seconds:.0f} img/s"
        return facts

    def _write_report(self, path: Path, state: TrainState, evaluation: Evaluation, facts: dict[str, str]) -> None:
        task = self.task
        record = self.directory.record
        more = {
            "Parameters": f"{sum(task.parameters.values()):,}",
            "Multiply-adds": f"{sum(task.multiply_adds.values()):,}",
            "Command": shlex.join(["python", *record["commands"][-1]]),
            "Versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        }
        write_report(
            path,
            title=task.name,
            facts=facts | more,
            history=self.directory.history(),
            confusion=evaluation.confusion,
            class_names=task.class_names,
            samples=_samples(task.eval_source, evaluation, task.geometry.max_pixels),
            filters=_first_filters(state.inference_variables["params"]),
            batch=[(p.image, p.caption) for p in augmented_batch(task, jax.device_get(state.statistics), 16)],
        )


def _samples(source, evaluation: Evaluation, max_pixels: int, count: int = 32) -> list[Sample]:
    """The most confident mistakes, up to half of `count`, then images that were right, spread over the split."""
    seen = evaluation.labels >= 0
    right = evaluation.classes[:, 0] == evaluation.labels
    wrong = np.flatnonzero(seen & ~right)
    wrong = wrong[np.argsort(-evaluation.probabilities[wrong, 0])][: count // 2]
    rest = np.flatnonzero(seen & right)
    rest = rest[np.linspace(0, len(rest) - 1, min(count - len(wrong), len(rest))).astype(int)]
    return [
        Sample(
            loader.whole_image(source, i, max_pixels),
            int(evaluation.labels[i]),
            tuple(evaluation.classes[i].tolist()),
            tuple(evaluation.probabilities[i].tolist()),
            source.name(i),
        )
        for i in map(int, [*wrong, *rest])
    ]


def _first_filters(params) -> np.ndarray:
    """The kernels of the first convolution: the one that reads colours or grey."""
    kernels = (np.asarray(x) for x in jax.tree.leaves(params))
    return next(kernel for kernel in kernels if kernel.ndim == 4 and kernel.shape[2] in (1, 3))


class _Window:
    """Metrics since the last log line. Each step's are fetched when the next step has been started, never at once."""

    def __init__(self):
        self._pending = None
        self._sums: dict[str, float] = {}
        self._steps = 0

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        """Fetches what is not fetched yet.

        Raises:
          UserError: a loss or gradient is not finite.
        """
        if self._pending is None:
            return
        step, metrics = self._pending
        self._pending = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(values[name]):
                raise UserError(
                    f"{name} is {values[name]} at step {step}; no checkpoint from before it is lost. Lower "
                    "config.schedule.base_lr, lengthen config.schedule.warmup or set config.optimizer.clip_norm, "
                    "with a new --workdir"
                )
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1
        self._last = values

    def read(self) -> dict[str, float]:
        """Fetches all, returns the means since the last reading (the learning rate: the last) and begins anew."""
        self.flush()
        means = {name: total / self._steps for name, total in self._sums.items()}
        means["learning_rate"] = self._last["learning_rate"]
        self._sums, self._steps = {}, 0
        return means


class _Profiler:
    """Traces config.log.profile_steps steps, from step profile_at on, into WORKDIR/profile; off where that is 0."""

    def __init__(self, log: ConfigDict, directory: Workdir):
        self._steps = range(log.profile_at, log.profile_at + log.profile_steps) if log.profile_at else range(0)
        self._directory = directory.path / "profile"
        self._running = False

    def before(self, step: int) -> None:
        if step in self._steps and not self._running:
            jax.profiler.start_trace(str(self._directory))
            self._running = True

    def after(self, step: int, metrics) -> None:
        if self._running and step not in self._steps:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
