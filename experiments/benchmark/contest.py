"""Sides that take turns: each in a process of its own, as its user would run it, and only one computes at a time."""

import contextlib
import multiprocessing
import os
import shutil
import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from inception_jax.runtime import available_cores

SHORT = 0.2  # seconds
MATMUL = 2048  # the machine's own rate is that of the product of two square matrices of this size


class Unavailable(Exception):
    """A side that cannot take part, and why."""


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU."""
    return shutil.which("nvidia-smi") is not None


def default_dtypes() -> list[str]:
    """float32; on a GPU bfloat16 as well."""
    return ["float32", "bfloat16"] if has_gpu() else ["float32"]


class Side:
    """A process that built something and times it when asked.

    `build(*args)` runs in it and returns the callables to be timed by their names; each blocks until its work is done.
    'facts', if there, is not timed but asked for once; 'close' is called at the end.
    """

    def __init__(
        self,
        build: Callable[..., Mapping[str, Callable]],
        *args,
        environment: Mapping[str, str] = {},
        has_children: bool = False,
    ):
        """Starts the process; it inherits the environment with these changes.

        Raises:
          Unavailable: `build` said so, or failed.
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
        """Seconds of one call; the mean of several in a row, after one more, where one takes less than SHORT."""
        return self._ask("time", name)

    def peak_memory(self, name: str) -> int:
        """Most bytes that were in use during one call: of the process, or of the accelerator where there is one."""
        return self._ask("memory", name)

    def facts(self):
        """What `build` says about itself."""
        return self._ask("facts", "facts")

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
    except Unavailable as error:
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
    while (elapsed := time.perf_counter() - start) < SHORT:  # the first may have been quick for having been prefetched
        calls[name]()
        count += 1
    return elapsed / count


def _memory(calls, name: str) -> int:
    if "memory" in calls:  # of an accelerator
        calls[name]()
        return calls["memory"]()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # sets the peak to what is in use now (proc(5))
    calls[name]()
    [line] = (
        line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


_ANSWERS = {"time": _time, "memory": _memory, "facts": lambda calls, name: calls[name]()}


def take_turns(sides: Mapping[str, Side], names: list[str], repeats: int) -> dict[tuple[str, str], list[float]]:
    """Seconds of each (side, name), `repeats` times in turn, after one call of each that is not counted."""
    seconds = {(side, name): [] for name in names for side in sides if name in sides[side].names}
    for round_ in range(repeats + 1):
        for (side, name), measured in seconds.items():
            elapsed = sides[side].time(name)
            if round_:
                measured.append(elapsed)
    return seconds


def ratio(peer: list[float], ours: list[float]) -> float:
    """How many times faster ours is: the median over the rounds of the peer's time by ours."""
    return statistics.median(theirs / mine for theirs, mine in zip(peer, ours, strict=True))


@contextlib.contextmanager
def closing(sides: Mapping[str, Side]):
    """Ends all sides at the end."""
    try:
        yield sides
    finally:
        for side in sides.values():
            side.close()


def start_jax(dtype: str):
    """Makes JAX ready as a command of ours does, and returns it."""
    from inception_jax import runtime

    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # peers use the same accelerator
    runtime.configure(dtype)
    import jax

    return jax


def start_torch():
    """Imports PyTorch; returns it and the device to use."""
    try:
        import torch
    except ImportError:
        raise Unavailable("PyTorch is not installed (requirements-bench.txt)") from None
    torch.set_num_threads(available_cores())
    return torch, "cuda" if torch.cuda.is_available() else "cpu"


def synchronize(torch, device: str) -> None:
    """Waits for PyTorch's work."""
    if device == "cuda":
        torch.cuda.synchronize()


def jax_matmul(jax, dtype: str) -> Callable:
    """A product of two square matrices of MATMUL."""
    a = jax.numpy.ones((MATMUL, MATMUL), dtype)
    product = jax.jit(lambda a, b: jax.lax.dot(a, b))
    return lambda: jax.block_until_ready(product(a, a))


def torch_matmul(torch, device: str, dtype: str) -> Callable:
    """The same by PyTorch."""
    a = torch.ones(MATMUL, MATMUL, dtype=getattr(torch, dtype), device=device)

    def call():
        torch.mm(a, a)
        synchronize(torch, device)

    return call


def matmul_rate(seconds: Mapping[tuple[str, str], list[float]]) -> float:
    """The machine's rate in operations (multiplications and additions) a second: the best of the sides' medians."""
    return 2 * MATMUL**3 / min(statistics.median(each) for (_, name), each in seconds.items() if name == "matmul")


def noise(shape, seed: int = 0) -> np.ndarray:
    """Normal numbers, float32."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
