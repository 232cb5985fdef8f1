"""The state of training."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax


class TrainState(flax.struct.PyTreeNode):
    """All that a step reads and changes; a run is resumed from it and the config alone.

    Attributes:
      step: int32 scalar, number of finished steps.
      params: parameters, float32.
      batch_stats: running statistics of batch normalisation; {} without it.
      opt_state: of the optax optimizer.
      average: exponential moving averages {'params', 'batch_stats'}; {} where they are off.
      statistics: of the training set, which preprocessing needs (see `data.statistics`); {} where it needs none.
      plateau: see `schedules.Plateau`; {} for other schedules.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    average: Any
    statistics: Any
    plateau: Any

    @property
    def inference_variables(self) -> dict:
        """The variables to evaluate with (the averaged ones where there are such), and 'statistics'."""
        variables = self.average or {"params": self.params, "batch_stats": self.batch_stats}
        return variables | {"statistics": self.statistics}


def create_state(
    model,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    image_shape: tuple[int, int, int],
    average: bool,
    statistics: dict[str, np.ndarray] | None = None,
    plateau: dict[str, np.ndarray] | None = None,
) -> TrainState:
    """Initialises the state for images of (height, width, channels).

    Args:
      model: network.
      optimizer: any with the state of the one that is trained with.
      key: of the parameters.
      image_shape: height, width and channels.
      average: whether averages are kept.
      statistics: of the training set.
      plateau: its state at the start.
    """
    variables = model.init(key, jnp.zeros((1, *image_shape)))
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    # Averages are copies: a donated state must not hold one array twice.
    start = jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if average else {}
    opt_state = optimizer.init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, opt_state, start, statistics or {}, plateau or {})
