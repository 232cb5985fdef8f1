import numpy as np
import pytest

from inception_jax.data.augment import Preprocessing
from inception_jax.errors import UserError
from inception_jax.parallel import DataParallel
from inception_jax.report.pictures import Picture, augmented_batch, contact_sheet
from inception_jax.training.experiment import Experiment


def first_pictures(config):
    experiment = Experiment(config, DataParallel())
    return experiment, augmented_batch(experiment, experiment.fit_dataset_stats(print), 8)


def test_the_pictures_are_those_that_training_sees(tiny_config):
    """Without augmentation they are the training images, in the order of the stream."""
    tiny_config.data.update(crop="central", flip=False, resize=16)
    experiment, pictures = first_pictures(tiny_config)
    order = np.random.default_rng((tiny_config.seed, 0)).permutation(np.arange(48, dtype=np.uint32))
    for index, picture in zip(order, pictures, strict=False):
        image, label = experiment.train_source[int(index)]
        assert picture.caption == experiment.class_names[label]
        np.testing.assert_allclose(picture.image.mean(axis=(0, 1)), image.mean(axis=(0, 1)), atol=12)


def test_an_odd_number_is_refused(tiny_config):
    with pytest.raises(UserError, match="^count=3 must be even"):
        augmented_batch(Experiment(tiny_config, DataParallel()), {}, 3)


def test_the_captions_of_mixed_images_have_both_fractions(tiny_config, monkeypatch):
    mix = lambda self, images, index, key: (images, np.full(len(images), 0.25, np.float32))  # noqa: E731
    monkeypatch.setattr(Preprocessing, "mix", mix)
    tiny_config.data.mixup = 0.2
    _, pictures = first_pictures(tiny_config)
    plain = [picture.caption.split(" ")[0] for picture in pictures]
    assert [p.caption for p in pictures] == [f"{plain[i]} 25%, {plain[i ^ 1]} 75%" for i in range(len(pictures))]


def test_whitened_images_are_stretched(tiny_config):
    tiny_config.data.whitening = "gcn"
    for picture in first_pictures(tiny_config)[1]:
        assert (picture.image.min(), picture.image.max()) == (0, 255)


def test_grey_images_are_shown_grey(tiny_config):
    tiny_config.data.channels = 1
    for picture in first_pictures(tiny_config)[1]:
        assert picture.image.shape == (16, 16, 3)
        assert (picture.image == picture.image[..., :1]).all()


def test_the_sheet_holds_every_picture():
    pictures = [Picture(np.full((16, 16, 3), i * 20, np.uint8), f"class {i}" * 9) for i in range(10)]
    sheet = np.asarray(contact_sheet(pictures))
    assert sheet.shape == (2 * (128 + 14 + 8) + 8, 8 * (128 + 8) + 8, 3)
    for i in range(10):
        y, x = 8 + i // 8 * 150, 8 + i % 8 * 136
        assert (sheet[y : y + 128, x : x + 128] == i * 20).all()
