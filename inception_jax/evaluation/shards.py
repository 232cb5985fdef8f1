"""Results for very many images, as files of a directory that any number of machines fill, and that can be resumed.

The images, in their order, are divided into shards of a fixed number. A shard is one file, and beside it a marker,
`NAME.json`, that is written last and makes it valid. So no file system has to rename, lock or append. What the results
depend on is in `manifest.json`; a directory holds results of one kind.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO

from etils import epath

from inception_jax.console import plural
from inception_jax.errors import UserError
from inception_jax.names import readable, text_of

_MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Shards:
    """Shards of one directory.

    Attributes:
      directory: that holds them.
      manifest: what all results depend on, with 'images', 'names_sha256', 'shard_size' and 'suffix'.
    """

    directory: epath.Path
    manifest: Mapping[str, Any]

    @property
    def count(self) -> int:
        """Number of shards."""
        return -(-self.manifest["images"] // self.manifest["shard_size"])

    def positions(self, number: int) -> range:
        """Returns the positions of a shard's images in the list."""
        size = self.manifest["shard_size"]
        return range(number * size, min((number + 1) * size, self.manifest["images"]))

    def file(self, number: int) -> epath.Path:
        """Returns the file of a shard; numbers begin with 0, names with 1."""
        return self.directory / f"{number + 1:06d}-of-{self.count:06d}{self.manifest['suffix']}"

    def missing(self, index: int = 0, count: int = 1) -> list[int]:
        """Returns the shards to be made by machine `index` of `count`: each count-th, but those that are complete."""
        return [number for number in range(index, self.count, count) if self.marker(number) is None]

    def marker(self, number: int) -> dict[str, Any] | None:
        """Returns the marker of a shard; None if it is missing, or its file has not the length that it says."""
        try:
            marker = json.loads(self._marker(number).read_text(encoding="utf-8"))
            return marker if self.file(number).stat().length == marker["bytes"] else None
        except (OSError, ValueError, KeyError):
            return None

    def write(self, number: int, names: Sequence[str], unread: int, write: Callable[[BinaryIO], Any]) -> None:
        """Writes a shard and then its marker.

        Args:
          number: of the shard.
          names: of all its images.
          unread: how many of them could not be read.
          write: writes the content to a file.

        Raises:
          UserError: the directory cannot be written.
        """
        file = self.file(number)
        try:
            with file.open("wb") as target:
                write(target)
            content = {"bytes": file.stat().length, "sha256": _sha256_of(file)}
            marker = {"images": len(names), "unread": unread, "names_sha256": names_sha256(names)} | content
            self._marker(number).write_text(json.dumps(marker), encoding="utf-8")
        except OSError as error:
            raise UserError(f"{file} cannot be written: {error.strerror or error}") from None

    def check(self) -> int:
        """Verifies that every image of the manifest is in exactly one complete shard; returns how many are unread.

        Raises:
          UserError: a shard is missing or damaged, or holds other images.
        """
        missing = self.missing()
        if missing:
            few = ", ".join(str(number + 1) for number in missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise UserError(
                f"{self.directory}: {len(missing)} of {plural(self.count, 'shard')} are missing ({few}); "
                "rerun the command that makes them"
            )
        markers: list[Any] = [self.marker(number) for number in range(self.count)]
        for number, marker in enumerate(markers):
            if _sha256_of(self.file(number)) != marker["sha256"]:
                raise UserError(f"{self.file(number)} is damaged: remove it, and rerun the command that makes it")
        names = [marker["names_sha256"] for marker in markers]
        images = sum(marker["images"] for marker in markers)
        if images != self.manifest["images"] or _sha256_of_parts(names) != self.manifest["names_sha256"]:
            raise UserError(f"{self.directory} holds {images:,} images that are not those of its {_MANIFEST}")
        return sum(marker["unread"] for marker in markers)

    def _marker(self, number: int) -> epath.Path:
        return self.directory / f"{self.file(number).name}.json"


def open_shards(
    directory: str | os.PathLike, names: Sequence[str], shard_size: int, suffix: str, identity: Mapping[str, Any]
) -> Shards:
    """Opens a directory for the results of these images, or makes it.

    Args:
      directory: may be in a bucket.
      names: of all images, in their order, the same on every machine.
      shard_size: number of images in a shard.
      suffix: of the shards' files.
      identity: what else the results depend on, JSON.

    Raises:
      UserError: the directory holds results of another kind or of other images, or cannot be written.
    """
    parts = [names_sha256(names[start : start + shard_size]) for start in range(0, len(names), shard_size)]
    images = {"images": len(names), "shard_size": shard_size, "suffix": suffix}
    manifest = json.loads(json.dumps({**identity, **images, "names_sha256": _sha256_of_parts(parts)}))
    place = epath.Path(os.fspath(directory))
    try:
        place.mkdir(parents=True, exist_ok=True)
        found = _manifest(place)
        if found is not None:
            different = [key for key in {**manifest, **found} if found.get(key) != manifest.get(key)]
            if different:
                key = different[0]
                raise UserError(
                    f"{directory} was begun with {key}={found.get(key)!r}, and now it is {manifest.get(key)!r}; "
                    "use another directory"
                )
        else:
            (place / _MANIFEST).write_text(
                json.dumps(manifest, indent=1), encoding="utf-8"
            )  # all machines write the same
    except OSError as error:
        raise UserError(f"{directory} cannot be written: {error.strerror or error}") from None
    return Shards(place, manifest)


def read_shards(directory: str | os.PathLike) -> Shards:
    """Opens a directory of `open_shards` to read it; raises UserError if it is none."""
    place = epath.Path(os.fspath(directory))
    manifest = _manifest(place)
    if manifest is None:
        raise UserError(f"{directory} has no readable {_MANIFEST}: it is no directory of shards")
    return Shards(place, manifest)


def _manifest(place: epath.Path) -> dict[str, Any] | None:
    """The manifest; None if it is missing or torn, as by a machine that was stopped while it wrote."""
    try:
        return json.loads((place / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def names_sha256(names: Iterable[str]) -> str:
    """Returns a checksum of names in their order."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(readable(text_of(name)).encode() + b"\0")
    return digest.hexdigest()


def _sha256_of_parts(parts: Iterable[str]) -> str:
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _sha256_of(file: epath.Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
