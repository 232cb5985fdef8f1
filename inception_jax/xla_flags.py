"""XLA's flags, which must be set before JAX starts its backend."""

import importlib.util
import mmap
import os
from pathlib import Path


def set_xla_flags(compute_dtype: str) -> None:
    """Appends to the environment's XLA_FLAGS what speeds the networks up.

    Call it before JAX computes anything. A flag that is in XLA_FLAGS already stays as it is, and one that the installed
    jaxlib does not know is left out, because XLA ends a process for it.

    Args:
      compute_dtype: 'float32' or 'bfloat16'.
    """
    flags = {}
    # An accelerator's plug-in reads XLA_FLAGS too, and may not know what jaxlib knows.
    accelerated = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    if compute_dtype == "float32" and (not accelerated or os.environ.get("JAX_PLATFORMS") == "cpu"):
        # On CPUs twice the speed in training, and half the time to compile; bfloat16 products become slower with it.
        flags["xla_cpu_experimental_ynn_fusion_type"] = "dot,reduce"
    present = os.environ.get("XLA_FLAGS", "")
    new = [f"--{name}={value}" for name, value in flags.items() if name not in present and _known(name)]
    os.environ["XLA_FLAGS"] = " ".join([present, *new]).strip()


def _known(flag: str) -> bool:
    """Whether the installed jaxlib has `flag`: a name that it parses is a string in its library."""
    [package] = importlib.util.find_spec("jaxlib").submodule_search_locations
    for library in Path(package).glob("*.so*"):
        with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(flag.encode() + b"\0") >= 0:
                return True
    return False
