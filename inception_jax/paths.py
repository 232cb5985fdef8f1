"""Paths of local file systems and of buckets (gs://, s3://).

A bucket has no rename, no append and no locks: an object is written whole, or not at all. So whoever writes more than
one object writes last the one that makes the others count.
"""

import base64
import concurrent.futures
import contextlib
import errno
import functools
import hashlib
import logging
import os
import shutil
import tempfile
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

# Buckets are read through fsspec; with TensorFlow installed epath would take TensorFlow's file systems, which lack s3://.
os.environ.setdefault("EPATH_USE_TF", "false")
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it asks for credentials and warns without them

from etils import epath

from inception_jax.errors import MissingExtraError, UserError
from inception_jax.names import check_utf8

AnyPath: TypeAlias = Path | epath.Path
_EXTRAS = {"gs": "gcs", "s3": "s3"}  # by scheme: the extra of pyproject.toml that reads it
# Modules whose errors are those of a bucket. Most of them are no OSErrors.
_BUCKET_MODULES = ("aiobotocore.", "aiohttp.", "botocore.", "gcsfs.", "google.auth.", "google.api_core.", "requests.")
_CONNECTIONS = 64  # at once to a bucket, for small objects that are far away; botocore's own limit is 10
_LARGE = 5 * 2**20  # bytes; gcsfs sends a file of this size or more in parts
COMMITTED = "commit_success.txt"  # written last into a directory of a bucket, as Orbax does


def is_bucket(path: str | os.PathLike) -> bool:
    """Whether a path is in a bucket."""
    return os.fspath(path).startswith(tuple(f"{scheme}://" for scheme in _EXTRAS))


def to_path(path: str | os.PathLike) -> AnyPath:
    """Returns the path as an object; a local path becomes absolute, with '~' replaced.

    Raises:
      UserError: it is in a bucket that cannot be used, see `check_bucket`, or of another scheme; or it is not UTF-8.
    """
    text = os.fspath(path)
    if is_bucket(text):
        check_bucket(text)
        return epath.Path(text)
    if "://" in text:
        raise UserError(f"{text} is of no known kind: use a local path, {' or '.join(f'{s}://' for s in _EXTRAS)}")
    local = Path(os.path.expanduser(text)).absolute()
    check_utf8(local)
    return local


def check_bucket(path: str) -> None:
    """Raises a UserError in one line if the bucket of `path` does not exist or cannot be reached, or an extra lacks."""
    scheme, _, rest = path.partition("://")
    _reach(scheme, rest.partition("/")[0])


@functools.cache
def _reach(scheme: str, bucket: str) -> None:
    address = f"{scheme}://{bucket}"
    try:
        # Of some object, because to look at the bucket itself needs a right that its users often lack.
        _filesystem(scheme).info(f"{bucket}/inception_jax")
    except FileNotFoundError as error:
        if str(error).endswith(("bucket does not exist", f"b/{bucket}/o")):  # words of s3fs and of gcsfs
            raise UserError(f"there is no bucket {address}, or these credentials do not show it") from None
    except ImportError as error:
        extra = _EXTRAS[scheme]
        raise MissingExtraError(f"{address} needs pip install 'inception_jax[{extra}]' ({error})") from None
    except Exception as error:  # the packages raise many types
        raise UserError(f"{address} cannot be reached: {reason(error)}") from None


@functools.cache
def _filesystem(scheme: str) -> Any:
    import fsspec

    for name in ("gcsfs", "google.auth"):  # what they log is in the error that they raise
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Other processes write to the same bucket, so no listing is remembered. epath takes the same object.
    for name in ("gs", "gcs", "s3"):
        fsspec.config.conf.setdefault(name, {}).setdefault("use_listings_cache", False)
    fsspec.config.conf["s3"].setdefault("config_kwargs", {}).setdefault("max_pool_connections", _CONNECTIONS)
    return fsspec.filesystem("gcs" if scheme == "gs" else scheme)


def _of(path: AnyPath) -> Any:
    return _filesystem(os.fspath(path).partition("://")[0])


def _put(address: str, content: Path | bytes) -> None:
    """Writes one object, with a check of what has arrived.

    S3 does that check itself, by the checksum that botocore sends.

    gcsfs sends a small object between lines of '--==0=='. A server that takes '\r\n--==0==' for the end loses the last
    byte of an object that ends with '\r', and any server loses what follows such a line in the object. So it is sent
    here as the whole body of a request.

    Raises:
      OSError: something else has arrived; also what `storage` turns into a UserError.
    """
    scheme, _, rest = address.partition("://")
    system = _filesystem(scheme)
    size = content.stat().st_size if isinstance(content, Path) else len(content)
    options = {"consistency": "md5"} if scheme == "gs" else {}
    if isinstance(content, Path) and (scheme != "gs" or size >= _LARGE):
        system.put_file(os.fspath(content), address, **options)
        return
    content = content.read_bytes() if isinstance(content, Path) else content
    if scheme != "gs" or not content:
        system.pipe_file(address, content, **options)
        return
    bucket, _, name = rest.partition("/")
    stored = system.call(
        "POST",
        f"{system._location}/upload/storage/v1/b/{urllib.parse.quote(bucket, safe='')}/o",
        uploadType="media",
        name=name,
        headers={"Content-Type": "application/octet-stream"},
        data=content,
        json_out=True,
    )
    if stored["md5Hash"] != base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode():
        raise OSError(errno.EIO, "other content has arrived than was sent")


