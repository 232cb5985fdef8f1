"""Data kept in memory and on the devices: the same batches, and crops on the device as Pillow makes them."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from inception_jax.data import crops, loader, resident
from inception_jax.data.crops import METHODS, CropConfig
from inception_jax.data.decoding import DamagedImage
from inception_jax.errors import UserError
from inception_jax.parallel import DataParallel

AREA = CropConfig(8, 9, (0.2, 0.7), (0.75, 4 / 3), "area", (9, 14), "bilinear", 2**20)
SHARD = loader.ProcessShard()


class Noise:
    """Images of noise, 10 x 12 pixels, as arrays or in files; counts how often each is read."""

    class_names = ("even", "odd")

    def __init__(self, count, kind="", damaged=(), shapes=((10, 12),)):
        self.count, self.kind, self.damaged, self.shapes = count, kind, damaged, shapes
        self.reads = [0] * count
        if kind:
            self.encoded = self._encoded

    def __len__(self):
        return self.count

    def name(self, index):
        return f"image {index}"

    def __getitem__(self, index):
        self.reads[index] += 1
        if index in self.damaged:
            raise DamagedImage(self.name(index), "cut off")
        shape = self.shapes[index % len(self.shapes)]
        return np.random.default_rng(index).integers(0, 256, (*shape, 3), np.uint8), index % 2

    def _encoded(self, index):
        image, label = self[index]
        file = io.BytesIO()
        Image.fromarray(image).save(file, self.kind)
        return file.getvalue(), label


def on_host(source, config, first=0, last=5, damage=None, **changes):
    damage = loader.DamageReport(source) if damage is None else damage
    options = {"seed": 3, "batch_size": 4, "shard": SHARD, "threads": 2} | changes
    return list(loader.train_batches(source, config, damage, first_step=first, last_step=last, **options))


def on_devices(source, config, first=0, last=5, devices=4, kind="shard_map", **changes):
    parallel = DataParallel(kind, jax.devices()[:devices])
    images = resident.place(source, config, parallel, crops=config.crop == "central")
    options = {"seed": 3, "batch_size": 4, "shard": SHARD, "first_step": first, "last_step": last} | changes
    return jax.device_get(list(resident.train_batches(images, config, parallel, **options)))


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert a[key].dtype == b[key].dtype
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


class TestMemory:
    @pytest.mark.parametrize("kind", ["", "PNG", "JPEG"])
    def test_batches_are_the_same_and_each_image_is_read_once(self, kind):
        source = Noise(10, kind)
        kept = resident.KeptSource(source, AREA.max_pixels)
        expected = on_host(Noise(10, kind), AREA)
        for _ in range(2):
            assert_equal(on_host(kept, AREA, threads=1), expected)
        assert source.reads == [1] * 10
        shown, label = kept[3]
        image = source[3][0] if kind != "JPEG" else Image.open(io.BytesIO(source.encoded(3)[0]))
        np.testing.assert_array_equal(shown, image)
        assert label == 1
        assert kept.name(3) == "image 3"

    def test_images_are_read_ahead_once(self):
        class InBucket(Noise):
            def read_ahead(self, indices):
                asked.append(list(indices))
                return self

        asked = []
        kept = resident.KeptSource(InBucket(10, "PNG"), AREA.max_pixels)
        [first] = on_host(kept, AREA, last=1)
        assert_equal(on_host(kept, AREA, last=1), [first])
        assert asked == [loader.rows(10, 3, range(4)).tolist()]

    def test_a_damaged_image_is_replaced_and_reported(self):
        def stream(source):
            damage = loader.DamageReport(source, stops=False)
            return on_host(source, AREA, damage=damage), damage.summary()

        ours, theirs = stream(resident.KeptSource(Noise(10, "PNG", {4}), 2**20)), stream(Noise(10, "PNG", {4}))
        assert_equal(ours[0], theirs[0])
        assert ours[1] == theirs[1] == "skipped damaged image 4: cut off"

    def test_no_more_is_kept_than_a_quarter_of_the_memory(self, monkeypatch):
        monkeypatch.setattr(resident, "host_memory", lambda: 4 * (3 * 360 + 1))  # three images of 10 x 12 x 3
        source = Noise(10)
        kept = resident.KeptSource(source, AREA.max_pixels)
        for _ in range(2):
            for index in range(10):
                kept[index]
        assert source.reads == [1] * 3 + [2] * 7


class TestBatches:
    def test_central_crops_are_bitwise_those_of_the_host(self):
        config = dataclasses.replace(AREA, crop="central", resize=6)
        for devices, kind in ((1, "shard_map"), (4, "shard_map"), (2, "pmap")):
            ours = on_devices(Noise(10, "PNG"), config, devices=devices, kind=kind)
            assert_equal(ours, on_host(Noise(10, "PNG"), config))

    def test_evaluation_is_bitwise_that_of_the_host(self):
        """The last batch is padded, in each of two processes."""
        parallel, source = DataParallel(), Noise(10, "JPEG")
        images = resident.place(source, AREA, parallel, crops=True)
        for shard in (SHARD, loader.ProcessShard(1, 2)):
            options = {"batch_size": 8, "shard": shard}
            ours = [
                {"position": positions, **jax.device_get(batch)}
                for positions, batch in resident.eval_batches(images, parallel, **options)
            ]
            damage = loader.DamageReport(source)
            assert_equal(ours, list(loader.eval_batches(source, AREA, damage, threads=1, **options)))

    @pytest.mark.parametrize("crop", ["area", "scale", "square"])
    def test_random_crops_are_a_function_of_seed_and_step(self, crop):
        """Also labels and order, of which those of the host are the same; for any number of devices and processes."""
        config, source = dataclasses.replace(AREA, crop=crop), Noise(10, "PNG")
        whole = on_devices(source, config)
        images = np.concatenate([batch["image"] for batch in whole])
        assert images.shape == (20, 8, 8, 3)
        assert images.dtype == np.uint8
        for ours, theirs in zip(whole, on_host(source, config), strict=True):
            assert_equal([ours | {"image": 0 * ours["image"]}], [theirs | {"image": 0 * theirs["image"]}])
        assert_equal(on_devices(source, config, first=3, devices=1), whole[3:])
        parts = [on_devices(source, config, devices=2, shard=loader.ProcessShard(index, 2)) for index in range(2)]
        joined = [{key: np.concatenate([part[key] for part in both]) for key in both[0]} for both in zip(*parts)]  # noqa: B905
        assert_equal(joined, whole)
        assert (on_devices(source, config, last=1, seed=4)[0]["image"] != whole[0]["image"]).any()
        # The stream shows each image twice, cropped in two ways.
        order = loader.rows(10, 3, range(20))
        first, second = (images[10 * epoch + np.argsort(order[10 * epoch :][:10])] for epoch in range(2))
        assert (first != second).any(axis=(1, 2, 3)).all()

    def test_what_cannot_be_kept_is_refused(self, monkeypatch):
        parallel = DataParallel(devices=jax.devices()[:1])
        for source, message in (
            (Noise(10, "PNG", {4}), r"^image 4 cannot be decoded \(cut off\); repair or remove it"),
            (Noise(10, "PNG", {0}), "^image 0 cannot be decoded"),
            (Noise(200, shapes=((10, 12), (9, 12))), "^images of different sizes, such as 12x10 and 12x9, cannot be "),
        ):
            with pytest.raises(UserError, match=message):
                resident.place(source, AREA, parallel, crops=False)
        images = resident.place(Noise(10, shapes=((10, 12), (9, 12))), AREA, parallel, crops=True)
        assert images["image"].shape == (10, 8, 8, 3)  # crops are of one size
        monkeypatch.setattr(resident, "host_memory", lambda: 4 * 7199)  # for four devices
        message = r"^10 images of 12x10 pixels take 3.6e-06 GB, more than half of the free 7.2e-06 GB$"
        with pytest.raises(UserError, match=message):
            resident.place(Noise(10), AREA, parallel, crops=False)
        monkeypatch.setattr(resident, "host_memory", lambda: 4 * 7200)
        resident.place(Noise(10), AREA, parallel, crops=False)


class TestCrops:
    @pytest.mark.parametrize("method", METHODS)
    def test_a_box_gives_pillows_pixels_within_a_level(self, method):
        """To 8 or 16 pixels, for which Pillow's places are exact in binary."""
        resize = jax.jit(resident._resize, static_argnums=3)
        rng = np.random.default_rng(0)
        for height, width in ((20, 27), (60, 45)):
            image = rng.integers(0, 256, (height, width, 3), np.uint8)
            for size in (8, 16):
                for _ in range(8):
                    rows, columns = int(rng.integers(3, height + 1)), int(rng.integers(3, width + 1))
                    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
                    seen = (top, top + rows), (left, left + columns)
                    ours = resize(image, (top, left, rows, columns), seen, size, METHODS.index(method))
                    box = Image.fromarray(image[top : top + rows, left : left + columns])
                    wide = box.resize((size, rows), method)  # Pillow 13 may begin with the columns
                    difference = np.asarray(ours).astype(int) - np.asarray(wide.resize((size, size), method))
                    assert np.abs(difference).max() <= 1

    def test_a_window_gives_the_pixels_of_the_host_within_a_level(self):
        image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
        resize = jax.jit(resident._resize, static_argnums=(3, 4))
        for shorter, top, left in ((20, 0, 0), (20, 3, 17), (16, 7, 5), (27, 11, 24)):
            resized = shorter, shorter * 30 // 20
            expected = np.empty((8, 8, 3), np.uint8)
            crops._resize_and_cut(image, resized, top, left, expected)
            scale = 20 / resized[0], 30 / resized[1]
            box = (top * scale[0], left * scale[1], 8 * scale[0], 8 * scale[1])
            ours = resize(image, box, ((0, 20), (0, 30)), 8, None)
            assert np.abs(np.asarray(ours).astype(int) - expected).max() <= 1

    def test_boxes_are_inside_and_as_large_as_wanted(self):
        """Over the whole range of areas and aspect ratios, which rounding to pixels widens."""
        draw = jax.jit(jax.vmap(lambda key: jnp.stack(resident._draw_box(key, 40, 60, (0.2, 0.7), (0.8, 2.0)))))
        boxes = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
        np.testing.assert_array_equal(boxes, np.round(boxes))
        top, left, rows, columns = boxes.T
        assert (top >= 0).all()
        assert (left >= 0).all()
        assert (top + rows)[rows < 40].max() == 40
        assert (left + columns)[columns < 60].max() == 60
        area, aspect = rows * columns / 2400, columns / rows
        assert 0.19 <= area.min() < 0.22 < 0.65 < area.max() <= 0.72
        assert 0.74 <= aspect.min() < 0.84 < 1.9 < aspect.max() <= 2.15
        # As on the host, of which the means have standard errors of 0.002 and 0.3 pixels.
        rng = crops.random.Random(0)
        host = np.array([crops.sample_box(40, 60, rng, (0.2, 0.7), (0.8, 2.0)) for _ in range(4000)])
        np.testing.assert_allclose(boxes.mean(axis=0), host.mean(axis=0), atol=1.0)
        np.testing.assert_allclose(boxes.std(axis=0), host.std(axis=0), atol=0.7)

    def test_where_no_box_fits_the_largest_central_one_is_taken(self):
        draw = jax.jit(lambda key: resident._draw_box(key, 10, 100, (0.9, 1.0), (0.5, 2.0)))
        expected = crops.sample_box(10, 100, crops.random.Random(0), (0.9, 1.0), (0.5, 2.0))
        assert tuple(map(int, draw(jax.random.key(0)))) == expected == (0, 40, 10, 20)

    @pytest.mark.parametrize("crop", ["scale", "square"])
    def test_windows_are_those_of_the_host_equally_often(self, crop):
        """The shorter side becomes 20 or 21: 3 x 13 and 4 x 14 windows of the whole image, 9 and 16 of the square."""
        config = dataclasses.replace(AREA, crop=crop, size=18, scale=(20, 21))
        draw = jax.jit(jax.vmap(lambda key: jnp.stack(resident._draw_window(key, 20, 30, config))))
        windows = np.asarray(draw(jax.random.split(jax.random.key(0), 8000)))
        expected, rng = set(), crops.random.Random(0)
        for _ in range(8000):
            resized, top, left = crops._draw_window((20, 30), rng, 18, (20, 21), crop == "square")
            y, x = 20 / resized[0], 30 / resized[1]
            expected.add(tuple(np.round((top * y, left * x, 18 * y, 18 * x), 3)))
        found, counts = np.unique(windows.round(3), axis=0, return_counts=True)
        assert {tuple(window) for window in np.round(found.astype(float), 3)} == expected
        assert len(found) == {"scale": 95, "square": 25}[crop]
        equal = np.where(found[:, 2] == 18, {"scale": 39, "square": 9}[crop], {"scale": 56, "square": 16}[crop])
        np.testing.assert_allclose(counts * equal * 2 / 8000, 1, atol=0.5)  # the standard deviation is at most 0.12

    def test_crops_show_one_box_of_a_gradient(self):
        """Red is the column and green the row; so a crop tells its box, which differs from image to image."""
        gradient = np.zeros((40, 40, 3), np.uint8)
        gradient[..., 0], gradient[..., 1] = 6 * np.arange(40), 6 * np.arange(40)[:, None]
        config = dataclasses.replace(AREA, aspect=(1.0, 1.0))
        images = jnp.asarray(np.stack([gradient] * 64))
        out = np.asarray(resident.random_crops(images, jnp.arange(64, dtype=jnp.uint32), jax.random.key(0), config))
        spans = []
        for channel, axis in ((0, 2), (1, 1)):
            line = out[..., channel].astype(float)
            assert (line == line.take([0], axis=3 - axis)).all()  # nothing of the other direction
            ends = line.take(-2, axis=axis) - line.take(1, axis=axis)  # without the ends, where the filter is cut off
            spans.append(ends[:, 0] / 6 / 5 * 8)
        np.testing.assert_allclose(*spans, atol=1)  # squares
        areas = spans[0] * spans[1] / 1600
        assert 0.15 < areas.min() < 0.3 < 0.55 < areas.max() < 0.75
        assert len({crop.tobytes() for crop in out}) > 60

    def test_mixed_interpolation_takes_each_method_equally_often(self):
        """An image of black and white columns, whose whole is cropped: each method gives other pixels."""
        image = np.zeros((12, 12, 3), np.uint8)
        image[:, ::3] = 255
        config = dataclasses.replace(AREA, area=(1.0, 1.0), aspect=(1.0, 1.0), interpolation="mixed")
        index = jnp.arange(400, dtype=jnp.uint32)
        out = resident.random_crops(jnp.asarray(np.stack([image] * 400)), index, jax.random.key(0), config)
        kinds, counts = np.unique(np.asarray(out).reshape(400, -1), axis=0, return_counts=True)
        expected = [np.asarray(Image.fromarray(image).resize((8, 8), method)).astype(int) for method in METHODS]
        found = [min(np.abs(kind.reshape(8, 8, 3) - one).max() for kind in kinds) for one in expected]
        assert len(kinds) == 4
        assert max(found) <= 1
        assert counts.min() > 65  # 100 each, with a standard deviation of 9
