"""How a signal goes back through a ReLU: the whole difference between gradient, deconvnet and guided backpropagation.

Springenberg et al. 2014, "Striving for Simplicity", section 4, https://arxiv.org/abs/1412.6806: the deconvnet of Zeiler
and Fergus 2013 (https://arxiv.org/abs/1311.2901, section 2.1) is a backward pass in which a ReLU lets positive signals
through, whatever its own input was; guided backpropagation asks for both. Everything else goes back by its derivative:

- A convolution by its transposed filters, batch normalisation of inference by its factor.
- A max-pool to the first maximum of each window: the switches of the deconvnet.
- An average pool evenly to all cells of a window.
- Concatenation: each branch gets the signal of its own channels.
- A shortcut: shortcut and branch get the same signal, which has passed the ReLU after the sum; a branch's is scaled.
- Local response normalisation: by its derivative, with all rules. The papers leave it open.

A fourth rule, 'redirected', is for images that are made by gradient ascent. They start with noise, in which no unit of
a layer may be excited, and then no gradient passes. Olah et al. 2017 let it pass to the units of such a layer that it
would raise (https://github.com/tensorflow/lucid, lucid/misc/redirected_relu_grad.py, there in the first 16 steps only).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from inception_jax import ops
from inception_jax.errors import UserError, check_choice
from inception_jax.models.network import Network

RULES = ("backprop", "deconvnet", "guided", "redirected")


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def relu(x: jax.Array, rule: str) -> jax.Array:
    """`ops.relu`, in whose backward pass a signal passes by a rule of `RULES`."""
    del rule
    return ops.relu(x)


def _forward(x, rule):
    del rule
    y = ops.relu(x)
    return y, y


def _backward(rule, y, signal):
    passes = {
        "backprop": y > 0,
        "deconvnet": signal > 0,
        "guided": (y > 0) & (signal > 0),
        "redirected": (y > 0) | ((signal > 0) & _blocked(y, signal)),
    }[rule]
    return (jnp.where(passes, signal, 0),)


def _blocked(y, signal):
    """Whether no signal passes the ReLUs of an image, [N, 1, ...]."""
    return jnp.all((y <= 0) | (signal == 0), axis=tuple(range(1, y.ndim)), keepdims=True)


relu.defvjp(_forward, _backward)


@functools.cache  # so that the same network is the same object, for which programs are compiled once
def with_rule(model: Network, rule: str) -> Network:
    """Returns a network whose ReLUs follow a rule in the backward pass, and whose max-pools have the fast one.

    Its forward pass is that of `model`.

    Raises:
      UserError: the rule is not one of `RULES`, or it needs ReLUs and the network has another activation.
    """
    check_choice("rule", rule, RULES)
    style = dataclasses.replace(model.style, max_pool=ops.max_pool_in_training)
    if rule == "backprop":
        return model.clone(style=style)
    if model.style.activation is not ops.relu:
        raise UserError(f"rule={rule!r} is a rule for ReLUs, which this network has not; take 'backprop'")
    return model.clone(style=dataclasses.replace(style, activation=functools.partial(relu, rule=rule)))
