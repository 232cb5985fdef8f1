"""Files by their published address: fetched once, checked, and kept in a cache.

Only the standard library is used. The server must send the file itself; archives are not unpacked.

The cache is `runtime.cache_directory()/weights/HOST/NAME`. A file that is copied there by hand counts as fetched.
During a transfer and after a broken one, NAME.part and NAME.part.json lie beside it; the next call resumes from them.
A second process waits for the first by the lock of .NAME.lock.

Environment: INCEPTION_JAX_OFFLINE=1 or HF_HUB_OFFLINE=1 forbids all requests. HTTP_PROXY, HTTPS_PROXY and NO_PROXY are
obeyed. XDG_CACHE_HOME moves the cache.
"""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inception_jax import console
from inception_jax.errors import MissingExtraError, UserError
from inception_jax.runtime import cache_directory

_CHUNK = 1 << 18  # bytes
_OFFLINE = ("INCEPTION_JAX_OFFLINE", "HF_HUB_OFFLINE")
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}  # status codes after which the same request may succeed
# How a web page begins. No file of weights does: the formats begin with other bytes or with a length.
_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body|script|!--|\?xml)", re.IGNORECASE)
WAY_OUT = "a local copy of the file can be given instead"


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What is fetched and how it is recognised.

    Attributes:
      url: address.
      name: name in the cache.
      digests: leading hexadecimal digits by algorithm; may be empty.
      size: number of bytes, None if unknown.
    """

    url: str
    name: str
    digests: dict[str, str]
    size: int | None

    def mismatch(self, file: Path) -> str:
        """Returns what is wrong with a file, '' if it has the size and the checksums."""
        size = file.stat().st_size
        if self.size is not None and size != self.size:
            return f"it has {size:,} bytes, not {self.size:,}"
        for algorithm, wanted in self.digests.items():
            with open(file, "rb") as content:
                digest = hashlib.file_digest(content, algorithm).hexdigest()
            if not digest.startswith(wanted):
                return f"its {algorithm.upper()} is {digest[: max(8, len(wanted))]}, not {wanted}"
        return ""

    def error(self, reason: str) -> UserError:
        """Returns the error of a transfer that failed for this reason."""
        return UserError(one_line(f"{self.name} cannot be fetched from {self.url}: {reason}; {WAY_OUT}"))


class _BrokenTransferError(Exception):
    """A request failed in a way that may pass; the message is the reason."""


def fetch(
    url: str,
    *,
    name: str,
    sha256_prefix: str | None = None,
    md5: str | None = None,
    sha1: str | None = None,
    size: int | None = None,
    progress: bool = True,
    timeout: float = 30.0,
    attempts: int = 5,
    wait: float = 1.0,
) -> Path:
    """Returns the path of a published file in the cache; it is fetched unless it is there.

    A cached file is checked at each call and fetched again if its size or a checksum is wrong. A broken transfer is
    resumed, by this call or a later one, if the server can tell that the file is still the same (ETag or
    Last-Modified). Several processes may ask for the same file: one fetches it, the others wait.

    Args:
      url: address, http or https.
      name: file name in the cache. Files of one host need different names.
      sha256_prefix: leading hexadecimal digits of the SHA-256; torchvision's file names contain eight.
      md5: MD5, hexadecimal.
      sha1: SHA-1, hexadecimal.
      size: number of bytes.
      progress: show a bar on standard error if it is a terminal and tqdm is installed.
      timeout: seconds without an answer or a byte after which a request counts as broken.
      attempts: number of failed requests in a row, without one more byte of the file, after which the call fails.
      wait: seconds before the second request; doubled at each further one.

    Raises:
      UserError: the file cannot be had. The line names the file, its address, the reason and the way out.
    """
    digests = {"sha256": sha256_prefix, "md5": md5, "sha1": sha1}
    wanted = _Wanted(url, name, {key: value.lower() for key, value in digests.items() if value}, size)
    file = cached_path(url, name)
    offline = offline_variable()
    if file.exists():
        with _storing(file):
            wrong = wanted.mismatch(file)
        if not wrong:
            return file
        if offline:
            raise UserError(f"{file} is damaged: {wrong}; {offline} forbids to fetch it again; {WAY_OUT}")
        console.warn(f"{file} is damaged: {wrong}; it is fetched again")
    if offline:
        raise UserError(
            f"{name} is not in the cache and {offline} forbids to fetch it; copy {url} to {file}, or give a local file"
        )
    with _storing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    with _locked(file) as locked:
        if file.exists() and not wanted.mismatch(file):  # another process fetched it
            return file
        part = file.with_name(f"{name}.part" if locked else f"{name}.{os.getpid()}.part")
        try:
            _fetch_into(wanted, part, progress=progress, timeout=timeout, attempts=attempts, wait=wait)
            with _storing(file):
                os.replace(part, file)
        finally:
            if not locked:
                _remove(part)
    return file


def cached_path(url: str, name: str) -> Path:
    """Returns where `fetch` keeps the file; it need not exist.

    Raises:
      UserError: the address is not one of http or https, or the name is no plain file name.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not match
        usable = False
    if not usable:
        raise UserError(f"url={url!r} is not an address of http or https")
    if name.startswith(".") or not re.fullmatch(r"[^/\\\x00-\x1f]+", name):
        raise UserError(f"name={name!r} is not a file name")
    # The host is a directory, so that files of two publishers may have the same name. It must not be '..'.
    host = parts.netloc.rpartition("@")[2].lower()
    host = re.sub("[^a-z0-9.-]", "_", host).strip(".") or "_"
    return cache_directory() / "weights" / host / name


