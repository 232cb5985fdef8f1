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

GEOMETRY = loader.Geometry(8, 8, (0.3, 1.0), (0.75, 1.33))


class Numbered:
    """Noise images whose first channel is their own number, so that a crop shows which image it is of."""

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


def train(
    source, first=0, last=6, *, batch_size=4, share=None, seed=3, damage=None, threads=3, processes=0, geometry=GEOMETRY
):
    return list(
        loader.train_batches(
            source,
            geometry,
            loader.DamageReport(source) if damage is None else damage,
            seed=seed,
            batch_size=batch_size,
            first_step=first,
            last_step=last,
            share=share or loader.ProcessShare(),
            threads=threads,
            processes=processes,
        )
    )


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


CROPS = {
    "area": lambda image, rng: crops.random_area_crop(image, rng, 8, (0.3, 1.0), (0.75, 1.33), mixed=True),
    "scale": lambda image, rng: crops.random_window(image, rng, 8, (9, 14), mixed=True),
    "square": lambda image, rng: crops.random_window(image, rng, 8, (9, 14), mixed=True, square=True),
    "central": lambda image, rng: crops.resize_and_central_crop(image, 8, 6),
}


@pytest.mark.parametrize("kind", CROPS)
@pytest.mark.parametrize("source", [Numbered(10), Files(10)])
def test_the_geometry_says_which_crop(kind, source):
    """Drawn from a generator of each place in the stream: a function of seed and place alone."""
    geometry = loader.Geometry(8, 6, (0.3, 1.0), (0.75, 1.33), kind, (9, 14), "mixed")
    [batch] = train(source, last=1, geometry=geometry)
    order = loader._order(10, 3, 0)
    for place, crop in enumerate(batch["image"]):
        if isinstance(source, Files):
            image = open_image(source.encoded(int(order[place]))[0], "")
        else:
            image, _ = source[int(order[place])]
        np.testing.assert_array_equal(crop, CROPS[kind](image, random.Random(3 << 64 | place)))
    threads = train(source, geometry=geometry, threads=1, last=3)
    assert_equal(threads[:1], [batch])
    assert_equal(threads[2:], train(source, first=2, last=3, geometry=geometry))


def test_a_central_training_crop_is_that_of_evaluation():
    geometry = loader.Geometry(16, 12, (1, 1), (1, 1), "central")
    source = Numbered(4)
    [batch] = train(source, last=1, geometry=geometry)
    damage = loader.DamageReport(source)
    [expected] = loader.eval_batches(source, geometry, damage, batch_size=4, share=loader.ProcessShare(), threads=1)
    np.testing.assert_array_equal(batch["image"], expected["image"][loader._order(4, 3, 0)])
    black = ~batch["image"].any(axis=(0, 3))  # 12 x 10 pixels have become 14 x 12
    np.testing.assert_array_equal(black, np.pad(np.zeros((14, 12), bool), ((1, 1), (2, 2)), constant_values=True))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"crop": "scale", "scale": (200, 256)}, "make data.scale at least data.image_size"),
        ({"crop": "square", "scale": (223, 223)}, "windows of 224 x 224 from images resized to 223 pixels"),
        ({"crop": "centre"}, "crop='centre' is not one of area, scale, square, central"),
        ({"interpolation": "cubic"}, "interpolation='cubic' is not one of bilinear, mixed"),
    ],
)
def test_an_impossible_geometry_is_refused(more, message):
    with pytest.raises(UserError, match=message):
        loader.Geometry(224, 256, (1, 1), (1, 1), **more)
    loader.Geometry(224, 200, (1, 1), (1, 1), crop="area", scale=(1, 1))  # which has no scale


def test_any_step_can_be_the_first():
    """Across the epoch's end, which falls within a batch."""
    whole = train(Numbered(10))
    for step in (1, 2, 5):
        assert_equal(train(Numbered(10), first=step), whole[step:])


def test_the_seed_decides():
    assert_equal(train(Numbered(10)), train(Numbered(10)))
    assert numbers(train(Numbered(10), seed=4)) != numbers(train(Numbered(10)))


