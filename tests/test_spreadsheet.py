import csv
import io

import pytest

from inception_jax.spreadsheet import plain_cell, row_writer


@pytest.mark.parametrize("text", ["=1+1", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\0=1"])
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text):
    assert plain_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-1.5, -2, None, True, "", "a=1", "'=1", "-1.5", "+3", "-.5e-07", "-inf", "12", "ä"])
def test_numbers_and_other_texts_stay(value):
    assert plain_cell(value) is value


def test_rows_are_read_as_they_were_written():
    row = ["=1", 'a"b,c', "two\rrows", "two\nrows", -0.5, ""]
    for raw, first in ((False, "'=1"), (True, "=1")):
        file = io.StringIO(newline="")
        write = row_writer(file, raw_csv=raw)
        write(row)
        write(["x", "y"])
        rows = list(csv.reader(io.StringIO(file.getvalue(), newline="")))
        assert rows == [[first, 'a"b,c', "two\rrows", "two\nrows", "-0.5", ""], ["x", "y"]]