def offline_variable() -> str | None:
    """Returns the name of the environment variable that forbids requests, None if they are allowed."""
    for variable in _OFFLINE:
        if os.environ.get(variable, "").lower() in ("1", "on", "yes", "true"):
            return variable
    return None


def one_line(text: str) -> str:
    """Returns a text with a server's words as one line, and without the characters that a terminal obeys."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def _fetch_into(wanted: _Wanted, part: Path, *, progress: bool, timeout: float, attempts: int, wait: float) -> None:
    """Completes the partial file `part` and checks it."""
    for last_try in (False, True):
        failures = furthest = 0
        while True:
            try:
                resumed = _request(wanted, part, progress=progress, timeout=timeout)
                break
            except _BrokenTransferError as error:
                reached = part.stat().st_size if part.exists() else 0
                failures = 1 if reached > furthest else failures + 1
                furthest = max(furthest, reached)
                if failures >= attempts:
                    if not _state_of(part).exists():
                        _remove(part)  # no later call can resume it
                    raise wanted.error(str(error)) from None
                time.sleep(wait * 2 ** (failures - 1))
        with _storing(part):
            wrong = wanted.mismatch(part)
        if not wrong:
            _state_of(part).unlink(missing_ok=True)
            return
        _remove(part)
        if last_try or not resumed:
            raise wanted.error(f"the file there is not the expected one: {wrong}")
        # The first bytes came from an earlier request. They may be of another version of the file, so it starts again.


def _request(wanted: _Wanted, part: Path, *, progress: bool, timeout: float) -> bool:
    """Requests what `part` lacks and appends it.

    Returns:
      Whether `part` had a beginning that was kept.

    Raises:
      UserError: the file cannot be had.
      _BrokenTransferError: it may be had by another request.
    """
    start, validator = _resumable(wanted.url, part)
    headers = {"User-Agent": "inception_jax"}  # some hosts refuse urllib's own
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    try:
        address = urllib.parse.quote(wanted.url, safe="%/:=&?~#+!$,;'@()*[]")
        with _opener().open(urllib.request.Request(address, headers=headers), timeout=timeout) as response:
            start, total = _range_of(response, start, validator, part)
            _check_size(wanted, part, total)
            _receive(wanted, response, part, start, total, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            _remove(part)
            raise _BrokenTransferError("the server does not resume the transfer") from None
        reason = f"the server answers {error.code} {error.reason}"
        if error.code in _TEMPORARY:
            raise _BrokenTransferError(reason) from None
        raise wanted.error(reason) from None
    except (OSError, http.client.HTTPException) as error:
        # urllib wraps what fails before the answer.
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        reason = _reason(cause) + _through(wanted.url)
        if _may_pass(cause):
            raise _BrokenTransferError(reason) from None
        raise wanted.error(reason) from None
    return start > 0


def _resumable(url: str, part: Path) -> tuple[int, str]:
    """Returns the number of bytes to keep of a partial file, and the ETag or date of the version that they are of."""
    try:
        state = json.loads(_state_of(part).read_text(encoding="utf-8"))
        validator = state["validator"]
        if state["url"] == url and validator.isascii() and validator.isprintable():
            return part.stat().st_size, validator
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no such file, or a damaged one
        pass
    return 0, ""


def _range_of(response: Any, start: int, validator: str, part: Path) -> tuple[int, int | None]:
    """Returns at which byte of the file the answer starts, and the size of the whole file if the server says it."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if re.fullmatch("[0-9]{1,18}", length) else None
    content_range = response.headers.get("Content-Range", "").strip()
    sent = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", content_range)
    # Some servers know ranges but ignore If-Range. The header that is not used for it may be left out.
    version = response.headers.get("ETag" if validator.startswith('"') else "Last-Modified", validator)
    total = None if not sent or sent[2] == "*" else int(sent[2])
    if not sent or int(sent[1]) != start or version != validator or (total is not None and total <= start):
        _remove(part)
        raise _BrokenTransferError("the server does not resume the transfer")
    return start, total


def _check_size(wanted: _Wanted, part: Path, total: int | None) -> None:
    """Raises a UserError, before the transfer, if the size is not the expected one or does not fit on the disk."""
    if total is None:
        return
    if wanted.size not in (None, total):
        _remove(part)
        raise wanted.error(f"the file there has {total:,} bytes, not {wanted.size:,}")
    with _storing(part):
        # The bytes of `part` are kept, or become free if the transfer starts again.
        free = shutil.disk_usage(part.parent).free + (part.stat().st_size if part.exists() else 0)
    if total > free:
        raise UserError(_full(part, f"{wanted.name} needs {total:,} bytes, {free:,} are free"))


