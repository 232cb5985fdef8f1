import dataclasses
import math

import numpy as np
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve

from inception_jax.evaluation.analysis import analyse, ranking, right_probability
from inception_jax.evaluation.metrics import label_rank

# What a classifier says of eight images, in 1/32, so that float32 holds it exactly. By hand, for each image: the five
# most probable classes, and whether the label is first (1), among them (5) or not (-).
TABLE = (
    np.array(
        [
            [16, 8, 4, 2, 2, 0],  # 0 1 2 3 4, label 0: 1
            [8, 16, 4, 2, 2, 0],  # 1 0 2 3 4, label 0: 5
            [12, 12, 2, 2, 2, 2],  # 0 1 2 3 4, label 1: 5 (a tie: 0 comes before 1)
            [2, 2, 12, 12, 2, 2],  # 2 3 0 1 4, label 5: - (a tie: 0, 1 and 4 come before 5)
            [0, 0, 0, 2, 6, 24],  # 5 4 3 0 1, label 5: 1
            [4, 4, 4, 4, 4, 12],  # 5 0 1 2 3, label 4: -
            [25, 2, 2, 1, 2, 0],  # 0 1 2 4 3, label 0: 1
            [2, 4, 6, 8, 10, 2],  # 4 3 2 1 0, label 1: 5
        ],
        np.float32,
    )
    / 32
)
BEST = np.array(
    [
        [0, 1, 2, 3, 4],
        [1, 0, 2, 3, 4],
        [0, 1, 2, 3, 4],
        [2, 3, 0, 1, 4],
        [5, 4, 3, 0, 1],
        [5, 0, 1, 2, 3],
        [0, 1, 2, 4, 3],
        [4, 3, 2, 1, 0],
    ]
)
LABELS = [0, 0, 1, 5, 5, 4, 0, 1]


def test_the_first_and_the_first_five_count():
    result = analyse(TABLE, LABELS)
    assert (result.count, result.top1, result.top5) == (8, 3 / 8, 6 / 8)


def test_of_equal_probabilities_the_lower_class_comes_first():
    np.testing.assert_array_equal(ranking(TABLE), BEST)
    np.testing.assert_array_equal(ranking(TABLE, 2), BEST[:, :2])
    # All twelve are equal.
    even = np.full((12, 12), 1 / 12, np.float32)
    result = analyse(even, range(12))
    assert (result.top1, result.top5) == (1 / 12, 5 / 12)


def test_ranks_are_those_of_trainings_evaluation():
    """One rule for ties and for nan, in NumPy and on the device."""
    table = np.random.default_rng(0).integers(0, 4, (200, 6)).astype(np.float32)
    table[::7, 3] = np.nan
    labels = np.arange(200) % 6
    ranks = np.asarray(label_rank(table, labels))
    valid = ~np.isnan(table[np.arange(200), labels])
    for place in np.flatnonzero(valid):
        assert ranking(table, 6)[place].tolist().index(labels[place]) == ranks[place]
    assert (ranks[~valid] == 6).all()
    result = analyse(table, labels.tolist())
    assert (result.top1, result.top5) == ((ranks < 1).mean(), (ranks < 5).mean())


def test_what_is_not_a_number_comes_last():
    table = np.array([[np.nan, 0.2, np.nan, 0.5, 0.3, 0.0]])
    np.testing.assert_array_equal(ranking(table, 6), [[3, 4, 1, 5, 0, 2]])


def test_with_fewer_than_five_classes_the_label_is_always_among_the_first_five():
    table = np.array([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]], np.float32)
    np.testing.assert_array_equal(ranking(table), [[1, 0, 2], [0, 1, 2]])
    result = analyse(table, [2, 0])
    assert (result.top1, result.top5) == (1 / 2, 1)
    assert result.confusion.shape == (3, 3)


def test_the_loss_is_the_mean_of_minus_the_logarithm_of_the_labels_probability():
    # 16, 8, 12, 2, 24, 4, 25 and 4 of 32: their product is 225 / 2^23.
    assert analyse(TABLE, LABELS).loss == pytest.approx(math.log(2**23 / 225) / 8, rel=1e-12)


def test_a_probability_of_zero_counts_as_the_least_of_float32():
    # The least is 2^-126; 1e-40 is less.
    table = np.array([[1.0, 0.0], [1.0, 1e-40], [0.5, 0.5]], np.float32)
    assert analyse(table, [1, 1, 1]).loss == pytest.approx((126 + 126 + 1) * math.log(2) / 3, rel=1e-12)


def test_bins_hold_number_confidence_and_accuracy():
    # Fifteen times the confidence: 4.7 (image 7); 5.6 (2, 3, 5); 7.5 (0, 1); 11.25 and 11.7 (4, 6).
    expected = np.zeros((15, 3))
    expected[4] = 1, 10 / 32, 0
    expected[5] = 3, 12 / 32, 0
    expected[7] = 2, 16 / 32, 1 / 2
    expected[11] = 2, 24.5 / 32, 1
    np.testing.assert_allclose(analyse(TABLE, LABELS).bins, expected, rtol=1e-12)


