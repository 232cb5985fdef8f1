"""Exports: what each holds, and that it comes back the same. tests/parity runs them in the programs they are for."""

import datetime
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inception_jax
from experiments import export_weights
from inception_jax import create_model
from inception_jax.errors import UserError
from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.units import AvgPool, BatchNorm, Conv, GlobalAvgPool, Logits, MaxPool, Style
from inception_jax.weights import formats
from inception_jax.weights.export import onnx, peers, stablehlo
from inception_jax.weights.formats import protobuf


def test_the_archive_comes_back_bitwise(trained, tmp_path, capsys):
    original = inception_jax.load(trained)
    for name in ("model.safetensors", "model.npz"):
        out = tmp_path / name.partition(".")[2] / name
        assert export_weights.main([f"--workdir={trained}", f"--out={out}"]) == 0
        assert f"written to {out}" in capsys.readouterr().out
        again = inception_jax.load(out)
        assert again.fingerprint == original.fingerprint
        assert again.metadata == original.metadata
        assert export_weights.main([f"--workdir={out}", f"--out={tmp_path / name}"]) == 0  # export, import, export
        assert inception_jax.load(tmp_path / name).fingerprint == original.fingerprint
    assert json.loads((tmp_path / "safetensors" / "config.json").read_text()) == json.loads(
        json.dumps(original.metadata)
    )


def test_stablehlo_runs_without_the_network(trained, tmp_path, monkeypatch):
    assert export_weights.main([f"--workdir={trained}", "--format=stablehlo", f"--out={tmp_path}"]) == 0
    classifier, run = inception_jax.load(trained), stablehlo.read(tmp_path)
    size = classifier.crop_config.size
    for count in (1, 3):
        images = np.random.default_rng(count).integers(0, 256, (count, size, size, 3), np.uint8)
        np.testing.assert_allclose(
            run(images), classifier.run(images, classifier.end_points[-1])[0], rtol=1e-5, atol=1e-6
        )
    note = json.loads((tmp_path / "config.json").read_text())["stablehlo"]
    assert note["jax"] == jax.__version__
    assert note["platforms"] == ["cpu", "cuda", "tpu"]
    days = datetime.date.fromisoformat(note["readable_until"]) - datetime.date.fromisoformat(note["date"])
    assert days.days == 180
    assert inception_jax.load(tmp_path / "model.safetensors").fingerprint == classifier.fingerprint

    (tmp_path / "model.stablehlo").write_bytes(b"old")
    with pytest.raises(
        UserError, match=rf"cannot be read by JAX .* readable until {note['readable_until']}; export it again"
    ):
        stablehlo.read(tmp_path)


def small(rule):
    return Network(
        layers=(
            ("conv1", Conv("conv3x3", 4, 3, stride=2)),
            ("pool1", MaxPool(3, 2)),
            ("pool2", AvgPool(3, 1, padding="SAME")),
            ("pool", GlobalAvgPool()),
            ("linear", Logits("classifier", 5)),
        ),
        style=Style("SAME", rule, initializers.he_normal(), batch_norm=BatchNorm(0.9, 1e-3, scale=False)),
        input_shape=(12, 12, 3),
        min_size=1,
    )


def graph_of(model, **options):
    """The nodes, constants, attributes and metadata of an export, read by our own reader."""
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *model.input_shape)))
    data = onnx.to_onnx(model, variables, onnx.Input(12, 3, (1.0, 2.0, 3.0)), **options)
    return variables, data


def attributes(data, operation):
    """The integers of the attributes of the first node of a kind."""
    [graph] = protobuf.all_of(memoryview(data), 7)
    node = next(node for node in protobuf.all_of(graph, 1) if protobuf.first(node, 4) == operation.encode())
    encoded = protobuf.all_of(node, 5)
    return {
        bytes(protobuf.first(each, 1)).decode(): protobuf.integers(each, 8).tolist() or protobuf.first(each, 3)
        for each in encoded
    }


def test_onnx_states_each_padding_as_numbers(tmp_path):
    # conv1: 12 to 6, SAME: one cell after. pool1: 6 to 3 by SAME and CEIL, one cell after; to 2 by VALID.
    for rule, pads in (("SAME", [0, 0, 1, 1]), ("CEIL", [0, 0, 1, 1]), ("VALID", [0, 0, 0, 0])):
        variables, data = graph_of(small(rule), end_points=("pool1",))
        assert attributes(data, "Conv")["pads"] == [0, 0, 1, 1]
        assert attributes(data, "MaxPool")["pads"] == pads
        average = attributes(data, "AveragePool")
        assert (average["pads"], average["count_include_pad"]) == ([1, 1, 1, 1], 0)
    (tmp_path / "model.onnx").write_bytes(data)
    content = formats.read(tmp_path / "model.onnx")
    operations = [node["type"] for node in content.metadata["nodes"]]
    assert operations[:5] == ["Cast", "Sub", "Div", "Transpose", "Conv"]
    assert "BatchNormalization" not in operations
    assert [node["outputs"] for node in content.metadata["nodes"][-2:]] == [["logits"], ["pool1"]]

    # Folded: the kernel times 1 / sqrt(var + epsilon), var = 1 and mean = 0 at first.
    kernel = np.asarray(variables["params"]["conv1"]["conv3x3"]["kernel"]).transpose(3, 2, 0, 1)
    np.testing.assert_allclose(content.arrays["conv1/conv3x3/kernel"], kernel / np.sqrt(1.001), rtol=1e-6)
    _, data = graph_of(small("SAME"), fold=False, probabilities=True)
    (tmp_path / "model.onnx").write_bytes(data)
    content = formats.read(tmp_path / "model.onnx")
    operations = [node["type"] for node in content.metadata["nodes"]]
    assert operations.count("BatchNormalization") == 1
    assert operations[-2:] == ["Softmax", "Identity"]
    np.testing.assert_array_equal(content.arrays["conv1/conv3x3/kernel"], kernel)


def test_what_cannot_be_exported_is_one_line(trained, tmp_path, capsys):
    def error(*arguments):
        assert export_weights.main([f"--workdir={trained}", *arguments]) == 2
        return capsys.readouterr().err

    assert "no suffix of a format" in error(f"--out={tmp_path / 'model.pkl'}")
    assert "timm has no network like tiny" in error("--format=timm", f"--out={tmp_path / 'model.safetensors'}")
    assert "--end-points='nowhere' is not one of stem, body, pool, top" in error(
        f"--out={tmp_path / 'model.onnx'}", "--end-points=nowhere"
    )
    assert "holds weights alone" in error(f"--out={tmp_path / 'model.npz'}", "--probabilities")
    assert (
        "cannot be written" in error(f"--out={tmp_path / 'file' / 'model.npz'}")
        if (tmp_path / "file").touch()
        else True
    )
    model = create_model("lenet5")
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1))))
    filled = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), variables)
    with pytest.raises(UserError, match="this network's own, which is not exported to ONNX; take StableHLO"):
        onnx.to_onnx(model, filled, onnx.Input(32, 1, None))


def test_which_networks_the_peers_have():
    v3 = {"name": "inception_v3", "count_include_pad": True, "aux": True}
    assert peers.find("torchvision", v3).options == {"count_include_pad": True}
    with pytest.raises(UserError, match="keras's network is inception_v3 with aux=False, batch_norm_scale=False"):
        peers.find("keras", v3)
    assert peers.find("keras", {"name": "vgg_d"}).network == "vgg_d"
