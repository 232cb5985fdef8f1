"""What the page shows of a network: numbers and pictures of one image. Knows nothing of the page."""

import functools
import math

import numpy as np

from inception_jax.console import percent, plural
from inception_jax.data.decoding import array_to_rgb, decode_image, open_image, read_file
from inception_jax.data.drawing import FORMS
from inception_jax.errors import UserError
from inception_jax.explain import METHODS, Explainer, Unit, make_explainer
from inception_jax.explain.methods import ActivationMap, Gradient
from inception_jax.explain.rules import with_rule
from inception_jax.models import trace
from inception_jax.report.heatmaps import channel_at, channel_grid, picture
from inception_jax.runs.classifier import Classifier, softmax

_TOP, _SHOWN = 5, 384  # classes that are listed, and least width of a picture in pixels
_MOST_PIXELS = 2**22  # of a canvas


class Explorer:
    """A network, and what it says of one crop, uint8 [size, size, 3].

    Attributes:
      classifier: the network.
      form: brings a drawing into the form of the training set's images, see `drawing.FORMS`; None: it stays an image.
      methods: names of the methods that the network takes, Grad-CAM first.
      grids: layers with a grid, for class activation maps.
      layer: the one that they have by default; '' if the network takes none.
    """

    def __init__(self, classifier: Classifier, dataset: str = ""):
        """Finds out what the network takes; `dataset` is the name of its training set, if it is known."""
        self.classifier = classifier
        self.form = FORMS.get(dataset)
        layers, _ = trace.layers(classifier.model, classifier.input_shape)
        self._shapes = {
            layer.name: layer.output if len(layer.output) == 3 else (1, 1, *layer.output) for layer in layers
        }
        self.grids = tuple(name for name in classifier.end_points[:-1] if max(self._shapes[name][:2]) > 1)
        self.methods = tuple(sorted(filter(self._takes, METHODS), key="gradcam".__ne__))
        self.layer = self._explainer("gradcam", "", None).layer if self.has_layer(self.methods[0]) else ""

    def has_layer(self, method: str) -> bool:
        """Whether a method shows the grid of a layer."""
        return isinstance(METHODS[method], ActivationMap)

    @functools.cached_property
    def classes(self) -> list[str]:
        """Names by class index; a name of several classes gets its index, so that all differ."""
        names = self.classifier.class_names
        return [name if names.count(name) == 1 else f"{name} ({index})" for index, name in enumerate(names)]

    def read(self, file: str, name: str) -> np.ndarray:
        """Returns the evaluation crop of an image file, which errors call `name`.

        Raises:
          DamagedImage: the file cannot be decoded.
        """
        return self.classifier.crop(open_image(read_file(file, name), name, self.classifier.crop_config.max_pixels))

    def draw(self, picture: np.ndarray) -> np.ndarray | None:
        """Returns the crop of a drawing, in the form of the training set's images if it is known; None if it is blank.

        Args:
          picture: uint8 [H, W, 3], black on white.
        """
        ink = picture.min(axis=2) < 128
        if not ink.any():
            return None
        return self.classifier.crop(array_to_rgb(self.form(ink) if self.form else picture, "the drawing"))

    def enlarged(self, crop: np.ndarray) -> np.ndarray:
        """Returns a crop with each pixel as a square, so that it is at least 384 pixels wide."""
        factor = math.ceil(_SHOWN / crop.shape[1])
        return crop.repeat(factor, axis=0).repeat(factor, axis=1)

    def shrunk(self, picture: np.ndarray) -> np.ndarray:
        """Returns the crop that `enlarged` made a picture of: each pixel is the mean of its square.

        Raises:
          UserError: the picture has another size.
        """
        size = self.classifier.crop_config.size
        factor = math.ceil(_SHOWN / size)
        if picture.shape != (size * factor, size * factor, 3):
            raise UserError(f"the picture must have {size * factor} x {size * factor} pixels")
        return np.rint(picture.reshape(size, factor, size, factor, 3).mean(axis=(1, 3))).astype(np.uint8)

    def decoded(self, content: bytes) -> np.ndarray:
        """Decodes the picture of a canvas, uint8 [H, W, 3].

        Raises:
          DamagedImage: it is none.
        """
        return decode_image(content, "the drawing", _MOST_PIXELS)

    @property
    def grey(self) -> str:
        """The colour that becomes 0 in the network's input, such as '#7f7f7f': it hides what it covers."""
        mean = self.classifier.preprocessing.mean
        return "#" + "".join(f"{round(value):02x}" for value in mean)

    def probabilities(self, crop: np.ndarray) -> np.ndarray:
        """Returns the probability of each class, float32 [K]."""
        return softmax(self.classifier.run(crop[None], self.classifier.end_points[-1])[0])[0]

    def top(self, probabilities: np.ndarray) -> dict[str, float]:
        """Returns the most probable classes by name, the best first."""
        best = np.argsort(-probabilities, kind="stable")[:_TOP]
        return {self.classes[index]: float(probabilities[index]) for index in best}

    def change(self, before: np.ndarray, after: np.ndarray) -> str:
        """Says how the probability of the best class of `before` has changed."""
        best = int(before.argmax())
        return f"{self.classes[best]}: {percent(float(before[best]))}, painted {percent(float(after[best]))}"

    def explain(
        self, crop: np.ndarray, method: str, layer: str = "", index: int | None = None, unit: Unit | None = None
    ) -> tuple[np.ndarray, str]:
        """Returns the picture of an explanation, uint8 [H, W, 3], and a line on it.

        Args:
          crop: uint8 [size, size, 3].
          method: one of `methods`.
          layer: of class activation maps, one of `grids`; else it does not count.
          index: the class; None: the most probable one.
          unit: a channel that is explained in place of a class, always by a method that shows pixels: no layer with a
            grid needs to come before it.

        Raises:
          UserError: the network has not what the method needs.
        """
        if unit is not None and self.has_layer(method):
            method = next(name for name in ("guided", "gradient") if name in self.methods)
        explainer = self._explainer(method, layer if self.has_layer(method) else "", unit)
        [found] = explainer(crop[None], [index])
        title = found.title if unit else self.classes[found.index]
        what = "largest output" if unit else "score before the softmax"
        line = f"{title}: {what} {found.number:.4g}, explained by {method}"
        if explainer.layer:
            line += f" at {explainer.layer}"
        if found.error is not None:
            line += f", incomplete by {percent(found.error)}"
        return self.enlarged(picture(explainer.method, found)), line

    @functools.lru_cache(maxsize=64)  # noqa: B019 (it lives as long as its process)
    def _explainer(self, method: str, layer: str, unit: Unit | None) -> Explainer:
        return make_explainer(self.classifier, method, layer=layer, unit=unit)

    def channels(self, crop: np.ndarray, layer: str) -> tuple[np.ndarray, str]:
        """Returns the outputs of a layer's channels as small pictures, see `channel_grid`, and a line on them."""
        [output] = self.classifier.run(crop[None], layer)
        values = output[0].reshape(self._shapes[layer])
        rows, columns, count = values.shape
        size = f"{rows} x {columns} values" if rows * columns > 1 else "one value"
        line = (
            f"{layer}: {plural(count, 'channel')} of {size}, {values.min():.3g} (dark) to {values.max():.3g} (yellow)"
        )
        return channel_grid(values), line

    def unit_at(self, layer: str, x: int, y: int) -> Unit | None:
        """Returns the channel at a pixel of the picture of `channels`; None if there is none."""
        channel = channel_at(x, y, self._shapes[layer][-1])
        return None if channel is None else Unit(layer, channel)

    def _takes(self, name: str) -> bool:
        method = METHODS[name]
        try:
            if isinstance(method, Gradient):
                with_rule(self.classifier.model, method.rule)
            elif name == "cam":
                self._explainer(name, "", None)
        except UserError:
            return False
        return bool(self.grids) or not self.has_layer(name)
