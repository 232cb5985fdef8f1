"""Files of PyTorch, safetensors and ONNX, read as their own packages read them."""

import collections
import math
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from inception_jax.errors import UserError
from inception_jax.weights import formats
from inception_jax.weights.formats.safetensors import write_safetensors
from tests.parity.conftest import required


def state_dict(torch):
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(20, generator=generator)
    return collections.OrderedDict(
        weight=torch.randn(3, 4, generator=generator),
        transposed=torch.arange(6).reshape(2, 3).t(),
        part=base[2:5],
        strided=base[1:12:3],
        expanded=base[:4].expand(3, 4),
        permuted=base.reshape(2, 2, 5).permute(2, 0, 1),
        scalar=torch.tensor(3),
        empty=torch.zeros(0, 3),
        half=torch.randn(5, generator=generator).half(),
        bfloat16=torch.randn(2, 2, generator=generator).bfloat16(),
        double=torch.ones(2, dtype=torch.float64),
        small=torch.tensor([-1, 2], dtype=torch.int8),
        bytes=torch.tensor([200], dtype=torch.uint8),
        yes=torch.tensor([True, False]),
        parameter=torch.nn.Parameter(torch.ones(2)),
    )


def of(tensor) -> np.ndarray:
    """The array of a tensor, whose own method does not know bfloat16."""
    tensor = tensor.detach()
    if str(tensor.dtype) == "torch.bfloat16":
        return tensor.float().numpy().astype(ml_dtypes.bfloat16)
    return tensor.numpy()


def same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        array = of(tensor)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def old_torchvision(torch):
    """Checkpoints hold more: an optimizer, numbers, sizes, types, a tensor that is no weight."""
    model = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.ones(1, 1, 4, 4)).sum().backward()
    optimizer.step()
    more = {"best": torch.tensor(0.7), "size": torch.Size([1]), "type": torch.float32, "device": torch.device("cpu")}
    more |= {"seen": {1, 2}, "counts": collections.Counter("ab"), "log": b"text", (1, 2): "key"}
    return {"epoch": 3, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), **more}


@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts(torch, tmp_path, zipped):
    file, written = tmp_path / "weights.pth", state_dict(torch)
    torch.save(written, file, _use_new_zipfile_serialization=zipped)
    content = formats.read(file)
    assert content.format == ("torch zip" if zipped else "torch legacy")
    same(content.arrays, torch.load(file, weights_only=True))


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints(torch, tmp_path, zipped):
    file, saved = tmp_path / "checkpoint.pth", old_torchvision(torch)
    torch.save(saved, file, _use_new_zipfile_serialization=zipped)
    expected = torch.load(file, weights_only=True)["state_dict"]
    same(formats.read(file).arrays, {name.removeprefix("module."): tensor for name, tensor in expected.items()})


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_protocols_of_pickle(torch, tmp_path, protocol):
    for zipped in (True, False):
        torch.save(
            state_dict(torch), tmp_path / "x.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped
        )
        same(formats.read(tmp_path / "x.pth").arrays, torch.load(tmp_path / "x.pth", weights_only=False))


