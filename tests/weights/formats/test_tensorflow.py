"""Checkpoints of TensorFlow; TensorFlow writes them."""

import struct
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from inception_jax.weights import formats
from inception_jax.weights.formats import tensorflow
from tests.weights.formats.samples import error_of, same
from tests.weights.protobuf_files import encode, floats, varint


def test_checkpoints_of_tensorflow(tmp_path):
    values = {"Net/conv/weights": np.ones((1, 2, 3, 4), np.float32), "Net/conv/biases": np.arange(4, dtype=np.float32)}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in values.items():
            tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        for version, format_ in ((1, "tensorflow v1"), (2, "tensorflow v2")):
            saver = tf.compat.v1.train.Saver(write_version=version)
            prefix = saver.save(session, str(tmp_path / f"v{version}.ckpt"), write_meta_graph=False)
            content = formats.read(prefix)
            assert content.format == format_
            same(content.arrays, dict(sorted(values.items())))
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as archive:  # as tf-slim's are published
        archive.add(tmp_path / "v1.ckpt", "inception_v1.ckpt")
    same(formats.read(tmp_path / "archive.tar.gz").arrays, dict(sorted(values.items())))
    with tarfile.open(tmp_path / "archive.tgz", "w:gz") as archive:
        for path in tmp_path.glob("v2.ckpt.*"):
            archive.add(path, path.name)
    same(formats.read(tmp_path / "archive.tgz").arrays, dict(sorted(values.items())))


def test_variables_of_all_kinds(tmp_path):
    """TensorFlow's own reader of V1 can read neither half precision nor a variable in parts."""
    values = {
        name: np.arange(3).astype(name) for name in ("float64", "int64", "uint8", "int8", "int32", "float16", "bool")
    }
    values["step"] = np.array(-12345678901)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in values.items():
            tf.compat.v1.get_variable(name, initializer=value)
        for axis in (0, 1):
            parts = tf.compat.v1.fixed_size_partitioner(3, axis)
            normal = tf.compat.v1.random_normal_initializer()
            variable = tf.compat.v1.get_variable(f"parts{axis}", (7, 200), initializer=normal, partitioner=parts)
            session.run(tf.compat.v1.global_variables_initializer())
            values[f"parts{axis}"] = tf.convert_to_tensor(variable)
        session.run(tf.compat.v1.global_variables_initializer())
        values |= {name: value.eval() for name, value in values.items() if "parts" in name}
        for version in (1, 2):
            saver = tf.compat.v1.train.Saver(write_version=version)
            prefix = saver.save(session, str(tmp_path / f"[1]*{version}.ckpt"))
            same(dict(sorted(formats.read(prefix).arrays.items())), dict(sorted(values.items())))
    for name in (f"{prefix}.meta", f"{prefix}.data-00000-of-00001"):  # whichever file of it one names
        assert len(formats.read(name).arrays) == len(values)


def test_checkpoints_of_objects(tmp_path):
    """They hold also texts: the graph of the objects."""
    module = tf.Module()
    module.a = tf.Variable(tf.cast([1.5, 2], tf.bfloat16))
    module.text = tf.Variable("text")
    prefix = tf.train.Checkpoint(module=module).write(str(tmp_path / "objects"))
    [(name, value)] = formats.read(prefix).arrays.items()
    assert name == "module/a/.ATTRIBUTES/VARIABLE_VALUE"
    np.testing.assert_array_equal(value, np.asarray(module.a))


def block(*entries, kind=0, compress=lambda data: data):
    """A block of a table."""
    data = b"".join(varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in entries)
    return compress(data + struct.pack("<II", 0, 1)) + bytes([kind]) + b"\0" * 4


def table(*entries, **options):
    data = block(*entries, **options)
    index = block((b"zzz", varint(0) + varint(len(data) - 5)))
    footer = varint(0) * 2 + varint(len(data)) + varint(len(index) - 5)
    return data + index + footer.ljust(40, b"\0") + tensorflow.TABLE_END


