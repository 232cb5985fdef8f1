"""All maps and known files: each network's every array has one place in the file, and a file says what it is."""

import re

import numpy as np
import pytest

from inception_jax.errors import UserError
from inception_jax.weights.sources import catalogue, importing, mapping

SOURCES = catalogue.sources()

# Files that names and shapes cannot tell apart.
ALIKE = [
    {"torchvision/inception_v3", "timm/inception_v3.tv_in1k"},
    {"timm/inception_v3.tf_in1k", "timm/inception_v3.tf_adv_in1k", "timm/inception_v3.gluon_in1k"},
    {"timm/inception_resnet_v2.tf_in1k", "timm/inception_resnet_v2.tf_ens_adv_in1k"},
    {"torchvision/vgg16", "jcjohnson/vgg16"},
    {"torchvision/vgg19", "jcjohnson/vgg19"},
    {"torchvision/resnet50", "torchvision/resnet50.v2", "timm/resnet50.tv_in1k"},
    {"caffe/bvlc_alexnet", "caffe/bvlc_reference_caffenet"},
    {"onnx/alexnet", "onnx/caffenet"},
    {"onnx/googlenet", "onnx/inception_v1"},
]


def empty(weights) -> dict[str, np.ndarray]:
    """Arrays of the shapes of a published file, which take no memory."""
    classes = mapping.default_classes(weights) + weights.background
    shapes = {
        entry.theirs: tuple(classes if n is None else n for n in entry.shape) for entry in mapping.entries(weights)
    }
    return {name: np.broadcast_to(np.float32(1), shape) for name, shape in shapes.items()}


def test_a_file_is_known_by_its_names_and_shapes():
    for name, source in SOURCES.items():
        entries, arrays = mapping.entries(source.weights), empty(source.weights)
        assert len(arrays) == len(entries), f"{name}: a name stands for two arrays"
        found = {each.name for each in importing.identify(arrays)}
        assert found == next((alike for alike in ALIKE if name in alike), {name}), name


def test_what_differs_between_files_with_the_same_arrays_is_said():
    found = importing.identify(empty(SOURCES["onnx/googlenet"].weights))
    assert importing.different(found)
    assert "network=googlenet" in importing.explain(found)
    assert "network=inception_v1_onnx" in importing.explain(found)


def test_another_number_of_classes_and_what_does_not_fit():
    weights = SOURCES["caffe/nin_imagenet"].weights
    arrays = empty(weights)
    for name in ("cccp8-1024/0", "cccp8-1024/1"):
        arrays[name] = arrays[name][:7]
    mapping.check(weights, arrays)
    assert mapping.number_of_classes(weights, arrays) == 7
    arrays["cccp8-1024/1"] = arrays["cccp8-1024/1"][:6]
    arrays["extra/0"] = arrays["conv1/1"]
    arrays["conv2/0"] = arrays.pop("conv1/0")
    with pytest.raises(UserError) as error:
        mapping.check(weights, arrays)
    lines = str(error.value).splitlines()
    assert lines[0] == "the weights are not those of nin_imagenet; 4 arrays differ:"
    assert sorted(line.strip() for line in lines[1:]) == [
        "cccp8-1024/0: 7x1024x1x1 in place of 6x1024x1x1",
        "conv1/0: missing (96x3x11x11)",
        "conv2/0: 96x3x11x11 in place of 256x96x5x5",
        "extra/0: not known (96)",
    ]


def test_entries_of_the_catalogue_are_complete():
    for name, source in SOURCES.items():
        assert source.url.startswith(("http://", "https://")) != bool(source.hub), name
        assert re.fullmatch(r"[\w.-]+\.(pth|safetensors|h5|tar\.gz|tgz|zip|caffemodel|onnx)", source.file), name
        for digest, length in ((source.sha1, 40), (source.md5, 32)):
            assert re.fullmatch(rf"([0-9a-f]{{{length}}})?", digest), name
        assert source.resize >= source.image_size, name
        assert source.top1 is None or 50 < source.top1 < 82, name
        # The channels of an image are in the order red, green, blue; the mean of red is the largest in all of them.
        assert source.mean[0] >= source.mean[1] >= source.mean[2], name
        assert source.license, name
