"""Weights outside of a run: exported to a file, taken over by another run, loaded to be used."""

import dataclasses
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import flax
import jax
import numpy as np

from inception_jax.data.augment import Preprocessing
from inception_jax.data.loader import Geometry
from inception_jax.errors import UserError
from inception_jax.evaluation.classifier import Classifier
from inception_jax.names import check_utf8, readable
from inception_jax.training.checkpoints import DamagedCheckpoint, best_first, read_facts, read_weights, steps_in
from inception_jax.training.optimizers import path_of

_FACTS = "facts"  # beside the arrays of an exported file: JSON


def read_checkpoint(
    path: Path, which: str = "best", weights: str = "", warn: Callable[[str], None] = warnings.warn
) -> tuple[dict, dict, Path]:
    """Reads what inference needs from a checkpoint of a workdir.

    Of the best and the last checkpoint the next one takes the place if it is damaged, as in training.

    Args:
      path: a workdir, or a checkpoint itself.
      which: 'best' (by top-1; the last, if none was evaluated), 'last', or a step.
      weights: see `checkpoints.read_weights`.
      warn: called with a line for each checkpoint that is damaged.

    Returns:
      Variables and facts, see `checkpoints.read_weights`, and the directory of the checkpoint.

    Raises:
      UserError: there is no such checkpoint, all are damaged, or its path is not UTF-8.
    """
    check_utf8(path.absolute())
    if (path / "state").is_dir():
        return *read_weights(path, weights), path
    steps = steps_in(path)
    if not steps:
        raise UserError(f"{path} is neither a workdir with checkpoints nor a checkpoint nor a file of weights")
    if which.isdigit() and int(which) in steps:
        checkpoint = path / "checkpoints" / str(int(which))
        return *read_weights(checkpoint, weights), checkpoint
    if which not in ("best", "last"):
        raise UserError(f"{path} has no checkpoint {which!r}; it has best, last, {', '.join(map(str, steps))}")
    steps.reverse()
    damaged = None
    if which == "best":
        metrics = {}
        for step in steps:
            try:
                metrics[step] = read_facts(path / "checkpoints" / str(step))["metrics"]
            except DamagedCheckpoint as error:
                damaged = damaged or error
        steps = best_first(metrics)
    for step in steps:
        checkpoint = path / "checkpoints" / str(step)
        try:
            found = *read_weights(checkpoint, weights), checkpoint
        except DamagedCheckpoint as error:
            damaged = damaged or error
            continue
        if damaged:
            warn(f"{damaged}; checkpoint {step} takes its place")
        return found
    raise damaged


def load(
    path: str | os.PathLike, checkpoint: str = "best", weights: str = "", warn: Callable[[str], None] = warnings.warn
) -> Classifier:
    """Loads a trained network.

    Args:
      path: a workdir of training, one of its checkpoints, or a file of `export_weights`.
      checkpoint: of a workdir: 'best' (by top-1), 'last' or a step; see `read_checkpoint`.
      weights: 'ema', the moving averages, or 'raw', the latest; '': the averages where the run kept them.
      warn: called with a line if a checkpoint is damaged and another one taken.

    Raises:
      UserError: there is no such thing, or it is damaged.
    """
    place = Path(os.path.expanduser(path))
    if not place.exists():
        raise UserError(f"there is no {place}")
    if place.is_dir():
        variables, facts, place = read_checkpoint(place, checkpoint, weights, warn)
        inference = facts["inference"]
    elif weights:
        raise UserError(f"{place} holds one kind of weights; weights {weights!r} are of a workdir")
    else:
        variables, inference = read_exported(place)
        if not inference:
            raise UserError(f"{place} does not say which network its weights are of; export it again")
    options, known = inference["model"], inference["preprocessing"]
    return Classifier(
        name=options["name"],
        source=place,
        options=options,
        variables=variables,
        class_names=tuple(map(readable, inference["class_names"])),
        preprocessing=_from(Preprocessing, known),
        geometry=_from(Geometry, known),
    )


def _from(kind: type, values: Mapping):
    """An instance of the dataclass, from those of `values` (of JSON) that are its fields."""
    fields = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in fields})


