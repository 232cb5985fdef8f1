"""Saves and restores the checkpoints of a run with Orbax."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import itertools
import json
import logging
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from inception_jax import paths
from inception_jax.errors import UserError, check_choice
from inception_jax.paths import AnyPath
from inception_jax.runs.renamed import MISSING_STATE_FIELDS, STATE_FIELDS
from inception_jax.runs.run import score_key

_STATE, _METADATA = "state", "facts"  # names on disk of the items of a checkpoint
_UNFINISHED = ".orbax-checkpoint-tmp"  # in the names of Orbax's directories until they are complete
# Orbax is used by the first process alone. The state is replicated, so no other has anything to add or to wait for.
_ALONE = ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix="inception_jax"
)


class Checkpoints:
    """The checkpoints of one run: the latest few and the best, written in the background.

    Only the first process reads and writes files, so no decision has to be agreed and no disk is shared.

    A checkpoint holds the whole training state, and metadata in JSON:
    - What inference needs besides weights: the network, the preprocessing, the class names.
    - The metrics of the evaluation after its step, if there was one.
    - A checksum of each field of the state, because Orbax does not notice a flipped byte; and one of the metadata.

    Attributes:
      directory: directory of all checkpoints.
      window, log: what `save` got with the state that `restore` returned; {} before.

    In a bucket a checkpoint is uploaded from a temporary directory, and counts from when `paths.COMMITTED` is in it.
    """

    def __init__(self, directory: AnyPath, keep: int):
        """Opens the directory, and creates it if it is missing; removes what an earlier process did not complete.

        Args:
          directory: directory of all checkpoints.
          keep: number of latest checkpoints to keep; the best one (by its score, then loss) is kept too.

        Raises:
          UserError: the directory cannot be used.
        """
        self.directory = directory
        self.window: Mapping[str, Any] = {}
        self.log: Mapping[str, int] = {}
        self._keep = keep
        self._metrics: dict[int, Mapping[str, float] | None] = {}  # by step, of all checkpoints
        self._writer = concurrent.futures.ThreadPoolExecutor(1, "checkpoints")
        self._writing: concurrent.futures.Future | None = None
        self._is_first = jax.process_index() == 0
        if not self._is_first:
            return
        paths.make_directory(directory)
        complete = _steps_below(directory)
        for name in paths.names_in(directory):
            if _UNFINISHED in name or (name.isdigit() and int(name) not in complete):
                paths.remove(directory / name)
        for step in complete:
            self._metrics[step] = None
            with contextlib.suppress(DamagedCheckpoint):  # `restore` reports it if it needs this one
                self._metrics[step] = read_metadata(directory / str(step))["metrics"]

    def save(
        self,
        step: int,
        state,
        inference: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
        window: Mapping[str, Any] | None = None,
        log: Mapping[str, int] | None = None,
    ) -> None:
        """Starts to write the checkpoint of `step`.

        An existing checkpoint of this step is replaced only to add `metrics`, and never if it is the only checkpoint.

        Args:
          step: number of finished steps.
          state: training state, a dataclass of replicated arrays.
          inference: what inference needs besides weights, in JSON's types.
          metrics: result of an evaluation after this step: 'top1', 'loss' and others.
          window: metrics of the steps since the last row of the log, in JSON's types.
          log: what the log of metrics held, see `Workdir.lines_before`.

        Raises:
          UserError: the checkpoint before could not be written, see `wait`.
        """
        self.wait()
        exists, alone = step in self._metrics, len(self._metrics) == 1
        if exists and (metrics is None or self._metrics[step]):
            return
        self._metrics[step] = metrics
        if (exists and alone) or not self._is_first:
            return
        # A copy, because the next step reuses the memory of the state during the writing.
        fields = _fields(jax.tree.map(lambda x: np.array(x.addressable_data(0)), state))
        latest = sorted(self._metrics)[-self._keep :]
        superseded = [other for other in self._metrics if other not in (*latest, self.best())]
        for other in superseded:
            del self._metrics[other]
        metadata = {"inference": inference, "metrics": metrics, "window": window or {}, "log": log or {}}
        self._writing = self._writer.submit(self._write, step, fields, metadata, exists, superseded)

    def _write(self, step: int, fields: dict, metadata: dict, replaces: bool, superseded: list[int]) -> None:
        metadata = metadata | {"checksums": _checksums(fields)}
        metadata["checksum"] = _metadata_checksum(metadata)
        items = {_STATE: ocp.args.StandardSave(fields), _METADATA: ocp.args.JsonSave(metadata)}
        target = self.directory / str(step)
        with contextlib.ExitStack() as stack:
            if replaces:
                paths.remove(target)
            local = target if isinstance(target, Path) else Path(stack.enter_context(_temporary())) / str(step)
            try:
                with _patient_event_loops(), _no_log():
                    _orbax().save(local, args=ocp.args.Composite(**items))
            except Exception:
                for name in paths.names_in(local.parent):  # of a full disk: others need the room
                    if _UNFINISHED in name:
                        paths.remove(local.parent / name)
                raise
            if not isinstance(target, Path):
                paths.upload(local, target, commit=True)
        for other in superseded:
            paths.remove(self.directory / str(other))

    def restore(self, abstract, warn: Callable[[str], None]):
        """Returns the state of the latest readable checkpoint, NumPy arrays; None if there is no checkpoint.

        Later checkpoints, which could not be read, are renamed to STEP.damaged, with one warning for each.

        Args:
          abstract: structure of the state, with the shapes and dtypes of the result. The number of devices may differ
            from that of the run that saved it.
          warn: function that is called with each warning, one line.

        Raises:
          UserError: there are checkpoints, but none can be read; nothing is renamed. Or the bucket cannot be reached.
        """
        damaged = {}
        for step in sorted(self._metrics, reverse=True):
            try:
                state = self._read(step, abstract)
            except PermissionError as error:  # not the checkpoint's fault
                raise UserError(f"{self.directory / str(step)} cannot be read: {paths.reason(error)}") from None
            except DamagedCheckpoint as error:
                damaged[step] = error.reason
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
        checkpoint = self.directory / str(step)
        metadata = read_metadata(checkpoint)
        checksums = metadata["checksums"]
        fields = _fields(abstract)
        missing = {name for name in MISSING_STATE_FIELDS if name in fields and name not in checksums}
        fields = {name: field for name, field in fields.items() if name not in missing}
        if is_old := not checksums.keys() >= fields.keys():
            fields = _as_in_version_0_1(fields)
        with _reading(checkpoint) as directory:
            fields = _read_arrays(directory / _STATE, fields)
            if _checksums(fields) != checksums:
                raise ValueError("its checksum is wrong")
        if is_old:
            self._metrics[step] = None  # version 0.1 saved before the evaluation changed the state, so it is repeated
            fields = _of_version_0_1(fields, abstract)
        self.window, self.log = metadata["window"], metadata["log"]
        return abstract.replace(**fields, **{name: _zeros(getattr(abstract, name)) for name in missing})

    def _set_aside(self, damaged: dict[int, str], warn: Callable[[str], None]) -> None:
        for step, reason in damaged.items():
            names = (f"{step}.damaged" + (f".{i}" if i else "") for i in itertools.count())
            present = paths.names_in(self.directory)
            name = next(name for name in names if name not in present)
            warn(f"checkpoint {step} is damaged ({reason}); it is set aside as {name}")
            paths.rename(self.directory / str(step), self.directory / name)
            del self._metrics[step]

    def best(self) -> int | None:
        """Returns the step of the checkpoint with the highest score, then lowest loss; None if none was evaluated."""
        return next((step for step in best_first(self._metrics) if self._metrics[step]), None)

    def metrics(self, step: int) -> Mapping[str, float] | None:
        """Returns the metrics of the checkpoint of `step`; None if it was not evaluated."""
        return self._metrics.get(step)

    def wait(self) -> None:
        """Waits until everything is written.

        Raises:
          UserError: it could not be written; the checkpoints before it are as they were.
        """
        if self._writing is None:
            return
        try:
            self._writing.result()
        except UserError:
            raise
        except Exception as error:  # Orbax, tensorstore and the file system raise many types
            if not (reason := _file_error(error)):
                raise
            raise UserError(
                f"the checkpoint in {self.directory} cannot be written: {reason}; those before it are kept. Make room, "
                "or make it writable, and rerun the same command to resume"
            ) from None
        finally:
            self._writing = None

    def close(self) -> None:
        """Waits until everything is written, and ends the background thread."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()


