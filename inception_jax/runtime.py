"""How JAX runs in a command of ours: XLA's flags, memory, the compilation cache. The library alone sets none of it.

`cache_directory` says where caches are, those of the library too.
"""

import atexit
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

from inception_jax.errors import UserError
from inception_jax.names import is_utf8, readable, text_of


def configure(compute_dtype: str) -> None:
    """Makes ready what must be there before JAX computes anything; called by each command at its start.

    What the user has set in the environment (XLA_FLAGS, JAX_COMPILATION_CACHE_DIR and JAX's other variables) stays.

    Args:
      compute_dtype: 'float32' or 'bfloat16'.
    """
    set_xla_flags(compute_dtype)
    if _runs_on_cpu():
        keep_freed_memory()
    cache_compilations()


def peak_memory() -> int:
    """Most bytes that were in use: on an accelerator the device's, where it counts them, else those of this process."""
    import jax

    counted = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return counted.get("peak_bytes_in_use") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    # macOS has no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _runs_on_cpu() -> bool:
    # An accelerator's plug-in reads XLA_FLAGS too, and may not know what jaxlib knows.
    accelerated = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    return not accelerated or os.environ.get("JAX_PLATFORMS") == "cpu"


def set_xla_flags(compute_dtype: str) -> None:
    """Appends to the environment's XLA_FLAGS what speeds the networks up.

    Call it before JAX computes anything. A flag that is in XLA_FLAGS already stays as it is, and one that the installed
    jaxlib does not know is left out, because XLA ends a process for it.

    Args:
      compute_dtype: 'float32' or 'bfloat16'.
    """
    flags = {}
    if _runs_on_cpu():
        # A step in the order that needs the least memory: a quarter less for Inception-v3, which is no slower for it.
        flags["xla_cpu_enable_concurrency_optimized_scheduler"] = "false"
        if compute_dtype == "float32":
            # Twice the speed in training, and half the time to compile; bfloat16 products become slower with it. "dot"
            # in place of "individual_dot" would take the convolutions before a dense layer along, see `ops.relu`.
            flags["xla_cpu_experimental_ynn_fusion_type"] = "individual_dot,reduce"
    present = os.environ.get("XLA_FLAGS", "")
    new = [f"--{name}={value}" for name, value in flags.items() if name not in present and _known(name)]
    os.environ["XLA_FLAGS"] = " ".join([present, *new]).strip()


def keep_freed_memory() -> None:
    """Has the process keep the memory of a step for the next one, on a CPU with glibc; elsewhere it does nothing.

    XLA allocates the arrays of a whole step at once and frees them after it. By default malloc gives a block of that
    size back to the system, which then clears it page by page in every step: an eighth of GoogLeNet's time.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    no_mmap, trim_threshold = (-4, 0), (-1, 2**31 - 1)  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    libc.mallopt(*no_mmap)
    libc.mallopt(*trim_threshold)
    import jax

    # Only the main thread's heap is kept, so the steps must run there; a CPU has nothing to overlap with them.
    if "JAX_CPU_ENABLE_ASYNC_DISPATCH" not in os.environ:
        jax.config.update("jax_cpu_enable_async_dispatch", False)


def release_free_memory() -> None:
    """Gives back what tracing and compiling has left; called once when all is compiled, after `keep_freed_memory`."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def cache_compilations() -> None:
    """Keeps what XLA compiles in a directory, so that the second start of a run does not compile again.

    The directory is $JAX_COMPILATION_CACHE_DIR, else one below `cache_directory`. There each kind of CPU has its own,
    because what is compiled for one may not run on another, and a home directory may be shared by several.
    JAX_ENABLE_COMPILATION_CACHE=false turns the cache off.
    """
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "xla" / _cpu_kind()))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def cache_directory() -> Path:
    """Directory of what is kept for later: 'inception_jax' below $XDG_CACHE_HOME or ~/.cache; see `writable`."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return writable(Path(caches, "inception_jax"), "XDG_CACHE_HOME")


def writable(directory: Path, variable: str) -> Path:
    """Makes `directory` and returns it; if it cannot be used, a temporary one, which a line on stderr says once.

    The temporary one is always the same in a process, and removed at its end.

    Args:
      directory: begins with '~' where there is no home directory, as `os.path.expanduser` leaves it.
      variable: of the environment, with which the user chooses another directory.

    Raises:
      UserError: no temporary directory can be made either.
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
        f"warning: {shown} cannot be used ({reason}); a temporary directory takes its place; set {variable}",
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
    """Whether the installed jaxlib has `flag`: a name that it parses is a string in its library."""
    [package] = importlib.util.find_spec("jaxlib").submodule_search_locations
    for library in Path(package).glob("*.so*"):
        with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(flag.encode() + b"\0") >= 0:
                return True
    return False
