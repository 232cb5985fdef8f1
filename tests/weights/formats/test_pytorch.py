"""Files of PyTorch in their three containers, made byte by byte."""

import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from inception_jax.weights import formats
from tests.weights.formats import torch_files
from tests.weights.formats.samples import error_of, same
from tests.weights.formats.torch_files import View


def test_containers_of_pytorch(tmp_path):
    storage = np.arange(12, dtype=np.float32)
    state = {
        "whole": View(storage, (3, 4)),
        "transposed": View(storage, (4, 3), (1, 4)),
        "part": View(storage, (2, 2), (4, 1), offset=5),
        "scalar": View(storage, (), (), offset=3),
        "empty": View(storage, (0, 3)),
    }
    expected = {
        "whole": storage.reshape(3, 4),
        "transposed": storage.reshape(3, 4).T,
        "part": storage.reshape(3, 4)[1:, 1:3],
        "scalar": storage[3],
        "empty": np.zeros((0, 3), np.float32),
    }
    for write, format_ in (
        (torch_files.write_zip, "torch zip"),
        (torch_files.write_legacy, "torch legacy"),
        (torch_files.write_tar, "torch tar"),
    ):
        write(tmp_path / "weights", state)
        content = formats.read(tmp_path / "weights")
        assert content.format == format_
        same(content.arrays, expected)
    torch_files.write_zip(tmp_path / "weights", {"epoch": 3, "state_dict": {"module.a": View(storage, (12,))}})
    same(formats.read(tmp_path / "weights").arrays, {"a": storage})
    dtypes = {"half": View(np.float16([1, 2])), "long": View(np.arange(3))}
    torch_files.write_legacy(tmp_path / "weights", dtypes)
    same(formats.read(tmp_path / "weights").arrays, {"half": np.float16([1, 2]), "long": np.arange(3)})


def test_a_pickle_runs_nothing(tmp_path):
    file, ran = tmp_path / "weights.pth", tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(ran),)

    torch_files.write_legacy(file, {"a": Hostile()})
    error_of(file, r"it needs posix\.mkdir, which could run code; save the state dict alone")
    assert not ran.exists()
    storage = np.zeros(4, np.float32)
    for view, message in (
        (View(storage, (5,)), "beyond its storage"),
        (View(storage, (2,), (4,)), "beyond its storage"),
        (View(storage, (2,), (1,), offset=3), "beyond its storage"),
        (View(storage, (2,), (-1,), offset=3), "strides"),
    ):
        torch_files.write_zip(file, {"a": view})
        error_of(file, message)
    torch_files.write_zip(file, {"a": View(storage)}, zipfile.ZIP_DEFLATED)
    error_of(file, "is compressed, which PyTorch never does")
    torch_files.write_zip(file, {"a": 1})
    error_of(file, "no state dict")
    # An index of the memo for which pickle's C code would allocate 16 GB.
    file.write_bytes(pickle.dumps(torch_files.MAGIC, 2) + b"\x80\x02K\x01r\xff\xff\xff\x7f.")
    error_of(file, "another version")


def pickled(*parts, protocol=2):
    """A pickle of instructions, by hand."""
    return pickle.PROTO + bytes([protocol]) + b"".join(parts) + pickle.STOP


def text(value):
    return pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()


def write(file, pickle_, **storages):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickle_)
        for name, data in storages.items():
            archive.writestr(f"a/data/{name}", data)


def storage(key, kind="FloatStorage", view=b""):
    persistent = pickle.MARK + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu")
    return persistent + pickle.BININT1 + b"\4" + view + pickle.TUPLE + pickle.BINPERSID


def tensor(of, shape=(4,), strides=(1,), function=b"ctorch._utils\n_rebuild_tensor_v2\n", more=b""):
    sizes = [
        pickle.MARK + b"".join(pickle.LONG1 + b"\x08" + struct.pack("<q", n) for n in t) + pickle.TUPLE
        for t in (shape, strides)
    ]
    arguments = pickle.MARK + of + pickle.BININT1 + b"\0" + b"".join(sizes)
    return function + arguments + pickle.NEWFALSE + pickle.EMPTY_DICT + more + pickle.TUPLE + pickle.REDUCE


