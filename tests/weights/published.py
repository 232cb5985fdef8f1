"""Files with the names and shapes of published weights."""

import numpy as np

from inception_jax.weights.sources import mapping


def random_file(weights, classes=1000):
    """The arrays of a file, with random numbers; those of the classifier for `classes`."""
    rng = np.random.default_rng(0)
    shapes = {entry.theirs: entry.shape for entry in mapping.entries(weights)}
    return {
        name: rng.standard_normal([classes + weights.background if n is None else n for n in shape], np.float32)
        for name, shape in shapes.items()
    }
