"""The networks, by name.

All keep one contract: `logits, end_points = model.apply(variables, images, train=False)`; see `network.Network`.
"""

import difflib
import functools
import inspect
import math
import numbers
import typing

import jax.numpy as jnp

from inception_jax.errors import UserError
from inception_jax.models import (
    alexnet,
    all_cnn,
    bn_inception,
    googlenet,
    googlenet_flavours,
    inception_resnet,
    inception_v3,
    inception_v4,
    lenet,
    nin,
    resnet,
    vgg,
    zfnet,
)
from inception_jax.models.network import Network
from inception_jax.models.width import scale_width

_MODELS = {
    "lenet5": lenet.lenet5,
    "lenet5_modern": lenet.lenet5_modern,
    "alexnet": alexnet.alexnet,
    "alexnet_tv": alexnet.alexnet_tv,
    **{name: functools.partial(zfnet.zfnet, filters) for name, filters in zfnet.FILTERS.items()},
    **{f"vgg_{letter}": functools.partial(vgg.vgg, letter, False, False) for letter in vgg.TABLE_1},
    **{f"vgg_{letter}_bn": functools.partial(vgg.vgg, letter, False, True, init="torchvision") for letter in "abde"},
    "vgg_a_lrn": functools.partial(vgg.vgg, "a", True, False),
    "nin_cifar10": nin.nin_cifar10,
    "nin_imagenet": nin.nin_imagenet,
    **{
        f"{variant}_cnn_{base}": functools.partial(all_cnn.all_cnn, variant, base)
        for variant in ("base", "strided", "conv_pool", "all")
        for base in all_cnn.TABLE_1
    },
    "googlenet": googlenet.googlenet,
    "googlenet_tv": googlenet_flavours.googlenet_tv,
    "googlenet_slim": googlenet_flavours.googlenet_slim,
    "inception5h": googlenet_flavours.inception5h,
    "bn_inception": bn_inception.bn_inception,
    "bn_inception_slim": bn_inception.bn_inception_slim,
    "bn_inception_caffe": bn_inception.bn_inception_caffe,
    "inception_v2": functools.partial(inception_v3.inception_v3, factorized_7x7=False, bn_auxiliary=False),
    "inception_v3": inception_v3.inception_v3,
    "inception_v3_fid": inception_v3.inception_v3_fid,
    "inception_v4": inception_v4.inception_v4,
    "inception_resnet_v1": inception_resnet.inception_resnet_v1,
    "inception_resnet_v2": inception_resnet.inception_resnet_v2,
    "resnet50": resnet.resnet50,
}


def list_models() -> list[str]:
    """Names of all networks that `create_model` builds."""
    return sorted(_MODELS)


def options_of(name: str) -> dict[str, inspect.Parameter]:
    """The options of its own that the network `name` has, with their defaults and types."""
    parameters = inspect.signature(_MODELS[name]).parameters
    return {option: p for option, p in parameters.items() if option not in ("num_classes", "dtype")}


def create_model(
    name: str, num_classes: int | None = None, dtype: str = "float32", width: float = 1.0, **options
) -> Network:
    """Builds the network `name`.

    Args:
      name: one of `list_models()`.
      num_classes: number of classes; None: the paper's (1000 for ImageNet, 10 for LeNet-5 and the CIFAR networks, 1008
        for inception5h and inception_v3_fid).
      dtype: of the computation ('float32', 'bfloat16'); parameters and logits are float32 always.
      width: factor on the number of filters of each layer but the classifiers, for small experiments; 1 is the
        paper's, and LeNet-5 of 1998 has no other. Initial weights of a fixed standard deviation, as AlexNet's, grow by
        1 / sqrt(width), so that signals keep their strength.
      **options: the network's own, see its docstring (for instance `aux=False`).

    Raises:
      UserError: no such network (the nearest are named), no such option (all are named), or a value out of place.
    """
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=3) or list_models()
        raise UserError(f"there is no network {name!r}; did you mean {' or '.join(near)}?")
    if dtype not in ("float32", "bfloat16"):
        raise UserError(f"dtype={dtype!r} is not one of float32, bfloat16")
    known = options_of(name)
    for option, value in options.items():
        if option not in known:
            raise UserError(f"network {name!r} has no option {option!r}; it has {', '.join([*known, 'width'])}")
        _check(option, value, known[option])
    if not _is_number(width) or not 0 < width <= 16:
        raise UserError(f"width={width!r} must be a number above 0 and at most 16")
    if num_classes is not None:
        _check("num_classes", num_classes, inspect.signature(_MODELS[name]).parameters["num_classes"])
        options["num_classes"] = num_classes
    model = _MODELS[name](dtype=jnp.dtype(dtype), **options)
    return model if width == 1 else scale_width(model, width)


def _check(option: str, value, parameter: inspect.Parameter) -> None:
    """Raises a UserError if `value` is not of the option's type, or a number out of its range."""
    types = typing.get_args(parameter.annotation) or (parameter.annotation,)
    if value is None and type(None) in types:
        return
    if bool in types:
        fits, kind = isinstance(value, bool), "True or False"
    elif str in types:
        fits, kind = isinstance(value, str), "a word"  # which ones, the network says
    elif int in types:
        fits = isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1
        kind = "a whole number above 0"
    elif parameter.default is None:
        fits, kind = _is_number(value) and value >= 0, "a number not below 0"
    else:  # shares and decays
        fits, kind = _is_number(value) and 0 <= value < 1, "a number from 0 to below 1"
    if not fits:
        raise UserError(f"{option}={value!r} must be {kind}")


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
