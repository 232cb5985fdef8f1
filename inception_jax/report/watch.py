"""Serves the report of a training that runs; the page in a browser follows it without being loaded again."""

import base64
import dataclasses
import hashlib
import html
import re
import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from inception_jax.errors import UserError
from inception_jax.paths import AnyPath, bucket_errors, read_whole, reason, version
from inception_jax.report.page import render, section
from inception_jax.runs.run import Run

_LOCAL = ("127.0.0.1", "localhost", "::1")
_METRICS_BYTES = 2**16  # of metrics.jsonl, whose last line tells the step
_SCRIPT = Path(__file__).with_name("watch.js").read_text(encoding="utf-8")
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode("ascii")
# The page may ask for nothing but its next state, and no script runs but that one.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; connect-src 'self'; "
    f"script-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_LOST = (
    "<style>.lost body::before { content: 'The server does not answer; this is its last page.'; color: var(--wrong); "
    "position: sticky; top: 0; z-index: 2; display: block; padding: .5rem 0; background: var(--page); }</style>"
)


@dataclasses.dataclass(frozen=True)
class _State:
    """A page, UTF-8, and a text that changes with it."""

    page: bytes
    version: str


class _Report:
    """The report of a workdir, looked for again at most every few seconds, and only while somebody asks."""

    def __init__(self, workdir: AnyPath, every: float):
        self._workdir, self._every = workdir, every
        self._lock = threading.Lock()
        self._state, self._source, self._looked = _State(b"", ""), "", -float("inf")

    def state(self) -> _State:
        """Returns the page as it is now, or as it was a moment ago."""
        with self._lock:
            if time.monotonic() - self._looked >= self._every:
                self._look()
                self._looked = time.monotonic()
            return self._state

    def _look(self) -> None:
        path = self._workdir / "report.html"
        try:
            with bucket_errors(path):
                found = version(path)
                if found and found == self._source:
                    return
                page = read_whole(path).decode("utf-8", "replace") if found else _waiting(self._workdir)
        except FileNotFoundError:  # removed meanwhile
            found, page = None, _waiting(self._workdir)
        except (UserError, OSError) as error:
            text = str(error) if isinstance(error, UserError) else f"{path} cannot be read: {reason(error)}"
            found, page = None, _notice(self._workdir, text)
        self._source = found or ""
        name = hashlib.sha256(_encoded(page)).hexdigest()
        self._state = _State(_encoded(_live(page, name)), name)


def _waiting(workdir: AnyPath) -> str:
    """A page for a run that has no report yet."""
    run = Run.read(workdir, _METRICS_BYTES)
    if run.config is None:
        return _notice(workdir, run.error or "Waiting: no training has begun here.")
    done = f"step {run.step or 0:,}" + (f" of {run.total_steps:,}" if run.total_steps else "")
    if (run.config.get("log") or {}).get("report") is False:
        return _notice(workdir, f"This training, now at {done}, writes no report.html: its config.log.report is off.")
    return _notice(workdir, f"Waiting for report.html, which training writes at its first evaluation. Now at {done}.")


def _notice(workdir: AnyPath, text: str) -> str:
    return render(str(workdir), {}, [section("No report yet", text)])


def _live(page: str, name: str) -> str:
    """Turns a page into one that follows: with a version and the script, and without its own rules and refresh."""
    head, body = page.partition("</head>")[::2]
    head = re.sub('<meta http-equiv="(refresh|Content-Security-Policy)"[^>]*>\n', "", head)
    about = f'<meta name="version" content="{html.escape(name)}">\n{_LOST}\n<script>{_SCRIPT}</script>\n'
    return f"{head}{about}</head>{body}"


def _encoded(page: str) -> bytes:
    return page.encode("utf-8", "backslashreplace")  # a path may not be valid Unicode


class _Handler(BaseHTTPRequestHandler):
    timeout = 30  # seconds, of a client that says nothing
    server_version, sys_version = "inception_jax", ""
    server: "Server"

    def do_GET(self) -> None:
        """Answers with the page or its version, and nothing else."""
        if not self.server.accepts(self.headers.get("Host", "")):
            self.send_error(HTTPStatus.FORBIDDEN, "This address is not the server's own")
        elif self.path == "/":
            self._send("text/html", self.server.report.state().page)
        elif self.path == "/version":
            self._send("text/plain", self.server.report.state().version.encode())
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Prints nothing."""


class Server(ThreadingHTTPServer):
    """Serves the report of one training, and nothing else of its directory."""

    daemon_threads = True

    def __init__(self, workdir: AnyPath, host: str = "127.0.0.1", port: int = 0, every: float = 5.0):
        """Opens the port; `serve_forever` answers.

        Args:
          workdir: directory of the training; it may not exist yet.
          host: address to listen at. At an address of this machine alone, only requests for such an address are
            answered, so that no other page in the browser can read the report under a name of its own (DNS rebinding).
          port: to listen at; 0: any that is free.
          every: seconds after which the report is looked for again.

        Raises:
          UserError: the port cannot be opened.
        """
        self.report, self._is_local = _Report(workdir, every), host in _LOCAL
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"port={port} of {host} cannot be opened: {reason(error)}") from None

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = self.server_address[:2]
        shown = f"[{host!s}]" if self.address_family == socket.AF_INET6 else host
        return f"http://{shown!s}:{port}/"

    def accepts(self, host: str) -> bool:
        """Whether a request for a host, 'NAME' or 'NAME:PORT', is answered; a tunnel may have another port."""
        name = re.sub(r":\d*$", "", host).strip("[]").lower()
        return not self._is_local or name in _LOCAL

    def handle_error(self, *_: Any) -> None:
        """Prints nothing about a browser that has gone."""
