import csv
import json
import multiprocessing
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from experiments.sweep import index
from experiments.sweep.index import refresh, select, table, write_csv
from inception_jax.errors import UserError

CONFIG = {
    "seed": 0,
    "model": {"name": "googlenet", "width": 0.25, "norm": "batch", "aux": True},
    "data": {"name": "digits", "dir": "", "scale": [256, 512]},
    "train": {"steps": 0, "loss": "softmax", "aux_weights": {}, "batch_size": 32},
    "optimizer": {"name": "sgd", "clip_norm": 0.0},
    "schedule": {"name": "cosine", "base_lr": 0.1, "warmup": "5 epochs"},
    "eval": {"batch_size": 0},
}
NETWORK = {"parameters": 411_350, "multiply_adds": 2_000_000_000, "total_steps": 20, "device": "cpu"}
LINES = [
    {"step": 5, "split": "train", "loss": 2.0, "images_per_second": 100.0, "peak_memory": 7000},
    {"step": 10, "split": "train", "loss": 1.5, "images_per_second": 300.0, "peak_memory": 9000},
    {"step": 10, "split": "test", "loss": 1.25, "top1": 0.75, "count": 360},
    {"step": 20, "split": "train", "loss": 1.0, "images_per_second": 110.0, "peak_memory": 8000},
    {"step": 20, "split": "test", "loss": 0.5, "top1": 0.5, "count": 360},
]


def merged(tree, changes):
    """`tree` with the values of `changes` at keys such as 'model.width'; ... takes one out."""
    tree = json.loads(json.dumps(tree))
    for key, value in changes.items():
        *sections, last = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        if value is ...:
            del node[last]
        else:
            node[last] = value
    return tree


def results(step=20, top1=0.5):
    last = {"step": step, "top1": top1, "top5": 0.9, "loss": 0.5, "count": 360}
    return {"last": last, "best": last | {"step": 10, "top1": 0.75}}


def make_run(path, results=results(), lines=LINES, network=NETWORK, run=None, **changes):  # noqa: B008
    path.mkdir(parents=True, exist_ok=True)
    config = {"config": merged(CONFIG, {key.replace("__", "."): value for key, value in changes.items()})}
    config |= {"versions": {}, "commands": [["main.py"]]} | ({"network": network} if network else {})
    (path / "config.json").write_text(json.dumps(config))
    if results:
        (path / "results.json").write_text(json.dumps(results))
    if lines is not None:
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if run:
        (path / "run.json").write_text(json.dumps(run))
    return path


def rows(connection, query="SELECT * FROM runs ORDER BY path"):
    cursor = connection.execute(query)
    names = [name for name, *_ in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def paths(directory, *where, sort=""):
    header, found = select(refresh(directory), where, sort, ["path"])
    assert header == ["path"]
    return [path for (path,) in found]


def content(directory):
    """All of the index, its schema included."""
    with sqlite3.connect(directory / "index.sqlite") as connection:
        return list(connection.iterdump())


@pytest.fixture
def read_runs(monkeypatch):
    """The paths of the runs whose files are read."""
    read, original = [], index._read
    monkeypatch.setattr(index, "_read", lambda run: (read.append(run.path), original(run))[1])
    return read


# What is in the index.


def test_all_columns_of_a_run(tmp_path):
    run = make_run(tmp_path / "s" / "narrow" / "3", run={"state": "finished", "seconds": 12.5, "error": ""}, seed=3)
    (tmp_path / "s" / "sweep.json").write_text('{"name": "widths"}')
    for i, file in enumerate(sorted(run.iterdir())):
        os.utime(file, (1000 + i, 1000 + i))
    [row] = rows(refresh(tmp_path))
    assert row == {
        "path": "s/narrow/3",
        "sweep": "widths",
        "variant": "narrow",
        "seed": 3,
        "state": "finished",
        "error": None,
        "network": "googlenet",
        "data": "digits",
        "step": 20,
        "total_steps": 20,
        "evaluated_step": 20,
        "top1": 0.5,
        "top5": 0.9,
        "loss": 0.5,
        "images": 360,
        "best_step": 10,
        "best_top1": 0.75,
        "seconds": 12.5,
        "images_per_second": 110.0,
        "peak_memory": 9000.0,
        "parameters": 411350,
        "multiply_adds": 2_000_000_000,
        "device": "cpu",
        "modified": 1003.0,
    }


def test_config_and_metrics_are_tables(tmp_path):
    make_run(tmp_path / "a", lines=LINES[:3], data__dir="/Bücher")
    connection = refresh(tmp_path)
    config = {row["key"]: row["value"] for row in rows(connection, "SELECT * FROM config WHERE path = 'a'")}
    assert config["model.width"] == "0.25"
    assert config["model.aux"] == "true"
    assert config["data.scale"] == "[256, 512]"
    assert config["data.dir"] == '"/Bücher"'
    assert "train.aux_weights" not in config
    assert len(config) == 17
    assert connection.execute("SELECT * FROM metrics").fetchall() == [
        ("a", "test", "count", 10, 360.0),
        ("a", "test", "loss", 10, 1.25),
        ("a", "test", "top1", 10, 0.75),
        ("a", "train", "images_per_second", 5, 100.0),
        ("a", "train", "images_per_second", 10, 300.0),
        ("a", "train", "loss", 5, 2.0),
        ("a", "train", "loss", 10, 1.5),
        ("a", "train", "peak_memory", 5, 7000.0),
        ("a", "train", "peak_memory", 10, 9000.0),
    ]


def test_numbers_that_are_not_finite_are_null_and_the_last_of_a_step_counts(tmp_path):
    lines = [{"step": 1, "split": "train", "loss": 9.0, "ok": True, "text": "x"}, {"step": 1, "split": "train"}]
    run = make_run(tmp_path / "a", lines=None)
    text = "".join(json.dumps(line | {"loss": 3.0}) + "\n" for line in lines)
    (run / "metrics.jsonl").write_text(
        text + '{"step": 2, "split": "train", "loss": null}\n{"step": 3, "split": "train", "loss": NaN}\n'
        f'{{"step": 4, "split": "train", "loss": 1e999}}\n{{"step": 5, "split": "train", "loss": {10**400}}}\n'
        f'{{"step": 6, "split": "train", "loss": {10**20}}}\n'
    )
    values = refresh(tmp_path).execute("SELECT key, step, value FROM metrics").fetchall()
    assert values == [("loss", 1, 3.0), *[("loss", i, None) for i in (2, 3, 4, 5)], ("loss", 6, 1e20)]


def test_results_that_are_not_finite_are_null(tmp_path):
    run = make_run(tmp_path / "a")
    (run / "results.json").write_text('{"last": {"step": 20, "loss": Infinity, "top1": NaN}, "best": null}')
    [row] = rows(refresh(tmp_path))
    assert (row["state"], row["loss"], row["top1"], row["best_top1"]) == ("finished", None, None, None)


def test_runs_are_found_and_what_is_below_them_is_not(tmp_path):
    for name in (
        "single",
        "deep/er/down",
        "plain/variant/0",
        "sweep/variant/0",
        "sweep/variant/0/evaluation/x",
        ".old/a",
    ):
        make_run(tmp_path / name)
    (tmp_path / "sweep" / "sweep.json").write_text('{"name": "s"}')
    (tmp_path / "odd" / "config.json").mkdir(parents=True)  # not a file
    found = refresh(tmp_path).execute("SELECT path, sweep, variant FROM runs ORDER BY path").fetchall()
    assert found == [
        ("deep/er/down", "", ""),
        ("plain/variant/0", "", ""),
        ("single", "", ""),
        ("sweep/variant/0", "s", "variant"),
    ]


def test_the_directory_may_be_a_run_or_a_part_of_a_sweep(tmp_path):
    make_run(tmp_path / "sweep" / "variant" / "0")
    (tmp_path / "sweep" / "sweep.json").write_text('{"name": "s"}')
    for directory, path in (("sweep", "variant/0"), ("sweep/variant", "0"), ("sweep/variant/0", ".")):
        [row] = rows(refresh(tmp_path / directory))
        assert (row["path"], row["sweep"], row["variant"]) == (path, "s", "variant")


def test_links_are_followed_and_loops_end(tmp_path):
    make_run(tmp_path / "runs" / "b" / "run")
    make_run(tmp_path / "elsewhere" / "far")
    (tmp_path / "runs" / "a").symlink_to(tmp_path / "runs" / "b")
    (tmp_path / "runs" / "b" / "up").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "self").symlink_to("self")
    (tmp_path / "runs" / "outside").symlink_to(tmp_path / "elsewhere")
    assert paths(tmp_path / "runs") == ["b/run", "outside/far"]


