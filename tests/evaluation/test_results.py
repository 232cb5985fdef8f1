import csv
import dataclasses

import numpy as np
import pytest

from inception_jax.evaluation.results import EvaluationResult
from tests.values import BAD, GOOD, LABELS, protocol_result

CLASSES = ("ant", "b<e>e", "cat")


def rows():
    first = protocol_result(BAD, "single", ("run/1",), networks=["inception_v3"])
    return [first, protocol_result(GOOD, "144crop", ("run/1", "run/2"), first.analysis, networks=["googlenet"] * 7)]


def result(rows):
    names, right = ("a.jpg", "b.jpg", "c.jpg", "d.jpg"), tuple(map(frozenset, ({0}, {1}, {2}, {1, 2})))
    return EvaluationResult(tuple(rows), "logits", CLASSES, np.array([0, 1, 2, 4]), names, right, 5, ("e.jpg: torn",))


def test_the_table():
    # Losses: (log 2 + log 4 + log 2 + log 4) / 4 and log 2. All are confident by one half, and 2 and 4 of 4 are right.
    # Rethinking Inception, Table 3: errors 21.2 and 5.6; GoogLeNet, Table 3: 6.67.
    assert result(rows()).table().splitlines() == [
        "network     protocol                       passes  images     top-1     top-5    loss  calibration error"
        "  gain top-1  gain top-5  paper top-1  paper top-5",
        "run/1       single                              1       4   50.00 %  100.00 %  1.0397             0.00 %"
        "                              78.80 %      94.40 %",
        "2 networks  144crop at 256, 288, 320, 352     288       4  100.00 %  100.00 %  0.6931            50.00 %"
        "      +50.00       +0.00                   93.33 %",
        "paper: 100 % minus the error of Rethinking the Inception Architecture, Table 3, 48,238 images",
        "paper: 100 % minus the error of Going Deeper with Convolutions, Table 3",
    ]


def test_columns_without_a_value_are_left_out():
    [first, _] = rows()
    head = result([protocol_result(GOOD, "dense", ("run/1",))]).table().splitlines()
    assert "gain" not in head[0]
    assert "paper" not in head[0]
    assert head[-1] == "passes of the dense protocol see whole images"
    several = protocol_result(GOOD, "single", ("run/1",), labels=[frozenset((label,)) for label in LABELS])
    assert "loss" not in result([several]).table()
    assert "loss" in result([first]).table()


def test_json_has_all_numbers():
    record = result(rows()).to_json()
    assert (record["aggregate"], record["images"], record["count"], record["damaged"]) == (
        "logits",
        5,
        4,
        ("e.jpg: torn",),
    )
    first, second = record["rows"]
    assert first["networks"] == ("run/1",)
    assert first["protocols"] == [{"name": "single", "size": 224, "scales": (), "windows": 1}]
    assert (first["top1"], first["top5"], first["count"], first["passes"]) == (0.5, 1.0, 4, 1)
    assert first["loss"] == pytest.approx(1.5 * np.log(2))
    assert first["per_class"] == {"ant": 1.0, "b<e>e": 0.0, "cat": 0.5}
    assert first["confusion"] == [[0, 0, 1], [1, 0, 1], [2, 1, 1], [2, 2, 1]]
    assert [bin for bin in first["reliability"] if bin["images"]] == [{"images": 4, "confidence": 0.5, "accuracy": 0.5}]
    assert second["gain"] == {"top1": 0.5, "top5": 0.0}
    assert second["printed_error_percent"] == {
        "top1": None,
        "top5": 6.67,
        "source": "Going Deeper with Convolutions, Table 3",
    }
    assert second["passes"] == 2 * 144
    assert "gain" not in first


def test_no_name_in_the_predictions_is_a_formula(tmp_path):
    named = dataclasses.replace(result(rows()), names=("=1", "+1+1", "-1.5", "@a"))
    for raw_csv, expected in ((False, ["'=1", "'+1+1", "-1.5", "'@a"]), (True, list(named.names))):
        named.write_predictions(tmp_path / "out.csv", raw_csv)
        lines = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
        assert [line["image"] for line in lines[:4]] == expected


def test_predictions_are_a_line_an_image(tmp_path):
    result(rows()).write_predictions(tmp_path / "out.csv")
    lines = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert len(lines) == 8
    assert list(lines[7].values()) == [
        *["run/1 + run/2", "144crop at 256, 288, 320, 352", "d.jpg", "b<e>e | cat", "0.693147"],
        *["cat", "0.500000", "ant", "0.250000", "b<e>e", "0.250000"],
    ]
