"""Preprocessing on the device, inside the compiled step, from uint8 images to the network's input."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import dm_pix as pix
import jax
import jax.numpy as jnp
from jax import lax

from inception_jax.data.randaugment import randaugment
from inception_jax.errors import check_choice

PHOTOMETRICS = ("none", "slim", "slim_fast")
WHITENINGS = ("none", "gcn", "gcn_zca")

# An example's key is fold_in(key, index). The flip draws from it. Every other operation folds in its own number, so
# that switching one on does not change what another draws.
_RANDAUGMENT, _PHOTOMETRIC, _PCA_NOISE, _SHIFT, _MIXUP, _CUTMIX, _MIXUP_OR_CUTMIX = range(1, 8)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Turns uint8 RGB into the network's input: float32, (image - mean) / std unless images are whitened.

    The order for training images: flip, RandAugment, colour distortions, colour noise, grey, normalisation, shift,
    mixing. For evaluation: grey, normalisation. Random numbers depend only on the key and the example's index, not on
    the example's batch or the number of devices.

    `dataset_stats` are arrays computed from the training images (see `inception_jax.data.dataset_stats`), {} if none
    are needed: 'colour_values' [3] and 'colour_vectors' [3, 3] for `pca_noise`; 'whitening_mean' [D] and
    'whitening_matrix' [D, D], D = H * W * channels, for `whitening` 'gcn_zca'.

    Attributes:
      mean: subtracted from each channel, on the scale 0 to 255.
      std: each channel is divided by it. (1, 1, 1) with the training set's mean is the papers' mean subtraction; mean
        and std of 127.5 give the range [-1, 1].
      flip: mirror half of the training images.
      channels: 3 for RGB; 1 for the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B. Luma is computed after the
        operations on colours; mean and std are combined with the same weights.
      randaugment: number of RandAugment operations for each training image, see `inception_jax.data.randaugment`.
      randaugment_magnitude: magnitude of these operations, 0 to 10.
      photometric: one of `PHOTOMETRICS`; 'slim' and 'slim_fast' distort colours, see `draw_distortions`.
      photometric_strength: factor on the ranges of these distortions, 1 for tf-slim's.
      pca_noise: standard deviation of alpha in AlexNet's colour noise (0.1 in the paper), see `pca_noise`; 0: none.
      whitening: one of `WHITENINGS`, replaces mean and std. 'gcn': see `gcn`; 'gcn_zca': then
        (x - whitening_mean) @ whitening_matrix of the flattened image.
      shift: normalised training images are moved by up to this number of pixels, vertically and horizontally. All
        offsets are equally likely; the border is filled with 0.
      mixup: alpha of mixup, see `mix`; 0: none.
      cutmix: alpha of CutMix, see `mix`; 0: none.

    Raises:
      UserError: `photometric` or `whitening` is unknown.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    flip: bool
    channels: int
    randaugment: int
    randaugment_magnitude: float
    photometric: str
    photometric_strength: float
    pca_noise: float
    whitening: str
    shift: int
    mixup: float
    cutmix: float

    def __post_init__(self):
        check_choice("photometric", self.photometric, PHOTOMETRICS)
        check_choice("whitening", self.whitening, WHITENINGS)

    @property
    def mixes(self) -> bool:
        """Whether training images are mixed in pairs."""
        return self.mixup > 0 or self.cutmix > 0

    def evaluate(self, images: jax.Array, dataset_stats: Mapping[str, jax.Array]) -> jax.Array:
        """Normalises uint8 [N, H, W, 3] to float32 [N, H, W, channels]."""
        mean: Any = self.mean
        std: Any = self.std
        if self.channels == 1:
            images = _luma(*jnp.split(images.astype(jnp.float32), 3, axis=-1))
            mean, std = (_luma(*mean),), (_luma(*std),)
        if self.whitening == "none":
            return (images.astype(jnp.float32) - jnp.array(mean)) / jnp.array(std)
        images = gcn(images)
        if self.whitening == "gcn_zca":
            flat = images.reshape(images.shape[0], -1) - dataset_stats["whitening_mean"]
            # An accelerator's default precision has rounding errors far above the smallest variances.
            white = jnp.matmul(flat, dataset_stats["whitening_matrix"], precision=lax.Precision.HIGHEST)
            images = white.reshape(images.shape)
        return images

    def train(
        self, images: jax.Array, index: jax.Array, key: jax.Array, dataset_stats: Mapping[str, jax.Array]
    ) -> jax.Array:
        """Augments and normalises training images, without mixing them.

        Args:
          images: uint8 [N, H, W, 3].
          index: uint32 [N], each example's index in the stream of training examples.
          key: random key; each example draws from it and from its index.
          dataset_stats: see the class.

        Returns:
          float32 [N, H, W, channels].
        """
        if self.flip:
            images = jnp.where(_mirrors(index, key)[:, None, None, None], images[:, :, ::-1], images)
        if self.randaugment:
            keys = _keys(key, index, _RANDAUGMENT)
            images = randaugment(images, keys, self.randaugment, self.randaugment_magnitude)
        if self.photometric != "none":
            fast = self.photometric == "slim_fast"

            def distort(image, key):
                return distort_colours(image, **draw_distortions(key, self.photometric_strength, fast))

            images = 255 * jax.vmap(distort)(images.astype(jnp.float32) / 255, _keys(key, index, _PHOTOMETRIC))
        if self.pca_noise:
            noise = pca_noise(_keys(key, index, _PCA_NOISE), self.pca_noise, dataset_stats)
            images = images.astype(jnp.float32) + noise[:, None, None]
        images = self.evaluate(images, dataset_stats)
        if self.shift:
            images = _shift(images, _keys(key, index, _SHIFT), self.shift)
        return images

    def train_boxes(self, boxes: jax.Array, index: jax.Array, key: jax.Array) -> jax.Array:
        """Mirrors the boxes of the images that `train` mirrors; nothing else here may move what is in an image.

        Args:
          boxes: edges in the images, float32 [N, 4], see `box_targets`; of zeros, those that are lost, stay so.
          index: as for `train`.
          key: as for `train`.
        """
        if not self.flip:
            return boxes
        left, top, right, bottom = boxes.T
        mirror = _mirrors(index, key) & (right > left)
        return jnp.where(mirror[:, None], jnp.stack([1 - right, top, 1 - left, bottom], axis=1), boxes)

    @property
    def moving(self) -> dict[str, Any]:
        """Those settings, by name, that move what is in training images, or mix them, other than by a flip."""
        return {
            name: getattr(self, name) for name in ("randaugment", "shift", "mixup", "cutmix") if getattr(self, name)
        }

    def mix(self, images: jax.Array, index: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mixes each training image with its neighbour; call it if `mixes`.

        The images at positions p and p ^ 1 (0 and 1, 2 and 3, ...) are partners. Thus the pairs are the same for any
        number of devices with an even number of images each.

        mixup (Zhang et al. 2017, https://arxiv.org/abs/1710.09412): lambda * x + (1 - lambda) * partner, with
        lambda ~ Beta(alpha, alpha). CutMix (Yun et al. 2019, https://arxiv.org/abs/1905.04899): a box of the partner
        replaces the same box of the image. Its sides are sqrt(1 - lambda) of the image's, its centre is uniform, and it
        is clipped at the border; lambda then becomes the fraction of the image outside the box. Half sides are rounded
        to whole pixels, as in github.com/clovaai/CutMix-PyTorch. In both papers' code a batch shares one lambda; here
        every example draws its own. With both on, each example takes either with probability 1/2 (our choice).

        Args:
          images: float32 [N, H, W, C], from `train`.
          index: uint32 [N], as for `train`.
          key: as for `train`.

        Returns:
          The images, and lambda, float32 [N]: the weight of each example's own label. Its partner's label has the
          weight 1 - lambda.

        Raises:
          ValueError: N is odd.
        """
        count, height, width, _ = images.shape
        if count % 2:
            raise ValueError(f"mixup and cutmix need an even number of images on each device, not {count}")
        partners = images.reshape(-1, 2, *images.shape[1:])[:, ::-1].reshape(images.shape)
        if self.mixup:
            mixup_lambda = _beta(_keys(key, index, _MIXUP), self.mixup)
            weight = mixup_lambda[:, None, None, None]
            mixed = weight * images + (1 - weight) * partners
        if self.cutmix:
            boxes, cutmix_lambda = _boxes(_keys(key, index, _CUTMIX), self.cutmix, height, width)
            cut = jnp.where(boxes[..., None], partners, images)
        if not self.cutmix:
            return mixed, mixup_lambda
        if not self.mixup:
            return cut, cutmix_lambda
        cuts = jax.vmap(jax.random.bernoulli)(_keys(key, index, _MIXUP_OR_CUTMIX))
        return jnp.where(cuts[:, None, None, None], cut, mixed), jnp.where(cuts, cutmix_lambda, mixup_lambda)


