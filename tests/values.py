"""Value objects with the fields that a test does not care about filled in."""

from inception_jax.data.augment import Preprocessing
from inception_jax.data.crops import CropConfig


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
