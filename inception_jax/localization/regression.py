"""Finds objects by a network that was trained with boxes, for the classes that a classifier predicts."""

import concurrent.futures
import itertools
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from inception_jax.data.loader import DamageReport
from inception_jax.data.sources import Source
from inception_jax.errors import UserError
from inception_jax.evaluation.analysis import ranking
from inception_jax.evaluation.box_metrics import to_edges
from inception_jax.evaluation.selection import output_of_classes
from inception_jax.localization.heat_boxes import THRESHOLDS
from inception_jax.localization.localise import TOP, Localised, crops_ahead, truth_of
from inception_jax.localization.metrics import Judged, overlap
from inception_jax.runs.classifier import Classifier
from inception_jax.runtime import available_cores


def localise_by_regression(
    classifier: Classifier,
    regressor: Classifier,
    source: Source,
    *,
    positions: Sequence[int] | None = None,
    blacklist: np.ndarray | None = None,
    label_map: str = "",
    batch_size: int = 32,
    damage: DamageReport | None = None,
) -> Iterator[Localised]:
    """Predicts boxes for the most probable classes of each image, and for its true class.

    Each network sees its own central crop. There are no heat maps; the overlaps of all thresholds are those of the box.
    Predictions are not merged over places and scales, as in VGG's second protocol.

    Args:
      classifier: gives the classes.
      regressor: gives the boxes, see `runs.classifier.load_network`; of one class for all, or of the source's classes.
      source: images with boxes.
      positions: as of `localise`, as all that follow.
      blacklist: images that do not count.
      label_map: the classifier's output of each class.
      batch_size: number of images at once.
      damage: collects the images that cannot be decoded.

    Yields:
      The images in order; they have no explanation.

    Raises:
      UserError: an argument is invalid, the regressor predicts no boxes, or an image has no box.
    """
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size} must be 1 or more")
    count = regressor.model.boxes
    if not count:
        raise UserError(f"{regressor.source} is a network that names classes, and predicts no boxes")
    outputs = output_of_classes(classifier.class_names, source.class_names, label_map)
    if count == 1:
        boxes_of = np.zeros(len(source.class_names), int)
    else:
        boxes_of = output_of_classes(regressor.class_names, source.class_names)
    wanted = range(len(source)) if positions is None else positions
    batch_size = max(1, min(batch_size, len(wanted)))
    max_pixels = classifier.crop_config.max_pixels
    with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:

        def cut(image):
            return classifier.crop(image), regressor.crop(image)

        crops = crops_ahead(pool, cut, max_pixels, source, wanted, damage, ahead=2 * batch_size)
        while batch := list(itertools.islice(crops, batch_size)):
            filled = [*batch, *batch[:1] * (batch_size - len(batch))]  # one program is compiled
            for_classes, for_boxes = (np.stack([one.pixels[which] for one in filled]) for which in (0, 1))
            best = ranking(classifier.run(for_classes, classifier.end_points[-1])[0][:, outputs], TOP)
            boxes = regressor.run(for_boxes, regressor.end_points[-1])[0]
            edges = np.asarray(to_edges(jnp.asarray(boxes)), np.float64) * regressor.crop_config.size - (0, 0, 1, 1)
            for i, crop in enumerate(batch):
                truth = truth_of(source, crop.position, blacklist)
                own, known = (
                    regressor.crop_config.boxes_in_image(edges[i, boxes_of[which]], crop.shape)
                    for which in (best[i], crop.label)
                )
                fit = np.full(len(THRESHOLDS), overlap(known, truth))
                judged = Judged(crop.label, best[i], own, known, truth, fit, fit, counts=bool(len(truth)))
                yield Localised(crop.position, source.name(crop.position), judged, None)
