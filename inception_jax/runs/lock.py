"""One process at a time writes a run.

On a disk its lock file is locked as long as the process lives. In a bucket, and where the file system has no locks, the
file is a lease: the owner changes it every few seconds, and whoever sees it unchanged for long enough takes it over.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from inception_jax.errors import UserError
from inception_jax.paths import AnyPath, bucket_errors, read_whole, reason, storage, write_whole

FILE = ".lock.json"  # in the directory of the run
_BEAT, _STALE = 5.0, 20.0  # seconds between changes of a lease, and without a change until it is taken over
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class Lock:
    """The right of this process to write a run's directory."""

    def __init__(self, directory: AnyPath, say: Callable[[str], None]):
        """Takes it.

        Args:
          directory: of the run; it exists, if it is on a disk.
          say: called with one line if the last owner ended without notice.

        Raises:
          UserError: another process has it; the message names its host and number.
        """
        self._path, self._say = directory / FILE, say
        self._me = {"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex}
        self._file: IO[str] | None = None
        self._ended, self._lost = threading.Event(), ""
        self._thread = threading.Thread(target=self._renew, daemon=True)
        if not (isinstance(directory, Path) and self._lock_file()):
            self._take_lease()
            self._thread.start()

    def check(self) -> None:
        """Raises a UserError if another process has taken over, because this one was silent for too long."""
        if self._lost:
            raise UserError(f"{self._path.parent} was taken over by {self._lost}, so this process must not write it")

    def release(self) -> None:
        """Gives it back."""
        self._ended.set()
        if self._file is not None:
            # Emptied and not removed: another process may wait with this very file open.
            with contextlib.suppress(OSError):
                self._file.truncate(0)
            self._file.close()
            self._file = None
        elif not self._lost:
            self._thread.join(_STALE)  # it may be writing the file
            with contextlib.suppress(Exception):
                self._path.unlink()

    def _lock_file(self) -> bool:
        """Locks the file; False if the file system has no locks."""
        with storage(self._path, "cannot be written"):
            file = open(self._path, "a+", encoding="utf-8")  # noqa: SIM115 (open as long as the lock is held)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read()
            file.close()
            raise self._in_use(_parsed(owner)) from None
        except OSError as error:
            file.close()
            if error.errno not in _NO_LOCKS:
                raise UserError(f"{self._path} cannot be locked: {reason(error)}") from None
            return False
        file.seek(0)
        if before := _parsed(file.read()):
            self._was_left(before)
        file.truncate(0)
        file.write(json.dumps(self._me))
        file.flush()
        self._file = file
        return True

    def _take_lease(self) -> None:
        if before := self._read():
            if not _has_ended(before):
                self._say(
                    f"waiting {_STALE:.0f} s to see whether {_name(before)} is still at work on {self._path.parent}"
                )
                deadline = time.monotonic() + _STALE
                while time.monotonic() < deadline:
                    time.sleep(1)
                    now = self._read()
                    if now and now != before:
                        raise self._in_use(now)
                    if not now:  # given back meanwhile
                        break
            self._was_left(before)
        self._beat()
        time.sleep(0 if before is None else 1)  # another process may take it at the same moment: the last one has it
        if (owner := self._read()) and owner["token"] != self._me["token"]:
            raise self._in_use(owner)

    def _beat(self) -> None:
        write_whole(self._path, json.dumps(self._me | {"beat": time.time()}).encode())

    def _renew(self) -> None:
        while not self._ended.wait(_BEAT):
            with contextlib.suppress(Exception):  # the bucket is out of reach for the moment
                owner = self._read()
                if owner and owner["token"] != self._me["token"]:
                    self._lost = _name(owner)
                    return
                if not self._ended.is_set():
                    self._beat()

    def _read(self) -> dict[str, Any] | None:
        try:
            return _parsed(read_whole(self._path).decode())
        except FileNotFoundError:
            return None

    def _in_use(self, owner: dict[str, Any] | None) -> UserError:
        who = _name(owner) if owner else "another process"
        return UserError(f"{self._path.parent} is in use by {who}: wait for its end, or choose another directory")

    def _was_left(self, owner: dict[str, Any]) -> None:
        self._say(f"{_name(owner)}, the last to write {self._path.parent}, ended without notice; this one takes over")


def is_held(directory: AnyPath) -> bool:
    """Tells whether a process writes the run in this directory.

    A lock is seen on this machine and on those that share its locks; a lease, as in a bucket, on all whose clocks agree
    to some seconds.
    """
    path = directory / FILE
    try:
        if isinstance(path, Path):
            if is_locked(path):
                return True
            if not path.is_file():
                return False
        with bucket_errors(directory):
            owner = _parsed(read_whole(path).decode())
    except (OSError, UnicodeDecodeError):
        return False
    if owner is None or not isinstance(owner.get("beat"), (int, float)):  # only a lease has one
        return False
    return abs(time.time() - owner["beat"]) < _STALE and not _has_ended(owner)


def is_locked(file: Path) -> bool:
    """Tells whether a process has locked a file; False if it is missing or its file system has no locks."""
    try:
        if not file.is_file():  # a pipe would wait for its writer
            return False
        with open(file, encoding="utf-8") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _parsed(text: str) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        content = json.loads(text)
        if isinstance(content, dict) and isinstance(content.get("token"), str):
            return content
    return None


def _name(owner: dict[str, Any]) -> str:
    return f"process {owner.get('pid')} on {owner.get('host')}"


def _has_ended(owner: dict[str, Any]) -> bool:
    """Whether a process of this machine has certainly ended."""
    if owner.get("host") != socket.gethostname() or not isinstance(owner.get("pid"), int):
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return owner["pid"] == os.getpid()
