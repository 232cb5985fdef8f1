"""What a command prints, whatever the encoding of its standard output."""

import codecs
import sys


def tolerate_encoding() -> None:
    r"""Has standard output show as \xe9 what its encoding lacks, and write file names as the bytes that they are.

    Standard error does the first by itself. What the user chose (PYTHONIOENCODING=ascii:replace) stays.
    """
    codecs.register_error("inception_jax", _replace)
    # Python's own choices; what stands in the place of standard output, as in a notebook, may have neither attribute.
    if getattr(sys.stdout, "errors", None) in ("strict", "surrogateescape") and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="inception_jax")


def warn(line: str) -> None:
    """Prints a warning on standard error."""
    print(f"warning: {line}", file=sys.stderr)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    # One by one: among characters that the encoding lacks there may be bytes of a file name.
    error = UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.lookup_error("backslashreplace")(error)
