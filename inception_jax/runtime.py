"""Configures JAX for the commands: XLA flags, memory and the compilation cache.

Importing the library sets none of this. `cache_directory` is the place of all caches, also of the library's.
"""

import atexit
import contextlib
import ctypes
import errno
import functools
import gc
import hashlib
import importlib.util
import mmap
import os
import platform
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from inception_jax.errors import UserError
from inception_jax.names import is_utf8, readable, text_of


def configure(compute_dtype: str) -> None:
    """Sets XLA flags, memory and the compilation cache; each command calls it at its start.

    It must run before JAX computes anything. Variables that the user has set in the environment (XLA_FLAGS,
    JAX_COMPILATION_CACHE_DIR and JAX's others) are kept.

    Args:
      compute_dtype: 'float32' or 'bfloat16'.
    """
    set_xla_flags(compute_dtype)
    if _runs_on_cpu():
        keep_freed_memory()
    cache_compilations()


def peak_memory() -> int:
    """Peak memory in bytes: of the accelerator, if it counts them; otherwise of this process."""
    import jax

    counted = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return counted.get("peak_bytes_in_use") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def host_memory() -> int:
    """Memory in bytes of this machine, or of the container if that is given less."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):  # of cgroups 2 and 1
        with contextlib.suppress(OSError, ValueError):  # there is none, or it says 'max'
            limits.append(int(Path(file).read_text(encoding="ascii")))
    return min(limits)


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    # macOS has no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _runs_on_cpu() -> bool:
    # An accelerator's plug-in reads XLA_FLAGS too, and may not know what jaxlib knows.
    accelerated = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    return not accelerated or os.environ.get("JAX_PLATFORMS") == "cpu"


def set_xla_flags(compute_dtype: str) -> None:
    """Appends flags that speed up the networks to the environment variable XLA_FLAGS.

    Call it before JAX computes anything. Flags that are already in XLA_FLAGS keep their values. Flags that the
    installed jaxlib does not know are left out, because XLA ends the process for an unknown flag.

    Args:
      compute_dtype: 'float32' or 'bfloat16'.
    """
    flags = {}
    if _runs_on_cpu():
        # Order a step for the least memory: a quarter less for Inception-v3, at the same speed.
        flags["xla_cpu_enable_concurrency_optimized_scheduler"] = "false"
        if compute_dtype == "float32":
            # Training is twice as fast and compiles in half the time; bfloat16 products would become slower. "dot" in
            # place of "individual_dot" would also fuse the convolutions before a dense layer, see `ops.relu`.
            flags["xla_cpu_experimental_ynn_fusion_type"] = "individual_dot,reduce"
    present = os.environ.get("XLA_FLAGS", "")
    new = [f"--{name}={value}" for name, value in flags.items() if name not in present and _known(name)]
    os.environ["XLA_FLAGS"] = " ".join([present, *new]).strip()


def keep_freed_memory() -> None:
    """Makes the process keep the memory of a step for the next step. Needs a CPU with glibc, else does nothing.

    XLA allocates the arrays of a whole step at once and frees them after the step. By default malloc returns such a
    large block to the system, which then clears it page by page in every step: an eighth of GoogLeNet's time.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    no_mmap, trim_threshold = (-4, 0), (-1, 2**31 - 1)  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    libc.mallopt(*no_mmap)
    libc.mallopt(*trim_threshold)
    import jax

    # Only the main thread's heap is kept, so steps must run in it. On a CPU nothing could overlap with them anyway.
    if "JAX_CPU_ENABLE_ASYNC_DISPATCH" not in os.environ:
        jax.config.update("jax_cpu_enable_async_dispatch", False)


def release_free_memory() -> None:
    """Returns the memory that tracing and compiling left over to the system.

    Call it once after everything is compiled, if `keep_freed_memory` was called.
    """
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def cache_compilations(per_host: bool = False) -> None:
    """Caches compiled programs on disk, so that the second start of a run does not compile again.

    The cache is $JAX_COMPILATION_CACHE_DIR or, by default, a directory below `cache_directory`. By default each kind of
    CPU has its own cache: machines may share a home directory, and a program may not run on another kind of CPU.
    JAX_ENABLE_COMPILATION_CACHE=false turns the cache off.

    Args:
      per_host: whether each machine has its own too: several that write one directory have kept each other waiting
        until a barrier timed out (https://github.com/google/orbax/issues/2934).
    """
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        host = (platform.node(),) if per_host else ()
        jax.config.update("jax_compilation_cache_dir", str(cache_directory().joinpath("xla", _cpu_kind(), *host)))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def cache_directory() -> Path:
    """Directory of all caches: 'inception_jax' below $XDG_CACHE_HOME or ~/.cache, see `writable`."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return writable(Path(caches, "inception_jax"), "XDG_CACHE_HOME")


def writable(directory: Path, variable: str) -> Path:
    """Creates `directory` and returns it, or returns a temporary directory if it cannot be used.

    In that case one warning is printed on stderr. The temporary directory stays the same in a process and is removed
    when the process ends.

    Args:
      directory: wanted directory; a leading '~', which `os.path.expanduser` leaves, means that there is no home.
      variable: environment variable with which the user chooses another directory.

    Raises:
      UserError: no temporary directory can be created either.
    """
    try:
        if directory.parts[0].startswith("~"):
            raise FileNotFoundError(errno.ENOENT, "there is no home directory")
        if not is_utf8(directory):
            raise OSError(errno.EILSEQ, "its name or this locale is not UTF-8")
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        return _temporary(directory, error.strerror, variable)
    return directory


@functools.cache
def _temporary(replaced: Path, reason: str, variable: str) -> Path:
    try:
        directory = tempfile.mkdtemp(prefix="inception_jax-")
    except OSError as error:
        raise UserError(f"{replaced} cannot be used ({reason}); set {variable}, or TMPDIR ({error})") from None
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    shown = readable(text_of(str(replaced)))
    print(
        f"warning: {shown} cannot be used ({reason}); a temporary directory is used instead; set {variable}",
        file=sys.stderr,
        flush=True,
    )
    return Path(directory)


def _cpu_kind() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
        described = "".join(line for line in lines if line.startswith(("vendor_id", "model name", "flags", "Features")))
    except OSError:  # not Linux
        described = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(described.encode()).hexdigest()[:12]}"


def _known(flag: str) -> bool:
    """Whether the installed jaxlib knows `flag`: its library contains the names of its flags as strings."""
    spec: Any = importlib.util.find_spec("jaxlib")
    [package] = spec.submodule_search_locations
    for library in Path(package).glob("*.so*"):
        with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(flag.encode() + b"\0") >= 0:
                return True
    return False
