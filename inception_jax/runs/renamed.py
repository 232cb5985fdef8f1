"""Names that have changed since version 0.1, so that older workdirs can still be read."""

from collections.abc import Mapping
from typing import Any

# Keys of a config: old name to new name.
CONFIG_KEYS = {
    "hasty": "fast_compile",
    "init_new": "reinit",
    "train.average_decay": "train.ema_decay",
    "optimizer.lr_in_momentum": "optimizer.caffe_momentum",
    "optimizer.weight_decay_reading": "optimizer.weight_decay_style",
    "schedule.scale_from": "schedule.base_batch_size",
}

# Fields of the training state in a checkpoint: old name to new name.
STATE_FIELDS = {"average": "ema", "statistics": "dataset_stats"}

# Fields of the training state that older checkpoints lack; all their values are 0 then.
MISSING_STATE_FIELDS = ("skips",)

# Fields of `Preprocessing` and `CropConfig` that the metadata of older checkpoints lack, with the values they had then.
MISSING_FIELDS = {
    "channels": 3,
    "randaugment": 0,
    "randaugment_magnitude": 9.0,
    "photometric": "none",
    "photometric_strength": 1.0,
    "pca_noise": 0.0,
    "whitening": "none",
    "shift": 0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "crop": "area",
    "scale": (256, 256),
    "interpolation": "bilinear",
    "max_pixels": 2**26,
}


def current_config(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a nested config with its keys under their present names, in the same order."""
    renamed = {}
    for key, value in config.items():
        new = CONFIG_KEYS.get(prefix + key, prefix + key).removeprefix(prefix)
        renamed[new] = current_config(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
    return renamed