def is_bucket_error(error: BaseException) -> bool:
    """Whether an error comes from the packages that reach a bucket."""
    return f"{type(error).__module__}.".startswith(_BUCKET_MODULES)


def reason(error: BaseException) -> str:
    """Returns what failed with a file or a bucket, in one line."""
    if isinstance(error, OSError) and error.strerror and not is_bucket_error(error):
        return error.strerror
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextlib.contextmanager
def bucket_errors(path: AnyPath) -> Iterator[None]:
    """Turns errors of the packages that reach a bucket into a UserError; those of missing files stay as they are."""
    try:
        yield
    except Exception as error:
        if isinstance(error, FileNotFoundError) or not is_bucket_error(error):
            raise
        raise UserError(f"{path} cannot be reached: {reason(error)}") from None


@contextlib.contextmanager
def storage(path: AnyPath, what: str, remedy: str = "") -> Iterator[None]:
    """Turns errors of files and buckets into a UserError: '{path} {what}: {reason}'; not that of a missing file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(*error.args) from None
    except Exception as error:
        if not isinstance(error, OSError) and not is_bucket_error(error):
            raise
        raise UserError(f"{path} {what}: {reason(error)}{remedy}") from None


def make_directory(path: AnyPath) -> None:
    """Makes a directory and those above it; a bucket needs none. Raises a UserError if it cannot be written."""
    if isinstance(path, Path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {reason(error)}") from None


def write_whole(path: AnyPath, content: bytes) -> None:
    """Writes a file completely or not at all, and its directory if it is missing.

    Raises:
      UserError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with storage(path, "cannot be written"):
            if isinstance(path, Path):
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    temporary.write_bytes(content)
                    temporary.replace(path)
                except OSError:
                    with contextlib.suppress(OSError):  # a full disk: leave its room to what comes next
                        temporary.unlink()
                    raise
            else:
                _put(os.fspath(path), content)
    except FileNotFoundError as error:  # also where a file has the place of its directory
        raise UserError(f"{path} cannot be written: {reason(error)}") from None


def read_whole(path: AnyPath) -> bytes:
    """Reads a file at one moment: an object of a bucket in a single request, while others may write it again.

    Raises:
      OSError: it is missing or cannot be read; in a bucket also what `bucket_errors` turns into a UserError.
    """
    return path.read_bytes() if isinstance(path, Path) else _of(path).cat_file(os.fspath(path))


