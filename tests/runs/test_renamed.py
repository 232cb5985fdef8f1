import dataclasses

from inception_jax.data.augment import Preprocessing
from inception_jax.data.crops import CropConfig
from inception_jax.runs.renamed import MISSING_FIELDS


def test_fields_that_the_first_checkpoints_lack_have_a_value():
    first = {
        CropConfig: {"size": 224, "resize": 256, "area": (0.08, 1.0), "aspect": (0.75, 1.33)},
        Preprocessing: {"mean": (0.0,) * 3, "std": (1.0,) * 3, "flip": True},
    }
    for kind, values in first.items():
        kind(**values, **{field.name: MISSING_FIELDS[field.name] for field in dataclasses.fields(kind)[len(values) :]})
