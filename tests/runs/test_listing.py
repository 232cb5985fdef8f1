"""Runs below a directory, selected and sorted, as a table and as CSV."""

import csv
import json
import os
import pathlib

import pytest

from inception_jax.errors import UserError
from inception_jax.runs.listing import find, select, table, write_csv

CONFIG = {
    "seed": 0,
    "model": {"name": "googlenet", "width": 0.25, "norm": "batch", "aux": True},
    "data": {"name": "digits", "dir": "", "scale": [256, 512]},
    "train": {"steps": 20, "loss": "softmax", "batch_size": 32},
    "optimizer": {"name": "sgd"},
    "schedule": {"base_lr": 0.1, "warmup": "5 epochs"},
    "eval": {"batch_size": 0},
}
LINES = [
    {"step": 5, "split": "train", "loss": 2.0, "images_per_second": 100.0, "peak_memory": 7000},
    {"step": 10, "split": "train", "loss": 1.5, "images_per_second": 300.0, "peak_memory": 9000},
    {"step": 20, "split": "train", "loss": 1.0, "images_per_second": 110.0, "peak_memory": 8000},
    {"step": 20, "split": "test", "loss": 0.5, "top1": 0.5, "count": 360},
]


def make(path, top1=0.5, lines=LINES, **changes):
    """A run with values of `changes` at keys such as model__width; without results if top1 is None."""
    config = json.loads(json.dumps(CONFIG))
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (config[section] if section else config)[name] = value
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"config": config, "network": {"parameters": 9, "device": "cpu"}}))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if top1 is not None:
        last = {"step": 20, "top1": top1, "top5": 0.9, "loss": 0.5, "count": 360}
        (path / "results.json").write_text(json.dumps({"last": last, "best": last | {"step": 10, "top1": 1.0}}))
    return path


def paths(directory, *where, sort=""):
    return [path for [path] in select(find(directory), where, sort, ["path"])[1]]


@pytest.fixture
def four(tmp_path):
    """a and b are finished, c has no result, d is damaged and has no config."""
    make(tmp_path / "a", 0.9, model__norm="none", schedule__base_lr=1)
    make(tmp_path / "b", 0.8, model__width=1, model__aux=False, data__scale=[256, 256.5])
    make(tmp_path / "c", None, LINES[:1], model__width=10.0, data__dir="1998", model__blocks=None)
    (make(tmp_path / "d", None, []) / "config.json").write_text("{")
    return tmp_path


def test_runs_are_found_and_what_is_below_them_is_not(tmp_path):
    for name in ("v/10", "v/9", "deep/er/down", "v/9/evaluation/x", ".old/a"):
        make(tmp_path / "runs" / name)
    (tmp_path / "runs/odd/config.json").mkdir(parents=True)
    (tmp_path / "runs/begun").mkdir()
    (tmp_path / "runs/begun/run.json").write_text('{"state": "queued", "job": "1"}')
    make(tmp_path / "elsewhere/far")
    for link, target in {"a": "v", "v/up": ".", "self": "self", "outside": "../elsewhere"}.items():
        (tmp_path / "runs" / link).symlink_to(target if link == "self" else tmp_path / "runs" / target)
    runs = find(tmp_path / "runs")
    assert list(runs) == ["begun", "deep/er/down", "outside/far", "v/9", "v/10"]
    assert [run.state for run in runs.values()] == ["queued", *["finished"] * 4]
    assert list(find(tmp_path / "runs/v/9")) == ["."]


def test_directories_that_cannot_be_read(tmp_path, monkeypatch):
    make(tmp_path / "a")
    make(tmp_path / "closed/b")
    original = os.scandir

    def scandir(path):
        if path == closed:
            raise PermissionError(13, "Permission denied", path)
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    closed = str(tmp_path / "closed")
    assert paths(tmp_path) == ["a"]
    closed = str(tmp_path)
    with pytest.raises(UserError, match=f"^{tmp_path} cannot be read: Permission denied"):
        find(tmp_path)
    with pytest.raises(UserError, match=f"^{tmp_path}/x cannot be read: No such file or directory"):
        find(tmp_path / "x")


