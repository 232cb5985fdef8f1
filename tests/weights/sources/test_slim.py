"""Maps of tf-slim: the names and shapes of its own graphs, and checkpoints of both versions made by TensorFlow.

The digests are those of tf_slim 1.1.0's graphs, and for Inception-v4 and Inception-ResNet-v2 of research/slim's, of
1001 classes (1000 for VGG and ResNet). With random weights these graphs and ours gave the same logits, those of the
auxiliary heads too, within 4e-6 of the largest.
"""

import hashlib

import numpy as np
import pytest

from inception_jax.weights import formats
from inception_jax.weights.sources import mapping, slim

# Number of variables, and the first digits of SHA-256 over the sorted lines 'NAME HEIGHTxWIDTHx...'.
GRAPHS = {
    "INCEPTION_V1": (230, "d1eea6b0dcc2b54d"),
    "INCEPTION_V2": (277, "70618d940ebad992"),
    "INCEPTION_V3": (388, "20d5d0ccc34edf45"),
    "INCEPTION_V4": (608, "ba383544210ec476"),
    "INCEPTION_RESNET_V2": (908, "c695706daa679392"),
    "RESNET50": (267, "7af36a954b54a62a"),
    "VGG16": (32, "89fc73531bffe074"),
    "VGG19": (38, "9595fae2df80e1b2"),
}


def shapes(weights) -> dict[str, tuple[int, ...]]:
    classes = 1000 + weights.background
    return {entry.theirs: tuple(classes if n is None else n for n in entry.shape) for entry in mapping.entries(weights)}


@pytest.mark.parametrize("name", GRAPHS)
def test_names_and_shapes_are_those_of_the_graphs(name):
    lines = sorted(f"{variable} {'x'.join(map(str, shape))}" for variable, shape in shapes(getattr(slim, name)).items())
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert (len(lines), digest[:16]) == GRAPHS[name]


@pytest.mark.parametrize(("name", "version"), [("INCEPTION_V1", 2), ("INCEPTION_V2", 1)])
def test_checkpoints(name, version, tmp_path):
    tf = pytest.importorskip("tensorflow")
    weights, rng = getattr(slim, name), np.random.default_rng(0)
    values = {variable: rng.standard_normal(shape, np.float32) for variable, shape in shapes(weights).items()}
    saved = values | {"global_step": np.int64(7)}
    prefix = str(tmp_path / "model.ckpt")
    if version == 2:
        tf.raw_ops.SaveV2(
            prefix=prefix, tensor_names=[*saved], shape_and_slices=[""] * len(saved), tensors=[*saved.values()]
        )
    else:
        tf.raw_ops.Save(filename=prefix, tensor_names=[*saved], data=[*saved.values()])
    content = formats.read(prefix)
    assert content.format == f"tensorflow v{version}"
    variables = mapping.to_ours(weights, content.arrays)
    assert mapping.number_of_classes(weights, content.arrays) == 1000

    root = name.title().replace("_", "")  # InceptionV1
    theirs, ours = values[f"{root}/Conv2d_2c_3x3/weights"], variables["params"]["conv2"]["conv3x3"]["kernel"]
    np.testing.assert_array_equal(ours, theirs)
    classifier = next(variable for variable in values if "Logits" in variable and variable.endswith("weights"))
    ours = variables["params"]["linear"]["classifier"]["kernel"]
    np.testing.assert_array_equal(ours, values[classifier][0, 0, :, 1:])  # without the background
    back = mapping.to_theirs(weights, variables)
    assert back.keys() == values.keys()
    for variable, value in back.items():
        kept = (..., slice(1, None)) if "Logits" in variable else ()
        np.testing.assert_array_equal(value[kept], values[variable][kept], err_msg=variable)
    assert back[classifier.replace("weights", "biases")][0] == -100  # the background never wins


def test_a_depthwise_kernel_keeps_the_order_of_its_filters():
    """Filter m of channel c is number 8 c + m in both."""
    [entry] = [each for each in mapping.entries(slim.INCEPTION_V2) if each.theirs.endswith("depthwise_weights")]
    theirs = np.arange(7 * 7 * 3 * 8, dtype=np.float32).reshape(7, 7, 3, 8)
    ours = entry.read(theirs)
    assert ours.shape == (7, 7, 1, 24)
    assert ours[2, 3, 0, 8 * 2 + 5] == theirs[2, 3, 2, 5]
    np.testing.assert_array_equal(entry.write(ours), theirs)