def state(**tensors):
    return pickle.EMPTY_DICT + b"".join(text(name) + value + pickle.SETITEM for name, value in tensors.items())


FOUR = np.float32([1, 2, 3, 4])


def test_odd_but_honest_tensors(tmp_path):
    file = tmp_path / "weights.pth"
    v3 = b"ctorch._utils\n_rebuild_tensor_v3\n"
    parameter = b"ctorch._utils\n_rebuild_parameter\n" + pickle.MARK
    write(
        file,
        pickled(
            state(
                cuda=tensor(storage("0", "FloatStorage")),
                expanded=tensor(storage("0"), (3, 4), (0, 1)),  # of one row
                parameter=parameter + tensor(storage("0")) + pickle.NEWTRUE + pickle.TUPLE + pickle.REDUCE,
                uint16=tensor(
                    storage("1", "UntypedStorage").replace(b"ctorch\n", b"ctorch.storage\n"),
                    function=v3,
                    more=b"ctorch\nuint16\n",
                ),
            )
        ),
        **{"0": FOUR.tobytes(), "1": np.arange(4, dtype=np.uint16).tobytes()},
    )
    expected = {
        "cuda": FOUR,
        "expanded": np.tile(FOUR, (3, 1)),
        "parameter": FOUR,
        "uint16": np.arange(4, dtype=np.uint16),
    }
    same(formats.read(file).arrays, expected)


def test_a_checkpoint_holds_more_than_weights(tmp_path):
    """An optimizer's state, and the best accuracy as a tensor beside the state dict."""
    weights, best, momentum = np.arange(4, dtype=np.float32), np.ones(1, np.float32), np.zeros(4, np.float16)
    saved = {"state_dict": {"a": View(weights)}, "best": View(best), "optimizer": {"state": {0: View(momentum)}}}
    for write_ in (torch_files.write_zip, torch_files.write_legacy):
        write_(tmp_path / "weights", saved)
        same(formats.read(tmp_path / "weights").arrays, {"a": weights})


def test_later_protocols_of_pickle(tmp_path):
    torch_files.write_legacy(tmp_path / "weights", {"a": View(FOUR)}, protocol=4)
    same(formats.read(tmp_path / "weights").arrays, {"a": FOUR})


def test_checksums(tmp_path):
    """PyTorch can be told not to compute them; they are 0 then."""
    file = tmp_path / "weights.pth"
    torch_files.write_zip(file, {"a": View(FOUR)})
    data = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        info = next(info for info in archive.infolist() if "/data/" in info.filename)
    file.write_bytes(data.replace(struct.pack("<I", info.CRC), b"\0\0\0\0"))
    same(formats.read(file).arrays, {"a": FOUR})
    file.write_bytes(data.replace(FOUR.tobytes(), FOUR[::-1].tobytes()))
    error_of(file, "its checksum differs")


def module(*attributes):
    """An object of TorchScript; an attribute is a name and the instructions of its value."""
    items = b"".join(text(name) + value for name, value in attributes)
    made = b"c__torch__\nM\n" + pickle.EMPTY_TUPLE + pickle.NEWOBJ
    return made + pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS + pickle.BUILD


