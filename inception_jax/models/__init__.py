"""The networks, by name.

All have one contract: `logits, end_points = model.apply(variables, images, train=False)`; see `network.Network`.
"""

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Literal

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
from inception_jax.models.options import Count, Width, check
from inception_jax.models.width import scale_width

_MODELS: dict[str, Callable[..., Network]] = {
    "lenet5": lenet.lenet5,
    "lenet5_modern": lenet.lenet5_modern,
    "alexnet": alexnet.alexnet,
    "alexnet_tv": alexnet.alexnet_tv,
    "alexnet_caffe": alexnet.alexnet_caffe,
    "alexnet_onnx": functools.partial(alexnet.alexnet_caffe, geometry="onnx"),
    "caffenet": functools.partial(alexnet.alexnet_caffe, pool_first=True),
    "caffenet_onnx": functools.partial(alexnet.alexnet_caffe, pool_first=True, geometry="onnx"),
    **{name: functools.partial(zfnet.zfnet, filters) for name, filters in zfnet.FILTERS.items()},
    "zfnet512": zfnet.zfnet512,
    **{f"vgg_{letter}": functools.partial(vgg.vgg, letter, "none") for letter in vgg.TABLE_1},
    **{f"vgg_{letter}_bn": functools.partial(vgg.vgg, letter, "batch", init="torchvision") for letter in "abde"},
    "vgg_a_lrn": functools.partial(vgg.vgg, "a", "lrn"),
    "vgg_d_gap": vgg.vgg_d_gap,
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
    "inception_v1_onnx": googlenet_flavours.inception_v1_onnx,
    "googlenet_gap": googlenet_flavours.googlenet_gap,
    "bn_inception": bn_inception.bn_inception,
    "bn_inception_slim": bn_inception.bn_inception_slim,
    "bn_inception_caffe": bn_inception.bn_inception_caffe,
    "bn_inception_onnx": bn_inception.bn_inception_onnx,
    "inception_v2": functools.partial(inception_v3.inception_v3, factorized_7x7=False, bn_auxiliary=False),
    "inception_v3": inception_v3.inception_v3,
    "inception_v3_fid": inception_v3.inception_v3_fid,
    "inception_v4": inception_v4.inception_v4,
    "inception_resnet_v1": inception_resnet.inception_resnet_v1,
    "inception_resnet_v1_facenet": inception_resnet.inception_resnet_v1_facenet,
    "inception_resnet_v2": inception_resnet.inception_resnet_v2,
    "resnet50": resnet.resnet50,
    "resnet50_slim": resnet.resnet50_slim,
}


def list_models() -> list[str]:
    """Returns the names of all networks that `create_model` builds."""
    return sorted(_MODELS)


def options_of(name: str) -> dict[str, inspect.Parameter]:
    """Returns the options of the network `name`, with their defaults and types."""
    parameters = inspect.signature(_MODELS[name]).parameters
    return {option: p for option, p in parameters.items() if option not in ("num_classes", "dtype")}


def num_classes_of(name: str) -> int:
    """Returns the number of classes of the network `name` in its paper."""
    return inspect.signature(_MODELS[name]).parameters["num_classes"].default


def create_model(
    name: str, num_classes: int | None = None, dtype: str = "float32", width: float = 1.0, **options
) -> Network:
    """Builds the network `name`.

    Args:
      name: one of `list_models()`.
      num_classes: number of classes; None: the paper's (1000 for ImageNet, 10 for LeNet-5 and the CIFAR networks, 1008
        for inception5h and inception_v3_fid).
      dtype: dtype of the computation ('float32', 'bfloat16'); parameters and logits are always float32.
      width: factor on the number of filters of each layer except the classifiers, for small experiments. 1 is the
        paper's; LeNet-5 of 1998 takes no other. Initial weights of a fixed standard deviation, as AlexNet's, grow by
        1 / sqrt(width), so that signals keep their strength.
      **options: the network's own options, see its docstring (for instance `aux=False`).

    Raises:
      UserError: unknown network (the message names the nearest), unknown option (it names all), or invalid value.
    """
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=3) or list_models()
        raise UserError(f"there is no network {name!r}; did you mean {' or '.join(near)}?")
    check("dtype", dtype, Literal["float32", "bfloat16"])
    known = options_of(name)
    for option, value in options.items():
        if option not in known:
            raise UserError(f"network {name!r} has no option {option!r}; it has {', '.join([*known, 'width'])}")
        check(option, value, known[option].annotation)
    check("width", width, Width)
    check("num_classes", num_classes, Count | None)
    if num_classes is not None:
        options["num_classes"] = num_classes
    model = _MODELS[name](dtype=jnp.dtype(dtype), **options)
    return model if width == 1 else scale_width(model, width)