def test_the_calibration_error_is_the_mean_of_the_bins_differences_weighted_by_their_images():
    # 1 x 10/32, 3 x 12/32, 2 x 0 and 2 x 7.5/32, of 8.
    assert analyse(TABLE, LABELS).calibration_error == pytest.approx(61 / 256, rel=1e-12)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    # (8/15, 9/15], (9/15, 10/15] and the last, which 1 belongs to; float32 holds no edge but this.
    table = np.array([[0.6, 0.4], [0.62, 0.38], [1.0, 0.0]])
    result = analyse(table, [0, 1, 0])
    np.testing.assert_array_equal(np.flatnonzero(result.bins[:, 0]), [8, 9, 14])
    np.testing.assert_allclose(result.bins[[8, 9, 14]], [[1, 0.6, 1], [1, 0.62, 0], [1, 1, 1]], rtol=1e-12)
    # Were both in one bin, it would be (0.11 + 0.11) / 3.
    assert result.calibration_error == pytest.approx((0.4 + 0.62) / 3, rel=1e-12)


def test_every_edge_belongs_to_the_bin_below():
    # 15 other classes, none of which is more probable than 1/15.
    for edge in range(1, 16):
        table = np.array([[edge / 15, *[(1 - edge / 15) / 15] * 15]])
        assert np.flatnonzero(analyse(table, [0]).bins[:, 0]) == edge - 1


def test_the_confusion_has_the_true_class_first():
    expected = np.zeros((6, 6), int)
    for true, predicted in ((0, 0), (0, 1), (1, 0), (5, 2), (5, 5), (4, 5), (0, 0), (1, 4)):
        expected[true, predicted] += 1
    np.testing.assert_array_equal(analyse(TABLE, LABELS).confusion, expected)


def test_a_class_without_images_has_no_accuracy():
    np.testing.assert_array_equal(analyse(TABLE, LABELS).per_class, [2 / 3, 0, np.nan, np.nan, 0, 1 / 2])


def test_any_of_several_labels_is_right():
    # First: images 0, 3 and 4. Among the five besides: 1 (0), 5 (1, not 4), 6 (3) and 7 (0). Image 2 has none of them.
    labels = [{0, 5}, {0, 2}, {5}, {2, 5}, {4, 5}, {1, 4}, {3, 5}, {0}]
    result = analyse(TABLE, [frozenset(label) for label in labels])
    assert (result.count, result.top1, result.top5) == (8, 3 / 8, 7 / 8)
    assert result.loss is None
    assert result.confusion is None
    np.testing.assert_array_equal(result.per_class, np.full(6, np.nan))
    # Of the bin of images 2, 3 and 5 one is right, of that of 4 and 6 too.
    np.testing.assert_allclose(result.bins[[4, 5, 7, 11], 2], [0, 1 / 3, 1 / 2, 1 / 2], rtol=1e-12)


def test_sets_of_one_label_count_as_the_label():
    one, sets = analyse(TABLE, LABELS), analyse(TABLE, [frozenset([label]) for label in LABELS])
    np.testing.assert_array_equal(sets.bins, one.bins)
    assert sets.summary() == one.summary() | {"loss": None}


def test_the_summary_has_the_single_numbers():
    result = analyse(TABLE, LABELS)
    fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    assert result.summary() == {name: value for name, value in fields.items() if np.ndim(value) == 0}


@pytest.mark.parametrize("classes", [6, 40])
def test_scikit_learn_counts_the_same(classes):
    rng = np.random.default_rng(classes)
    exact = np.exp(rng.normal(0, 2, (500, classes)))
    exact /= exact.sum(axis=1, keepdims=True)
    table = exact.astype(np.float32)
    # Half of the labels are drawn from the table; the last class has no image.
    drawn = [rng.choice(classes, p=row) for row in exact]
    labels = np.where(rng.random(500) < 0.5, drawn, rng.integers(classes, size=500)) % (classes - 1)
    predicted, every = exact.argmax(axis=1), np.arange(classes)
    result = analyse(table, labels.tolist())

    assert result.top1 == pytest.approx(metrics.top_k_accuracy_score(labels, exact, k=1, labels=every), rel=1e-12)
    assert result.top5 == pytest.approx(metrics.top_k_accuracy_score(labels, exact, k=5, labels=every), rel=1e-12)
    assert result.loss == pytest.approx(metrics.log_loss(labels, exact, labels=every), rel=1e-6)
    np.testing.assert_array_equal(result.confusion, metrics.confusion_matrix(labels, predicted, labels=every))
    recall = metrics.recall_score(labels, predicted, labels=every, average=None, zero_division=np.nan)
    np.testing.assert_allclose(result.per_class, recall, rtol=1e-12)

    accuracy, confidence = calibration_curve(labels == predicted, exact.max(axis=1), n_bins=15)
    sizes = result.bins[:, 0]
    np.testing.assert_allclose(result.bins[sizes > 0, 1:], np.stack([confidence, accuracy], axis=1), rtol=1e-6)
    error = np.average(abs(confidence - accuracy), weights=sizes[sizes > 0])
    assert result.calibration_error == pytest.approx(error, rel=1e-5)


def test_what_is_not_a_number_is_never_right():
    result = analyse(np.full((3, 5), np.nan, np.float32), [0, 0, 1])
    assert (result.top1, result.top5) == (0, 0)


def test_the_probability_of_all_right_classes_counts():
    table = np.array([[0.5, 0.25, 0.25], [0.125, 0.375, 0.5]], np.float32)
    np.testing.assert_array_equal(right_probability(table, [1, 2]), [0.25, 0.5])
    np.testing.assert_array_equal(right_probability(table, [frozenset((0, 2)), frozenset((1,))]), [0.75, 0.375])
