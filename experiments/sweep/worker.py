"""Trains one variant of a planned sweep on all its sets of images, in this process.

python -m experiments.sweep.worker tuning experiments/sweeps/googlenet_aux.py none --workdir=runs/googlenet_aux
python -m experiments.sweep.worker training experiments/sweeps/googlenet_aux.py none --workdir=runs/googlenet_aux

`experiments.sweep` starts it.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments import cli

if TYPE_CHECKING:
    from inception_jax.training.seeds import SeedTrainer, Trained


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 if a run was not finite, 2 for invalid input, 130 for Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    settings = [argument for argument in argv if argument.startswith(("--config.", "--noconfig."))]
    parser = cli.Parser("-m experiments.sweep.worker", __doc__)
    parser.add_argument("phase", choices=("tuning", "training"), help="what to do, see experiments/sweep/bench.py")
    parser.add_argument("file", metavar="FILE[:DATA]", help="sweep file")
    parser.add_argument("variant", help="variant of the sweep")
    parser.add_argument("--workdir", type=cli.path, required=True, help="directory of the sweep")
    others = [argument for argument in argv if argument not in settings]
    return cli.run(parser, lambda arguments: _work(arguments, settings), others)


def _work(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    from experiments.sweep import plan
    from inception_jax import runtime
    from inception_jax.paths import to_path, write_whole

    sweep, _ = plan.load(arguments.file, settings=settings)
    configs = {
        name: plan.check_flags(name, plan.flags_of(sweep, arguments.variant, 0, settings, one.overrides))
        for name, one in sweep.base.sets.items()
    }
    runtime.configure(next(iter(configs.values())).model.dtype)
    directory = to_path(arguments.workdir)
    if arguments.phase == "tuning":
        rows, failed = _tune(sweep, arguments.variant, configs), []
    else:
        rows, failed = _train(sweep, arguments.variant, configs, directory)
    if failed:
        print(f"error: the loss was not finite in {', '.join(failed)}", file=sys.stderr)
        return 1
    file = directory / arguments.phase / arguments.variant / "evaluation.json"
    write_whole(file, (json.dumps({"rows": rows}) + "\n").encode())
    return 0


class _Trainers:
    """The trainer of a variant: one for all its sets, of which the first compiles."""

    def __init__(self):
        from inception_jax.parallel import DataParallel

        self.parallel = DataParallel()
        self._trainer: SeedTrainer | None = None

    def train(self, name: str, config, starts):
        """Yields the runs of a set, and says what they end with."""
        from inception_jax.console import duration, percent
        from inception_jax.training.experiment import Experiment
        from inception_jax.training.seeds import SeedTrainer

        began = time.perf_counter()
        experiment = Experiment(config, self.parallel)
        self._trainer = self._trainer or SeedTrainer(experiment, self.parallel)
        for trained in self._trainer.train(experiment, starts):
            seconds, began = time.perf_counter() - began, time.perf_counter()
            print(
                f"{name}: seed {trained.start.seed}, learning rate {trained.start.base_lr:g}: "
                f"{config.data.eval_split} top-1 {percent(trained.evaluation.top1)} after {duration(seconds)}"
                + (f"; step {trained.failed_at} was not finite" if trained.failed_at else ""),
                flush=True,
            )
            yield experiment, trained


def _tune(sweep, variant: str, configs) -> list[dict[str, Any]]:
    """Tries the learning rates with the first seeds, and of the pilot the best one with more seeds."""
    from experiments.sweep import bench
    from inception_jax.training.seeds import Start

    trainers, rows = _Trainers(), []
    for name, config in configs.items():
        first = config.seed
        config.data.eval_split = sweep.base.sets[name].validation
        config.eval.every = f"{10**9} steps"  # the last step alone
        rates = [float(f"{factor * config.schedule.base_lr:.3g}") for factor in sweep.base.factors]

        def scores(starts, name=name, config=config, first=first):
            for _, trained in trainers.train(name, config, starts):
                top1 = 0.0 if trained.failed_at else round(trained.evaluation.top1, 6)
                yield {
                    "set": name, "rate": trained.start.base_lr, "seed": trained.start.seed - first, "top1": top1
                }  # fmt: skip

        tried = list(scores([Start(first, rate) for rate in rates]))
        while others := bench.untried(tried):
            tried += scores([Start(first + seed, rate) for seed, rate in others])
        if variant == bench.pilot_of(sweep):
            best = bench.best_rate(bench.worst_by_rate(tried))
            tried += scores([Start(first + seed, best) for seed in range(bench.TUNING_SEEDS, bench.PILOT_SEEDS)])
        rows += tried
    return rows


def _train(sweep, variant: str, configs, directory) -> tuple[list[dict[str, Any]], list[str]]:
    """Trains with all seeds at the planned learning rates; skips runs that are finished."""
    from experiments.sweep import bench
    from inception_jax.errors import UserError
    from inception_jax.runs.run import Run
    from inception_jax.training.seeds import Start

    plan = bench.read_plan(directory)
    if plan is None:
        raise UserError(f"{directory} has no plan.json; the tuning comes first")
    keeps = any(variant in evaluation.members for evaluation in sweep.evaluations.values())
    trainers, rows, failed = _Trainers(), [], []
    for name, config in configs.items():
        config.schedule.base_lr = float(plan["chosen"][f"{name}/{variant}"])
        first = config.seed
        place = directory / name / variant
        done = [seed for seed in range(plan["seeds"]) if _is_done(place / str(seed), config, first + seed)]
        starts = [Start(first + seed, config.schedule.base_lr) for seed in range(plan["seeds"]) if seed not in done]
        for experiment, trained in trainers.train(name, config, starts) if starts else ():
            seed = trained.start.seed - first
            _write(place / str(seed), experiment, trainers.parallel, trained, keeps)
            if trained.failed_at:
                failed.append(f"{name}/{variant}/{seed}")
        for seed in range(plan["seeds"]):
            results = Run.read(place / str(seed), metrics_bytes=0).results or {"last": {}}
            rows.append({"set": name, "seed": seed, "top1": results["last"].get("top1")})
    return rows, failed


def _is_done(path, config, seed: int) -> bool:
    from inception_jax.runs.run import Run
    from inception_jax.runs.workdir import differences

    run = Run.read(path, metrics_bytes=0)
    wanted = json.loads(json.dumps(config.to_dict() | {"seed": seed}))
    return run.state == "finished" and run.config is not None and not differences(run.config, wanted)


def _write(path, experiment, parallel, trained: "Trained", keeps: bool) -> None:
    """Writes the directory of a run, with a checkpoint if `keeps`."""
    from experiments.sweep import job
    from inception_jax.console import warn
    from inception_jax.runs.checkpoints import Checkpoints
    from inception_jax.runs.workdir import Workdir

    config = copy.deepcopy(experiment.config)
    config.seed = trained.start.seed
    directory = Workdir(path, config, warn)
    try:
        directory.describe(**experiment.facts(parallel))
        directory.open_metrics(0, False, False, warn)
        for row in trained.rows:
            directory.log(row["step"], row["split"], {k: v for k, v in row.items() if k not in ("step", "split")})
        if trained.failed_at:
            error = f"step {trained.failed_at} was not finite"
            job.write(directory.path, {"state": "failed", "error": error, "command": [], "seconds": 0.0})
            return
        tested = [row for row in trained.rows if row["split"] != "train"]
        last, best = tested[-1], max(tested, key=lambda row: (row["top1"], -row["loss"]))
        if keeps:
            checkpoints = Checkpoints(directory.checkpoints, 1)
            metadata, metrics = experiment.inference_metadata(), trained.evaluation.summary()
            checkpoints.save(last["step"], trained.state, metadata, metrics)
            checkpoints.close()
        results = {key: {k: v for k, v in row.items() if k != "split"} for key, row in (("last", last), ("best", best))}
        directory.write_evaluation(results, last["step"])
    finally:
        directory.close()


if __name__ == "__main__":
    sys.exit(main())