def _file_error(error: Exception) -> str:
    """Returns the reason of an error that the file system is to blame for, '' of any other."""
    if isinstance(error, OSError):
        return paths.reason(error)
    text = str(error)  # TensorStore's are ValueErrors with the words of the system
    known = (os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO))
    return next((words for words in known if words in text), "")


def _orbax() -> ocp.Checkpointer:
    handlers = {
        _STATE: ocp.StandardCheckpointHandler(multiprocessing_options=_ALONE),
        _METADATA: ocp.JsonCheckpointHandler(multiprocessing_options=_ALONE),
    }
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=_ALONE), **handlers
    )
    return ocp.Checkpointer(handler, multiprocessing_options=_ALONE)


_temporary = functools.partial(tempfile.TemporaryDirectory, prefix="inception_jax-", ignore_cleanup_errors=True)


def _steps_below(directory: AnyPath) -> list[int]:
    steps = sorted(int(name) for name in paths.names_in(directory) if name.isdigit())
    if isinstance(directory, Path):
        return steps
    return [step for step in steps if paths.COMMITTED in paths.names_in(directory / str(step))]


def steps_in(workdir: AnyPath) -> list[int]:
    """Returns the steps of the checkpoints in a workdir, ascending, without damaged ones that were set aside."""
    return _steps_below(workdir / "checkpoints")


