"""Checkpoints of TensorFlow; TensorFlow writes them."""

import tarfile

import numpy as np
import tensorflow as tf

from inception_jax.weights import formats
from tests.weights.formats.samples import same


def test_checkpoints_of_tensorflow(tmp_path):
    values = {"Net/conv/weights": np.ones((1, 2, 3, 4), np.float32), "Net/conv/biases": np.arange(4, dtype=np.float32)}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in values.items():
            tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        for version, format_ in ((1, "tensorflow v1"), (2, "tensorflow v2")):
            saver = tf.compat.v1.train.Saver(write_version=version)
            prefix = saver.save(session, str(tmp_path / f"v{version}.ckpt"), write_meta_graph=False)
            content = formats.read(prefix)
            assert content.format == format_
            same(content.arrays, dict(sorted(values.items())))
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as archive:  # as tf-slim's are published
        archive.add(tmp_path / "v1.ckpt", "inception_v1.ckpt")
    same(formats.read(tmp_path / "archive.tar.gz").arrays, dict(sorted(values.items())))
    with tarfile.open(tmp_path / "archive.tgz", "w:gz") as archive:
        for path in tmp_path.glob("v2.ckpt.*"):
            archive.add(path, path.name)
    same(formats.read(tmp_path / "archive.tgz").arrays, dict(sorted(values.items())))