def export_weights(
    path: Path, file: Path, which: str = "best", warn: Callable[[str], None] = warnings.warn
) -> tuple[int, Path]:
    """Writes the weights of a checkpoint to an .npz file, by names such as 'params/inception_4a/conv1x1/kernel'.

    With them go the statistics of the training set, and 'facts', a JSON text of what inference needs besides: network,
    preprocessing, class names.

    Args:
      path: see `read_checkpoint`; as `which` and `warn`.
      file: to write.

    Returns:
      The number of arrays, and the directory of the checkpoint.

    Raises:
      UserError: the checkpoint cannot be read, or the file not be written.
    """
    variables, facts, checkpoint = read_checkpoint(path, which, warn=warn)
    arrays = _flat(variables)
    try:
        with open(file, "wb") as target:
            np.savez(target, **arrays, **{_FACTS: np.array(json.dumps(facts["inference"]))})
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None
    return len(arrays), checkpoint


def load_weights(path: str, warn: Callable[[str], None] = warnings.warn) -> dict[str, np.ndarray]:
    """Reads weights by names such as 'params/inception_4a/conv1x1/kernel' and 'batch_stats/...'.

    Args:
      path: a workdir (its best checkpoint), a checkpoint (WORKDIR/checkpoints/STEP), or a file of `export_weights`. Of
        a run that kept moving averages these are taken.
      warn: see `load`.

    Raises:
      UserError: it is none of these, or damaged.
    """
    place = Path(os.path.expanduser(path))
    if not place.exists():
        raise UserError(f"there is no {place} to take weights from")
    variables = read_checkpoint(place, warn=warn)[0] if place.is_dir() else read_exported(place)[0]
    return _flat({part: variables[part] for part in ("params", "batch_stats")})


def read_exported(file: Path) -> tuple[dict, dict]:
    """Reads a file of `export_weights`.

    Returns:
      The variables {'params', 'batch_stats', 'statistics'} as NumPy arrays, and what inference needs besides, {} if
      the file does not say.

    Raises:
      UserError: it is no such file, or damaged.
    """
    try:
        with np.load(file) as arrays:
            facts = json.loads(str(arrays[_FACTS])) if _FACTS in arrays.files else {}
            flat = {tuple(name.split("/")): arrays[name] for name in arrays.files if name != _FACTS}
        return {"params": {}, "batch_stats": {}, "statistics": {}} | flax.traverse_util.unflatten_dict(flat), facts
    except Exception as error:  # NumPy and zipfile raise many types on damaged files
        raise UserError(f"{file} cannot be read as a file of exported weights: {error}") from None


def transfer(variables: dict, weights: dict[str, np.ndarray], new: Sequence[str]) -> tuple[dict, list[str]]:
    """Takes weights over into a network.

    A parameter that fits one of the patterns `new` stays as it is initialised; every other must be among the weights,
    with its very shape.

    Args:
      variables: {'params', 'batch_stats'} of the network.
      weights: of `load_weights`.
      new: patterns, searched in 'inception_4a/conv1x1/kernel'.

    Returns:
      The variables with the weights, and the report, lines.

    Raises:
      UserError: parameters are missing or have other shapes; all are listed.
    """
    taken, begun, wrong = [], [], []

    def take(path, ours):
        name = path_of(path)
        if any(re.search(pattern, name.partition("/")[2]) for pattern in new):
            begun.append(name)
            return ours
        theirs = weights.get(name)
        if theirs is None:
            wrong.append(f"{name}: not there")
        elif theirs.shape != ours.shape:
            wrong.append(f"{name}: {_shape(theirs)} there, {_shape(ours)} here")
        else:
            taken.append(name)
            return theirs.astype(ours.dtype)
        return ours

    variables = jax.tree_util.tree_map_with_path(take, variables)
    if wrong:
        listed = "\n".join(f"  {line}" for line in wrong)
        raise UserError(
            f"config.init_from: {len(wrong)} of {len(wrong) + len(taken) + len(begun)} arrays do not match; those that "
            f"are to begin anew must fit a pattern of config.init_new:\n{listed}"
        )
    lines = [f"{len(taken)} arrays are taken over, {len(begun)} begin anew"]
    if begun:
        lines.append("begin anew: " + ", ".join(begun))
    unused = sorted(weights.keys() - set(taken))
    if unused:
        lines.append("not used: " + ", ".join(unused))
    return variables, lines


def _flat(variables: dict) -> dict[str, np.ndarray]:
    return {path_of(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(variables)}


def _shape(array) -> str:
    return "x".join(map(str, array.shape)) or "scalar"
