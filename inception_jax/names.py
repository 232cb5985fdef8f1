"""File names as text that is the same in every locale."""

import os
import unicodedata

from inception_jax.errors import UserError


def text_of(path: str) -> str:
    """The bytes of a file name read as UTF-8, whatever the locale; what is no UTF-8 stays surrogates. For JSON."""
    try:
        return os.fsencode(path).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # no file name of this locale: it was written in a Python file
        return path


def native_path(text: str) -> str:
    """The file name, as this locale has it, of which `text` is the `text_of`."""
    try:
        return os.fsdecode(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # a lone surrogate, which no file name has
        return text


def is_utf8(path: str | os.PathLike) -> bool:
    """Whether `path` is the same in UTF-8, as which libraries in C++ read it: XLA, Orbax's and TFDS's."""
    path = os.fspath(path)
    return path == text_of(path).encode("utf-8", "replace").decode()


def check_utf8(path: str | os.PathLike) -> None:
    """Raises UserError unless `is_utf8`."""
    if not is_utf8(path):
        raise UserError(
            f"{path} cannot be used here: its name or this locale is not UTF-8; start with PYTHONUTF8=1, or rename it"
        )


def readable(text: str) -> str:
    r"""A `text_of` that can be compared and written everywhere: bytes that are no UTF-8 become \xff, for instance.

    In Unicode's form NFC, since macOS writes names in NFD: 'é' as 'e' and an accent.
    """
    if text.isascii():
        return text
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate
        data = text.encode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", data.decode("utf-8", "backslashreplace"))
