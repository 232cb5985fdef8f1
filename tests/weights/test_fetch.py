"""Files by their address, from servers on this machine."""

import errno
import gzip
import hashlib
import http.server
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest

from inception_jax.errors import UserError
from inception_jax.weights import fetch as fetching

BODY = np.random.default_rng(0).bytes(300_000)
SHA256, SHA1, MD5 = (getattr(hashlib, name)(BODY).hexdigest() for name in ("sha256", "sha1", "md5"))


class Server(http.server.ThreadingHTTPServer):
    """Sends `body`, with ranges and an ETag.

    Attributes:
      answers: functions of the handler for the next requests; after them, the file is sent.
      requests: headers of the requests so far.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.answers, self.requests = BODY, '"one"', [], []
        self.url = f"http://127.0.0.1:{self.server_port}/models/net.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request."""

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        (self.server.answers.pop(0) if self.server.answers else send_file)(self)

    def log_message(self, *_):
        pass


def send(handler, status=200, body=b"", length=None, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", len(body) if length is None else length)
    handler.end_headers()
    handler.wfile.write(body)


def send_file(handler, until=None):
    """Sends the file from the wanted byte on; `until` is where the transfer breaks."""
    body, etag = handler.server.body, handler.server.etag
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    start = int(wanted[1]) if wanted and handler.headers["If-Range"] == etag else 0
    headers = {"ETag": etag}
    if start >= len(body):
        return send(handler, 416)
    if start:
        headers["Content_Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
    send(handler, 206 if start else 200, body[start:until], length=len(body) - start, **headers)


def broken_at(until):
    return lambda handler: send_file(handler, until)


def status(code, **headers):
    return lambda handler: send(handler, code, b"a page", **headers)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, and none of the proxies of this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("INCEPTION_JAX_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "inception_jax" / "weights"


def serve(server):
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture
def server():
    with Server() as running:
        yield serve(running)
        running.shutdown()


def fetch(server, **options):
    return fetching.fetch(server.url, **{"name": "net.pth", "wait": 0.0, "timeout": 5.0} | options)


def failure(server, **options):
    """The line of a fetch that fails; no file is in the cache then."""
    with pytest.raises(UserError) as error:
        fetch(server, **options)
    assert not fetching.cached_path(server.url, "net.pth").exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def left(cache):
    """Names of the files in the cache, but for the lock."""
    return sorted(path.name for path in cache.glob("*/*") if path.suffix != ".lock")


def test_a_file_is_fetched_once_and_checked(server, cache):
    file = fetch(server, sha256_prefix=SHA256[:8].upper(), sha1=SHA1, md5=MD5, size=len(BODY))
    assert file == cache / f"127.0.0.1_{server.server_port}" / "net.pth"
    assert file.read_bytes() == BODY
    assert fetch(server) == file
    assert len(server.requests) == 1
    assert left(cache) == ["net.pth"]
    assert not file.stat().st_mode & stat.S_IXUSR


def test_a_damaged_file_in_the_cache_is_fetched_again(server, cache, capsys):
    fetch(server).write_bytes(b"rubbish")
    assert fetch(server, md5=MD5).read_bytes() == BODY
    assert f"net.pth is damaged: its MD5 is {hashlib.md5(b'rubbish').hexdigest()}, not" in capsys.readouterr().err


def test_a_broken_transfer_is_resumed_within_a_call(server, cache):
    server.answers = [broken_at(100_000), broken_at(200_000)]
    assert fetch(server, sha256_prefix=SHA256, attempts=2).read_bytes() == BODY
    assert [headers.get("Range") for _, headers in server.requests] == [None, "bytes=100000-", "bytes=200000-"]
    assert server.requests[1][1]["If-Range"] == '"one"'
    assert left(cache) == ["net.pth"]


def test_a_broken_transfer_is_resumed_by_the_next_call(server, cache):
    server.answers = [broken_at(100_000)]
    assert "the transfer broke after 100,000 of 300,000 bytes" in failure(server, attempts=1)
    assert left(cache) == ["net.pth.part", "net.pth.part.json"]
    assert fetch(server).read_bytes() == BODY
    assert server.requests[-1][1]["Range"] == "bytes=100000-"


def test_a_file_that_changed_meanwhile_starts_again(server):
    server.answers = [broken_at(100_000)]
    failure(server, attempts=1)
    server.body, server.etag = BODY[::-1], '"two"'
    assert fetch(server).read_bytes() == BODY[::-1]


def test_a_server_that_ignores_the_condition_of_a_range(server):
    def other_version(handler):
        content_range = f"bytes 1000-{len(BODY) - 1}/{len(BODY)}"
        send(handler, 206, BODY[1000:], ETag='"two"', Content_Range=content_range)

    server.answers = [broken_at(1000), other_version]
    assert fetch(server, md5=MD5).read_bytes() == BODY
    assert [headers.get("Range") for _, headers in server.requests] == [None, "bytes=1000-", None]


@pytest.mark.parametrize(
    "headers", [{}, {"ETag": 'W/"weak"'}, {"ETag": '"strong"'}, {"Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}]
)
def test_a_server_without_ranges_starts_again(server, headers):
    server.answers = [
        lambda handler: send(handler, 200, BODY[:1000], length=len(BODY), **headers),
        lambda handler: send(handler, 200, BODY, **headers),
    ]
    assert fetch(server, sha1=SHA1).read_bytes() == BODY
    resumable = headers and not headers.get("ETag", "").startswith("W/")
    assert ("Range" in server.requests[1][1]) == bool(resumable)


def test_a_range_that_the_server_refuses_starts_again(server):
    server.answers = [broken_at(1000), status(416)]
    assert fetch(server, md5=MD5).read_bytes() == BODY


def test_a_partial_file_of_other_bytes_starts_again(server, cache):
    server.answers = [broken_at(1000)]
    failure(server, attempts=1)
    part = next(cache.glob("*/net.pth.part"))
    part.write_bytes(bytes(1000))
    assert fetch(server, sha256_prefix=SHA256[:8]).read_bytes() == BODY
    assert [headers.get("Range") for _, headers in server.requests] == [None, "bytes=1000-", None]


@pytest.mark.parametrize("state", ["", "[]", '{"url": 1}', '{"url": "http://other", "validator": "x"}', "\xff"])
def test_a_damaged_note_of_a_partial_file_starts_again(server, cache, state):
    server.answers = [broken_at(1000)]
    failure(server, attempts=1)
    next(cache.glob("*/net.pth.part.json")).write_bytes(state.encode("latin-1"))
    assert fetch(server).read_bytes() == BODY
    assert "Range" not in server.requests[-1][1]


def test_a_server_that_never_sends_all_is_given_up(server, cache):
    server.answers = [lambda handler: send(handler, 200, BODY[:1000], length=len(BODY))] * 9
    assert "broke after 1,000 of 300,000 bytes" in failure(server, attempts=3)
    assert len(server.requests) == 3
    assert left(cache) == []  # nothing says which version of the file the bytes are of


def test_a_body_without_a_length(server):
    def chunked(handler, last=b"0\r\n\r\n"):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(BODY), BODY) + last)
        handler.close_connection = True

    server.answers = [lambda handler: chunked(handler, last=b""), chunked]
    assert fetch(server).read_bytes() == BODY
    assert len(server.requests) == 2


def test_bytes_are_kept_as_they_are_sent(server):
    server.body = gzip.compress(b"weights")
    server.answers = [lambda handler: send(handler, 200, server.body, Content_Encoding="x-gzip")]
    assert fetch(server).read_bytes() == server.body


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (
            {"sha256_prefix": "1378be20"},
            f"the file there is not the expected one: its SHA256 is {SHA256[:8]}, not 1378be20",
        ),
        ({"sha1": "0" * 40}, f"the file there is not the expected one: its SHA1 is {SHA1}, not {'0' * 40}"),
        ({"size": 7}, "the file there has 300,000 bytes, not 7"),
    ],
)
def test_a_wrong_file(server, cache, wanted, reason):
    assert failure(server, **wanted) == (
        f"net.pth cannot be fetched from {server.url}: {reason}; a local copy of the file can be given instead"
    )
    assert len(server.requests) == 1
    assert left(cache) == []


def test_a_stream_of_more_bytes_than_expected_is_stopped(server, cache):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(BODY)

    server.answers = [endless]
    assert "has more than 1,000 bytes" in failure(server, size=1000)
    assert left(cache) == []


def test_a_number_of_bytes_without_end_is_no_number(server):
    server.answers = [lambda handler: send(handler, 200, BODY, length="9" * 5000)]
    assert fetch(server, md5=MD5).read_bytes() == BODY


@pytest.mark.parametrize("code", [403, 404, 410])
def test_a_refusal_is_reported_at_once(server, code):
    server.answers = [status(code)]
    assert f"net.pth cannot be fetched from {server.url}: the server answers {code} " in failure(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(server, code):
    server.answers = [status(code), status(code)]
    assert fetch(server, attempts=3).read_bytes() == BODY
    server.answers = [status(code)] * 9
    fetching.cached_path(server.url, "net.pth").unlink()
    assert f"the server answers {code} " in failure(server, attempts=2)


def test_requests_wait_longer_each_time(server, monkeypatch):
    waited = []
    monkeypatch.setattr(fetching.time, "sleep", waited.append)
    server.answers = [status(500)] * 9
    failure(server, attempts=4, wait=0.5)
    assert waited == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    "answer",
    [
        lambda handler: send(handler, 200, b"\n<!DOCTYPE html><title>Log in</title>"),
        lambda handler: send(handler, 200, b"Log in", Content_Type="text/html; charset=utf-8"),
    ],
)
def test_a_web_page_instead_of_the_file(server, cache, answer):
    server.answers = [answer]
    assert "the server sends a web page, perhaps to log in, instead of the file; a local copy" in failure(server)
    assert left(cache) == []


def test_what_a_terminal_obeys_is_not_printed(server):
    def coloured(handler):
        handler.send_response(404, "\x1b[31mred")
        handler.end_headers()

    server.answers = [coloured]
    assert "answers 404 ?[31mred" in failure(server)


def test_redirects(server):
    server.answers = [status(302, Location="/elsewhere?token=1")]
    assert fetch(server).read_bytes() == BODY
    assert [path for path, _ in server.requests] == ["/models/net.pth", "/elsewhere?token=1"]
    fetching.cached_path(server.url, "net.pth").unlink()
    server.answers = [status(302, Location="/models/net.pth")] * 20
    assert "would lead to an infinite loop" in failure(server)
    for place in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        server.answers = [status(302, Location=place)]
        assert "cannot be fetched" in failure(server)
    request = fetching.urllib.request.Request("https://publisher/net.pth")
    with pytest.raises(OSError, match="redirects to an insecure address, http://publisher/"):
        fetching._Redirects().redirect_request(request, None, 302, "Found", {}, "http://publisher/net.pth")


def test_no_server(server):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{closed.getsockname()[1]}/net.pth"
        assert f"cannot be fetched from {server.url}: Connection refused; a local" in failure(server)
    server.url = "http://nowhere.invalid/net.pth"
    assert failure(server).startswith("net.pth cannot be fetched from http://nowhere.invalid/net.pth: ")


def test_a_silent_server_is_given_up(server):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        server.url = f"http://127.0.0.1:{silent.getsockname()[1]}/net.pth"
        assert "the server does not answer in time" in failure(server, timeout=0.02, attempts=2)


def test_a_server_that_speaks_no_http(server):
    server.answers = [lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")] * 2
    assert "SSH-2.0-OpenSSH" in failure(server, attempts=2)


@pytest.mark.parametrize("variable", ["INCEPTION_JAX_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(server, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    file = fetching.cached_path(server.url, "net.pth")
    assert failure(server) == (
        f"net.pth is not in the cache and {variable} forbids to fetch it; copy {server.url} to {file}, "
        "or give a local file"
    )
    file.parent.mkdir(parents=True)
    file.write_bytes(BODY)
    assert fetch(server, md5=MD5) == file
    file.write_bytes(b"")
    with pytest.raises(UserError, match=f"net.pth is damaged: it has 0 bytes, not 300,000; {variable} forbids"):
        fetch(server, size=len(BODY))
    assert server.requests == []
    monkeypatch.setenv(variable, "0")
    assert fetch(server, md5=MD5).read_bytes() == BODY


def test_two_processes_fetch_a_file_once(server):
    arrived, go = threading.Event(), threading.Event()

    def slow(handler):
        arrived.set()
        assert go.wait(60)
        send_file(handler)

    server.answers = [slow]
    code = "import sys; from inception_jax.weights.fetch import fetch; print(fetch(sys.argv[1], name='net.pth'))"
    other = subprocess.Popen([sys.executable, "-c", code, server.url], stdout=subprocess.PIPE, text=True)
    assert arrived.wait(60)
    here = []
    thread = threading.Thread(target=lambda: here.append(fetch(server)))
    thread.start()
    thread.join(0.01)
    assert here == []
    go.set()
    thread.join(60)
    assert other.communicate()[0].strip() == str(here[0])
    assert other.returncode == 0
    assert here[0].read_bytes() == BODY
    assert len(server.requests) == 1


def test_a_file_system_without_locks(server, cache, monkeypatch):
    def missing(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fetching.fcntl, "flock", missing)
    server.answers = [broken_at(1000)]
    assert "broke after 1,000" in failure(server, attempts=1)
    assert left(cache) == []  # another process may write the same name, so nothing is kept
    assert fetch(server, md5=MD5).read_bytes() == BODY
    assert left(cache) == ["net.pth"]


@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
def test_a_proxy(server, monkeypatch, https):
    class Proxy(Handler):
        def do_CONNECT(self):
            send(self, 407)

        def do_GET(self):
            self.server.requests.append((self.path, {}))
            send(self, 200, BODY)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        proxy.requests = []
        serve(proxy)
        address = f"127.0.0.1:{proxy.server_port}"
        monkeypatch.setenv("HTTPS_PROXY" if https else "HTTP_PROXY", f"http://user:secret@{address}")
        if https:
            server.url = "https://publisher.invalid/net.pth"
            line = failure(server)
            assert f"Tunnel connection failed: 407 Proxy Authentication Required (through the proxy {address})" in line
            assert "secret" not in line
        else:
            server.url = "http://publisher.invalid/net.pth"
            assert fetch(server).read_bytes() == BODY
            assert proxy.requests == [("http://publisher.invalid/net.pth", {})]
        proxy.shutdown()


def test_a_full_disk(server, cache, monkeypatch):
    with monkeypatch.context() as small:
        small.setattr(fetching.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1000))
        line = failure(server)
    need = "is full: net.pth needs 300,000 bytes, 1,000 are free; make room, or set XDG_CACHE_HOME to another disk"
    assert line.endswith(need)

    part = fetching.cached_path(server.url, "net.pth.part")
    part.symlink_to("/dev/full")
    assert failure(server) == (
        f"the disk of {part.parent} is full: No space left on device; make room, or set XDG_CACHE_HOME to another disk"
    )
    assert left(cache) == []


def test_a_cache_that_cannot_be_written(server, cache):
    cache.mkdir(parents=True)
    cache.joinpath(f"127.0.0.1_{server.server_port}").touch()
    assert re.search(r"127.0.0.1_\d+\S* cannot be used: \w[\w ]+; set XDG_CACHE_HOME", failure(server))


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/x", "net.pth", "http:///x", "http://host:x/", "http://["]
)
def test_other_addresses_are_refused(url):
    with pytest.raises(UserError, match=re.escape(f"url={url!r} is not an address of http or https")):
        fetching.fetch(url, name="net.pth")


@pytest.mark.parametrize("name", ["../net.pth", "a/b", "..", "", ".net.pth.lock", "a\0b", "a\\b"])
def test_a_name_stays_in_the_cache(name):
    with pytest.raises(UserError, match=re.escape(f"name={name!r} is not a file name")):
        fetching.fetch("http://127.0.0.1/x", name=name)


def test_a_host_stays_in_the_cache(cache):
    for host in ("..", ".", "user:secret@..", "a..b", "../x"):
        path = fetching.cached_path(f"http://{host}/x", "net.pth")
        assert path.parent.parent == cache
        assert path.parent.name not in ("..", ".")
        assert "secret" not in str(path)


def test_a_terminal_gets_a_bar(server, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fetch(server)
    assert "net.pth" in capsys.readouterr().err
    assert isinstance(fetch(server), Path)
