"""Maps of TensorFlow's frozen graphs: GraphDefs with their names, written by TensorFlow."""

import numpy as np
import pytest

from inception_jax.weights import formats
from inception_jax.weights.sources import graphs, mapping


def shapes(weights) -> dict[str, tuple[int, ...]]:
    return {entry.theirs: tuple(1008 if n is None else n for n in entry.shape) for entry in mapping.entries(weights)}


# Constants of inception5h that are no weights.
NO_WEIGHTS = (
    *(f"mixed{block}/concat_dim" for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")),
    *(f"{layer}/reshape/shape" for i in (0, 1) for layer in (f"head{i}_bottleneck", f"nn{i}")),
    "avgpool0/reshape/shape",
)


def test_inception5h(tmp_path):
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes(graphs.INCEPTION5H).items()}
    assert values["mixed4a_3x3_w"].shape == (3, 3, 96, 204)
    assert values["mixed5a_5x5_bottleneck_w"].shape == (1, 1, 832, 48)
    assert values["head0_bottleneck_w"].shape == (1, 1, 508, 128)
    assert values["nn1_w"].shape == (2048, 1024)
    with tf.Graph().as_default() as graph:
        tf.compat.v1.placeholder(tf.float32, name="input")
        for name, value in values.items():
            tf.constant(value, name=name)
        for name in NO_WEIGHTS:
            tf.constant(3, name=name)
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    variables = mapping.to_ours(graphs.INCEPTION5H, formats.read(tmp_path / "graph.pb").arrays)
    params = variables["params"]
    np.testing.assert_array_equal(params["inception_4a"]["conv3x3"]["kernel"], values["mixed4a_3x3_w"])
    np.testing.assert_array_equal(params["aux2"]["classifier"]["bias"], values["softmax1_b"])
    np.testing.assert_array_equal(params["linear"]["classifier"]["kernel"], values["softmax2_w"])
    back = mapping.to_theirs(graphs.INCEPTION5H, variables)
    assert back.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(back[name], value, err_msg=name)


def test_the_graph_of_fid():
    """Some names of classify_image_graph_def.pb as listings of the graph have them, and their shapes."""
    found = shapes(graphs.FID)
    expected = {
        "conv/conv2d_params": (3, 3, 3, 32),
        "conv_4/conv2d_params": (3, 3, 80, 192),
        "mixed/tower/conv_1/conv2d_params": (5, 5, 48, 64),
        "mixed_2/tower_1/conv_2/batchnorm/beta": (96,),
        "mixed_3/conv/conv2d_params": (3, 3, 288, 384),
        "mixed_3/tower/conv_2/conv2d_params": (3, 3, 96, 96),
        "mixed_4/tower/conv_1/conv2d_params": (1, 7, 128, 128),
        "mixed_4/tower_1/conv_1/conv2d_params": (7, 1, 128, 128),
        "mixed_7/tower_1/conv_4/conv2d_params": (1, 7, 192, 192),
        "mixed_8/tower/conv_1/conv2d_params": (3, 3, 192, 320),
        "mixed_8/tower_1/conv_3/conv2d_params": (3, 3, 192, 192),
        "mixed_10/conv/conv2d_params": (1, 1, 2048, 320),
        "mixed_10/tower/mixed/conv/conv2d_params": (1, 3, 384, 384),
        "mixed_10/tower/mixed/conv_1/batchnorm/moving_variance": (384,),
        "mixed_10/tower_1/conv_1/conv2d_params": (3, 3, 448, 384),
        "mixed_10/tower_1/mixed/conv_1/conv2d_params": (3, 1, 384, 384),
        "mixed_10/tower_2/conv/batchnorm/gamma": (192,),
        "softmax/weights": (2048, 1008),
        "softmax/biases": (1008,),
    }
    assert {name: found.get(name) for name in expected} == expected
    assert len(found) == 94 * 5 + 2
    arrays = {name: np.broadcast_to(np.float32(1), shape) for name, shape in found.items()}
    for name in ("mixed/join/concat_dim", "pool_3/_reshape/shape", "ExpandDims/dim", "ResizeBilinear/size", "Sub/y"):
        arrays[name] = np.int32(1)
    mapping.check(graphs.FID, arrays)
