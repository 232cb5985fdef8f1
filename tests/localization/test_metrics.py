import json

import numpy as np
import pytest

from inception_jax.localization.metrics import (
    Judged,
    classification_error,
    known_accuracy,
    localization_error,
    max_box_acc,
    overlap,
    summarise,
)

WHOLE = [0, 0, 9, 9]  # 100 pixels
HALF = [0, 0, 9, 4]  # an IoU of 50 / 100 with it
LESS = [0, 0, 9, 3]  # 0.4
ELSEWHERE = [20, 20, 29, 29]


def judged(label, classes, boxes, truth=(WHOLE,), known=WHOLE, counts=True, curve=0.5):
    levels = np.full(100, curve)
    truth = np.array(truth, np.float32).reshape(-1, 4)
    return Judged(label, np.array(classes), np.array(boxes, float), np.array(known), truth, levels, levels, counts)


def test_overlap_is_that_of_the_best_true_box():
    assert overlap(np.array([WHOLE, HALF, ELSEWHERE]), np.array([LESS, HALF])).tolist() == [0.5, 1, 0]
    assert overlap(np.array(WHOLE), np.array([LESS, HALF])) == 0.5
    assert overlap(np.array([WHOLE]), np.zeros((0, 4))).tolist() == [0]


# By hand, as eval_clsloc.m: wrong unless a prediction among the first has the class and an IoU of 0.5 or more.
CASES = (
    # label, classes, boxes, wrong within 1, 2 and 5 predictions
    (7, [7, 1, 2, 3, 4], [WHOLE, WHOLE, WHOLE, WHOLE, WHOLE], (0, 0, 0)),
    (7, [7, 1, 2, 3, 4], [HALF, WHOLE, WHOLE, WHOLE, WHOLE], (0, 0, 0)),  # exactly 0.5 fits
    (7, [7, 1, 2, 3, 4], [LESS, WHOLE, WHOLE, WHOLE, WHOLE], (1, 1, 1)),  # the box of the right class does not
    (7, [1, 7, 2, 3, 4], [WHOLE, HALF, ELSEWHERE, ELSEWHERE, ELSEWHERE], (1, 0, 0)),
    (7, [1, 2, 3, 4, 7], [LESS, LESS, LESS, LESS, WHOLE], (1, 1, 0)),
    (7, [1, 2, 3, 4, 5], [WHOLE] * 5, (1, 1, 1)),  # the right class is missing
    (7, [7, 7, 1, 2, 3], [ELSEWHERE, WHOLE, WHOLE, WHOLE, WHOLE], (1, 0, 0)),  # two boxes for one class
)


@pytest.mark.parametrize(("label", "classes", "boxes", "wrong"), CASES)
def test_the_error_of_one_image(label, classes, boxes, wrong):
    image = judged(label, classes, boxes)
    assert tuple(localization_error([image], top) for top in (1, 2, 5)) == wrong


def test_any_true_box_is_enough():
    image = judged(7, [7], [ELSEWHERE], truth=[WHOLE, ELSEWHERE])
    assert localization_error([image], 5) == 0
    assert known_accuracy([image]) == 1


def test_over_all_images():
    images = [judged(*case[:3]) for case in CASES]
    for place, top in enumerate((1, 2, 5)):
        assert localization_error(images, top) == pytest.approx(np.mean([case[3][place] for case in CASES]))
    assert classification_error(images, 1) == 3 / 7
    assert classification_error(images, 5) == 1 / 7


def test_the_blacklist_is_left_out_of_localisation_but_not_of_classification():
    right, wrong = judged(7, [7], [WHOLE]), judged(7, [7], [ELSEWHERE], known=ELSEWHERE)
    listed = judged(7, [1], [WHOLE], truth=[], known=ELSEWHERE, counts=False)
    images = [right, wrong, listed, listed]
    assert localization_error(images, 1) == 1 / 2
    assert known_accuracy(images) == 1 / 2
    assert classification_error(images, 1) == 2 / 4
    summary = summarise(images)
    assert (summary.images, summary.counted) == (4, 2)


def test_fewer_boxes_than_classes():
    assert localization_error([judged(7, [1, 7], [WHOLE])], 5) == 1
    assert localization_error([judged(7, [7, 1], np.zeros((0, 4)))], 5) == 1


def test_max_box_acc_takes_the_best_threshold_of_all_images_for_each_level():
    overlaps = np.zeros((4, 100))
    overlaps[:, 10] = (0.3, 0.3, 0.3, 0.0)  # 3/4, 0, 0
    overlaps[:, 20] = (0.5, 0.5, 0.2, 0.2)  # 2/4, 2/4, 0
    overlaps[:, 21] = (0.5, 0.5, 0.2, 0.2)
    overlaps[:, 90] = (0.7, 0.1, 0.1, 0.1)  # 1/4, 1/4, 1/4
    assert max_box_acc(overlaps) == (pytest.approx(0.5), (0.75, 0.5, 0.25), (0.1, 0.2, 0.9))


def test_summary():
    images = [judged(7, [7], [WHOLE], curve=curve) for curve in (0.2, 0.4, 0.6, 0.8)]
    images[0].largest[30:] = 0.9
    summary = summarise(images)
    assert (summary.known, summary.top1_error, summary.top5_class_error) == (1, 0, 0)
    assert (summary.best_known, summary.best_threshold) == (0.75, 0.3)
    assert summary.known_by_threshold[[0, 29, 30, 99]].tolist() == [0.5, 0.5, 0.75, 0.75]
    assert json.loads(json.dumps(summary.to_json()))["max_box_acc"]["accuracies"] == [1, 0.75, 0.5]
