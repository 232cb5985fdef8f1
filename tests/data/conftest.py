import pwd
import tempfile

import pytest

from inception_jax import runtime
from inception_jax.data.digits import prepared_digits


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    data_dir = str(tmp_path_factory.mktemp("tfds"))
    prepared_digits(data_dir)
    return data_dir


@pytest.fixture
def homeless(tmp_path, tmp_path_factory, monkeypatch):
    """No home directory, as in a container with a numeric user; in a directory where a literal '~' would be seen."""

    def no_entry(number):
        raise KeyError(number)

    for name in ("HOME", "XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    monkeypatch.chdir(tmp_path)
    runtime._temporary.cache_clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
    yield
    assert not list(tmp_path.iterdir())
