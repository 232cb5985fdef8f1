"""The launcher of sweeps and its jobs, with processes that train nothing; on a SLURM cluster of shell scripts too."""

import contextlib
import errno
import fcntl
import importlib.util
import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest
import submitit
from submitit.core.utils import DelayedSubmission, JobPaths

from experiments.sweep import job, launcher
from experiments.sweep import shares as resources
from experiments.sweep import slurm as queue
from experiments.sweep.board import Board
from experiments.sweep.launcher import Launcher
from experiments.sweep.plan import ROOT, Task
from experiments.sweep.shares import shares, visible_gpus
from inception_jax.errors import UserError
from inception_jax.runs.listing import find
from inception_jax.runs.run import is_locked, read_launch

# What the processes share. SAVES: as main.py does, one saves its state at SIGTERM, and resumes from it the next time.
HEAD = """
import json, os, pathlib, signal, sys, time
here = pathlib.Path({here!r})
def note(name, text=""):
    with open(here / name, "a") as file:
        file.write(text + "\\n")
def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
note("starts")
"""
SAVES = """
if (here / "saved").exists():
    time.sleep(0.2)
    sys.exit(0)
def save(*_):
    print("stopped, saving", flush=True)
    time.sleep(0.1)
    note("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
note("ready")
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    """Nothing of what a launcher or a job does to its process is left."""
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(launcher, "_POLL_SECONDS", 0.05)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
    handlers, cores = [signal.getsignal(number) for number in numbers], os.sched_getaffinity(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background does not have
    yield
    os.sched_setaffinity(0, cores)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def python(directory, name, code, needs=()):
    """A run of Python code; it notes in 'starts' of its directory that it begins."""
    here = directory / name
    here.mkdir(parents=True, exist_ok=True)
    return Task(name, int(name.rpartition("/")[2]), ("-c", HEAD.format(here=str(here)) + code), tuple(needs))


def launch(runs, directory, jobs=1, retry=False, gpus=1):
    """The launcher, which is through."""
    one = Launcher(runs, directory, jobs=jobs, gpus=gpus)
    one.launch(retry, Board(runs, directory, one.parallel))
    return one


def states(runs, directory, cluster="local"):
    one = Launcher(runs, directory, cluster, jobs=1)
    return {run.name: one.state(run) for run in runs}


def starts(directory, name):
    file = directory / name / "starts"
    return file.read_text().count("\n") if file.exists() else 0


def until(condition):
    end = time.monotonic() + 300  # only so that a failure ends: a busy machine takes its time
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def later(condition, action):
    """Does `action` in a thread as soon as `condition` holds."""
    thread = threading.Thread(target=lambda: (until(condition), action()), daemon=True)
    thread.start()
    return thread


# ---- Runs on this machine

MEETS = """
both = here.parent.name in "ab"
mine = {"gpus": os.environ["CUDA_VISIBLE_DEVICES"], "cores": sorted(os.sched_getaffinity(0))}
marker, busy = here.parent.parent / "busy" / here.parent.name, here.parent.parent / "busy"
(here / "new").write_text(json.dumps(mine))
(here / "new").rename(marker)
if both:
    until(lambda: len(list(busy.iterdir())) == 2)
seen = []
for file in busy.iterdir():
    try:
        seen.append(json.loads(file.read_text()))
    except FileNotFoundError:
        pass
(here / "seen").write_text(json.dumps(seen))
time.sleep(0.1)
if both:
    until(lambda: all((here.parent.parent / name / "0" / "seen").exists() for name in "ab"))
marker.unlink()
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_runs_at_once_share_cores_and_gpus(tmp_path, monkeypatch):
    """Never more than asked for; the first two wait for each other."""
    monkeypatch.setattr(resources, "visible_gpus", lambda: ["0", "2", "7"])
    (tmp_path / "busy").mkdir()
    runs = [python(tmp_path, f"{name}/0", MEETS) for name in "abcde"]
    launch(runs, tmp_path, jobs=2)
    seen = {run.name: json.loads((tmp_path / run.name / "seen").read_text()) for run in runs}
    assert all(len(of) <= 2 for of in seen.values())
    assert len(seen["a/0"]) == len(seen["b/0"]) == 2
    for first, second in (of for of in seen.values() if len(of) == 2):
        assert first["gpus"] != second["gpus"]
        assert not {*first["cores"]} & {*second["cores"]}
        assert {*first["cores"], *second["cores"]} == os.sched_getaffinity(0)
    assert {one["gpus"] for of in seen.values() for one in of} == {"0", "2"}
    assert set(states(runs, tmp_path).values()) == {"finished"}


