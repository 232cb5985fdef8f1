import pytest

import inception_jax
from inception_jax.reference import NOTES, PRINTED, Printed
from inception_jax.reference.printed import KINDS

NAMES = inception_jax.list_models()

AGREES = (
    ("weights", "2.7K", 1024, 2_776, True),  # 2.71
    ("weights", "2.7K", 1024, 2_712, False),  # 2.65, so biases are counted
    ("weights", "2.7K", 1024, 9_408, False),
    ("weights", "159K", 1024, 163_328, True),  # 159.5: truncated, not rounded
    ("weights", "437K", 1024, 448_512, False),  # 438.0
    ("weights", "364K", 1024, 375_552, False),  # 366.75
    ("multiply-adds", "1.5 billion", 10**9, 1_582_671_872, True),  # truncated
    ("multiply-adds", "1.5 billion", 10**9, 1_498_677_248, True),  # rounded
    ("multiply-adds", "1.5 billion", 10**9, 1_610_000_000, False),
    ("parameters", "29MB", 2**18, 7_595_176, True),  # 28.97
    ("parameters", "60,965,224", 1, 60_965_224, True),
    ("parameters", "60,965,224", 1, 60_965_225, False),
    ("output", "55x55x96", 1, (55, 55, 96), True),
    ("output", "55x55x96", 1, (55, 48, 96), False),
)


def test_a_number_agrees_if_it_is_the_same_after_rounding_or_truncation():
    for what, text, unit, ours, agrees in AGREES:
        assert Printed(what, "", text, "Table 1", unit).agrees(ours) is agrees, (text, ours)


def test_a_text_without_a_number_is_refused():
    with pytest.raises(ValueError, match="'about 5' does not begin with a number"):
        Printed("parameters", "", "about 5", "abstract").agrees(5)


def test_every_network_has_printed_numbers_and_no_other_name_has():
    assert sorted(PRINTED) == sorted(NOTES) == NAMES
    assert {entry.what for entries in PRINTED.values() for entry in entries} <= set(KINDS)
    assert all(entry.source for entries in PRINTED.values() for entry in entries)
