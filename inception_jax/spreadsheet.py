"""CSV files that a spreadsheet can open without running what a name in them says."""

import csv
import re
from collections.abc import Callable, Iterable
from typing import Any, TextIO

# With these a spreadsheet takes a text for a formula, which may send data away or start programs (CWE-1236,
# https://cwe.mitre.org/data/definitions/1236.html; tab, CR and NUL: OWASP ASVS 5.0, requirement 1.2.10).
_FORMULA = tuple("=+-@\t\r\n\0")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def row_writer(file: TextIO, raw_csv: bool = False) -> Callable[[Iterable[Any]], None]:
    """Returns a function that writes a row of cells to a CSV file.

    Args:
      file: opened with newline="".
      raw_csv: whether cells are written as they are, without `plain_cell`.
    """
    plain, quoted = (csv.writer(file, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))

    def write(cells: Iterable[Any]) -> None:
        row = list(cells if raw_csv else map(plain_cell, cells))
        # Before Python 3.13 csv does not quote a carriage return, with which a name would begin another row.
        (quoted if any("\r" in cell for cell in row if isinstance(cell, str)) else plain).writerow(row)

    return write


def plain_cell(value: Any) -> Any:
    """Returns the value of a cell; a text that a spreadsheet would run as a formula gets a leading apostrophe.

    Numbers stay, also as text: -1.5 and '-1.5'.
    """
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
