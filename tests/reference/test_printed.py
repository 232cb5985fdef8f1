import pytest

import inception_jax
from inception_jax.reference import NOTES, PRINTED, Printed
from inception_jax.reference.printed import KINDS

NAMES = inception_jax.list_models()


@pytest.mark.parametrize(
    ("what", "text", "unit", "ours", "agrees"),
    [
        ("weights", "2.7K", 1024, 2_776, True),  # 2.71
        ("weights", "2.7K", 1024, 2_712, False),  # 2.65, so biases are counted
        ("weights", "2.7K", 1024, 9_408, False),
        ("weights", "159K", 1024, 163_328, True),  # 159.5: cut, not rounded
        ("weights", "437K", 1024, 448_512, False),  # 438.0
        ("weights", "364K", 1024, 375_552, False),  # 366.75
        ("multiply-adds", "1.5 billion", 10**9, 1_582_671_872, True),  # cut
        ("multiply-adds", "1.5 billion", 10**9, 1_498_677_248, True),  # rounded
        ("multiply-adds", "1.5 billion", 10**9, 1_610_000_000, False),
        ("parameters", "29MB", 2**18, 7_595_176, True),  # 28.97
        ("parameters", "60,965,224", 1, 60_965_224, True),
        ("parameters", "60,965,224", 1, 60_965_225, False),
        ("output", "55x55x96", 1, (55, 55, 96), True),
        ("output", "55x55x96", 1, (55, 48, 96), False),
    ],
)
def test_a_number_agrees_if_rounded_or_cut_it_is_the_same(what, text, unit, ours, agrees):
    assert Printed(what, "", text, "Table 1", unit).agrees(ours) is agrees


def test_a_text_without_a_number_is_refused():
    with pytest.raises(ValueError, match="'about 5' does not begin with a number"):
        Printed("parameters", "", "about 5", "abstract").agrees(5)


def test_every_network_has_what_was_printed_and_nothing_else_has():
    assert sorted(PRINTED) == sorted(NOTES) == NAMES
    assert {entry.what for entries in PRINTED.values() for entry in entries} <= set(KINDS)
    assert all(entry.source for entries in PRINTED.values() for entry in entries)


@pytest.mark.parametrize("name", NAMES)
def test_what_differs_has_a_reason_and_what_agrees_has_none(name, summary_of):
    for entry in summary_of(name).comparisons:
        assert bool(entry.printed.reason) != entry.agrees, entry


# The differences that are known; a change that adds or removes one must say so here.
DIFFERENT = {
    "googlenet": "conv1 4a 4b 4c 4d 4e 5a 5b",
    "bn_inception": "3c 4c 4d 4e 13.6M",
    "inception_resnet_v2": "block35_10 block17_20 block8_10",
    "vgg_d": "96MB",
    "base_cnn_c": "1.3",
    "strided_cnn_c": "1.3",
    "alexnet": "253,440",
    "all_cnn_c": "",
    "vgg_e": "",
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_known_differences(name, summary_of):
    different = [entry.printed for entry in summary_of(name).comparisons if not entry.agrees]
    for part in DIFFERENT[name].split():
        assert any(
            part in (entry.layer, *entry.text.split()) or entry.layer.endswith(f"_{part}") for entry in different
        )
    assert bool(different) == bool(DIFFERENT[name])
