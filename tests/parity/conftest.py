"""Comparisons with PyTorch, Keras and the other packages of requirements-bench.txt: `./run.sh test parity`.

They are not part of the core suite, `./run.sh test`. A missing package is a failure here, not a skip.
"""

import contextlib
import importlib
import os

import pytest


def _required(module: str):
    with contextlib.suppress(ImportError):
        return importlib.import_module(module)
    pytest.fail(f"{module} is missing: pip install -r requirements-bench.txt", pytrace=False)


@pytest.fixture(scope="session")
def torch():
    """PyTorch."""
    return _required("torch")


@pytest.fixture(scope="session")
def keras():
    """Keras with the backend TensorFlow."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    return _required("keras")


def pytest_collection_modifyitems(items):
    """Warnings of the peers' own code are no errors."""
    for item in items:
        if item.path.is_relative_to(os.path.dirname(__file__)):  # the hook gets the tests of all folders
            item.add_marker(pytest.mark.filterwarnings("default"))