def test_torchscript(tmp_path):
    file = tmp_path / "script.pt"
    inner = module(("weight", tensor(storage("0"))), ("training", pickle.NEWTRUE))
    write(file, pickled(module(("a", tensor(storage("0"))), ("inner", inner))), **{"0": FOUR.tobytes()})
    same(formats.read(file).arrays, {"a": FOUR, "inner.weight": FOUR})
    # Forty modules, each with the next one twice: 2**40 ways.
    nested = module(("weight", tensor(storage("0"))))
    for place in range(40):
        nested = module(("a", nested + pickle.BINPUT + bytes([place])), ("b", pickle.BINGET + bytes([place])))
    write(file, pickled(nested), **{"0": FOUR.tobytes()})
    error_of(file, "nested without an end")


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        # Hashing the key would overflow the stack of C.
        (
            pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + pickle.TUPLE1 * 200_000 + pickle.NONE + pickle.SETITEM,
            "no state dict",
        ),
        (pickle.BYTEARRAY8 + struct.pack("<Q", 2**35), "instruction 0x96"),  # would be set to zeros
        (pickle.LONG4 + struct.pack("<i", 2**30), "instruction 0x8b"),
        (pickle.EXT1 + b"\1", "instruction 0x82"),
        (pickle.BINUNICODE + struct.pack("<I", 2**31), "longer than that of any network"),
        (b"ctorch\nFloatStorage\n" + state(dtype=pickle.NONE) + pickle.BUILD, "state of an unknown object"),
        (b"ctorch._utils\n_rebuild_tensor\n" + state(a=pickle.NONE) + pickle.BUILD, "state of an unknown object"),
        (text("x") + pickle.EMPTY_TUPLE + pickle.REDUCE, "calls what is no function"),
        (b"ctorch\nFloatStorage\n" + pickle.EMPTY_TUPLE + pickle.NEWOBJ, "calls what is no function"),
        (text("x") + text("k") + pickle.NONE + pickle.SETITEM, "item of what is no dict"),
        (text("x") + pickle.NONE + pickle.APPEND, "appends to what is no list"),
        (b"cbuiltins\neval\n", "it needs builtins.eval, which could run code"),
        (b"ctorch.nn.modules.linear\nLinear\n", "torch.nn.modules.linear.Linear, which could run code"),
        (state(a=tensor(storage("9"))), "a/data/9 is missing"),
        (state(a=tensor(storage("0"), (2**40,), (0,))), "larger than the file can hold"),
        (state(a=tensor(storage("0"), (1,) * 33, (1,) * 33)), "33 dimensions"),
        (state(a=tensor(storage("0"), (-4,))), "has the shape"),
        (state(a=tensor(storage("0"), (4,), (1, 1))), "the strides"),
        (state(a=tensor(pickle.NONE)), "no storage"),
        (state(a=tensor(storage("0").replace(text("storage"), text("module")))), "described in an unknown way"),
    ],
)
def test_hostile_pickles(tmp_path, instructions, message):
    write(tmp_path / "weights.pth", pickled(instructions), **{"0": FOUR.tobytes()})
    error_of(tmp_path / "weights.pth", message)
    write(tmp_path / "weights.pth", pickled(state(a=tensor(storage("0")))), **{"0": FOUR.tobytes()})
    same(formats.read(tmp_path / "weights.pth").arrays, {"a": FOUR})  # it has changed nothing in this program


def test_many_copies_of_a_list_take_no_memory(tmp_path):
    """A list of a thousand pairs, from which a thousand dicts are made."""
    pairs = pickle.MARK + (text("k") + pickle.NONE + pickle.TUPLE2) * 1001
    pairs = pickle.EMPTY_LIST + pairs + pickle.APPENDS + pickle.BINPUT + b"\0"
    copy = b"ccollections\nOrderedDict\n" + pickle.BINGET + b"\0" + pickle.TUPLE1 + pickle.REDUCE
    write(tmp_path / "weights.pth", pickled(pickle.MARK + pairs + copy * 1000 + pickle.TUPLE))
    error_of(tmp_path / "weights.pth", "more names than any network")


def test_damaged_zip_files(tmp_path):
    file = tmp_path / "weights.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("b/data.pkl", b"")
    error_of(file, "it has 2 files data.pkl")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("a/byteorder", "big")
    error_of(file, "big-endian")


def test_damaged_legacy_files(tmp_path):
    file = tmp_path / "weights.pth"
    torch_files.write_legacy(file, {"a": View(FOUR)})
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    error_of(file, "a storage of 4 elements is longer than the file")
    file.write_bytes(data[:-20])
    error_of(file, "it is cut off")
    file.write_bytes(data[:-24] + struct.pack("<q", -1) + data[-16:])
    error_of(file, "a storage of -1 elements")
