"""Value objects with the fields that a test does not care about filled in."""

import numpy as np

from inception_jax.data.augment import Preprocessing
from inception_jax.data.crops import CropConfig
from inception_jax.evaluation.analysis import Analysis, analyse, log_loss, ranking, right_probability
from inception_jax.evaluation.protocols import make_protocol
from inception_jax.evaluation.results import ProtocolResult
from inception_jax.reference.printed_results import printed_result
from inception_jax.runs.snapshots import Snapshot

# Labels of four images of three classes, and probabilities of them by a network that is right and one that is half so.
LABELS = (0, 1, 2, 2)
GOOD = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5], [0.25, 0.25, 0.5]], np.float32)
BAD = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [0.25, 0.5, 0.25]], np.float32)


def crop_config(size: int, resize: int | None = None, **changes) -> CropConfig:
    """The training crop covers an area of any size; `resize` is `size` unless given."""
    fields = {"area": (0.08, 1.0), "aspect": (3 / 4, 4 / 3), "crop": "area", "scale": (size, size)}
    fields |= {"interpolation": "bilinear", "max_pixels": 2**26}
    return CropConfig(size=size, resize=resize or size, **fields | changes)


def preprocessing(**changes) -> Preprocessing:
    """Nothing is augmented, and pixels keep their values from 0 to 255."""
    fields = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "flip": False, "channels": 3}
    fields |= {"randaugment": 0, "randaugment_magnitude": 9.0, "photometric": "none", "photometric_strength": 1.0}
    fields |= {"pca_noise": 0.0, "whitening": "none", "shift": 0, "mixup": 0.0, "cutmix": 0.0}
    return Preprocessing(**fields | changes)


def protocol_result(
    probabilities: np.ndarray,
    protocol: str = "single",
    members: tuple[str, ...] = ("run/1",),
    base: Analysis | None = None,
    networks: tuple[str, ...] = (),
    labels=LABELS,
) -> ProtocolResult:
    """The result of networks of 224 pixels by a protocol."""
    best = ranking(probabilities)
    return ProtocolResult(
        members=members,
        protocols=tuple(make_protocol(protocol, crop_config(224, 256)) for _ in members),
        analysis=analyse(probabilities, labels),
        base=base,
        printed=printed_result(networks, protocol),
        classes=best,
        probabilities=np.take_along_axis(probabilities, best, axis=1),
        losses=log_loss(right_probability(probabilities, labels)),
    )


def snapshot(step: int, **changes) -> Snapshot:
    """Of two images of class 0, both predicted right; one black filter; no activations."""
    fields = {
        "places": np.array([3, 8]),
        "labels": np.zeros(2, np.int32),
        "classes": np.zeros(2, np.int32),
        "probabilities": np.full(2, 0.75, np.float32),
        "filters": np.zeros((2, 2, 3, 1), np.uint8),
        "image": np.zeros((4, 4, 3), np.uint8),
        "activations": {},
    }
    return Snapshot(step=step, **fields | changes)
