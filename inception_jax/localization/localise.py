"""Finds objects by the heat maps of a classifier, without having been trained with boxes."""

import collections
import concurrent.futures
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from inception_jax.data.decoding import DamagedImage
from inception_jax.data.loader import DamageReport, read_image
from inception_jax.data.sources import Source
from inception_jax.errors import UserError
from inception_jax.evaluation.analysis import ranking
from inception_jax.evaluation.selection import output_of_classes
from inception_jax.explain.attribution import Explainer, Explanation, make_explainer
from inception_jax.explain.methods import Method
from inception_jax.localization.heat_boxes import THRESHOLDS, all_boxes, largest_box
from inception_jax.localization.metrics import Judged, overlap
from inception_jax.runs.classifier import Classifier
from inception_jax.runtime import available_cores

TOP = 5  # predictions of an image that ILSVRC counts
_BLUR = 1 / 32  # standard deviation for heat of single pixels, as a fraction of the crop's side: our choice


@dataclasses.dataclass(frozen=True)
class Localised:
    """An image, and where the objects in it were found. Boxes are in pixels of the image.

    Attributes:
      position: of the image in the source.
      name: of the image.
      judged: predictions, boxes and what they are compared with.
      explanation: of the class of the image; its heat is that of `smooth`, whose box is `judged.known`. None if the box
        was predicted.
    """

    position: int
    name: str
    judged: Judged
    explanation: Explanation | None


class _Crop(NamedTuple):
    position: int
    pixels: Any
    shape: tuple[int, ...]  # of the image
    label: int


def localise(
    classifier: Classifier,
    source: Source,
    method: str | Method = "gradcam",
    *,
    layer: str = "",
    threshold: float = 0.2,
    top: int = TOP,
    positions: Sequence[int] | None = None,
    blacklist: np.ndarray | None = None,
    label_map: str = "",
    batch_size: int = 32,
    damage: DamageReport | None = None,
) -> Iterator[Localised]:
    """Finds boxes for the most probable classes of each image, and for its true class.

    Heat maps are of the evaluation crop. A box of `largest_box` in the crop is put back into the image, see
    `crops.boxes_in_image`: what the crop does not show is never in a box.

    Args:
      classifier: the network.
      source: images with boxes.
      method: see `explain.make_explainer`.
      layer: likewise.
      threshold: see `largest_box`.
      top: number of predicted classes with a box, 0 to 5; each takes a heat map.
      positions: images to take; None: all.
      blacklist: bool [len(source)], images whose boxes are not asked for, and do not count; None: none.
      label_map: see `selection.output_of_classes`.
      batch_size: number of images at once.
      damage: collects the images that cannot be decoded, which are left out; None: they raise an error.

    Yields:
      The images in order.

    Raises:
      UserError: an argument is invalid, the network has not what the method needs, or an image has no box.
    """
    if not 0 <= threshold < 1:
        raise UserError(f"threshold={threshold} must be from 0 to below 1")
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size} must be 1 or more")
    outputs = output_of_classes(classifier.class_names, source.class_names, label_map)
    explainer = make_explainer(classifier, method, layer=layer)
    wanted = range(len(source)) if positions is None else positions
    batch_size = max(1, min(batch_size, len(wanted)))
    with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
        max_pixels = classifier.crop_config.max_pixels
        crops = crops_ahead(pool, classifier.crop, max_pixels, source, wanted, damage, ahead=2 * batch_size)
        while batch := list(itertools.islice(crops, batch_size)):
            yield from _localised(pool, explainer, source, outputs, batch, threshold, top, blacklist, batch_size)


def crops_ahead(
    pool: concurrent.futures.Executor,
    cut: Callable[[Any], Any],
    max_pixels: int,
    source: Source,
    positions: Sequence[int],
    damage: DamageReport | None,
    ahead: int,
) -> Iterator[_Crop]:
    """Decodes images in threads, `ahead` of them before they are needed; `pixels` is what `cut` returns of one."""

    def crop(position: int) -> _Crop:
        image, label = read_image(source, position, max_pixels)
        return _Crop(position, cut(image), image.shape[:2], label)

    coming: collections.deque[concurrent.futures.Future] = collections.deque()
    rest = iter(positions)
    try:
        while True:
            coming.extend(pool.submit(crop, position) for position in itertools.islice(rest, ahead - len(coming)))
            if not coming:
                return
            try:
                yield coming.popleft().result()
            except DamagedImage as error:
                if damage is None:
                    raise UserError(str(error)) from None
                damage.add(error)
    finally:
        for future in coming:
            future.cancel()


def _localised(
    pool: concurrent.futures.Executor,
    explainer: Explainer,
    source: Source,
    outputs: np.ndarray,
    batch: list[_Crop],
    threshold: float,
    top: int,
    blacklist: np.ndarray | None,
    batch_size: int,
) -> Iterator[Localised]:
    """Localises one batch, which is filled up with its first crop, so that one program is compiled."""
    classifier = explainer.classifier
    filled = [*batch, *batch[:1] * (batch_size - len(batch))]
    crops = np.stack([one.pixels for one in filled])
    logits = classifier.run(crops, classifier.end_points[-1])[0][:, outputs]
    best = ranking(logits, TOP)
    found = [explainer(crops, outputs[classes].tolist()) for classes in best.T[:top]]
    known = explainer(crops, outputs[[one.label for one in filled]].tolist())

    def judged(i: int) -> Localised:
        crop, heat = batch[i], smooth(known[i])
        truth = truth_of(source, crop.position, blacklist)

        def in_image(boxes: np.ndarray) -> np.ndarray:
            return classifier.crop_config.boxes_in_image(boxes, crop.shape)

        own = np.array([largest_box(smooth(each[i]), threshold) for each in found]).reshape(-1, 4)
        by_threshold = in_image(np.stack([largest_box(heat, fraction) for fraction in THRESHOLDS]))
        least = heat - heat.min()  # as the benchmark normalises maps
        contours = [overlap(in_image(all_boxes(least, fraction)), truth).max() for fraction in THRESHOLDS]
        return Localised(
            position=crop.position,
            name=source.name(crop.position),
            judged=Judged(
                label=crop.label,
                classes=best[i],
                boxes=in_image(own),
                known=in_image(largest_box(heat, threshold)),
                truth=truth,
                largest=overlap(by_threshold, truth),
                contours=np.array(contours),
                counts=bool(len(truth)),
            ),
            explanation=dataclasses.replace(known[i], heat=heat),
        )

    yield from pool.map(judged, range(len(batch)))


def truth_of(source: Source, position: int, blacklist: np.ndarray | None) -> np.ndarray:
    """Returns the true boxes of an image, float32 [k, 4]; none of an image on the blacklist.

    Raises:
      UserError: another image has none.
    """
    if blacklist is not None and blacklist[position]:
        return np.zeros((0, 4), np.float32)
    truth = source.boxes(position)
    if not len(truth):
        raise UserError(f"{source.name(position)} has no box: put it on the blacklist")
    return truth


def smooth(explanation: Explanation) -> np.ndarray:
    """Returns the heat from which a box is drawn, float32 [H, W].

    Derivatives of single pixels are too noisy for connected parts: they are blurred by a Gaussian of 1/32 of the crop's
    side. (Simonyan et al. 2013, section 3.2, segment the image by its colours instead, with GraphCut.) Maps of a grid
    or of places stay as they are.
    """
    if explanation.values.ndim < 3:
        return explanation.heat
    deviation = _BLUR * len(explanation.heat)
    return cv2.GaussianBlur(explanation.heat, (0, 0), deviation, borderType=cv2.BORDER_REFLECT_101)
