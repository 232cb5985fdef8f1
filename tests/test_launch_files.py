"""The files of launch/ are run with stand-ins for the programs of the cluster; their commands meet the real parsers."""

import importlib
import importlib.metadata
import math
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from configs.common import validate
from experiments import cli

ROOT = Path(__file__).parent.parent
LAUNCH = ROOT / "launch"
RECIPE = ("--config=configs/googlenet.py", "--workdir=gs://my-bucket/a run")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def parse(words: list[str], monkeypatch):
    """Reads a command, `python main.py ...` or `python -m experiments.NAME ...`, by its own parser."""
    at = 2 if words[1] == "-m" else 1
    module = importlib.import_module(words[at].removesuffix(".py"))
    with monkeypatch.context() as patch:
        patch.setattr(cli, "run", lambda parser, command, argv=None: parser.parse_args(argv))
        arguments = module.main(words[at + 1 :])
    if getattr(arguments, "config", None) is not None:
        validate(arguments.config)
    return arguments


class Shell:
    """Runs scripts in a directory in which some programs only write down their arguments."""

    def __init__(self, directory: Path, *programs: str):
        self.directory, self.log = directory, directory / "calls"
        for program in programs:
            path = directory / program if "/" in program else directory / "bin" / program
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                '#!/bin/bash\nprintf "%s\\037" "${0##*/}" "$@" >>"$CALLS"; printf "\\036" >>"$CALLS"\n'
                'name=${0##*/}; exit "$(eval echo "\\${STATUS_$name:-0}")"\n',
                encoding="utf-8",
            )
            path.chmod(0o755)

    def run(self, *words, status: int = 0, **variables: str) -> list[list[str]]:
        """Returns the programs that were called, each with its arguments; checks the exit status."""
        self.log.write_text("", encoding="utf-8")
        path = f"{self.directory / 'bin'}:/usr/bin:/bin"
        env = {"PATH": path, "HOME": str(self.directory), "CALLS": str(self.log), **variables}
        done = subprocess.run(["bash", *words], cwd=self.directory, env=env, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        return [call.split("\037")[:-1] for call in self.log.read_text(encoding="utf-8").split("\036")[:-1]]


def options(call: list[str]) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in call if word.startswith("--"))


@pytest.mark.parametrize("name", ["slurm.sbatch", "tpu_pod.sh", "xpk.sh"])
def test_syntax_of_scripts(name):
    subprocess.run(["bash", "-n", LAUNCH / name], check=True)
    assert name == "slurm.sbatch" or os.access(LAUNCH / name, os.X_OK)


# Options of sbatch that the file uses, with the forms of their values (https://slurm.schedmd.com/sbatch.html).
SBATCH = {
    "job-name": r"\w+",
    "nodes": r"\d+(-\d+)?",
    "ntasks-per-node": r"\d+",
    "gpus-per-node": r"(\w+:)?\d+",
    "cpus-per-task": r"\d+",
    "time": r"(\d+-)?\d+(:\d+){0,2}",
    "output": r"[\w%.-]+",
    "open-mode": "append|truncate",
    "requeue": "",
    "signal": r"([RB]:)?(\d+|[A-Z]+\d?)(@\d{1,5})?",
}


def test_sbatch_directives():
    head, command, _ = read("launch/slurm.sbatch").partition("\nset -")
    assert command  # sbatch ignores directives after the first command
    assert all(line.startswith("#") for line in head.splitlines())
    directives = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", head, re.M))
    assert len(directives) == head.count("\n#SBATCH ")
    for option, value in directives.items():
        assert re.fullmatch(SBATCH[option], value), option
    # One process per GPU, each of which sees all GPUs of its node (jax-ml/jax#16788, #28194).
    assert directives["ntasks-per-node"] == directives["gpus-per-node"]
    # The shell must not get the signal: srun turns a SIGTERM of its own into SIGKILL.
    assert directives["signal"].startswith("TERM@")
    assert directives["open-mode"] == "append"  # a requeued job writes into the same log


def test_slurm_requeues_what_was_saved(tmp_path, monkeypatch):
    shell = Shell(tmp_path, "srun", "scontrol")
    job = {"SLURM_JOB_ID": "42", "SLURM_CPUS_PER_TASK": "12"}
    script = LAUNCH / "slurm.sbatch"
    [srun, requeue] = shell.run(script, *RECIPE, status=143, STATUS_srun="143", **job)
    assert requeue == ["scontrol", "requeue", "42"]
    python = srun.index(".venv/bin/python")
    assert options(srun[:python]) == {"--kill-on-bad-exit": "0", "--wait": "300", "--cpus-per-task": "12"}
    arguments = parse(srun[python:], monkeypatch)
    assert arguments.distributed
    assert arguments.workdir == "gs://my-bucket/a run"
    for status in (0, 2, 137):
        assert len(shell.run(script, *RECIPE, status=status, STATUS_srun=str(status), **job)) == 1


