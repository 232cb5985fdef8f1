"""Commands besides training; see the README."""

from inception_jax.console import tolerate_encoding

tolerate_encoding()  # here, because every command imports this package before it prints