@pytest.mark.parametrize(
    ("state", "facts"),
    [
        ("finished", {}),
        ("unfinished", {"results": results(step=10)}),
        ("unfinished", {"results": None}),
        ("unfinished", {"network": None}),  # nobody knows how long it is
        ("unfinished", {"network": None, "results": None}),
        ("finished", {"network": None, "train__steps": 20}),
        ("unfinished", {"network": None, "train__steps": 21}),
        ("failed", {"run": {"state": "failed", "error": "out of memory"}}),
        ("running", {"run": {"state": "running"}}),
        ("interrupted", {"run": {"state": "interrupted"}}),
    ],
)
def test_states(tmp_path, state, facts):
    make_run(tmp_path / "a", **facts)
    [row] = rows(refresh(tmp_path))
    assert row["state"] == state
    assert row["error"] == ("out of memory" if state == "failed" else None)
    assert row["total_steps"] == (facts.get("train__steps") if "network" in facts else 20)


def test_the_step_is_the_last_that_is_told_of(tmp_path):
    make_run(tmp_path / "ahead", results=results(10))
    make_run(tmp_path / "behind", lines=LINES[:1], results=results(10))
    make_run(tmp_path / "late", lines=[{"step": 0, "split": "train", "loss": 1.0}], results=None)
    make_run(tmp_path / "new", lines=None, results=None)
    found = refresh(tmp_path).execute("SELECT path, step, evaluated_step FROM runs ORDER BY path").fetchall()
    assert found == [("ahead", 20, 10), ("behind", 10, 10), ("late", 0, None), ("new", None, None)]


def test_the_state_of_a_run_that_may_have_ended_is_asked_for(tmp_path):
    for name, state in {"w": "queued", "x": "running", "y": "running", "z": "finished"}.items():
        make_run(tmp_path / name, run={"state": state})
    asked = []

    def state_in(path):
        asked.append(path)
        return {"w": "running", "x": "running", "y": "interrupted"}[path.name]

    def states(*arguments):
        return [row["state"] for row in rows(refresh(tmp_path, *arguments))]

    assert states(state_in) == ["running", "running", "interrupted", "finished"]
    assert sorted(asked) == [tmp_path / name for name in "wxy"]
    # No file has changed, but the processes have.
    assert states(lambda path: "running" if path.name == "y" else "interrupted") == [
        *("interrupted", "interrupted", "running", "finished")
    ]
    assert states() == ["queued", "running", "running", "finished"]


def test_a_run_that_failed_before_it_had_a_config_is_listed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text('{"state": "failed", "error": "config.model.widht is unknown"}')
    [row] = rows(refresh(tmp_path))
    assert (row["state"], row["error"], row["network"]) == ("failed", "config.model.widht is unknown", None)


