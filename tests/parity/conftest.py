"""Comparisons with PyTorch, Keras and the other packages of requirements-bench.txt: `./run.sh test parity`.

They are not part of the core suite, `./run.sh test`. A missing package is a failure here, not a skip,
except for two that cannot be required beside the others (`optional` in test_sources_torch.py).
"""

import contextlib
import importlib.util
import os

import pytest


def required(module: str):
    """Imports a package; without it the test fails."""
    with contextlib.suppress(ImportError), _without_compiled_operators():
        return importlib.import_module(module)
    pytest.fail(f"{module} is missing: pip install -r requirements-bench.txt", pytrace=False)


@contextlib.contextmanager
def _without_compiled_operators():
    """Lets torchvision be imported beside a PyTorch without CUDA; its compiled operators are not needed here."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    import torch

    register = torch.library.register_fake

    def register_fake(name, *arguments, **options):
        is_its = isinstance(name, str) and name.startswith("torchvision::")
        return (lambda function: function) if is_its else register(name, *arguments, **options)

    torch.library.register_fake = register_fake
    try:
        yield
    finally:
        torch.library.register_fake = register


@pytest.fixture(scope="session")
def torch():
    """PyTorch."""
    return required("torch")


@pytest.fixture(scope="session")
def keras():
    """Keras with the backend TensorFlow."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    return required("keras")


def pytest_collection_modifyitems(items):
    """Warnings of the peers' own code are no errors."""
    for item in items:
        if item.path.is_relative_to(os.path.dirname(__file__)):  # the hook gets the tests of all folders
            item.add_marker(pytest.mark.filterwarnings("default"))
