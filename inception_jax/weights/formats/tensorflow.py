"""Checkpoints of TensorFlow, V1 and V2, without TensorFlow, which a damaged checkpoint can abort.

Both are tables of LevelDB: blocks of sorted keys with values (tensorflow/core/lib/io/format.cc and block_builder.cc).
V1: the values are the arrays or slices of them (tensorflow/core/util/saved_tensor_slice.proto). V2: the values say
where the arrays are in the files PREFIX.data-* (tensorflow/core/protobuf/tensor_bundle.proto). Checksums are not
compared, as those of a whole file should be.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from inception_jax.weights.formats.content import DTYPES, Content, Malformed, Room, array, put
from inception_jax.weights.formats.protobuf import (
    LEN,
    TENSORFLOW,
    all_of,
    dimensions,
    fields,
    first,
    listed_values,
    read_varint,
    signed,
    text,
)

TABLE_END = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
_FOOTER = 48
_LONGEST_KEY = 4096
_MOST_ENTRIES = 200_000


def read_checkpoint(file: Path) -> Content:
    """Reads a checkpoint.

    Args:
      file: of V1 the one file, of V2 PREFIX.index.

    Raises:
      Malformed: it is damaged, or one of its files is missing.
    """
    data = memoryview(np.memmap(file, np.uint8, mode="r"))  # type: ignore[arg-type]  # an array is a buffer
    room = Room(file)
    entries = _entries(data, room)
    key, header = next(entries, (b"?", data[:0]))
    if key:
        raise Malformed("it is a table of something else than variables")
    if any(number == 1 and wire == LEN for number, wire, _ in fields(header)):
        return Content("tensorflow v1", _slices(header, entries, room))
    return Content("tensorflow v2", _bundle(file, header, entries))


# ------------------------------------------- V1


def _slices(header: memoryview, entries: Iterator[tuple[bytes, memoryview]], room: Room) -> dict[str, np.ndarray]:
    """Reads SavedTensorSlices: the first names all variables, each other one has a slice of one."""
    known: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
    for variable in all_of(first(header, 1), 1):
        if (code := first(variable, 3, 0)) in TENSORFLOW:  # others are texts
            dtype = DTYPES[TENSORFLOW[code]]
            known[text(first(variable, 1))] = dtype, room.take(dimensions(first(variable, 2)), dtype)
    arrays: dict[str, np.ndarray] = {}
    missing = {name: int(np.prod(shape, dtype=object)) for name, (_, shape) in known.items()}
    for _, value in entries:
        saved = first(value, 2)
        name = text(first(saved, 1))
        if name not in known:
            continue
        dtype, shape = known[name]
        place = _place(first(saved, 2), shape)
        size = tuple(part.stop - part.start for part in place)
        tensor = first(saved, 3)
        content = first(tensor, 4)
        values = np.frombuffer(content, dtype) if content else listed_values(tensor, dtype)
        if len(values) != np.prod(size, dtype=object):
            raise Malformed(f"{name} has {len(values)} values in place of {'x'.join(map(str, size))}")
        if size == shape:
            put(arrays, name, values.reshape(shape))
        else:
            if name not in arrays:
                arrays[name] = np.zeros(shape, dtype)
            arrays[name][place] = values.reshape(size)
        missing[name] -= len(values)
    for name, count in missing.items():
        if count:
            raise Malformed(f"{name} is not whole in it")
    return {name: arrays.get(name, np.zeros(shape, dtype)) for name, (dtype, shape) in known.items()}


def _place(slice_: memoryview, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Returns the part of an array that a TensorSliceProto says."""
    extents = all_of(slice_, 1)
    if len(extents) != len(shape):
        raise Malformed(f"a slice of {len(extents)} dimensions is one of an array of {len(shape)}")
    place = []
    for extent, size in zip(extents, shape, strict=True):
        start = signed(first(extent, 1, 0))
        stop = start + signed(first(extent, 2, size - start))
        if not 0 <= start <= stop <= size:
            raise Malformed(f"a slice from {start} to {stop} is one of {size}")
        place.append(slice(start, stop))
    return tuple(place)


# ------------------------------------------- V2


