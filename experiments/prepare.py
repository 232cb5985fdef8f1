"""Small copies of a data set's images, written once, so that training reads small JPEGs.

python -m experiments.prepare --name=folder --dir=images --split=train --split=val --short-side=256 --out=DIR

The result is a TFDS data set in ArrayRecord files, in the order of the source; train on this one with
--config.data.name=images_256 --config.data.dir=DIR. A command that was stopped goes on when it is started again, and
one that left out damaged images tries them again.
"""

import argparse
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
import sys
import threading
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from PIL import ExifTags, Image
from tqdm import tqdm

from inception_jax.data.decoding import MAX_PIXELS, DamagedImage, decode_image
from inception_jax.data.sources import Source, check_same_classes, open_source
from inception_jax.data.tfds_directory import expanded
from inception_jax.errors import UserError
from inception_jax.names import check_utf8, text_of
from inception_jax.runtime import available_cores


def small_copy(data: bytes, name: str, short_side: int, quality: int, max_pixels: int = MAX_PIXELS) -> bytes:
    """Returns an image file whose shorter side is at most `short_side` pixels.

    A larger image is reduced, the longer side to floor(short_side * longer / shorter) as in evaluation, and written as
    JPEG. The filter is Lanczos', antialiased, and chroma is not subsampled (4:4:4): random crops are then closest to
    those of the original. On three photographs of 500 x 334 pixels, reduced to 256 at quality 95, that is 37.8 dB; it
    is 37.2 with the bicubic filter, 35.3 with the bilinear one, and 36.3 with 4:2:0, which is worse and larger than
    4:4:4 at quality 90 (36.9 dB).

    Others keep their pixels: a file that every reader understands alike (JPEG or PNG, grey or RGB of 8 bits, upright)
    is returned as it is, the rest becomes PNG.

    Args:
      data: the content of an image file, as for `decode_image`.
      name: what to call the image in an error.
      short_side: length of the shorter side in pixels.
      quality: of the JPEG, 1 to 100.
      max_pixels: an image of more counts as damaged.

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


def _features(class_names: tuple[str, ...]) -> tfds.features.FeaturesDict:
    image = tfds.features.Image(encoding_format="jpeg")
    return tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(names=list(class_names))})


@dataclasses.dataclass(frozen=True)
class _Shard:
    """One file: the images `first` to `end` - 1 of a split."""

    split: str
    path: Path
    first: int
    end: int


@dataclasses.dataclass(frozen=True)
class _Job:
    """What each worker has. `seen` counts images over all workers; they give up when `stop` is set."""

    sources: dict[str, Source]
    short_side: int
    quality: int
    max_pixels: int
    seen: Any
    stop: Any


def _start_worker(job: _Job) -> None:
    global _job
    _job = job
    parent = multiprocessing.parent_process()
    if parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and sets `stop`
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()  # leave no orphans


def _write(shard: _Shard) -> dict:
    """Returns the shard's entry in prepare.json: counts, bytes of images, {damaged image: reason}."""
    source = _job.sources[shard.split]
    features = _features(source.class_names)
    serializer = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())
    entry = {"images": 0, "unchanged": 0, "bytes_before": 0, "bytes_after": 0, "damaged": {}}
    temporary = shard.path.with_name(f"{shard.path.name}.{os.getpid()}.tmp")  # two commands may run
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
    except RuntimeError as error:  # all that ArrayRecord raises, for instance when the disk is full
        raise UserError(f"{shard.path.name} cannot be written: {error}") from error
    temporary.rename(shard.path)
    return entry


def _write_all(shards: list[_Shard], job: _Job, processes: int, finish: Callable, bar: tqdm) -> None:
    """Writes shards in parallel; calls `finish(shard, entry)` in this process as they come."""
    start = {"initializer": _start_worker, "initargs": (job,)}
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
        raise UserError("a worker was killed, perhaps for lack of memory: start again with fewer --processes") from None
    finally:
        job.stop.set()
        pool.shutdown(cancel_futures=True)


