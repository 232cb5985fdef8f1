import json
import pathlib

import jax
import numpy as np
import pytest

from inception_jax.models import trace


@pytest.fixture(scope="session")
def golden():
    """Figures of all networks; `test_golden` proves that they are those of the networks."""
    return json.loads(pathlib.Path(__file__).with_name("golden.json").read_text())


@pytest.fixture(scope="session")
def drawn():
    """Draws values for the variables of (model, image shape): compiling an initialisation costs as much as a step."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        spread = (2 / np.prod(leaf.shape[:-1])) ** 0.5 if leaf.ndim > 1 else 0.1
        return rng.normal(0, spread, leaf.shape).astype(np.float32)

    return lambda model, shape: jax.tree_util.tree_map_with_path(draw, trace.abstract_variables(model, shape))