def _mirrors(index: jax.Array, key: jax.Array) -> jax.Array:
    return jax.vmap(lambda i: jax.random.bernoulli(jax.random.fold_in(key, i)))(index)


def _keys(key: jax.Array, index: jax.Array, operation: int) -> jax.Array:
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), operation))(index)


def _luma(red, green, blue):
    return 0.299 * red + 0.587 * green + 0.114 * blue


def gcn(images: jax.Array) -> jax.Array:
    """Applies global contrast normalisation: subtracts each image's mean, then scales the image to a norm of 55.

    As for the CIFAR images of Maxout networks and later papers: github.com/lisa-lab/pylearn2,
    pylearn2/expr/preprocessing.py, with the scale 55 of pylearn2/scripts/datasets/make_cifar10_gcn_whitened.py. Mean
    and norm are taken over all pixels and channels of the image together. An image of one colour becomes 0.

    Args:
      images: uint8 or float32 [N, H, W, C], on the scale 0 to 255.

    Returns:
      float32 [N, H, W, C].
    """
    axes = (1, 2, 3)
    images = images.astype(jnp.float32)
    # The second pass removes rounding errors, which would be the only contrast in an image of one colour.
    for _ in range(2):
        images -= images.mean(axes, keepdims=True)
    divisor = jnp.sqrt(jnp.square(images).sum(axes, keepdims=True)) / 55
    return images / jnp.where(divisor < 1e-8, 1, divisor)


