import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inception_jax
from inception_jax import UserError
from inception_jax.models import googlenet, summary
from inception_jax.models.network import Block

SHAPE = (224, 224, 3)


def build(**options):
    return inception_jax.create_model("googlenet", **options)


def weights(layer) -> int:
    """Size of the kernels alone, as the paper's table counts."""
    flat = jax.tree_util.tree_flatten_with_path(layer)[0]
    return sum(x.size for path, x in flat if path[-1].key == "kernel")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # BVLC Caffe's deploy.prototxt and train_val.prototxt, counted layer by layer.
        ({"aux": False}, 6_998_552),
        ({}, 13_378_280),
        ({"aux": False, "norm": "none"}, 6_998_552),
        # Scale and bias of 7,280 channels in place of as many biases.
        ({"aux": False, "norm": "batch"}, 6_998_552 + 7_280),
        # Heads: 3,188,840 and 3,190,888.
        ({"norm": "batch"}, 6_998_552 + 7_280 + 3_188_840 + 3_190_888 + 2 * 128),
        # Stem 124,416; weights of the naive blocks 92,451,840, their biases 4,752; 4,944 channels into the classifier.
        ({"aux": False, "module": "naive"}, 124_416 + 92_451_840 + 4_752 + 4_945_000),
        # A dense layer of 1,024 units on 7x7x1024.
        ({"aux": False, "top": "fc"}, 6_998_552 + 7 * 7 * 1024 * 1024 + 1024),
        # In each head scale and bias of 1,024 units in place of their bias.
        ({"norm": "batch", "bn_auxiliary": True}, 6_998_552 + 7_280 + 3_188_840 + 3_190_888 + 2 * 128 + 2 * 1024),
        # Half of the reductions' 814,592 weights and 1,472 biases, and of the 3,585,792 weights of the 3x3 and 5x5.
        ({"aux": False, "reduction_width": 0.5}, 6_998_552 - (814_592 + 1_472 + 3_585_792) // 2),
        ({"aux": False, "early_reduction": 2}, 6_998_552),
        ({"aux": False, "early_reduction": 1}, 6_998_552),
    ],
)
def test_parameter_counts(options, expected):
    assert sum(summary.parameters(build(**options), SHAPE).values()) == expected


def test_weights_of_each_block():
    """The paper's Table 1 lists other numbers in 4a, 4c, 4d, 4e, 5a, 5b, which its own filters contradict."""
    params = summary.abstract_variables(build(), SHAPE)["params"]
    expected = {
        "conv1": 9_408,
        "conv2": 114_688,
        "inception_3a": 163_328,
        "inception_3b": 388_096,
        "inception_4a": 375_552,
        "inception_4b": 448_512,
        "inception_4c": 509_440,
        "inception_4d": 604_672,
        "inception_4e": 867_328,
        "inception_5a": 1_042_432,
        "inception_5b": 1_442_816,
        "linear": 1_024_000,
        "aux1": 65_536 + 2_097_152 + 1_024_000,
        "aux2": 528 * 128 + 2_097_152 + 1_024_000,
    }
    assert {name: weights(layer) for name, layer in params.items()} == expected


def test_multiply_adds():
    counts = summary.multiply_adds(build(), SHAPE)
    # The paper's Table 1, column ops, in millions. It says 34 for conv1, which fits a separable convolution alone, and
    # 54 for 5a, which its filters contradict; the rest agrees.
    printed = {
        "conv2": 360,
        "inception_3a": 128,
        "inception_3b": 304,
        "inception_4a": 73,
        "inception_4b": 88,
        "inception_4c": 100,
        "inception_4d": 119,
        "inception_4e": 170,
        "inception_5b": 71,
        "linear": 1,
    }
    for name, millions in printed.items():
        assert abs(counts[name] / 1e6 - millions) < 0.7, name
    assert counts["conv1"] == 118_013_952
    assert counts["inception_5a"] == 51_079_168
    assert sum(counts.values()) == 1_582_671_872


