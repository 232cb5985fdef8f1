"""Procedural textures as a TFDS dataset: known by their local structure anywhere in the image, no download."""

import dataclasses
import io
import math
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from inception_jax.data import texture_images
from inception_jax.data.settings import Settings
from inception_jax.data.tfds_directory import prepared


@dataclasses.dataclass(eq=False)
class TexturesConfig(Settings):
    """Settings of the textures. The name lists all: 'size=32,train=3000,test=2000,difficulty=1'.

    Args:
      size: height and width of the images in pixels, 32 to 96.
      train: number of training images, at least 1.
      test: number of test images, at least 1.
      difficulty: 0 to 3, a key of `texture_images.DIFFICULTIES`.
    """

    size: int = 32
    train: int = 3_000
    test: int = 2_000
    difficulty: int = 1

    dataset = "textures"
    bounds: ClassVar = {
        "size": (32, 96),
        "train": (1, math.inf),
        "test": (1, math.inf),
        "difficulty": (0, max(texture_images.DIFFICULTIES)),
    }


class Textures(tfds.core.GeneratorBasedBuilder):
    """Synthetic images of ten textures, drawn by this program: no photographs.

    - stripes: straight bars.
    - zigzag: bars that are folded at regular distances.
    - checks: squares of two colours, as on a chessboard.
    - plaid: two sets of bars that cross. Where only one of them is, the colour is between the two colours.
    - bricks: rows of bricks with joints; each row is shifted by half a brick.
    - dots: discs on a hexagonal lattice.
    - rings: circles on a hexagonal lattice.
    - cells: Voronoi cells of scattered points, with joints.
    - spots: discs at random places, which may touch.
    - blotches: where smooth noise, the sum of sixteen waves, is positive.

    The texture fills the image. The following vary, in ranges that depend on the difficulty
    (`texture_images.DIFFICULTIES`): wavelength and rotation; position; width of bars, joints and discs; two colours,
    with a minimum and a maximum contrast; a slow deformation; a gradient of the lighting; blur and noise. Both splits
    have each class equally often (the counts differ by at most one). They share no random numbers.

    Top-1 accuracy was measured with 2,000 training and 2,000 test images of 32 x 32, and one seed (chance: 10 %).
    "Linear" is the best of three ridge and two logistic regressions on standardised pixels. The networks are small ones
    of configs/glyphs.py, trained for 20 epochs: AdamW at a learning rate of 0.005, batches of 64.

    - Difficulty 0, as in the ablations (docs/sweeps.md): linear 27 %, GoogLeNet 98 % after 500 batches of 32.
    - Difficulty 1 (default): linear 17 %, BN-Inception 93 %, Inception-v2 99 %.
    - Difficulty 2: linear 13 %, BN-Inception 54 %, Inception-v2 88 %, Inception-v3 89 %; GoogLeNet 71 %, at a learning
      rate of 0.003.
    - Difficulty 3: linear 13 %, BN-Inception 32 %, Inception-v2 49 %.
    """

    name = "textures"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (TexturesConfig(),)  # the default; TFDS asks `get_builder_config` for others
    code_path = None  # as in `digits`

    @classmethod
    def get_builder_config(cls, name, version=None):  # noqa: ARG003 (TFDS's signature)
        """Returns the settings with that name, see `Settings.parse`."""
        return TexturesConfig.parse(name)

    def _info(self):
        size = self.builder_config.size
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), dtype=np.uint8, encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(texture_images.CLASSES)),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):  # noqa: ARG002 (TFDS's signature)
        return {split: self._generate_examples(split) for split in texture_images.SPLITS}

    def _generate_examples(self, split):
        settings = self.builder_config
        for index in range(getattr(settings, split)):
            png = io.BytesIO()
            pixels = texture_images.draw(split, index, settings.size, settings.difficulty)
            Image.fromarray(pixels).save(png, "PNG", compress_level=1)  # as for the glyphs
            png.seek(0)
            yield index, {"image": png, "label": texture_images.label(split, index)}


def prepared_textures(settings: str = "", data_dir: str = "") -> Textures:
    """Returns the textures' builder; writes them to `data_dir` if they are missing, see `tfds_directory.prepared`.

    Writing needs neither a network nor TensorFlow. The default 5,000 images take 5 s of CPU time and 14 MB; of 96 x 96
    pixels, 25 s and 95 MB. Each choice of settings has its own directory below `data_dir`/textures.

    Args:
      settings: see `Settings.parse`.
      data_dir: TFDS's directory.

    Raises:
      UserError: the settings are invalid, or `data_dir` cannot be written to.
    """
    config = TexturesConfig.parse(settings).name
    return prepared(lambda directory: Textures(config=config, data_dir=directory), "textures", data_dir)
