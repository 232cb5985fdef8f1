"""Losses and accuracy of predicted boxes, by hand and beside the overlap of boxes in pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.data.boxes import iou
from inception_jax.evaluation.box_metrics import (
    BoxEvaluation,
    box_losses,
    from_edges,
    make_box_eval_step,
    overlap,
    own_box,
    to_edges,
)
from inception_jax.evaluation.metrics import evaluate
from inception_jax.parallel import AXIS, REPLICATED, SPLIT, DataParallel
from tests.values import preprocessing


def test_per_class_regression_takes_the_four_outputs_of_the_class():
    outputs = jnp.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(own_box(outputs, jnp.array([2, 0])), [[8, 9, 10, 11], [12, 13, 14, 15]])
    np.testing.assert_array_equal(own_box(outputs[:, :1], jnp.array([2, 0])), [[0, 1, 2, 3], [12, 13, 14, 15]])


def test_edges_and_centres():
    edges = jnp.array([0.1, 0.2, 0.5, 0.8])
    np.testing.assert_allclose(from_edges(edges), [0.3, 0.5, 0.4, 0.6], rtol=1e-6)
    np.testing.assert_allclose(to_edges(from_edges(edges)), edges, rtol=1e-6)
    np.testing.assert_allclose(to_edges(jnp.array([0.5, 0.5, -0.2, 0.2])), [0.5, 0.4, 0.5, 0.6], rtol=1e-6)


def test_the_loss_by_hand():
    predicted = jnp.array([[0.5, 0.5, 0.4, 0.4], [9.0, 9.0, 9.0, 9.0]])
    target = jnp.array([[0.1, 0.2, 0.5, 0.8], [0.0, 0.0, 0.0, 0.0]])  # centre 0.3, 0.5, sides 0.4, 0.6; lost
    np.testing.assert_allclose(box_losses(predicted, target), [(0.2**2 + 0 + 0 + 0.2**2) / 2, 0], rtol=1e-5)
    gradient = jax.grad(lambda boxes: box_losses(boxes, target).sum())(predicted)
    np.testing.assert_allclose(gradient, [[0.2, 0, 0, -0.2], [0, 0, 0, 0]], atol=1e-6)


def test_overlap_is_that_of_pixels():
    rng = np.random.default_rng(0)
    low = rng.integers(0, 40, (2, 200, 2))
    boxes = np.concatenate([low, low + rng.integers(0, 40, (2, 200, 2))], axis=-1)
    edges = (boxes + np.array([0, 0, 1, 1])) / np.array([80, 50, 80, 50])  # any scale of each side
    np.testing.assert_allclose(overlap(*edges), iou(*boxes), rtol=1e-5)
    assert overlap(jnp.zeros(4), jnp.zeros(4)) == 0


class Stored:
    """A network whose boxes are stored in the images: two classes, eight values, bytes as hundredths."""

    def apply(self, variables, images, train, mutable):
        return (images.reshape(len(images), -1)[:, :8].reshape(-1, 2, 4) / 100, {}), {}


def test_evaluation_counts_each_image_once():
    # Boxes of class 0 and of class 1; the image's class is 1 except for the last.
    good, bad = [50, 50, 40, 40], [20, 20, 10, 10]
    stored = [[*bad, *good], [*good, *bad], [*bad, *good], [*bad, *bad], [*good, *bad], [*bad, *good]]
    images = np.zeros((6, 2, 2, 3), np.uint8)
    images.reshape(6, -1)[:, :8] = stored
    boxes = np.zeros((6, 3, 4), np.float32)
    boxes[:, 0] = 0.3, 0.3, 0.7, 0.7
    boxes[2] = [(0.8, 0.8, 0.9, 0.9), (0.3, 0.3, 0.7, 0.55), (0, 0, 0, 0)]  # fits the second: 0.25 / 0.4
    frame = np.tile(np.array([0, 0, 1, 1], np.float32), (6, 1))
    batch = {
        "image": images,
        "label": np.array([1, 1, 1, 1, 0, 1], np.int32),
        "mask": np.array([True, True, True, True, True, False]),
        "damaged": np.zeros(6, bool),
        "box": np.where(np.arange(6)[:, None] == 3, np.float32(0), boxes[:, 0]),  # the crop of one shows no box
        "boxes": boxes,
        "frame": frame,
    }
    parallel = DataParallel(devices=jax.devices()[:2])
    step = make_box_eval_step(Stored(), preprocessing(), AXIS)
    mapped = parallel.map(step, (REPLICATED, SPLIT), (REPLICATED, SPLIT))
    places = np.array([0, 1, 2, 3, 4, -1])
    variables = parallel.replicate({"dataset_stats": {}})
    result = evaluate(mapped, variables, [(places, parallel.shard(batch))], expected=5, kind=BoxEvaluation)
    assert (result.count, result.box_accuracy) == (5, pytest.approx(3 / 5))  # 0, 2 and 4
    target = np.asarray(from_edges(jnp.array(batch["box"])))
    own = np.array([good, bad, good, bad, good]) / 100
    losses = ((own - target[:5]) ** 2).sum(axis=1) / 2
    losses[3] = 0
    assert result.loss == pytest.approx(losses.mean(), rel=1e-5)
    np.testing.assert_allclose(result.boxes[1], [0.15, 0.15, 0.25, 0.25], rtol=1e-5)
    assert result.summary() == {"loss": result.loss, "box_accuracy": result.box_accuracy, "count": 5}
    assert result.describe() == "box accuracy 60.00 %"


def test_a_box_reaches_no_further_than_the_image():
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images.reshape(1, -1)[:, :4] = 50, 50, 200, 200  # -0.5 to 1.5
    boxes = np.array([[[0, 0, 1, 0.9]]], np.float32)
    batch = {"image": images, "label": np.zeros(1, np.int32), "mask": np.ones(1, bool), "damaged": np.zeros(1, bool)}
    parallel = DataParallel(devices=jax.devices()[:1])
    step = parallel.map(make_box_eval_step(Stored(), preprocessing(), AXIS), (REPLICATED, SPLIT), (REPLICATED, SPLIT))
    for frame, fits in (((0, 0, 1, 1), 1), ((-1, -1, 2, 2), 0)):
        more = {"box": boxes[0], "boxes": boxes, "frame": np.array([frame], np.float32)}
        sums, _ = step(parallel.replicate({"dataset_stats": {}}), parallel.shard(batch | more))
        assert sums["box_accuracy"] == fits
