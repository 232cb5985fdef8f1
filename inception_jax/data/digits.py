"""scikit-learn's handwritten digits as a TFDS dataset: real images without a download."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from inception_jax.data.tfds_directory import prepared


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 handwritten digits of 8x8 pixels.

    Source: `sklearn.datasets.load_digits`, the test set of E. Alpaydin and C. Kaynak, Optical Recognition of
    Handwritten Digits, UCI Machine Learning Repository, 1998. Its grey levels 0..16 are scaled to 0..255 and rounded.

    The dataset has no official split. Here every fifth image (index 0, 5, 10, ...) is in 'test' (360 images) and the
    others are in 'train' (1,437 images), both in scikit-learn's order.
    """

    name = "digits"
    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # else TFDS looks beside the code for checksums, with a package that it does not install

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8, encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):  # noqa: ARG002 (TFDS's signature)
        from sklearn.datasets import load_digits  # takes two seconds; not needed once the dataset is prepared

        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        test = np.arange(len(images)) % 5 == 0
        return {
            "train": self._generate_examples(images[~test], digits.target[~test]),
            "test": self._generate_examples(images[test], digits.target[test]),
        }

    def _generate_examples(self, images, labels):
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            # Encoded here, because TFDS would import TensorFlow for it.
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG")
            png.seek(0)
            yield index, {"image": png, "label": int(label)}


def prepared_digits(data_dir: str = "") -> Digits:
    """Returns the digits' builder; writes them to `data_dir` if they are missing, see `tfds_directory.prepared`.

    Writing takes about two seconds, and needs neither a network nor TensorFlow.

    Raises:
      UserError: `data_dir` cannot be written to.
    """
    return prepared(lambda directory: Digits(data_dir=directory), "digits", data_dir)