def draw_distortions(key: jax.Array, strength: float, fast: bool) -> dict[str, jax.Array]:
    """Draws Howard's colour distortions for one image (https://arxiv.org/abs/1312.5402), as implemented in tf-slim.

    From github.com/tensorflow/models, research/slim/preprocessing/inception_preprocessing.py, distort_color: brightness
    changes by up to 32/255, saturation and contrast are multiplied by 0.5 to 1.5, and hue changes by up to 0.2 of the
    circle. All are uniform, and are applied in one of four orders. The fast mode, tf-slim's default, leaves out hue and
    contrast; then three of the four orders are the same, so brightness comes first in a quarter of the images.

    Args:
      key: the image's random key.
      strength: factor on the four ranges, 1 for tf-slim's.
      fast: leave out hue and contrast.

    Returns:
      The arguments of `distort_colours`, scalars.
    """
    order, *draws = jax.random.uniform(key, (5,))
    brightness, saturation, hue, contrast = (strength * (2 * draw - 1) for draw in draws)
    return {
        "order": jnp.floor(4 * order).astype(jnp.int32),
        "brightness": 32 / 255 * brightness,
        "saturation": 1 + 0.5 * saturation,
        "hue": None if fast else 0.2 * hue,
        "contrast": None if fast else 1 + 0.5 * contrast,
    }


def distort_colours(
    image: jax.Array,
    order: jax.Array,
    brightness: jax.Array,
    saturation: jax.Array,
    hue: jax.Array | None,
    contrast: jax.Array | None,
) -> jax.Array:
    """Applies the distortions of `draw_distortions` in one of tf-slim's orders.

    0: brightness, saturation, hue, contrast; 1: saturation, brightness, contrast, hue; 2: contrast, hue, brightness,
    saturation; 3: hue, saturation, contrast, brightness. Each operation is tf.image's. In between, values may leave
    [0, 1]; they are treated as by TensorFlow on a GPU. TensorFlow's adjust_hue on a CPU differs in one case: it keeps
    the colour of a pixel without a positive channel, which becomes grey here.

    Args:
      image: float32 [H, W, 3], from 0 to 1.
      order: 0 to 3.
      brightness: added to each channel.
      saturation: factor, in HSV.
      hue: added in HSV, where 1 is the whole circle; None: fast mode, neither hue nor contrast.
      contrast: factor on each channel's difference from its mean over the image; None: fast mode, too.

    Returns:
      float32 [H, W, 3], clipped to [0, 1].
    """
    # Under vmap every image would pay for all four orders. But brightness and contrast commute, and so do hue and
    # saturation. Hence all orders share the same four steps, with neutral values in a step that does nothing:
    #   order  brightness, contrast  hue, saturation  brightness, contrast  hue, saturation
    #   0      brightness            both             contrast              -
    #   1      -                     saturation       both                  hue
    #   2      contrast              hue              brightness            saturation
    #   3      -                     both             both                  -
    # Working on separate channels takes less than half the time on a CPU.
    where = jnp.where
    is_0, is_1, is_2 = (order == number for number in range(3))
    channels = jnp.split(image, 3, axis=-1)
    if hue is None or contrast is None:
        channels = [pix.adjust_brightness(x, where(is_0, brightness, 0)) for x in channels]
        channels = _adjust_hue_and_saturation(channels, 0.0, saturation, saturates=True)
        channels = [pix.adjust_brightness(x, where(is_0, 0, brightness)) for x in channels]
    else:
        channels = _adjust_lines(channels, where(is_2, contrast, 1), where(is_0, brightness, 0))
        channels = _adjust_hue_and_saturation(channels, where(is_1, 0, hue), where(is_2, 1, saturation), ~is_2)
        channels = _adjust_lines(channels, where(is_2, 1, contrast), where(is_0, 0, brightness))
        channels = _adjust_hue_and_saturation(channels, where(is_1, hue, 0), where(is_2, saturation, 1), is_2)
    return jnp.clip(jnp.concatenate(channels, axis=-1), 0, 1)


