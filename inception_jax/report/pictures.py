"""Pictures for people: the images that a network is trained on, and contact sheets."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from PIL import Image, ImageDraw

from inception_jax.data import loader
from inception_jax.data.augment import Preprocessing
from inception_jax.errors import UserError
from inception_jax.runs.snapshots import as_bytes
from inception_jax.training.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image with a caption in plain text.

    Attributes:
      image: uint8 [H, W, 3].
      caption: for instance its class.
    """

    image: np.ndarray
    caption: str


def augmented_batch(experiment: Experiment, dataset_stats: Mapping[str, np.ndarray], count: int) -> list[Picture]:
    """Returns the first images that an experiment trains on, augmented as the network gets them.

    The caption is the class; of a mixed image both classes with their fractions. Normalisation is undone. A whitened
    image is stretched instead, from its smallest to its largest value.

    Args:
      experiment: the training data, its augmentation and the seed.
      dataset_stats: statistics of the training set, see `Experiment.fit_dataset_stats`.
      count: number of images, even because they may be mixed in pairs.

    Raises:
      UserError: `count` is odd, or more than 1 % of the images are damaged.
    """
    if count % 2:
        raise UserError(f"count={count} must be even")
    [batch] = loader.train_batches(
        experiment.train_source,
        experiment.crop_config,
        loader.DamageReport(experiment.train_source),
        seed=experiment.config.seed,
        batch_size=count,
        first_step=0,
        last_step=1,
        shard=loader.ProcessShard(),
        threads=1,
    )

    @jax.jit
    def augment(batch, dataset_stats):
        key, _ = jax.random.split(jax.random.key(experiment.config.seed))  # as the training step does
        images = experiment.preprocessing.train(batch["image"], batch["index"], key, dataset_stats)
        if experiment.preprocessing.mixes:
            return experiment.preprocessing.mix(images, batch["index"], key)
        return images, np.ones(count, np.float32)

    images, fractions = jax.device_get(augment(batch, dataset_stats))
    names = [experiment.class_names[label] for label in batch["label"]]
    captions = [
        names[i] if fraction >= 0.995 else f"{names[i]} {fraction:.0%}, {names[i ^ 1]} {1 - fraction:.0%}"
        for i, fraction in enumerate(fractions)
    ]
    return [
        Picture(_as_bytes(image, experiment.preprocessing), caption)
        for image, caption in zip(images, captions, strict=True)
    ]


def tiles(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Lays pictures out in rows, with a transparent pixel between them.

    Args:
      pictures: uint8 [n, h, w, 1 or 3].
      columns: number of pictures in a row.

    Returns:
      Uint8 [H, W, 2 or 4], the last channel is opacity.
    """
    count, height, width, channels = pictures.shape
    rows, columns = -(-count // columns), min(count, columns)
    image = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, channels + 1), np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        image[top : top + height, left : left + width, :-1] = picture
        image[top : top + height, left : left + width, -1] = 255
    return image


def filters_picture(filters: np.ndarray, columns: int) -> np.ndarray:
    """Kernels [kh, kw, 3 or 1, cout] as tiles, uint8 [H, W, 4], each from its smallest to its largest weight."""
    pixels = np.moveaxis(as_bytes(filters, (0, 1, 2)), -1, 0)
    return tiles(np.broadcast_to(pixels, (*pixels.shape[:3], 3)), columns)


def contact_sheet(pictures: list[Picture], columns: int = 8) -> Image.Image:
    """Returns one image with all pictures in rows, captions below; small ones are enlarged pixel by pixel."""
    height, width = pictures[0].image.shape[:2]
    factor = max(1, 128 // width)
    height, width, line, gap = height * factor, width * factor, 14, 8
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + line + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        x, y = gap + i % columns * (width + gap), gap + i // columns * (height + line + gap)
        sheet.paste(Image.fromarray(picture.image).resize((width, height), Image.Resampling.NEAREST), (x, y))
        caption = picture.caption
        while draw.textlength(caption) > width:
            caption = caption[:-1]
        draw.text((x, y + height + 1), caption, fill="black")
    return sheet


def _as_bytes(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Turns a preprocessed image, float32 [H, W, 1 or 3], into uint8 [H, W, 3]."""
    if preprocessing.whitening == "none":
        channels = preprocessing.channels
        image = image * np.array(preprocessing.std)[:channels] + np.array(preprocessing.mean)[:channels]
    else:
        low, high = image.min(), image.max()
        image = (image - low) * (255 / (high - low if high > low else 1))
    return np.broadcast_to(np.clip(np.rint(image), 0, 255).astype(np.uint8), (*image.shape[:2], 3))
