"""From a sweep file to the runs that it asks for."""

import contextlib
import dataclasses
import fnmatch
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import sweeps
from experiments.command_line import MISTAKES, reason
from experiments.sweeps import Sweep
from inception_jax.errors import UserError
from inception_jax.evaluation.protocols import NAMES
from inception_jax.models import create_model
from inception_jax.names import text_of
from inception_jax.training.config import validate

ROOT = Path(__file__).parents[2]
EVALUATIONS = "evaluations"  # the directory in which they are
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")  # of variants: they are directories
_TAKEN = (EVALUATIONS, "sweep.json", "report.html", "report.md")
_MEASURES = ("top1", "no_worse", "steps")


@dataclasses.dataclass(frozen=True)
class Run:
    """One training or evaluation.

    Attributes:
      name: of its directory below the sweep's, 'VARIANT/SEED' or 'evaluations/NAME/SEED'.
      seed: of the sweep's.
      command: what Python is to run, in the project's directory.
      needs: names of the runs that must be finished before.
    """

    name: str
    seed: int
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()


def load(file: str) -> tuple[Sweep, Path, str]:
    """Reads FILE or FILE:DATA.

    Returns:
      The sweep, the file, the data set.

    Raises:
      UserError: there is no such file or data set, or the sweep contradicts itself.
    """
    name, _, data = file.partition(":")
    path, data = Path(name), data or sweeps.DATA[0]
    if not path.is_file():
        known = sorted(p.stem for p in Path(sweeps.__file__).parent.glob("[!_]*.py"))
        raise UserError(f"there is no sweep file {name}; experiments/sweeps/ has {', '.join(known)}")
    if data not in sweeps.DATA:
        raise UserError(f"{file}: {data!r} is not one of {', '.join(sweeps.DATA)}")
    spec = importlib.util.spec_from_file_location(f"sweep_{path.stem}", path)
    if spec is None:
        raise UserError(f"{name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        sweep = module.get_sweep(data)
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(f"{name} cannot be read: {error}") from error
    except Exception as error:  # whatever a user's file raises
        raise UserError(f"{name} cannot be read: {type(error).__name__}: {reason(error)}") from error
    _check(sweep, name)
    return sweep, path, data


def _check(sweep: Sweep, name: str) -> None:
    if not isinstance(sweep, Sweep) or not sweep.variants:
        raise UserError(f"{name}: get_sweep(data) must return a Sweep with variants")
    named = [*sweep.variants, *sweep.evaluations]
    for one in named:
        if not _NAME.fullmatch(one) or one in _TAKEN or named.count(one) > 1:
            raise UserError(
                f"{name}: {one!r} is no name of a variant; it names a directory, of letters, digits and _.+-"
            )
    members = [(f"evaluation {key!r}", member) for key, e in sweep.evaluations.items() for member in e.members]
    compared = []
    for claim in sweep.claims:
        better, than = ((one,) if isinstance(one, str) else one for one in (claim.better, claim.than))
        if len(better) != len(than):
            raise UserError(f"{name}: the claim {claim.text!r} compares {len(better)} variants with {len(than)}")
        compared += [("a claim", variant) for variant in (*better, *than)]
    compared += [("printed", variant) for variant in sweep.printed]
    compared += [("the baseline", sweep.baseline)] if sweep.baseline else []
    for what, variant in (*compared, *members):
        if variant not in (sweep.variants if (what, variant) in members else named):
            raise UserError(f"{name}: {what} is of {variant!r}, which is no variant")
    words = [("a claim's measure", claim.measure, _MEASURES) for claim in sweep.claims]
    words += [(f"evaluation {key!r}", p, NAMES) for key, e in sweep.evaluations.items() for p in e.protocol.split(",")]
    for what, word, known in words:
        if word not in known:
            raise UserError(f"{name}: {what}: {word!r} is not one of {', '.join(known)}")


def runs_of(
    sweep: Sweep,
    directory: Path,
    seeds: int = 0,
    patterns: Sequence[str] = (),
    settings: Sequence[str] = (),
) -> list[Run]:
    """The runs of `sweep`, seed by seed, so that all variants are there early; evaluations last.

    Args:
      sweep: what `load` returns.
      directory: of the sweep, absolute.
      seeds: how many; 0: as the sweep says.
      patterns: of names, such as 'x5*' or 'x5*/0'; a run that fits one is taken, and what it needs. None given: all.
      settings: flags that all runs get beside their own, '--config.KEY=VALUE'; they go before those of the variants.

    Raises:
      UserError: a pattern fits no run, or a setting is the seed.
    """
    given = {_key(setting) for setting in settings}
    if "seed" in given:
        raise UserError("--config.seed: every run has a seed of its own; --seeds=K says how many there are")
    runs = []
    for seed in range(seeds or sweep.seeds):
        for variant, changes in sweep.variants.items():
            own = {**changes, "seed": seed + changes.get("seed", 0)}
            base = {key: own.get(key, value) for key, value in sweep.base.overrides.items()}
            flags_of = [_flag(key, value) for key, value in base.items() if key in own or key not in given]
            flags_of += [setting for setting in settings if _key(setting) not in own]
            flags_of += [_flag(key, value) for key, value in own.items() if key not in base]
            name = f"{variant}/{seed}"
            command = ("main.py", f"--config={sweep.base.config}", *flags_of, f"--workdir={directory / name}")
            runs.append(Run(name, seed, command))
    for seed in range(seeds or sweep.seeds):
        for key, evaluation in sweep.evaluations.items():
            name = f"{EVALUATIONS}/{key}/{seed}"
            needs = tuple(f"{member}/{seed}" for member in evaluation.members)
            command = ("-m", "experiments.evaluate", *(f"--workdir={directory / need}" for need in needs))
            command += (f"--protocol={evaluation.protocol}", "--checkpoint=last", f"--out={directory / name}")
            runs.append(Run(name, seed, command, needs))
    for pattern in patterns:
        if not any(_fits(run, pattern) for run in runs):
            raise UserError(f"--filter={pattern} fits none of {', '.join(dict.fromkeys(_variant(r) for r in runs))}")
    taken = [run for run in runs if not patterns or any(_fits(run, pattern) for pattern in patterns)]
    needed = {name for run in taken for name in run.needs}
    return [run for run in runs if run in taken or run.name in needed]


def _variant(run: Run) -> str:
    return run.name.removeprefix(f"{EVALUATIONS}/").rpartition("/")[0]


def _fits(run: Run, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in (run.name, _variant(run), f"{_variant(run)}/{run.seed}"))


def shown(run: Run) -> str:
    """Its command after 'python', as one types it."""
    return shlex.join(run.command)


def _key(setting: str) -> str:
    """'model.aux' of '--config.model.aux=True' and '--noconfig.model.aux'."""
    return setting.partition("=")[0].partition(".")[2]


def _flag(key: str, value: Any) -> str:
    return f"--config.{key}={value}"


def check(runs: Sequence[Run]) -> None:
    """Resolves the config of each training as main.py will, so that a wrong key is found before anything is started.

    Raises:
      UserError: names the run and what is wrong.
    """
    for run in runs:
        if run.command[0] != "main.py":
            continue
        try:
            config = resolve(run)
            validate(config)
            network, size = create_model(num_classes=2, **config.model.to_dict()), config.data.image_size
            if size < network.smallest:
                raise UserError(f"images of {size}x{size} are too small for this network: {network.smallest} at least")
        except UserError as error:
            raise UserError(f"{run.name}: {error}") from None


def resolve(run: Run) -> ConfigDict:
    """The config of a training.

    Raises:
      UserError: a flag of its command is wrong.
    """
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values, lock_config=True)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    own, sys.argv = sys.argv, list(run.command)  # where ml_collections looks for overrides
    try:
        with contextlib.chdir(ROOT):
            values(sys.argv)
            values.config.keys()  # raises if the file could not be read
    except MISTAKES as error:
        raise UserError(reason(error)) from None
    finally:
        sys.argv = own
    return values.config


def described(sweep: Sweep, file: Path, data: str, seeds: int, settings: Sequence[str]) -> dict[str, Any]:
    """The object of sweep.json, which is all that the report needs of the sweep file."""
    file = file.resolve()
    return {
        "name": file.stem if data == sweeps.DATA[0] else f"{file.stem}:{data}",
        "file": text_of(str(file.relative_to(ROOT) if file.is_relative_to(ROOT) else file)),
        "data": data,
        "settings": list(map(text_of, settings)),
        "seeds": list(range(seeds or sweep.seeds)),
        **{key: value for key, value in _plain(sweep).items() if key != "seeds"},
        "baseline": sweep.baseline or next(iter(sweep.variants)),
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def ready(runs: Sequence[Run], finished: set[str]) -> Iterator[Run]:
    """Those of `runs` whose needs are all in `finished`."""
    return (run for run in runs if finished.issuperset(run.needs))
