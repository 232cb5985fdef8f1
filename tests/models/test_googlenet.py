import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inception_jax
from inception_jax import UserError
from inception_jax.models import googlenet, shared, trace
from inception_jax.models.network import Block

SHAPE = (224, 224, 3)


def build(**options):
    return inception_jax.create_model("googlenet", **options)


def test_smaller_images_cost_the_same_with_less_early_reduction():
    """ "Rethinking the Inception Architecture", section 7: behind the first layers all grids are the same."""
    shapes = []
    for reduction, size, smallest in ((4, 224, 31), (2, 112, 16), (1, 56, 8)):
        model = build(early_reduction=reduction, aux=False)
        images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
        variables = trace.abstract_variables(model, images.shape[1:])
        assert trace.count(variables["params"]) == 6_998_552
        _, end_points = jax.eval_shape(lambda v, x, model=model: model.apply(v, x), variables, images)
        assert ("pool1" in end_points) == (reduction > 1)
        names = [name for name, _ in model.layers]
        assert names[names.index("norm1") - 1] == ("pool1" if reduction > 1 else "conv1")
        shapes.append({name: x.shape for name, x in end_points.items() if name not in ("conv1", "pool1")})
        # The smallest image is where the arithmetic ends.
        narrow = model.clone(layers=build(early_reduction=reduction, aux=False, width=0.05).layers)
        assert trace.abstract_variables(narrow, (smallest, smallest, 3))
        with pytest.raises(UserError, match=f": {smallest} at least"):
            trace.abstract_variables(narrow, (smallest - 1, smallest - 1, 3))
    assert shapes[0] == shapes[1] == shapes[2]
    assert shapes[0]["norm1"] == (2, 56, 56, 64)


def test_naive_modules_pass_the_pool_through():
    model = build(module="naive", aux=False)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = trace.abstract_variables(model, (64, 64, 3))
    _, end_points = jax.eval_shape(lambda v, x: model.apply(v, x), variables, images)
    blocks = [row for row in googlenet.TABLE_1 if row.type == "inception"]
    channels = 192
    for row in blocks:
        channels += row.conv1x1 + row.conv3x3 + row.conv5x5
        assert end_points[row.name].shape[-1] == channels
    assert channels == 4_944


def test_every_branch_sees_exactly_its_receptive_field():
    """Catches a dead pool, and a 3x3 that poses as a 5x5."""
    row = shared.Table1Row(
        "block", "inception", conv1x1=2, conv3x3_reduce=2, conv3x3=3, conv5x5_reduce=2, conv5x5=4, pool_proj=5
    )
    block = Block(shared.reduced_module(row), build().style, jnp.float32, None)
    x = jax.random.uniform(jax.random.key(0), (1, 9, 9, 3))
    params = block.init(jax.random.key(1), x, train=False)
    params = jax.tree.map(jnp.abs, params)  # so that no ReLU hides a reaction
    offsets = [(dy, dx) for dy in range(-4, 5) for dx in range(-4, 5)]
    disturbed = np.repeat(np.asarray(x), 1 + len(offsets), axis=0)
    for i, (dy, dx) in enumerate(offsets, start=1):
        disturbed[i, 4 + dy, 4 + dx] += 10.0
    y = np.asarray(jax.jit(block.apply, static_argnames="train")(params, disturbed, train=False))[:, 4, 4]
    branches = {"1x1": (slice(0, 2), 0), "3x3": (slice(2, 5), 1), "5x5": (slice(5, 9), 2), "pool": (slice(9, 14), 1)}
    for (dy, dx), reaction in zip(offsets, y[1:] != y[0], strict=True):
        for name, (channels, radius) in branches.items():
            inside = max(abs(dy), abs(dx)) <= radius
            assert reaction[channels].all() == reaction[channels].any() == inside, (name, dy, dx)


