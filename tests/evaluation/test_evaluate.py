"""Evaluation as a library."""

import contextlib
import dataclasses
import json
import shutil

import numpy as np
import pytest

import inception_jax
from experiments import evaluate as command
from inception_jax import UserError
from inception_jax.data.sources import open_source
from inception_jax.evaluation import evaluate as library
from inception_jax.evaluation.scoring import Scorer


def in_json(value):
    return json.loads(json.dumps(value))


def test_the_call_and_the_command_give_the_same(trained, image_folder, tmp_path, capsys):
    classifiers = [inception_jax.load(trained, step) for step in ("12", "6")]
    result = inception_jax.evaluate(classifiers, protocols=("single", "10crop"), scales=(), aggregate="logits")
    assert [(row.name, row.protocol) for row in result.rows[::2]] == [
        ("run/12", "single"), ("run/6", "single"), ("2 networks", "single")
    ]  # fmt: skip
    paths = (f"--workdir={trained}/checkpoints/{step}" for step in (12, 6))
    assert command.main([*paths, "--protocol=single,10crop", "--aggregate=logits", f"--out={tmp_path}"]) == 0
    assert capsys.readouterr().out == f"{result.table()}\n"
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert record["command"].startswith("python -m experiments.evaluate --workdir=")
    assert record["data"] == "folder, val"
    assert {key: record[key] for key in record if key not in ("command", "data")} == in_json(result.to_json())
    result.write_predictions(tmp_path / "expected.csv")
    assert (tmp_path / "predictions.csv").read_text() == (tmp_path / "expected.csv").read_text()

    # Each image has its own prediction.
    source = open_source("folder", "val", str(image_folder))
    probabilities = classifiers[0].predict([source[position][0] for position in range(21)])
    last = result.rows[0]
    assert result.names == tuple(map(source.name, range(21)))
    assert result.labels == (frozenset((0,)),) * 7 + (frozenset((1,)),) * 7 + (frozenset((2,)),) * 7
    np.testing.assert_allclose(np.take_along_axis(probabilities, last.classes, axis=1), last.probabilities, rtol=1e-5)
    np.testing.assert_array_equal(last.classes[:, 0], probabilities.argmax(axis=1))


def test_the_images_may_be_an_open_source_its_arguments_or_those_of_the_run(trained, image_folder, monkeypatch):
    classifier = inception_jax.load(trained, "last")
    arguments = ("folder", "val", str(image_folder))
    expected = inception_jax.evaluate(classifier).to_json()
    assert expected["count"] == 21
    monkeypatch.setattr(Scorer, "__init__", None)  # the scores are cached: the data are the same
    for source in (open_source(*arguments), arguments, None):
        assert inception_jax.evaluate(classifier, source, "single").to_json() == expected


def test_several_processes_return_the_same(trained, tmp_path, monkeypatch):
    """Here one after the other: the first does not wait, and reads what the second has written before."""
    classifier = inception_jax.load(trained, "last")
    expected = inception_jax.evaluate(classifier).to_json()
    monkeypatch.setattr("inception_jax.evaluation.scoring._WINDOWS_OF_A_CHUNK", 4)
    monkeypatch.setattr(library.jax, "process_count", lambda: 2)
    done = []
    score = library.score

    def counted(*arguments, advance, **options):
        score(*arguments, advance=lambda images: done.append((options["shard"].index, images)), **options)

    monkeypatch.setattr(library, "score", counted)
    monkeypatch.setattr(library.processes, "together", contextlib.nullcontext)
    monkeypatch.setattr(library.jax, "process_index", lambda: 1)
    with pytest.raises(FileNotFoundError):  # the chunks of process 0
        inception_jax.evaluate(classifier, cache=tmp_path)
    monkeypatch.setattr(library.jax, "process_index", lambda: 0)
    assert inception_jax.evaluate(classifier, cache=tmp_path).to_json() == expected
    assert done == [(1, 4), (1, 4), (1, 1), (0, 4), (0, 4), (0, 4)]


def test_mistakes(trained, image_folder, tmp_path):
    classifier = inception_jax.load(trained, "last")
    (tmp_path / "none.txt").write_text("")
    shutil.copytree(trained, tmp_path / "other", ignore=shutil.ignore_patterns("checkpoints", "evaluation"))
    config = json.loads((trained / "config.json").read_text())
    config["config"]["data"]["eval_split"] = "train"
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    other = dataclasses.replace(classifier, source=tmp_path / "other" / "checkpoints" / "12")
    lonely = dataclasses.replace(classifier, source=tmp_path / "none.txt")
    for classifiers, options, message in (
        ([], {}, "classifiers=[] must have one entry or more"),
        (classifier, {"protocols": ()}, "protocols=[] must have one entry or more"),
        (classifier, {"protocols": "11crop"}, "protocol='11crop' is not one of single, anisotropic"),
        (classifier, {"aggregate": "mode"}, "aggregate='mode' is not one of probabilities, logits, max"),
        (classifier, {"batch_size": 0}, "batch_size=0 must be 1 or more"),
        (classifier, {"protocols": "10crop", "scales": [8]}, "scales=(8,) must not be less than the network's 16"),
        (classifier, {"subset": tmp_path / "none.txt"}, "no image counts: check subset, exclude and multilabels"),
        (classifier, {"cache": "/proc/none"}, "cache=/proc/none cannot be written"),
        (lonely, {}, "does not say which data it is evaluated on: name the data and the split"),
        ([classifier, other], {}, "are evaluated on different data"),
    ):
        with pytest.raises(UserError) as error:
            inception_jax.evaluate(classifiers, **options)
        assert message in str(error.value)


def test_data_in_another_place_may_be_the_same(trained, image_folder, tmp_path):
    """Runs that were trained on copies of the same data make an ensemble."""
    (tmp_path / "copy").symlink_to(image_folder)
    config = json.loads((trained / "config.json").read_text())
    config["config"]["data"]["dir"] = str(tmp_path / "copy")
    (tmp_path / "config.json").write_text(json.dumps(config))
    source, name = library.open_data([trained, tmp_path])
    assert (len(source), name) == (21, "folder, val")
    assert len(library.open_data([trained, tmp_path], split="train")[0]) == 48
