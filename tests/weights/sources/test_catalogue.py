"""The catalogue: which of its files names and shapes cannot tell apart, and what it states of each."""

import re

import numpy as np

from inception_jax.weights.sources import catalogue, importing, mapping

SOURCES = catalogue.sources()

# Files that names and shapes cannot tell apart.
ALIKE = [
    {"torchvision/inception_v3", "timm/inception_v3.tv_in1k"},
    {"timm/inception_v3.tf_in1k", "timm/inception_v3.tf_adv_in1k", "timm/inception_v3.gluon_in1k"},
    {"timm/inception_resnet_v2.tf_in1k", "timm/inception_resnet_v2.tf_ens_adv_in1k"},
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
    """Each map covers its network, each name stands for one array, and each file is found again."""
    for weights, sources in catalogue.maps():
        arrays, names = empty(weights), {source.name for source in sources}
        assert len(arrays) == len(mapping.entries(weights)), f"{names}: a name stands for two arrays"
        found = {source.name for source in importing.identify(arrays)}
        twice = names & {"torchvision/vgg16", "torchvision/vgg19"}  # see the next test
        repaired = {name.replace("torchvision", "jcjohnson") for name in twice}
        assert found == next((alike for alike in ALIKE if names <= alike), names) | repaired, names


def test_old_and_repaired_names_of_caffes_vgg():
    """jcjohnson's file has torchvision's names of 2017; with today's names it cannot be told from torchvision's."""
    for depth in (16, 19):
        old, today = empty(SOURCES[f"jcjohnson/vgg{depth}"].weights), empty(SOURCES[f"torchvision/vgg{depth}"].weights)
        assert {"classifier.1.weight", "classifier.4.weight", "classifier.6.weight"} < old.keys()
        assert [source.name for source in importing.identify(old)] == [f"jcjohnson/vgg{depth}"]
        alike = {f"torchvision/vgg{depth}", f"jcjohnson/vgg{depth}"}
        assert {source.name for source in importing.identify(today)} == alike


def test_what_differs_between_files_with_the_same_arrays_is_said():
    found = importing.identify(empty(SOURCES["onnx/googlenet"].weights))
    assert importing.different(found)
    assert "network=googlenet" in importing.explain(found)
    assert "network=inception_v1_onnx" in importing.explain(found)


def test_each_array_of_a_file_has_one_place():
    for weights, sources in catalogue.maps():
        names = [entry.theirs for entry in mapping.entries(weights)]
        assert len(names) == len(set(names)), sources[0].name
        patterns = "|".join(weights.ignored) or r"\b\B"  # nothing
        assert not [name for name in names if re.fullmatch(patterns, name)], sources[0].name


def test_entries_of_the_catalogue_are_complete():
    for name, source in SOURCES.items():
        assert source.url.startswith(("http://", "https://")) != bool(source.hub), name
        assert re.fullmatch(r"[\w.-]+\.(pth?|safetensors|h5|tar\.gz|tgz|zip|caffemodel|onnx)", source.file), name
        for digest, length in ((source.sha1, 40), (source.md5, 32)):
            assert re.fullmatch(rf"([0-9a-f]{{{length}}})?", digest), name
        assert source.resize >= source.image_size, name
        assert source.top1 is None or 50 < source.top1 < 82, name
        # The channels of an image are in the order red, green, blue; the mean of red is the largest in all of them.
        assert source.mean[0] >= source.mean[1] >= source.mean[2], name
        assert ("blue, green, red" in source.remarks) == source.weights.bgr, name
        assert source.license, name