def best_first(metrics: Mapping[int, Mapping | None]) -> list[int]:
    """Sorts steps from best to worst: highest score, then lowest loss; steps without metrics last, latest first.

    The score is top-1, or of boxes their accuracy (`run.SCORES`).
    """

    def rank(step: int) -> tuple:
        evaluated = metrics[step]
        return (True, evaluated[score_key(evaluated)], -evaluated["loss"], step) if evaluated else (False, step)

    return sorted(metrics, key=rank, reverse=True)


class DamagedCheckpoint(UserError):
    """A checkpoint cannot be read; `reason` says why, without its path."""

    def __init__(self, checkpoint: AnyPath, error: Exception):
        self.reason = _reason(error)
        super().__init__(f"{checkpoint} cannot be read as a checkpoint: {self.reason}")


def read_metadata(checkpoint: AnyPath) -> dict:
    """Returns the metadata of a checkpoint (the directory of a step): what `Checkpoints.save` got, and 'checksums'.

    Raises:
      DamagedCheckpoint: it is missing, or not as `Checkpoints.save` wrote it.
    """
    try:
        with paths.bucket_errors(checkpoint):
            facts = json.loads((checkpoint / _METADATA / "metadata").read_text(encoding="utf-8"))
        if "checksum" in facts and facts["checksum"] != _metadata_checksum(facts):  # older versions wrote none
            raise ValueError("the checksum of its metadata is wrong")
        if metrics := facts["metrics"]:
            float(metrics[score_key(metrics)]), float(metrics["loss"])
        newer = {key: facts.get(key, {}) for key in ("window", "log")}
        return {key: facts[key] for key in ("inference", "metrics", "checksums")} | newer
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(checkpoint, error) from None


def _reason(error: Exception) -> str:
    """Returns what is wrong with a checkpoint, in one line."""
    if isinstance(error, DamagedCheckpoint):
        return error.reason
    return " ".join(str(error).split())[:120] or type(error).__name__


