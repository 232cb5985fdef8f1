"""Commands besides training; see the README."""

import importlib.util
import sys

from inception_jax.console import tolerate_encoding

if importlib.util.find_spec("ml_collections") is None:  # the package alone was installed
    sys.exit("error: the commands need more packages: pip install -r requirements.txt")

tolerate_encoding()  # here, because every command imports this package before it prints
