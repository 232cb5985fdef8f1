import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image

from inception_jax.data.augment import Preprocessing
from inception_jax.training.parallelism import DataParallel
from inception_jax.training.pictures import Picture, augmented_batch, contact_sheet
from inception_jax.training.task import Task

ROOT = pathlib.Path(__file__).parent.parent.parent


def batch(config, count=8):
    task = Task(config, DataParallel())
    return task, augmented_batch(task, task.fit_statistics(print), count)


def test_the_pictures_are_those_that_training_sees(tiny_config):
    """Without augmentation they are the training images, in the order of the stream."""
    tiny_config.data.update(crop="central", flip=False, resize=16)
    task, pictures = batch(tiny_config)
    order = np.random.default_rng((tiny_config.seed, 0)).permutation(np.arange(48, dtype=np.uint32))
    for index, picture in zip(order, pictures, strict=False):
        image, label = task.train_source[int(index)]
        assert picture.caption == task.class_names[label]
        np.testing.assert_allclose(picture.image.mean(axis=(0, 1)), image.mean(axis=(0, 1)), atol=12)


def test_mixed_images_tell_their_shares(tiny_config, monkeypatch):
    mix = lambda self, images, index, key: (images, np.full(len(images), 0.25, np.float32))  # noqa: E731
    monkeypatch.setattr(Preprocessing, "mix", mix)
    tiny_config.data.mixup = 0.2
    _, pictures = batch(tiny_config)
    plain = [picture.caption.split(" ")[0] for picture in pictures]
    assert [p.caption for p in pictures] == [f"{plain[i]} 25%, {plain[i ^ 1]} 75%" for i in range(len(pictures))]


def test_whitened_images_are_stretched(tiny_config):
    tiny_config.data.whitening = "gcn"
    for picture in batch(tiny_config)[1]:
        assert (picture.image.min(), picture.image.max()) == (0, 255)


def test_grey_images_are_shown_grey(tiny_config):
    tiny_config.data.channels = 1
    for picture in batch(tiny_config)[1]:
        assert picture.image.shape == (16, 16, 3)
        assert (picture.image == picture.image[..., :1]).all()


def test_the_sheet_holds_every_picture():
    pictures = [Picture(np.full((16, 16, 3), i * 20, np.uint8), f"class {i}" * 9) for i in range(10)]
    sheet = np.asarray(contact_sheet(pictures))
    assert sheet.shape == (2 * (128 + 14 + 8) + 8, 8 * (128 + 8) + 8, 3)
    for i in range(10):
        y, x = 8 + i // 8 * 150, 8 + i % 8 * 136
        assert (sheet[y : y + 128, x : x + 128] == i * 20).all()


def test_the_command(tmp_path):
    """Two processes, because its flags are those of a process."""
    command = [sys.executable, "-m", "experiments.show_batch", "--config=configs/digits.py:lenet5"]
    pipes = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    out = tmp_path / "batch.png"
    good, bad = (
        subprocess.Popen([*command, *more], **pipes) for more in ([f"--out={out}", "--count=4"], ["--count=3"])
    )
    assert bad.communicate() == ("", "error: --count=3 must be even\n")
    assert bad.returncode == 2
    output, _ = good.communicate()
    assert output == f"4 images of lenet5 on digits in {out}, 552 x 158\n"
    assert good.returncode == 0
    assert Image.open(out).size == (4 * 136 + 8, 158)