def test_end_points_have_the_shapes_of_table_1():
    model = build()
    variables = summary.abstract_variables(model, SHAPE)
    images = jax.ShapeDtypeStruct((2, *SHAPE), jnp.float32)
    logits, end_points = jax.eval_shape(lambda v, x: model.apply(v, x), variables, images)
    assert logits.shape == (2, 1000)
    for row in googlenet.TABLE_1[:-1]:
        assert end_points[row.name].shape == (2, *row.output), row.name
    assert end_points["norm1"].shape == (2, 56, 56, 64)
    assert end_points["norm2"].shape == (2, 56, 56, 192)
    assert "aux1" not in end_points
    rng = {"dropout": jax.random.key(0)}
    _, end_points = jax.eval_shape(lambda v, x: model.apply(v, x, train=True, rngs=rng), variables, images)
    assert end_points["aux1"].shape == end_points["aux2"].shape == (2, 1000)


def test_smaller_images_cost_the_same_with_less_early_reduction():
    """ "Rethinking the Inception Architecture", section 7: behind the first layers all grids are the same."""
    shapes = []
    for reduction, size in ((4, 224), (2, 112), (1, 56)):
        model = build(early_reduction=reduction)
        images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
        variables = summary.abstract_variables(model, images.shape[1:])
        _, end_points = jax.eval_shape(lambda v, x, model=model: model.apply(v, x), variables, images)
        assert ("pool1" in end_points) == (reduction > 1)
        names = [name for name, _ in model.layers]
        assert names[names.index("norm1") - 1] == ("pool1" if reduction > 1 else "conv1")
        shapes.append({name: x.shape for name, x in end_points.items() if name not in ("conv1", "pool1")})
    assert shapes[0] == shapes[1] == shapes[2]
    assert shapes[0]["norm1"] == (2, 56, 56, 64)


@pytest.mark.parametrize(("reduction", "smallest"), [(4, 31), (2, 16), (1, 8)])
def test_the_smallest_image_is_where_the_arithmetic_ends(reduction, smallest):
    model = build(early_reduction=reduction, aux=False, width=0.05)
    assert summary.abstract_variables(model, (smallest, smallest, 3))
    with pytest.raises(UserError, match=f"{smallest}"):
        summary.abstract_variables(model, (smallest - 1, smallest - 1, 3))


def test_normalised_heads_need_batch_normalisation():
    with pytest.raises(UserError, match="bn_auxiliary=True needs norm='batch'"):
        build(bn_auxiliary=True)


def test_naive_modules_pass_the_pool_through():
    model = build(module="naive", aux=False)
    images = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)
    variables = summary.abstract_variables(model, SHAPE)
    _, end_points = jax.eval_shape(lambda v, x: model.apply(v, x), variables, images)
    blocks = [row for row in googlenet.TABLE_1 if row.type == "inception"]
    channels = 192
    for row in blocks:
        channels += row.conv1x1 + row.conv3x3 + row.conv5x5
        assert end_points[row.name].shape[-1] == channels
    assert channels == 4_944


def test_every_branch_sees_exactly_its_receptive_field():
    """Catches a dead pool, and a 3x3 that poses as a 5x5."""
    row = googlenet.Row("block", "inception", 0, 0, (), 2, 2, 3, 2, 4, 5)
    block = Block(googlenet.reduced_module(row), build().style, jnp.float32, None)
    x = jax.random.uniform(jax.random.key(0), (1, 9, 9, 3))
    params = block.init(jax.random.key(1), x, train=False)
    params = jax.tree.map(jnp.abs, params)  # so that no ReLU hides a reaction
    offsets = [(dy, dx) for dy in range(-4, 5) for dx in range(-4, 5)]
    disturbed = jnp.concatenate([x, *(x.at[0, 4 + dy, 4 + dx].add(10.0) for dy, dx in offsets)])
    y = np.asarray(jax.jit(block.apply, static_argnames="train")(params, disturbed, train=False))[:, 4, 4]
    branches = {"1x1": (slice(0, 2), 0), "3x3": (slice(2, 5), 1), "5x5": (slice(5, 9), 2), "pool": (slice(9, 14), 1)}
    for (dy, dx), reaction in zip(offsets, y[1:] != y[0], strict=True):
        for name, (channels, radius) in branches.items():
            inside = max(abs(dy), abs(dx)) <= radius
            assert reaction[channels].all() == reaction[channels].any() == inside, (name, dy, dx)