def test_first_convolution_is_padded_by_three_on_both_sides():
    model = build(width=0.05, aux=False)
    model = model.clone(layers=model.layers[:1])
    x = jnp.zeros((1, 64, 64, 3))
    variables = jax.jit(model.init)(jax.random.key(0), x)

    @jax.jit
    def conv1(x):
        return model.apply(variables, x)[1]["conv1"]

    quiet = conv1(x)
    # Output 0 reads the pixels -3 to 3, output 31 the pixels 59 to 65.
    for pixel, first, last in ((0, 0, 1), (3, 0, 3), (4, 1, 3), (63, 30, 31)):
        rows = np.flatnonzero((conv1(x.at[0, pixel].add(1.0)) != quiet).any(axis=(0, 2, 3)))
        assert (rows[0], rows[-1]) == (first, last), pixel


def test_auxiliary_heads_read_their_own_layer(drawn):
    model = build(width=0.05)
    x = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    params = drawn(model, (64, 64, 3))["params"]

    @jax.jit
    def run(params):
        return model.apply({"params": params}, x, train=True, rngs={"dropout": jax.random.key(0)})[1]

    end_points = run(params)
    rows = [row.name for row in googlenet.TABLE_1 if row.type in ("convolution", "inception")]
    for head, deepest in (("aux1", "inception_4a"), ("aux2", "inception_4d")):
        changes = {
            name
            for name in params
            if jnp.any(run(params | {name: jax.tree.map(lambda p: 1.5 * p, params[name])})[head] != end_points[head])
        }
        assert changes == {*rows[: rows.index(deepest) + 1], head}


def test_initialisation_makes_every_parameter_whatever_train_is():
    model, x = build(width=0.05), jnp.zeros((1, 64, 64, 3))
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    trees = [jax.eval_shape(lambda train=train: model.init(keys, x, train=train)) for train in (False, True)]
    assert jax.tree.structure(trees[0]) == jax.tree.structure(trees[1])
    _, end_points = jax.eval_shape(lambda v: model.apply(v, x), trees[0])
    assert "aux1" not in end_points  # inference does not run the heads


def test_initial_values_are_caffes():
    """Uniform within sqrt(3 / fan_in); biases of 0.2, but 0 in the classifier."""
    style = build().style
    block = Block(shared.reduced_module(googlenet.TABLE_1[4]), style, jnp.float32, None)
    params = jax.jit(block.init, static_argnums=2)(jax.random.key(0), jnp.zeros((1, 8, 8, 192)), False)["params"]
    kernel = params["conv3x3"]["kernel"]  # [3, 3, 96, 128]
    limit = (3 / (3 * 3 * 96)) ** 0.5
    assert 0.99 * limit < jnp.abs(kernel).max() <= limit
    np.testing.assert_allclose(params["conv3x3"]["bias"], 0.2)
    classifier = Block(dict(build().layers)["linear"], style, jnp.float32, None)
    params = classifier.init(jax.random.key(0), jnp.zeros((1, 1, 1, 8)), False)["params"]
    np.testing.assert_allclose(params["classifier"]["bias"], 0.0)


def test_lrn_can_be_left_out():
    names = {norm: [name for name, _ in build(norm=norm).layers] for norm in ("lrn", "none", "batch")}
    assert names["lrn"][1:6] == ["pool1", "norm1", "conv2", "norm2", "pool2"]
    assert names["none"] == names["batch"] == [row.name for row in googlenet.TABLE_1]


def test_width_scales_every_filter():
    params = trace.abstract_variables(build(width=0.5), SHAPE)["params"]
    assert params["inception_4a"]["conv5x5_reduce"]["kernel"].shape == (1, 1, 240, 8)
    assert params["aux2"]["fc"]["kernel"].shape == (4 * 4 * 64, 512)
    assert params["linear"]["classifier"]["kernel"].shape == (512, 1000)


def test_any_size_from_31_up():
    for size in (31, 32, 65, 79, 97):
        shapes = trace.abstract_variables(build(), (size, size + 3, 3))
        assert shapes["params"]["linear"]["classifier"]["kernel"].shape == (1024, 1000), size
    with pytest.raises(UserError, match="30x80 are too small for this network: 31 at least"):
        trace.abstract_variables(build(), (30, 80, 3))


def test_models_are_plain_data():
    """Equal descriptions give equal, hashable modules, so that compiled programs are shared."""
    assert build(width=0.5) == build(width=0.5)
    assert hash(build().layers) == hash(build().layers)
    assert build(width=0.5) != build()
    assert dataclasses.asdict(build().style)["conv_padding"] == "SYMMETRIC"
