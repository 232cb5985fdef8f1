"""Commands besides training; see the README."""

import os
import signal
import sys


def stop_at_once(number: int, _: object) -> None:
    """Ends a command that has not begun, by a signal: an exception could be lost in the imports of libraries."""
    os.write(2, f"stopped by {signal.Signals(number).name}; rerun the same command\n".encode())
    os._exit(128 + number)


# First of all, but only in the process of a command: main.py, or `python -m experiments.NAME`, for which Python sets
# this argument while it looks for NAME.
if sys.argv[:1] == ["-m"] or os.path.basename(str(getattr(sys.modules["__main__"], "__file__", ""))) == "main.py":
    for _number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(_number, stop_at_once)

from inception_jax.console import tolerate_encoding  # noqa: E402 (signals come first)

try:
    import ml_collections  # noqa: F401
except ModuleNotFoundError:  # the package alone was installed
    sys.exit("error: the commands need more packages: pip install -r requirements.txt")

tolerate_encoding()  # here, because every command imports this package before it prints