def test_names_that_are_no_text(tmp_path):
    try:
        make(pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")), data__dir="\ud800")
    except OSError:
        pytest.skip("this file system takes text only")
    header, rows = select(find(tmp_path), columns=["path", "data.dir"])
    table(header, rows).encode()
    write_csv(tmp_path / "out.csv", header, rows)
    assert (tmp_path / "out.csv").read_text().splitlines()[1] == "\\udcff,\\ud800"


CONDITIONS = {
    "top1=0.9": "a", "  top1 ==  9e-1  ": "a", "top1!=0.9": "bcd", "top1<0.9": "b", "top1<=0.9": "ab",
    "top1>0.8": "a", "top1>=0.8": "ab", "top1=None": "cd", "top1!=null": "ab", "top1~null": "",
    "model.width=1.0": "b", "width>=1": "bc", "width>9": "c",  # 10 is more than 9 as a number
    "width!=1.0": "acd", "width=true": "", "width='1'": "", "config.model.width=0.25": "a", "width~.25": "a",
    "aux=true": "ac", "aux=False": "b", "aux=1": "", "aux!=true": "bd", "aux~tru": "ac",
    "norm=none": "a", "norm=None": "d",  # the word, and what is missing
    "norm='batch'": "bc", "norm!=batch": "ad", "norm<c": "bc", "norm~at": "bc", "norm~AT": "", "norm~": "abcd",
    "dir=1998": "c", "dir='1998'": "c", "dir~99": "c", "dir=": "ab",  # a number, but written as the text
    "scale=[256,512]": "ac", "scale=(256.0, 512)": "ac", "scale~256.5]": "b", "scale!=(256,512)": "bd",
    "state=damaged": "d", "error~config.json": "d", "path~a": "a", "path>b": "cd", "blocks=None": "abcd",
    "warmup=5 epochs": "abc", "train/loss=2": "c", "train/loss<1.5": "ab", "test/top1>=0.5": "ab",
    "train.loss=softmax": "abc", "loss=0.5": "ab",  # the key, and the column
}  # fmt: skip


def test_conditions(four):
    assert {condition: "".join(paths(four, condition)) for condition in CONDITIONS} == CONDITIONS
    assert paths(four, "width>=0.25", "aux=true", "state=finished") == ["a"]


WRONG = {
    "width": "where='width' must be KEY OP VALUE, with OP one of = != < <= > >= ~",
    "=3": "must be KEY OP VALUE", "top1=>0.9": "must be KEY OP VALUE", "top1= =0.9": "must be KEY OP VALUE",
    "widht=1": "where='widht=1': there is no 'widht'; the nearest is model.width",
    "top=1": "there is no 'top'; the nearest is top", "train/los<1": "the nearest is train/loss",
    "name=x": "'name' may be any of data.name, model.name, optimizer.name; say which",
    "batch_size>1": "'batch_size' may be any of eval.batch_size, train.batch_size; say which",
    "top1>=high": "where='top1>=high': top1 is such as '0.9', which has no order with 'high'",
    "aux<true": "model.aux is such as 'true', which has no order with 'true'",
}  # fmt: skip


def test_what_is_wrong_is_one_line_that_names_it(four):
    for condition, message in WRONG.items():
        with pytest.raises(UserError) as error:
            paths(four, condition)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="^columns=widht: there is no 'widht'; the nearest is model.width"):
        select(find(four), columns=["path", "widht"])
    with pytest.raises(UserError, match="^sort=-widht: there is no 'widht'"):
        select(find(four), sort="-widht")


def test_without_runs_every_key_is_empty(tmp_path):
    assert select({}, ["width>1"], "-lr", ["default", "lr"]) == (["path", "state", "step", "top1", "loss", "lr"], [])
    assert table(["path", "top1"], []) == "path  top1"


def test_sorting(tmp_path):
    for name, top1, width in (("v/10", 0.5, 1), ("v/9", 0.5, 2), ("v/0.5", 0.25, 2), ("v/0.25", 0.75, 1)):
        make(tmp_path / name, top1, model__width=width)
    make(tmp_path / "none", None)
    assert paths(tmp_path) == ["none", "v/0.25", "v/0.5", "v/9", "v/10"]
    assert paths(tmp_path, sort="-path") == ["v/10", "v/9", "v/0.5", "v/0.25", "none"]
    assert paths(tmp_path, sort="top1") == ["v/0.5", "v/9", "v/10", "v/0.25", "none"]
    assert paths(tmp_path, sort=" -width , -top1 ") == ["v/9", "v/0.5", "v/0.25", "v/10", "none"]