SHARES = [
    (1, 1, [], 4, [((), ())]),
    (0, 1, [], 4, [((), ())]),
    (2, 1, [], 4, [((0, 1), ()), ((2, 3), ())]),
    (3, 4, [], 4, [((0,), ()), ((1,), ()), ((2, 3), ())]),
    (0, 1, ["0", "1"], 5, [((0, 1), ("0",)), ((2, 3, 4), ("1",))]),
    (0, 2, ["4", "5", "6"], 4, [((), ("4", "5"))]),
    (2, 2, ["0", "1", "2", "3", "4"], 2, [((0,), ("0", "1")), ((1,), ("2", "3"))]),
    (0, 4, ["0", "1"], 4, "gpus=4 for each of 1 runs needs 4 GPUs, and there are 2; choose fewer jobs or GPUs"),
    (3, 1, ["0", "1"], 4, "gpus=1 for each of 3 runs needs 3 GPUs, and there are 2; choose fewer jobs or GPUs"),
    (5, 1, [], 4, "jobs=5 must not be more than the number of cores, 4"),
]


def test_shares(monkeypatch):
    for jobs, gpus, devices, cores, expected in SHARES:
        monkeypatch.setattr(resources, "visible_gpus", lambda devices=devices: devices)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        if isinstance(expected, str):
            with pytest.raises(UserError) as error:
                shares(jobs, gpus)
            assert str(error.value) == expected
        else:
            assert shares(jobs, gpus) == expected
        monkeypatch.undo()


