import numpy as np
import pytest

from inception_jax.localization.heat_boxes import THRESHOLDS, all_boxes, largest_box

# A ring of 5 x 5 pixels around an empty one of 3 x 3, a single hot pixel, and two pixels that touch at a corner.
HEAT = np.zeros((10, 12), np.float32)
HEAT[1:6, 2:7] = 0.5
HEAT[2:5, 3:6] = 0
HEAT[8, 1] = 1
HEAT[7, 9], HEAT[8, 10] = 0.21, 0.2


def test_the_largest_part_above_a_fraction_of_the_maximum():
    assert largest_box(HEAT).tolist() == [2, 1, 6, 5]
    assert largest_box(HEAT, 0.49).tolist() == [2, 1, 6, 5]
    assert largest_box(HEAT, 0.5).tolist() == [1, 8, 1, 8]  # exceeds, not reaches
    assert largest_box(3 * HEAT).tolist() == [2, 1, 6, 5]
    assert largest_box(HEAT.T.copy()).tolist() == [1, 2, 5, 6]


def test_pixels_that_touch_at_a_corner_are_connected():
    heat = HEAT * (np.arange(12) > 7)
    assert largest_box(heat, 0.2).tolist() == [9, 7, 10, 8]
    assert largest_box(heat, 0.96).tolist() == [9, 7, 9, 7]  # 0.2 is not more than 0.96 of 0.21


def test_the_first_of_equal_parts():
    heat = np.zeros((5, 5), np.float32)
    heat[4, 0] = heat[0, 4] = 1
    assert largest_box(heat).tolist() == [4, 0, 4, 0]


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_without_heat_it_is_the_whole_map(value):
    heat = np.full((3, 5), value, np.float32)
    assert largest_box(heat).tolist() == [0, 0, 4, 2]
    assert all_boxes(heat, 0).tolist() == [[0, 0, 4, 2]]


def test_all_contours_also_those_of_holes():
    found = {tuple(box) for box in all_boxes(HEAT, 0.2).tolist()}
    # OpenCV's contour of a hole runs along the pixels around it.
    assert found == {(2, 1, 6, 5), (1, 8, 1, 8), (9, 7, 9, 7)}
    found = {tuple(box) for box in all_boxes(HEAT, 0.1).tolist()}
    assert found == {(2, 1, 6, 5), (1, 8, 1, 8), (9, 7, 10, 8)}
    thick = np.zeros((12, 12), np.float32)
    thick[1:11, 1:11] = 1
    thick[4:8, 4:8] = 0
    assert sorted(map(tuple, all_boxes(thick, 0.5).tolist())) == [(1, 1, 10, 10), (3, 3, 8, 8)]


def test_thresholds():
    assert len(THRESHOLDS) == 100
    assert (THRESHOLDS[0], THRESHOLDS[20], THRESHOLDS[-1]) == (0, 0.2, 0.99)
