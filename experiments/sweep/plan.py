"""From a sweep file to its tasks: the trainings and evaluations that it asks for."""

import contextlib
import dataclasses
import fnmatch
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs.common import validate
from experiments import cli, sweeps
from experiments.sweeps import Overrides, Sweep
from inception_jax.errors import UserError
from inception_jax.evaluation.protocols import NAMES
from inception_jax.models import create_model
from inception_jax.names import text_of
from inception_jax.paths import AnyPath, bucket_errors, make_directory, write_whole

ROOT = Path(__file__).parents[2]
EVALUATIONS = "evaluations"  # the directory of their results
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")  # of variants, which name directories
_TAKEN = (EVALUATIONS, "sweep.json", "plan.json", "report.html", "report.md")
_MEASURES = ("top1", "no_worse", "steps")


@dataclasses.dataclass(frozen=True)
class Task:
    """One training or evaluation.

    Attributes:
      name: its directory below the sweep's, 'VARIANT/SEED' or 'evaluations/NAME/SEED'.
      seed: one of the sweep's seeds.
      command: arguments of Python, run in the project's directory.
      needs: names of the tasks that must be finished before.
    """

    name: str
    seed: int
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def variant(self) -> str:
        """Name of the variant or evaluation."""
        return self.name.removeprefix(f"{EVALUATIONS}/").rpartition("/")[0]

    @property
    def shown(self) -> str:
        """The command after 'python', as one types it."""
        return shlex.join(self.command)


