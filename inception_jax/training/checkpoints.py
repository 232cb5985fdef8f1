"""Checkpoints of a run, by Orbax."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

from inception_jax.errors import UserError, choose
from inception_jax.training.state import TrainState

_STATE, _FACTS = "state", "facts"

# At the end of a run the last save waits for the one before it, and there is nothing to be done about it.
logging.getLogger("absl").addFilter(lambda record: "Waiting for previous save" not in str(record.msg))


class Checkpoints:
    """The checkpoints of one run: the last few and the best, written in the background.

    Each holds the whole state of training, and a JSON object of facts: what inference needs besides (the network, the
    preprocessing, the class names), the metrics of an evaluation at this step, and the checksums of the state's parts,
    since a flipped byte goes through Orbax unnoticed.
    """

    def __init__(self, directory: Path, keep: int):
        """Opens `directory`, which is made if it is not there.

        Args:
          directory: of all checkpoints.
          keep: how many of the last are kept; the best (by top-1) is kept besides.
        """
        self.directory = directory.absolute()
        self._keep = keep
        self._open()

    def _open(self):
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_LastAndBest(self._keep, self.best), cleanup_tmp_directories=True
        )
        try:
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        except OSError as error:
            raise UserError(f"{self.directory} cannot be used for checkpoints: {error.strerror}") from None
        self._metrics = {}
        for step in self._manager.all_steps():
            # Of a damaged one nothing is known; `restore` says so if it comes to it.
            with contextlib.suppress(DamagedCheckpoint):
                self._metrics[step] = read_facts(self.directory / str(step))["metrics"]

    def save(self, state: TrainState, inference: dict) -> None:
        """Begins to write the checkpoint of `state.step`; does nothing if there is one.

        Args:
          state: of training, replicated.
          inference: what inference needs besides, JSON.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        facts = {"inference": inference, "metrics": None, "checksums": _checksums(state)}
        items = {_STATE: ocp.args.StandardSave(state), _FACTS: ocp.args.JsonSave(facts)}
        self._manager.save(step, args=ocp.args.Composite(**items))

    def add_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Adds the metrics of an evaluation ('top1' and 'loss' among them) to the checkpoint of `step`."""
        self.wait()
        self._metrics[step] = metrics
        if jax.process_index() == 0:
            path = _facts_path(self.directory / str(step))
            replacement = path.with_suffix(".new")
            replacement.write_text(
                json.dumps(read_facts(self.directory / str(step)) | {"metrics": metrics}), encoding="utf-8"
            )
            replacement.replace(path)

    def restore(self, like: TrainState, warn: Callable[[str], None]) -> TrainState | None:
        """Returns the state of the latest checkpoint that can be read, None if there is no checkpoint.

        Later ones, which could not be read, are renamed to STEP.damaged, and `warn` is called with a line for each.

        Args:
          like: a state of the same structure, whose shardings the result takes: the number of devices may differ from
            that of the run which saved.
          warn: called with one line.

        Raises:
          UserError: there are checkpoints, and none can be read; nothing is renamed.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        damaged = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                args = ocp.args.Composite(**{_STATE: ocp.args.StandardRestore(abstract)})
                with _patient_event_loops():
                    state = self._manager.restore(step, args=args)[_STATE]
                if _checksums(state) != read_facts(self.directory / str(step))["checksums"]:
                    raise ValueError("its checksum is wrong")
            except (PermissionError, jax.errors.JaxRuntimeError):
                raise  # says nothing of the checkpoint
            except Exception as error:  # Orbax, tensorstore and the file system raise many types.
                damaged[step] = _reason(error)
                continue
            self._set_aside(damaged, warn)
            return state
        if damaged:
            step, reason = next(iter(damaged.items()))
            raise UserError(
                f"none of the {len(damaged)} checkpoints in {self.directory} can be read (step {step}: {reason}); "
                "move them away to begin anew"
            )
        return None

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
        """Step of the checkpoint with the highest top-1 (then the lowest loss), None if none was evaluated."""
        return next((step for step in best_first(self._metrics) if self._metrics[step]), None)

    def metrics(self, step: int) -> dict[str, float] | None:
        """Metrics of the checkpoint of `step`, None if it was not evaluated."""
        return self._metrics.get(step)

    def wait(self) -> None:
        """Returns when everything is written."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and ends the background threads."""
        self._manager.close()


def steps_in(workdir: Path) -> list[int]:
    """The steps of the checkpoints in a workdir, the first one first; those that were set aside are not among them."""
    return sorted(int(entry.name) for entry in (workdir / "checkpoints").glob("*") if entry.name.isdigit())


