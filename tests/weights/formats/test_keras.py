"""Files of Keras, and files of HDF5 that refer to others."""

import importlib.util
import json
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

from inception_jax.errors import MissingExtraError
from inception_jax.weights import formats
from inception_jax.weights.formats import isolated
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


def nested_model():
    """A trained model with a branch, dropout and a model as a layer; its layers are not in the order of making."""
    layers = keras.layers
    inner = keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2D(2, 3, name="a"), layers.Conv2D(2, 1, name="b")])
    late, early = layers.Conv2D(2, 3, name="late"), layers.Conv2D(2, 1, name="early")
    start = keras.Input((4, 4, 3))
    branch = early(start)
    joined = layers.Concatenate()([layers.Flatten()(inner(branch)), layers.Flatten()(late(branch))])
    model = keras.Model(start, layers.Dense(2, name="top")(layers.Dropout(0.5)(joined)))
    model.compile("adam", "mse", jit_compile=False)
    model.train_on_batch(np.zeros((1, 4, 4, 3)), np.zeros((1, 2)))
    return model


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # in Keras
def test_a_trained_and_nested_model(tmp_path):
    """The file also holds the optimizer's variables; these are left out."""
    model = nested_model()
    expected = {"/".join(variable.path.split("/")[-2:]): np.asarray(variable) for variable in model.weights}
    for name in ("model.h5", "model.keras"):
        model.save(tmp_path / name)
        arrays = formats.read(tmp_path / name).arrays
        same(dict(sorted(arrays.items())), dict(sorted(expected.items())))


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # in Keras
def test_bfloat16(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="top", dtype="bfloat16")])
    for name in ("model.h5", "model.keras"):
        model.save(tmp_path / name)
        assert formats.read(tmp_path / name).arrays["top/kernel"].dtype == "bfloat16"


def write_legacy(file, layers, chunks=False):
    """Writes a file of Keras 1 or 2: for each layer the names of its weights."""
    with h5py.File(file, "w") as opened:
        names = [name.encode() for name in layers]
        if chunks:  # as Keras does with names of more than 64 KB
            opened.attrs["layer_names0"], opened.attrs["layer_names1"] = names[:1], names[1:]
        else:
            opened.attrs["layer_names"] = names
        for layer, weights in layers.items():
            group = opened.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for number, name in enumerate(weights):
                group.create_dataset(name, data=np.full(2, number, ">f4"))


def test_names_of_old_files(tmp_path):
    file = tmp_path / "weights.h5"
    for layers, names in (
        ({"conv": ["conv_W", "conv_b"]}, ["conv/kernel", "conv/bias"]),  # Keras 1
        ({"bn_1": ["bn_1_gamma:0", "bn_1_running_std:0"]}, ["bn_1/gamma", "bn_1/moving_variance"]),
        ({"conv_1": ["conv_1_1/kernel:0", "conv_1_1/bias:0"]}, ["conv_1/kernel", "conv_1/bias"]),  # a second session
        ({"inner": ["a/kernel:0", "b/kernel:0"], "top": ["top/kernel:0"]}, ["a/kernel", "b/kernel", "top/kernel"]),
    ):
        write_legacy(file, layers)
        assert list(formats.read(file).arrays) == names
    write_legacy(file, {"a": ["a/kernel:0"], "b": ["b/kernel:0", "b/bias:0"]}, chunks=True)
    ones = np.ones(2, np.float32)
    same(formats.read(file).arrays, {"a/kernel": 0 * ones, "b/kernel": 0 * ones, "b/bias": ones})
    write_legacy(file, {"a": ["x/kernel:0", "y/x/kernel:0"]})
    error_of(file, "two arrays named x/kernel")


def test_small_files_of_large_arrays(tmp_path):
    file = tmp_path / "weights.h5"

    def many_names(opened):
        opened.create_dataset("a", (2**23,), "f4")
        for number in range(8):
            opened[f"b{number}"] = opened["a"]

    def endless(opened):
        opened.create_group("a")["a"] = opened["/"]

    def large_chunk(opened):
        opened.create_dataset("a", (4,), "f4", maxshape=(None,), chunks=(2**28,), compression="gzip")

    for make, message in (
        (many_names, "larger than the file can hold"),
        (endless, "more groups than any network"),
        (large_chunk, "has chunks that are larger"),
    ):
        with h5py.File(file, "w") as opened:
            make(opened)
        error_of(file, message)


def test_hdf5_may_end_its_process(tmp_path, monkeypatch):
    file = tmp_path / "weights.h5"
    with h5py.File(file, "w") as opened:
        opened["a"] = np.ones(2)
    monkeypatch.setattr(isolated, "_SECONDS", 0.01)
    error_of(file, "HDF5 comes to no end")
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    error_of(file, "HDF5 ended with status 1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'inception_jax\[weights\]'"):
        formats.read(file)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # in Keras
def test_damaged_configs(tmp_path):
    file = tmp_path / "model.keras"
    small_keras_model().save(file)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    for change, message in (
        (lambda layers: layers.pop(), "belongs to no layer of its config.json"),
        (lambda layers: layers[3]["config"].update(name="first"), "two arrays named first/kernel"),
        (lambda layers: layers[1].pop("config"), "is damaged"),
    ):
        changed = json.loads(json.dumps(config))
        change(changed["config"]["layers"])
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in (members | {"config.json": json.dumps(changed)}).items():
                archive.writestr(name, data)
        error_of(file, message)
