"""Commands besides training; see the README."""

import sys

from inception_jax.console import tolerate_encoding

try:
    import ml_collections  # noqa: F401
except ModuleNotFoundError:  # the package alone was installed
    sys.exit("error: the commands need more packages: pip install -r requirements.txt")

tolerate_encoding()  # here, because every command imports this package before it prints
