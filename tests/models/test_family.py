"""What holds of every network: it can be trained, also on accelerators; sizes of images, derivatives, width."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inception_jax
from inception_jax import models
from inception_jax.models import trace
from inception_jax.models.units import AvgPool, Boxes, Chain, Concat, Conv, Dense, Logits, Residual
from tests.models.conftest import training_step

NAMES = inception_jax.list_models()
# Flavours that differ from another network in sizes alone.
FLAVOURS = {
    *("alexnet_caffe", "alexnet_onnx", "caffenet", "caffenet_onnx", "zfnet512", "vgg_d_gap", "googlenet_gap"),
    *("inception_v1_onnx", "bn_inception_onnx", "inception_resnet_v1_facenet"),
}


def shallow(name):
    """The network with its heads, without layers that differ from the one before only in numbers of filters."""
    options = {"aux": True} if "aux" in models.options_of(name) else {}
    model = inception_jax.create_model(name, **options)
    tapped = {head.after for head in model.aux_heads}
    layers, before = [], None
    for layer, unit in model.layers:
        form = re.sub(r"features=\d+", "", repr(unit))
        if form != before or layer in tapped:
            layers.append((layer, unit))
        before = form
    return model.clone(layers=tuple(layers))


def test_a_training_step_of_every_network_can_be_traced_at_its_smallest_image():
    """In bfloat16. And it cannot be run on a smaller image, nor would the arithmetic work if it were."""
    for name in NAMES:
        model = shallow(name).clone(dtype=jnp.bfloat16)
        assert bool(model.aux_heads) == ("aux" in models.options_of(name)), name
        size, channels = model.min_size, model.input_shape[2]
        variables = trace.abstract_variables(model, (size, size, channels))
        assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype("float32")}, name
        images = jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)
        step = jax.jit(training_step(model)).trace(variables, images, jax.random.key(0))
        (loss, ((logits, end_points), updates)), gradients = step.out_info
        assert loss.shape == (), name
        assert {(end_points[head.name].shape, end_points[head.name].dtype) for head in model.aux_heads} <= {
            (logits.shape, logits.dtype)
        }, name
        assert logits.dtype == jnp.float32, name
        assert all(x.size for x in end_points.values()), name
        assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, variables["params"]), name
        stats = (tree.get("batch_stats", {}) for tree in (updates, variables))
        assert jax.tree.structure(next(stats)) == jax.tree.structure(next(stats)), name
        if name not in FLAVOURS:
            check_accelerators(name, model, variables["params"], step)
        if size > 1:
            message = f"{size - 1}x{size} are too small for this network: {size} at least"
            with pytest.raises(inception_jax.UserError, match=message):
                trace.abstract_variables(model, (size - 1, size, channels))
            assert not works(model.clone(min_size=0), size - 1), name


def check_accelerators(name, model, params, step: jax.stages.Traced):
    """Lowers a training step for accelerators: no fast path of a CPU, products in bfloat16, statistics in float32."""
    units = [*(unit for _, unit in model.layers), *(head.unit for head in model.aux_heads)]
    # By its path without the last part, because LeNet-5's C3 has several kernels.
    leaves = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    paths = [path for path, _ in leaves]
    products = len({path.rpartition("[")[0] for path in paths if "['kernel" in path})
    norms = len({path.rpartition("[")[0] for path in paths if "_bn']" in path})
    biases = sum(leaf.ndim == 1 and "_bn']" not in path for path, leaf in leaves)
    joined = sum(map(joined_convs, units, [model.style] * len(units)))
    dense = [part for unit in units for part in parts(unit) if isinstance(part, Dense | Logits | Boxes)]
    dots = sum(getattr(part, "window", None) is None for part in dense)  # a window makes it a convolution
    classifiers = sum(isinstance(part, Logits | Boxes) for part in dense)
    for platform, fewer in (("cuda", joined), ("tpu", 0)):
        text = step.lower(lowering_platforms=(platform,)).as_text()
        message = f"{name} on {platform}"
        types = re.findall(r"stablehlo\.(?:convolution|dot_general).* : \(tensor<(.*?)>, tensor<(.*?)>\) ->", text)
        # Each layer's output, the gradient of its kernel and that of its input, but not that of the image.
        assert len(types) == 3 * (products - fewer) - 1, message
        # A CPU multiplies matrices in place of 1x1 convolutions.
        assert text.count("stablehlo.dot_general") == 3 * dots, message
        dtypes = [tuple(each.rsplit("x", 1)[-1] for each in pair) for pair in types]
        assert dtypes.count(("f32", "f32")) == 3 * classifiers, message
        assert dtypes.count(("bf16", "bf16")) == len(dtypes) - 3 * classifiers, message
        # Of each normalisation the mean, the mean of squares, and two gradients. A gradient of a bias is in bfloat16.
        sums = re.findall(r"applies stablehlo\.add across dimensions = \[0, 1, 2\] : \(tensor<\w*x(\w+)>", text)
        assert sums.count("f32") >= 4 * norms, message
        assert not norms or sums.count("bf16") <= biases, message
        assert "custom_call" not in text, message
        # A CPU pools rows, then columns; and it compares with infinity to keep the order of the gradients.
        windows = re.findall(r"window_dimensions = array<i64: 1, (\d+), (\d+), \d+>", text)
        assert all(height == width for height, width in windows), message
        assert "0x7F80" not in text, message
        pools = any(isinstance(part, models.units.MaxPool) for unit in units for part in parts(unit))
        assert ("select_and_scatter" in text) == (pools and platform == "tpu"), message


def parts(unit):
    """The unit and all units in it."""
    yield unit
    match unit:
        case Chain(inner) | Concat(inner):
            children = inner
        case Residual():
            children = [part for part in (unit.branch, unit.shortcut) if not isinstance(part, bool)]
        case _:
            children = ()
    for child in children:
        yield from parts(child)


def joined_convs(unit, style) -> int:
    """Number of 1x1 convolutions that a GPU need not run, because it joins them with another of the same input."""
    joined = 0
    for each in parts(unit):
        if isinstance(each, Concat):
            starts = [branch.units[:2] if isinstance(branch, Chain) else (branch,) for branch in each.branches]
            convs = [start[-1] if commute(*start, style=style) else start[0] for start in starts]
            count = sum(isinstance(conv, Conv) and conv.kernel == 1 and conv.stride == 1 for conv in convs)
            joined += max(count - 1, 0)
    return joined


def commute(unit, *after, style) -> bool:
    """Whether the 1x1 convolution behind an average pool runs before it."""
    return bool(after) and isinstance(unit, AvgPool) and unit.stride == 1 and not style.count_include_pad


def works(model, size) -> bool:
    images = jnp.zeros((1, size, size, model.input_shape[2]))
    try:
        outputs = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), images))
    except (TypeError, ValueError, ZeroDivisionError, inception_jax.UserError):
        return False
    return all(x.size for x in jax.tree.leaves(outputs))


def test_every_network_has_all_derivatives_in_inference():
    """Tangents of logits, which a custom gradient refuses once lowered, and of their gradient, as of a Hessian."""
    for name in sorted({*NAMES} - FLAVOURS):
        model = shallow(name)
        size = max(model.min_size, 8)
        shape = (size, size, model.input_shape[2])
        variables = trace.abstract_variables(model, shape)
        images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)

        def tangent(variables, x, model=model):
            return jax.jvp(lambda x: model.apply(variables, x)[0], (x,), (x,))

        def product(variables, x, model=model):
            return jax.jvp(jax.grad(lambda x: jnp.sum(jnp.sin(model.apply(variables, x)[0]))), (x,), (x,))

        try:
            jax.jit(tangent).lower(variables, images)
        except TypeError as error:
            pytest.fail(f"{name}: {error}")
        gradient, of_gradient = jax.eval_shape(product, variables, images)
        assert gradient == of_gradient == images, name


def test_derivatives_in_forward_mode_are_those_in_reverse_mode(drawn):
    lenet, nin, googlenet = (
        inception_jax.create_model(name, 5, width=width)
        for name, width in (("lenet5", 1.0), ("nin_cifar10", 0.05), ("googlenet", 0.05))
    )
    googlenet = googlenet.clone(layers=googlenet.layers[:7] + googlenet.layers[-3:], aux_heads=())  # one module
    for model, size in ((lenet, 32), (nin, 8), (googlenet, 32)):
        shape = (size, size, model.input_shape[2])
        images, direction = (jax.random.normal(jax.random.key(i), (2, *shape)) for i in (1, 2))
        variables = drawn(model, shape)

        def f(t, model=model, variables=variables, images=images, direction=direction):
            return jnp.sum(jnp.sin(model.apply(variables, images + t * direction)[0]))

        forward = jax.jit(lambda t, f=f: (jax.jvp(f, (t,), (1.0,))[1], jax.hessian(f)(t)))(0.0)
        reverse = jax.jit(lambda t, f=f: (jax.grad(f)(t), jax.grad(jax.grad(f))(t)))(0.0)
        assert min(map(abs, forward)) > 1e-4, model.layers[0]
        np.testing.assert_allclose(forward, reverse, rtol=1e-3, atol=1e-5, err_msg=str(model.layers[0]))


def test_caffes_bn_inception_takes_some_sizes_only():
    """Its strided convolutions and its pools are padded by different rules, which agree on even grids."""
    model = inception_jax.create_model("bn_inception_caffe")
    for size in (224, 256):
        trace.abstract_variables(model, (size, size, 3))
    with pytest.raises(
        inception_jax.UserError, match="this size of images does not work: the branches of inception_3c"
    ):
        trace.abstract_variables(model, (299, 299, 3))


def test_half_the_width_is_about_a_quarter_of_the_parameters(golden):
    for name in ("alexnet", "vgg_a", "nin_cifar10", "all_cnn_c", "googlenet", "bn_inception", "resnet50"):
        model = inception_jax.create_model(name, width=0.5)
        half = trace.parameters(model, model.input_shape)
        whole = golden[name]["layers"] | golden[name]["heads"]
        assert 0.24 < sum(half.values()) / sum(layer["parameters"] for layer in whole.values()) < 0.34, name


def test_lenets_table_has_no_other_width():
    with pytest.raises(
        inception_jax.UserError, match="width=0.5 is not possible: the paper fixes the form of subsampl"
    ):
        inception_jax.create_model("lenet5", width=0.5)
