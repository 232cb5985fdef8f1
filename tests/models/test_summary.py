"""What a summary says; that its numbers are right is tested in tests/models/test_family.py."""

import dataclasses

import pytest

import inception_jax
from inception_jax.models.summary import COLUMNS, check_with_xla
from inception_jax.models.trace import Convolution


def layers(summary):
    return {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in summary.rows() if not row[0].startswith(" ")}


def test_the_table_of_googlenet(summary_of):
    summary = summary_of("googlenet")
    rows, table = layers(summary), summary.rows()
    conv2 = (
        "conv2", "", "56x56x192", "114,944", "359,661,568", "3.21 MB", "19", "4",
        "56x56x192 ✓, 112K parameters ✓, 360M multiply-adds ✓",
    )  # fmt: skip
    inside = table[table.index(conv2) + 1 :][:2]
    assert [row[:5] for row in inside] == [
        ("  conv3x3_reduce", "1x1/1", "56x56x64", "4,160", "12,845,056"),
        ("  conv3x3", "3x3/1", "56x56x192", "110,784", "346,816,512"),
    ]
    assert (rows["aux1"]["parameters"], rows["aux1"]["multiply-adds"]) == ("3,188,840", "4,169,728")
    differences = "112x112x64 ✓, 2.7K parameters ✗ +6,707.2 [1], 34M multiply-adds ✗ +84,013,952 [1]"
    assert rows["conv1"]["printed"] == differences
    assert "separable" in summary.notes[0]
    assert f"[1] {summary.notes[0]}" in summary.lines()
    assert "6,998,552 parameters, 13,378,280 with auxiliary heads" in summary.lines()


def test_as_text_columns_are_aligned_and_the_totals_follow(summary_of):
    lines = str(summary_of("googlenet")).split("\n")
    header, conv1, *_ = lines
    assert header.endswith("  printed")
    assert conv1.startswith("conv1 ")
    assert conv1.index("112x112x64") == header.index("output")
    assert conv1.index("9,472") + len("9,472") == header.index("parameters") + len("parameters")
    assert conv1.index("112x112x64 ✓") == header.index("printed")
    assert next(line for line in lines if "conv3x3_reduce" in line).startswith("  conv3x3_reduce  1x1/1 ")
    assert lines[lines.index("") + 1] == "googlenet, images of 224x224x3, 1000 classes"


def test_strides_may_be_fractions(summary_of):
    rows = layers(summary_of("googlenet_tv"))  # whose heads pool adaptively
    assert (rows["aux1"]["memory"], rows["aux1"]["field"], rows["aux1"]["stride"]) == ("49.1 kB", "315", "53.3")
    assert rows["pool1"]["memory"] == "802.8 kB"


def test_operations_add_up(summary_of):
    for layer in summary_of("inception_resnet_v2").layers:
        assert sum(operation.parameters for operation in layer.operations) == layer.parameters, layer.name
    assert summary_of("vgg_d").activation_bytes == 4 * 15_237_608


def test_the_separable_stem_is_what_table_1_prints():
    summary = inception_jax.summary("googlenet", stem="separable")
    conv1 = [entry for entry in summary.comparisons if entry.printed.layer == "conv1"]
    assert [entry.ours for entry in conv1] == [(112, 112, 64), 2_776, 34_019_328]
    assert all(entry.agrees for entry in conv1)


def test_reasons_are_given_for_the_published_network_only():
    changed = str(inception_jax.summary("googlenet", module="naive"))
    assert "364K parameters ✗ +2," in changed
    assert "contradicts" not in changed
    assert "the printed numbers are of the network without these options" in changed
    without_heads = str(inception_jax.summary("googlenet", aux=False))
    assert "contradicts" in without_heads
    assert "these options" not in without_heads


def test_at_another_size_nothing_is_compared():
    for shape in ((40, 44), (40, 44, 1)):
        summary = inception_jax.summary("lenet5", shape)
        assert summary.comparisons == ()
        assert summary.layers[0].output == (36, 40, 6)
    assert "these options" not in str(inception_jax.summary("lenet5_modern", (40, 40), num_classes=3))


def test_a_network_may_be_given_instead_of_a_name(summary_of):
    given = inception_jax.summary(inception_jax.create_model("lenet5"))
    assert given.layers == summary_of("lenet5").layers
    assert given.comparisons == ()
    assert "network, images of 32x32x1, 10 classes" in str(given)
    with pytest.raises(inception_jax.UserError, match="^options=.* are of a network that is given by its name"):
        inception_jax.summary(inception_jax.create_model("lenet5"), num_classes=7)


def test_a_wrong_count_is_noticed(summary_of):
    [conv1] = [each for each in summary_of("alexnet").operations if each.path.startswith("conv1/")]
    check_with_xla([conv1])
    with pytest.raises(RuntimeError, match=r"conv1/conv11x11: \d+ products by our count, \d+ by XLA's"):
        check_with_xla([dataclasses.replace(conv1, convolution=_Miscounted(**vars(conv1.convolution)))])


class _Miscounted(Convolution):
    @property
    def products(self):
        return super().products + 1000
