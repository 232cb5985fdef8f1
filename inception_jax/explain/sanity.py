"""Checks of explanations: do they depend on the weights, and do the pixels that they point at matter?"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.explain.attribution import Explainer, Explanation
from inception_jax.runs.classifier import Classifier, softmax


class Randomised(NamedTuple):
    """Explanations by a network of whose layers the last ones are random.

    Attributes:
      layer: name of the first random layer.
      explanations: of the images.
      similarity: of the images, float64 [N]: Spearman's rank correlation of the heat with that of the trained network.
    """

    layer: str
    explanations: list[Explanation]
    similarity: np.ndarray


def randomise(explainer: Explainer, explanations: Sequence[Explanation], seed: int = 0) -> Iterator[Randomised]:
    """Explains the same images and classes by networks that are random from the last layer up to an earlier one.

    Adebayo et al. 2018, "Sanity Checks for Saliency Maps", https://arxiv.org/abs/1810.03292, section 3: cascading
    randomisation. A method that explains the network gives other maps then.

    Args:
      explainer: the method and the network.
      explanations: of the trained network.
      seed: of the random values, which are those at the start of training.

    Yields:
      For each layer with parameters, from the last to the first.
    """
    classifier = explainer.classifier
    random = _random_variables(classifier, seed)
    crops = np.stack([one.crop for one in explanations])
    classes = [one.index for one in explanations]
    variables = {part: dict(tree) for part, tree in classifier.variables.items()}
    for layer in reversed(classifier.end_points):
        if layer not in variables["params"]:
            continue
        for part in ("params", "batch_stats"):
            if layer in random.get(part, {}):
                variables[part][layer] = random[part][layer]
        found = explainer(crops, classes, variables)
        pairs = zip(explanations, found, strict=True)
        yield Randomised(layer, found, np.array([rank_correlation(a.heat, b.heat) for a, b in pairs]))


def _random_variables(classifier: Classifier, seed: int) -> dict:
    model, shape = classifier.model, classifier.input_shape
    init = jax.jit(lambda: model.init(jax.random.key(seed), jnp.zeros((1, *shape))))
    return jax.device_get(init())


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Returns Spearman's rank correlation of two arrays of the same shape; 0 if one of them is constant.

    Equal values share the mean of their ranks.
    """
    ranks = [_ranks(x.ravel()) for x in (a, b)]
    centred = [rank - rank.mean() for rank in ranks]
    norm = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float(centred[0] @ centred[1]) / norm if norm else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[places]


class Faithfulness(NamedTuple):
    """How the probability of the class changes with the pixels; each the mean over the fractions 0 to 1.

    Petsiuk et al. 2018, "RISE", https://arxiv.org/abs/1806.07421, section 4.1.

    Attributes:
      deletion: when the pixels become grey, those with the most heat first; low is good. float64 [N].
      insertion: when they appear on a blurred image, those with the most heat first; high is good. float64 [N].
    """

    deletion: np.ndarray
    insertion: np.ndarray


def faithfulness(
    classifier: Classifier, explanations: Sequence[Explanation], steps: int = 32, batch_size: int = 32
) -> Faithfulness:
    """Measures deletion and insertion of explanations of classes.

    Args:
      classifier: the network.
      explanations: of classes; of another order of pixels, replace their heat.
      steps: number of groups of pixels, of the same size.
      batch_size: number of images in one forward pass.
    """
    scores: dict[str, list[float]] = {"deletion": [], "insertion": []}
    for one in explanations:
        order = np.argsort(-one.heat, axis=None, kind="stable")
        counts = np.linspace(0, order.size, steps + 1).round().astype(int)
        grey = np.broadcast_to(np.rint(classifier.preprocessing.mean).astype(np.uint8), one.crop.shape)
        ends = {"deletion": (one.crop, grey), "insertion": (_blurred(one.crop), one.crop)}
        for name, (first, last) in ends.items():
            images = np.repeat(first[None], steps + 1, axis=0)
            for image, count in zip(images, counts, strict=True):
                image.reshape(-1, 3)[order[:count]] = last.reshape(-1, 3)[order[:count]]
            curve = _probabilities(classifier, images, batch_size)[:, one.index]
            scores[name].append(float(np.trapezoid(curve, counts / order.size)))
    return Faithfulness(*(np.array(scores[name]) for name in Faithfulness._fields))


def _blurred(image: np.ndarray) -> np.ndarray:
    """Blurs by a Gaussian of 5 pixels for images of 224, as the code of RISE does, in proportion to their size."""
    return cv2.GaussianBlur(image, (0, 0), 5 * len(image) / 224, borderType=cv2.BORDER_REFLECT_101)


def _probabilities(classifier: Classifier, images: np.ndarray, batch_size: int) -> np.ndarray:
    logits = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padded = np.concatenate([batch, np.repeat(batch[:1], batch_size - len(batch), axis=0)])
        logits.append(classifier.run(padded, classifier.end_points[-1])[0][: len(batch)])
    return softmax(np.concatenate(logits))
