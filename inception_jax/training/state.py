"""Training state."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax


class TrainState(flax.struct.PyTreeNode):
    """Everything that a step reads and changes; with the config it is all that resuming a run needs.

    Attributes:
      step: int32 scalar, number of finished steps.
      params: parameters, float32.
      batch_stats: running statistics of batch normalisation; {} without it.
      opt_state: state of the optimizer; its learning rate is set by each step.
      ema: exponential moving averages {'params', 'batch_stats'}; {} if they are off.
      dataset_stats: statistics of the training set for preprocessing, see `data.dataset_stats`; {} if it needs none.
      plateau: state of `schedules.Plateau`; {} for other schedules.
      skips: int32 scalar, number of steps in a row, up to the latest, that were skipped because they were not finite;
        -1: the run has failed, see `step.make_train_step`.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema: Any
    dataset_stats: Any
    plateau: Any
    skips: jax.Array

    @property
    def inference_variables(self) -> dict:
        """Variables for evaluation (the EMA, if there is one), and 'dataset_stats'."""
        variables = self.ema or {"params": self.params, "batch_stats": self.batch_stats}
        return variables | {"dataset_stats": self.dataset_stats}


def create_state(
    model,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    image_shape: tuple[int, int, int],
    *,
    ema: bool,
    dataset_stats: dict[str, np.ndarray],
    plateau: dict[str, Any],
) -> TrainState:
    """Initialises the state from scratch.

    Args:
      model: network.
      optimizer: optimizer.
      key: random key of the parameters.
      image_shape: height, width and channels of the images.
      ema: whether moving averages are kept.
      dataset_stats: see `TrainState`.
      plateau: see `TrainState`.
    """
    variables = model.init(key, jnp.zeros((1, *image_shape)))
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        # Copies, because a donated state must not contain an array twice.
        ema=jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if ema else {},
        dataset_stats=dataset_stats,
        plateau=plateau,
        skips=jnp.zeros((), jnp.int32),
    )
