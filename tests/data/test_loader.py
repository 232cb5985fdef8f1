import dataclasses
import io
import multiprocessing
import os
import random
import signal
import threading
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from inception_jax.data import crops, loader
from inception_jax.data.decoding import DamagedImage, open_image
from inception_jax.errors import UserError
from tests.values import crop_config

CROP = crop_config(8, area=(0.3, 1.0), aspect=(0.75, 1.33))


class Numbered:
    """Noise images whose first channel is their own number, so that a crop shows its image."""

    class_names = ("even", "odd")

    def __init__(self, count, damaged=()):
        self.count, self.damaged = count, damaged

    def __len__(self):
        return self.count

    def name(self, index):
        return f"image {index}"

    def __getitem__(self, index):
        if index in self.damaged:
            raise DamagedImage(self.name(index), "cut off")
        image = np.random.default_rng(index).integers(0, 256, (12, 10, 3), np.uint8)
        image[..., 0] = index
        return image, index % 2


class Files(Numbered):
    """The same as JPEG files; each image is of one colour."""

    def __getitem__(self, index):
        raise AssertionError("the loader takes the encoded image")

    def encoded(self, index):
        if index in self.damaged:
            raise DamagedImage(self.name(index), "cut off")
        file = io.BytesIO()
        Image.new("RGB", (30, 24), (index,) * 3).save(file, "JPEG", quality=100)
        return file.getvalue(), index % 2


def train(source, first=0, last=6, *, crop=CROP, damage=None, **changes):
    options = {"seed": 3, "batch_size": 4, "shard": loader.ProcessShard(), "threads": 3} | changes
    damage = loader.DamageReport(source) if damage is None else damage
    return list(loader.train_batches(source, crop, damage, first_step=first, last_step=last, **options))


def numbers(batches):
    return [int(image[0, 0, 0]) for batch in batches for image in batch["image"]]


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_batches():
    batches = train(Numbered(10))
    assert len(batches) == 6
    for step, batch in enumerate(batches):
        assert batch["image"].shape == (4, 8, 8, 3)
        assert batch["image"].dtype == np.uint8
        np.testing.assert_array_equal(batch["label"], batch["image"][:, 0, 0, 0] % 2)
        np.testing.assert_array_equal(batch["index"], np.arange(4, dtype=np.uint32) + 4 * step)


def test_each_epoch_shows_every_image_once_in_an_order_of_its_own():
    seen = numbers(train(Numbered(8), last=4))
    assert sorted(seen[:8]) == sorted(seen[8:]) == list(range(8))
    assert seen[:8] != seen[8:]
    assert seen[:8] != list(range(8))


def test_rows_says_which_images_the_batches_show():
    """At any positions, also of two epochs and for seeds in turn."""
    shown = {seed: numbers(train(Numbered(10), seed=seed)) for seed in (3, 4)}
    assert shown[3] != shown[4]
    positions = np.array([19, 2, 10, 9, 23])
    for seed in (3, 4, 3):
        found = loader.rows(10, seed, positions)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, np.array(shown[seed])[positions])


def test_crops_are_those_of_the_crop_config():
    """Drawn from a generator seeded by the index in the stream: a function of seed and index alone."""
    expected = {
        "area": lambda image, rng: crops.random_area_crop(image, rng, 8, (0.3, 1.0), (0.75, 1.33), None, "mixed"),
        "scale": lambda image, rng: crops.random_window(image, rng, 8, (9, 14), interpolation="mixed"),
        "square": lambda image, rng: crops.random_window(image, rng, 8, (9, 14), interpolation="mixed", square=True),
        "central": lambda image, rng: crops.resize_and_central_crop(image, 8, 6),
    }
    assert tuple(expected) == crops.CROPS
    order = loader.rows(10, 3, range(10))
    for kind, crop in expected.items():
        config = dataclasses.replace(CROP, resize=6, crop=kind, scale=(9, 14), interpolation="mixed")
        for source in (Numbered(10), Files(10)):
            [batch] = train(source, last=1, crop=config)
            for position, result in enumerate(batch["image"]):
                index = int(order[position])
                image = open_image(source.encoded(index)[0], "") if isinstance(source, Files) else source[index][0]
                expected_crop = crop(image, random.Random(3 << 64 | position))
                np.testing.assert_array_equal(result, expected_crop, err_msg=f"{kind} {source}")


def test_a_central_training_crop_is_that_of_evaluation():
    config = crop_config(16, 12, crop="central")
    source = Numbered(4)
    [batch] = train(source, last=1, crop=config)
    damage = loader.DamageReport(source)
    [expected] = loader.eval_batches(source, config, damage, batch_size=4, shard=loader.ProcessShard(), threads=1)
    np.testing.assert_array_equal(batch["image"], expected["image"][loader.rows(4, 3, range(4))])
    black = ~batch["image"].any(axis=(0, 3))  # 12 x 10 pixels have become 14 x 12
    np.testing.assert_array_equal(black, np.pad(np.zeros((14, 12), bool), ((1, 1), (2, 2)), constant_values=True))


def test_any_step_can_be_the_first_with_any_number_of_threads():
    """Across the epoch's end, which falls within a batch."""
    whole = train(Files(10))
    for step, threads in ((0, 0), (1, 1), (2, 8), (5, 3)):
        assert_equal(train(Files(10), first=step, threads=threads), whole[step:])


def test_the_seed_decides():
    assert numbers(train(Numbered(10), seed=4)) != numbers(train(Numbered(10)))


def test_an_image_is_cropped_differently_in_each_epoch():
    first, second = (batch["image"][np.argsort(batch["image"][:, 0, 0, 0])] for batch in train(Numbered(4), last=2))
    assert not np.array_equal(first, second)