# Flags of `gcloud compute tpus tpu-vm` (its --help).
GCLOUD = {
    "create": {"--zone", "--accelerator-type", "--version", "--spot"},
    "scp": {"--zone", "--worker"},
    "ssh": {"--zone", "--worker", "--command"},
    "delete": {"--zone"},
}


@pytest.fixture
def pod(tmp_path):
    """Runs a command of launch/tpu_pod.sh; returns the arguments of gcloud, those of each call by its verb."""
    shell = Shell(tmp_path, "gcloud", "git")

    def run(*words):
        script = LAUNCH / "tpu_pod.sh"
        calls = [call for call in shell.run(script, *words, NAME="inception", ZONE="us-east5-b") if call[0] == "gcloud"]
        for call in calls:
            assert call[1:4] == ["compute", "tpus", "tpu-vm"]
            assert set(options(call)) <= GCLOUD[call[4]]
            assert options(call)["--zone"] == "us-east5-b"
        return {call[4]: call[5:] for call in calls}

    return run


def test_tpu_pod_creates_stops_and_deletes(pod):
    create = pod("create", "--spot")["create"]
    assert create[0] == "inception"
    assert options(create) | {"--accelerator-type": "v6e-16", "--version": "v2-alpha-tpuv6e"} == options(create)
    setup = pod("setup")
    assert setup["scp"][1] == "inception:"
    for call in (setup["scp"], setup["ssh"], pod("stop")["ssh"]):
        assert options(call)["--worker"] == "all"
    assert pod("delete")["delete"][0] == "inception"
    for call in (setup["ssh"], pod("log")["ssh"]):
        subprocess.run(["bash", "-n", "-c", options(call)["--command"]], check=True)


def test_tpu_pod_runs_on_every_host(pod, tmp_path, monkeypatch):
    call = pod("run", *RECIPE)["ssh"]
    assert options(call)["--worker"] == "all"
    host = tmp_path / "host"
    shell = Shell(host, "tail", "inception_jax/.venv/bin/python")
    calls = shell.run("-c", options(call)["--command"], status=143, STATUS_python="143")
    [python] = [call for call in calls if call[0] == "python"]
    arguments = parse(python, monkeypatch)
    assert arguments.distributed
    assert arguments.workdir == "gs://my-bucket/a run"
    assert (host / "inception_jax" / "run.pid").read_text(encoding="utf-8").strip().isdecimal()


def test_xpk(tmp_path, monkeypatch):
    [call] = Shell(tmp_path, "xpk").run(LAUNCH / "xpk.sh", *RECIPE, CLUSTER="cluster", ZONE="zone", IMAGE="image")
    assert call[1:3] == ["workload", "create"]
    # Of `xpk workload create --help`, xpk 1.16.
    assert set(options(call)) == {
        *("--workload", "--cluster", "--zone", "--tpu-type", "--num-slices", "--docker-image", "--max-restarts"),
        *("--termination-grace-period-seconds", "--command"),
    }
    first, *words = shlex.split(options(call)["--command"])
    assert first == "exec"  # so that Python gets SIGTERM
    arguments = parse(words, monkeypatch)
    assert arguments.distributed
    assert arguments.workdir == "gs://my-bucket/a run"