def read_weights(checkpoint: AnyPath, weights: str = "") -> tuple[dict, dict]:
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
    with _reading(checkpoint) as directory:
        arrays = _read_arrays(directory / _STATE)
        state = {STATE_FIELDS.get(name, name): value for name, value in arrays.items()}
        for field in ("params", "batch_stats", "ema", "dataset_stats"):
            if _checksum(state.get(field) or {}) != checksums[field]:
                raise ValueError(f"the checksum of its {field} is wrong")
    if weights == "ema" and not state.get("ema"):
        raise UserError(f"weights='ema': {checkpoint} has no moving averages, the run did not keep them; take 'raw'")
    chosen = state if weights == "raw" else state.get("ema") or state
    variables = {"params": chosen["params"], "batch_stats": chosen.get("batch_stats")}
    variables["dataset_stats"] = state.get("dataset_stats")
    return {name: part or {} for name, part in variables.items()}, metadata


def read_state(checkpoint: AnyPath) -> dict:
    """Returns all arrays of a checkpoint (the directory of one step), NumPy, as nested dictionaries and lists.

    Raises:
      DamagedCheckpoint: it is not a checkpoint, or it cannot be read.
    """
    with _reading(checkpoint) as directory:
        return _read_arrays(directory / _STATE)


@contextlib.contextmanager
def _reading(checkpoint: AnyPath) -> Iterator[Path]:
    """Gives the local directory of a checkpoint, and turns what fails while it is read into a DamagedCheckpoint."""
    with contextlib.ExitStack() as stack:
        try:
            if isinstance(checkpoint, Path):
                local = checkpoint.absolute()  # as Orbax asks
            else:
                local = Path(stack.enter_context(_temporary())) / checkpoint.name
                paths.download(checkpoint, local)
            yield local
        except (PermissionError, MemoryError, UserError):  # not the checkpoint's fault
            raise
        except Exception as error:  # Orbax, tensorstore and the file system raise many types
            raise DamagedCheckpoint(checkpoint, error) from None


def _read_arrays(directory: Path, abstract: Mapping[str, Any] | None = None) -> dict:
    """Reads the arrays of a state as NumPy arrays, in this process alone, whatever devices they were saved from.

    Args:
      directory: the state's.
      abstract: structure of the result with its shapes and dtypes; None: as it was saved, in dictionaries and lists.

    Raises:
      ValueError: the state has another structure, or arrays of other shapes or dtypes.
    """
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_ALONE)
    with _patient_event_loops():
        structure = handler.metadata(directory).tree if abstract is None else abstract
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), structure)
        restore_args = ocp.args.PyTreeRestore(item=abstract, restore_args=as_numpy)
        arrays = handler.restore(directory, args=restore_args)
    for wanted, found in zip(jax.tree.leaves(abstract), jax.tree.leaves(arrays), strict=False):
        if (wanted.shape, wanted.dtype) != (found.shape, found.dtype):
            raise ValueError(f"an array is {found.dtype}{list(found.shape)}, not {wanted.dtype}{list(wanted.shape)}")
    return arrays


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
    """Leaves out the traceback that Orbax logs of an error in one of its threads, because it raises the error too."""

    def is_other(record: logging.LogRecord) -> bool:
        return "raised an exception" not in record.getMessage()

    log = logging.getLogger("absl")
    log.addFilter(is_other)
    try:
        yield
    finally:
        log.removeFilter(is_other)


class _PatientEventLoop(asyncio.SelectorEventLoop):
    def close(self):
        if not (self.is_closed() or self.is_running()) and (tasks := asyncio.all_tasks(self)):
            self.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        super().close()


@contextlib.contextmanager
def _patient_event_loops() -> Iterator[None]:
    """Makes Orbax finish with all other arrays before it raises an error.

    Otherwise Orbax closes its event loop at the first array that cannot be read or written, and each of the others
    prints a traceback: hundreds of lines.
    """
    usual = asyncio.new_event_loop
    asyncio.new_event_loop = _PatientEventLoop
    try:
        yield
    finally:
        asyncio.new_event_loop = usual


def _fields(state: Any) -> dict[str, Any]:
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


def _metadata_checksum(metadata: Mapping[str, Any]) -> int:
    checked = {key: value for key, value in metadata.items() if key != "checksum"}
    return zlib.crc32(json.dumps(checked, sort_keys=True).encode())


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
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract)