def prepare(
    sources: dict[str, Source],
    directory: Path,
    *,
    short_side: int,
    quality: int = 95,
    shards: int | None = None,
    processes: int = 1,
    max_pixels: int = MAX_PIXELS,
    **origin: str,
) -> dict[str, dict]:
    """Writes a TFDS data set, or what is missing of it.

    Beside its files stands prepare.json, with the options and what is in each finished file. A file that lacks damaged
    images counts as missing. The metadata, without which TFDS sees no data set, are written last.

    Args:
      sources: by split.
      directory: DATA_DIR/NAME/1.0.0.
      short_side: see `small_copy`.
      quality: see `small_copy`.
      shards: files of a split; by default one for 5,000 images (some 200 MB at 256 pixels), but at least 8.
      processes: that work at once.
      max_pixels: see `small_copy`; with another number those images are tried again that were damaged.
      **origin: what else the images depend on; noted, and compared when the command is started again.

    Returns:
      For each split {'images', 'unchanged', 'bytes_before', 'bytes_after', 'damaged', 'shards'}: images written, those
      of them whose files are the source's, their bytes, {name: reason}, number of files.

    Raises:
      UserError: more than 1 % of a split is damaged, the directory holds something else, or it is full.
      OSError: it cannot be written to.
    """
    from inception_jax.data.loader import DamageReport  # brings in JAX, which the workers need not import

    names = {split: "\n".join(map(source.name, range(len(source)))) for split, source in sources.items()}
    hashes = {split: hashlib.sha256(text.encode()).hexdigest() for split, text in names.items()}
    options = {"short_side": short_side, "quality": quality, "shards": shards, **origin, "files": hashes}
    record = directory / "prepare.json"
    entries = _entries(record, options)

    plan = {}
    for split, source in sources.items():
        count = min(len(source), shards or max(8, math.ceil(len(source) / 5000)))
        paths = [directory / f"{directory.parent.name}-{split}.array_record-{i:05}-of-{count:05}" for i in range(count)]
        bounds = [len(source) * i // count for i in range(count + 1)]
        plan[split] = [_Shard(split, *shard) for shard in zip(paths, bounds[:-1], bounds[1:], strict=True)]
    complete = {name for name, entry in entries.items() if not entry["damaged"] and (directory / name).exists()}
    missing = [shard for split in sources for shard in plan[split] if shard.path.name not in complete]

    damage = {split: DamageReport(source) for split, source in sources.items()}

    def finish(shard: _Shard, entry: dict) -> None:
        for name, reason in entry["damaged"].items():
            damage[shard.split].add(DamagedImage(name, reason))
        entries[shard.path.name] = entry
        _save(record, options, entries)
        if bar.disable:
            print(f"{shard.path.name}: {entry['images']} images", file=sys.stderr, flush=True)

    if missing:
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("features.json", "dataset_info.json"):  # TFDS looks for the first, and then reads the second
            (directory / name).unlink(missing_ok=True)
        _save(record, options, entries)
        context = multiprocessing.get_context("spawn")
        total = sum(map(len, sources.values()))
        seen = total - sum(shard.end - shard.first for shard in missing)
        job = _Job(sources, short_side, quality, max_pixels, context.Value("q", seen), context.Event())
        with tqdm(total=total, initial=seen, unit=" images", disable=None) as bar:  # None: on a terminal only
            _write_all(missing, job, processes, finish, bar)

    summary, infos = {}, []
    for split, source in sources.items():
        of_split = [entries[shard.path.name] for shard in plan[split]]
        lengths = [_checked_length(shard.path, entries[shard.path.name]["images"]) for shard in plan[split]]
        counts = ("images", "unchanged", "bytes_before", "bytes_after")
        values = {key: sum(entry[key] for entry in of_split) for key in counts}
        values["damaged"] = {name: reason for entry in of_split for name, reason in entry["damaged"].items()}
        assert sum(lengths) == values["images"] == len(source) - len(values["damaged"])
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=values["bytes_after"]))
        summary[split] = {**values, "shards": len(lengths)}
    if not (directory / "dataset_info.json").exists():
        # check_data would need TensorFlow.
        features = _features(source.class_names)
        tfds.folder_dataset.write_metadata(
            data_dir=directory, features=features, split_infos=infos, check_data=False, disable_shuffling=True
        )
        for left_over in directory.glob("*.tmp"):  # of commands that were killed
            left_over.unlink()
    return summary


