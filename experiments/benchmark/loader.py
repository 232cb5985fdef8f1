"""Speed from image files to batches: ours, tf.data and a PyTorch DataLoader take turns on the same files.

All read 500 x 375 JPEG files of about 66 KB from the same directory; after the warm-up they are in the page cache. They
crop a random box with 8 to 100 % of the area and an aspect ratio between 3/4 and 4/3, and resize it bilinearly to
224 x 224. They return shuffled batches of 32, uint8, and use all cores of the process:

- ours as in training;
- ours from the copies that `experiments.prepare` makes: shorter side 256, 49 KB;
- ours with the evaluation crop;
- tf.data: `tf.image.decode_and_crop_jpeg`, which decodes the box only, and `tf.image.resize` without antialiasing, its
  default; tf.data itself chooses the number of parallel calls;
- PyTorch: a DataLoader with a worker process for each core. Pillow decodes and resizes with antialiasing, as in
  torchvision's RandomResizedCrop.
"""

import functools
import itertools
import math
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.benchmark import contest
from experiments.benchmark.contest import Side, Unavailable
from inception_jax.runtime import available_cores

BATCH, SIZE, RESIZE = 32, 224, 256
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
FILES = 128  # number of different images


def measure(repeats: int, images: int = 1536) -> Iterator[dict]:
    """Yields a row for each of PIPELINES; in a turn it delivers `images` images, after a warm-up of as many."""
    count = math.ceil(images / BATCH)
    with tempfile.TemporaryDirectory() as root:
        write_photos(Path(root, "photos"), FILES)
        write_small_copies(Path(root, "photos"), Path(root, "photos_256", "1.0.0"))

        starts = {
            what: functools.partial(Side, _calls, count, start, root, has_children=True)
            for what, start in PIPELINES.items()
        }
        with contest.started(starts) as (sides, skipped):
            yield from ({"what": what, "skipped": why} for what, why in skipped.items())
            seconds = {what: [] for what in sides}
            for _ in range(repeats):
                for what, side in sides.items():
                    side.time("batches")  # what was prefetched while the others had their turns
                    seconds[what].append(side.time("batches") / (count * BATCH))
        for what, each in seconds.items():
            rate, ratio = 1 / statistics.median(each), contest.ratio(each, seconds["ours"])
            yield {"what": what, "images_per_second": rate, "ratio": ratio, "repeats": repeats}


def _calls(count: int, start: Callable, root: str) -> dict[str, Callable]:
    stream, close = start(root)

    def batches():
        for batch in itertools.islice(stream, count):
            assert batch.shape == (BATCH, SIZE, SIZE, 3), batch.shape

    return {"batches": batches, "close": close}


