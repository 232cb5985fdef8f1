"""Writes small copies of a dataset's images once, so that training reads small JPEG files.

The copies are a TFDS dataset in ArrayRecord files, in the order of the source.
"""

import concurrent.futures
import dataclasses
import hashlib
import io
import json
import math
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from inception_jax import console
from inception_jax.data.decoding import DamagedImage, decode_image
from inception_jax.data.sources import Source, check_same_classes, known_names, open_source
from inception_jax.data.tfds_directory import expanded
from inception_jax.errors import UserError
from inception_jax.names import check_utf8, text_of
from inception_jax.paths import is_bucket

_RECORD = "prepare.json"  # beside the files: the options, and an entry for each finished file


def prepare_dataset(
    name: str, splits: Sequence[str], data_dir: str, *, out: str, out_name: str = "", **options
) -> dict[str, Any]:
    """Writes small copies of a dataset under a new name; resumes what an earlier call has begun.

    Args:
      name: 'folder' or a TFDS dataset, see `open_source`.
      splits: names of whole splits.
      data_dir: the image folder or TFDS's directory, see `open_source`.
      out: directory to write to, the `data_dir` of the new dataset.
      out_name: name of the new dataset; default: made from the source and the short side, such as 'images_256'.
      **options: those of `prepare` but `origin`.

    Returns:
      {'name', 'dir', 'splits'}: name and `data_dir` of the new dataset, and the result of `prepare`.

    Raises:
      UserError: an argument is invalid, the data cannot be read, or see `prepare`.
      OSError: `out` cannot be written to.
    """
    if is_bucket(out):
        raise UserError(f"out={out} must be a local directory: ArrayRecord files are not written to a bucket; copy it")
    if data_dir and not is_bucket(data_dir):
        data_dir = os.path.abspath(expanded(data_dir))
    if name == "synthetic":
        raise UserError("name='synthetic' has no image files; choose another dataset")
    for split in splits:
        if not re.fullmatch(r"[\w-]+", split):
            raise UserError(f"split={split!r} must be the name of a whole split")
    stem = os.path.basename(data_dir.rstrip("/")) if name == "folder" else name.partition(":")[0]
    out_name = out_name or re.sub(r"\W+", "_", f"{stem}_{options['short_side']}".lower(), flags=re.ASCII)
    if not re.fullmatch(r"[a-z]\w*", out_name, re.ASCII) or out_name in known_names():
        raise UserError(f"out_name={out_name!r} cannot name a new dataset; choose a name such as 'images_256'")
    sources = {split: open_source(name, split, data_dir) for split in splits}
    for other in sources.values():
        check_same_classes(sources[splits[0]], other)
    directory = Path(expanded(out)) / out_name / "1.0.0"
    check_utf8(directory)
    origin = {"name": name, "dir": text_of(data_dir)}
    return {
        "name": out_name,
        "dir": str(directory.parents[1]),
        "splits": prepare(sources, directory, origin=origin, **options),
    }