# Fields that the files use (https://jobset.sigs.k8s.io/docs/reference and Kubernetes' own reference).
CONTAINER = {
    "name": str,
    "image": str,
    "args": [str],
    "securityContext": {"privileged": bool, "runAsUser": int, "allowPrivilegeEscalation": bool},
    "resources": {"limits": {"google.com/tpu": int, "nvidia.com/gpu": int}},
    "volumeMounts": [{"name": str, "mountPath": str}],
}
POD = {
    "restartPolicy": str,
    "terminationGracePeriodSeconds": int,
    "serviceAccountName": str,
    "nodeSelector": {"cloud.google.com/gke-tpu-accelerator": str, "cloud.google.com/gke-tpu-topology": str},
    "containers": [CONTAINER],
    "volumes": [{"name": str, "emptyDir": {"medium": str}}],
}
JOB = {
    "completionMode": str,
    "parallelism": int,
    "completions": int,
    "backoffLimit": int,
    "podFailurePolicy": {"rules": [{"action": str, "onExitCodes": {"operator": str, "values": [int]}}]},
    "template": {"spec": POD},
}
METADATA = {"name": str, "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": str}}
KINDS = {
    ("jobset.x-k8s.io/v1alpha2", "JobSet"): {
        "spec": {
            "failurePolicy": {
                "maxRestarts": int,
                "restartStrategy": str,
                "rules": [{"name": str, "action": str, "onJobFailureReasons": [str]}],
            },
            "replicatedJobs": [{"name": str, "replicas": int, "template": {"spec": JOB}}],
        }
    },
    ("v1", "ServiceAccount"): {},
    ("rbac.authorization.k8s.io/v1", "Role"): {"rules": [{"apiGroups": [str], "resources": [str], "verbs": [str]}]},
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): {
        "subjects": [{"kind": str, "name": str}],
        "roleRef": {"apiGroup": str, "kind": str, "name": str},
    },
}
# The keys of a SkyPilot task that the file uses (https://docs.skypilot.co/en/latest/reference/yaml-spec.html).
SKYPILOT = {
    "name": str,
    "workdir": str,
    "num_nodes": int,
    "resources": {
        "accelerators": str,
        "use_spot": bool,
        "job_recovery": {"max_restarts_on_errors": int, "recover_on_exit_codes": [int]},
    },
    "envs": {"CONFIG": str, "WORKDIR": str},
    "setup": str,
    "run": str,
}


def check(value, form, place=""):
    """Asserts that a document has only known fields, with values of their types."""
    if isinstance(form, dict):
        assert isinstance(value, dict), place
        for key, item in value.items():
            assert key in form, f"{place}.{key}"
            check(item, form[key], f"{place}.{key}")
    elif isinstance(form, list):
        assert isinstance(value, list), place
        for item in value:
            check(item, form[0], f"{place}[]")
    else:
        assert type(value) is form, place


def documents(name: str) -> dict[str, dict]:
    """The documents of a Kubernetes file by their kind, each checked."""
    found = {}
    for document in yaml.safe_load_all(read(f"launch/{name}")):
        version, kind = document["apiVersion"], document["kind"]
        check(document, {"apiVersion": str, "kind": str, "metadata": METADATA, **KINDS[version, kind]}, kind)
        found[kind] = document
    return found


@pytest.mark.parametrize("name", ["gke_jobset.yaml", "k8s_gpu_jobset.yaml"])
def test_jobset(name, monkeypatch):
    jobset = documents(name)["JobSet"]
    [replicated] = jobset["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    # JAX reads the process's number from JOB_COMPLETION_INDEX and the count from `parallelism`.
    assert job["completionMode"] == "Indexed"
    assert job["completions"] == job["parallelism"]
    # One failure ends the job, and the JobSet starts all pods again; but not for invalid input.
    assert job["backoffLimit"] == 0
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2]
    assert pod["restartPolicy"] == "Never"  # a pod failure policy needs it
    arguments = parse(container["args"], monkeypatch)
    assert arguments.distributed
    assert "://" in arguments.workdir
    # The commands of the comment name this JobSet and its first job.
    assert f"job/{jobset['metadata']['name']}-{replicated['name']}-0\n" in read(f"launch/{name}")
    assert f"delete jobset {jobset['metadata']['name']} " in read(f"launch/{name}")


def test_tpu_slice_has_as_many_chips_as_its_hosts():
    [replicated] = documents("gke_jobset.yaml")["JobSet"]["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = pod["containers"][0]["resources"]["limits"]["google.com/tpu"]
    assert math.prod(map(int, topology.split("x"))) == job["parallelism"] * chips


def test_gpu_pods_may_ask_what_jax_asks():
    found = documents("k8s_gpu_jobset.yaml")
    name = found["ServiceAccount"]["metadata"]["name"]
    [replicated] = found["JobSet"]["spec"]["replicatedJobs"]
    assert replicated["template"]["spec"]["template"]["spec"]["serviceAccountName"] == name
    assert found["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": name}]
    assert found["RoleBinding"]["roleRef"]["name"] == found["Role"]["metadata"]["name"]
    allowed = {
        (verb, resource) for rule in found["Role"]["rules"] for verb in rule["verbs"] for resource in rule["resources"]
    }
    [source] = [
        path.read_text(encoding="utf-8")
        for path in importlib.metadata.files("jax")
        if path.match("jax/_src/clusters/k8s_cluster.py")
    ]
    calls = set(re.findall(r"_api\.(list|read)_namespaced_(\w+)\(", source))
    assert calls == {("list", "pod"), ("read", "job"), ("list", "service")}  # else the role must change
    assert {({"read": "get"}.get(verb, verb), f"{resource}s") for verb, resource in calls} <= allowed