def version(path: AnyPath) -> str | None:
    """Returns a text that changes when a file is written again, without reading the file; None if it is missing.

    Raises:
      OSError: it cannot be reached; in a bucket also what `bucket_errors` turns into a UserError.
    """
    try:
        if isinstance(path, Path):
            status = path.stat()
            return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"
        return _of(path).ukey(os.fspath(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def names_in(directory: AnyPath) -> list[str]:
    """Returns the names of what is in a directory, sorted; none if it is missing."""
    try:
        with storage(directory, "cannot be read"):
            if isinstance(directory, Path):
                return sorted(os.listdir(directory))
            found = _of(directory).ls(os.fspath(directory), detail=False)
            return sorted({name.rstrip("/").rpartition("/")[2] for name in found} - {directory.name, ""})
    except FileNotFoundError:
        return []


def upload(source: Path, target: AnyPath, commit: bool = False) -> None:
    """Copies a local directory, or one file, to a bucket.

    Args:
      source: the directory or file.
      target: its place in the bucket.
      commit: whether `COMMITTED` is written into the directory, after all else; one of the source is left out.

    Raises:
      UserError: the bucket cannot be written.
    """
    with storage(target, "cannot be written"):
        if source.is_file():
            _put(os.fspath(target), source)
            return
        files = sorted(path for path in source.rglob("*") if path.is_file())
        if commit:
            files = [path for path in files if path != source / COMMITTED]
        with concurrent.futures.ThreadPoolExecutor(_CONNECTIONS) as pool:
            # As a list, so that each of them has arrived.
            list(pool.map(_put, [f"{target}/{path.relative_to(source).as_posix()}" for path in files], files))
        if commit:
            _put(f"{target}/{COMMITTED}", b"")


def download(source: AnyPath, target: Path) -> None:
    """Copies a directory of a bucket to a local directory that does not exist yet.

    Raises:
      UserError: it cannot be read, or the disk is full.
      FileNotFoundError: it is missing.
    """
    names = files_below(source)
    if any(".." in name.split("/") for name in names):  # no name that leaves the target
        raise UserError(f"{source} has objects with '..' in their names")
    with storage(source, f"cannot be copied to {target}"):
        if not names:
            raise FileNotFoundError(os.fspath(source))
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
        _of(source).get([f"{source}/{name}" for name in names], [str(target / name) for name in names])


@contextlib.contextmanager
def local_copy(path: AnyPath) -> Iterator[Path]:
    """Gives a local file with the content of `path`: itself, or a copy of the object that is removed at the end."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="inception_jax-") as directory:
        local = Path(directory) / path.name
        with storage(path, "cannot be copied"):
            _of(path).get_file(os.fspath(path), str(local))
        yield local


@contextlib.contextmanager
def written(path: AnyPath) -> Iterator[Path]:
    """Gives a local path to write; what is then there, and beside it, is brought to the bucket if `path` is in one."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="inception_jax-") as directory:
        yield Path(directory) / path.name
        upload(Path(directory), path.parent)


def files_below(directory: AnyPath) -> list[str]:
    """Returns the paths of all files below a directory of a bucket, relative to it and sorted; see `objects_below`."""
    return list(objects_below(os.fspath(directory)))


def exists_below(directory: str) -> bool:
    """Whether there is anything below a directory of a bucket."""
    with storage(epath.Path(directory), "cannot be read"):
        return _of(epath.Path(directory)).isdir(directory)


def directories_in(directory: str) -> list[str]:
    """Returns the names of the directories in a directory of a bucket; none if it is missing."""
    with contextlib.suppress(FileNotFoundError), storage(epath.Path(directory), "cannot be listed"):
        found = _of(epath.Path(directory)).ls(directory, detail=True)
        names = (info["name"].rstrip("/").rpartition("/")[2] for info in found if info["type"] == "directory")
        return sorted(set(names) - {directory.rpartition("/")[2], ""})
    return []


def objects_below(directory: str) -> dict[str, str]:
    """Lists the objects below a directory of a bucket, at any depth.

    Returns:
      {path relative to the directory: version}, sorted. The version changes with the content: size and checksum.

    Raises:
      UserError: the bucket cannot be listed.
    """
    root = directory.partition("://")[2] + "/"
    with storage(epath.Path(directory), "cannot be listed"):
        found = _of(epath.Path(directory)).find(directory, detail=True)
    return {
        name.removeprefix(root): f"{info['size']} {info.get('ETag') or info.get('md5Hash') or info.get('etag')}"
        for name, info in sorted(found.items())
        if name.startswith(root)
    }


def read_objects(addresses: Sequence[str]) -> list[bytes | None]:
    """Reads many objects of one bucket at once; from any thread.

    fsspec repeats a request that fails for a reason that may pass.

    Args:
      addresses: 's3://bucket/name' or 'gs://bucket/name'.

    Returns:
      Their contents; None for one that does not exist.

    Raises:
      UserError: one cannot be read for another reason.
    """
    if not addresses:
        return []
    contents: list[bytes | None] = []
    scheme = addresses[0].partition("://")[0]
    options = {"max_concurrency": 1} if scheme == "s3" else {}  # else s3fs asks for the size before, a second request
    found = _filesystem(scheme).cat_ranges(list(addresses), None, None, on_error="return", **options)
    for address, content in zip(addresses, found, strict=True):
        if isinstance(content, FileNotFoundError):
            contents.append(None)
        elif isinstance(content, BaseException):
            raise UserError(f"{address} cannot be read: {reason(content)}")
        else:
            contents.append(content)
    return contents


def rename(source: AnyPath, target: AnyPath) -> None:
    """Renames a directory; in a bucket it is copied and removed."""
    if isinstance(source, Path):
        source.rename(target)
        return
    with tempfile.TemporaryDirectory(prefix="inception_jax-") as directory:  # s3fs cannot copy all directories
        download(source, Path(directory) / source.name)
        upload(Path(directory) / source.name, target)
    remove(source)


def remove(directory: AnyPath) -> None:
    """Removes a directory with all that is in it; in a bucket what makes it count goes first."""
    if isinstance(directory, Path):
        shutil.rmtree(directory, ignore_errors=True)
        return
    with storage(directory, "cannot be removed"), contextlib.suppress(FileNotFoundError):
        with contextlib.suppress(FileNotFoundError):
            _of(directory).rm_file(f"{directory}/{COMMITTED}")
        _of(directory).rm(os.fspath(directory), recursive=True)