def test_odd_files(torch, tmp_path):
    """Without checksums; with types that have no class of storages; a tensor with attributes; an empty network."""
    file = tmp_path / "weights.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(3)}, file)
    finally:
        torch.serialization.set_crc32_options(True)
    same(formats.read(file).arrays, {"a": torch.ones(3)})
    tensor = torch.ones(2)
    tensor.note = "text"
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.note = "text"
    saved = {"a": torch.tensor([1, 2], dtype=torch.uint16), "b": tensor, "c": parameter}
    torch.save(saved, file)
    same(formats.read(file).arrays, torch.load(file, weights_only=True))
    torch.save({"epoch": 3}, file)
    with pytest.raises(UserError, match="holds no state dict"):
        formats.read(file)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_pytorch_refuses(torch, tmp_path, zipped):
    for saved in (torch.nn.Linear(2, 2), {"a": np.float64(1), "b": torch.ones(1)}, {"a": Path("x")}):
        torch.save(saved, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(Exception, match="Unsupported|weights_only"):
            torch.load(tmp_path / "x.pth", weights_only=True)
        with pytest.raises(UserError, match="which could run code; save the state dict alone"):
            formats.read(tmp_path / "x.pth")


def test_torchscript(torch, tmp_path):
    inner = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    model = torch.nn.Sequential(inner, torch.nn.Flatten(), torch.nn.Linear(8, 3))
    for name, script in (
        ("script", torch.jit.script(model)),
        ("trace", torch.jit.trace(model, torch.ones(1, 1, 4, 4))),
    ):
        script.save(tmp_path / f"{name}.pt")
        content = formats.read(tmp_path / f"{name}.pt")
        expected = {key: value for key, value in model.state_dict().items() if key in content.arrays}
        assert expected.keys() >= {key for key in model.state_dict() if not key.endswith("num_batches_tracked")}
        same({key: content.arrays[key] for key in expected}, expected)


def test_safetensors(torch, tmp_path):
    required("safetensors")
    from safetensors import numpy as theirs
    from safetensors.torch import save_file

    written = {name: tensor.detach().clone().contiguous() for name, tensor in state_dict(torch).items()}
    save_file(written, tmp_path / "theirs", metadata={"format": "pt"})
    content = formats.read(tmp_path / "theirs")
    assert content.metadata == {"format": "pt"}
    same({name: content.arrays[name] for name in written}, written)
    write_safetensors(tmp_path / "ours", content.arrays, {"a": "b"})
    loaded = theirs.load_file(tmp_path / "ours")
    assert loaded.keys() == written.keys()
    for name, value in loaded.items():
        np.testing.assert_array_equal(value, content.arrays[name], err_msg=name)


def _light() -> list[Path]:
    onnx = required("onnx")
    return sorted(Path(onnx.__file__).parent.glob("backend/test/data/light/light_*.onnx"))


@pytest.mark.parametrize("place", range(9))
def test_graphs_in_the_package_of_onnx(place):
    """Every initialiser and constant, of graphs whose weights are made by ConstantOfShape."""
    onnx = required("onnx")
    [*files] = _light()
    assert len(files) == 9
    graph = onnx.load(files[place]).graph
    found = formats.read(files[place]).arrays
    expected = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        value = [onnx.numpy_helper.to_array(a.t) for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
        if node.op_type == "Constant":
            expected[node.output[0]] = value[0]
        elif node.op_type == "ConstantOfShape":
            shape = tuple(expected[node.input[0]])
            assert found[node.output[0]].shape == shape
            assert not math.prod(shape) or (found[node.output[0]].reshape(-1)[0], found[node.output[0]].dtype) == (
                value[0][0],
                value[0].dtype,
            )
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_tensors_of_onnx(tmp_path):
    """Each type, as raw bytes, as a list of numbers, and in a file beside."""
    onnx = required("onnx")
    numbers = np.array([0, 1, 2, 100, 127])
    values = {
        name: numbers.astype(name) for name in ("float32", "float64", "float16", "int64", "int8", "uint64", "bool")
    }
    values |= {"large": np.uint64([2**64 - 1]), "bfloat16": numbers.astype(ml_dtypes.bfloat16), "negative": -numbers}
    tensors = [onnx.numpy_helper.from_array(value, f"raw {name}") for name, value in values.items()]
    for name, value in values.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        tensors.append(onnx.helper.make_tensor(f"list {name}", kind, value.shape, value.tolist()))
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], tensors))
    expected = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in tensors}
    onnx.save(model, tmp_path / "inside.onnx")
    options = {"save_as_external_data": True, "location": "weights", "size_threshold": 0}
    onnx.save(model, tmp_path / "outside.onnx", **options)
    for name in ("inside", "outside"):
        found = formats.read(tmp_path / f"{name}.onnx").arrays
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert found[key].dtype == value.dtype, key
            np.testing.assert_array_equal(found[key], value, err_msg=key)