def _adjust_lines(channels, contrast, brightness):
    return [pix.adjust_brightness(pix.adjust_contrast(x, contrast), brightness) for x in channels]


def _adjust_hue_and_saturation(channels, hue, saturation, saturates):
    """Applies tf.image's adjust_saturation, if `saturates`, and its adjust_hue."""
    h, s, v = jnp.split(pix.rgb_to_hsv(jnp.concatenate(channels, axis=-1)), 3, axis=-1)
    # Only adjust_saturation clips the saturation, which is above 1 where a channel is negative.
    s = jnp.clip(s * saturation, 0, jnp.where(saturates, 1, jnp.inf))
    return jnp.split(pix.hsv_to_rgb(jnp.concatenate([h + hue, s, v], axis=-1)), 3, axis=-1)


def pca_noise(keys: jax.Array, std: float, dataset_stats: Mapping[str, jax.Array]) -> jax.Array:
    """Draws AlexNet's colour noise: along the principal components of the colours, in proportion to their extent.

    The paper (section 4.1) adds sum p_i alpha_i lambda_i to each image. Here p are the components, alpha_i ~ N(0, 0.1)
    is drawn once for an image, and lambda are the eigenvalues of the covariance of the pixels on the scale 0 to 255.
    AlexNet's code (convdata_jpeg.py of github.com/computerhistory/AlexNet-Source-Code) multiplies by `pca_stdevs`
    instead, the standard deviations sqrt(lambda); we follow the code.

    ImageNet's eigenvalues are 0.2175, 0.0188 and 0.0045 on the scale 0 to 1 (datasets/imagenet.lua of
    github.com/facebookarchive/fb.resnet.torch). They are variances: their sum is 0.241, and the variances of the
    channels add up to 0.236 (github.com/pytorch/vision/issues/1439). Hence the noise has standard deviations of 11.9,
    3.5 and 1.7 levels of 255. The paper's formula would give 1,414, 122 and 29; fb.resnet.torch, which applies it on
    the scale 0 to 1, has 5.5, 0.5 and 0.1. AlexNet's code then divides the image by 1.1. The paper does not say so, and
    we leave it out.

    Args:
      keys: [N], one for each image.
      std: standard deviation of alpha.
      dataset_stats: with 'colour_values' [3] and 'colour_vectors' [3, 3].

    Returns:
      float32 [N, 3], to be added to pixels on the scale 0 to 255.
    """
    alpha = std * jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
    extent = alpha * jnp.sqrt(dataset_stats["colour_values"])
    return (extent[:, None] * dataset_stats["colour_vectors"]).sum(axis=-1)


def _shift(images: jax.Array, keys: jax.Array, most: int) -> jax.Array:
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))

    def window(image, key):
        top, left = jax.random.randint(key, (2,), 0, 2 * most + 1)
        return lax.dynamic_slice(image, (top, left, 0), images.shape[1:])

    return jax.vmap(window)(padded, keys)


def _beta(keys: jax.Array, alpha: float) -> jax.Array:
    return jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)


def _boxes(keys: jax.Array, alpha: float, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Draws CutMix's boxes, bool [N, H, W], and returns the fraction of the image outside each, float32 [N]."""

    def within(centre, side, length):
        half = jnp.floor(side * length).astype(jnp.int32) // 2
        centre = jnp.floor(centre * length).astype(jnp.int32)
        positions = jnp.arange(length)
        return (positions >= centre - half) & (positions < centre + half)

    def box(key):
        lambda_key, centre_key = jax.random.split(key)
        side = jnp.sqrt(1 - jax.random.beta(lambda_key, alpha, alpha))
        row, column = jax.random.uniform(centre_key, (2,))
        rows, columns = within(row, side, height), within(column, side, width)
        outside = (height * width - rows.sum() * columns.sum()) / (height * width)
        return rows[:, None] & columns, outside

    return jax.vmap(box)(keys)
