import pytest

from inception_jax.data.digits import prepared_digits


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    data_dir = str(tmp_path_factory.mktemp("tfds"))
    prepared_digits(data_dir)
    return data_dir
