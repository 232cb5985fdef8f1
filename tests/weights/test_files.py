"""Files of weights."""

import json

import numpy as np
import pytest

from inception_jax.errors import UserError
from inception_jax.weights import files

VARIABLES = {
    "params": {"stem": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "top": {"bias": np.ones(2)}},
    "batch_stats": {"stem": {"mean": np.float32(3)}},
}


def test_a_file_holds_arrays_by_name_and_metadata(tmp_path):
    file = tmp_path / "weights.npz"
    assert files.write(file, VARIABLES, {"class_names": ["caf\u00e9"]}) == 3
    with np.load(file) as arrays:
        assert set(arrays) == {"params/stem/kernel", "params/top/bias", "batch_stats/stem/mean", "metadata"}
        assert json.loads(str(arrays["metadata"])) == {"class_names": ["caf\u00e9"]}
    variables, metadata = files.read(file)
    assert metadata == {"class_names": ["caf\u00e9"]}
    assert variables.keys() == VARIABLES.keys()
    flat, expected = files.flatten(variables), files.flatten(VARIABLES)
    assert flat.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(flat[name], array, name)
        assert flat[name].dtype == array.dtype


def test_a_file_of_version_0_1_and_one_without_metadata(tmp_path):
    np.savez(tmp_path / "old.npz", **{"params/a": np.zeros(2), "facts": np.array('{"model": 1}')})
    assert files.read(tmp_path / "old.npz")[1] == {"model": 1}
    np.savez(tmp_path / "plain.npz", **{"params/a": np.zeros(2)})
    assert files.read(tmp_path / "plain.npz")[1] == {}


def test_files_that_cannot_be_used(tmp_path):
    (tmp_path / "torn.npz").write_bytes(b"no file of weights")
    with pytest.raises(UserError, match=r"torn\.npz cannot be read as a file of weights: "):
        files.read(tmp_path / "torn.npz")
    with pytest.raises(UserError, match=r"nowhere/x\.npz cannot be written: No such file or directory"):
        files.write(tmp_path / "nowhere" / "x.npz", VARIABLES, {})
