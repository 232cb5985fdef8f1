"""How fast images become batches: ours, tf.data and a PyTorch DataLoader on the same files, in turn.

All read 500 x 375 JPEG files of some 66 KB from the same directory (that is, after the warm-up, from the page cache),
cut out a random box of 8 to 100 % of the area and an aspect ratio between 3/4 and 4/3, resize it bilinearly to
224 x 224 and hand out shuffled batches of 32, uint8, on all cores that the process may use:

- ours as training uses it;
- ours from the copies that `experiments.prepare` makes of them, the shorter side 256, 49 KB;
- ours with the evaluation crop;
- tf.data: `tf.image.decode_and_crop_jpeg`, which decodes the box alone, and `tf.image.resize` without antialiasing,
  its default; the number of parallel calls tuned by tf.data itself;
- PyTorch: a DataLoader with a worker process for each core, decoding and resizing by Pillow as torchvision's
  RandomResizedCrop does (antialiased).
"""

import contextlib
import io
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
FILES = 128  # different images
OURS = "ours"


def measure(repeats: int, images: int = 1536) -> Iterator[dict]:
    """A row for each pipeline, of images per second; in a turn it delivers `images`, after a warm-up of as many."""
    count = math.ceil(images / BATCH)
    with tempfile.TemporaryDirectory() as root:
        photos = Path(root, "photos")
        write_photos(photos, FILES)
        write_small_copies(photos, Path(root, "photos_256", "1.0.0"))
        sides = {}
        for what, start, *arguments in (
            (OURS, _ours, "folder", photos),
            ("ours, resized beforehand", _ours, "photos_256", root),
            ("ours, evaluation crop", _ours_evaluating, photos),
            ("tf.data", _tf_data, photos),
            ("PyTorch DataLoader", _torch, photos),
        ):
            try:
                sides[what] = Side(_calls, count, start, *arguments, has_children=True)
            except Unavailable as error:
                yield {"what": what, "skipped": str(error)}
        with contest.closing(sides):
            seconds = {what: [] for what in sides}
            for _ in range(repeats):
                for what, side in sides.items():
                    side.time("batches")  # takes out what was prefetched while the others had their turns
                    seconds[what].append(side.time("batches") / (count * BATCH))
        for what, each in seconds.items():
            rate, ratio = 1 / statistics.median(each), contest.ratio(each, seconds[OURS])
            yield {"what": what, "images_per_second": rate, "ratio": ratio, "repeats": repeats}


def _calls(count: int, start: Callable, *arguments) -> dict[str, Callable]:
    stream, close = start(*arguments)

    def batches():
        for batch in itertools.islice(stream, count):
            assert batch.shape == (BATCH, SIZE, SIZE, 3), batch.shape

    return {"batches": batches, "close": close}


def write_photos(root: Path, count: int) -> None:
    """Writes `count` images to ROOT/train/CLASS/, the same every time.

    They are noise at seven scales, stronger at the coarser ones as in photographs (the amplitude is about inverse to
    the frequency), with little colour in the finer ones, at quality 95 with colour at half the resolution: 66 KB.
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
    """Writes what `experiments.prepare` makes of the photos."""
    from experiments.prepare import prepare
    from inception_jax.data.sources import open_source

    with contextlib.redirect_stderr(io.StringIO()):  # a line for each file
        prepare({"train": open_source("folder", "train", str(photos))}, directory, short_side=RESIZE)


def _ours(name: str, root: Path | str) -> tuple[Iterator, Callable]:
    from inception_jax import runtime
    from inception_jax.data import loader
    from inception_jax.data.sources import open_source

    runtime.configure("float32")
    source = open_source(name, "train", str(root))
    batches = loader.train_batches(
        source,
        loader.Geometry(SIZE, RESIZE, AREA, ASPECT),
        loader.DamageReport(source),
        seed=0,
        batch_size=BATCH,
        first_step=0,
        last_step=10**9,
        share=loader.ProcessShare(),
        threads=0,
        processes=-1,
    )
    return (batch["image"] for batch in batches), batches.close


def _ours_evaluating(root: Path) -> tuple[Iterator, Callable]:
    from inception_jax.data import loader
    from inception_jax.data.sources import open_source

    class Endless:
        """The source again and again."""

        def __init__(self, source):
            self._source = source

        def __len__(self):
            return 10**9 * BATCH

        def encoded(self, index):
            return self._source.encoded(index % len(self._source))

        def name(self, index):
            return self._source.name(index % len(self._source))

    source = Endless(open_source("folder", "train", str(root)))
    batches = loader.eval_batches(
        source,
        loader.Geometry(SIZE, RESIZE, AREA, ASPECT),
        loader.DamageReport(source),
        batch_size=BATCH,
        share=loader.ProcessShare(),
        threads=0,
    )
    return (batch["image"] for batch in batches), batches.close


def _tf_data(root: Path) -> tuple[Iterator, Callable]:
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

    files = tf.data.Dataset.from_tensor_slices(sorted(map(str, root.rglob("*.jpg")))).shuffle(FILES).repeat()
    dataset = tf.data.Dataset.zip(files, tf.data.Dataset.random(seed=0).batch(2, drop_remainder=True))
    # Tuned by itself, prefetching would go on for seconds after its turn, at the cost of the others.
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(4)
    return dataset.as_numpy_iterator(), lambda: None


def _torch(root: Path) -> tuple[Iterator, Callable]:
    try:
        import torch
    except ImportError:
        raise Unavailable("PyTorch is not installed (requirements-bench.txt)") from None
    dataloader = torch.utils.data.DataLoader(
        PillowFiles(sorted(root.rglob("*.jpg")), 10**6),
        batch_size=BATCH,
        shuffle=True,
        num_workers=available_cores(),
    )
    batches = iter(dataloader)
    return batches, batches._shutdown_workers  # the temporary files must outlive them


class PillowFiles:
    """A PyTorch dataset of training crops by Pillow: `length` of them, of the files in turn."""

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