def _receive(wanted: _Wanted, response: Any, part: Path, start: int, total: int | None, progress: bool) -> None:
    """Writes the body of an answer to `part`, from byte `start` on."""
    if not start and response.headers.get_content_type() == "text/html":
        raise wanted.error("the server sends a web page, perhaps to log in, instead of the file")
    with _storing(part):
        content = open(part, "ab" if start else "wb")  # noqa: SIM115  # closed below, where a full disk may show too
    received = start
    try:
        if not start:
            _note_version(wanted.url, response, part)
        with _bar(wanted.name, start, total, progress) as advance:
            while total is None or received < total:
                # `read1` returns what has arrived, so that no byte is lost when the connection breaks.
                data = response.read1(_CHUNK)
                if not data:
                    break
                if not received and _PAGE.match(data):
                    raise wanted.error("the server sends a web page, perhaps to log in, instead of the file")
                received += len(data)
                if wanted.size is not None and received > wanted.size:
                    raise wanted.error(f"the file there has more than {wanted.size:,} bytes")
                with _storing(part):
                    content.write(data)
                advance(len(data))
        with _storing(part):
            content.flush()
            os.fsync(content.fileno())
    except UserError:
        _remove(part)  # nothing to resume from; a full disk gets its space back
        raise
    finally:
        with contextlib.suppress(OSError):  # a full disk again, which is reported already
            content.close()
    expected = wanted.size if total is None else total
    if expected is not None and received < expected:
        raise _BrokenTransferError(f"the transfer broke after {received:,} of {expected:,} bytes")


def _note_version(url: str, response: Any, part: Path) -> None:
    """Writes beside a new partial file which version of the file it is of; nothing if the server does not say."""
    tag = response.headers.get("ETag", "")
    # A weak ETag, W/"...", does not promise equal bytes, so HTTP does not allow it here.
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    with _storing(part):
        _state_of(part).unlink(missing_ok=True)
        if validator:
            _state_of(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _state_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _remove(part: Path) -> None:
    """Removes a partial file and what is noted about it."""
    part.unlink(missing_ok=True)
    _state_of(part).unlink(missing_ok=True)


@contextlib.contextmanager
def _bar(name: str, start: int, total: int | None, progress: bool) -> Iterator[Any]:
    """Shows a bar on a terminal; yields the function that takes the number of new bytes."""
    shown = None
    if progress and sys.stderr.isatty():
        with contextlib.suppress(MissingExtraError):  # a library without tqdm fetches without a bar
            shown = console.bar(
                desc=name, initial=start, total=total, unit="B", unit_scale=True, dynamic_ncols=True, leave=False
            )
    try:
        yield (lambda _: None) if shown is None else shown.update
    finally:
        if shown is not None:
            shown.close()


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[bool]:
    """Keeps other processes from fetching the same file; yields False on a file system without locks."""
    with _storing(file):
        lock = open(file.with_name(f".{file.name}.lock"), "wb")  # noqa: SIM115  # closed below
    with lock:  # the file stays, because another process may wait for it
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another process that fetches {file.name}", file=sys.stderr)
                fcntl.flock(lock, fcntl.LOCK_EX)
            locked = True
        except OSError:
            locked = False
        yield locked


@contextlib.contextmanager
def _storing(file: Path) -> Iterator[None]:
    """Turns an error of the file system into a line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(_full(file, error.strerror or "no space left")) from None
        raise UserError(f"{error.filename or file} cannot be used: {error.strerror}; set XDG_CACHE_HOME") from None


def _full(file: Path, what: str) -> str:
    return f"the disk of {file.parent} is full: {what}; make room, or set XDG_CACHE_HOME to another disk"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if req.type == "https" and not newurl.lower().startswith("https:"):
            raise urllib.error.URLError(f"the server redirects to an insecure address, {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Returns what opens addresses of http and https; urllib's default would take file: and ftp: too."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,  # reads the environment
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
        _Redirects,
    ):
        opener.add_handler(handler())
    return opener


def _may_pass(cause: Any) -> bool:
    """Tells whether the same request may succeed after this error.

    A name that is not found, a refused connection and a wrong certificate are reported at once: without a network, all
    attempts together would only delay the message.
    """
    if isinstance(cause, (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError)):
        return False
    return isinstance(cause, (TimeoutError, ConnectionError, ssl.SSLError)) or (
        isinstance(cause, http.client.HTTPException) and not isinstance(cause, http.client.InvalidURL)
    )


def _reason(cause: Any) -> str:
    """Describes an error in a few words."""
    if isinstance(cause, TimeoutError):
        return "the server does not answer in time"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted ({cause.verify_message}); SSL_CERT_FILE names another list"
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__


def _through(url: str) -> str:
    """Names the proxy of an address, without its password; '' if there is none."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return ""
    return f" (through the proxy {proxy.rpartition('@')[2]})"
