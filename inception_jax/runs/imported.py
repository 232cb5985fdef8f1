"""Writes a workdir for weights that others have published, as if training had just saved them."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from inception_jax.errors import UserError
from inception_jax.paths import AnyPath
from inception_jax.runs.checkpoints import Checkpoints, steps_in
from inception_jax.runs.classifier import Classifier
from inception_jax.runs.workdir import Workdir


class _State(flax.struct.PyTreeNode):
    """A training state without an optimizer's; see `training.state.TrainState`."""

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any
    dataset_stats: Any
    plateau: Any


def check_free(workdir: AnyPath) -> None:
    """Raises a UserError if a run has begun in the directory."""
    if steps_in(workdir):
        raise UserError(f"{workdir} holds a run already; choose another workdir")


def write_workdir(classifier: Classifier, workdir: AnyPath, config: ConfigDict, origin: dict[str, Any]) -> None:
    """Writes config.json and the checkpoint of step 0.

    Args:
      classifier: the network with its weights.
      workdir: directory to write.
      config: what config.json records; its sections 'model' and 'data' are the network's and its preprocessing.
      origin: where the weights come from, JSON; stays with the checkpoint.

    Raises:
      UserError: the directory holds a run, or cannot be written.
    """
    check_free(workdir)
    directory = Workdir(workdir, config)
    variables = {part: jax.tree.map(jnp.asarray, tree) for part, tree in classifier.variables.items()}
    state = _State(step=jnp.int32(0), opt_state={}, ema={}, plateau={}, **variables)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=1)
    checkpoints.save(0, state, classifier.metadata | {"total_steps": 0, "origin": origin})
    checkpoints.close()
    directory.close()
