"""Finds where a training step became not finite.

A failed step leaves the state as it was before it (see `step.make_train_step`), and its batch is a function of the seed
and the step. So the step is repeated from the very state and batch, by the same code, which now measures each layer.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from inception_jax.errors import UserError
from inception_jax.models.network import Network
from inception_jax.parallel import REPLICATED, SPLIT, DataParallel
from inception_jax.training.experiment import Experiment
from inception_jax.training.state import TrainState


class NonFiniteError(UserError):
    """A step's loss, gradient, new parameters or new batch statistics were not finite.

    Attributes:
      step: number of the step, the first is 1.
      values: metrics of that step, some of which are not finite.
    """

    def __init__(self, step: int, values: Mapping[str, float], message: str = ""):
        super().__init__(message or f"{_symptom(values)} at step {step}")
        self.step, self.values = step, values


def diagnose(
    experiment: Experiment, parallel: DataParallel, state: TrainState, batch: dict[str, jax.Array]
) -> dict[str, Any]:
    """Repeats a failed step and finds the first layer that is not finite.

    The program is another one than the step's, since it has more results, so it is compiled first. XLA may round it
    differently in the last bits. If it then stays finite, nothing is found.

    Args:
      experiment: the experiment.
      parallel: the devices.
      state: state before the step; it stays usable.
      batch: the step's batch, on the devices.

    Returns:
      See `first_layer`.
    """
    step = experiment.train_step(details=True)
    repeated = parallel.map(lambda state, batch: step(state, batch)[1], (REPLICATED, SPLIT), REPLICATED)
    return first_layer(jax.device_get(repeated(state, batch)), layer_names(experiment.model))


def layer_names(model: Network) -> list[str]:
    """Returns the names of all layers in the order of computation, each auxiliary head after the layer it reads."""
    names = []
    for name, _ in model.layers:
        names += [name, *(head.name for head in model.aux_heads if head.after == name)]
    return names


def first_layer(metrics: Mapping[str, Any], layers: Sequence[str]) -> dict[str, Any]:
    """Finds the first layer that is not finite, in the order of computation.

    Args:
      metrics: metrics of a step with 'details', see `step.make_train_step`.
      layers: names of the layers, see `layer_names`.

    Returns:
      'what': 'parameter' (it was not finite before the step), 'loss', 'gradient', 'new parameter', 'batch statistics',
      or '' if all is finite; 'first_layer': name of the first layer with such values, 'images' if the network's input
      has some, or '' if it is no layer's but the loss's; 'arrays': paths of its arrays that are not finite.

      For a loss it is the first layer whose output is not finite. Gradients are computed from the last layer to the
      first, so it is the last layer that counts. A norm may overflow float32 while each gradient is finite; it is then
      the layer with the largest one.
    """
    details = metrics["details"]
    if bad := _bad(details["params"]):
        return _found("parameter", bad, layers)
    if not math.isfinite(metrics["loss"]):
        outputs = _bad(details["outputs"])
        return {"what": "loss", "first_layer": next((n for n in ("images", *layers) if n in outputs), ""), "arrays": []}
    if not math.isfinite(metrics["grad_norm"]):
        norms = details["gradients"]
        bad = [path for path, norm in norms.items() if not math.isfinite(norm)] or [max(norms, key=norms.get)]
        return _found("gradient", bad, layers[::-1])
    if bad := _bad(details["new_params"]):
        return _found("new parameter", bad, layers)
    if bad := _bad(details["new_batch_stats"]):
        return _found("batch statistics", bad, layers)
    return {"what": "", "first_layer": "", "arrays": []}


def _bad(counts: Mapping[str, float]) -> list[str]:
    return [path for path, count in counts.items() if count]


def _found(what: str, paths: Iterable[str], layers: Sequence[str]) -> dict[str, Any]:
    first = min((path.partition("/")[0] for path in paths), key=layers.index)
    return {"what": what, "first_layer": first, "arrays": [path for path in paths if path.startswith(f"{first}/")]}


def explain(
    error: NonFiniteError, found: Mapping[str, Any], skips: int, examples: Sequence[str], file: str
) -> NonFiniteError:
    """Returns `error` with a message that says what is known, in one line.

    Args:
      error: the error.
      found: result of `diagnose`.
      skips: number of steps in a row that were skipped before it.
      examples: names of the images in the batch.
      file: path of the file that has all of it.
    """
    where = {
        "parameter": "the parameters of {} were not finite before",
        "loss": "the first output that is not finite is that of {}",
        "gradient": "the first gradients that are not finite are those of {}",
        "new parameter": "the first new parameters that are not finite are those of {}",
        "batch statistics": "the first new batch statistics that are not finite are those of {}",
        "": "the step stayed finite when it was repeated",
    }[found["what"]].format(found["first_layer"])
    if found["what"] == "loss" and found["first_layer"] in ("", "images"):
        where = (
            "the input of the network is not finite" if found["first_layer"] else "only the loss itself is not finite"
        )
    before = f", after {skips} skipped steps in a row" if skips else ""
    return NonFiniteError(
        error.step,
        error.values,
        f"{_symptom(error.values)} at step {error.step}{before}; no checkpoint from before it is lost. Cause: {where}; "
        f"{file} has the names of the batch's {len(examples)} images. Lower config.schedule.base_lr, lengthen "
        "config.schedule.warmup or set config.optimizer.clip_norm, with a new workdir"
        + ("" if skips else "; or set config.train.on_nonfinite='skip', with this one"),
    )


def as_json(error: NonFiniteError, found: Mapping[str, Any], skips: int, examples: Sequence[str]) -> str:
    """Returns the content of nonfinite.json; arguments are those of `explain`. Values that are not finite are text."""
    values = {name: value if math.isfinite(value) else str(value) for name, value in error.values.items()}
    record = {"step": error.step, **found, "values": values, "skipped_before": skips, "examples": list(examples)}
    return json.dumps(record, indent=2) + "\n"


def _symptom(values: Mapping[str, float]) -> str:
    """Names the value that is not finite: 'loss is nan'."""
    for name in ("loss", "grad_norm"):
        if not math.isfinite(values[name]):
            return f"{name} is {values[name]}"
    return "a new parameter or batch statistic is not finite"