# Damage of runs.


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("config.json", "", "config.json is damaged: Expecting value"),
        ("config.json", "[1]", "config.json is damaged: it is no object"),
        ("config.json", '{"config": 3}', "config.json is damaged: it has no 'config'"),
        ("config.json", '{"config": {"model": 3}}', "config.json is damaged: there is no config.model.name"),
        ("config.json", '{"config": {"seed": "one"}}', 'config.json is damaged: config.seed is "one"'),
        ("config.json", '{"config": {"seed": 1.5}}', "config.json is damaged: config.seed is 1.5"),
        ("config.json", '{"config": {"seed": true}}', "config.json is damaged: config.seed is true"),
        ("config.json", '{"config": {"seed": 9223372036854775808}}', "config.json is damaged: config.seed is 9223"),
        ("config.json", '{"config": {"seed": NaN}}', "config.json is damaged: config.seed is NaN"),
        ("config.json", "[" * 100_000, "config.json is damaged: "),
        ("config.json", b"\xff\xfe\xfd", "config.json is damaged: "),
        ("results.json", '{"last": {"step"', "results.json is damaged: Expecting ':' delimiter"),
        ("results.json", '{"last": {"top1": "\\ud800"}}', 'results.json is damaged: last.top1 is "\\ud800"'),
        ("run.json", '{"state": 1}', "run.json is damaged: state is 1"),
    ],
)
def test_a_damaged_run_is_listed_with_the_reason(tmp_path, file, text, reason):
    make_run(tmp_path / "bad")
    make_run(tmp_path / "good")
    (tmp_path / "bad" / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    bad, good = rows(refresh(tmp_path))
    assert bad["state"] == "damaged"
    assert bad["error"].startswith(reason)
    assert good["state"] == "finished"
    assert bad["top5"] == (None if file == "results.json" else 0.9)  # what the other files say is there


def test_all_damage_is_told_of(tmp_path):
    run = make_run(tmp_path / "a", run={"state": "failed", "error": "no"})
    (run / "config.json").write_text("x")
    (run / "results.json").write_text("x")
    [row] = rows(refresh(tmp_path))
    assert row["error"].count(" is damaged: ") == 2


def test_damaged_lines_of_metrics_are_left_out(tmp_path):
    whole = json.dumps(LINES[0])
    text = f'{whole}\n\n{{"step": 6\n"x"\n{{"step": 7}}\n{{"split": "train"}}\n{{"step": 8, "split": 1}}\n{whole}'
    run = make_run(tmp_path / "a", lines=None)
    (run / "metrics.jsonl").write_text(text)
    (make_run(tmp_path / "cut", lines=None) / "metrics.jsonl").write_text(f'{whole}\n{{"step": 6, "sp')
    (make_run(tmp_path / "merge", lines=None) / "metrics.jsonl").write_text(f'{{"step": 6\n"split": "x"}}\n{whole}\n')
    connection = refresh(tmp_path)
    found = [(row["state"], row["error"]) for row in rows(connection)]
    assert found == [
        ("finished", "metrics.jsonl has 6 damaged lines"),
        ("finished", None),  # its last line is being written
        ("finished", "metrics.jsonl has 2 damaged lines"),
    ]
    assert connection.execute("SELECT path, step, value FROM metrics WHERE key = 'loss'").fetchall() == [
        (name, 5, 2.0) for name in ("a", "cut", "merge")
    ]


def test_the_error_of_a_run_is_not_that_of_its_metrics(tmp_path):
    run = make_run(tmp_path / "a", lines=None, run={"state": "failed", "error": "out of memory"})
    (run / "metrics.jsonl").write_text("x\n")
    assert rows(refresh(tmp_path))[0]["error"] == "out of memory"
    (run / "run.json").unlink()
    assert rows(refresh(tmp_path))[0]["error"] == "metrics.jsonl has 1 damaged line"


def test_a_line_without_its_end_counts_if_it_is_whole(tmp_path):
    (make_run(tmp_path / "a", lines=None) / "metrics.jsonl").write_text(json.dumps(LINES[0]))
    assert len(rows(refresh(tmp_path), "SELECT * FROM metrics")) == 3


def test_a_file_that_cannot_be_read_is_tried_again(tmp_path, monkeypatch):
    make_run(tmp_path / "a")
    original = index._json

    def fail(file):
        if file.endswith("results.json"):
            raise PermissionError(13, "Permission denied")
        return original(file)

    monkeypatch.setattr(index, "_json", fail)
    [row] = rows(refresh(tmp_path))
    assert (row["state"], row["error"]) == ("damaged", "results.json cannot be read: Permission denied")
    monkeypatch.undo()
    assert rows(refresh(tmp_path))[0]["state"] == "finished"


def test_a_config_that_is_a_link_to_nothing(tmp_path):
    run = make_run(tmp_path / "a")
    (run / "config.json").unlink()
    (run / "config.json").symlink_to("gone")
    assert rows(refresh(tmp_path))[0]["error"] == "config.json cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("text", "name"), [("{", "widths"), ('{"name": 3}', "widths"), ("{}", "widths"), ("[]", "widths")]
)
def test_a_damaged_sweep_is_called_as_its_directory(tmp_path, text, name):
    make_run(tmp_path / "widths" / "a" / "0")
    (tmp_path / "widths" / "sweep.json").write_text(text)
    [row] = rows(refresh(tmp_path))
    assert (row["state"], row["sweep"]) == ("finished", name)


def test_names_that_are_no_text(tmp_path):
    try:
        make_run(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")), data__dir="\ud800", **{"model__\ud801": 1})
    except OSError:
        pytest.skip("this file system takes text only")
    (tmp_path / os.fsdecode(b"\xff") / "metrics.jsonl").write_text('{"step": 1, "split": "\\ud800", "\\ud801": 2}\n')
    connection = refresh(tmp_path, lambda path: path.exists())
    assert select(connection, ["data.dir=\\ud800"], "", ["path", "model.\\ud801", "\\ud800/\\ud801"])[1] == []
    assert select(connection, [], "", ["path", "model.\\ud801", "\\ud800/\\ud801"])[1] == [("\\udcff", 1, 2.0)]


# Keeping it up to date.


def test_only_what_changed_is_read_again(tmp_path, read_runs):
    for name in ("a", "b", "c"):
        make_run(tmp_path / name, run={"state": "running"})
    refresh(tmp_path).close()
    assert sorted(read_runs) == ["a", "b", "c"]
    read_runs.clear()
    before = (tmp_path / "index.sqlite").stat().st_mtime_ns
    refresh(tmp_path).close()
    assert read_runs == []
    assert (tmp_path / "index.sqlite").stat().st_mtime_ns == before


@pytest.mark.parametrize("file", ["config.json", "results.json", "metrics.jsonl", "run.json"])
@pytest.mark.parametrize("change", ["grown", "touched", "replaced", "gone", "new"])
def test_each_change_of_each_file_is_noticed(tmp_path, read_runs, file, change):
    run = make_run(tmp_path / "a", run={"state": "finished"})
    make_run(tmp_path / "b")
    if change == "new":
        (run / "log.txt").write_text((run / file).read_text())
        (run / file).unlink()
    refresh(tmp_path).close()
    read_runs.clear()
    status = (run / file).stat() if change != "new" else None
    if change == "grown":
        with open(run / file, "a", encoding="utf-8") as opened:
            opened.write(" ")
        os.utime(run / file, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "touched":
        os.utime(run / file, ns=(0, status.st_mtime_ns + 1))
    elif change == "replaced":  # by one of the same size at the same time
        (run / "log.txt").write_bytes((run / file).read_bytes())
        os.utime(run / "log.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
        (run / "log.txt").replace(run / file)
    elif change == "gone":
        (run / file).unlink()
    else:
        (run / "log.txt").replace(run / file)
    refresh(tmp_path).close()
    assert read_runs == ["a"]


def test_a_change_replaces_all_that_was_known(tmp_path):
    make_run(tmp_path / "a", lines=[{"step": 1, "split": "train", "old": 1.0}], model__old=1)
    make_run(tmp_path / "b", model__width=0.5)
    refresh(tmp_path).close()
    make_run(tmp_path / "a", results=results(top1=0.875), lines=LINES[:1], model__width=0.75)
    connection = refresh(tmp_path)
    assert connection.execute("SELECT path, top1 FROM runs ORDER BY path").fetchall() == [("a", 0.875), ("b", 0.5)]
    query = "SELECT path, value FROM config WHERE key IN ('model.width', 'model.old') ORDER BY path"
    assert connection.execute(query).fetchall() == [("a", "0.75"), ("b", "0.5")]
    query = "SELECT key, step, value FROM metrics WHERE path = 'a' AND key IN ('loss', 'old')"
    assert connection.execute(query).fetchall() == [("loss", 5, 2.0)]


def test_runs_come_and_go(tmp_path):
    for name in ("a", "b"):
        make_run(tmp_path / name)
    assert paths(tmp_path) == ["a", "b"]
    (tmp_path / "a").rename(tmp_path / "moved")
    make_run(tmp_path / "c")
    connection = refresh(tmp_path)
    for name in ("runs", "config", "metrics", "files"):
        found = connection.execute(f"SELECT DISTINCT path FROM {name} ORDER BY path").fetchall()
        assert found == [("b",), ("c",), ("moved",)]


def test_a_sweep_that_gets_another_name(tmp_path):
    make_run(tmp_path / "s" / "v" / "0")
    (tmp_path / "s" / "sweep.json").write_text('{"name": "old"}')
    assert rows(refresh(tmp_path))[0]["sweep"] == "old"
    (tmp_path / "s" / "sweep.json").write_text('{"name": "newer"}')
    assert rows(refresh(tmp_path))[0]["sweep"] == "newer"
    (tmp_path / "s" / "sweep.json").unlink()
    assert rows(refresh(tmp_path))[0]["sweep"] == ""


def test_a_deleted_index_is_built_the_same(tmp_path):
    for i, name in enumerate(("c", "a", "b")):
        make_run(tmp_path / name, model__width=0.5)
        refresh(tmp_path).close()  # so the runs were entered one by one
        make_run(tmp_path / name, model__width=0.1 * i, lines=LINES[i:])
        refresh(tmp_path).close()
    before = content(tmp_path)
    assert len(before) > 50
    (tmp_path / "index.sqlite").unlink()
    refresh(tmp_path).close()
    assert content(tmp_path) == before


# Damage of the index.


def truncate(file):
    os.truncate(file, 5000)


def other_version(file):
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE runs")
        connection.execute("CREATE TABLE runs (path, something)")
        connection.execute("INSERT INTO runs VALUES ('ghost', 1)")
        connection.execute("PRAGMA user_version = 9999")
    connection.close()


def without_a_table(file):
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE metrics")
    connection.close()


def other_columns(file):
    with sqlite3.connect(file) as connection:
        connection.execute("ALTER TABLE files DROP COLUMN fingerprint")
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_text("no database, but long enough to be one " * 1000),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:100] + os.urandom(8000)),
        truncate,
        other_version,
        without_a_table,
        other_columns,
    ],
)
def test_a_damaged_index_is_built_again(tmp_path, damage):
    for name in ("a", "b"):
        make_run(tmp_path / name)
    refresh(tmp_path).close()
    before = content(tmp_path)
    damage(tmp_path / "index.sqlite")
    if damage is without_a_table:
        make_run(tmp_path / "b", run={"state": "finished"})  # something to write
        connection = refresh(tmp_path)
        assert [row["state"] for row in rows(connection)] == ["finished"] * 2
        assert len(rows(connection, "SELECT DISTINCT path FROM metrics")) == 2
    else:
        assert paths(tmp_path) == ["a", "b"]
        assert content(tmp_path) == before
    assert (tmp_path / "index.sqlite").exists()


