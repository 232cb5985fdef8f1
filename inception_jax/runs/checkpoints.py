"""Saves and restores the checkpoints of a run with Orbax."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

from inception_jax.errors import UserError, check_choice
from inception_jax.runs.renamed import MISSING_STATE_FIELDS, STATE_FIELDS

_STATE, _METADATA = "state", "facts"  # names on disk of the items of a checkpoint

# Orbax warns when the last save of a run waits for the save before it; nothing is wrong then.
logging.getLogger("absl").addFilter(lambda record: "Waiting for previous save" not in str(record.msg))


class Checkpoints:
    """The checkpoints of one run: the latest few and the best, written in the background.

    A checkpoint holds the whole training state, and metadata in JSON:
    - What inference needs besides weights: the network, the preprocessing, the class names.
    - The metrics of the evaluation after its step, if there was one.
    - A checksum of each field of the state, because Orbax does not notice a flipped byte.
    """

    def __init__(self, directory: Path, keep: int):
        """Opens the directory, and creates it if it is missing.

        Args:
          directory: directory of all checkpoints.
          keep: number of latest checkpoints to keep; the best one (by top-1, then loss) is kept too.

        Raises:
          UserError: the directory cannot be used.
        """
        self.directory = directory.absolute()
        self._keep = keep
        self._open()

    def _open(self):
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_LatestAndBest(self._keep, self.best), cleanup_tmp_directories=True
        )
        try:
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        except OSError as error:
            raise UserError(f"{self.directory} cannot be used for checkpoints: {error.strerror}") from None
        self._metrics = {}
        for step in self._manager.all_steps():
            with contextlib.suppress(DamagedCheckpoint):  # `restore` reports it if it needs this one
                self._metrics[step] = read_metadata(self.directory / str(step))["metrics"]

    def save(self, step: int, state, inference: Mapping[str, Any], metrics: Mapping[str, float] | None = None) -> None:
        """Starts to write the checkpoint of `step`.

        An existing checkpoint of this step is replaced only to add `metrics`, and never if it is the only checkpoint.

        Args:
          step: number of finished steps.
          state: training state, a dataclass of replicated arrays.
          inference: what inference needs besides weights, in JSON's types.
          metrics: result of an evaluation after this step: 'top1', 'loss' and others.
        """
        if step in (steps := self._manager.all_steps()):
            if metrics is None or self._metrics.get(step):
                return
            self._metrics[step] = metrics
            if len(steps) == 1:
                return
            self._manager.delete(step)
        self._metrics[step] = metrics
        # A copy, because the next step reuses the memory of the state during the writing.
        host = jax.tree.map(lambda x: np.array(x.addressable_data(0)), state)

        def metadata():
            return {"inference": inference, "metrics": metrics, "checksums": _checksums(_fields(host))}

        items = {_STATE: ocp.args.StandardSave(_fields(host)), _METADATA: _SaveJsonOf(metadata)}
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, abstract, warn: Callable[[str], None]):
        """Returns the state of the latest readable checkpoint; None if there is no checkpoint.

        Later checkpoints, which could not be read, are renamed to STEP.damaged, with one warning for each.

        Args:
          abstract: structure of the state, with the shapes, dtypes and shardings of the result. The number of devices
            may differ from that of the run that saved it.
          warn: function that is called with each warning, one line.

        Raises:
          UserError: there are checkpoints, but none can be read; nothing is renamed.
        """
        damaged = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state = self._read(step, abstract)
            except (PermissionError, jax.errors.JaxRuntimeError):
                raise  # not the checkpoint's fault
            except Exception as error:  # Orbax, tensorstore and the file system raise many types.
                damaged[step] = _reason(error)
                continue
            self._set_aside(damaged, warn)
            return state
        if damaged:
            step, reason = next(iter(damaged.items()))
            raise UserError(
                f"none of the {len(damaged)} checkpoints in {self.directory} can be read (step {step}: {reason}); "
                "move them away to start from scratch"
            )
        return None

    def _read(self, step: int, abstract):
        checksums = read_metadata(self.directory / str(step))["checksums"]
        missing = {name for name in MISSING_STATE_FIELDS if name not in checksums}
        fields = {name: field for name, field in _fields(abstract).items() if name not in missing}
        if is_old := not checksums.keys() >= fields.keys():
            fields = _as_in_version_0_1(fields)
        args = ocp.args.Composite(**{_STATE: ocp.args.StandardRestore(fields)})
        with _patient_event_loops():
            fields = self._manager.restore(step, args=args)[_STATE]
        if _checksums(fields) != checksums:
            raise ValueError("its checksum is wrong")
        if is_old:
            self._metrics[step] = None  # version 0.1 saved before the evaluation changed the state, so it is repeated
            fields = _of_version_0_1(fields, abstract)
        return abstract.replace(**fields, **{name: _zeros(getattr(abstract, name)) for name in missing})

    def _set_aside(self, damaged: dict[int, str], warn: Callable[[str], None]) -> None:
        if not damaged:
            return
        self._manager.close()
        for step, reason in damaged.items():
            if jax.process_index() == 0:
                names = (f"{step}.damaged" + (f".{i}" if i else "") for i in itertools.count())
                name = next(name for name in names if not (self.directory / name).exists())
                warn(f"checkpoint {step} is damaged ({reason}); it is set aside as {name}")
                (self.directory / str(step)).rename(self.directory / name)
        multihost_utils.sync_global_devices("damaged checkpoints are set aside")
        self._open()

    def best(self) -> int | None:
        """Returns the step of the checkpoint with the highest top-1, then lowest loss; None if none was evaluated."""
        return next((step for step in best_first(self._metrics) if self._metrics[step]), None)

    def metrics(self, step: int) -> Mapping[str, float] | None:
        """Returns the metrics of the checkpoint of `step`; None if it was not evaluated."""
        return self._metrics.get(step)

    def wait(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits until everything is written, and ends the background threads."""
        self._manager.close()


