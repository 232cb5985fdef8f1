"""Trains from a config to evaluated checkpoints."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from inception_jax import processes
from inception_jax.console import Progress, Stopwatch, duration, percent, plural, table
from inception_jax.data import loader, resident
from inception_jax.data.sources import Source, Subset
from inception_jax.errors import UserError, section
from inception_jax.evaluation.box_metrics import BoxEvaluation
from inception_jax.evaluation.metrics import Evaluation, evaluate
from inception_jax.models import trace
from inception_jax.parallel import AXIS, REPLICATED, SPLIT, DataParallel
from inception_jax.paths import written
from inception_jax.runs.checkpoints import Checkpoints
from inception_jax.runs.classifier import load_weights
from inception_jax.runs.run import SCORES, score_key
from inception_jax.runs.workdir import Workdir
from inception_jax.runtime import peak_memory, release_free_memory
from inception_jax.training.experiment import Experiment
from inception_jax.training.metric_accumulator import MetricAccumulator
from inception_jax.training.nonfinite import NonFiniteError, as_json, diagnose, explain
from inception_jax.training.preemption import Interrupted, Preemption, request_stop
from inception_jax.training.recorder import Recorder
from inception_jax.training.state import TrainState
from inception_jax.weights.load_into import load_into


class _Resident(NamedTuple):
    """The images on the devices, see `resident.place`."""

    train: dict[str, jax.Array]
    eval: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class _Run:
    """What the functions below share. Training changes nothing in it, except for the reports of damaged images."""

    experiment: Experiment
    parallel: DataParallel
    directory: Workdir
    checkpoints: Checkpoints
    progress: Progress
    preemption: Preemption
    train_damage: loader.DamageReport
    eval_damage: loader.DamageReport
    recorder: Recorder | None  # of the first process, if it is wanted
    resident: _Resident | None  # with config.data.cache 'device'


def train_and_evaluate(
    config: ConfigDict, workdir: str, exits: bool = False, on_evaluation: Callable[[], object] | None = None
) -> TrainState:
    """Trains the network of `config` in `workdir`, or resumes the run there, and evaluates it.

    Args:
      config: validated config with the keys of configs/common.py.
      workdir: run directory, see `workdir.Workdir`.
      exits: whether a signal may end the process, see `preemption.Preemption`.
      on_evaluation: called in the first process after each evaluation but the last, in a thread beside the training,
        when the files of the run are written; a failure of it is a warning. With it the run records snapshots too, see
        `runs.snapshots`. None: neither.

    Returns:
      The final state.

    Raises:
      UserError: something is wrong with the config, the data or the workdir, or the loss is not finite.
      Interrupted: SIGTERM or SIGINT came.
    """
    with Preemption(exits) as preemption, contextlib.ExitStack() as stack:
        # ------------------------------------------------------------------------------------------------- Set-up
        with preemption.at_once():
            progress = Progress()
            stack.callback(progress.stop)
            with processes.together():
                with section("config"):
                    parallel = DataParallel(config.parallel, fast_compile=config.fast_compile)
                experiment = Experiment(config, parallel)
                directory = Workdir(workdir, config, progress.say)
                stack.callback(directory.close)
                checkpoints = Checkpoints(directory.checkpoints, config.checkpoint.keep)
                stack.callback(checkpoints.close)
            preemption.finish = checkpoints.wait
            stops = jax.process_count() == 1  # one of several must not stop alone
            sources = (experiment.train_source, experiment.eval_source)
            train_damage, eval_damage = (loader.DamageReport(source, stops) for source in sources)
            recorder = None
            if on_evaluation and processes.is_first():
                recorder = Recorder(experiment, directory.path, progress.say, on_evaluation)
                stack.callback(recorder.close)
            kept = None
            if config.data.cache == "device":
                with processes.together():
                    kept = _keep(experiment, parallel, progress.say)
            run = _Run(
                experiment,
                parallel,
                directory,
                checkpoints,
                progress,
                preemption,
                train_damage,
                eval_damage,
                recorder,
                kept,
            )
            state = _initial_state(run)
            step = int(state.step)
            preemption.step = step or None
            _describe(run, step)

        # --------------------------------------------------------------- Evaluation that a stopped run did not finish
        accumulator = MetricAccumulator(step, processes.share(checkpoints.window))
        is_evaluated = processes.share(checkpoints.metrics(step) is not None)
        directory.open_metrics(step, is_evaluated, config.log.tensorboard, progress.say, checkpoints.log)
        if experiment.evaluates_at(step) and not is_evaluated:  # stopped during the evaluation
            with preemption.at_once():
                state, evaluation = _evaluate(run, state, step)
            _save(run, state, step, accumulator, evaluation)

        # -------------------------------------------------------------------------------------------------- Train
        if step < experiment.total_steps:
            state = _train(run, state, step, accumulator)

        # ------------------------------------------------------------------------------------------------- Finish
        progress.stop()
        with processes.together():
            checkpoints.wait()
        # Training may have been stopped before these files were written, or they are damaged.
        if not processes.share(_has_evaluation(run, experiment.total_steps)):
            with preemption.at_once():
                _write_evaluation(run, experiment.total_steps, _evaluate_on(run, state.inference_variables))
        if run.recorder:
            with preemption.at_once():
                run.recorder.wait()
        for report in filter(None, (run.train_damage, run.eval_damage)):
            progress.say(report.summary())
        preemption.check()  # a signal of the last moments; all is saved
        return state


def _keep(experiment: Experiment, parallel: DataParallel, say: Callable[[str], None]) -> _Resident:
    started, crops, threads = time.perf_counter(), experiment.crop_config, experiment.config.data.threads
    sources = (experiment.train_source, crops.crop == "central"), (experiment.eval_source, True)
    try:
        placed = [
            resident.place(source, crops, parallel, crops=of_evaluation, threads=threads)
            for source, of_evaluation in sources
        ]
    except UserError as error:
        raise UserError(f"config.data.cache='device': {error}; or set it to 'memory'") from None
    size = sum(images["image"].nbytes for images in placed)
    say(f"images on each device: {size / 1e6:,.1f} MB after {duration(time.perf_counter() - started)}")
    return _Resident(*placed)


def _initial_state(run: _Run) -> TrainState:
    """Returns the state at the start of this process.

    The first process makes it, and the others get it from there: only that process needs the files, and linear algebra
    may differ in the last bits between machines.
    """
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), run.experiment.abstract_state())
    with processes.together():
        if processes.is_first():
            state = _first_state(run)
    return run.parallel.replicate(processes.broadcast(state))


def _first_state(run: _Run) -> TrainState:
    """Returns the state by the first of these rules that applies:

    1. Resume: the latest checkpoint of this run.
    2. Fine-tune: the weights of `init_from`, except for parameters that match `reinit`.
    3. From scratch: random parameters from the seed.
    """
    experiment, config, say = run.experiment, run.experiment.config, run.progress.say
    if (state := run.checkpoints.restore(experiment.abstract_state(), say)) is not None:
        return state
    state = experiment.create_state()
    if state.dataset_stats:
        state = state.replace(dataset_stats=experiment.fit_dataset_stats(say))
    if config.init_from:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        with section("config"):
            variables, lines = load_into(variables, load_weights(config.init_from, say), config.reinit)
        for line in lines:
            say(f"{config.init_from}: {line}")
        state = state.replace(**variables, ema=jax.tree.map(np.copy, variables) if state.ema else {})
    return state


def _train(run: _Run, state: TrainState, step: int, accumulator: MetricAccumulator) -> TrainState:
    """Trains from `step` to the end, with evaluations and checkpoints."""
    experiment, config, preemption = run.experiment, run.experiment.config, run.preemption
    first_step, total_steps = step, experiment.total_steps
    train_step = run.parallel.map(experiment.train_step(), (REPLICATED, SPLIT), (REPLICATED, REPLICATED), donate=(0,))
    stopwatch, failure = Stopwatch(), None
    started = time.perf_counter()
    run.progress.start(step, total_steps)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_diagnosis(run, lambda: state))
        profiler = stack.enter_context(contextlib.closing(_Profiler(config.log, run.directory)))
        batches = stack.enter_context(contextlib.closing(_train_batches(run, step)))
        while step < total_steps:
            is_first = step == first_step  # nothing to save yet, and the step is being compiled

            # -- Batch
            stop: UserError | Interrupted | None = None
            try:
                with preemption.at_once(saved=is_first):
                    batch = stopwatch.wait(batches)
            except (UserError, Interrupted) as raised:  # too many damaged images, or a signal; the state is good
                if jax.process_count() > 1:
                    raise  # at once: the others are in the middle of the next step
                if not is_first:
                    _save(run, state, step, accumulator)
                _stop(run, raised)
            if failure is None and (failure := run.train_damage.error()):
                request_stop()  # which all processes do together, below

            # -- Step; nothing waits for its result, and nothing is copied to or from the device
            profiler.before(step)
            with preemption.at_once() if is_first else jax.transfer_guard("disallow"):
                state, metrics = train_step(state, batch)
                accumulator.add(metrics)
            step += 1
            stopwatch.count(config.train.batch_size)
            profiler.after(step, metrics)
            if is_first:
                jax.block_until_ready(metrics)
                run.progress.say(f"first step after {duration(time.perf_counter() - started)} of compilation")
                release_free_memory()
                stopwatch.reset()

            # -- Log
            run.progress.advance(step)
            if experiment.clock.due(step, config.log.every) or step == total_steps:
                _log(run, step, accumulator.read(), *stopwatch.read())

            # -- Evaluate, then save once with the metrics
            if number := preemption.received():
                stop = Interrupted(number)
            evaluation = None
            if experiment.evaluates_at(step) and not stop:
                accumulator.check()
                try:
                    with preemption.at_once(saved=False):
                        state, evaluation = _evaluate(run, state, step)
                except (UserError, Interrupted) as raised:
                    stop = raised
                stopwatch.reset()
            if evaluation or stop or experiment.clock.due(step, config.checkpoint.every):
                _save(run, state, step, accumulator, evaluation)
            if stop:
                _stop(run, failure or stop)
    processes.agree(failure)  # of the last steps, before the others noticed
    return state


@contextlib.contextmanager
def _diagnosis(run: _Run, state_of: Callable[[], TrainState]) -> Generator[None]:
    """Says where a failed step became not finite, in the error and in WORKDIR/nonfinite.json."""
    try:
        yield
    except NonFiniteError as error:
        experiment, config = run.experiment, run.experiment.config
        state = state_of()
        step = int(state.step)  # the failed step left the state as it was before it
        run.progress.say(f"step {error.step} is not finite; it is repeated to find the layer")
        with run.preemption.at_once():
            with contextlib.closing(_train_batches(run, step)) as batches:
                found = diagnose(experiment, run.parallel, state, next(batches))
            source, crops = experiment.train_source, experiment.crop_config
            options = {"seed": config.seed, "batch_size": config.train.batch_size, "step": step}
            examples = loader.train_names(source, crops, **options)
        run.directory.write("nonfinite.json", as_json(error, found, experiment.max_skips, examples))
        file = str(run.directory.path / "nonfinite.json")
        raise explain(error, found, experiment.max_skips, examples, file) from None


def _train_batches(run: _Run, step: int) -> Generator[dict[str, jax.Array]]:
    experiment, config = run.experiment, run.experiment.config
    which: dict[str, Any] = {
        "seed": config.seed,
        "batch_size": config.train.batch_size,
        "first_step": step,
        "last_step": experiment.total_steps,
        "shard": _shard(),
    }
    if run.resident:
        return resident.train_batches(run.resident.train, experiment.crop_config, run.parallel, **which)
    return loader.train_batches(
        experiment.train_source,
        experiment.crop_config,
        run.train_damage,
        **which,
        threads=config.data.threads,
        processes=config.data.processes if config.data.cache == "none" else 0,
        boxes=experiment.task.boxes,
        to_device=run.parallel.shard,
    )


def _shard() -> loader.ProcessShard:
    return loader.ProcessShard(jax.process_index(), jax.process_count())


def _save(
    run: _Run,
    state: TrainState,
    step: int,
    accumulator: MetricAccumulator,
    evaluation: Evaluation | BoxEvaluation | None = None,
) -> None:
    """Starts to write a checkpoint, unless a metric of a step was not finite; and what an evaluation leaves."""
    window = accumulator.check()
    metrics = evaluation.summary() if evaluation else None
    run.directory.flush()  # before the checkpoint, from which a resumed run continues the metrics
    log = run.directory.lines_before(step)
    run.checkpoints.save(step, state, run.experiment.inference_metadata(), metrics, window, log)
    run.preemption.step = step
    if evaluation:
        _write_evaluation(run, step, evaluation)
        if run.recorder:
            run.recorder.record(step, state.inference_variables, evaluation)


def _stop(run: _Run, stop: UserError | Interrupted) -> NoReturn:
    """Ends all processes by the error of one of them, else by the signal, after the checkpoint is written."""
    with processes.together():
        run.checkpoints.wait()
        if isinstance(stop, UserError):
            raise stop
    raise Interrupted(stop.signal_number, run.preemption.step)


def _evaluate(run: _Run, state: TrainState, step: int) -> tuple[TrainState, Evaluation | BoxEvaluation]:
    """Evaluates and logs; returns the result, and the state, which a plateau schedule updates with the result."""
    experiment = run.experiment
    evaluation = _evaluate_on(run, state.inference_variables)
    if not math.isfinite(evaluation.loss):
        raise UserError(f"the loss of the evaluation after step {step} is {evaluation.loss}; see config.optimizer")
    metrics = evaluation.summary()
    split = experiment.config.data.eval_split
    run.directory.log(step, split, metrics)
    run.progress.say(
        f"step {step}: {split} {evaluation.describe()}, loss {evaluation.loss:.4f} on "
        f"{plural(evaluation.count, 'image')}"
    )
    if experiment.batch_norm_sample is not None:
        _check_batch_norm(run, experiment.batch_norm_sample, state, step)
    if experiment.plateau is not None:
        plateau = experiment.plateau.after(jax.device_get(state.plateau), metrics[score_key(metrics)])
        state = state.replace(plateau=run.parallel.replicate(plateau))
    return state, evaluation


def _evaluate_on(
    run: _Run, variables: dict, sample: Subset | None = None, own_statistics: bool = False
) -> Evaluation | BoxEvaluation:
    """Evaluates on the evaluation split, or on a sample of training images.

    Args:
      run: the run.
      variables: variables of the network, and 'dataset_stats'.
      sample: training images; None: the evaluation split.
      own_statistics: whether batch normalisation uses the statistics of each batch instead of the running statistics.
    """
    experiment = run.experiment
    source: Source = experiment.eval_source if sample is None else sample
    which: dict[str, Any] = {"batch_size": experiment.eval_batch_size, "shard": _shard()}
    if run.resident and sample is None:
        batches = resident.eval_batches(run.resident.eval, run.parallel, **which)
    else:
        batches = loader.eval_batches(
            source,
            experiment.crop_config,
            run.eval_damage if sample is None else run.train_damage,
            **which,
            threads=experiment.config.data.threads,
            boxes=experiment.task.boxes,
            to_device=lambda batch: (batch.pop("position"), run.parallel.shard(batch)),
        )
    with contextlib.closing(batches):
        step = _eval_step(experiment, run.parallel, own_statistics)
        stoppable = run.preemption.stoppable(batches)
        evaluation = evaluate(step, variables, stoppable, expected=len(source), kind=experiment.task.evaluation)
    processes.agree(run.eval_damage.error() if sample is None else None)
    return evaluation


@functools.cache  # compiled once in a process
def _eval_step(experiment: Experiment, parallel: DataParallel, own_statistics: bool) -> Callable:
    model = experiment.model.clone(batch_statistics=True) if own_statistics else experiment.model
    step = experiment.task.make_eval_step(model, experiment.preprocessing, AXIS)
    return parallel.map(step, (REPLICATED, SPLIT), (REPLICATED, SPLIT))


def _check_batch_norm(run: _Run, sample: Subset, state: TrainState, step: int) -> None:
    """Evaluates a sample of training images with running and with batch statistics; warns if the results differ."""
    # Uses the latest weights, because the running statistics are not those of the EMA.
    variables = state.replace(ema={}).inference_variables
    running = _evaluate_on(run, variables, sample).summary()
    own = _evaluate_on(run, variables, sample, own_statistics=True).summary()
    run.directory.log(step, "train (running statistics)", running)
    run.directory.log(step, "train (batch statistics)", own)
    key = score_key(own)
    if abs(running[key] - own[key]) > 0.05:
        run.progress.say(
            f"warning: on {plural(int(own['count']), 'training image')} {SCORES[key]} is {percent(running[key])} with "
            f"the running batch statistics and {percent(own[key])} with each batch's own; see batch_norm_decay of the "
            "network, config.train.freeze_batch_norm and config.train.sync_batch_norm"
        )


def _write_evaluation(run: _Run, step: int, evaluation: Evaluation | BoxEvaluation) -> None:
    arrays = {name: value for name, value in vars(evaluation).items() if isinstance(value, np.ndarray)}
    run.directory.write_evaluation(_results(run, step, evaluation.summary()), step, **arrays)


def _has_evaluation(run: _Run, step: int) -> bool:
    metrics = run.checkpoints.metrics(step)
    return metrics is not None and run.directory.has_evaluation(_results(run, step, metrics), step)


def _results(run: _Run, step: int, metrics: Mapping[str, float]) -> dict:
    """Returns the object of results.json after an evaluation with these metrics."""
    last = {"step": step, **metrics}
    best = run.checkpoints.best()
    of_best = run.checkpoints.metrics(best) if best else None
    return {"last": last, "best": {"step": best, **of_best} if of_best else last}


def _log(run: _Run, step: int, values: dict[str, float], rate: float, waited: float) -> None:
    """Logs the means over the steps since the last call; `rate` is 0 for the first step, which is not timed."""
    experiment = run.experiment
    if rate:
        values |= {"images_per_second": rate, "data_wait": waited}
    values["peak_memory"] = peak_memory()
    skipped = values["skipped"]
    if not experiment.max_skips:
        del values["skipped"]  # always 0
    run.directory.log(step, "train", values)
    key = score_key(values)
    remaining = (experiment.total_steps - step) * experiment.config.train.batch_size
    shown = {
        "epoch": f"{experiment.clock.epochs(step):.1f}",
        "loss": f"{values['loss']:.4f}",
        SCORES[key]: percent(values[key], 1),
        "lr": f"{values['learning_rate']:.3g}",
        "img/s": f"{rate:.0f}",
        "waiting for data": percent(waited, 0),
        "left": duration(remaining / rate) if rate else "?",
    }
    if skipped:
        shown["skipped"] = str(skipped)
    run.progress.report(step, experiment.total_steps, shown)


def _describe(run: _Run, step: int) -> None:
    """Prints and records the network and the data."""
    experiment, say = run.experiment, run.progress.say
    parameters, multiply_adds = experiment.parameters, experiment.multiply_adds
    # In the order of computation; the auxiliary heads come last, because inference does not run them.
    names = dict.fromkeys([*multiply_adds, *parameters])
    rows = [(name, parameters[name], multiply_adds.get(name, 0)) for name in names]
    rows.append(("total", sum(parameters.values()), sum(multiply_adds.values())))
    say(table(("layer", "parameters", "multiply-adds"), [(name, f"{a:,}", f"{b:,}") for name, a, b in rows]))
    variables = trace.abstract_variables(experiment.model, experiment.image_shape)
    overview = parameter_overview.get_parameter_overview(variables["params"], include_stats=False)
    run.directory.write("parameters.txt", overview + "\n")
    facts = experiment.facts(run.parallel)
    run.directory.describe(**facts)
    say(
        f"{experiment.name}: {len(experiment.train_source):,} images to train on, {len(experiment.eval_source):,} to "
        f"evaluate, {len(experiment.class_names)} classes, {experiment.total_steps:,} steps of "
        f"{experiment.config.train.batch_size}, {facts['device']}"
    )
    if step:
        say(f"resuming after step {step} of {experiment.total_steps}, from {run.checkpoints.directory}")


class _Profiler:
    """Profiles `log.profile_steps` steps after step `log.profile_at` into WORKDIR/profile; 0: off."""

    def __init__(self, log: ConfigDict, directory: Workdir):
        self._steps = range(log.profile_at, log.profile_at + log.profile_steps) if log.profile_at else range(0)
        self._directory = directory.path / "profile"
        self._running = contextlib.ExitStack()
        self._is_running = False

    def before(self, step: int) -> None:
        if step in self._steps and not self._is_running:
            local = self._running.enter_context(written(self._directory))
            self._running.callback(jax.profiler.stop_trace)
            jax.profiler.start_trace(str(local))
            self._is_running = True

    def after(self, step: int, metrics) -> None:
        if self._is_running and step not in self._steps:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        self._running.close()
        self._is_running = False