def test_an_index_of_another_version_is_emptied_and_not_replaced(tmp_path):
    # Another process may have it open, and would go on with a file that nobody else sees.
    make_run(tmp_path / "a")
    refresh(tmp_path).close()
    file = tmp_path / "index.sqlite"
    other_version(file)
    other = sqlite3.connect(file)
    assert other.execute("SELECT path FROM runs").fetchall() == [("ghost",)]
    assert paths(tmp_path) == ["a"]
    assert other.execute("SELECT path, top1 FROM runs").fetchall() == [("a", 0.5)]
    other.close()


def test_damage_within_a_table_is_found_when_it_is_read(tmp_path):
    many = [{"step": i, "split": "train", "loss": i / 7} for i in range(5000)]
    make_run(tmp_path / "a", lines=many)
    refresh(tmp_path).close()
    file = tmp_path / "index.sqlite"
    with sqlite3.connect(file) as connection:
        [(page,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'metrics'")
    connection.close()
    text = bytearray(file.read_bytes())
    text[4096 * (page - 1) : 4096 * page] = bytes([255]) * 4096
    file.write_bytes(text)
    connection = refresh(tmp_path)
    with pytest.raises(UserError, match="index.sqlite was damaged, and is removed; the same command builds it again"):
        select(connection, [], "", ["train/loss"])
    assert select(refresh(tmp_path), [], "", ["train/loss"])[1] == [(4999 / 7,)]


def test_where_the_index_cannot_be_written_it_is_built_in_memory(tmp_path):
    make_run(tmp_path / "a")
    (tmp_path / "index.sqlite").mkdir()
    connection = refresh(tmp_path)
    assert connection.execute("PRAGMA database_list").fetchall() == [(0, "main", "")]
    assert select(connection, [], "", ["path", "top1", "train/loss"])[1] == [("a", 0.5, 1.0)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_is_not_ours(tmp_path):
    make_run(tmp_path / "a")
    tmp_path.chmod(0o500)
    try:
        assert paths(tmp_path) == ["a"]
    finally:
        tmp_path.chmod(0o700)


def test_an_index_that_stays_locked_is_built_in_memory(tmp_path, monkeypatch):
    make_run(tmp_path / "a")
    refresh(tmp_path).close()
    make_run(tmp_path / "b")
    monkeypatch.setattr(index, "_PATIENCE", 0.05)
    other = sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert paths(tmp_path) == ["a", "b"]
    other.execute("ROLLBACK")
    assert other.execute("SELECT path FROM runs").fetchall() == [("a",)]
    other.close()


def test_no_such_directory(tmp_path):
    with pytest.raises(UserError, match=f"there is no directory {tmp_path}/x"):
        refresh(tmp_path / "x")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="there is no directory"):
        refresh(tmp_path / "file")


def test_a_directory_that_cannot_be_read(tmp_path, monkeypatch):
    make_run(tmp_path / "a")
    make_run(tmp_path / "closed" / "b")
    original = os.scandir

    def scandir(path):
        if path in forbidden:
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(index.os, "scandir", scandir)
    forbidden = [str(tmp_path / "closed")]
    assert paths(tmp_path) == ["a"]
    forbidden = [str(tmp_path)]
    with pytest.raises(UserError, match=f"{tmp_path} cannot be read: Permission denied"):
        refresh(tmp_path)


def test_what_was_interrupted_leaves_the_index_as_it_was(tmp_path, monkeypatch):
    make_run(tmp_path / "a")
    refresh(tmp_path).close()
    before = content(tmp_path)
    for name in ("a", "b", "c"):
        make_run(tmp_path / name, results=results(top1=0.25))
    original = index._read

    def interrupted(run):
        if run.path == "c":
            raise KeyboardInterrupt
        return original(run)

    monkeypatch.setattr(index, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        refresh(tmp_path)
    assert content(tmp_path) == before


# More than one at once.


def refresh_often(directory, barrier, found):
    barrier.wait()
    for _ in range(5):
        connection = refresh(directory)
        found.append(select(connection, [], "", ["path", "top1", "train/loss"])[1])
        connection.close()


def refresh_often_elsewhere(directory, barrier, found):
    mine = []
    refresh_often(directory, barrier, mine)
    found.put(mine)


@pytest.mark.parametrize("damaged", [False, True])
def test_threads_at_once(tmp_path, damaged):
    expected = [(f"run{i}", 0.5, 1.0) for i in range(30)]
    for i in range(30):
        make_run(tmp_path / f"run{i}")
    if damaged:
        (tmp_path / "index.sqlite").write_text("no database" * 1000)
    found, barrier = [], threading.Barrier(4)
    threads = [threading.Thread(target=refresh_often, args=(tmp_path, barrier, found)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 20
    assert paths(tmp_path) == [path for path, *_ in expected]
    with sqlite3.connect(tmp_path / "index.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_processes_at_once_while_runs_change(tmp_path):
    for i in range(30):
        make_run(tmp_path / f"run{i}")
    context = multiprocessing.get_context("spawn")
    barrier, found = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=refresh_often_elsewhere, args=(tmp_path, barrier, found), daemon=True) for _ in range(2)
    ]
    for process in processes:
        process.start()
    barrier.wait(timeout=120)
    for i in range(30):
        make_run(tmp_path / f"run{i}", lines=[*LINES, {"step": 30, "split": "train", "loss": 0.25}])
        make_run(tmp_path / f"run{30 + i}")
    seen = [entry for _ in processes for entry in found.get(timeout=120)]
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    for table_ in seen:  # each shows a state that was
        assert [path for path, *_ in table_][:30] == [f"run{i}" for i in range(30)]
    assert select(refresh(tmp_path), [], "", ["path", "train/loss"])[1] == [
        (f"run{i}", 0.25 if i < 30 else 1.0) for i in range(60)
    ]
    before = content(tmp_path)
    (tmp_path / "index.sqlite").unlink()
    refresh(tmp_path).close()
    assert content(tmp_path) == before


def test_a_refresh_waits_for_one_that_is_at_work(tmp_path):
    make_run(tmp_path / "a")
    refresh(tmp_path).close()
    make_run(tmp_path / "b")
    other = sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    timer.start()
    connection = refresh(tmp_path)
    timer.join()
    assert connection.execute("PRAGMA database_list").fetchone()[2] == str(tmp_path / "index.sqlite")
    other.close()


# Conditions.


@pytest.fixture
def four(tmp_path):
    """a and b were run, c has no result, d is damaged and has no config."""
    make_run(tmp_path / "a", results=results(top1=0.9), model__width=0.25, model__norm="none", schedule__base_lr=1)
    make_run(tmp_path / "b", results=results(top1=0.8), model__width=1, model__aux=False, data__scale=[256, 256.5])
    make_run(tmp_path / "c", results=None, lines=LINES[:1], model__width=10.0, data__dir="1998", model__blocks=None)
    (make_run(tmp_path / "d", results=None, lines=None) / "config.json").write_text("{")
    return tmp_path


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("top1=0.9", "a"),
        ("top1 == 0.9", "a"),
        ("  top1  =  9e-1  ", "a"),
        ("top1=.9", "a"),
        ("top1!=0.9", "bcd"),
        ("top1<0.9", "b"),
        ("top1<=0.9", "ab"),
        ("top1>0.8", "a"),
        ("top1>=0.8", "ab"),
        ("top1=None", "cd"),
        ("top1=null", "cd"),
        ("top1!=None", "ab"),
        ("top1~null", ""),
        ("model.width=0.25", "a"),
        ("model.width=1", "b"),
        ("model.width=1.0", "b"),
        ("model.width!=1.0", "acd"),
        ("width>=1", "bc"),  # 10 is more than 9 as a number
        ("width>9", "c"),
        ("width<0.3", "a"),
        ("width=true", ""),
        ("width='1'", ""),
        ("config.model.width=0.25", "a"),
        ("aux=true", "ac"),
        ("aux=True", "ac"),
        ("aux=false", "b"),
        ("aux=False", "b"),
        ("aux=1", ""),
        ("aux!=true", "bd"),
        ("aux~tru", "ac"),
        ("norm=none", "a"),  # the word, not None
        ("norm=None", "d"),
        ("norm=batch", "bc"),
        ("norm='batch'", "bc"),
        ('norm="batch"', "bc"),
        ("norm!=batch", "ad"),
        ("norm<c", "bc"),
        ("norm>=none", "a"),
        ("norm~at", "bc"),
        ("norm~AT", ""),
        ("norm~'at'", "bc"),
        ("norm~", "abcd"),
        ("dir=1998", "c"),  # a number, but written as the text
        ("dir='1998'", "c"),
        ("dir~99", "c"),
        ("dir=", "ab"),
        ("scale=[256, 512]", "ac"),
        ("scale=[256,512]", "ac"),
        ("scale=(256,512)", "ac"),
        ("scale=(256.0,512)", "ac"),
        ("scale~512", "ac"),
        ("scale~256.5]", "b"),
        ("scale!=(256,512)", "bd"),
        ("blocks=None", "abcd"),
        ("base_lr=1", "a"),
        ("width~.25", "a"),
        ("state=damaged", "d"),
        ("state!=damaged", "abc"),
        ("error~config.json", "d"),
        ("error=None", "abc"),
        ("path~a", "a"),
        ("path>b", "cd"),
        ("warmup=5 epochs", "abc"),
        ("warmup~5", "abc"),
        ("warmup='5 epochs'", "abc"),
        ("seed=0", "abc"),
        ("train/loss=2", "c"),
        ("train/loss<1.5", "ab"),
        ("test/top1>=0.5", "ab"),
        ("train.loss=softmax", "abc"),  # not the column `loss`
        ("loss=0.5", "ab"),
        ("loss>0.4", "ab"),
    ],
)
def test_conditions(four, condition, expected):
    assert paths(four, condition) == list(expected)


def test_all_conditions_must_hold(four):
    assert paths(four, "width>=0.25", "aux=true", "state=finished") == ["a"]


def test_nested_tuples_are_lists(tmp_path):
    make_run(tmp_path / "a", optimizer__lr_multipliers=[["bias$", 2.0]])
    assert paths(tmp_path, "lr_multipliers=(('bias$',2.0),)") == ["a"]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("width", "--where='width' is not KEY OP VALUE"),
        ("=3", "is not KEY OP VALUE with one of = != < <= > >= ~"),
        ("", "is not KEY OP VALUE"),
        ("top1=>0.9", "is not KEY OP VALUE"),
        ("top1=~0.9", "is not KEY OP VALUE"),
        ("top1===0.9", "is not KEY OP VALUE"),
        ("top1= =0.9", "is not KEY OP VALUE"),
        ("top1<>0.9", "is not KEY OP VALUE"),
        ("widht=1", "--where='widht=1': there is no 'widht'; the nearest is model.width"),
        ("mode.width=1", "there is no 'mode.width'; the nearest is model.width"),
        ("top=1", "there is no 'top'; the nearest is top"),
        ("idth=1", "there is no 'idth'; the nearest is model.width"),
        ("nme=x", "the nearest is data.name or model.name or optimizer.name or schedule.name"),
        ("train/los<1", "there is no 'train/los'; the nearest is train/loss"),
        ("name=x", "'name' may be any of data.name, model.name, optimizer.name, schedule.name; say which"),
        ("batch_size>1", "'batch_size' may be any of eval.batch_size, train.batch_size; say which"),
        ("top1>=high", "'high' is neither less nor more than what top1 is, such as '0.9'"),
        ("warmup<5", "'5' is neither less nor more than what schedule.warmup is, such as '5 epochs'"),
        ("aux<true", "'true' is neither less nor more than what model.aux is, such as 'false'"),
        ("scale>[1]", "is neither less nor more than what data.scale is"),
    ],
)
def test_what_is_wrong_with_a_condition(four, condition, message):
    with pytest.raises(UserError) as error:
        paths(four, condition)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_key_of_columns_and_sort_is_checked_too(four):
    connection = refresh(four)
    with pytest.raises(UserError, match="--columns=widht: there is no 'widht'; the nearest is model.width"):
        select(connection, columns=["path", "widht"])
    with pytest.raises(UserError, match="--columns=name: 'name' may be any of"):
        select(connection, columns=["name"])
    with pytest.raises(UserError, match="--sort=-widht: there is no 'widht'"):
        select(connection, sort="-widht")
    assert not connection.in_transaction


