"""Builds a functional Keras model from the description of any of our networks.

Images are [N, H, W, C]. Convolutions and pools pad by Keras's 'same' or 'valid' if these give the same padding;
otherwise a padding layer precedes them.
"""

import functools
import math

import flax.linen
import jax.numpy as jnp
import keras
import numpy as np
from keras import layers

from inception_jax import ops
from inception_jax.errors import UserError
from inception_jax.models import units
from inception_jax.models.network import Network

_ACTIVATIONS = {ops.relu: "relu", flax.linen.sigmoid: "sigmoid", jnp.tanh: "tanh"}
_OURS = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}


class _LocalResponseNorm(layers.Layer):
    def __init__(self, unit: units.LocalResponseNorm):
        super().__init__()
        self.unit = unit

    def call(self, x):
        size, alpha, beta, k = self.unit.size, self.unit.alpha, self.unit.beta, self.unit.k
        channels = x.shape[-1]
        square = keras.ops.pad(keras.ops.square(x), [(0, 0)] * 3 + [((size - 1) // 2, size // 2)])
        total = functools.reduce(keras.ops.add, (square[..., i : i + channels] for i in range(size)))
        return x * keras.ops.power(k + alpha / size * total, -beta)


def build(network: Network, image_shape: tuple[int, int, int]) -> keras.Model:
    """Builds the model of `network` for images of (height, width, channels), with Keras's initial values.

    It returns logits [N, classes]; for a network with auxiliary heads {'logits': logits, head: logits, ...}, in
    inference too. It computes in the dtype of `keras.config.set_dtype_policy`, classifiers in float32.

    Raises:
      UserError: the network has custom units, as LeNet-5 of 1998.
    """
    own = [f"{name}/{unit.name}" for name, unit in network.layers if isinstance(unit, units.Custom)]
    if own:
        raise UserError(f"no Keras peer: {', '.join(own)} are this network's own")
    images = x = keras.Input(image_shape)
    aux = {}
    for name, unit in network.layers:
        x = _Layer(name, network.style).run(unit, x)
        for head in network.aux_heads:
            if head.after == name:
                aux[head.name] = _Layer(head.name, network.style).run(head.unit, x)
    return keras.Model(images, {"logits": x} | aux if aux else x)


def load_variables(model: keras.Model, variables) -> None:
    """Copies the variables of our network, {'params': ..., 'batch_stats': ...}, into the model."""
    for part in model.layers:
        if part.weights:
            layer, unit = part.name.split(".")
            values = {k: v for tree in variables.values() for k, v in tree.get(layer, {}).get(unit, {}).items()}
            for variable in part.weights:
                value = np.asarray(values[_OURS.get(variable.name, variable.name)])
                variable.assign(value.reshape(variable.shape))


class _Layer:
    """Runs the units of a layer; their names are ours with '.' for '/', which Keras forbids: 'inception_4a.conv1x1'."""

    def __init__(self, name: str, style: units.Style):
        self.name, self.style = name, style

    def run(self, unit: units.Unit, x):
        style = self.style
        match unit:
            case units.Chain(parts):
                return functools.reduce(lambda x, part: self.run(part, x), parts, x)
            case units.Concat(branches):
                return layers.Concatenate()([self.run(branch, x) for branch in branches])
            case units.Residual():
                shortcut = x if isinstance(unit.shortcut, bool) else self.run(unit.shortcut, x)
                residual = self.run(unit.branch, x)
                if unit.projection is not None:
                    residual = self.conv(units.Conv(unit.projection, shortcut.shape[-1], 1), residual, use_bias=True)
                total = shortcut + (residual if unit.scale == 1 else unit.scale * residual)
                return self.activate(total) if unit.activation else total
            case units.Conv():
                normalize = style.batch_norm is not None and unit.batch_norm
                x = self.conv(unit, x, use_bias=style.conv_bias or not normalize)
                x = self.normalize(unit.name, x) if normalize else x
                return self.activate(x) if unit.activation else x
            case units.DepthwiseConv(name, multiplier, kernel, stride):
                x, padding = self.pad(x, (kernel, kernel), stride, style.conv_padding)
                options = {"depth_multiplier": multiplier, "use_bias": False, "name": f"{self.name}.{name}"}
                return layers.DepthwiseConv2D(kernel, stride, padding, **options)(x)
            case units.MaxPool(window, stride, padding):
                rule = style.pool_padding if padding is None else padding
                x, padding = self.pad(x, (window, window), stride, rule, -math.inf)
                return layers.MaxPooling2D(window, stride, padding)(x)
            case units.AvgPool(window, stride, padding):
                window = min(window, *x.shape[1:3]) if padding == "VALID" else window
                if style.count_include_pad:
                    pads = ops.explicit_padding(x.shape[1:3], (window, window), stride, padding)
                    x, padding = keras.ops.pad(x, [(0, 0), *pads, (0, 0)]), "VALID"
                return layers.AveragePooling2D(window, stride, padding.lower())(x)
            case units.AdaptiveAvgPool(size):
                return layers.AdaptiveAveragePooling2D(size)(x)
            case units.GlobalAvgPool():
                return layers.GlobalAveragePooling2D(keepdims=True)(x)
            case units.LocalResponseNorm(groups=groups):
                norm = _LocalResponseNorm(unit)
                if groups == 1:
                    return norm(x)
                return layers.Concatenate()([norm(part) for part in keras.ops.split(x, groups, axis=-1)])
            case units.Dropout(rate):
                return layers.Dropout(rate)(x)
            case units.Dense(features=features, batch_norm=normalize):
                x = self.dense(unit, features, x, use_bias=not normalize)
                return self.activate(self.normalize(unit.name, x) if normalize else x)
            case units.Logits(num_classes=num_classes, activation=activation):
                x = self.dense(unit, num_classes, x, use_bias=True, dtype="float32")
                return self.activate(x) if activation else x
            case units.AverageLogits():
                return layers.GlobalAveragePooling2D()(x)
        raise TypeError(f"{unit!r} has no counterpart in Keras")

    def conv(self, unit: units.Conv, x, use_bias: bool):
        kernel = (unit.kernel, unit.kernel) if isinstance(unit.kernel, int) else unit.kernel
        rule = self.style.conv_padding if unit.padding is None else unit.padding
        x, padding = self.pad(x, kernel, unit.stride, rule)
        options = {"groups": unit.groups, "use_bias": use_bias, "name": f"{self.name}.{unit.name}"}
        return layers.Conv2D(unit.features, kernel, unit.stride, padding, **options)(x)

    def dense(self, unit: units.Dense | units.Logits, features: int, x, **options):
        options["name"] = f"{self.name}.{unit.name}"
        if unit.window is not None:
            return layers.Conv2D(features, unit.window, **options)(x)
        return layers.Dense(features, **options)(x if x.ndim == 2 else layers.Flatten()(x))

    def normalize(self, name: str, x):
        constants = self.style.batch_norm
        options = {"momentum": constants.decay, "epsilon": constants.epsilon, "scale": constants.scale}
        return layers.BatchNormalization(**options, name=f"{self.name}.{name}_bn")(x)

    def activate(self, x):
        return layers.Activation(_ACTIVATIONS[self.style.activation])(x)

    def pad(self, x, window: tuple[int, int], stride: int, rule: str | int, value: float = 0.0):
        """Returns `x` and the padding for Keras; if that is neither 'same' nor 'valid', `x` is padded with `value`."""
        pads, same = (ops.explicit_padding(x.shape[1:3], window, stride, rule) for rule in (rule, "SAME"))
        if not any(map(any, pads)):
            return x, "valid"
        if pads == same:
            return x, "same"
        return keras.ops.pad(x, [(0, 0), *pads, (0, 0)], constant_values=value), "valid"