def test_values_of_several_kinds_can_be_sorted(tmp_path):
    for name, value in (("a", "x"), ("b", 3), ("c", [1]), ("d", True), ("e", None), ("f", 0.5)):
        make(tmp_path / name, data__dir=value)
    assert paths(tmp_path, sort="dir") == ["f", "d", "b", "c", "a", "e"]


def test_columns(four):
    asked = ["aux", "config.data.scale", "train/loss", "images_per_second", "peak_memory", "best_top1", "path", "aux"]
    header, rows = select(find(four), ["state!=damaged"], "", asked)
    assert header == ["model.aux", "data.scale", *asked[2:7]]
    assert rows == [
        [True, [256, 512], 1.0, 110.0, 9000, 1.0, "a"],
        [False, [256, 256.5], 1.0, 110.0, 9000, 1.0, "b"],
        [True, [256, 512], 2.0, 100.0, 7000, None, "c"],
    ]


def test_default_columns_are_those_in_which_the_runs_that_are_shown_differ(tmp_path):
    make(tmp_path / "a", model__width=1, model__own=1, seed=1, data__dir="x", eval__batch_size=7)
    make(tmp_path / "b", model__width=2, schedule__base_lr=1)
    make(tmp_path / "c", model__width=2, schedule__base_lr=3)
    (make(tmp_path / "d") / "config.json").write_text("")
    runs, default = find(tmp_path), ["path", "state", "step", "top1", "loss"]
    assert select(runs, ["path=a"])[0] == default
    # model.own says the same as model.width; d is damaged.
    assert select(runs)[0] == [*default, "model.own", "schedule.base_lr", "error"]
    assert select(runs, ["width=2"], "", ["default", "top5"])[0] == [*default, "schedule.base_lr", "top5"]
    for i in range(9):
        make(tmp_path / "many" / str(i), **{f"train__k{j}": int(i == j) for j in range(9)})
    assert select(find(tmp_path / "many"))[0][5:] == [f"train.k{i}" for i in range(6)]


def test_the_table():
    header = ["path", "state", "top1", "test/top5", "loss", "parameters", "schedule.base_lr", "model.aux", "error"]
    rows = [
        ["a/b", "finished", 0.98765, 1.0, 0.123456, 1234567, 0.0123456789, True, None],
        ["x" * 61, "damaged", None, 0.5, 12345.678, None, 1e-05, None, f"a\n\x1b[31mb{'y' * 60}"],
    ]
    lines = [line.split("  ") for line in table(header, rows).splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[1] == ["a/b", "finished", "98.77 %", "100.00 %", "0.1235", "1,234,567", "0.0123456789", "true"]
    assert cells[2] == ["x" * 61, "damaged", "50.00 %", "12,346", "1e-05", "a", f"[31mb{'y' * 51}…"]


def test_the_csv_has_all_digits(four):
    header, rows = select(find(four), ["state!=damaged"], "-top1", ["path", "top1", "data.scale", "error"])
    rows[0][1], rows[0][3] = 0.1 + 0.2, 'line "one"\nline\rtwo'
    write_csv(four / "out.csv", header, rows)
    with open(four / "out.csv", encoding="utf-8", newline="") as file:
        read = list(csv.reader(file))
    assert read[0] == header
    assert read[1] == ["a", repr(0.1 + 0.2), "[256, 512]", 'line "one"\nline\rtwo']
    assert read[3] == ["c", "", "[256, 512]", ""]
    for raw_csv, cell in ((False, "'=1+1"), (True, "=1+1")):
        write_csv(four / "out.csv", ["path", "loss"], [["=1+1", -0.5]], raw_csv=raw_csv)
        assert (four / "out.csv").read_text() == f"path,loss\n{cell},-0.5\n"
    with pytest.raises(UserError, match="out.csv cannot be written: No such file or directory"):
        write_csv(four / "none" / "out.csv", header, rows)