def test_without_runs_every_key_is_empty(tmp_path):
    header, found = select(refresh(tmp_path), ["width>1", "top1>=0.9"], "-lr", ["default", "lr"])
    assert (header, found) == (["path", "state", "step", "top1", "loss", "lr"], [])


@pytest.mark.parametrize("text", ["x'; DROP TABLE runs; --", '") OR 1=1 --', "%", "_", "' OR '1'='1"])
def test_values_and_keys_are_never_sql(tmp_path, text):
    run = make_run(tmp_path / "a", data__dir=text, **{"model__" + text.replace(".", "").replace("=", ""): 1})
    line = {"step": 1, "split": text, text: 0.5}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    make_run(tmp_path / "b", data__dir="other")
    connection = refresh(tmp_path)

    def found(*where, **options):
        return [row[0] for row in select(connection, where, columns=["path"], **options)[1]]

    assert found(f"data.dir={text!r}") == ["a"]
    assert found(f"data.dir={json.dumps(text)}") == ["a"]
    assert found(f"path={text!r}") == []
    assert found(f"network~{text!r}") == []
    assert found(sort=f"-{text}/{text}") == ["a", "b"]
    assert select(connection, columns=["path", f"{text}/{text}"])[1] == [("a", 0.5), ("b", None)]
    with pytest.raises(UserError):
        select(connection, columns=[f"path, {text}"])
    with pytest.raises(UserError):
        select(connection, sort=f"top1 {text}")
    assert len(rows(connection)) == 2