def prepare(
    sources: dict[str, Source],
    directory: Path,
    *,
    short_side: int,
    quality: int,
    shards: int | None,
    processes: int,
    max_pixels: int,
    origin: dict[str, str],
    say: Callable[[str], None],
) -> dict[str, dict]:
    """Writes small copies of images as a TFDS dataset; resumes what an earlier call has begun.

    Files that are already complete are kept. Files that lack damaged images are written again. The metadata files,
    without which TFDS finds no dataset, come last.

    Args:
      sources: source of each split.
      directory: DATA_DIR/NAME/1.0.0.
      short_side: see `small_copy`.
      quality: see `small_copy`.
      shards: number of files per split; None: one per 5,000 images (some 200 MB at 256 pixels), but at least 8.
      processes: number of processes that work in parallel.
      max_pixels: see `small_copy`.
      origin: says where the images come from; recorded, and compared on resuming.
      say: called with a line for each finished file, unless a bar shows the progress on a terminal.

    Returns:
      For each split {'images', 'unchanged', 'bytes_before', 'bytes_after', 'damaged', 'shards'}: number of images
      written, how many of them are the source's bytes, sizes before and after, {name: reason}, number of files.

    Raises:
      UserError: an argument is invalid, more than 1 % of a split is damaged, `directory` holds something else or was
        begun with other options, or a file is damaged or cannot be written.
      OSError: `directory` cannot be written to.
    """
    from inception_jax.data.loader import DamageReport  # not at the top: workers do not need Grain

    if not 1 <= quality <= 100:
        raise UserError(f"quality={quality} must be between 1 and 100")
    names = {split: "\n".join(map(source.name, range(len(source)))) for split, source in sources.items()}
    hashes = {split: hashlib.sha256(text.encode()).hexdigest() for split, text in names.items()}
    options = {"short_side": short_side, "quality": quality, "shards": shards, **origin, "files": hashes}
    entries = _read_entries(directory, options)
    plan = {split: _plan(split, len(source), shards, directory) for split, source in sources.items()}
    complete = {name for name, entry in entries.items() if not entry["damaged"] and (directory / name).exists()}
    missing = [shard for of_split in plan.values() for shard in of_split if shard.path.name not in complete]

    damage = {split: DamageReport(source) for split, source in sources.items()}

    def finish(shard: _Shard, entry: dict) -> None:
        for name, reason in entry["damaged"].items():
            damage[shard.split].add(DamagedImage(name, reason))
        entries[shard.path.name] = entry
        _save_record(directory, options, entries)
        if bar.disable:
            say(f"{shard.path.name}: {entry['images']} images")

    if missing:
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("features.json", "dataset_info.json"):  # TFDS looks for the first, then reads the second
            (directory / name).unlink(missing_ok=True)
        _save_record(directory, options, entries)
        context = multiprocessing.get_context("spawn")
        total = sum(map(len, sources.values()))
        seen = total - sum(shard.end - shard.first for shard in missing)
        job = _Job(sources, short_side, quality, max_pixels, context.Value("q", seen), context.Event())
        with console.bar(total=total, initial=seen, unit=" images", disable=None) as bar:  # None: on a terminal only
            _write_all(missing, job, processes, finish, bar)

    summary, lengths = {}, {}
    for split, source in sources.items():
        of_split = [entries[shard.path.name] for shard in plan[split]]
        lengths[split] = [_checked_length(shard.path, entries[shard.path.name]["images"]) for shard in plan[split]]
        counts = ("images", "unchanged", "bytes_before", "bytes_after")
        values = {key: sum(entry[key] for entry in of_split) for key in counts}
        values["damaged"] = {name: reason for entry in of_split for name, reason in entry["damaged"].items()}
        assert sum(lengths[split]) == values["images"] == len(source) - len(values["damaged"])
        summary[split] = {**values, "shards": len(of_split)}
    if not (directory / "dataset_info.json").exists():
        _write_metadata(directory, source.class_names, lengths, summary)
        for left_over in directory.glob("*.tmp"):  # by commands that were killed
            left_over.unlink()
    return summary


