"""Commands besides training; see the README."""