# Order and columns.


def test_sorting(tmp_path):
    for name, top1, width in (("v/10", 0.5, 1), ("v/9", 0.5, 2), ("v/0.5", 0.25, 2), ("v/0.25", 0.75, 1)):
        make_run(tmp_path / name, results=results(top1=top1), model__width=width)
    make_run(tmp_path / "none", results=None)
    natural = ["none", "v/0.25", "v/0.5", "v/9", "v/10"]
    assert paths(tmp_path) == natural
    assert paths(tmp_path, sort="path") == natural
    assert paths(tmp_path, sort="-path") == natural[::-1]
    assert paths(tmp_path, sort="top1") == ["v/0.5", "v/9", "v/10", "v/0.25", "none"]
    assert paths(tmp_path, sort="-top1") == ["v/0.25", "v/9", "v/10", "v/0.5", "none"]
    assert paths(tmp_path, sort="-model.width,-top1") == ["v/9", "v/0.5", "v/0.25", "v/10", "none"]
    assert paths(tmp_path, sort=" -width , top1 ") == ["v/0.5", "v/9", "v/10", "v/0.25", "none"]


def test_values_of_several_kinds_can_be_sorted(tmp_path):
    for name, value in (("a", "x"), ("b", 3), ("c", [1]), ("d", True), ("e", None), ("f", 0.5)):
        make_run(tmp_path / name, data__dir=value)
    assert paths(tmp_path, sort="dir") == ["f", "d", "b", "c", "a", "e"]


