"""Finds image files in folders, of a disk or of a bucket."""

import os
from collections.abc import Callable

from inception_jax import paths
from inception_jax.data.decoding import IMAGE_SUFFIXES
from inception_jax.names import native_path
from inception_jax.paths import is_bucket


def is_folder(path: str) -> bool:
    """Whether there is a directory; in a bucket: whether anything is below `path`."""
    if is_bucket(path):
        return paths.exists_below(path)
    return os.path.isdir(path)


def directories(parent: str) -> list[str]:
    """Returns the names of the directories in a directory, sorted, without hidden ones."""
    if is_bucket(parent):
        found = [native_path(name) for name in paths.directories_in(parent)]
    else:
        found = [entry.name for entry in os.scandir(parent) if _is_directory(entry)]
    return sorted(name for name in found if not name.startswith("."))


def _is_directory(entry: os.DirEntry) -> bool:
    # DirEntry.is_dir() raises OSError for a link that leads to itself.
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def is_image(path: str) -> bool:
    """Whether the name is that of an image that is not hidden."""
    name = path.rpartition("/")[2]
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def image_files(directory: str, fail: Callable[[OSError], None]) -> dict[str, str]:
    """Finds the images below a directory, at any depth.

    Images are recognised by suffix. Hidden files and directories are left out, and so is anything but a regular file,
    such as a pipe. A link that is broken or leads to itself counts as a (damaged) image.

    Args:
      directory: directory to search.
      fail: called with the error for each directory that cannot be read.

    Returns:
      {path: version}, sorted. The version changes with the content in a bucket; it is '' on a disk.

    Raises:
      UserError: a bucket cannot be read.
    """
    if is_bucket(directory):
        return {
            f"{directory}/{native_path(name)}": version
            for name, version in paths.objects_below(directory).items()
            if is_image(name) and "/." not in f"/{name}"
        }
    images, unread = [], [directory]
    while unread:
        try:
            entries = list(os.scandir(unread.pop()))
        except OSError as error:
            fail(error)
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                unread.append(entry.path)
            elif is_image(entry.name) and _is_file(entry):
                images.append(entry.path)
    return dict.fromkeys(sorted(images), "")


def _is_file(entry: os.DirEntry) -> bool:
    if entry.is_symlink():  # os.path.exists is false for a link that leads nowhere or to itself
        return os.path.isfile(entry.path) or not os.path.exists(entry.path)
    return entry.is_file()
