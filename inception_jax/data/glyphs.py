"""Characters of many scripts, drawn under distortion, clutter and noise: a TFDS dataset that needs no download."""

import contextlib
import dataclasses
import io
import math
import os

import numpy as np
import tensorflow_datasets as tfds

from inception_jax.data import glyph_images
from inception_jax.errors import UserError
from inception_jax.runtime import available_cores


@dataclasses.dataclass(eq=False)
class GlyphsConfig(tfds.core.BuilderConfig):
    """What stands behind 'glyphs/', and its defaults."""

    name: str = ""
    size: int = 32
    train: int = 20_000
    test: int = 2_000
    difficulty: int = 2


_SETTINGS = {"size": (32, 96), "train": (1, math.inf), "test": (1, math.inf), "difficulty": (1, 3)}


class Glyphs(tfds.core.GeneratorBasedBuilder):
    """TODO"""

    name = "glyphs"
    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # see Digits

    @classmethod
    def get_builder_config(cls, name, version=None):  # noqa: ARG003 (TFDS's signature)
        """Returns the settings that a config's name, such as 'size=48,difficulty=1', stands for."""
        return _parse(name)

    def _info(self):
        size = self.builder_config.size
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), dtype=np.uint8, encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(glyph_images.CLASSES)),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):  # noqa: ARG002 (TFDS's signature)
        import matplotlib

        fonts = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")
        return {split: self._generate_examples(fonts, split) for split in glyph_images.SPLITS}

    def _generate_examples(self, fonts, split):
        settings = self.builder_config
        count = getattr(settings, split)
        # A worker needs half a second to start: time for some 500 images.
        workers = min(available_cores(), max(1, count // 500))
        images = glyph_images.encoded_images(fonts, split, count, settings.size, settings.difficulty, workers)
        for index, png in enumerate(images):
            yield index, {"image": io.BytesIO(png), "label": glyph_images.label(split, index)}


def prepared_glyphs(settings: str = "", data_dir: str = "") -> Glyphs:
    """Returns the builder of the glyphs; writes them when they are not there, as ArrayRecord.

    It needs neither a network nor TensorFlow. 

    Args:
      settings: for instance 'size=48,train=50000'; those that are not named keep their defaults.
      data_dir: where to look and to write, TFDS's default if ''. Each choice of settings has a directory of its own
        in `data_dir`/glyphs.

    Raises:
      UserError: the settings are wrong, or `data_dir` cannot be written to.
    """
    config = _parse(settings).name
    builder = Glyphs(config=config, data_dir=data_dir or None)
    if not builder.info.splits:
        tfds.disable_progress_bar()
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces what it does
                builder.download_and_prepare(file_format="array_record")
        except OSError as error:
            # TFDS writes beside the target and renames: that fails for the slower of two processes.
            builder = Glyphs(config=config, data_dir=data_dir or None)
            if not builder.info.splits:
                raise UserError(f"cannot write the glyphs; give another data_dir ({error})") from error
    return builder


def _parse(settings: str) -> GlyphsConfig:
    values = {}
    for setting in settings.split(",") if settings else ():
        key, _, value = setting.partition("=")
        if key not in _SETTINGS:
            raise UserError(f"the glyphs have no setting {setting!r}; for instance size=48,train=50000,test=5000,difficulty=1")
        least, most = _SETTINGS[key]
        if not value.isdecimal() or not least <= int(value) <= most:
            upper = f" to {most}" if most < math.inf else " or more"
            raise UserError(f"the glyphs cannot have {setting!r}: {key} is {least}{upper}")
        values[key] = int(value)
    config = GlyphsConfig(**values)
    config.name = ",".join(f"{key}={getattr(config, key)}" for key in _SETTINGS)
    return config
