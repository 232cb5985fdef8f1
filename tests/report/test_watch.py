"""The server of a report."""

import contextlib
import http.client
import json
import re
import threading

import pytest

from inception_jax.errors import UserError
from inception_jax.report import page, watch


@contextlib.contextmanager
def serving(workdir, **options):
    """A server in a thread; yields a function that asks it: path, headers -> status, headers, text."""
    with watch.Server(workdir, **{"every": 1e-9} | options) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def ask(path, method="GET", **headers):
            connection = http.client.HTTPConnection(*server.server_address[:2], timeout=30)
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            content = answer.read().decode()
            connection.close()
            return answer.status, answer.headers, content

        ask.url = server.url
        try:
            yield ask
        finally:
            server.shutdown()
            thread.join()


def write(workdir, text):
    page.write_page(workdir / "report.html", "net on data", {}, [page.section("One", text)], refresh=15)


def test_the_page_is_served_with_its_version_and_nothing_else(tmp_path):
    write(tmp_path, "first")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with serving(tmp_path) as ask:
        status, headers, text = ask("/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "<p>first</p>" in text
        assert "http-equiv" not in text  # neither refresh nor the rules of the file, which forbid to connect
        status, _, version = ask("/version")
        assert re.search('<meta name="version" content="(.*?)">', text)[1] == version
        assert ask("/version")[2] == version
        write(tmp_path, "second")
        later = ask("/version")[2]
        assert later != version
        assert "<p>second</p>" in ask("/")[2]
        assert ask("/", "HEAD")[::2] == (200, "")
        paths = ("/report.html", "/config.json", "/../config.json", "/?a", "/version/", "/checkpoints/")
        assert {ask(path)[0] for path in paths} == {404}
        assert ask("/", "POST")[0] == 501


def test_only_the_script_of_the_server_runs(tmp_path):
    page.write_page(tmp_path / "report.html", "x", {}, [], scripts=["alert(1)"])
    with serving(tmp_path) as ask:
        _, headers, text = ask("/")
    rules = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert rules.pop("script-src") == f"'sha256-{watch._HASH}'"
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert f"<script>{watch._SCRIPT}</script>" in text
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("LOCALHOST", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("localhost.evil.example:8000", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ],
)
def test_a_host_of_another_name_is_refused(host, status, tmp_path):
    """A page of that name could read the answer, if the name leads to this machine (DNS rebinding)."""
    with serving(tmp_path) as ask:
        for path in ("/", "/version", "/other"):
            assert ask(path, Host=host)[0] == (404 if path == "/other" and status == 200 else status)


def test_in_a_network_every_name_is_answered(tmp_path):
    with serving(tmp_path, host="0.0.0.0") as ask:
        assert ask("/", Host="machine.example:8000")[0] == 200


def test_it_waits_for_a_run(tmp_path):
    workdir = tmp_path / "<b>"
    with serving(workdir) as ask:
        text = ask("/")[2]
        assert "Waiting: no training has begun here." in text
        assert "&lt;b&gt;" in text
        assert "<b>" not in text
        versions = [ask("/version")[2]]
        workdir.mkdir()
        record = {"config": {"log": {"report": True}}, "network": {"total_steps": 90}}
        (workdir / "config.json").write_text(json.dumps(record), encoding="utf-8")
        (workdir / "metrics.jsonl").write_text('{"step": 4, "split": "train"}\n', encoding="utf-8")
        assert "which training writes at its first evaluation. Now at step 4 of 90." in ask("/")[2]
        versions.append(ask("/version")[2])
        record["config"]["log"]["report"] = False
        (workdir / "config.json").write_text(json.dumps(record), encoding="utf-8")
        assert "This training, now at step 4 of 90, writes no report.html" in ask("/")[2]
        (workdir / "config.json").write_text("{", encoding="utf-8")
        assert "config.json is damaged" in ask("/")[2]
        write(workdir, "first")
        assert "<p>first</p>" in ask("/")[2]
        versions.append(ask("/version")[2])
        (workdir / "report.html").unlink()
        (workdir / "report.html").mkdir()
        assert "report.html cannot be read: Is a directory" in ask("/")[2]
    assert len(set(versions)) == 3


def test_it_looks_only_now_and_then(tmp_path, monkeypatch):
    write(tmp_path, "first")
    with serving(tmp_path, every=3600) as ask:
        version = ask("/version")[2]
        write(tmp_path, "second")
        assert ask("/version")[2] == version
    with serving(tmp_path) as ask:
        ask("/")
        monkeypatch.setattr(watch, "read_whole", pytest.fail)  # the file has not changed
        assert ask("/")[0] == 200


def test_a_port_that_is_taken_is_named(tmp_path):
    with watch.Server(tmp_path) as server:
        port = server.server_address[1]
        assert server.url == f"http://127.0.0.1:{port}/"
        with pytest.raises(UserError, match=f"port={port} of 127.0.0.1 cannot be opened: Address already in use"):
            watch.Server(tmp_path, port=port)
    with pytest.raises(UserError, match="port=0 of no.such.host cannot be opened: "):
        watch.Server(tmp_path, "no.such.host")


def test_a_browser_follows_without_loading_the_page_again(tmp_path, browser):
    rows = "".join(f"<tr><th>{row}</th></tr>" for row in range(100))
    wide = f'<div class="scroll" aria-label="wide"><table style="width: 5000px">{rows}</table></div>'

    def put(text):
        page.write_page(tmp_path / "report.html", text, {}, [page.section(text, "", wide)], refresh=1)

    put("first")
    with serving(tmp_path) as ask:
        tab = browser.new_page(viewport={"width": 390, "height": 700})
        complaints, loads = [], []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("load", lambda: loads.append(1))
        tab.goto(ask.url)
        tab.evaluate("window.scrollTo(0, 900); document.querySelector('.scroll').scrollLeft = 300")
        put("second")
        tab.wait_for_selector("h1:text('second')")
        assert tab.title() == "second"
        assert tab.evaluate("[window.scrollY, document.querySelector('.scroll').scrollLeft]") == [900, 300]
        assert tab.evaluate("getComputedStyle(document.querySelector('h1')).fontSize") == "28px"  # the style is there
        assert not tab.query_selector(".lost")
        assert (complaints, loads) == ([], [1])
    tab.wait_for_selector(".lost")  # the server has ended
    assert tab.inner_text("h1") == "second"
    tab.close()
