"""Exported ONNX graphs in ONNX Runtime: the logits and every end point are ours, with batch norm folded and kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax import create_model
from inception_jax.data.augment import Preprocessing
from inception_jax.runs.renamed import MISSING_FIELDS
from inception_jax.weights.export.onnx import Input, to_onnx
from tests.parity.conftest import required

TOLERANCE = 1e-5  # largest difference relative to the largest value
# One network of each kind: the size of its images, where SAME and CEIL meet odd grids.
SIZES = {
    **{name: 64 for name in ("googlenet", "zfnet", "vgg_a", "bn_inception", "resnet50", "googlenet_tv", "inception5h")},
    **{name: 107 for name in ("inception_v2", "inception_v3", "inception_v3_fid", "inception_v4")},
    **{name: 107 for name in ("inception_resnet_v1", "inception_resnet_v2")},
    **{"alexnet": 67, "alexnet_tv": 95, "nin_imagenet": 67, "all_cnn_c": 32, "lenet5_modern": 32},
    **{"resnet50_slim": 65, "googlenet_gap": 65},
    **{"googlenet_slim": 65, "bn_inception_slim": 65, "bn_inception_caffe": 65},
}


def randomize(shapes):
    """Random weights and statistics with which signals neither vanish nor explode."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        kind, shape = path[-1].key, leaf.shape
        if kind == "kernel":
            return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        if kind in ("var", "scale"):
            return rng.uniform(0.5, 1.5, shape).astype(np.float32)
        return 0.1 * rng.standard_normal(shape, np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def run(data, images):
    onnx, onnxruntime = required("onnx"), required("onnxruntime")
    onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, {"images": images}), strict=True))


@pytest.mark.parametrize("name", SIZES)
def test_end_points_in_onnx_runtime(name):
    model, size = create_model(name), SIZES[name]
    channels = model.input_shape[2]
    shape = (2, size, size, channels)
    variables = randomize(jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape))))
    images = np.random.default_rng(1).standard_normal(shape, np.float32)
    logits, expected = jax.jit(model.apply)(variables, images)
    expected = {layer: np.asarray(expected[layer]) for layer, _ in model.layers} | {"logits": np.asarray(logits)}
    names = [layer for layer, _ in model.layers if layer != "logits"]
    for fold in (True, False):
        data = to_onnx(model, variables, Input(size, channels, None), end_points=names, fold=fold)
        found = run(data, images.transpose(0, 3, 1, 2))
        assert found.keys() == {"logits", *names}
        for layer, output in found.items():
            output = output.transpose(0, 2, 3, 1) if output.ndim == 4 else output
            error = (
                np.abs(output.reshape(expected[layer].shape) - expected[layer]).max() / np.abs(expected[layer]).max()
            )
            assert error < TOLERANCE, f"{layer}: {error:.1e}"


@pytest.mark.parametrize("channels", [3, 1])
def test_the_preprocessing_is_inside(channels):
    model = create_model("lenet5_modern")
    if channels == 3:
        model = create_model("all_cnn_c")
    mean, std = (120.0, 110.0, 100.0), (60.0, 59.0, 58.0)
    preprocessing = Preprocessing(
        **{k: v for k, v in MISSING_FIELDS.items() if k in Preprocessing.__dataclass_fields__}
        | {"mean": mean, "std": std, "flip": True, "channels": channels}
    )
    shape = (3, 32, 32, channels)
    variables = randomize(jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape))))
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    expected = jax.nn.softmax(model.apply(variables, preprocessing.evaluate(images, {}))[0])
    found = run(to_onnx(model, variables, Input(32, channels, mean, std), probabilities=True), images)
    np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-4, atol=1e-6)