def test_columns(four):
    asked = ["aux", "config.data.scale", "train/loss", "test/top1", "path", "aux", "blocks"]
    header, found = select(refresh(four), ["state!=damaged"], "", asked)
    assert header == ["model.aux", "data.scale", "train/loss", "test/top1", "path", "model.blocks"]
    assert found == [
        (True, "[256, 512]", 1.0, 0.5, "a", None),
        (False, "[256, 256.5]", 1.0, 0.5, "b", None),
        (True, "[256, 512]", 2.0, None, "c", None),
    ]
    assert found[0][0] is True


def test_a_metric_is_that_of_the_last_step(tmp_path):
    lines = [{"step": s, "split": "train", "loss": float(s)} for s in (2, 10, 9)]
    make_run(tmp_path / "a", lines=lines)
    lines = [
        {"step": 1, "split": "eval/0 (batch statistics)", "loss": 3.0},
        {"step": 5, "split": "train", "loss": None},
    ]
    make_run(tmp_path / "b", lines=lines)
    found = select(refresh(tmp_path), columns=["train/loss", "eval/0 (batch statistics)/loss"])[1]
    assert found == [(10.0, None), (None, 3.0)]
    (tmp_path / "a" / "results.json").unlink()
    assert select(refresh(tmp_path), columns=["step"])[1] == [(10,), (20,)]