def write_photos(root: Path, count: int) -> None:
    """Writes `count` images to ROOT/train/CLASS/, the same every time.

    They are noise at seven scales. As in photographs, the amplitude is about inverse to the frequency, and fine scales
    have little colour. The quality is 95, with colour at half the resolution: 66 KB.
    """
    for number in range(count):
        rng = np.random.default_rng(number)
        pixels = np.full((375, 500, 3), 118.0)
        for cells, deviation in zip((4, 8, 16, 32, 64, 128, 250), (40, 34, 27, 20, 13, 8, 5), strict=True):
            grey = rng.normal(0, deviation, (cells * 3 // 4 + 1, cells, 1))
            noise = grey + rng.normal(0, deviation / 3, (cells * 3 // 4 + 1, cells, 3))
            for channel in range(3):
                coarse = Image.fromarray(noise[..., channel].astype(np.float32))
                pixels[..., channel] += np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC))
        path = root / "train" / str(number % 2) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=95, subsampling="4:2:0")


def write_small_copies(photos: Path, directory: Path) -> None:
    """Writes the copies that `experiments.prepare` makes of the photos."""
    from inception_jax.data.prepare import prepare
    from inception_jax.data.sources import open_source

    prepare(
        {"train": open_source("folder", "train", str(photos))},
        directory,
        short_side=RESIZE,
        quality=95,
        shards=None,
        processes=1,
        max_pixels=2**26,
        origin={},
        say=lambda _: None,
    )


def _crop_config():
    from inception_jax.data.crops import CropConfig

    fields = {"crop": "area", "scale": (RESIZE, RESIZE), "interpolation": "bilinear", "max_pixels": 2**26}
    return CropConfig(size=SIZE, resize=RESIZE, area=AREA, aspect=ASPECT, **fields)


def _ours(root: str) -> tuple[Iterator, Callable]:
    return _train_batches("folder", f"{root}/photos")


def _ours_resized(root: str) -> tuple[Iterator, Callable]:
    return _train_batches("photos_256", root)


def _train_batches(name: str, directory: str) -> tuple[Iterator, Callable]:
    from inception_jax import runtime
    from inception_jax.data import loader
    from inception_jax.data.sources import open_source

    runtime.configure("float32")
    source = open_source(name, "train", directory)
    batches = loader.train_batches(
        source,
        _crop_config(),
        loader.DamageReport(source),
        seed=0,
        batch_size=BATCH,
        first_step=0,
        last_step=10**9,
        shard=loader.ProcessShard(),
        threads=0,
        processes=-1,
    )
    return (batch["image"] for batch in batches), batches.close


def _ours_evaluating(root: str) -> tuple[Iterator, Callable]:
    from inception_jax.data import loader
    from inception_jax.data.sources import open_source

    class Endless:
        """Repeats a source."""

        def __init__(self, source):
            self._source = source

        def __len__(self):
            return 10**9 * BATCH

        def encoded(self, index):
            return self._source.encoded(index % len(self._source))

        def name(self, index):
            return self._source.name(index % len(self._source))

    source = Endless(open_source("folder", "train", f"{root}/photos"))
    batches = loader.eval_batches(
        source,
        _crop_config(),
        loader.DamageReport(source),
        batch_size=BATCH,
        shard=loader.ProcessShard(),
        threads=0,
    )
    return (batch["image"] for batch in batches), batches.close


def _tf_data(root: str) -> tuple[Iterator, Callable]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow as tf
    except ImportError:
        raise Unavailable("TensorFlow is not installed (requirements-bench.txt)") from None
    tf.config.set_visible_devices([], "GPU")

    def load(path, seed):
        data = tf.io.read_file(path)
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(data),
            tf.zeros((1, 0, 4)),
            seed=seed,
            min_object_covered=0.0,
            aspect_ratio_range=ASPECT,
            area_range=AREA,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        image = tf.image.decode_and_crop_jpeg(data, tf.concat((begin[:2], extent[:2]), 0), channels=3)
        return tf.cast(tf.round(tf.image.resize(image, (SIZE, SIZE))), tf.uint8)

    files = (
        tf.data.Dataset.from_tensor_slices(sorted(map(str, Path(root, "photos").rglob("*.jpg"))))
        .shuffle(FILES)
        .repeat()
    )
    dataset = tf.data.Dataset.zip(files, tf.data.Dataset.random(seed=0).batch(2, drop_remainder=True))
    # A prefetch chosen by tf.data would continue for seconds after its turn, at the cost of the others.
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(4)
    return dataset.as_numpy_iterator(), lambda: None


def _torch(root: str) -> tuple[Iterator, Callable]:
    try:
        import torch
    except ImportError:
        raise Unavailable("PyTorch is not installed (requirements-bench.txt)") from None
    dataloader = torch.utils.data.DataLoader(
        PillowFiles(sorted(Path(root, "photos").rglob("*.jpg")), 10**6),
        batch_size=BATCH,
        shuffle=True,
        num_workers=available_cores(),
    )
    batches = iter(dataloader)
    return batches, batches._shutdown_workers  # the temporary files must outlive them


class PillowFiles:
    """A PyTorch dataset of `length` training crops by Pillow, from the files in turn."""

    def __init__(self, paths: list[Path], length: int):
        self._paths, self._length = paths, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> np.ndarray:
        image = Image.open(self._paths[index % len(self._paths)]).convert("RGB")
        left, top, width, height = self._box(*image.size)
        crop = image.crop((left, top, left + width, top + height)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        return np.array(crop)

    @staticmethod
    def _box(width: int, height: int) -> tuple[int, int, int, int]:
        for _ in range(10):
            area = width * height * random.uniform(*AREA)
            aspect = math.exp(random.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return random.randint(0, width - w), random.randint(0, height - h), w, h
        return 0, 0, width, height


# Each takes the directory of the images, and returns an endless iterator of batches and what ends it.
PIPELINES = {
    "ours": _ours,
    "ours, resized beforehand": _ours_resized,
    "ours, evaluation crop": _ours_evaluating,
    "tf.data": _tf_data,
    "PyTorch DataLoader": _torch,
}
