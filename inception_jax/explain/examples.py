"""The images of a data set that excite channels most."""

import heapq
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from inception_jax.explain.network import check_channels
from inception_jax.parallel import REPLICATED, SPLIT
from inception_jax.runs.classifier import Classifier


class Example(NamedTuple):
    """An image and its unit that a channel excites most.

    Attributes:
      output: of that unit.
      position: of the image in its data set.
      crop: uint8 [H, W, 3], the image as the network gets it.
      cell: (row, column) of the unit in the layer's grid.
    """

    output: float
    position: int
    crop: np.ndarray
    cell: tuple[int, int]


def strongest(
    classifier: Classifier, layer: str, channels: Sequence[int], batches: Iterable[dict[str, Any]], count: int
) -> list[list[Example]]:
    """Finds the images that excite channels most (Zeiler and Fergus 2013, https://arxiv.org/abs/1311.2901, Fig. 2).

    Args:
      classifier: the network.
      layer: name of the layer.
      channels: of the layer.
      batches: of `loader.eval_batches`: 'image' uint8 [N, H, W, 3], 'position' int [N], -1 for none.
      count: number of images for each channel.

    Returns:
      For each channel the images, the strongest first.

    Raises:
      UserError: the network has no such layer or channel.
    """
    check_channels(classifier, layer, channels)
    total = classifier.end_point_shape(layer)[-1]
    model = classifier.model.clone(layers=classifier.model.layers[: classifier.end_points.index(layer) + 1])

    def run(variables, crops):
        images = classifier.preprocessing.evaluate(crops, variables["dataset_stats"])
        outputs = model.apply(variables, images)[1][layer].astype(jnp.float32)
        cells = outputs.reshape(len(outputs), -1, total)[:, :, jnp.array(channels)]
        return cells.max(axis=1), cells.argmax(axis=1)

    program = classifier.parallel.map(run, (REPLICATED, SPLIT), SPLIT)
    width = (classifier.end_point_shape(layer)[1:-1] or (1,))[0]
    found: list[list[tuple]] = [[] for _ in channels]
    for batch in batches:
        outputs, cells = classifier.begin_mapped(program, batch["image"])()
        for i in np.flatnonzero(batch["position"] >= 0):
            position = int(batch["position"][i])
            for j, heap in enumerate(found):
                if len(heap) == count and outputs[i, j] <= heap[0][0]:
                    continue
                cell = divmod(int(cells[i, j]), width)
                # A heap with the weakest first; of equal ones the first image of the data set stays.
                entry = (float(outputs[i, j]), -position, batch["image"][i].copy(), cell)
                (heapq.heappush if len(heap) < count else heapq.heapreplace)(heap, entry)
    return [
        [
            Example(output, -position, crop, cell)
            for output, position, crop, cell in sorted(heap, key=lambda entry: entry[:2], reverse=True)
        ]
        for heap in found
    ]
