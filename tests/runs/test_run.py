"""What is read of a run, and the state it is in."""

import fcntl
import json
import os
import subprocess
import sys

from experiments.sweep.slurm import current
from inception_jax.runs.lock import FILE, Lock
from inception_jax.runs.run import STATES, Run, metrics_rows

CONFIG = {
    "seed": 3,
    "model": {"name": "googlenet"},
    "data": {"name": "digits", "eval_split": "test"},
    "train": {"batch_size": 32, "steps": 0, "ema_decay": 0.5},
}
NETWORK = {"parameters": 411_350, "multiply_adds": 2_000_000, "total_steps": 20, "device": "1 x cpu"}
RECORD = {"config": CONFIG, "versions": {"jax": "0.10"}, "commands": [["main.py"]], "network": NETWORK}
ROWS = [
    {"step": 10, "split": "train", "loss": 1.5, "images_per_second": 300.0},
    {"step": 10, "split": "test", "loss": 1.25, "top1": 0.75},
    {"step": 20, "split": "train", "loss": 1.0},
    {"step": 20, "split": "test", "loss": 0.5, "top1": 0.5},
]


def results(step=20, **changes):
    last = {"step": step, "top1": 0.5, "top5": 0.9, "loss": 0.5, "count": 360} | changes
    return {"last": last, "best": {"step": 10, "top1": 0.75, "top5": 1.0, "loss": 0.4, "count": 360}}


def make(path, record=RECORD, rows=ROWS, results=results(), launch=None):  # noqa: B008
    path.mkdir(parents=True, exist_ok=True)
    for name, content in {"config.json": record, "results.json": results, "run.json": launch}.items():
        if content is not None:
            (path / name).write_text(json.dumps(content))
    if rows is not None:
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def state(path):
    run = Run.read(path)
    assert run.state in STATES
    assert "\n" not in run.error
    return run.state, run.error


def test_all_that_a_directory_says(tmp_path):
    launch = {"command": ["main.py"], "state": "finished", "seconds": 12.5, "error": ""}
    run = Run.read(make(tmp_path, launch=launch))
    assert run == Run(
        tmp_path, "finished", "", CONFIG, NETWORK, {"jax": "0.10"}, [["main.py"]], ROWS, results(), None, launch
    )
    assert (run.total_steps, run.step) == (20, 20)
    assert (run.last("train", "loss"), run.last("train", "images_per_second")) == (1.0, 300.0)
    assert run.last("val", "loss") is None
    assert Run.read(str(tmp_path), metrics_bytes=0).metrics == []
    assert Run.read(tmp_path, metrics_bytes=80).metrics == ROWS[-1:]  # the first of two is cut


def test_what_is_missing_is_none(tmp_path):
    assert Run.read(tmp_path / "none") == Run(tmp_path / "none", "waiting")
    assert Run.read(tmp_path) == Run(tmp_path)
    run = Run.read(make(tmp_path / "new", {"config": {}}, None, None))
    assert (run.state, run.total_steps, run.step, run.versions) == ("unfinished", None, None, None)
    (tmp_path / "file").touch()
    assert Run.read(tmp_path / "file").state == "waiting"


def test_older_names_of_keys_are_the_present_ones(tmp_path):
    old = CONFIG | {"hasty": True, "train": {"average_decay": 0.5}}
    config = Run.read(make(tmp_path, {"config": old})).config
    assert config["fast_compile"] is True
    assert config["train"] == {"ema_decay": 0.5}