def test_default_columns(tmp_path):
    for i in range(2):
        make_run(tmp_path / f"v{i}" / "0", seed=i, data__dir=str(i), eval__batch_size=i, data__image_size=[32, 64][i])
    header, found = select(refresh(tmp_path))
    assert header == ["path", "state", "step", "top1", "loss", "data.image_size"]
    assert found == [("v0/0", "finished", 20, 0.5, 0.5, 32), ("v1/0", "finished", 20, 0.5, 0.5, 64)]


def test_default_columns_are_of_the_runs_that_are_shown(tmp_path):
    make_run(tmp_path / "a", model__width=1, schedule__base_lr=1)
    make_run(tmp_path / "b", model__width=2, schedule__base_lr=1, run={"state": "failed", "error": "no"})
    make_run(tmp_path / "c", model__width=2, schedule__base_lr=3)
    (make_run(tmp_path / "d") / "config.json").write_text("")
    connection = refresh(tmp_path)
    default = ["path", "state", "step", "top1", "loss"]
    assert select(connection, ["path=a"])[0] == default
    assert select(connection, ["width=2"])[0] == [*default, "schedule.base_lr", "error"]
    assert select(connection, ["path!=b"])[0] == [*default, "model.width", "schedule.base_lr", "error"]
    assert select(connection, ["path~a"], "", ["default", "width", "top1", "seed"])[0] == [
        *default,
        "model.width",
        "seed",
    ]
    assert select(connection, ["path=d"])[0] == [*default, "error"]


def test_a_key_that_only_some_have_differs(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", model__module="naive")
    assert select(refresh(tmp_path))[0][5:] == ["model.module"]


def test_of_many_keys_those_that_say_the_same_are_left_out(tmp_path):
    for i, name in enumerate(("vgg", "nin", "alexnet", "zfnet")):
        # A network's name brings its own values with it; three more are varied, and the batch with one of those.
        own = {"model__name": name, "model__a_field": 9 - i, "data__image_size": 32 + i, "train__examples": i}
        varied = {"schedule__base_lr": i % 2, "optimizer__clip_norm": i // 2, "train__batch_size": 16 << i % 2}
        make_run(tmp_path / name, **own, **varied, init_from="x" * (i == 3))
    header, _ = select(refresh(tmp_path))
    # The sixth is one of those that part the runs as another does, the first of them.
    assert header[5:] == [
        "model.name",
        "model.a_field",
        "optimizer.clip_norm",
        "schedule.base_lr",
        "train.batch_size",
        "init_from",
    ]


def test_at_most_six_keys(tmp_path):
    changes = [f"train__k{i}" for i in range(9)]
    for i in range(9):
        make_run(tmp_path / f"{i}", **{key: int(j == i) for j, key in enumerate(changes)})
    assert select(refresh(tmp_path))[0][5:] == [f"train.k{i}" for i in range(6)]


# Output.


def test_the_table():
    header = ["path", "top1", "test/top5", "best_top1", "loss", "parameters", "seed", "schedule.base_lr", "model.aux"]
    rows = [
        ("a/b", 0.98765, 1.0, 0.5, 0.123456, 1234567, 12345, 0.0123456789, True),
        ("longer/path", None, 0.5, None, 12345.678, None, 9, 1e-05, None),
    ]
    assert table(header, rows).splitlines() == [
        "path            top1  test/top5  best_top1    loss  parameters   seed  schedule.base_lr  model.aux",
        "a/b          98.77 %   100.00 %    50.00 %  0.1235   1,234,567  12345      0.0123456789  true",
        "longer/path             50.00 %             12,346                  9             1e-05",
    ]


def test_cells_of_the_table_are_one_line():
    long = "x" * 61
    text = table(["path", "error", "note"], [(long, "a\n\x1b[31mb", long), ("p", None, "y" * 60)])
    assert text.splitlines() == [
        f"path{' ' * 57}  error     note",
        f"{long}  a  [31mb  {'x' * 59}…",
        f"p{' ' * 60}            {'y' * 60}",
    ]


def test_a_table_of_nothing_is_its_header():
    assert table(["path", "top1"], []) == "path  top1"


def test_numbers_of_a_table():
    columns = [
        "modified",
        "images_per_second",
        "train/loss",
        "model.width",
        "optimizer.weight_decay",
        "seconds",
        "step",
    ]
    [_, line] = table(columns, [(0.0, 497.83, 0.00012345, 1234567, 0.00012345678, 999.96, 1)]).splitlines()
    assert line.split()[2:] == ["497.8", "0.0001234", "1234567", "0.00012345678", "1,000", "1"]
    assert line.split()[0] in ("1970-01-01", "1969-12-31")


def test_the_csv_has_all_digits_and_reads_back(tmp_path):
    header = ["path", "top1", "error", "aux"]
    found = [("a,b", 0.1 + 0.2, 'line "one"\nline\rtwo', True), ("ü;=1", None, "", False), ("c", 1e-300, None, None)]
    write_csv(tmp_path / "out.csv", header, found)
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        read = list(csv.reader(file))
    assert read[0] == header
    assert read[1:] == [["" if value is None else str(value) for value in row] for row in found]
    assert float(read[1][1]) == 0.1 + 0.2


def test_the_csv_of_runs(four):
    write_csv(four / "out.csv", *select(refresh(four), [], "-top1", ["path", "top1", "data.scale"]))
    with open(four / "out.csv", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1:3] == [["a", "0.9", "[256, 512]"], ["b", "0.8", "[256, 256.5]"]]


def test_a_csv_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="out.csv cannot be written: No such file or directory"):
        write_csv(tmp_path / "none" / "out.csv", ["path"], [])