def best_first(metrics: Mapping[int, dict | None]) -> list[int]:
    """The steps by the evaluations that they have: highest top-1 first, then lowest loss, then those without, the last
    first."""

    def rank(step: int) -> tuple:
        evaluated = metrics[step]
        return (True, evaluated["top1"], -evaluated["loss"], step) if evaluated else (False, step)

    return sorted(metrics, key=rank, reverse=True)


class DamagedCheckpoint(UserError):
    """A checkpoint that cannot be read; another one may. `reason` says why, without its path."""

    def __init__(self, checkpoint: Path, error: Exception):
        self.reason = _reason(error)
        super().__init__(f"{checkpoint} cannot be read as a checkpoint: {self.reason}")


def read_facts(checkpoint: Path) -> dict:
    """What a checkpoint (the directory of one step) says besides its state: 'inference', 'metrics', 'checksums'.

    Raises:
      DamagedCheckpoint: it is not there, or is not what `Checkpoints.save` wrote.
    """
    try:
        facts = json.loads(_facts_path(checkpoint).read_text(encoding="utf-8"))
        if metrics := facts["metrics"]:
            float(metrics["top1"]), float(metrics["loss"])
        return {key: facts[key] for key in ("inference", "metrics", "checksums")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(checkpoint, error) from None


def _reason(error: Exception) -> str:
    """In one line what is wrong with a checkpoint."""
    if isinstance(error, DamagedCheckpoint):
        return error.reason
    return " ".join(str(error).split())[:120] or type(error).__name__


def _facts_path(checkpoint: Path) -> Path:
    return checkpoint / _FACTS / "metadata"  # the name is Orbax's


class _LastAndBest(preservation_policy.PreservationPolicy):
    def __init__(self, keep: int, best: Callable[[], int | None]):
        self._keep, self._best = keep, best

    def should_preserve(self, checkpoints: Sequence, *, context) -> list[bool]:  # noqa: ARG002 (Orbax's signature)
        last = {checkpoint.step for checkpoint in checkpoints[-self._keep :]}
        return [checkpoint.step in last or checkpoint.step == self._best() for checkpoint in checkpoints]


def read_weights(checkpoint: Path, weights: str = "") -> tuple[dict, dict]:
    """Reads what inference needs from a checkpoint (the directory of one step), without the rest of its state.

    Args:
      checkpoint: the directory.
      weights: 'ema', the moving averages, or 'raw', the latest; '': the averages where there are such.

    Returns:
      The variables {'params', 'batch_stats', 'statistics'} as NumPy arrays, and the facts of `read_facts`.

    Raises:
      DamagedCheckpoint: it is no checkpoint, or damaged.
      UserError: it has no averages.
    """
    choose("weights", weights or "ema", dict.fromkeys(("ema", "raw")))
    facts = read_facts(checkpoint)
    try:
        state = _read_arrays((checkpoint / _STATE).absolute())
        for part in ("params", "batch_stats", "average", "statistics"):
            if _checksum(state.get(part) or {}) != facts["checksums"][part]:
                raise ValueError(f"the checksum of its {part} is wrong")
    except Exception as error:  # Orbax, tensorstore and the file system raise many types.
        raise DamagedCheckpoint(checkpoint, error) from None
    if weights == "ema" and not state.get("average"):
        raise UserError(f"{checkpoint} has no moving averages (config.train.average_decay was 0); take weights 'raw'")
    chosen = state if weights == "raw" else state.get("average") or state
    parts = {"params": chosen["params"], "batch_stats": chosen.get("batch_stats")}
    parts["statistics"] = state.get("statistics")
    return {name: part or {} for name, part in parts.items()}, facts


def _read_arrays(directory: Path) -> dict:
    """The arrays of a state, as NumPy's: whatever the devices they were saved from, in each process by itself."""
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
    """Orbax closes its event loop at the first array that it cannot read; here others are first read to their end.

    Else each of them prints a traceback when it comes to its end, hundreds of lines.
    """
    usual = asyncio.new_event_loop
    asyncio.new_event_loop = _PatientEventLoop
    try:
        yield
    finally:
        asyncio.new_event_loop = usual


def _checksums(state: TrainState) -> dict[str, int]:
    return {field.name: _checksum(getattr(state, field.name)) for field in dataclasses.fields(state)}


def _checksum(tree) -> int:
    checksum = 0
    for leaf in jax.tree.leaves(tree):
        # Replicated: every device holds the whole.
        local = leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf
        checksum = zlib.crc32(np.ascontiguousarray(local), checksum)
    return checksum