def test_the_same_image_is_cropped_anew_in_each_epoch():
    first, second = train(Numbered(4), last=2)
    a, b = (
        first["image"][np.argsort(first["image"][:, 0, 0, 0])],
        second["image"][np.argsort(second["image"][:, 0, 0, 0])],
    )
    assert not np.array_equal(a, b)


def test_processes_share_one_global_batch():
    whole = train(Numbered(10), batch_size=8)
    parts = [train(Numbered(10), batch_size=8, share=loader.ProcessShare(i, 2)) for i in range(2)]
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


def evaluation(source, batch_size, share=None):
    damage = loader.DamageReport(source)
    share = share or loader.ProcessShare()
    return list(loader.eval_batches(source, GEOMETRY, damage, batch_size=batch_size, share=share, threads=3))


def test_evaluation_covers_the_split_in_order_and_pads():
    batches = evaluation(Numbered(10), 4)
    assert [batch["image"].shape for batch in batches] == [(4, 8, 8, 3)] * 3
    assert numbers(batches)[:10] == list(range(10))
    mask = np.concatenate([batch["mask"] for batch in batches])
    positions = np.concatenate([batch["position"] for batch in batches])
    np.testing.assert_array_equal(mask, [True] * 10 + [False] * 2)
    np.testing.assert_array_equal(positions, [*range(10), -1, -1])


def test_evaluation_is_shared_by_processes():
    parts = [evaluation(Numbered(10), 4, loader.ProcessShare(i, 2)) for i in range(2)]
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


@pytest.mark.parametrize("threads", [0, 1, 8])
def test_threads_do_not_matter(threads):
    assert_equal(train(Files(10), threads=threads), train(Files(10)))


def test_worker_processes_do_not_matter_and_report_damage():
    """With an odd number of batches, and a damaged image."""
    source = Files(100, damaged=(17,))
    damage = loader.DamageReport(source)
    assert_equal(train(source, last=25, processes=2, damage=damage), train(Files(100, damaged=(17,)), last=25))
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


@pytest.mark.parametrize(("cores", "processes"), [(1, 0), (15, 0), (16, 2), (64, 8)])
def test_number_of_worker_processes(cores, processes, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores))
    assert loader.worker_processes(-1, 1000) == processes
    assert loader.worker_processes(0, 1000) == 0
    assert loader.worker_processes(3, 1000) == 3
    assert loader.worker_processes(-1, 10**12) == 0  # more than there is shared memory
    with pytest.raises(
        UserError, match=r"config.data.processes=3 needs \d+ MiB of shared memory and /dev/shm has \d+;"
    ):
        loader.worker_processes(3, 10**12)


def test_a_source_of_nothing_but_damage_comes_to_an_end():
    with pytest.raises(UserError, match="3 of 200 images could not"):
        train(Numbered(200, damaged=range(200)))


def test_batches_are_placed_ahead_in_another_thread_and_never_written_again():
    places = []

    def place(batch):
        places.append(threading.current_thread())
        return batch["image"], batch["image"].copy()

    source = Numbered(10)
    options = {"batch_size": 4, "share": loader.ProcessShare(), "threads": 2, "place": place}
    training = {"seed": 3, "first_step": 0, "last_step": 9}
    for batches in (
        loader.train_batches(source, GEOMETRY, loader.DamageReport(source), **options, **training),
        loader.eval_batches(source, GEOMETRY, loader.DamageReport(source), **options),
    ):
        placed = list(batches)
        assert len({image.ctypes.data for image, _ in placed}) == len(placed)
        for image, copy in placed:
            np.testing.assert_array_equal(image, copy)
    assert threading.current_thread() not in places


def test_closing_ends_the_threads():
    def prefetching():
        return {thread for thread in threading.enumerate() if "prefetch" in thread.name}

    before = prefetching()
    source = Numbered(10)
    batches = loader.train_batches(
        source,
        GEOMETRY,
        loader.DamageReport(source),
        seed=0,
        batch_size=4,
        first_step=0,
        last_step=10**9,
        share=loader.ProcessShare(),
        threads=2,
    )
    next(batches)
    ours = prefetching() - before
    assert ours
    batches.close()
    for thread in ours:
        thread.join(10)
    assert not any(thread.is_alive() for thread in ours)
