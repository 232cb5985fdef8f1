"""Training steps of whole networks, compiled: their losses and gradients are finite and reach every parameter."""

import functools
import re

import jax
import numpy as np
import pytest

import inception_jax
from inception_jax.models import trace
from inception_jax.models.network import RECOMPUTE
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


@pytest.mark.parametrize(("name", "width", "size"), [("googlenet", 0.05, 32), ("vgg_a_bn", 0.05, 32)])
def test_what_is_computed_again_changes_no_gradient(name, width, size, drawn):
    """Nor the loss, the outputs, the dropout masks and the batch statistics."""
    model = inception_jax.create_model(name, 5, width=width)
    if name == "googlenet":  # one module with both heads
        heads = [head.__class__(head.name, "inception_3a", head.unit) for head in model.aux_heads]
        model = model.clone(layers=model.layers[:7] + model.layers[-3:], aux_heads=tuple(heads))
    shape = (size, size, 3)
    arguments = drawn(model, shape), jax.random.normal(jax.random.key(1), (2, *shape)), jax.random.key(2)
    steps = {choice: jax.jit(training_step(model.clone(recompute=choice)))(*arguments) for choice in RECOMPUTE}
    for choice in ("activations", "blocks"):
        check = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5, err_msg=f"{name} {choice}")
        jax.tree.map(check, steps[choice], steps["nothing"])


def test_a_policy_changes_training_alone():
    """Only the trace of a training step differs, and the parameters have the same names."""
    model = inception_jax.create_model("lenet5_modern")
    images = jax.ShapeDtypeStruct((1, *model.input_shape), np.float32)

    def traced(choice, train):
        chosen = model.clone(recompute=choice)
        initialised = functools.partial(chosen.init, jax.random.key(0), train=train)
        variables = jax.eval_shape(initialised, images)
        apply = functools.partial(chosen.apply, train=train, rngs={"dropout": jax.random.key(1)})
        return jax.tree.structure(variables), "remat" in str(jax.make_jaxpr(apply)(variables, images))

    assert traced("blocks", train=False) == traced("nothing", train=False) == traced("nothing", train=True)
    assert traced("blocks", train=True) == (traced("nothing", train=True)[0], True)


def test_activations_are_computed_again_without_products():
    model = inception_jax.create_model("lenet5_modern")
    images = jax.ShapeDtypeStruct((1, *model.input_shape), np.float32)
    variables = trace.abstract_variables(model, model.input_shape)

    def products(choice):
        step = jax.jit(training_step(model.clone(recompute=choice))).trace(variables, images, jax.random.key(0))
        text = step.lower(lowering_platforms=("tpu",)).as_text()
        return len(re.findall("stablehlo.(?:convolution|dot_general)", text))

    assert products("activations") == products("nothing") < products("blocks")
