"""Damages image files in every way and decodes them, in a process of its own: python -m tests.data.mutants COUNT.

Prints a line for each file as it begins (so the last line names the file of a crash), then figures as JSON.
"""

import faulthandler
import io
import json
import random
import resource
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from inception_jax.data.decoding import DamagedImage, PlainJpeg, decode_image, open_image

_LIMIT = 60  # seconds of one file, after which the process ends with a traceback
_EXTREME = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def samples() -> dict[str, bytes]:
    """Returns small files of all kinds by name; the first word is the format."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    picture = Image.fromarray(np.kron(pixels, np.ones((5, 5, 1), np.uint8)))  # 60 x 80
    grey, palette = picture.convert("L"), picture.quantize(32)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    tags = Image.Exif()
    tags[0x0112] = 6
    frames = {"save_all": True, "append_images": [picture.rotate(180), picture.rotate(90)]}
    kinds = {
        "JPEG": (picture, {}),
        "JPEG progressive": (picture, {"progressive": True, "subsampling": 0}),
        "JPEG restarts": (picture, {"restart_marker_blocks": 3, "exif": tags, "comment": b"x"}),
        "JPEG grey": (grey, {}),
        "JPEG cmyk": (picture.convert("CMYK"), {}),
        "PNG": (picture, {"exif": tags}),
        "PNG palette": (palette, {"transparency": 3}),
        "PNG 16 bits": (deep, {}),
        "PNG animated": (picture, frames),
        "WEBP": (picture, {"exif": tags}),
        "WEBP lossless": (picture.convert("RGBA"), {"lossless": True}),
        "WEBP animated": (picture, frames),
        "GIF": (palette, {}),
        "GIF interlaced": (grey, {"interlace": 1, "comment": b"x" * 300}),
        "GIF animated": (palette, {"save_all": True, "append_images": [palette.rotate(180)]}),
        "TIFF": (picture, {}),
        "TIFF lzw": (picture, {"compression": "tiff_lzw"}),
        "TIFF deflate": (deep, {"compression": "tiff_adobe_deflate"}),
        "TIFF jpeg": (picture, {"compression": "jpeg"}),
        "TIFF fax": (picture.convert("1"), {"compression": "group4"}),
        "TIFF frames": (picture, frames),
    }
    return {kind: _encoded(image, kind.partition(" ")[0], options) for kind, (image, options) in kinds.items()}


def _encoded(image: Image.Image, image_format: str, options: dict) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def mutant(files: dict[str, bytes], seed: int) -> tuple[str, bytes]:
    """Returns the kind of a file, and its content with one to eight damages; the same for the same seed."""
    rng = random.Random(seed)
    kind = list(files)[seed % len(files)]
    data = bytearray(files[kind])
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        # Half of the damages hit the header, which is short.
        place = rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 300))
        other = files[rng.choice(list(files))]
        start, count = rng.randrange(len(other)), rng.randrange(1, 60)
        match rng.randrange(9):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place] = rng.randrange(256)
            case 2:  # truncated
                data = data[: max(1, place)]
            case 3:  # spliced: the end of another file
                data[place:] = other[start:]
            case 4:
                data[place:place] = other[start : start + count]
            case 5:
                data[place:place] = rng.randbytes(count)
            case 6:
                del data[place : place + count]
                data = data or bytearray(1)
            case 7:
                data[place : place + count] = data[place : place + count] * 2
            case 8:  # a number that is extreme
                width, order = rng.choice((1, 2, 4)), rng.choice(("big", "little"))
                data[place : place + width] = (rng.choice(_EXTREME) % 256**width).to_bytes(width, order)
    is_checked = data[:4] == b"\x89PNG" and rng.random() < 0.7
    return kind, _with_checksums(bytes(data)) if is_checked else bytes(data)


def _with_checksums(png: bytes) -> bytes:
    """A PNG with the checksums of its damaged chunks, so that the damage is read and not only found."""
    parts, at = [png[:8]], 8
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        parts.append(png[at:end] + zlib.crc32(png[at + 4 : end]).to_bytes(4, "big"))
        at = end + 4
    return b"".join([*parts, png[at:]])


def decode(data: bytes) -> str:
    """Decodes a file whole and in part, as the loader does; returns the one-line reason, '' for an image.

    Raises:
      AssertionError: the outcome is neither an image nor one line, or both ways differ.
    """
    whole, part = _reason(decode_image, data), _reason(_first_rows, data)
    assert bool(whole) == bool(part), (whole, part)
    return whole


def _reason(read: Callable, data: bytes) -> str:
    try:
        image = read(data, "x")
    except DamagedImage as damaged:
        reason = damaged.reason
    else:
        assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
        assert image.size
        return ""
    assert reason
    assert reason.isprintable(), repr(reason)
    return reason


def _first_rows(data: bytes, name: str) -> np.ndarray:
    image = open_image(data, name)
    return image.decode(8, factor=2)[0] if isinstance(image, PlainJpeg) else image


def megabytes() -> float:
    """The most memory that this process has had, in MB."""
    if (status := Path("/proc/self/status")).exists():  # ru_maxrss counts what the parent had, too
        return int(status.read_text(encoding="utf-8").partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


def main(count: int) -> None:
    """Decodes `count` mutants, and prints what they took."""
    files = samples()
    for data in files.values():
        assert not decode(data)
    before, images, slowest = megabytes(), 0, (0.0, "")
    for seed in range(count):
        kind, data = mutant(files, seed)
        print(f"{seed} {kind}", flush=True)
        faulthandler.dump_traceback_later(_LIMIT, exit=True)
        start = time.process_time()
        images += not decode(data)
        slowest = max(slowest, (time.process_time() - start, f"{seed} {kind}"))
    faulthandler.cancel_dump_traceback_later()
    figures = {
        "files": count,
        "decoded": images,
        "damaged": count - images,
        "slowest_seconds": round(slowest[0], 3),
        "slowest": slowest[1],
        "megabytes_before": round(before),
        "megabytes_at_most": round(megabytes()),
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
