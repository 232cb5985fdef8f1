"""Converts file names to text that is the same in every locale."""

import os
import re
import unicodedata

from inception_jax.errors import UserError

# C0, DEL and C1 (ISO/IEC 6429), with which a name could move a terminal's cursor; and Unicode's two ends of lines.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def text_of(path: str) -> str:
    """Decodes the bytes of a file name as UTF-8 in every locale, for JSON; other bytes become surrogates."""
    try:
        return os.fsencode(path).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # not a file name in this locale: it comes from a Python file
        return path


def native_path(text: str) -> str:
    """Converts `text` back to the file name in this locale: the inverse of `text_of`."""
    try:
        return os.fsdecode(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # a lone surrogate, which is in no file name
        return text


def is_utf8(path: str | os.PathLike) -> bool:
    """Whether `path` is the same in UTF-8, the encoding that C++ libraries (XLA, Orbax, TFDS) assume."""
    path = os.fspath(path)
    return path == text_of(path).encode("utf-8", "replace").decode()


def check_utf8(path: str | os.PathLike) -> None:
    """Raises UserError unless `is_utf8`."""
    if not is_utf8(path):
        raise UserError(
            f"{path} cannot be used here: its name or this locale is not UTF-8; start with PYTHONUTF8=1, or rename it"
        )


def readable(text: str) -> str:
    r"""Converts a `text_of` to text that can be compared and printed everywhere.

    Bytes that are not UTF-8 and control characters become escapes such as \xff and \n. The text is in Unicode's form
    NFC, because macOS writes names in NFD: 'é' as 'e' and an accent.
    """
    if text.isascii():
        return printable(text)
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate
        data = text.encode("utf-8", "backslashreplace")
    return printable(unicodedata.normalize("NFC", data.decode("utf-8", "backslashreplace")))


def printable(text: str) -> str:
    r"""Replaces control characters and ends of lines by escapes such as \x1b and \n, so that one line is shown."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