def test_skypilot(tmp_path, monkeypatch):
    task = yaml.safe_load(read("launch/skypilot.yaml"))
    check(task, SKYPILOT, "task")
    subprocess.run(["bash", "-n", "-c", task["setup"]], check=True)
    [python] = Shell(tmp_path, ".venv/bin/python").run(
        "-c",
        task["run"],
        **task["envs"],
        SKYPILOT_NODE_IPS="10.0.0.7\n10.0.0.8",
        SKYPILOT_NUM_NODES="2",
        SKYPILOT_NODE_RANK="1",
    )
    joined = {"--coordinator": "10.0.0.7:8476", "--num-processes": "2", "--process-id": "1"}
    assert options(python) == joined | {"--config": task["envs"]["CONFIG"], "--workdir": task["envs"]["WORKDIR"]}
    words = ["python", "main.py", *RECIPE, *("=".join(item) for item in joined.items())]
    arguments = parse(words, monkeypatch)
    assert (arguments.coordinator, arguments.num_processes, arguments.process_id) == ("10.0.0.7:8476", 2, 1)


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each with its arguments."""
    text = re.sub(r"^\s*#.*\n", "", read("launch/Dockerfile"), flags=re.M)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line]


def test_dockerfile():
    found = instructions()
    assert {name for name, _ in found} == {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "ENTRYPOINT", "CMD"}
    defaults = dict(text.split("=", 1) for name, text in found if name == "ARG")
    users = [text for name, text in found if name == "USER"]
    assert users == ["${USER_ID}"]
    assert defaults["USER_ID"] != "0"
    assert not [
        text for name, text in found if name in {"ARG", "ENV"} and re.search(r"(?i)secret|token|key|pass", text)
    ]
    [install] = [text for name, text in found if name == "RUN" and "pip install" in text]
    [extras] = re.findall(r'"\.\[(\w+)\]"', install)
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert extras in project["optional-dependencies"]
    assert '"jax[${ACCELERATOR}]"' in install
    known = importlib.metadata.metadata("jax").get_all("Provides-Extra")
    named = re.findall(r"(?<=ACCELERATOR=)[\w,]+", read("launch/Dockerfile"))
    assert named == ["tpu", "cuda13,k8s"]
    assert set(",".join(named).split(",")) <= set(known)


def test_image_holds_the_code_and_nothing_else():
    lines = read(".dockerignore").splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {line[1:] for line in rules if line.startswith("!")}
    project = tomllib.loads(read("pyproject.toml"))["project"]
    needed = {"pyproject.toml", project["readme"], *project["license-files"]}  # what pip reads
    assert let_in == needed | {"main.py", "configs", "experiments", "inception_jax"}
    assert all((ROOT / name).exists() for name in let_in)


def commands(page: str) -> list[list[str]]:
    """The commands of this repository in a page, or in the comment at the head of a file, with their arguments."""
    text = read(page)
    if page.startswith("launch/"):
        text = "\n".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    text = re.sub(r"\\\n\s*", "", text)
    found = re.findall(r"^(?:docker run .*? )?(python (?:main\.py|-m experiments\.\w+) .*)$", text, re.M)
    scripts = re.findall(r"^(?:sbatch launch/slurm\.sbatch|launch/tpu_pod\.sh run|launch/xpk\.sh) (.*)$", text, re.M)
    return [shlex.split(line, comments=True) for line in [*found, *(f"python main.py {line}" for line in scripts)]]


PAGES = ["docs/pods.md", *(f"launch/{name}" for name in ("slurm.sbatch", "tpu_pod.sh", "xpk.sh", "Dockerfile"))]


@pytest.mark.parametrize("page", PAGES)
def test_documented_commands(page, monkeypatch):
    found = commands(page)
    assert found
    for words in found:
        if "--" in words:  # python -m experiments.launch ... -- main.py ...
            words, inner = words[: words.index("--")], words[words.index("--") + 1 :]
            parse(["python", *inner], monkeypatch)
        else:
            parse(words, monkeypatch)


def test_every_file_is_documented():
    page = read("docs/pods.md")
    assert {path.name for path in LAUNCH.iterdir()} == set(re.findall(r"launch/([\w.]+)", page))
