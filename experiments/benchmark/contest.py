"""Sides that take turns: each runs in its own process, as its user would run it, and only one computes at a time."""

import contextlib
import multiprocessing
import os
import shutil
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from inception_jax.errors import UserError
from inception_jax.runtime import available_cores

SHORT = 0.2  # seconds
MATMUL = 2048  # size of the square matrices whose product gives the machine's own rate


class Unavailable(Exception):
    """The reason why a side cannot take part."""


def has_gpu() -> bool:
    """Returns whether this machine has an NVIDIA GPU."""
    return shutil.which("nvidia-smi") is not None


def default_dtypes() -> list[str]:
    """Returns float32, on a GPU with bfloat16."""
    return ["float32", "bfloat16"] if has_gpu() else ["float32"]


class Side:
    """A process that builds something and times it when asked.

    `build(*args)` runs in the process and returns the calls to time, by name. A call blocks until its work is done.
    Some names are not timed: 'metadata' describes what was built, 'memory' returns the peak memory of an accelerator,
    'close' is called at the end.
    """

    def __init__(
        self,
        build: Callable[..., Mapping[str, Callable]],
        *args,
        environment: Mapping[str, str] = {},
        has_children: bool = False,
    ):
        """Starts the process and waits until it is ready.

        Args:
          build: function that builds what is timed; it must be picklable.
          *args: its arguments.
          environment: changes of the environment that the process inherits.
          has_children: whether the process starts processes itself.

        Raises:
          Unavailable: `build` raised it or a UserError, or failed.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            self._process = context.Process(target=_serve, args=(theirs, build, args), daemon=not has_children)
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()
        self.names = self._answer()

    def time(self, name: str) -> float:
        """Returns the seconds of one call.

        If it takes less than SHORT, the result is the mean of the next calls, as many as fit into SHORT.
        """
        return self._ask("time", name)

    def peak_memory(self, name: str) -> int:
        """Returns the peak memory of one call in bytes: that of the accelerator if there is one, or of the process."""
        return self._ask("memory", name)

    def metadata(self):
        """Returns what `build` says about itself."""
        return self._ask("metadata", "metadata")

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()

    def _ask(self, *question):
        self._connection.send(question)
        return self._answer()

    def _answer(self):
        try:
            good, answer = self._connection.recv()
        except EOFError:
            self._process.join()
            raise Unavailable(f"its process ended with status {self._process.exitcode}") from None
        if not good:
            raise Unavailable(answer)
        return answer


def _serve(connection, build, args) -> None:
    try:
        calls = build(*args)
        connection.send((True, list(calls)))
        while True:
            what, name = connection.recv()
            connection.send((True, _ANSWERS[what](calls, name)))
    except EOFError:
        calls.get("close", lambda: None)()
    except (Unavailable, UserError) as error:
        connection.send((False, str(error)))
    except Exception as error:
        traceback.print_exc()
        connection.send((False, f"{type(error).__name__}: {error}".splitlines()[0]))


def _time(calls, name: str) -> float:
    start = time.perf_counter()
    calls[name]()
    elapsed = time.perf_counter() - start
    if elapsed >= SHORT:
        return elapsed
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < SHORT:  # without the first, whose result may have been prefetched
        calls[name]()
        count += 1
    return elapsed / count


def _memory(calls, name: str) -> int:
    if "memory" in calls:  # of an accelerator
        calls[name]()
        return calls["memory"]()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak to the memory in use (proc(5))
    calls[name]()
    [line] = (
        line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


_ANSWERS = {"time": _time, "memory": _memory, "metadata": lambda calls, name: calls[name]()}


def take_turns(sides: Mapping[str, Side], names: list[str], repeats: int) -> dict[tuple[str, str], list[float]]:
    """Times the calls `names` of all sides in turn.

    Returns:
      The seconds of each round by (side, name), for the sides that have the call. A first round is not counted.
    """
    seconds = {(side, name): [] for name in names for side in sides if name in sides[side].names}
    for round_ in range(repeats + 1):
        for (side, name), measured in seconds.items():
            elapsed = sides[side].time(name)
            if round_:
                measured.append(elapsed)
    return seconds


def ratio(peer: list[float], ours: list[float]) -> float:
    """Returns how many times faster ours is: the median over the rounds of the peer's time divided by ours."""
    return statistics.median(theirs / mine for theirs, mine in zip(peer, ours, strict=True))


@contextlib.contextmanager
def started(starts: Mapping[str, Callable[[], Side]]) -> Iterator[tuple[dict[str, Side], dict[str, str]]]:
    """Starts sides, by name, and closes them at the end.

    Yields:
      The sides that started, and why each of the others cannot take part.
    """
    sides, skipped = {}, {}
    try:
        for name, start in starts.items():
            try:
                sides[name] = start()
            except Unavailable as error:
                skipped[name] = str(error)
        yield sides, skipped
    finally:
        for side in sides.values():
            side.close()


def start_jax(dtype: str):
    """Returns JAX, configured as the commands do it."""
    from inception_jax import runtime

    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # peers use the same accelerator
    runtime.configure(dtype)
    import jax

    return jax


def start_torch():
    """Returns PyTorch and the device to use."""
    try:
        import torch
    except ImportError:
        raise Unavailable("PyTorch is not installed (requirements-bench.txt)") from None
    torch.set_num_threads(available_cores())
    return torch, "cuda" if torch.cuda.is_available() else "cpu"


def synchronize(torch, device: str) -> None:
    """Waits until PyTorch has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def jax_matmul(jax, dtype: str) -> Callable:
    """Returns a call that multiplies two matrices of MATMUL x MATMUL in JAX."""
    a = jax.numpy.ones((MATMUL, MATMUL), dtype)
    product = jax.jit(lambda a, b: jax.lax.dot(a, b))
    return lambda: jax.block_until_ready(product(a, a))


def torch_matmul(torch, device: str, dtype: str) -> Callable:
    """Returns a call that does the same in PyTorch."""
    a = torch.ones(MATMUL, MATMUL, dtype=getattr(torch, dtype), device=device)

    def call():
        torch.mm(a, a)
        synchronize(torch, device)

    return call


def matmul_rate(seconds: Mapping[tuple[str, str], list[float]]) -> float:
    """Returns the machine's multiplications and additions per second: the best of the sides' medians."""
    return 2 * MATMUL**3 / min(statistics.median(each) for (_, name), each in seconds.items() if name == "matmul")


def noise(shape, seed: int = 0) -> np.ndarray:
    """Draws normal numbers, float32."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
