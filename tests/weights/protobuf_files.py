"""A writer of protocol buffers (https://protobuf.dev/programming-guides/encoding)."""

import struct


def varint(value):
    value &= 2**64 - 1
    head = b""
    while value > 127:
        head, value = head + bytes([value & 127 | 128]), value >> 7
    return head + bytes([value])


def encode(*fields):
    encoded = b""
    for number, value in fields:
        if isinstance(value, int):
            encoded += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            encoded += varint(number << 3 | 2) + varint(len(data)) + data
    return encoded


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)