GPUS = [
    ({}, ["0", "1", "2"]),
    ({"JAX_PLATFORMS": ""}, ["0", "1", "2"]),
    ({"JAX_PLATFORMS": "cuda,cpu"}, ["0", "1", "2"]),
    ({"JAX_PLATFORMS": "gpu"}, ["0", "1", "2"]),
    ({"JAX_PLATFORMS": "cpu"}, []),
    ({"CUDA_VISIBLE_DEVICES": "3,GPU-1f"}, ["3", "GPU-1f"]),
    ({"CUDA_VISIBLE_DEVICES": ""}, []),
    ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
    ({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, ["1"]),
    ({"PATH": ""}, []),
]


def test_visible_gpus(tmp_path, monkeypatch):
    script(tmp_path / "nvidia-smi", 'test "$*" = "--query-gpu=index --format=csv,noheader" && printf "0\\n1\\n2\\n"')
    path = f"{tmp_path}:{os.environ['PATH']}"
    for environment, expected in GPUS:
        for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES"):
            monkeypatch.delenv(name, raising=False)
        for name, value in ({"PATH": path} | environment).items():
            monkeypatch.setenv(name, value)
        for plugin in (None, "jax_cuda12_plugin", "jax_cuda13_plugin"):
            monkeypatch.setattr(importlib.util, "find_spec", lambda name, there=plugin: name == there or None)
            assert visible_gpus() == (expected if plugin else []), environment
    script(tmp_path / "nvidia-smi", "echo 0; exit 9")  # a driver that fails
    monkeypatch.setenv("PATH", path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == []


PATIENT = "assert int(os.environ['SUBMITIT_LOCAL_TIMEOUT_S']) > 30 * 86400\n"


def test_what_has_failed_what_waits_for_it_and_another_try(tmp_path):
    """And who is finished, or has failed, is not run again."""
    runs = [
        python(tmp_path, "good/0", f"{PATIENT}time.sleep(0.2)\nnote('done')\nprint('step 9', flush=True)"),
        python(
            tmp_path,
            "bad/0",
            "if (here / 'mended').exists(): sys.exit(0)\n"
            "print('step 1\\nerror: old\\nerror: no such [thing]\\nlast words', file=sys.stderr)\nsys.exit(2)",
        ),
        python(tmp_path, "quiet/0", "sys.exit(3)"),
        python(tmp_path, "killed/0", "print('step 7 of 9', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"),
        python(tmp_path, "evaluations/one/0", "assert (here.parents[2] / 'good/0/done').exists()", needs=["good/0"]),
        python(tmp_path, "evaluations/both/0", "", needs=["good/0", "bad/0"]),
    ]
    first = launch(runs, tmp_path, jobs=2)
    assert {run.name: first.state(run) for run in runs} == {
        "good/0": "finished",
        "bad/0": "failed",
        "quiet/0": "failed",
        "killed/0": "failed",
        "evaluations/one/0": "finished",
        "evaluations/both/0": "waiting",
    }
    once = {run.name: 1 for run in runs} | {"evaluations/both/0": 0}
    assert {run.name: starts(tmp_path, run.name) for run in runs} == once
    records = {run.name: read_launch(tmp_path / run.name) for run in runs}
    assert records["good/0"]["command"] == list(runs[0].command)
    assert records["good/0"]["status"] == 0
    assert records["good/0"]["error"] == records["good/0"]["job"] == ""
    assert records["good/0"]["seconds"] > 0
    assert records["bad/0"]["status"] == 2
    assert records["bad/0"]["error"] == "error: no such [thing]"
    assert records["quiet/0"]["error"] == "ended with status 3"
    assert records["killed/0"]["error"] == "the process was killed by signal 9 (Killed); its last line: step 7 of 9"
    assert (tmp_path / "good/0/log.txt").read_text() == "step 9\n"
    assert (tmp_path / "bad/0/log.txt").read_text().splitlines()[-1] == "last words"

    launch(runs, tmp_path)
    assert {run.name: starts(tmp_path, run.name) for run in runs} == once

    (tmp_path / "bad/0/mended").touch()
    third = launch(runs[:2] + runs[5:], tmp_path, retry=True)
    assert {run.name: third.state(run) for run in runs[:2] + runs[5:]} == dict.fromkeys(
        ("good/0", "bad/0", "evaluations/both/0"), "finished"
    )
    assert {run.name: starts(tmp_path, run.name) for run in runs} == once | {"bad/0": 2, "evaluations/both/0": 1}
    assert read_launch(tmp_path / "bad/0")["error"] == ""


def test_what_another_command_has_finished_is_run_again(tmp_path):
    """main.py then says what differs. The time of the other one does not count."""
    run = python(tmp_path, "a/0", "print('error: it differs')\nsys.exit(2)")
    job.write(tmp_path / "a/0", {"command": ["main.py"], "state": "finished", "seconds": 1000.0, "error": ""})
    assert states([run], tmp_path) == {"a/0": "waiting"}
    assert launch([run], tmp_path).state(run) == "failed"
    assert read_launch(tmp_path / "a/0")["error"] == "error: it differs"
    assert read_launch(tmp_path / "a/0")["seconds"] < 100


# ---- Interruption


def test_the_launcher_ends_its_runs_and_the_next_one_resumes(tmp_path, capfd):
    """One saves its state. The other one dies of SIGTERM, as main.py does in its first second."""
    saving = python(tmp_path, "a/0", SAVES)
    dying = python(tmp_path, "b/0", "if (here / 'ready').exists(): sys.exit(0)\nnote('ready')\ntime.sleep(60)")
    late = python(tmp_path, "c/0", "")
    runs = [saving, dying, late]
    jobs = 2 if len(os.sched_getaffinity(0)) > 1 else 1
    active = runs[:jobs]
    ready = lambda: all((tmp_path / run.name / "ready").exists() for run in active)  # noqa: E731
    later(ready, lambda: os.kill(os.getpid(), signal.SIGTERM))
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as stopped:
        launch(runs, tmp_path, jobs=jobs)
    assert stopped.value.args == (signal.SIGTERM,)  # for the command's exit status
    assert (tmp_path / "a/0/saved").exists()
    assert signal.getsignal(signal.SIGTERM) == handler
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    assert f"stopping {jobs} runs, each saves its state; rerun the same command to resume" in capfd.readouterr().err
    for run, status in zip(active, (143, -signal.SIGTERM), strict=False):
        record = read_launch(tmp_path / run.name)
        assert (record["state"], record["status"], record["error"]) == ("interrupted", status, "")
        assert not is_locked(tmp_path / run.name)
    assert starts(tmp_path, "c/0") == 0

    job.write(tmp_path / "a/0", read_launch(tmp_path / "a/0") | {"seconds": 1000.0})
    again = launch(runs, tmp_path)
    assert {again.state(run) for run in runs} == {"finished"}
    assert [starts(tmp_path, run.name) for run in runs] == [2, jobs, 1]
    assert 1000 < read_launch(tmp_path / "a/0")["seconds"] < 1100  # of both starts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_run_is_being_started(number, tmp_path, monkeypatch):
    """It is heeded when the launcher knows of the run, which it ends."""
    submit = submitit.AutoExecutor.submit

    def disturbed(self, function):
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        submitted = submit(self, function)
        time.sleep(0.01)
        return submitted

    monkeypatch.setattr(submitit.AutoExecutor, "submit", disturbed)
    run = python(tmp_path, "a/0", "time.sleep(60)")
    one = Launcher([run], tmp_path, jobs=1)
    with pytest.raises(KeyboardInterrupt) as stopped:
        one.launch(False, Board([run], tmp_path, 1))
    assert stopped.value.args == (number,)
    assert one._jobs["a/0"].done()
    assert not family(tmp_path)
    assert one.state(run) in ("waiting", "interrupted")


def process(tmp_path, runs):
    """The command in a session of its own, with `runs` in place of the trainings."""
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from experiments.sweep import __main__, launcher, plan
plan.tasks_of = lambda *_: {runs!r}
plan.check = lambda _: None
launcher._POLL_SECONDS = 0.05
sys.exit(__main__.main(["experiments/sweeps/interpolation.py:cifar10", "--workdir={tmp_path}"]))
""".replace("Task(", "plan.Task(")
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True
    )


def test_ctrl_c_reaches_all_processes_of_the_terminal(tmp_path):
    """And yet the run can save its state."""
    run = python(tmp_path, "a/0", SAVES)
    command = process(tmp_path, [run])
    until((tmp_path / "a/0/ready").exists)
    os.killpg(command.pid, signal.SIGINT)
    _, said = command.communicate(timeout=60)
    assert command.returncode == 130
    assert said.splitlines()[-2:] == [
        "stopping 1 runs, each saves its state; rerun the same command to resume", "stopped by SIGINT"
    ]  # fmt: skip
    assert (tmp_path / "a/0/saved").exists()
    assert states([run], tmp_path) == {"a/0": "interrupted"}
    assert read_launch(tmp_path / "a/0")["status"] == 143


def test_a_run_outlives_a_launcher_that_is_killed(tmp_path, monkeypatch):
    """The next launcher does not start it a second time, but waits for it, and starts what needs it."""
    run = python(tmp_path, "a/0", "note('ready')\nuntil((here / 'go').exists)")
    other = python(tmp_path, "evaluations/e/0", "", needs=["a/0"])
    command = process(tmp_path, [run, other])
    until((tmp_path / "a/0/ready").exists)
    command.kill()
    command.wait()
    command.stderr.close()
    assert states([run], tmp_path) == {"a/0": "running"}
    shown = []

    class Watching(Board):
        def show(self, states):
            shown.append(dict(states))
            if len(shown) == 3:
                (tmp_path / "a/0/go").touch()

    second = Launcher([run, other], tmp_path, jobs=1)
    second.launch(False, Watching([run, other], tmp_path, 1))
    assert shown[0] == shown[2] == {"a/0": "running", "evaluations/e/0": "waiting"}
    assert states([run, other], tmp_path) == {"a/0": "finished", "evaluations/e/0": "finished"}
    assert starts(tmp_path, "a/0") == 1


def test_a_run_that_another_command_has_in_work_comes_after_it(tmp_path):
    run = python(tmp_path, "a/0", "")
    job.write(tmp_path / "a/0", {"command": ["main.py"], "state": "running", "seconds": 0.0, "error": ""})
    with open(tmp_path / "a/0/.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert states([run], tmp_path) == {"a/0": "running"}
        later(lambda: True, lambda: (time.sleep(0.2), fcntl.flock(lock, fcntl.LOCK_UN)))
        assert launch([run], tmp_path).state(run) == "finished"


def test_everything_of_a_run_is_killed(tmp_path):
    """Nobody is left to write its state, which the launcher does; other runs go on."""
    doomed = python(tmp_path, "a/0", "print('step 3', flush=True)\nnote('ready')\ntime.sleep(60)")
    next_one = python(tmp_path, "b/0", "")

    def kill():
        for what in (signal.SIGSTOP, signal.SIGKILL):  # none sees another's end
            for number in family(tmp_path):
                os.kill(number, what)

    thread = later((tmp_path / "a/0/ready").exists, kill)
    after = launch([doomed, next_one], tmp_path)
    thread.join()
    assert {run.name: after.state(run) for run in (doomed, next_one)} == {"a/0": "failed", "b/0": "finished"}
    assert "the process was killed" in read_launch(tmp_path / "a/0")["error"]
    assert read_launch(tmp_path / "a/0")["error"].endswith("its last line: step 3")
    assert starts(tmp_path, "a/0") == 1


def test_a_run_that_outlives_submitits_process_keeps_its_place(tmp_path):
    first = python(tmp_path, "a/0", "note('ready')\nuntil((here / 'killed').exists)\ntime.sleep(0.5)\nnote('end')")
    second = python(tmp_path, "b/0", "sys.exit(not (here.parent.parent / 'a/0/end').exists())")

    def kill():
        os.kill(family(tmp_path)[-1], signal.SIGKILL)
        (tmp_path / "a/0/killed").touch()

    thread = later((tmp_path / "a/0/ready").exists, kill)
    after = launch([first, second], tmp_path)
    thread.join()
    assert {run.name: after.state(run) for run in (first, second)} == {"a/0": "finished", "b/0": "finished"}
    assert [starts(tmp_path, name) for name in ("a/0", "b/0")] == [1, 1]


def family(directory):
    """Ids of the processes whose command line names `directory`, the last started first: the run, submitit's two."""
    found = []
    for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(directory).encode() in file.read_bytes():
                found.append(int(file.parent.name))
    return sorted(found, reverse=True)


# ---- The job


def test_a_job_that_another_process_has_is_left_alone(tmp_path):
    run = python(tmp_path, "a/0", "")
    one = job.Job(tmp_path / "a/0", ROOT, run.command, (), ())
    with open(tmp_path / "a/0/.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_locked(tmp_path / "a/0")
        assert one() == os.EX_TEMPFAIL
    assert starts(tmp_path, "a/0") == 0
    assert read_launch(tmp_path / "a/0") == {}
    assert not is_locked(tmp_path / "a/0")


def test_who_asks_whether_a_run_is_alive_does_not_keep_it_from_starting(tmp_path):
    run = python(tmp_path, "a/0", "")
    with open(tmp_path / "a/0/.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        later(lambda: True, lambda: (time.sleep(0.2), fcntl.flock(lock, fcntl.LOCK_UN)))
        assert job.Job(tmp_path / "a/0", ROOT, run.command, (), ())() == 0


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    run = python(tmp_path, "a/0", "")
    assert job.Job(tmp_path / "a/0", ROOT, run.command, (), ())() == 0
    assert not is_locked(tmp_path / "a/0")


def test_the_lock_lives_as_long_as_the_process(tmp_path):
    """Not as long as its job."""
    run = python(tmp_path, "a/0", "note('ready')\nuntil((here / 'go').exists)")
    code = "import sys\nfrom experiments.sweep.job import Job\nfrom pathlib import Path\n"
    code += f"Job(Path({str(tmp_path / 'a/0')!r}), Path({str(ROOT)!r}), {run.command!r}, (), ())()"
    one = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    until((tmp_path / "a/0/ready").exists)
    one.kill()
    one.wait()
    assert is_locked(tmp_path / "a/0")
    assert states([run], tmp_path) == {"a/0": "running"}
    (tmp_path / "a/0/go").touch()
    until(lambda: not is_locked(tmp_path / "a/0"))
    assert states([run], tmp_path) == {"a/0": "interrupted"}


def test_a_signal_before_there_is_a_process(tmp_path, monkeypatch):
    """It ends the process as soon as there is one."""
    run = python(tmp_path, "a/0", "time.sleep(60)")
    monkeypatch.setattr(job, "write", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert job.Job(tmp_path / "a/0", ROOT, run.command, (), ())() == -signal.SIGTERM


def test_a_second_signal_does_not_disturb_the_process(tmp_path):
    code = "def end(*_):\n    note('signals')\nsignal.signal(signal.SIGTERM, end)\nnote('ready')\n"
    run = python(tmp_path, "a/0", f"{code}until((here / 'go').exists)")

    def twice():
        os.kill(os.getpid(), signal.SIGTERM)
        until((tmp_path / "a/0/signals").exists)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
        (tmp_path / "a/0/go").touch()

    later((tmp_path / "a/0/ready").exists, twice)
    assert job.Job(tmp_path / "a/0", ROOT, run.command, (), ())() == 0
    assert (tmp_path / "a/0/signals").read_text() == "\n"


@contextlib.contextmanager
def input_from(file):
    """Standard input of the processes that are started now."""
    kept = os.dup(0)
    os.dup2(file.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def test_a_job_has_the_directory_environment_and_output_that_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "77")  # an allocation in which the launcher was started
    code = "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    code += "assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()\n"
    facts = "os.getcwd(), os.environ['CUDA_VISIBLE_DEVICES'], len(sys.stdin.read()), sorted(os.sched_getaffinity(0))"
    run = python(tmp_path, "a/0", f"{code}print({facts})")
    core = min(os.sched_getaffinity(0))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as the launcher does
    (tmp_path / "typed").write_text("y\n")
    with open(tmp_path / "typed", encoding="utf-8") as typed, input_from(typed):
        for cores, gpus in (((), ()), ((core,), ("1", "2"))):
            assert job.Job(tmp_path / "a/0", tmp_path, run.command, cores, gpus)() == 0
    first, second = (tmp_path / "a/0/log.txt").read_text().splitlines()
    assert first.startswith(f"{tmp_path} 5 0 [")
    assert second == f"{tmp_path} 1,2 0 [{core}]"
    assert read_launch(tmp_path / "a/0")["job"] == ""


def test_states_of_an_exit_status():
    states = {0: "finished", 1: "failed", 2: "failed", 130: "interrupted", 143: "interrupted", -15: "interrupted"}
    states |= {-2: "interrupted", -9: "failed", -11: "failed", 75: "failed"}
    assert {status: job.state_of(status) for status in states} == states


def test_the_error_is_of_the_last_start(tmp_path):
    code = "if (here / 'again').exists(): sys.exit(3)\nnote('again')\nprint('error: no room')\nsys.exit(2)"
    command = python(tmp_path, "a/0", code).command
    errors = []
    for _ in range(2):
        job.Job(tmp_path / "a/0", ROOT, command, (), ())()
        errors.append(read_launch(tmp_path / "a/0")["error"])
    assert errors == ["error: no room", "ended with status 3"]


def test_last_words(tmp_path):
    log = tmp_path / "log.txt"
    assert job.last_words(log) == ""
    log.write_bytes(b"error: of an earlier start\n")
    start = log.stat().st_size
    assert job.last_words(log, start) == ""
    log.write_bytes(log.read_bytes() + b"step 1\rstep 2\r\n\xff" + b"x" * 900 + b"\n  \n")
    assert job.last_words(log, start) == "�" + "x" * 499
    assert job.last_words(log) == "error: of an earlier start"
    log.write_bytes(log.read_bytes() + b"error: a\nerror: b\nmore\n")
    assert job.last_words(log, start) == "error: b"
    log.write_bytes(log.read_bytes() + b"line\n" * 10_000)
    assert job.last_words(log, start) == "line"


# ---- SLURM


def script(file, text):
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Commands of SLURM. sbatch starts what it is given if there is 'cluster/starts'; the others read files there."""
    directory = tmp_path / "cluster"
    directory.mkdir()
    (directory / "number").write_text("100")
    script(
        directory / "sbatch",
        f"""
cd {directory}
number=$(cat number)
echo $((number + 100)) >number
cp "$1" submission.$number
tasks=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
if [ -e starts ]; then
    if [ -n "$tasks" ]; then
        for i in $(seq 0 $tasks); do
            SLURM_ARRAY_JOB_ID=$number SLURM_ARRAY_TASK_ID=$i SLURM_JOB_ID=$((number + i)) bash "$1" >/dev/null 2>&1 &
        done
    else
        SLURM_JOB_ID=$number bash "$1" >/dev/null 2>&1 &
    fi
fi
echo Submitted batch job $number""",
    )
    script(directory / "srun", 'shift; [ $1 = --output ] && [ $3 = --error ] && shift 4; exec "$@"')
    script(directory / "sacct", f"cd {directory}; echo call >>calls; echo 'JobID|State|NodeList'; cat states")
    script(directory / "squeue", f'grep "^$2 " {directory}/queue | cut -d" " -f2')
    script(directory / "scontrol", f'echo "$*" >>{directory}/requeued')
    (directory / "queue").touch()
    (directory / "states").touch()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    yield directory
    forget()


def forget():
    """What was asked of SLURM."""
    submitit.SlurmJob.watcher.clear()
    queue._squeue.cache_clear()
    queue._job.cache_clear()


def slurm(runs, directory, jobs=2, **parameters):
    parameters = {"slurm_partition": "gpu", "timeout_min": 90} | parameters
    return Launcher(runs, directory, "slurm", jobs=jobs, slurm=parameters)


class Once(Board):
    """Ctrl-C as soon as something is shown."""

    def show(self, states):
        self.seen = dict(states)
        raise KeyboardInterrupt


def submissions(cluster):
    return sorted(file.name for file in cluster.glob("submission.*"))


def test_a_sweep_on_a_cluster(tmp_path, cluster):
    (cluster / "starts").touch()
    told = "print(os.environ.get('CUDA_VISIBLE_DEVICES', 'none'), flush=True)"
    runs = [python(tmp_path, f"{name}/0", told) for name in "abc"]
    runs += [python(tmp_path, "evaluations/e/0", "sys.exit(2)", needs=["a/0", "b/0", "c/0"])]
    one = slurm(runs, tmp_path, mem_gb=64)
    assert one.parallel == 2
    one.launch(False, Board(runs, tmp_path, one.parallel))
    assert [one.state(run) for run in runs] == ["finished"] * 3 + ["failed"]
    assert [read_launch(tmp_path / run.name)["job"] for run in runs] == ["100_0", "100_1", "100_2", "200"]
    assert submissions(cluster) == ["submission.100", "submission.200"]
    lines = (cluster / "submission.100").read_text().splitlines()
    wanted = {"array=0-2%2", "gpus-per-node=1", "partition=gpu", "time=90", "mem=64GB", f"job-name={tmp_path.name}"}
    assert {f"#SBATCH --{one}" for one in wanted} <= {*lines}
    assert [starts(tmp_path, run.name) for run in runs] == [1] * 4


def test_all_at_once_on_a_cluster_and_a_parameter_of_ones_own(tmp_path, cluster):
    runs = [python(tmp_path, f"{name}/0", "") for name in "ab"]
    for jobs, own, array in ((0, {}, "0-1%2"), (2, {"slurm_array_parallelism": 1}, "0-1%1")):
        one = slurm(runs, tmp_path / str(jobs), jobs, **own)
        with pytest.raises(KeyboardInterrupt):
            one.launch(False, Once(runs, tmp_path, jobs))
        assert f"#SBATCH --array={array}" in (cluster / submissions(cluster)[-1]).read_text()


def test_what_is_in_the_queue_is_not_submitted_again(tmp_path, cluster, capsys):
    runs = [python(tmp_path, f"{name}/0", "") for name in "abcd"]
    job.write(
        tmp_path / "a/0", {"command": list(runs[0].command), "state": "interrupted", "seconds": 50.0, "error": "no"}
    )
    with pytest.raises(KeyboardInterrupt):
        slurm(runs, tmp_path).launch(False, Once(runs, tmp_path, 2))
    assert "the jobs stay in the queue; rerun the same command to follow them" in capsys.readouterr().err
    assert submissions(cluster) == ["submission.100"]
    records = [read_launch(tmp_path / run.name) for run in runs]
    assert [(r["state"], r["job"], r["seconds"], r["error"]) for r in records] == [
        ("queued", "100_0", 50.0, ""), *(("queued", f"100_{i}", 0.0, "") for i in (1, 2, 3))
    ]  # fmt: skip

    # The accounting knows of the first two. The third is as yet in the queue alone, the fourth nowhere.
    (cluster / "states").write_text("100_0|PENDING|\n100_1|RUNNING|n1\n100_1.0|RUNNING|n1\n")
    (cluster / "queue").write_text("--jobs=100_2 PENDING\n")
    expected = {"a/0": "queued", "b/0": "running", "c/0": "queued", "d/0": "interrupted"}
    assert states(runs, tmp_path, "slurm") == expected
    assert {path: queue.current(run).state for path, run in find(tmp_path).items()} == expected
    calls = (cluster / "calls").read_text()
    assert states(runs, tmp_path, "slurm") == expected
    assert (cluster / "calls").read_text() == calls  # not asked again at once

    again = Once(runs, tmp_path, 2)
    with pytest.raises(KeyboardInterrupt):
        slurm(runs, tmp_path).launch(False, again)
    assert submissions(cluster) == ["submission.100", "submission.200"]
    assert "--array" not in (cluster / "submission.200").read_text()
    assert again.seen == expected | {"d/0": "queued"}

    forget()
    (cluster / "states").write_text("100_0|CANCELLED by 0|\n100_1|COMPLETED|\n100_[2-3]|SUSPENDED|\n200|NODE_FAIL|n1\n")
    expected = {"a/0": "interrupted", "b/0": "interrupted", "c/0": "running", "d/0": "interrupted"}
    assert states(runs, tmp_path, "slurm") == expected
    for name in ("sacct", "squeue"):
        (cluster / name).unlink()
        script(cluster / name, "exit 1")
    forget()
    assert states(runs, tmp_path, "slurm") == dict.fromkeys(expected, "interrupted")


def test_a_job_that_slurm_has_ended(tmp_path, cluster):
    """It is not begun again at once."""
    run = python(tmp_path, "a/0", "")
    (cluster / "states").write_text("100|OUT_OF_MEMORY|n1\n")
    one = slurm([run], tmp_path)
    one.launch(False, Board([run], tmp_path, 1))
    assert read_launch(tmp_path / "a/0") | {"command": ...} == {
        "command": ..., "job": "100", "state": "failed", "seconds": 0.0, "error": "the process was killed"
    }  # fmt: skip
    assert submissions(cluster) == ["submission.100"]


def test_the_record_of_a_quick_job_stays(tmp_path, cluster):
    """It may have begun before the launcher comes to write that it is in the queue."""
    run = python(tmp_path, "a/0", "")
    record = {"command": list(run.command), "job": "100", "state": "running", "seconds": 1.0, "error": ""}
    record_file = tmp_path / "record"
    record_file.write_text(json.dumps(record))
    batch = cluster / "sbatch"
    batch.write_text(batch.read_text() + f"\ncp {record_file} {tmp_path}/a/0/run.json\n")
    board = Once([run], tmp_path, 1)
    with pytest.raises(KeyboardInterrupt):
        slurm([run], tmp_path).launch(False, board)
    assert read_launch(tmp_path / "a/0") == record
    assert board.seen == {"a/0": "running"}


def test_what_slurm_does_not_take(tmp_path, cluster, monkeypatch):
    runs = [python(tmp_path, f"{name}/0", "") for name in "ab"]
    for parameters, message in (
        ({"timeout_min": "1h"}, 'Parameter "timeout_min" expected type'),
        ({"slurm_partitionn": "gpu"}, "Unknown argument 'partitionn' for executor 'slurm'"),
        ({"gpus": 2}, "Parameter 'gpus' need to be prefixed by an executor name."),
    ):
        with pytest.raises(UserError) as error:
            slurm(runs, tmp_path, **parameters)
        assert str(error.value).startswith(f"cluster=slurm: {message}")
        assert "\n" not in str(error.value)
    script(cluster / "sbatch", "echo 'sbatch: error: invalid partition\nsbatch: error: no' >&2; exit 1")
    with pytest.raises(UserError, match="^cluster=slurm: .*sbatch: error: invalid partition sbatch: error: no"):
        slurm(runs, tmp_path).launch(False, Board(runs, tmp_path, 2))
    monkeypatch.setenv("PATH", str(cluster))
    (cluster / "sbatch").unlink()
    with pytest.raises(UserError, match="^cluster=slurm: .*'sbatch'"):
        slurm(runs, tmp_path).launch(False, Board(runs, tmp_path, 2))
    assert set(states(runs, tmp_path).values()) == {"waiting"}
    (cluster / "srun").unlink()
    with pytest.raises(UserError, match='^cluster=slurm: Could not detect "srun", are you indeed on a slurm cluster'):
        slurm(runs, tmp_path)


def test_a_job_whose_time_is_up_saves_its_state_and_is_put_into_the_queue_again(tmp_path, cluster):
    """By submitit's own process: its signal handler calls `checkpoint` while `__call__` waits for the run."""
    run = python(tmp_path, "a/0", SAVES)
    one = job.Job(tmp_path / "a/0", ROOT, run.command, (), ())
    folder = tmp_path / "jobs" / "%j"
    paths = JobPaths(folder, job_id="100_1")
    paths.folder.mkdir(parents=True)
    submission = DelayedSubmission(one)
    submission.set_timeout(60, 3)
    submission.dump(paths.submitted_pickle)
    environment = os.environ | {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "123"}
    environment |= {"SLURM_ARRAY_JOB_ID": "100", "SLURM_ARRAY_TASK_ID": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "submitit.core._submit", str(folder)]

    task = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        until((tmp_path / "a/0/ready").exists)
        assert read_launch(tmp_path / "a/0")["job"] == "100_1"
        task.send_signal(signal.SIGUSR2)
        assert task.wait(timeout=30) == 255  # submitit's -1
    finally:
        task.kill()
    until((tmp_path / "a/0/saved").exists)  # its own process may end a moment later
    assert (cluster / "requeued").read_text() == "requeue 100_1\n"
    record = read_launch(tmp_path / "a/0")
    assert (record["state"], record["job"], record["error"]) == ("queued", "100_1", "")
    assert 0 < record["seconds"] < 60
    assert not paths.result_pickle.exists()
    again = DelayedSubmission.load(paths.submitted_pickle).function
    assert vars(again) == vars(job.Job(tmp_path / "a/0", ROOT, run.command, (), ()))

    # While it waits there, it is not submitted again. Its next turn goes on.
    (cluster / "states").write_text("100_1|PENDING|\n")
    assert states([run], tmp_path, "slurm") == {"a/0": "queued"}
    assert subprocess.run(command, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL, timeout=60).returncode == 0
    assert pickle.loads(paths.result_pickle.read_bytes()) == ("success", 0)
    assert states([run], tmp_path, "slurm") == {"a/0": "finished"}
    assert starts(tmp_path, "a/0") == 2
    assert read_launch(tmp_path / "a/0")["seconds"] > record["seconds"]


def test_checkpoint_of_a_job_without_a_process(tmp_path):
    run = python(tmp_path, "a/0", "")
    one, other = (job.Job(tmp_path / "a/0", ROOT, run.command, (0,), ("1",)) for _ in range(2))
    again = one.checkpoint().function
    assert (again.directory, again.root, again.command) == (tmp_path / "a/0", ROOT, run.command)
    assert (again.cores, again.gpus) == ((0,), ("1",))
    assert other() == 0  # the process is gone, and waited for
    assert other.checkpoint().function.command == run.command
