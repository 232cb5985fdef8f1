import json
import pathlib

import jax
import jax.numpy as jnp
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

    def draw(model, shape):
        rng = np.random.default_rng(0)  # the same for every test, whatever ran before

        def values(path, leaf):
            if path[-1].key in ("scale", "var"):
                return np.ones(leaf.shape, np.float32)
            spread = (2 / np.prod(leaf.shape[:-1])) ** 0.5 if leaf.ndim > 1 else 0.1
            return rng.normal(0, spread, leaf.shape).astype(np.float32)

        return jax.tree_util.tree_map_with_path(values, trace.abstract_variables(model, shape))

    return draw


def training_step(model):
    """Loss over all heads, gradients and updated statistics, as a training step has them."""

    def step(variables, images, key):
        def loss(params):
            collections = {"params": params} | {k: v for k, v in variables.items() if k != "params"}
            outputs, updates = model.apply(
                collections, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
            )
            logits, end_points = outputs
            scores = [logits, *(end_points[head.name] for head in model.aux_heads)]
            return sum(-jnp.mean(jax.nn.log_softmax(score)[:, 0]) for score in scores), (outputs, updates)

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    return step
