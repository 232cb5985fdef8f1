"""Files of Keras, and files of HDF5 that refer to others."""

import h5py
import keras
import numpy as np
import pytest

from inception_jax.weights import formats
from tests.weights.formats.samples import error_of, same


def small_keras_model(**options):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(2, 3, name="first"),
            layers.BatchNormalization(scale=False),
            layers.Conv2D(2, 1),
            layers.BatchNormalization(),
            layers.SeparableConv2D(2, 1),
            layers.Flatten(),
            layers.Dense(2),
        ],
        **options,
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # in Keras
def test_files_of_keras(tmp_path):
    model = small_keras_model()
    rng = np.random.default_rng(0)
    expected = {}
    for variable in model.variables:
        variable.assign(rng.standard_normal(variable.shape))
        expected[variable.path.removeprefix(f"{model.name}/")] = np.asarray(variable)
    for name, format_ in (("model.h5", "keras h5"), ("model.keras", "keras")):
        model.save(tmp_path / name)
        content = formats.read(tmp_path / name)
        assert content.format == format_
        assert content.arrays.keys() == expected.keys()
        same({key: content.arrays[key] for key in expected}, expected)
    model.save_weights(tmp_path / "model.weights.h5")
    content = formats.read(tmp_path / "model.weights.h5")
    assert content.metadata == {"positional": True}
    assert len(content.arrays) == len(expected)


def test_hdf5_does_not_read_other_files(tmp_path):
    secret, file = tmp_path / "secret.h5", tmp_path / "weights.h5"
    with h5py.File(secret, "w") as opened:
        opened["a"] = np.arange(3.0)
    (tmp_path / "raw").write_bytes(b"\0" * 24)

    def external(opened):
        opened.create_dataset("a", (3,), "f8", external=[(str(tmp_path / "raw"), 0, 24)])

    def virtual(opened):
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "a", (3,))
        opened.create_virtual_dataset("a", layout)

    def huge(opened):
        opened.create_dataset("a", (2**40,), "f8", chunks=(2**20,), compression="gzip")

    for make, message in (
        (lambda opened: opened.__setitem__("a", h5py.ExternalLink(str(secret), "a")), "a is a link"),
        (lambda opened: opened.__setitem__("a", h5py.SoftLink("/b")), "a is a link"),
        (external, "stands in another file"),
        (virtual, "stands in another file"),
        (huge, "larger than the file can hold"),
        (lambda opened: opened.__setitem__("a", b"text"), "no array of numbers"),
    ):
        with h5py.File(file, "w") as opened:
            make(opened)
        error_of(file, message)
