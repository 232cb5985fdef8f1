"""Maps of the ONNX model zoo on its real graphs, which the package onnx holds with constant weights.

Constant weights give every class the same score, so the graphs are run with random ones too.
"""

import os

import jax
import numpy as np
import pytest

from inception_jax.weights import formats
from inception_jax.weights.sources import mapping, onnx_zoo

MAPS = {
    "bvlc_alexnet": onnx_zoo.ALEXNET,
    "inception_v1": onnx_zoo.INCEPTION_V1,
    "inception_v2": onnx_zoo.INCEPTION_V2,
    "zfnet512": onnx_zoo.ZFNET512,
    "vgg19": onnx_zoo.VGG19_CAFFE2,
    "resnet50": onnx_zoo.RESNET50_CAFFE2,
}


@pytest.fixture(scope="module")
def onnx():
    return pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def folder(onnx):
    return os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", "light")


def scores(weights, file, images):
    """Our class scores for images [N, C, H, W] in the order of the channels that the file's network takes."""
    variables = mapping.to_ours(weights, formats.read(file).arrays)
    images = images.transpose(0, 2, 3, 1)
    logits, _ = jax.jit(mapping.build(weights).apply)(variables, images[..., ::-1] if weights.bgr else images)
    return np.asarray(logits)


@pytest.mark.parametrize("name", MAPS)
def test_graphs_give_the_outputs_that_stand_beside_them(onnx, folder, name):
    file = os.path.join(folder, f"light_{name}.onnx")
    expected = onnx.numpy_helper.to_array(onnx.load_tensor(os.path.join(folder, f"light_{name}_output_0.pb")))
    images = np.linspace(0, 1, 3 * 224 * 224, endpoint=False, dtype=np.float32).reshape(1, 3, 224, 224)
    ours = jax.nn.softmax(scores(MAPS[name], file, images))
    np.testing.assert_allclose(ours, expected.reshape(ours.shape), rtol=1e-5)


def draw(rng, name: str, shape) -> np.ndarray:
    """Values that keep the signal's scale from layer to layer."""
    if len(shape) > 1:  # the last units of residual blocks are small, because their sums grow
        gain = 0.2 if name.endswith("branch2c_w_0") else 2.0
        return rng.standard_normal(shape, np.float32) * np.sqrt(gain / np.prod(shape[1:]), dtype=np.float32)
    if name.endswith(("_var_0", "_riv_0", "_scale_0", "/sc_w_0", "_bn_s_0")):
        return rng.uniform(0.7, 1.3, shape).astype(np.float32)
    return 0.2 * rng.standard_normal(shape, np.float32)


def with_random_weights(onnx, model):
    """Replaces all constant weights by random ones, and the output by the scores before the softmax."""
    rng, graph = np.random.default_rng(0), model.graph
    shapes = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    drawn = {}
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            drawn[node.output[0]] = draw(rng, node.output[0], tuple(shapes[node.input[0]]))
    drawn |= {
        name: draw(rng, name, value.shape)
        for name, value in shapes.items()
        if not name.endswith("__SHAPE") and value.dtype == np.float32 and "queue" not in name
    }
    nodes = [node for node in graph.node if node.op_type not in ("ConstantOfShape", "Softmax")]
    kept = [each for each in graph.initializer if each.name.startswith("OC2_DUMMY")]  # shapes of reshapes
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *(onnx.numpy_helper.from_array(value, name) for name, value in drawn.items())])
    inputs = [each for each in graph.input if each.type.tensor_type.shape.dim[-1].dim_value == 224]
    del graph.input[:], graph.value_info[:]
    graph.input.extend(inputs)
    graph.output[0].name = nodes[-1].output[0]


@pytest.mark.parametrize("name", MAPS)
def test_graphs_with_random_weights_give_our_scores(onnx, folder, name, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model = onnx.load(os.path.join(folder, f"light_{name}.onnx"))
    with_random_weights(onnx, model)
    file = str(tmp_path / "random.onnx")
    onnx.save(model, file)
    images = np.random.default_rng(1).standard_normal((1, 3, 224, 224), np.float32)
    [expected] = runtime.InferenceSession(file).run(None, {model.graph.input[0].name: images})
    ours = scores(MAPS[name], file, images)
    assert expected.std() > 0.01 * abs(expected).max()
    assert abs(ours - expected).max() < 1e-5 * abs(expected).max()
