"""Writes files as `torch.save` writes them, without PyTorch: the three containers of its history."""

import collections
import io
import pickle
import struct
import sys
import tarfile
import types
import zipfile

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C


def _modules() -> dict[str, types.ModuleType]:
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "HalfStorage", "LongStorage", "FloatTensor"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2():
        raise AssertionError("a pickle was run")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    return {"torch": torch, "torch._utils": utils}


class View:
    """A tensor: a view of a flat array."""

    def __init__(self, storage, shape=None, strides=None, offset=0):
        self.storage = storage
        self.shape = storage.shape if shape is None else shape
        self.strides = (
            strides if strides is not None else [int(np.prod(self.shape[i + 1 :])) for i in range(len(self.shape))]
        )
        self.offset = offset


class _Pickler(pickle.Pickler):
    def __init__(self, file, tensors_by_id=None, protocol=2):
        super().__init__(file, protocol)
        self.storages, self.tensors_by_id = {}, tensors_by_id

    def persistent_id(self, value):
        if isinstance(value, np.ndarray):
            self.storages[str(id(value))] = value
            name = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}[value.dtype.name]
            kind = getattr(sys.modules["torch"], name)
            return ("storage", kind, str(id(value)), "cpu", value.size, *self.view_metadata)
        if isinstance(value, View) and self.tensors_by_id is not None:
            self.tensors_by_id[id(value)] = value
            return id(value)
        return None

    view_metadata: tuple = ()

    def reducer_override(self, value):
        if isinstance(value, View):
            rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
            arguments = value.storage, value.offset, tuple(value.shape), tuple(value.strides), False
            return rebuild, (*arguments, collections.OrderedDict())
        return NotImplemented


def _dump(value, tensors_by_id=None, legacy=False, protocol=2):
    file = io.BytesIO()
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update(_modules())
    try:
        pickler = _Pickler(file, tensors_by_id, protocol)
        if legacy:
            pickler.view_metadata = (None,)
        pickler.dump(value)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    return file.getvalue(), pickler.storages


def write_zip(path, value, compression=zipfile.ZIP_STORED):
    data, storages = _dump(value)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", "little")
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/version", "3\n")


def write_legacy(path, value, protocol=2):
    data, storages = _dump(value, legacy=True, protocol=protocol)
    with open(path, "wb") as file:
        for part in (MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}):
            file.write(pickle.dumps(part, protocol))
        file.write(data)
        file.write(pickle.dumps(sorted(storages), protocol))
        for key in sorted(storages):
            file.write(struct.pack("<q", storages[key].size) + storages[key].tobytes())


def write_tar(path, value):
    tensors: dict[int, View] = {}
    pickled, _ = _dump(value, tensors)
    storages = {id(tensor.storage): tensor.storage for tensor in tensors.values()}
    modules = _modules()
    sys.modules.update(modules)
    try:
        kind, tensor_kind = modules["torch"].FloatStorage, modules["torch"].FloatTensor
        parts = {
            "storages": pickle.dumps(len(storages), 2),
            "tensors": pickle.dumps(len(tensors), 2),
            "pickle": pickled,
        }
        for key, array in storages.items():
            parts["storages"] += pickle.dumps((key, "cpu", kind), 2) + struct.pack("<q", array.size) + array.tobytes()
        parts["storages"] += pickle.dumps([], 2)
        for key, tensor in tensors.items():
            numbers = (*tensor.shape, *tensor.strides, tensor.offset)
            parts["tensors"] += pickle.dumps((key, id(tensor.storage), tensor_kind), 2)
            parts["tensors"] += struct.pack(f"<ii{len(numbers)}q", len(tensor.shape), 0, *numbers)
    finally:
        for name in modules:
            del sys.modules[name]
    with tarfile.open(path, "w") as archive:
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