def slice_of(name, values, *extents):
    place = encode(*((1, encode(*extent)) for extent in extents))
    return encode((2, encode((1, name), (2, place), (3, encode((5, floats(*values)))))))


HEADER = encode((1, encode((1, encode((1, "a"), (2, encode((2, encode((1, 4))))), (3, 1))))))


def test_compressed_tables(tmp_path):
    """Snappy: bytes as they are, a copy that overlaps with itself, copies with longer offsets."""

    def snappy(data):
        repeated = data.index(floats(1, 1, 1, 1))
        literal = data[: repeated + 4]
        rest = data[repeated + 16 :]
        out = varint(len(data)) + bytes([60 << 2, len(literal) - 1]) + literal
        out += bytes([(5 - 4) << 2 | 1, 4])  # 5 bytes from 4 back
        out += bytes([(4 - 1) << 2 | 2]) + struct.pack("<H", 4)  # 4 bytes
        out += bytes([(3 - 1) << 2 | 3]) + struct.pack("<I", 4)  # 3 bytes
        return out + bytes([(len(rest) - 1) << 2]) + rest

    entries = (b"", HEADER), (b"a", slice_of("a", (1, 1, 1, 1), ()))
    (tmp_path / "v1.ckpt").write_bytes(table(*entries, kind=1, compress=snappy))
    same(formats.read(tmp_path / "v1.ckpt").arrays, {"a": np.ones(4, np.float32)})
    (tmp_path / "v1.ckpt").write_bytes(table(*entries, kind=1, compress=lambda data: varint(2**40) + snappy(data)))
    error_of(tmp_path / "v1.ckpt", "larger than the file can hold")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "a table of something else"),
        ([(b"key", b"value")], "a table of something else"),
        ([(b"", HEADER)], "a is not whole in it"),
        ([(b"", HEADER), (b"a", slice_of("a", (1, 2), ((2, 2),)))], "a is not whole in it"),
        ([(b"", HEADER), (b"a", slice_of("a", (1, 2), ()))], "a has 2 values in place of 4"),
        ([(b"", HEADER), (b"a", slice_of("a", (1, 2), ((1, 3), (2, 2))))], "a slice from 3 to 5 is one of 4"),
        ([(b"", HEADER), (b"a", slice_of("a", (1, 2)))], "a slice of 0 dimensions"),
        ([(b"", HEADER), (b"a", slice_of("a", (1,) * 4, ())), (b"a", b"")], "not sorted"),
        ([(b"", encode((1, 1), (2, 1)))], "big-endian"),
        ([(b"", encode((1, 1)))], "must end in .index"),
    ],
)
def test_damaged_tables(tmp_path, entries, message):
    (tmp_path / "v1.ckpt").write_bytes(table(*entries))
    error_of(tmp_path / "v1.ckpt", message)


def test_damaged_bundles(tmp_path):
    def write(**fields):
        numbers = {"dtype": 1, "shard": 0, "offset": 0, "size": 16} | fields
        shape = encode((2, encode((1, 4))))
        entry = encode((1, numbers["dtype"]), (2, shape), *zip((3, 4, 5), list(numbers.values())[1:], strict=True))
        (tmp_path / "x.index").write_bytes(table((b"", encode((1, 1))), (b"a", entry)))

    write()
    error_of(tmp_path / "x.index", "x.data-00000-of-00001 is missing")
    (tmp_path / "x.data-00000-of-00001").write_bytes(floats(1, 2, 3, 4))
    same(formats.read(tmp_path / "x").arrays, {"a": np.float32([1, 2, 3, 4])})
    for fields, message in (
        ({"offset": 1}, "an array is at 1 to 17 of 16 bytes"),
        ({"size": 2**63}, "of 16 bytes"),
        ({"size": 12}, "an array 4 of float32 has 12 bytes"),
        ({"dtype": 2}, "an array 4 of float64 has 16 bytes"),
        ({"shard": 1}, "x.data-00001-of-00001 is missing"),
    ):
        write(**fields)
        error_of(tmp_path / "x.index", message)
