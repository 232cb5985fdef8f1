"""Boxes follow their images through every crop and flip."""

import random

import jax
import numpy as np
import pytest

from inception_jax import UserError
from inception_jax.data import loader
from inception_jax.data.box_targets import MOST_BOXES, edges_in_crop, frame_in_crop, largest, target_of
from inception_jax.data.crops import Region
from tests.values import crop_config, preprocessing

BOX = (30, 22, 69, 61)  # 40 x 40 pixels
SHAPES = [(90, 120), (131, 101), (100, 100)]


def painted(height, width):
    """A black image with a white box."""
    image = np.zeros((height, width, 3), np.uint8)
    image[BOX[1] : BOX[3] + 1, BOX[0] : BOX[2] + 1] = 255
    return image


def edges_of_white(crop):
    """Edges of what is white in a crop, in fractions of it, to half a pixel; None if nothing is."""
    white = crop[..., 0] > 127
    if not white.any():
        return None
    rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / len(crop)


@pytest.mark.parametrize(
    "config",
    [
        crop_config(64, area=(0.2, 1.0)),
        crop_config(64, crop="scale", scale=(70, 110)),
        crop_config(64, crop="square", scale=(70, 110)),
        crop_config(64, 50, crop="central"),  # with black around
        crop_config(64, 80, crop="central"),
    ],
    ids=["area", "scale", "square", "black", "central"],
)
def test_a_box_is_where_it_is_painted(config):
    crop = np.empty((64, 64, 3), np.uint8)
    compared = 0
    for height, width in SHAPES:
        for seed in range(15):
            region = config.train_crop(painted(height, width), random.Random(seed), crop)
            target = target_of(edges_in_crop(np.array([BOX]), region), 64)
            seen = edges_of_white(crop)
            if target.any() and seen is not None:
                np.testing.assert_allclose(target, seen, atol=1.01 / 64)  # smoothing moves an edge by up to a pixel
                compared += 1
    assert compared > 25


def test_the_region_of_a_crop_shows_the_pixels_of_the_crop():
    """Without resampling the region is exact."""
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    crop = np.empty((24, 24, 3), np.uint8)
    config = crop_config(24, 40, crop="scale", scale=(40, 40))
    for seed in range(3):
        left, top, right, bottom = map(int, config.train_crop(image, random.Random(seed), crop))
        np.testing.assert_array_equal(crop, image[top:bottom, left:right])
    assert config.eval_crop(image, crop) == (18, 8, 42, 32)
    np.testing.assert_array_equal(crop, image[8:32, 18:42])
    assert crop_config(24, 12).eval_region((12, 12)) == (-6, -6, 18, 18)


REGION = Region(10, 20, 30, 60)


