"""Snapshots: their files, how many stay, damage."""

import io
import zipfile

import numpy as np
import pytest

from inception_jax.errors import UserError
from inception_jax.runs import snapshots
from inception_jax.runs.snapshots import Snapshot, as_bytes, first_filters
from tests.values import snapshot


def test_what_is_written_is_read(tmp_path):
    written = snapshot(20, activations={"b/c": np.full((2, 3, 4), 7, np.uint8), "a": np.zeros((1, 1, 5), np.uint8)})
    snapshots.write(tmp_path, written)
    read = snapshots.read(tmp_path, 20)
    assert list(read.activations) == ["b/c", "a"]  # in the order of computation
    for name in Snapshot.__annotations__:
        np.testing.assert_equal(getattr(read, name), getattr(written, name))
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["20.npz"]


def test_a_long_run_keeps_thirty_spread_over_its_steps(tmp_path):
    for step in range(10, 3010, 10):
        snapshots.write(tmp_path, snapshot(step))
        assert len(snapshots.steps_in(tmp_path)) == min(step // 10, 30)
    steps = snapshots.steps_in(tmp_path)
    assert (steps[0], steps[-1]) == (10, 3000)
    gaps = np.diff(steps)
    assert gaps.max() < 3 * gaps.min()


def test_those_of_an_earlier_start_go(tmp_path):
    for step in (3, 6, 9, 12):
        snapshots.write(tmp_path, snapshot(step))
    (tmp_path / "snapshots" / "notes.npz").touch()  # not ours
    snapshots.write(tmp_path, snapshot(6))
    assert snapshots.steps_in(tmp_path) == [3, 6]
    assert (tmp_path / "snapshots" / "notes.npz").exists()
    assert snapshots.steps_in(tmp_path / "nowhere") == []


def without(name):
    return lambda arrays: arrays.pop(name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("places"), "places"),
        (lambda a: a.update(labels=np.zeros(1, np.int32)), "not of equally many images"),
        (lambda a: a.update(image=np.zeros((2, 2), np.uint8)), r"its image are uint8\[2, 2\]"),
        (lambda a: a.update(image=np.zeros((2, 2, 4), np.uint8)), "neither colours nor grey"),
        (lambda a: a.update(filters=np.zeros((1, 1, 3, 2), np.float32)), r"its filters are float32\[1, 1, 3, 2\]"),
        (lambda a: a.update({"activations/x": np.zeros(2, np.uint8)}), r"its activations/x are uint8\[2\]"),
        (lambda a: a.update(classes=np.array([{}, {}])), "allow_pickle=False"),
    ],
)
def test_a_damaged_file_is_named(change, said, tmp_path):
    snapshots.write(tmp_path, snapshot(5))
    file = tmp_path / "snapshots" / "5.npz"
    arrays = dict(np.load(file))
    change(arrays)
    np.savez(file, **arrays)
    with pytest.raises(UserError, match=f"snapshots/5.npz is damaged: .*{said}"):
        snapshots.read(tmp_path, 5)


def test_other_files_are_damaged_too(tmp_path):
    snapshots.write(tmp_path, snapshot(5))
    file = tmp_path / "snapshots" / "5.npz"
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w") as archive:
        header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000,)}"
        archive.writestr("step.npy", header.ljust(127) + b"\n")
    for content in (b"", b"PK", file.read_bytes()[:-50], huge.getvalue()):
        file.write_bytes(content)
        with pytest.raises(UserError, match="snapshots/5.npz is damaged: "):
            snapshots.read(tmp_path, 5)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        snapshots.read(tmp_path, 5)


def test_values_are_scaled_along_the_axes():
    values = np.array([[[0.0, 5.0, np.nan]], [[2.0, 5.0, -4.0]]])
    np.testing.assert_array_equal(as_bytes(values, (0, 1)), [[[0, 128, 255]], [[255, 128, 0]]])
    np.testing.assert_array_equal(as_bytes(values, (0, 1, 2)), [[[113, 255, 113]], [[170, 255, 0]]])
    assert as_bytes(as_bytes(values, (0, 1)), (0, 1)).tolist() == as_bytes(values, (0, 1)).tolist()


def test_the_first_filters_read_colours_or_grey():
    params = {
        "a": {"bias": np.zeros(8)},
        "b": {"kernel": np.zeros((3, 3, 8, 4))},
        "c": {"kernel": np.ones((5, 5, 3, 2))},
    }
    assert first_filters(params).shape == (5, 5, 3, 2)
    assert first_filters({"b": params["b"]}) is None
