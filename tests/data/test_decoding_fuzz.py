"""Damaged image files end in an image or in one line. FUZZ=10000 takes that many; -s shows what they took."""

import json
import os
import struct
import subprocess
import sys
import zlib

import pytest

from inception_jax.data.decoding import DamagedImage, decode_image, open_image
from tests.data import mutants

FILES = int(os.environ.get("FUZZ", "600"))
SIDE = 20_000


def test_mutants_neither_crash_nor_hang_and_take_little_memory():
    """In a process of its own, because a crash would end this one."""
    command = [sys.executable, "-m", "tests.data.mutants", str(FILES)]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    *begun, last = ended.stdout.splitlines()
    assert ended.returncode == 0, (last, ended.stderr[-3000:])
    figures = json.loads(last)
    print(figures)
    assert len(begun) == figures["files"] == figures["decoded"] + figures["damaged"] == FILES
    assert FILES / 20 < figures["decoded"] < FILES / 2
    assert figures["megabytes_at_most"] - figures["megabytes_before"] < 300


def huge(kind):
    """The file of that kind with a side of 20,000 in its header."""
    data = mutants.samples()[kind]
    match kind:
        case "JPEG":
            at = data.index(b"\xff\xc0\x00") + 5
            return data[:at] + struct.pack(">HH", SIDE, SIDE) + data[at + 4 :]
        case "PNG":
            header = b"IHDR" + struct.pack(">II", SIDE, SIDE) + data[24:29]
            return data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
        case "WEBP animated":  # only the extended format has more than 14 bits for a side
            return data[:24] + 2 * (SIDE - 1).to_bytes(3, "little") + data[30:]
        case "GIF":
            return data[:6] + struct.pack("<HH", SIDE, SIDE) + data[10:]
        case "GIF animated":  # the size of its first frame
            at = data.index(b",\0\0\0\0\x50\0\x3c\0") + 5
            return data[:at] + struct.pack("<HH", SIDE, SIDE) + data[at + 4 :]
        case _:  # TIFF: tags 256 and 257, of one number
            start = int.from_bytes(data[4:8], "little")
            changed = bytearray(data)
            for at in range(start + 2, start + 2 + 12 * data[start], 12):
                if int.from_bytes(data[at : at + 2], "little") in (256, 257):
                    changed[at + 2 : at + 12] = struct.pack("<HII", 4, 1, SIDE)
            return bytes(changed)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP animated", "GIF", "GIF animated", "TIFF", "TIFF lzw"])
def test_a_header_of_20000_x_20000_is_one_line_and_takes_no_memory(kind):
    data = huge(kind)
    before = mutants.megabytes()
    for read in (decode_image, open_image):
        with pytest.raises(DamagedImage, match=r"^x: (20000 x 20000 pixels are more|.*exceeds limit)"):
            read(data, "x")
    assert mutants.megabytes() - before < 100
