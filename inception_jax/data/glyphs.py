"""Characters drawn with distortion, clutter and noise, as a TFDS dataset: harder than the digits, no download."""

import dataclasses
import io
import math
import os
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from inception_jax.data import glyph_images
from inception_jax.data.settings import Settings
from inception_jax.data.tfds_directory import prepared
from inception_jax.paths import is_bucket
from inception_jax.runtime import available_cores


@dataclasses.dataclass(eq=False)
class GlyphsConfig(Settings):
    """Settings of the glyphs. The name lists all: 'size=32,train=20000,test=4000,difficulty=2,classes=107'.

    Args:
      size: height and width of the images in pixels, 32 to 96.
      train: number of training images, at least 1.
      test: number of test images, at least 1.
      difficulty: 0 to 4, a key of `glyph_images.DIFFICULTIES`.
      classes: number of classes, 2 to 107. The first of `glyph_images.CLASSES` are used, beginning with digits and
        capitals.
    """

    size: int = 32
    train: int = 20_000
    test: int = 4_000
    difficulty: int = 2
    classes: int = len(glyph_images.CLASSES)

    dataset = "glyphs"
    bounds: ClassVar = {
        "size": (32, 96),
        "train": (1, math.inf),
        "test": (1, math.inf),
        "difficulty": (0, max(glyph_images.DIFFICULTIES)),
        "classes": (2, len(glyph_images.CLASSES)),
    }


class Glyphs(tfds.core.GeneratorBasedBuilder):
    """Synthetic images of 107 characters, drawn from fonts by this program: no photographs and no handwriting.

    Latin, Greek and Cyrillic letters, digits, signs and arrows (`glyph_images.CLASSES`) in eight faces of DejaVu and
    STIX. matplotlib ships these fonts with their licences. The following vary, in ranges that depend on the difficulty
    (`glyph_images.DIFFICULTIES`): rotation, shear, stretch, size and position of the character; colours of ink and
    paper, with a minimum contrast; a gradient of the paper; parts of other characters and lines behind the character,
    and lines over it; blur and noise. Both splits have the same fonts and classes, and each class equally often (the
    counts differ by at most one). They share no random numbers. The box of each character is known.

    Top-1 accuracy was measured with 20,000 training and 4,000 test images of 32 x 32 (chance: 0.9 %). "Linear" is the
    best of several ridge and logistic regressions on standardised pixels. "Network" is a residual network of eleven 3x3
    convolutions with 24 to 96 filters and batch normalisation: 392 thousand parameters, momentum SGD, batches of 128,
    one cycle of learning rates up to 0.3, images shifted by up to 2 pixels.

    - Difficulty 0, of ten classes and 500 training images: linear 63 %, GoogLeNet of configs/glyphs.py at 32 x 32 99 %
      after 500 batches of 32.
    - Difficulty 1: linear 9 %, network 99.9 % (5 epochs).
    - Difficulty 2 (default): linear 3 %, network 91 % after 7 and 97 % after 12 epochs (234 and 393 s on one thread).
    - Difficulty 3: linear 2 %, network 67 % after 11 of 12 epochs at learning rates up to 0.1. At rates up to 0.3 it
      was still at chance after 5 of 20 epochs.

    Deep networks start slowly. BN-Inception with a quarter of its filters was trained on images enlarged to 64 x 64, in
    batches of 64 at a learning rate of 0.1. It was at chance after 2 epochs of difficulty 2, and reached 45 % after 1.9
    epochs of difficulty 1.
    """

    name = "glyphs"
    VERSION = tfds.core.Version("1.1.0")
    SUPPORTED_VERSIONS: ClassVar[list] = [tfds.core.Version("1.0.0")]
    RELEASE_NOTES: ClassVar[dict] = {"1.0.0": "Images and labels.", "1.1.0": "The same, with boxes."}
    BUILDER_CONFIGS = (GlyphsConfig(),)  # the default; TFDS asks `get_builder_config` for others
    code_path = None  # as in `digits`

    @classmethod
    def get_builder_config(cls, name, version=None):  # noqa: ARG003 (TFDS's signature)
        """Returns the settings with that name, see `Settings.parse`."""
        return GlyphsConfig.parse(name)

    def _info(self):
        size = self.builder_config.size
        boxes = {"bbox": tfds.features.BBoxFeature()} if self.version > "1.0.0" else {}
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            homepage="https://matplotlib.org",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), dtype=np.uint8, encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(glyph_images.CLASSES[: self.builder_config.classes])),
                    **boxes,
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):  # noqa: ARG002 (TFDS's signature)
        import matplotlib  # slow, and not needed once the dataset is prepared

        fonts = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")
        return {split: self._generate_examples(fonts, split) for split in glyph_images.SPLITS}

    def _generate_examples(self, fonts, split):
        settings = self.builder_config
        count, classes = getattr(settings, split), settings.classes
        # Starting a worker takes as long as drawing some 500 images.
        workers = min(available_cores(), max(1, count // 500))
        images = glyph_images.encoded_images(fonts, split, count, settings.size, settings.difficulty, workers, classes)
        for index, (png, (xmin, ymin, xmax, ymax)) in enumerate(images):
            sides = (ymin, xmin, ymax + 1, xmax + 1)  # TFDS has the edges, as fractions of the image's sides
            yield (
                index,
                {
                    "image": io.BytesIO(png),
                    "label": glyph_images.label(split, index, classes),
                    "bbox": tfds.features.BBox(*(side / settings.size for side in sides)),
                },
            )


def prepared_glyphs(settings: str = "", data_dir: str = "") -> Glyphs:
    """Returns the glyphs' builder; writes them to `data_dir` if they are missing, see `tfds_directory.prepared`.

    Writing needs neither a network nor TensorFlow. Images of version 1.0.0, which have no boxes, are written again; if
    `data_dir` cannot be written to, they are taken as they are. The default 24,000 images take 45 s of CPU time, spread
    over all cores, and 63 MB. Each choice of settings has its own directory below `data_dir`/glyphs.

    Args:
      settings: see `Settings.parse`.
      data_dir: TFDS's directory.

    Raises:
      UserError: the settings are invalid, or `data_dir` cannot be written to.
    """
    config = GlyphsConfig.parse(settings).name

    def builder(directory: str) -> Glyphs:
        newest = Glyphs(config=config, data_dir=directory)
        # Where nothing can be written, images without boxes are better than none.
        if newest.info.splits or not (is_bucket(directory) or not os.access(directory, os.W_OK)):
            return newest
        older = Glyphs(config=config, data_dir=directory, version="1.0.0")
        return older if older.info.splits else newest

    return prepared(builder, "glyphs", data_dir)