def test_first_convolution_is_padded_by_three_on_both_sides():
    model = build(width=0.05, aux=False)
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


def test_auxiliary_heads_read_their_own_layer():
    model = build(width=0.05)
    x = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    params = jax.jit(model.init)(jax.random.key(0), x)["params"]

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


def test_initial_values_are_caffes():
    model = build(aux=False, width=0.5)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    kernel = params["inception_5b"]["conv3x3"]["kernel"]  # [3, 3, 96, 192]
    limit = (3 / (3 * 3 * 96)) ** 0.5
    assert 0.99 * limit < jnp.abs(kernel).max() <= limit
    np.testing.assert_allclose(params["inception_5b"]["conv3x3"]["bias"], 0.2)
    np.testing.assert_allclose(params["linear"]["classifier"]["bias"], 0.0)


def test_lrn_can_be_left_out():
    names = {norm: [name for name, _ in build(norm=norm).layers] for norm in ("lrn", "none", "batch")}
    assert names["lrn"][1:6] == ["pool1", "norm1", "conv2", "norm2", "pool2"]
    assert names["none"] == names["batch"] == [row.name for row in googlenet.TABLE_1]


def test_bfloat16_keeps_parameters_and_logits_in_float32():
    model = build(dtype="bfloat16", norm="batch")
    variables = summary.abstract_variables(model, (64, 64, 3))
    assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype("float32")}
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    logits, end_points = jax.eval_shape(lambda v, x: model.apply(v, x), variables, images)
    assert logits.dtype == jnp.float32
    assert {end_points[row.name].dtype for row in googlenet.TABLE_1[:-1]} == {jnp.dtype("bfloat16")}


def test_width_scales_every_filter():
    params = summary.abstract_variables(build(width=0.5), SHAPE)["params"]
    assert params["inception_4a"]["conv5x5_reduce"]["kernel"].shape == (1, 1, 240, 8)
    assert params["aux2"]["fc"]["kernel"].shape == (4 * 4 * 64, 512)
    assert params["linear"]["classifier"]["kernel"].shape == (512, 1000)


@pytest.mark.parametrize("size", [31, 32, 64, 65, 79, 97, 160])
def test_any_size_from_31_up(size):
    shapes = summary.abstract_variables(build(), (size, size + 3, 3))
    assert shapes["params"]["linear"]["classifier"]["kernel"].shape == (1024, 1000)


def test_smaller_images_are_refused():
    with pytest.raises(inception_jax.UserError, match="30x80 are too small for this network: 31 at least"):
        summary.abstract_variables(build(), (30, 80, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"module": "fancy"}, "module='fancy' is not one of reduced, naive"),
        ({"norm": "layer"}, "norm='layer' is not one of lrn, batch, none"),
        ({"stem": "big"}, "stem='big' is not one of convolution, separable"),
        ({"width": 0.0}, "width=0.0 must be a number above 0"),
        ({"dropout": 1.0}, "dropout=1.0 must be a number from 0 to below 1"),
        ({"batch_norm_decay": "most"}, "batch_norm_decay='most' must be a number from 0"),
        ({"aux": "false"}, "aux='false' must be True or False"),
        ({"num_classes": 0}, "num_classes=0 must be a whole number above 0"),
        ({"dtype": "int8"}, "dtype='int8' is not one of float32, bfloat16"),
        ({"axu": True}, "no option 'axu'; it has module, stem, norm, early_reduction"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(inception_jax.UserError, match=message):
        build(**options)


def test_unknown_network_names_the_nearest():
    with pytest.raises(inception_jax.UserError, match=r"no network 'gogglenet'; did you mean googlenet or"):
        inception_jax.create_model("gogglenet")
    assert "googlenet" in inception_jax.list_models()


def test_models_are_plain_data():
    """Equal descriptions give equal, hashable modules, so that compiled programs are shared."""
    assert build(width=0.5) == build(width=0.5)
    assert hash(build().layers) == hash(build().layers)
    assert build(width=0.5) != build()
    assert dataclasses.asdict(build().style)["conv_padding"] == "SYMMETRIC"