def load(file: str, seeds: int = 0, settings: Sequence[str] = ()) -> tuple[Sweep, dict[str, Any]]:
    """Reads a sweep file.

    Args:
      file: FILE or FILE:DATA.
      seeds: number of seeds; 0: as the sweep says.
      settings: flags for all trainings, see `tasks_of`.

    Returns:
      The sweep, and the object of sweep.json, which is all that the report needs of it.

    Raises:
      UserError: there is no such file or data set, or the sweep contradicts itself.
    """
    name, _, data = file.partition(":")
    path = Path(name)
    if not path.is_file():
        known = sorted(p.stem for p in Path(sweeps.__file__).parent.glob("[!_]*.py"))
        raise UserError(f"there is no sweep file {name}; experiments/sweeps/ has {', '.join(known)}")
    spec = importlib.util.spec_from_file_location(f"sweep_{path.stem}", path)
    if spec is None:
        raise UserError(f"{name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        known = getattr(module, "DATA", sweeps.DATA)
        data = data or known[0]
        if data not in known:
            raise UserError(f"{file}: {data!r} is not one of {', '.join(known)}")
        sweep = module.get_sweep(data)
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(f"{name} cannot be read: {error}") from error
    except Exception as error:  # whatever a user's file raises
        raise UserError(f"{name} cannot be read: {type(error).__name__}: {' '.join(str(error).split())}") from error
    _check(sweep, name)
    return sweep, _described(sweep, path.resolve(), data, data == known[0], seeds, settings)


def _check(sweep: Sweep, name: str) -> None:
    if not isinstance(sweep, Sweep) or not sweep.variants:
        raise UserError(f"{name}: get_sweep(data) must return a Sweep with variants")
    named = [*sweep.variants, *sweep.evaluations]
    for one in named:
        if not _NAME.fullmatch(one) or one in _TAKEN or named.count(one) > 1:
            raise UserError(f"{name}: {one!r} cannot name a directory; use letters, digits and _.+-")
    references = [("printed", variant) for variant in sweep.printed]
    references += [("the baseline", sweep.baseline)] if sweep.baseline else []
    for claim in sweep.claims:
        better, than = ((one,) if isinstance(one, str) else one for one in (claim.better, claim.than))
        if len(better) != len(than):
            raise UserError(f"{name}: the claim {claim.text!r} compares {len(better)} variants with {len(than)}")
        references += [("a claim", variant) for variant in (*better, *than)]
        _check_word(f"{name}: a claim's measure", claim.measure, _MEASURES)
    for what, variant in references:
        _check_word(f"{name}: {what}", variant, named)
    for key, evaluation in sweep.evaluations.items():
        for member in evaluation.members:
            _check_word(f"{name}: evaluation {key!r}", member, sweep.variants)
        for protocol in evaluation.protocol.split(","):
            _check_word(f"{name}: evaluation {key!r}", protocol, NAMES)


def _check_word(what: str, word: str, known: Sequence[str]) -> None:
    if word not in known:
        raise UserError(f"{what}: {word!r} is not one of {', '.join(known)}")


def _described(
    sweep: Sweep, file: Path, data: str, is_default: bool, seeds: int, settings: Sequence[str]
) -> dict[str, Any]:
    content = dataclasses.asdict(sweep) | {
        "name": file.stem if is_default else f"{file.stem}:{data}",
        "file": text_of(str(file.relative_to(ROOT) if file.is_relative_to(ROOT) else file)),
        "data": data,
        "settings": list(map(text_of, settings)),
        "seeds": list(range(seeds or sweep.seeds)),
        "baseline": sweep.baseline or next(iter(sweep.variants)),
        "base": {"config": sweep.base.config, "overrides": dict(sweep.base.overrides)},
    }
    if sweep.base.sets:
        content |= _on_sets(sweep)
    return json.loads(json.dumps(content))


def _on_sets(sweep: Sweep) -> dict[str, Any]:
    """What sweep.json says otherwise of a sweep on several sets: names are 'SET/NAME', and claims are of all sets."""
    sets = sweep.base.sets

    def on_all(names: str | Sequence[str]) -> list[str]:
        return [f"{one}/{name}" for one in sets for name in ((names,) if isinstance(names, str) else names)]

    return {
        "sets": list(sets),
        "chance": {name: one.chance for name, one in sets.items()},
        "variants": {
            f"{name}/{variant}": {**one.overrides, **changes}
            for name, one in sets.items()
            for variant, changes in sweep.variants.items()
        },
        "evaluations": {
            f"{name}/{key}": {"members": [f"{name}/{member}" for member in one.members], "protocol": one.protocol}
            for name in sets
            for key, one in sweep.evaluations.items()
        },
        "claims": [
            dataclasses.asdict(claim) | {"better": on_all(claim.better), "than": on_all(claim.than)}
            for claim in sweep.claims
        ],
    }


def check_directory(directory: AnyPath, described: dict[str, Any]) -> None:
    """Raises a UserError if `directory` holds another sweep."""
    try:
        with bucket_errors(directory):
            present = json.loads((directory / "sweep.json").read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if present != described["name"]:
        raise UserError(f"workdir={directory} holds the sweep {present}; choose another directory")


def describe(directory: AnyPath, described: dict[str, Any]) -> None:
    """Makes the directory of a sweep and writes its sweep.json; raises UserError if it cannot."""
    try:
        make_directory(directory)
    except UserError as error:
        raise UserError(f"workdir={error}") from None
    write_whole(directory / "sweep.json", (json.dumps(described, indent=1) + "\n").encode())


def tasks_of(
    sweep: Sweep,
    directory: AnyPath,
    seeds: int = 0,
    patterns: Sequence[str] = (),
    settings: Sequence[str] = (),
) -> list[Task]:
    """Returns the tasks of a sweep, seed by seed, so that all variants have a result early; evaluations last.

    Args:
      sweep: what `load` returns.
      directory: directory of the sweep, absolute.
      seeds: number of seeds; 0: as the sweep says.
      patterns: names such as 'x5*' or 'x5*/0'; tasks that match one are taken, and what these need. None given: all.
      settings: flags for all trainings, '--config.KEY=VALUE'; those of a variant override them.

    Raises:
      UserError: a pattern matches no task, or a setting is the seed.
    """
    tasks = []
    for seed in range(seeds or sweep.seeds):
        for variant in sweep.variants:
            name = f"{variant}/{seed}"
            command = ("main.py", *flags_of(sweep, variant, seed, settings), f"--workdir={directory / name}")
            tasks.append(Task(name, seed, command))
    for seed in range(seeds or sweep.seeds):
        for key, evaluation in sweep.evaluations.items():
            name = f"{EVALUATIONS}/{key}/{seed}"
            needs = tuple(f"{member}/{seed}" for member in evaluation.members)
            command = ("-m", "experiments.evaluate", *(f"--workdir={directory / need}" for need in needs))
            command += (f"--protocol={evaluation.protocol}", "--checkpoint=last", f"--out={directory / name}")
            tasks.append(Task(name, seed, command, needs))
    for pattern in patterns:
        if not any(_matches(task, pattern) for task in tasks):
            variants = ", ".join(dict.fromkeys(task.variant for task in tasks))
            raise UserError(f"filter={pattern} matches none of {variants}")
    taken = [task for task in tasks if not patterns or any(_matches(task, pattern) for pattern in patterns)]
    needed = {name for task in taken for name in task.needs}
    return [task for task in tasks if task in taken or task.name in needed]


def flags_of(
    sweep: Sweep, variant: str, seed: int, settings: Sequence[str] = (), overrides: Overrides | None = None
) -> list[str]:
    """Returns the flags of main.py for one training.

    Args:
      sweep: what `load` returns.
      variant: name of the variant.
      seed: one of the sweep's seeds.
      settings: see `tasks_of`.
      overrides: of the set of images; they go over those of the base, and those of the variant over them.

    Raises:
      UserError: a setting is the seed.
    """
    given = {_key(setting) for setting in settings}
    if "seed" in given:
        raise UserError("the seed cannot be set for all runs, each has its own; set the number of seeds instead")
    changes = sweep.variants[variant]
    own = {**changes, "seed": seed + changes.get("seed", 0)}
    recipe = own.pop("config", sweep.base.config)
    base = {key: own.get(key, value) for key, value in {**sweep.base.overrides, **(overrides or {})}.items()}
    flags = [_flag(key, value) for key, value in base.items() if key in own or key not in given]
    flags += [setting for setting in settings if _key(setting) not in own]
    flags += [_flag(key, value) for key, value in own.items() if key not in base]
    return [f"--config={recipe}", *flags]


def _matches(task: Task, pattern: str) -> bool:
    names = (task.name, task.variant, f"{task.variant}/{task.seed}")
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _key(setting: str) -> str:
    """'model.aux' of '--config.model.aux=True' and '--noconfig.model.aux'."""
    return setting.partition("=")[0].partition(".")[2]


def _flag(key: str, value: Any) -> str:
    return f"--config.{key}={value}"


def check(tasks: Sequence[Task]) -> None:
    """Resolves the config of each training as main.py will, so that mistakes are found before anything is started.

    Raises:
      UserError: names the task and what is wrong.
    """
    for task in tasks:
        if task.command[0] == "main.py":
            check_flags(task.name, task.command[1:])


def check_flags(name: str, flags: Sequence[str]) -> ConfigDict:
    """Returns the config that main.py makes of flags; raises a UserError, with `name`, if it would refuse them."""
    try:
        config = resolve(flags)
        validate(config)
        network, size = create_model(num_classes=2, **config.model.to_dict()), config.data.image_size
        if size < network.min_size:
            raise UserError(f"images of {size}x{size} are too small for this network: {network.min_size} at least")
        if network.boxes:
            raise UserError("the network predicts boxes, and sweeps compare top-1")
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    return config


class _TaskParser(cli.Parser):
    def error(self, message: str):
        raise UserError(message)


def resolve(flags: Sequence[str]) -> ConfigDict:
    """Returns the config of main.py's flags; raises UserError if one is wrong."""
    parser = _TaskParser("main.py", "")
    parser.add_config()
    parser.add_argument("--workdir")
    with contextlib.chdir(ROOT):
        return parser.parse_args(flags).config


def ready(tasks: Sequence[Task], finished: set[str]) -> Iterator[Task]:
    """Yields the tasks whose needs are all in `finished`."""
    return (task for task in tasks if finished.issuperset(task.needs))