def small_copy(data: bytes, name: str, short_side: int, quality: int, max_pixels: int) -> bytes:
    """Returns an image file whose shorter side is at most `short_side` pixels.

    A larger image is reduced and written as JPEG; its longer side becomes floor(short_side * longer / shorter), as in
    evaluation. The filter is Lanczos, antialiased, and chroma is not subsampled (4:4:4): random crops are then closest
    to those of the original. On three photographs of 500 x 334 pixels, reduced to 256 at quality 95, that gives
    37.8 dB. The bicubic filter gives 37.2 dB, the bilinear one 35.3 dB. Subsampling 4:2:0 gives 36.3 dB, and is both
    worse and larger than 4:4:4 at quality 90 (36.9 dB).

    Other images keep their pixels. A file that every reader understands in the same way (JPEG or PNG, 8-bit grey or
    RGB, upright) is returned unchanged; the rest becomes PNG.

    Args:
      data: content of an image file, see `decode_image`.
      name: what errors call the image.
      short_side: length of the shorter side in pixels.
      quality: JPEG quality, 1 to 100.
      max_pixels: an image of more pixels counts as damaged.

    Raises:
      DamagedImage: the image cannot be decoded.
    """
    pixels = decode_image(data, name, max_pixels)
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    file = io.BytesIO()
    if shorter > short_side:
        size = (short_side * width // shorter, short_side * height // shorter)
        small = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
        small.save(file, "JPEG", quality=quality, subsampling="4:4:4")
    elif _is_plain(data):
        return data
    else:
        Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _is_plain(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            return image.mode in ("L", "RGB") and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    except Exception:  # other formats; odd metadata: SyntaxError, struct.error, ...
        return False


@dataclasses.dataclass(frozen=True)
class _Shard:
    """One file: images `first` to `end` - 1 of a split."""

    split: str
    path: Path
    first: int
    end: int


def _plan(split: str, images: int, shards: int | None, directory: Path) -> list[_Shard]:
    count = min(images, shards or max(8, math.ceil(images / 5000)))
    paths = [directory / f"{directory.parent.name}-{split}.array_record-{i:05}-of-{count:05}" for i in range(count)]
    bounds = [images * i // count for i in range(count + 1)]
    return [_Shard(split, *shard) for shard in zip(paths, bounds[:-1], bounds[1:], strict=True)]


@dataclasses.dataclass(frozen=True)
class _Job:
    """What every worker gets. `seen` counts images over all workers; they stop when `stop` is set."""

    sources: dict[str, Any]
    short_side: int
    quality: int
    max_pixels: int
    seen: Any
    stop: Any


_job: _Job  # of this worker


def _write_all(shards: list[_Shard], job: _Job, processes: int, finish: Callable, bar) -> None:
    """Writes shards in parallel; calls `finish(shard, entry)` in this process for each finished one."""
    start: dict[str, Any] = {"initializer": _start_worker, "initargs": (job,)}
    pool: concurrent.futures.Executor
    if processes == 1:
        pool = concurrent.futures.ThreadPoolExecutor(1, **start)
    else:  # not forked, because readers have threads
        context = multiprocessing.get_context("spawn")
        pool = concurrent.futures.ProcessPoolExecutor(min(processes, len(shards)), context, **start)
    try:
        pending = {pool.submit(_write, shard): shard for shard in shards}
        while pending:
            done, _ = concurrent.futures.wait(pending, 0.5, concurrent.futures.FIRST_COMPLETED)
            bar.update(job.seen.value - bar.n)
            for future in done:
                finish(pending.pop(future), future.result())
    except BrokenProcessPool:
        raise UserError(
            f"processes={processes}: a worker was killed, perhaps for lack of memory; use fewer processes"
        ) from None
    finally:
        job.stop.set()
        pool.shutdown(cancel_futures=True)


def _start_worker(job: _Job) -> None:
    global _job
    _job = job
    parent = multiprocessing.parent_process()
    if parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and sets `stop`
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    """Ends this process when its parent ends."""
    parent.join()
    os._exit(1)


def _write(shard: _Shard) -> dict:
    """Writes a shard; returns its entry in the record: counts, bytes of images, {damaged image: reason}."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter

    source = _job.sources[shard.split]
    features = _features(source.class_names)
    serializer = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())
    entry: dict[str, Any] = {"images": 0, "unchanged": 0, "bytes_before": 0, "bytes_after": 0, "damaged": {}}
    temporary = shard.path.with_name(f"{shard.path.name}.{os.getpid()}.tmp")  # two commands may run at once
    try:
        writer = ArrayRecordWriter(str(temporary), "group_size:1")  # a record is read without its neighbours
        for index in range(shard.first, shard.end):
            if _job.stop.is_set():
                raise concurrent.futures.CancelledError
            with _job.seen.get_lock():
                _job.seen.value += 1
            try:
                data, label = source.encoded(index)
                small = small_copy(data, source.name(index), _job.short_side, _job.quality, _job.max_pixels)
            except DamagedImage as damaged:
                entry["damaged"][damaged.name] = damaged.reason
                continue
            example = serializer.get_tf_example(features.encode_example({"image": small, "label": label}))
            writer.write(example.SerializeToString(deterministic=True))
            entry["images"] += 1
            entry["unchanged"] += small is data
            entry["bytes_before"] += len(data)
            entry["bytes_after"] += len(small)
        writer.close()
    except RuntimeError as error:  # ArrayRecord raises nothing else, for instance when the disk is full
        raise UserError(f"{shard.path.name} cannot be written: {error}") from error
    temporary.rename(shard.path)
    return entry


def _features(class_names: tuple[str, ...]):
    import tensorflow_datasets as tfds

    image = tfds.features.Image(encoding_format="jpeg")
    return tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(names=list(class_names))})


def _write_metadata(
    directory: Path, class_names: tuple[str, ...], lengths: dict[str, list[int]], summary: dict[str, dict]
) -> None:
    import tensorflow_datasets as tfds

    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=_features(class_names),
        split_infos=[
            tfds.core.SplitInfo(name=split, shard_lengths=lengths[split], num_bytes=summary[split]["bytes_after"])
            for split in summary
        ],
        check_data=False,  # it would need TensorFlow
        disable_shuffling=True,
    )


def _read_entries(directory: Path, options: dict) -> dict[str, dict]:
    """Returns the record's entry of each finished file; raises UserError if it was begun with other options."""
    record = directory / _RECORD
    if not record.exists():
        if directory.exists() and any(directory.iterdir()):
            raise UserError(f"{directory} holds a dataset that was not prepared here; choose another name")
        return {}
    begun = json.loads(record.read_text(encoding="utf-8"))
    for key, value in options.items():
        before = begun["options"].get(key)
        if before != value:
            change = "other splits or files" if key == "files" else f"{key}={before!r} instead of {value!r}"
            raise UserError(f"{directory} was begun with {change}; use the same, or choose another name")
    return begun["entries"]


def _save_record(directory: Path, options: dict, entries: dict) -> None:
    temporary = directory / f"{_RECORD}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps({"options": options, "entries": entries}, indent=1) + "\n", encoding="utf-8")
    temporary.replace(directory / _RECORD)


def _checked_length(path: Path, images: int) -> int:
    from array_record.python.array_record_module import ArrayRecordReader

    records = ArrayRecordReader(str(path)).num_records()  # 0 if the file is damaged
    if records != images:
        raise UserError(f"{path} should hold {images} records, not {records}; delete it and rerun")
    return records
