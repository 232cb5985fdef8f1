"""What the network is shown in training, as pictures for a person."""

import dataclasses

import jax
import numpy as np
from PIL import Image, ImageDraw

from inception_jax.data import loader
from inception_jax.training.task import Task


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image of an augmented batch.

    Attributes:
      image: uint8 [H, W, 3].
      caption: its class; of a mixed one both with their shares.
    """

    image: np.ndarray
    caption: str


def augmented_batch(task: Task, statistics: dict[str, np.ndarray], count: int) -> list[Picture]:
    """The first `count` images (an even number) that a run of the task trains on, as the network gets them.

    Normalisation is undone. Where images are whitened it is not: each is stretched from its least to its largest value.
    """
    batches = loader.train_batches(
        task.train_source,
        task.geometry,
        loader.DamageReport(task.train_source),
        seed=task.config.seed,
        batch_size=count,
        first_step=0,
        last_step=1,
        share=loader.ProcessShare(),
        threads=1,
    )
    [batch] = batches

    @jax.jit
    def augment(batch, statistics):
        key, _ = jax.random.split(jax.random.key(task.config.seed))  # as the training step does
        images = task.preprocessing.train(batch["image"], batch["index"], key, statistics)
        if task.preprocessing.mixes:
            return task.preprocessing.mix(images, batch["index"], key)
        return images, np.ones(count, np.float32)

    images, shares = jax.device_get(augment(batch, statistics))
    names = [task.class_names[label] for label in batch["label"]]
    captions = [
        names[i] if share >= 0.995 else f"{names[i]} {share:.0%}, {names[i ^ 1]} {1 - share:.0%}"
        for i, share in enumerate(shares)
    ]
    return [Picture(_bytes(image, task), caption) for image, caption in zip(images, captions, strict=True)]


def contact_sheet(pictures: list[Picture], columns: int = 8) -> Image.Image:
    """The pictures in rows, each with its caption below; small ones are enlarged pixel by pixel."""
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


def _bytes(image: np.ndarray, task: Task) -> np.ndarray:
    preprocessing = task.preprocessing
    if preprocessing.whitening == "none":
        channels = preprocessing.channels
        image = image * np.array(preprocessing.std)[:channels] + np.array(preprocessing.mean)[:channels]
    else:
        low, high = image.min(), image.max()
        image = (image - low) * (255 / (high - low if high > low else 1))
    return np.broadcast_to(np.clip(np.rint(image), 0, 255).astype(np.uint8), (*image.shape[:2], 3))