def test_edges_by_hand():
    # Columns 15 to 24 of 10 to 30, and rows 40 to 59 of 20 to 60.
    np.testing.assert_array_equal(edges_in_crop(np.array([15, 40, 24, 59]), REGION), [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_array_equal(frame_in_crop((80, 40, 3), REGION), [-0.5, -0.5, 1.5, 1.5])


def test_the_target_is_the_largest_part_that_is_seen():
    cut, whole, outside = [0.9, 0.9, 3.0, 3.0], [0.2, 0.2, 0.5, 0.6], [1.0, 0.0, 2.0, 1.0]
    np.testing.assert_allclose(target_of(np.array([cut, whole, outside]), 100), whole)
    np.testing.assert_allclose(target_of(np.array([cut]), 100), [0.9, 0.9, 1, 1])
    np.testing.assert_array_equal(target_of(np.array([outside]), 100), 0)
    sliver = np.array([[0.991, 0.0, 2.0, 1.0]])  # 0.9 of 100 pixels
    np.testing.assert_array_equal(target_of(sliver, 100), 0)
    assert target_of(sliver, 200).any()


def test_of_very_many_boxes_the_largest_count():
    sides = np.arange(1, MOST_BOXES + 3) / 100
    edges = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    np.testing.assert_allclose(sorted(largest(edges)[:, 2]), sides[2:], rtol=1e-6)
    np.testing.assert_allclose(largest(edges[:2])[:3, 2], [0.02, 0.01, 0], rtol=1e-6)


def test_the_box_of_a_mirrored_image():
    augment = preprocessing(flip=True)
    images = np.stack([painted(110, 110)] * 8)
    boxes = np.tile(edges_in_crop(np.array(BOX), Region(0, 0, 110, 110)).astype(np.float32), (8, 1))
    boxes[5] = 0  # lost
    index, key = np.arange(8, dtype=np.uint32), jax.random.key(3)
    images, moved = map(np.asarray, (augment.train(images, index, key, {}), augment.train_boxes(boxes, index, key)))
    seen = np.array([edges_of_white(image) for image in images])
    assert len(np.unique(seen[:, 0])) == 2  # some are mirrored, some are not
    np.testing.assert_allclose(np.delete(moved, 5, axis=0), np.delete(seen, 5, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(moved[5], 0)
    np.testing.assert_array_equal(preprocessing().train_boxes(boxes, index, key), boxes)


class Painted:
    """Ten painted images of different widths; the last but one has no box."""

    class_names = ("a", "b")

    def __len__(self):
        return 10

    def name(self, index):
        return f"painted[{index}]"

    def __getitem__(self, index):
        return painted(90, 100 + index), index % 2

    def boxes(self, index):
        return np.zeros((0, 4), np.float32) if index == 8 else np.array([BOX], np.float32)


class Complete(Painted):
    def boxes(self, index):
        return np.array([BOX, (0, 0, index + 5, 5)], np.float32)


OPTIONS = {"shard": loader.ProcessShard(), "threads": 2, "boxes": True}


@pytest.mark.parametrize("processes", [0, 2])
def test_training_batches_have_their_boxes(processes):
    source, config = Complete(), crop_config(64, crop="scale", scale=(70, 80))
    more = {"seed": 1, "batch_size": 4, "first_step": 0, "last_step": 3, "processes": processes, **OPTIONS}
    batches = list(loader.train_batches(source, config, loader.DamageReport(source), **more))
    assert len(batches) == 3
    for batch in batches:
        for image, box in zip(batch["image"], batch["box"], strict=True):
            np.testing.assert_allclose(box, edges_of_white(image), atol=1.01 / 64)


def test_evaluation_batches_have_all_boxes():
    source, config = Complete(), crop_config(64, 80, crop="central")
    batches = list(loader.eval_batches(source, config, loader.DamageReport(source), batch_size=4, **OPTIONS))
    for number, batch in enumerate(batches):
        for slot in np.flatnonzero(batch["mask"]):
            index = 4 * number + slot
            region = config.eval_region((90, 100 + index))
            np.testing.assert_allclose(batch["boxes"][slot, :2], edges_in_crop(source.boxes(index), region), rtol=1e-5)
            np.testing.assert_allclose(batch["frame"][slot], frame_in_crop((90, 100 + index), region), rtol=1e-5)
            assert not batch["boxes"][slot, 2:].any()
    assert not batches[-1]["boxes"][2:].any()  # padding


@pytest.mark.parametrize("processes", [0, 1])
def test_an_image_without_a_box_is_named(processes):
    source, config = Painted(), crop_config(64)
    more = {"seed": 1, "batch_size": 10, "first_step": 0, "last_step": 1, "processes": processes, **OPTIONS}
    with pytest.raises(UserError, match=r"painted\[8\] has no box of its class; leave the image out"):
        list(loader.train_batches(source, config, loader.DamageReport(source), **more))
    if not processes:
        with pytest.raises(UserError, match=r"painted\[8\] has no box"):
            list(loader.eval_batches(source, config, loader.DamageReport(source), batch_size=5, **OPTIONS))
