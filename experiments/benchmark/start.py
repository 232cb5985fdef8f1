"""Start-up of whole commands: a run to its first step with and without a compilation cache, and an import."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = (
    "main.py",
    "--config=configs/digits.py",
    "--config.train.epochs=0",
    "--config.train.steps=1",
    "--config.schedule.warmup=0 steps",
    "--config.log.report=False",
    "--config.log.tensorboard=False",
)


def measure(repeats: int) -> Iterator[dict]:
    """Yields rows: seconds from the start of the demo's command to the end of its first step, and of an import."""
    first, second, imports = [], [], []
    with tempfile.TemporaryDirectory() as data:
        _to_first_step(data, data)  # writes the digits and fills the page cache
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as cache:
                first.append(_to_first_step(data, cache))
                second.append(_to_first_step(data, cache))
            imports.append(_import())
    fraction = statistics.median(b / a for a, b in zip(first, second, strict=True))
    yield {"what": "first start to its first step", "seconds": statistics.median(first), "repeats": repeats}
    yield {
        "what": "second start to its first step",
        "seconds": statistics.median(second),
        "fraction_of_first": fraction,
        "repeats": repeats,
    }
    yield {"what": "import inception_jax", "seconds": statistics.median(imports), "repeats": repeats}


def _to_first_step(data: str, cache: str) -> float:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    with tempfile.TemporaryDirectory() as workdir:
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, *RUN, f"--workdir={workdir}", f"--config.data.dir={data}"],
            cwd=ROOT,
            env=environment | {"JAX_COMPILATION_CACHE_DIR": cache},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
        ) as process:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if line.startswith("first step"):
                    elapsed = time.perf_counter() - start
                    process.stderr.read()
                    return elapsed
    raise RuntimeError(f"the run did not reach its first step: {''.join(lines)}")


def _import() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import inception_jax"], cwd=ROOT, check=True)
    return time.perf_counter() - start