def test_processes_share_one_global_batch():
    whole = train(Numbered(10), batch_size=8)
    parts = [train(Numbered(10), batch_size=8, shard=loader.ProcessShard(i, 2)) for i in range(2)]
    joined = [{key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*parts, strict=True)]
    assert_equal(joined, whole)


def test_a_damaged_image_is_replaced_by_the_next():
    source = Numbered(100, damaged=(17,))
    damage = loader.DamageReport(source)
    intact = numbers(train(Numbered(100), last=25))
    assert numbers(train(source, last=25, damage=damage)) == [18 if n == 17 else n for n in intact]
    assert len(damage) == 1
    assert damage.summary() == "skipped damaged image 17: cut off"


def test_more_than_one_percent_damaged_stops():
    with pytest.raises(
        UserError, match=r"(?s)2 of 100 images could not .* more than 1 %.*image 17: cut off\n.*image 40"
    ):
        train(Numbered(100, damaged=(17, 40)), last=25)


def evaluation(source, batch_size, shard=None):
    damage = loader.DamageReport(source)
    shard = shard or loader.ProcessShard()
    return list(loader.eval_batches(source, CROP, damage, batch_size=batch_size, shard=shard, threads=3))


def test_evaluation_covers_the_split_in_order_and_pads():
    batches = evaluation(Numbered(10), 4)
    assert [batch["image"].shape for batch in batches] == [(4, 8, 8, 3)] * 3
    assert numbers(batches)[:10] == list(range(10))
    mask = np.concatenate([batch["mask"] for batch in batches])
    positions = np.concatenate([batch["position"] for batch in batches])
    np.testing.assert_array_equal(mask, [True] * 10 + [False] * 2)
    np.testing.assert_array_equal(positions, [*range(10), -1, -1])


def test_evaluation_is_shared_by_processes():
    parts = [evaluation(Numbered(10), 4, loader.ProcessShard(i, 2)) for i in range(2)]
    assert [len(part) for part in parts] == [3, 3]
    positions = np.concatenate([batch["position"] for part in parts for batch in part])
    assert sorted(positions[positions >= 0]) == list(range(10))


def test_evaluation_masks_damaged_images():
    [batch] = evaluation(Numbered(100, damaged=(5,)), 100)
    np.testing.assert_array_equal(np.flatnonzero(~batch["mask"]), [5])
    assert batch["position"][5] == -1


def test_encoded_images_are_cropped_likewise():
    ours, theirs = train(Files(10), last=8), train(Numbered(10), last=8)
    assert numbers(ours) == numbers(theirs)
    for key in ("label", "index"):
        np.testing.assert_array_equal([batch[key] for batch in ours], [batch[key] for batch in theirs])
    assert numbers(evaluation(Files(10), 4)) == numbers(evaluation(Numbered(10), 4))


def test_worker_processes_do_not_matter_and_report_damage():
    """With an odd number of batches, and a damaged image."""
    source = Files(100, damaged=(17,))
    damage = loader.DamageReport(source)
    assert_equal(train(source, last=25, processes=2, damage=damage), train(source, last=25))
    assert damage.summary() == "skipped damaged image 17: cut off"
    assert not multiprocessing.active_children()


def test_workers_leave_signals_to_the_parent():
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in numbers]
    try:
        with mock.patch.object(threading, "Thread"):  # that would end this process
            loader._start_worker(0, 1)
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN] * 2
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)


def test_number_of_worker_processes(monkeypatch):
    for cores, processes in ((1, 0), (15, 0), (16, 2), (64, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: range(cores))
        assert loader.worker_processes(-1, 1000) == processes
    assert loader.worker_processes(0, 1000) == 0
    assert loader.worker_processes(3, 1000) == 3
    assert loader.worker_processes(-1, 10**12) == 0  # more than the shared memory
    message = r"^processes=3 needs \d+ MiB of shared memory, but /dev/shm has \d+ MiB;"
    with pytest.raises(UserError, match=message):
        loader.worker_processes(3, 10**12)


def test_a_source_of_nothing_but_damage_comes_to_an_end():
    with pytest.raises(UserError, match="3 of 200 images could not"):
        train(Numbered(200, damaged=range(200)))


def test_batches_move_to_the_device_in_another_thread_and_are_never_written_again():
    threads = []

    def to_device(batch):
        threads.append(threading.current_thread())
        return batch["image"], batch["image"].copy()

    source = Numbered(10)
    options = {"batch_size": 4, "shard": loader.ProcessShard(), "threads": 2, "to_device": to_device}
    training = {"seed": 3, "first_step": 0, "last_step": 9}
    for batches in (
        loader.train_batches(source, CROP, loader.DamageReport(source), **options, **training),
        loader.eval_batches(source, CROP, loader.DamageReport(source), **options),
    ):
        moved = list(batches)
        assert len({image.ctypes.data for image, _ in moved}) == len(moved)
        for image, copy in moved:
            np.testing.assert_array_equal(image, copy)
    assert threads
    assert threading.current_thread() not in threads


def test_closing_ends_the_threads():
    def prefetching():
        return {thread for thread in threading.enumerate() if "prefetch" in thread.name}

    before = prefetching()
    source = Numbered(10)
    options = {"seed": 0, "batch_size": 4, "shard": loader.ProcessShard(), "threads": 2}
    batches = loader.train_batches(source, CROP, loader.DamageReport(source), first_step=0, last_step=10**9, **options)
    next(batches)
    ours = prefetching() - before
    assert ours
    batches.close()
    for thread in ours:
        thread.join(10)
    assert not any(thread.is_alive() for thread in ours)
