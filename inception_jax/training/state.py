"""The state of training."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax


class TrainState(flax.struct.PyTreeNode):
    """All that a step reads and changes; a run is resumed from it and the config alone.

    Attributes:
      step: int32 scalar, number of finished steps.
      params: parameters, float32.
      batch_stats: running statistics of batch normalisation; {} without it.
      opt_state: of the optax optimizer.
      average: exponential moving averages {'params', 'batch_stats'}; {} where they are off.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    average: Any

    @property
    def inference_variables(self) -> dict:
        """The variables to evaluate with: the averaged ones where there are such."""
        return self.average or {"params": self.params, "batch_stats": self.batch_stats}


def create_state(model, optimizer, key: jax.Array, image_shape: tuple[int, int, int], average: bool) -> TrainState:
    """Initialises the state for images of (height, width, channels); `average` says whether averages are kept."""
    variables = model.init(key, jnp.zeros((1, *image_shape)))
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    # Averages are copies: a donated state must not hold one array twice.
    start = jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if average else {}
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), start)