def _bundle(file: Path, header: memoryview, entries: Iterator[tuple[bytes, memoryview]]) -> dict[str, np.ndarray]:
    """Reads BundleEntryProto: one for each variable, and for one that was saved in parts also one for each part."""
    if first(header, 2, 0):
        raise Malformed("it was saved on a big-endian machine")
    if file.suffix != ".index":
        raise Malformed("its name must end in .index, and the files .data-* must be beside it")
    shards = first(header, 1, 0)
    files: dict[int, memoryview] = {}

    def read(entry: memoryview) -> np.ndarray:
        shard, offset, size = first(entry, 3, 0), first(entry, 4, 0), first(entry, 5, 0)
        if shard not in files:
            beside = file.with_name(f"{file.stem}.data-{shard:05}-of-{shards:05}")
            if not beside.is_file():
                raise Malformed(f"its {beside.name} is missing")
            empty = not beside.stat().st_size
            files[shard] = memoryview(b"" if empty else np.memmap(beside, np.uint8, mode="r"))  # type: ignore[arg-type]
        data = files[shard]
        if offset + size > len(data):
            raise Malformed(f"an array is at {offset} to {offset + size} of {len(data)} bytes")
        return array(data[offset : offset + size], DTYPES[TENSORFLOW[first(entry, 1)]], dimensions(first(entry, 2)))

    parts: dict[str, list[memoryview]] = {}
    whole: dict[str, memoryview] = {}
    for key, entry in entries:
        if first(entry, 1, 0) not in TENSORFLOW:  # texts, such as the graph of objects
            continue
        if key.startswith(b"\0"):  # a part: 0, the name, 0 1, where it is
            parts.setdefault(key[1:].partition(b"\0\1")[0].decode(), []).append(entry)
        else:
            whole[key.decode()] = entry
    arrays = {}
    for name, entry in whole.items():
        if not (slices := all_of(entry, 7)):
            arrays[name] = read(entry)
            continue
        # The keys of parts are in the order of their places.
        shape = tuple(dimensions(first(entry, 2)))
        places = sorted((_place(each, shape) for each in slices), key=lambda place: [part.start for part in place])
        pieces = [read(part) for part in parts.get(name, [])]
        if sum(piece.size for piece in pieces) != np.prod(shape, dtype=object) or len(pieces) != len(places):
            raise Malformed(f"{name} is not whole in it")
        arrays[name] = np.zeros(shape, pieces[0].dtype)
        for place, piece in zip(places, pieces, strict=True):
            arrays[name][place] = piece.reshape([part.stop - part.start for part in place])
    return arrays


# ------------------------------------------- Tables


def _entries(data: memoryview, room: Room) -> Iterator[tuple[bytes, memoryview]]:
    """Yields the keys and values of a table in their order."""
    footer, place = data[-_FOOTER:], 0
    numbers = []
    for _ in range(4):  # where two blocks are: that of statistics, and the index; each as start and size
        number, place = read_varint(footer, place)
        numbers.append(number)
    last, seen = None, 0
    for _, handle in _block(data, numbers[2], numbers[3], room):
        start, place = read_varint(handle, 0)
        size, _ = read_varint(handle, place)
        for key, value in _block(data, start, size, room):
            if last is not None and key <= last:
                raise Malformed("its table is not sorted")
            last, seen = key, seen + 1
            if seen > _MOST_ENTRIES:
                raise Malformed("it has more variables than any network")
            yield key, value


def _block(data: memoryview, start: int, size: int, room: Room) -> Iterator[tuple[bytes, memoryview]]:
    """Yields the keys and values of a block: its bytes, a byte that says whether they are compressed, a checksum."""
    block = data[start : start + size]
    if len(block) < 4 or start + size + 5 > len(data):
        raise Malformed(f"a block is at {start} to {start + size} of {len(data)} bytes")
    if (kind := data[start + size]) == 1:
        block = memoryview(_decompressed(block, room))
    elif kind:
        raise Malformed(f"a block is compressed in the unknown way {kind}")
    restarts = int.from_bytes(block[-4:], "little")  # places of entries that share nothing with the one before
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise Malformed("a block is cut off")
    key, place = b"", 0
    while place < end:
        shared, place = read_varint(block, place)
        own, place = read_varint(block, place)
        length, place = read_varint(block, place)
        if shared > len(key) or shared + own > _LONGEST_KEY or place + own + length > end:
            raise Malformed("a block is damaged")
        key = key[:shared] + bytes(block[place : place + own])
        place += own + length
        yield key, block[place - length : place]


def _decompressed(data: memoryview, room: Room) -> bytes:
    """Decompresses Snappy (https://github.com/google/snappy, format_description.txt)."""
    length, place = read_varint(data, 0)
    room.take((length,), np.dtype(np.uint8))
    out = bytearray()
    while place < len(data):
        tag = data[place]
        place += 1
        if tag & 3 == 0:  # bytes as they are
            count = (tag >> 2) + 1
            if count > 60:
                count, place = int.from_bytes(data[place : place + count - 60], "little") + 1, place + count - 60
            out += data[place : place + count]
            place += count
        else:  # a copy of earlier ones, which may overlap with itself
            if tag & 3 == 1:
                count, offset, place = 4 + (tag >> 2 & 7), (tag >> 5) << 8 | data[place], place + 1
            else:
                width = 2 if tag & 3 == 2 else 4
                count, offset = (tag >> 2) + 1, int.from_bytes(data[place : place + width], "little")
                place += width
            if not 0 < offset <= len(out):
                raise Malformed("a block is damaged")
            start = len(out) - offset
            repeated = bytes(out[start : start + count])
            out += (repeated * (count // offset + 1))[:count]
        if len(out) > length:
            break
    if len(out) != length:
        raise Malformed("a block is damaged")
    return bytes(out)