def _entries(record: Path, options: dict) -> dict[str, dict]:
    """What prepare.json says of each finished file, or UserError if it was begun with other options."""
    if not record.exists():
        if record.parent.exists() and any(record.parent.iterdir()):
            raise UserError(f"{record.parent} was not written by this command: choose another --out-name")
        return {}
    begun = json.loads(record.read_text(encoding="utf-8"))
    for key, value in options.items():
        before = begun["options"].get(key)
        if before != value:
            change = "other splits or files" if key == "files" else f"{key}={before!r} instead of {value!r}"
            raise UserError(f"{record.parent} was begun with {change}: keep to it, or choose another --out-name")
    return begun["entries"]


def _save(record: Path, options: dict, entries: dict) -> None:
    temporary = record.with_name(f"{record.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps({"options": options, "entries": entries}, indent=1) + "\n", encoding="utf-8")
    temporary.replace(record)


def _checked_length(path: Path, images: int) -> int:
    records = ArrayRecordReader(str(path)).num_records()  # 0 if the file is damaged
    if records != images:
        raise UserError(f"{path} should hold {images} records, not {records}: delete it and start again")
    return records


def _run(arguments: argparse.Namespace) -> dict:
    name, data_dir = arguments.name, arguments.dir and os.path.abspath(expanded(arguments.dir))
    if name == "synthetic":
        raise UserError("'synthetic' has no image files")
    for split in arguments.split:
        if not re.fullmatch(r"[\w-]+", split):
            raise UserError(f"--split={split}: give the name of a whole split")
    stem = os.path.basename(data_dir) if name == "folder" else name.partition(":")[0]
    out_name = arguments.out_name or re.sub(r"\W+", "_", f"{stem}_{arguments.short_side}".lower(), flags=re.ASCII)
    taken = {"folder", "synthetic", "digits", "glyphs", *tfds.list_builders(with_community_datasets=False)}
    if not re.fullmatch(r"[a-z]\w*", out_name, re.ASCII) or out_name in taken:
        raise UserError(f"{out_name!r} cannot name a new data set: choose an --out-name such as 'images_256'")
    sources = {split: open_source(name, split, data_dir) for split in arguments.split}
    for other in sources.values():
        check_same_classes(sources[arguments.split[0]], other)
    directory = Path(expanded(arguments.out)) / out_name / "1.0.0"
    check_utf8(directory)
    options = {key: getattr(arguments, key) for key in ("short_side", "quality", "shards", "processes", "max_pixels")}
    splits = prepare(sources, directory, **options, name=name, dir=text_of(data_dir))
    return {"name": out_name, "dir": str(directory.parents[1]), "splits": splits}


def _integer(most: float) -> Callable[[str], int]:
    def integer(text: str) -> int:
        if not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between 1 and {most}")
        return int(text)

    return integer


def main() -> int:
    """Returns the exit status: 0, 2 for bad input, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="'folder' or a data set of TFDS, as --config.data.name")
    parser.add_argument("--dir", default="", help="the folder, or TFDS's directory, as --config.data.dir")
    parser.add_argument("--split", required=True, action="append", help="may be given several times")
    parser.add_argument("--short-side", required=True, type=_integer(99_999), help="in pixels, at most")
    parser.add_argument("--out", required=True, help="directory to write to, --config.data.dir of the training")
    parser.add_argument("--out-name", help="--config.data.name of the training (default: for instance images_256)")
    parser.add_argument("--quality", type=_integer(100), default=95, help="of JPEGs, 1 to 100 (default: 95)")
    parser.add_argument("--shards", type=_integer(99_999), help="files of each split (default: 8, or n / 5000)")
    parser.add_argument("--processes", type=_integer(99_999), default=available_cores(), help="(default: one a core)")
    parser.add_argument("--max-pixels", type=_integer(math.inf), default=MAX_PIXELS, help="larger images count as "
        "damaged (default: %(default)s)")  # fmt: skip
    parser.add_argument("--json", type=Path, help="file to write the summary to")
    arguments = parser.parse_args()
    try:
        summary = _run(arguments)
        if arguments.json:
            arguments.json.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        return 130
    for split, values in summary["splits"].items():
        before, after = (values[key] / 1e6 for key in ("bytes_before", "bytes_after"))
        print(
            f"{split}: {values['images']:,} images, {before:,.1f} MB -> {after:,.1f} MB in {values['shards']} files; "
            f"{values['unchanged']:,} unchanged, {len(values['damaged']):,} damaged"
        )
        for name, reason in values["damaged"].items():
            print(f"  left out {name}: {reason}")
    print(f"train on it with --config.data.name={summary['name']} --config.data.dir={summary['dir']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
