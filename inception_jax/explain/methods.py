"""Methods that explain one number of a network by the pixels, or by the cells of a layer, that it comes from.

A method is a frozen dataclass: its options are its fields, and a call computes it for a batch. Images are normalised,
float32 [N, H, W, C]; `channels` int [N] is the class or channel that is explained of each image. A method that is a sum
of many gradients has several `parts`, and a call computes one of them; they are not a loop of one program, because in a
loop a CPU takes more than twice as long. `heat` turns the values into how much each pixel counts, float32 [N, H, W], at
least 0.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from inception_jax.explain.network import Explained, mean_weights
from inception_jax.explain.rules import with_rule

Variables = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Gradient:
    """The derivative of the number with respect to each pixel: float32 [N, H, W, C].

    Attributes:
      rule: of `rules.RULES`. 'backprop': Simonyan et al. 2013, https://arxiv.org/abs/1312.6034, section 3. 'deconvnet'
        and 'guided': see `rules`. Zeiler and Fergus begin with the output of the strongest unit instead of 1, which
        only scales the result.
    """

    rule: Literal["backprop", "deconvnet", "guided"] = "backprop"

    def __call__(self, explained: Explained, variables: Variables, images: jax.Array, channels: jax.Array) -> jax.Array:
        """Returns the derivatives."""
        ruled = dataclasses.replace(explained, model=with_rule(explained.model, self.rule))
        return jax.grad(lambda images: ruled.score(variables, images, channels).sum())(images)

    def heat(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Returns the largest magnitude over the colours (Simonyan et al., section 3.1)."""
        del size
        return np.abs(values).max(axis=-1)


