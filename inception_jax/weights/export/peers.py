"""Writes weights under the names of torchvision, timm or Keras, for their loaders."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.errors import UserError, needs_extra
from inception_jax.weights.formats.safetensors import write_safetensors
from inception_jax.weights.sources import catalogue, mapping
from inception_jax.weights.sources.mapping import WeightMap

# Names of keras.applications by our network.
_KERAS = {
    "inception_v3": "InceptionV3",
    "inception_resnet_v2": "InceptionResNetV2",
    "vgg_d": "VGG16",
    "vgg_e": "VGG19",
    "resnet50": "ResNet50",
}


def find(publisher: str, options: Mapping[str, Any]) -> WeightMap:
    """Returns the map with which a publisher's own network is ours.

    Args:
      publisher: one of `export.PUBLISHERS`.
      options: of `create_model`, the name among them.

    Raises:
      UserError: the publisher has no such network, or only with other options; names them.
    """
    found = [source.weights for source in catalogue.sources().values() if source.name.startswith(f"{publisher}/")]
    found = [weights for weights in found if weights.network == options["name"] and not weights.absent]
    given = {key: value for key, value in options.items() if key not in ("name", "dtype")}
    for weights in found:
        # Auxiliary heads are left out where the publisher's network has none.
        if all(
            given.get(key, default_of(weights, key)) == value or key == "aux" for key, value in weights.options.items()
        ):
            return weights
    if not found:
        raise UserError(f"{publisher} has no network like {options['name']}")
    wanted = ", ".join(f"{key}={value}" for key, value in found[0].options.items())
    raise UserError(f"{publisher}'s network is {options['name']} with {wanted}; these weights belong to another")


def default_of(weights: WeightMap, option: str) -> Any:
    """Returns the default of an option of a map's network."""
    from inception_jax.models import options_of

    return options_of(weights.network)[option].default


def arrays(weights: WeightMap, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the publisher's arrays by its names; for PyTorch also the counters that strict loading asks for."""
    if weights.options.get("aux") is False:
        params = {name: layer for name, layer in variables["params"].items() if not name.startswith("aux")}
        stats = {name: layer for name, layer in variables["batch_stats"].items() if not name.startswith("aux")}
        variables = {"params": params, "batch_stats": stats}
    found = mapping.to_theirs(weights, variables)
    if weights.framework is mapping.TORCH:
        means = [name for name in found if name.endswith(".running_mean")]
        found |= {name.replace("running_mean", "num_batches_tracked"): np.zeros((), np.int64) for name in means}
    return found


def write(file: Path, publisher: str, weights: WeightMap, variables: Mapping[str, Any], classes: int) -> int:
    """Writes a file that the publisher's package loads: safetensors, for Keras a whole model (.keras).

    Returns:
      The number of arrays.

    Raises:
      UserError: it cannot be written.
    """
    found = arrays(weights, variables)
    try:
        if publisher == "keras":
            _write_keras(file, weights, found, classes)
        else:
            write_safetensors(file, found, {"format": "pt"})
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None
    return len(found)


def _write_keras(file: Path, weights: WeightMap, found: Mapping[str, np.ndarray], classes: int) -> None:
    """Lets Keras build its network and save it: only Keras knows the order of its layers."""
    if file.suffix != ".keras":
        raise UserError(f"{file} must end in .keras")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with needs_extra("tensorboard"):
        import keras

        from inception_jax.weights.sources.keras import renumbered
    keras.backend.clear_session()  # so that its layers count from the start
    model = getattr(keras.applications, _KERAS[weights.network])(weights=None, classes=classes)
    variables = {variable.path: variable for variable in model.variables}
    for (name, _), variable in zip(renumbered(variables).items(), variables.values(), strict=True):
        variable.assign(found[name])
    model.save(file)
