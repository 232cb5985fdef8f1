"""Files from and to a Hugging Face hub: a look-alike on this machine."""

import base64
import hashlib
import http.server
import json
import re
import threading
import time

import pytest

from inception_jax.errors import UserError
from inception_jax.weights import hub

huggingface_hub = pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 20
METADATA = {
    "model": {"name": "googlenet", "norm": "none"},
    "class_names": [f"class {k}" for k in range(1000)],
    "preprocessing": {"mean": [123.0, 117.0, 104.0], "std": [1.0] * 3, "flip": True, "size": 224, "resize": 256},
}
BEST = {"step": 90, "top1": 0.687, "top5": 0.889, "loss": 1.3, "count": 50_000}


class Hub(http.server.ThreadingHTTPServer):
    """Attributes: `repos`, the files by name; `stored`, large files by SHA-256; `requests`; what creating answers."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos = {"timm/net": {"model.safetensors": WEIGHTS}}
        self.stored, self.requests, self.created, self.status = {}, [], [], 200


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does, as far as the client asks for it."""

    def log_message(self, *_):
        pass

    def answer(self, status=200, body=b"", **headers):
        self.server.requests.append(f"{self.command} {self.path}")
        body = json.dumps(body).encode() if isinstance(body, dict) else body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", len(body))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if self.path.startswith("/api/models/"):  # does the repository exist?
            return self.answer(401)
        repo, revision, name = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path).groups()
        if self.server.status != 200:
            return self.answer(self.server.status)
        if repo == "timm/gated":
            return self.answer(403, X_Error_Code="GatedRepo", X_Error_Message="Access\x1b[31m is restricted")
        if repo not in self.server.repos:
            return self.answer(404, X_Error_Code="RepoNotFound")
        if revision not in ("main", COMMIT):
            return self.answer(404, X_Error_Code="RevisionNotFound")
        body = self.server.repos[repo].get(name)
        if body is None:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        self.answer(200, body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit=COMMIT)

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.status != 200:
            return self.answer(self.server.status)
        self.server.stored[self.path.rpartition("/")[2]] = body
        self.answer()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            wrong = "bad" in json.loads(body)["content"]
            return self.answer(400 if wrong else 200, {"errors": [{"message": "license is wrong"}] if wrong else []})
        if self.headers["Authorization"] != "Bearer secret":
            return self.answer(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            wanted = json.loads(body)
            repo = f"{wanted['organization']}/{wanted['name']}"
            self.server.created.append(wanted)
            if repo in self.server.repos:
                return self.answer(409, {"url": f"{self.server.url}/{repo}"})
            self.server.repos[repo] = {}
            return self.answer(200, {"url": f"{self.server.url}/{repo}"})
        if "/preupload/" in self.path:
            modes = [
                {"path": file["path"], "uploadMode": "lfs" if file["size"] > 1000 else "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": modes})
        if self.path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**wanted, "actions": {"upload": {"href": f"{self.server.url}/stored/{wanted['oid']}"}}}
                for wanted in json.loads(body)["objects"]
            ]
            return self.answer(200, {"transfer": "basic", "objects": objects})
        repo = re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path)[1]
        for entry in map(json.loads, body.splitlines()):
            value = entry["value"]
            if entry["key"] == "file":
                self.server.repos[repo][value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.server.repos[repo][value["path"]] = self.server.stored[value["oid"]]
        self.answer(200, {"commitUrl": f"{self.server.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT})


@pytest.fixture(autouse=True)
def server(tmp_path, monkeypatch):
    """A hub, a cache of its own, and no token."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("INCEPTION_JAX_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its servers have no look-alike
    with Hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def failure(function, *arguments, **options):
    with pytest.raises(UserError) as error:
        function(*arguments, **options)
    assert str(error.value).isprintable()
    return str(error.value)


def test_a_file_is_fetched_once(server, tmp_path):
    path = hub.fetch_from_hub("timm/net", "model.safetensors")
    assert path.read_bytes() == WEIGHTS
    assert path.is_relative_to(tmp_path / "cache")
    assert hub.fetch_from_hub("timm/net", "model.safetensors", COMMIT) == path
    assert sum(request.startswith("GET") for request in server.requests) == 1


@pytest.mark.parametrize("variable", ["INCEPTION_JAX_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(server, monkeypatch, variable):
    path = hub.fetch_from_hub("timm/net", "model.safetensors")
    server.requests.clear()
    monkeypatch.setenv(variable, "1")
    assert hub.fetch_from_hub("timm/net", "model.safetensors") == path
    assert failure(hub.fetch_from_hub, "timm/net", "config.json") == (
        f"config.json of timm/net cannot be fetched: it is not in the cache, and {variable} forbids requests; "
        "a local copy of the file can be given instead"
    )
    assert failure(hub.push, ".", "me/net", card="") == f"me/net cannot be written: {variable} forbids requests"
    assert server.requests == []


@pytest.mark.parametrize(
    ("repo", "filename", "revision", "reason"),
    [
        (
            "timm/nothing",
            "x",
            None,
            "{url} has no such repository, or it is private; then log in (hf auth login) or set ",
        ),
        (
            "timm/gated",
            "x",
            None,
            "it is gated; accept its conditions at {url}/timm/gated, then log in (hf auth login) ",
        ),
        ("timm/net", "x", None, "the repository has no such file; see {url}/timm/net/tree/main"),
        ("timm/net", "x", "v9", "it has no revision 'v9'"),
        ("a/b/c", "x", None, "'a/b/c' is not a name such as timm/inception_v3.tf_in1k"),
    ],
)
def test_a_file_that_cannot_be_had(server, repo, filename, revision, reason):
    line = failure(hub.fetch_from_hub, repo, filename, revision)
    assert line.startswith(f"{filename} of {repo} cannot be fetched: {reason.format(url=server.url)}")


def test_no_network(server, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)  # huggingface_hub tries again for some seconds
    server.status = 403
    assert "cannot be fetched: 403 Forbidden: None. Cannot access content at: " in failure(
        hub.fetch_from_hub, "timm/net", "x"
    )
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    line = failure(hub.fetch_from_hub, "timm/net", "x")
    assert "Connection refused; a local copy of the file can be given instead" in line


@pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # of huggingface_hub itself
def test_push(server, tmp_path, monkeypatch):
    folder = tmp_path / "export"
    (folder / "onnx").mkdir(parents=True)
    for name, content in {
        "model.safetensors": WEIGHTS,
        "onnx/net.onnx": b"graph",
        ".hidden": b"",
        "README.md": b"old",
    }.items():
        (folder / name).write_bytes(content)
    address = hub.push(folder, "me/net", card="# net\n", token="secret", private=True)
    assert address == f"{server.url}/me/net/commit/{COMMIT}"
    assert server.created[0]["name"] == "net"
    assert "private" in json.dumps(server.created[0])
    assert server.repos["me/net"] == {"model.safetensors": WEIGHTS, "onnx/net.onnx": b"graph", "README.md": b"# net\n"}
    assert hub.fetch_from_hub("me/net", "model.safetensors").read_bytes() == WEIGHTS

    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.push(folder, "me/net", card="# new\n")
    assert server.repos["me/net"]["README.md"] == b"# new\n"
    assert (folder / "README.md").read_bytes() == b"old"


@pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")
def test_a_push_that_fails(server, tmp_path, monkeypatch):
    assert (
        failure(hub.push, tmp_path / "nothing", "me/net", card="") == f"{tmp_path / 'nothing'} holds no file to publish"
    )
    (tmp_path / "model.npz").touch()
    assert re.fullmatch(
        r"me/net cannot be written: .*401.*; log in \(hf auth login\) or set HF_TOKEN, with a token that may do this",
        failure(hub.push, tmp_path, "me/net", card="", token="wrong"),
    )
    line = failure(hub.push, tmp_path, "me/net", card="bad", token="secret")
    assert "license is wrong" in line
    (tmp_path / "model.npz").write_bytes(WEIGHTS)
    server.status = 410
    line = failure(hub.push, tmp_path, "me/net", card="", token="secret")
    assert re.match("me/net cannot be written: Error while uploading 'model.npz' to the Hub. .*410", line)
    assert "is not a name such as" in failure(hub.push, tmp_path, "me/my/net", card="", token="secret")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert failure(hub.push, tmp_path, "me/net", card="", token="secret") == (
        "me/net cannot be written: [Errno 111] Connection refused"
    )


def card(results, **options):
    return hub.model_card(METADATA, results, repo="me/net", **options)


def test_a_card_states_what_was_measured():
    text = card({"last": BEST | {"top1": 0.5}, "best": BEST}, license="apache-2.0", dataset="imagenet2012", split="val")
    data = huggingface_hub.ModelCard(text).data
    assert data.library_name == "inception_jax"
    assert data.license == "apache-2.0"
    assert data.datasets == ["imagenet2012"]
    assert data.model_name == "net"
    measured = {(result.metric_name, result.metric_value, result.dataset_split) for result in data.eval_results}
    assert measured == {("top-1 accuracy, single", 0.687, "val"), ("top-5 accuracy, single", 0.889, "val")}
    assert "| single | 50,000 | 68.70 % | 88.90 % |  | 89.93 % |" in text  # the paper: 10.07 %
    assert "Paper: 100 % minus the error of Going Deeper with Convolutions, Table 3." in text


def test_a_card_of_an_evaluation():
    def row(networks, name, scales, **more):
        return BEST | {"networks": networks, "protocols": [{"name": name, "scales": scales}]} | more

    printed = {"top1": 20.0, "top5": None, "source": "A paper"}
    rows = [
        row(["a"], "single", []),
        row(["a"], "10crop", [256], printed_error_percent=printed),
        row(["a", "b"], "x", []),
    ]
    text = card({"rows": rows})
    assert "| single | 50,000 | 68.70 % | 88.90 % |  |  |" in text
    assert "| 10crop at 256 | 50,000 | 68.70 % | 88.90 % | 80.00 % |  |" in text
    assert text.count("50,000") == 2
    assert huggingface_hub.ModelCard(text).data.eval_results is None  # of no dataset that is known


def test_a_card_states_nothing_else():
    text = card(None, source="Imported from [a file](https://example.com).")
    data = huggingface_hub.ModelCard(text).data.to_dict()
    assert data.keys() == {"library_name", "pipeline_tag", "tags"}
    assert "This network was not evaluated." in text
    assert "with 1,000 classes. Imported from [a file]" in text
    assert "paper" not in text.lower()
    assert "| `mean` | 123.0, 117.0, 104.0 |" in text
    assert "flip" not in text  # of training only
    few = METADATA | {"class_names": ["cat", "dog"]}
    assert "paper" not in hub.model_card(few, {"best": BEST}, repo="me/net")  # papers print ImageNet's 1,000 classes


def test_a_card_says_how_to_load_the_files():
    text = card(None, files=["config.json", "model.safetensors", "model.onnx"])
    assert 'inception_jax.load(fetch_from_hub("me/net", "model.safetensors"))' in text
    assert "Other files: `config.json`, `model.onnx`." in text