@dataclasses.dataclass(frozen=True)
class SmoothGrad:
    """The mean of gradients of noisy copies of the image: float32 [N, H, W, C].

    Smilkov et al. 2017, https://arxiv.org/abs/1706.03825, section 3.

    Attributes:
      samples: number of copies; the paper has 50, and sees little change above.
      noise: standard deviation of the noise, as a fraction of the range of an image's values; the paper has 0.1 to 0.2.
      seed: of the noise, which is the same for every image.
    """

    samples: int = 25
    noise: float = 0.15
    seed: int = 0

    @property
    def parts(self) -> int:
        """Number of gradients."""
        return self.samples

    def __call__(
        self, explained: Explained, variables: Variables, images: jax.Array, channels: jax.Array, part: jax.Array | int
    ) -> jax.Array:
        """Returns the gradient of one copy, divided by their number."""
        spans = jnp.ptp(images, axis=(1, 2, 3), keepdims=True)
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(self.seed), part), images.shape[1:])
        noisy = images + self.noise * spans * noise
        return Gradient()(explained, variables, noisy, channels) / self.samples

    def heat(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Returns the largest magnitude over the colours as of a gradient."""
        del size
        return np.abs(values).max(axis=-1)


@dataclasses.dataclass(frozen=True)
class IntegratedGradients:
    """The difference of the number from that of a baseline, shared out among the pixels: float32 [N, H, W, C].

    Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365, section 3. The integral of the gradient along the
    straight line from the baseline to the image, times their difference, by the midpoint rule. Its sum is the
    difference of the numbers, but for the error of the rule.

    Attributes:
      steps: number of gradients; the paper has 20 to 300.
      baseline: 'mean', the colour that becomes 0 in the network's input; 'black' or 'white'.
    """

    steps: int = 64
    baseline: Literal["mean", "black", "white"] = "mean"

    @property
    def parts(self) -> int:
        """Number of gradients."""
        return self.steps

    def __call__(
        self, explained: Explained, variables: Variables, images: jax.Array, channels: jax.Array, part: jax.Array | int
    ) -> jax.Array:
        """Returns the part of one step."""
        baseline = self.start(explained, variables, images)
        span = images - baseline
        between = baseline + (part + 0.5) / self.steps * span
        return span * Gradient()(explained, variables, between, channels) / self.steps

    def start(self, explained: Explained, variables: Variables, images: jax.Array) -> jax.Array:
        """Returns the baseline, normalised, for each of the images."""
        if self.baseline == "mean":
            return jnp.zeros_like(images)
        value = {"black": 0, "white": 255}[self.baseline]
        return explained.normalise(variables, jnp.full((*images.shape[:3], 3), value, jnp.uint8))

    def heat(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Returns the magnitude of the sum over the colours."""
        del size
        return np.abs(values.sum(axis=-1))


@dataclasses.dataclass(frozen=True)
class Occlusion:
    """What the number loses when a square of the image is grey, by the place of the square: float32 [N, rows, columns].

    Zeiler and Fergus 2013, section 4.2 and Fig. 7. The number is the class's probability, or the sum of a channel over
    the grid. The paper does not print the size of its square.

    Attributes:
      patch: side of the square in pixels; 0: an eighth of the image's.
      stride: distance of its places; 0: half of its side.
      at_once: number of places in one forward pass, for each image.
    """

    patch: int = 0
    stride: int = 0
    at_once: int = 4

    def __call__(self, explained: Explained, variables: Variables, images: jax.Array, channels: jax.Array) -> jax.Array:
        """Returns the losses."""
        patch, rows, columns = self.places((images.shape[1], images.shape[2]))
        whole = explained.total(variables, images, channels)
        corners = jnp.array([(row, column) for row in rows for column in columns])

        def occluded(corner):
            size = (images.shape[0], patch, patch, images.shape[3])
            grey = lax.dynamic_update_slice(images, jnp.zeros(size, images.dtype), (0, *corner, 0))
            return explained.total(variables, grey, channels)

        totals = lax.map(occluded, corners, batch_size=self.at_once)
        return (whole - totals).T.reshape(len(images), len(rows), len(columns))

    def places(self, size: tuple[int, int]) -> tuple[int, list[int], list[int]]:
        """Returns the side of the square, and the rows and columns of its upper left corner; it reaches all edges."""
        patch = min(self.patch or max(1, min(size) // 8), *size)
        stride = self.stride or max(1, patch // 2)
        rows, columns = ([*range(0, side - patch, stride), side - patch] for side in size)
        return patch, rows, columns

    def heat(self, losses: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Returns the mean loss over all squares that cover a pixel; 0 where the number grows."""
        patch, rows, columns = self.places(size)
        total, count = np.zeros((len(losses), *size), np.float32), np.zeros(size, np.float32)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                covered = (slice(row, row + patch), slice(column, column + patch))
                total[:, *covered] += losses[:, i, j, None, None]
                count[covered] += 1
        return np.maximum(total / count, 0)


@dataclasses.dataclass(frozen=True)
class ActivationMap:
    """Channels of a layer, weighted by what they do for a class, and summed: float32 [N, rows, columns] of its grid.

    Attributes:
      weights: what the weight of a channel A is, with the score's derivative g at each of the Z cells:
        - 'cam': its weight in the class's linear layer behind the mean (Zhou et al. 2015,
          https://arxiv.org/abs/1512.04150, section 2). The map's mean is the score without the bias.
        - 'gradcam': the mean of g (Selvaraju et al. 2016, https://arxiv.org/abs/1610.02391, section 3). Where CAM
          exists, it is CAM / Z.
        - 'gradcam++': the sum of relu(g) g^2 / (2 g^2 + sum(A) g^3) over the cells where g is not 0 (Chattopadhyay et
          al. 2017, https://arxiv.org/abs/1710.11063, section 3.3). The paper's factor exp(score) only scales the map.
        - 'hirescam': g itself, cell by cell (Draelos and Carin 2020, https://arxiv.org/abs/2011.08891, section 3).
    """

    weights: Literal["cam", "gradcam", "gradcam++", "hirescam"] = "gradcam"

    def __call__(
        self, explained: Explained, variables: Variables, images: jax.Array, channels: jax.Array, layer: str
    ) -> jax.Array:
        """Returns the maps of `layer`, which may be negative; they are shown without their negative values."""
        below, above = explained.split(layer)
        grid = below.apply(variables, images)[0]
        if self.weights == "cam":
            weights = mean_weights(above, variables, grid.shape[1:])
            return jnp.einsum("nhwc,nc->nhw", grid, weights.T[channels])
        rest = dataclasses.replace(explained, model=above)
        slope = jax.grad(lambda grid: rest.score(variables, grid, channels).sum())(grid)
        match self.weights:
            case "gradcam":
                weighted = grid * slope.mean(axis=(1, 2), keepdims=True)
            case "gradcam++":
                divisor = 2 * slope**2 + grid.sum(axis=(1, 2), keepdims=True) * slope**3
                share = jnp.where(slope != 0, slope**2 / jnp.where(divisor != 0, divisor, 1), 0)
                weighted = grid * (share * jnp.maximum(slope, 0)).sum(axis=(1, 2), keepdims=True)
            case "hirescam":
                weighted = grid * slope
        return weighted.sum(axis=-1)

    def heat(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Returns the positive values, interpolated to the size of the image."""
        height, width = size
        return np.stack([cv2.resize(np.maximum(grid, 0), (width, height)) for grid in values])


Summed = SmoothGrad | IntegratedGradients  # have parts
Method = Gradient | Summed | Occlusion | ActivationMap
METHODS: Mapping[str, Method] = {
    "gradient": Gradient(),
    "deconvnet": Gradient("deconvnet"),
    "guided": Gradient("guided"),
    "smoothgrad": SmoothGrad(),
    "integrated": IntegratedGradients(),
    "occlusion": Occlusion(),
    "cam": ActivationMap("cam"),
    "gradcam": ActivationMap("gradcam"),
    "gradcam++": ActivationMap("gradcam++"),
    "hirescam": ActivationMap("hirescam"),
}