def steps_in(workdir: Path) -> list[int]:
    """Returns the steps of the checkpoints in a workdir, ascending, without damaged ones that were set aside."""
    return sorted(int(entry.name) for entry in (workdir / "checkpoints").glob("*") if entry.name.isdigit())


def best_first(metrics: Mapping[int, dict | None]) -> list[int]:
    """Sorts steps from best to worst: highest top-1, then lowest loss; steps without metrics last, latest first."""

    def rank(step: int) -> tuple:
        evaluated = metrics[step]
        return (True, evaluated["top1"], -evaluated["loss"], step) if evaluated else (False, step)

    return sorted(metrics, key=rank, reverse=True)


class DamagedCheckpoint(UserError):
    """A checkpoint cannot be read; `reason` says why, without its path."""

    def __init__(self, checkpoint: Path, error: Exception):
        self.reason = _reason(error)
        super().__init__(f"{checkpoint} cannot be read as a checkpoint: {self.reason}")


def read_metadata(checkpoint: Path) -> dict:
    """Returns the metadata of a checkpoint (the directory of a step): 'inference', 'metrics' and 'checksums'.

    Raises:
      DamagedCheckpoint: it is missing, or not as `Checkpoints.save` wrote it.
    """
    try:
        facts = json.loads((checkpoint / _METADATA / "metadata").read_text(encoding="utf-8"))
        if metrics := facts["metrics"]:
            float(metrics["top1"]), float(metrics["loss"])
        return {key: facts[key] for key in ("inference", "metrics", "checksums")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(checkpoint, error) from None


def _reason(error: Exception) -> str:
    """Returns what is wrong with a checkpoint, in one line."""
    if isinstance(error, DamagedCheckpoint):
        return error.reason
    return " ".join(str(error).split())[:120] or type(error).__name__


class _LatestAndBest(preservation_policy.PreservationPolicy):
    """Keeps the latest checkpoints and the best; Orbax's own policy fails if metrics of a checkpoint are damaged."""

    def __init__(self, keep: int, best: Callable[[], int | None]):
        self._keep, self._best = keep, best

    def should_preserve(self, checkpoints: Sequence, *, context) -> list[bool]:  # noqa: ARG002 (Orbax's signature)
        latest = {checkpoint.step for checkpoint in checkpoints[-self._keep :]}
        return [checkpoint.step in latest or checkpoint.step == self._best() for checkpoint in checkpoints]


class _LazyJsonHandler(ocp.JsonCheckpointHandler):
    """Saves the result of a function, which is called in the background with the rest of the writing."""

    async def _save_fn(self, x, directory):
        await super()._save_fn(x(), directory)


@ocp.args.register_with_handler(_LazyJsonHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class _SaveJsonOf(ocp.args.CheckpointArgs):
    item: Callable[[], dict]


def read_weights(checkpoint: Path, weights: str = "") -> tuple[dict, dict]:
    """Reads what inference needs from a checkpoint (the directory of one step).

    Args:
      checkpoint: directory of the checkpoint.
      weights: 'ema' for the moving averages, 'raw' for the latest weights; '': the EMA if the run kept it, else 'raw'.

    Returns:
      The variables {'params', 'batch_stats', 'dataset_stats'} as NumPy arrays, and the metadata from `read_metadata`.

    Raises:
      DamagedCheckpoint: it is not a checkpoint, or it is damaged.
      UserError: `weights` is 'ema' and the run did not keep moving averages, or `weights` is not one of these.
    """
    if weights:
        check_choice("weights", weights, ("ema", "raw"))
    metadata = read_metadata(checkpoint)
    checksums = {STATE_FIELDS.get(name, name): checksum for name, checksum in metadata["checksums"].items()}
    try:
        arrays = _read_arrays((checkpoint / _STATE).absolute())
        state = {STATE_FIELDS.get(name, name): value for name, value in arrays.items()}
        for field in ("params", "batch_stats", "ema", "dataset_stats"):
            if _checksum(state.get(field) or {}) != checksums[field]:
                raise ValueError(f"the checksum of its {field} is wrong")
    except Exception as error:  # Orbax, tensorstore and the file system raise many types.
        raise DamagedCheckpoint(checkpoint, error) from None
    if weights == "ema" and not state.get("ema"):
        raise UserError(f"weights='ema': {checkpoint} has no moving averages, the run did not keep them; take 'raw'")
    chosen = state if weights == "raw" else state.get("ema") or state
    variables = {"params": chosen["params"], "batch_stats": chosen.get("batch_stats")}
    variables["dataset_stats"] = state.get("dataset_stats")
    return {name: part or {} for name, part in variables.items()}, metadata


def _read_arrays(directory: Path) -> dict:
    """Reads the arrays of a state as NumPy arrays, in this process alone, whatever devices they were saved from."""
    handler = ocp.PyTreeCheckpointHandler()
    with _patient_event_loops():
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(directory).tree)
        return handler.restore(directory, args=ocp.args.PyTreeRestore(restore_args=as_numpy))


class _PatientEventLoop(asyncio.SelectorEventLoop):
    def close(self):
        if not (self.is_closed() or self.is_running()) and (tasks := asyncio.all_tasks(self)):
            self.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        super().close()


@contextlib.contextmanager
def _patient_event_loops() -> Iterator[None]:
    """Makes Orbax finish reading all other arrays before it raises an error.

    Otherwise Orbax closes its event loop at the first unreadable array, and each of the others prints a traceback:
    hundreds of lines.
    """
    usual = asyncio.new_event_loop
    asyncio.new_event_loop = _PatientEventLoop
    try:
        yield
    finally:
        asyncio.new_event_loop = usual


def _fields(state) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}


def _checksums(fields: Mapping[str, Any]) -> dict[str, int]:
    return {name: _checksum(value) for name, value in fields.items()}


def _checksum(tree) -> int:
    checksum = 0
    for leaf in jax.tree.leaves(tree):
        # Replicated, so every device holds the whole array.
        local = leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf
        checksum = zlib.crc32(np.ascontiguousarray(local), checksum)  # type: ignore[arg-type]  # an array is a buffer
    return checksum


def _as_in_version_0_1(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the abstract fields of a state as version 0.1 saved them: old names, and no learning rate."""
    old_names = {new: old for old, new in STATE_FIELDS.items()}
    old = {old_names.get(name, name): field for name, field in fields.items()}
    return old | {"opt_state": fields["opt_state"].inner_state}


def _of_version_0_1(fields: Mapping[str, Any], abstract) -> dict[str, Any]:
    """Returns the fields of a state restored from version 0.1 under their present names."""
    new = {STATE_FIELDS.get(name, name): field for name, field in fields.items()}
    return new | {"opt_state": _zeros(abstract.opt_state)._replace(inner_state=fields["opt_state"])}


def _zeros(abstract):
    return jax.tree.map(lambda x: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding), abstract)