def test_reading_writes_nothing_and_needs_no_jax(tmp_path):
    make(tmp_path / "a")
    code = "import sys\nfrom inception_jax.runs import listing, run\nruns = listing.find(sys.argv[1])\n"
    code += "print(len(runs), {'jax', 'orbax', 'numpy', 'tensorflow'} & set(sys.modules))"
    before = sorted(tmp_path.rglob("*"))
    told = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
    assert told == "1 set()\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_states_of_a_run_without_a_sweep(tmp_path):
    steps = {"config": CONFIG | {"train": {"steps": 20}}}  # not every run wrote down its network
    cases = {
        "finished": {},
        "unfinished": {"results": results(10)},
        "waiting": {"record": None, "rows": None, "results": None},
    }
    cases |= {"finished ": {"record": steps}, "unfinished ": {"record": {"config": CONFIG}}}
    for name, facts in cases.items():
        assert state(make(tmp_path / name, **facts)) == (name.strip(), ""), name


def test_states_of_a_run_of_a_sweep(tmp_path):
    """Finished is what has its last evaluation, whatever the launcher says."""
    half = results(10)
    cases = [
        ({"state": "failed", "error": "no report"}, results(), "finished", ""),
        ({"state": "failed", "error": "error:\nnan"}, half, "failed", "error: nan"),
        ({"state": "failed", "error": ""}, half, "failed", "no message"),
        ({"state": "finished"}, half, "failed", "ended at step 20 of 20"),
        ({"state": "interrupted"}, half, "interrupted", ""),
        ({"state": "running"}, half, "interrupted", ""),  # its process was killed
        ({"state": "running", "job": "77"}, half, "running", ""),  # a cluster's, which is not asked here
        ({"state": "queued", "job": "77"}, None, "queued", ""),
    ]
    for number, (launch, last, *expected) in enumerate(cases):
        assert state(make(tmp_path / str(number), results=last, launch=launch)) == tuple(expected), launch
    run = make(tmp_path / "alive", results=half, launch={"state": "running"})
    with open(run / ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert state(run) == ("running", "")
    assert state(run) == ("interrupted", "")
    early = make(tmp_path / "early", None, None, None, {"state": "failed", "error": "config.model.widht is unknown"})
    assert state(early) == ("failed", "config.model.widht is unknown")


def test_a_run_that_a_process_writes_is_running(tmp_path):
    """Started by hand, or resumed by hand after its sweep; the lock of the run tells."""
    half, launches = results(10), (None, {"state": "interrupted"}, {"state": "failed", "job": "77"})
    for number, launch in enumerate(launches):
        run = make(tmp_path / str(number), results=half, launch=launch)
        held = Lock(run, print)
        assert state(run) == ("running", "")
        assert current(Run.read(run)).state == "running"  # the cluster is not asked about an earlier job
        held.release()
        assert state(run) == ((launch or {"state": "unfinished"})["state"], "no message" if number == 2 else "")
    done = make(tmp_path / "done")
    held = Lock(done, print)
    assert state(done) == ("finished", "")
    held.release()
    os.mkfifo(run / "pipe")
    os.replace(run / "pipe", run / FILE)
    assert state(run)[0] == "failed"


def test_an_evaluation_is_finished_when_its_rows_are_written(tmp_path):
    (tmp_path / "evaluation.json").write_text('{"rows": [{"top1": 0.5}]}')
    assert state(tmp_path) == ("finished", "")
    assert Run.read(tmp_path).evaluation == {"rows": [{"top1": 0.5}]}


DAMAGE = [
    ("config.json", b"", "config.json is damaged: Expecting value"),
    ("config.json", b"[1]", "config.json is damaged: it is no object"),
    ("config.json", b'{"config": 3}', "config.json is damaged: config=3 is not an object"),
    ("config.json", b'{"versions": {}}', "config.json is damaged: it has no config"),
    ("config.json", b'{"config": {"model": 3}}', "config.json is damaged: it has no config.model.name"),
    ("config.json", b'{"config": {"seed": "one"}}', 'config.json is damaged: config.seed="one" is not a whole number'),
    ("config.json", b'{"config": {"seed": true}}', "config.json is damaged: config.seed=true is not a whole number"),
    ("config.json", b'{"config": {}, "network": {"total_steps": 1.5}}', "config.json is damaged: network.total_steps"),
    ("config.json", b"[" * 100_000, "config.json is damaged: "),
    ("config.json", b"\xff\xfe\xfd", "config.json is damaged: "),
    ("results.json", b'{"last": {"step"', "results.json is damaged: Expecting ':' delimiter"),
    ("results.json", b'{"last": []}', "results.json is damaged: it has no last.step"),
    ("results.json", b'{"last": {"step": 20, "top1": 80}}', "results.json is damaged: last.top1=80 is no fraction"),
    ("results.json", b'{"last": {"step": 20, "top1": NaN}}', "results.json is damaged: it has no last.top1"),
    ("results.json", b'{"last": {"step": 20, "top1": "x"}}', 'results.json is damaged: last.top1="x" is not a number'),
    ("run.json", b'{"state": 1}', "run.json is damaged: state=1 is not text"),
    ("run.json", b'{"state": "lost"}', "run.json is damaged: state='lost' is not one of waiting, queued, "),
    ("metrics.jsonl", b"\xff\xfe\n", "metrics.jsonl has 1 damaged line"),
]


def test_damage_is_one_line_and_the_rest_is_read(tmp_path):
    for number, (name, content, reason) in enumerate(DAMAGE):
        run = make(tmp_path / str(number))
        (run / name).write_bytes(content)
        found, error = state(run)
        assert (found, error.startswith(reason)) == ("damaged", True), (error, reason)
        assert str(tmp_path) not in error  # reports are published
        last = Run.read(run).results
        assert last is None if name == "results.json" else last == results()
    run = make(tmp_path / "two")
    for name in ("config.json", "results.json"):
        (run / name).write_text("x")
    assert state(run)[1].count(" is damaged: ") == 2


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    run = make(tmp_path / "directories")
    for name in ("config.json", "metrics.jsonl"):
        (run / name).unlink()
        (run / name).mkdir()
    expected = "metrics.jsonl cannot be read: Is a directory; config.json cannot be read: Is a directory"
    assert sorted(state(run)[1].split("; ")) == sorted(expected.split("; "))
    run = make(tmp_path / "link")
    (run / "config.json").unlink()
    (run / "config.json").symlink_to("gone")
    assert state(run) == ("damaged", "config.json cannot be read: it links to nothing")
    run = make(tmp_path / "forbidden")

    def read_bytes(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(run), "read_bytes", read_bytes)
    assert "results.json cannot be read: Permission denied" in state(run)[1]


def test_numbers_that_are_not_finite_are_none(tmp_path):
    run = make(tmp_path)
    (run / "results.json").write_text('{"last": {"step": 20, "loss": Infinity, "top1": 0.5}, "best": null}')
    (run / "metrics.jsonl").write_text('{"step": 2, "split": "train", "loss": NaN}\n')
    read = Run.read(run)
    assert (read.state, read.results["last"]["loss"], read.metrics[0]["loss"]) == ("finished", None, None)


def test_damaged_lines_of_metrics_are_left_out(tmp_path):
    whole = json.dumps(ROWS[0])
    bad = f'{whole}\n\n{{"step": 6\n"x"\n{{"step": 7}}\n{{"split": "train"}}\n{{"step": 8, "split": 1}}\n{whole}'
    assert metrics_rows(bad.encode()) == [ROWS[0]] * 2
    assert metrics_rows(f'{{"step": 6\n"split": "x"}}\n{whole}\n'.encode()) == ROWS[:1]  # together they were an object
    assert metrics_rows(b"") == []
    for name, step, text, expected in (
        ("a", 20, bad, ("damaged", "metrics.jsonl has 6 damaged lines")),
        ("b", 10, bad, ("unfinished", "metrics.jsonl has 6 damaged lines")),
        ("c", 20, f'{whole}\n{{"step": 6, "sp', ("finished", "")),  # its last line is being written
    ):
        run = make(tmp_path / name, results=results(step))
        (run / "metrics.jsonl").write_text(text)
        assert state(run) == expected
        assert Run.read(run).metrics[0] == ROWS[0]
