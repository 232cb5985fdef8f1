"""Training steps of whole networks, compiled: their losses and gradients are finite and reach every parameter."""

import jax
import numpy as np
import pytest

import inception_jax
from tests.models.conftest import training_step

# One network of each kind, small: name, options, width, size.
KINDS = [
    ("lenet5", {}, 1.0, 32),
    ("alexnet", {"lrn_by_group": True}, 0.05, 64),
    ("vgg_a_bn", {"dense_window": 1}, 0.05, 48),
    ("nin_cifar10", {}, 0.05, 16),
    ("googlenet", {"stem": "separable"}, 0.05, 40),
    ("inception_v3", {"blocks": 1}, 0.05, 75),
    ("inception_resnet_v1", {"blocks": 1}, 0.05, 75),
    ("resnet50", {}, 0.05, 32),
]


@pytest.mark.parametrize(("name", "options", "width", "size"), KINDS)
def test_one_of_each_kind_takes_a_step(name, options, width, size, drawn):
    model = inception_jax.create_model(name, 5, width=width, **options)
    shape = (size, size, model.input_shape[2])
    variables = drawn(model, shape)
    images = jax.random.normal(jax.random.key(1), (4, *shape))
    step = jax.jit(training_step(model))(variables, images, jax.random.key(2))
    (loss, ((logits, _), updates)), gradients = step
    assert np.isfinite(loss)
    assert logits.shape == (4, 5)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
    dead = [jax.tree_util.keystr(path) for path, g in jax.tree_util.tree_leaves_with_path(gradients) if not g.any()]
    assert len(dead) < 0.2 * len(jax.tree.leaves(gradients)), dead
    if "batch_stats" in variables:
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), variables["batch_stats"], updates["batch_stats"])
        assert all(jax.tree.leaves(moved))
