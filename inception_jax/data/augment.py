"""Preprocessing on the device, inside the compiled step: images travel as bytes."""

import dataclasses
from collections.abc import Mapping

import dm_pix as pix
import jax
import jax.numpy as jnp
from jax import lax

from inception_jax.data.randaugment import randaugment

# An example's key is fold_in(key, index). The flip draws from it; for each other operation its number is folded in, so
# that none changes what another draws.
_RANDAUGMENT, _PHOTOMETRIC, _PCA_NOISE, _SHIFT, _MIXUP, _CUTMIX, _MIXUP_OR_CUTMIX = range(1, 8)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Turns uint8 RGB into the network's input, by default (image - mean) / std in float32.

    Training images go through flip, RandAugment, colour distortions, colour noise, grey, normalisation, shift and
    mixing, in this order; images that are evaluated through grey and normalisation. Every example's chance is drawn
    from the key and the example's index alone: it depends neither on its batch nor on the number of devices.

    `statistics` are arrays that were fitted on the training images (see the module `statistics`), {} where none is
    needed: 'colour_values' [3] and 'colour_vectors' [3, 3] for `pca_noise`, 'whitening_mean' [D] and
    'whitening_matrix' [D, D], D = H * W * channels, for `whitening` 'gcn_zca'.

    Attributes:
      mean: of each channel, on the scale 0 to 255.
      std: likewise. (1, 1, 1) with the training set's mean is the papers' mean subtraction; mean and std of 127.5
        give the range [-1, 1].
      flip: whether half of the training images are mirrored.
      channels: 3, or 1 for the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, which is taken after what works on
        colours; mean and std are then combined likewise.
      randaugment: number of RandAugment's operations on each training image, see the module `randaugment`.
      randaugment_magnitude: of all of them, from 0 to 10.
      photometric: 'slim' and 'slim_fast' distort brightness, saturation and more, see `draw_distortions`; 'none'.
      photometric_strength: factor on the ranges of that.
      pca_noise: standard deviation of AlexNet's alpha, 0.1 there, see `pca_noise`; 0: none.
      whitening: in place of mean and std, 'gcn': see `gcn`; 'gcn_zca': then (x - whitening_mean) @ whitening_matrix
        of the flattened image; 'none'.
      shift: normalised training images are moved by up to so many pixels down or up and right or left, all such
        offsets being as likely; what is moved in is 0.
      mixup: alpha of mixup, see `mix`; 0: none.
      cutmix: alpha of CutMix, likewise.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    flip: bool
    channels: int = 3
    randaugment: int = 0
    randaugment_magnitude: float = 9.0
    photometric: str = "none"
    photometric_strength: float = 1.0
    pca_noise: float = 0.0
    whitening: str = "none"
    shift: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def mixes(self) -> bool:
        """Whether training images are mixed in pairs."""
        return self.mixup > 0 or self.cutmix > 0

    def evaluate(self, images: jax.Array, statistics: Mapping[str, jax.Array]) -> jax.Array:
        """Normalises uint8 [N, H, W, 3] to float32 [N, H, W, channels]."""
        mean, std = self.mean, self.std
        if self.channels == 1:
            images = _luma(*jnp.split(images.astype(jnp.float32), 3, axis=-1))
            mean, std = (_luma(*mean),), (_luma(*std),)
        if self.whitening == "none":
            return (images.astype(jnp.float32) - jnp.array(mean)) / jnp.array(std)
        images = gcn(images)
        if self.whitening == "gcn_zca":
            flat = images.reshape(len(images), -1) - statistics["whitening_mean"]
            # On an accelerator products are rounded by default, far beyond the least of the variances.
            white = jnp.matmul(flat, statistics["whitening_matrix"], precision=lax.Precision.HIGHEST)
            images = white.reshape(images.shape)
        return images

    def train(
        self, images: jax.Array, index: jax.Array, key: jax.Array, statistics: Mapping[str, jax.Array]
    ) -> jax.Array:
        """Augments and normalises uint8 [N, H, W, 3] to float32 [N, H, W, channels].

        Each example's chance is drawn from `key` and its `index`, uint32 [N], its place in the stream of training.
        """
        if self.flip:
            mirror = jax.vmap(lambda i: jax.random.bernoulli(jax.random.fold_in(key, i)))(index)
            images = jnp.where(mirror[:, None, None, None], images[:, :, ::-1], images)
        if self.randaugment:
            keys = _keys(key, index, _RANDAUGMENT)
            images = randaugment(images, keys, self.randaugment, self.randaugment_magnitude)
        if self.photometric != "none":
            fast = self.photometric == "slim_fast"

            def distort(image, key):
                return distort_colours(image, **draw_distortions(key, self.photometric_strength, fast))

            images = 255 * jax.vmap(distort)(images.astype(jnp.float32) / 255, _keys(key, index, _PHOTOMETRIC))
        if self.pca_noise:
            noise = pca_noise(_keys(key, index, _PCA_NOISE), self.pca_noise, statistics)
            images = images.astype(jnp.float32) + noise[:, None, None]
        images = self.evaluate(images, statistics)
        if self.shift:
            images = _shift(images, _keys(key, index, _SHIFT), self.shift)
        return images

    def mix(self, images: jax.Array, index: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mixes each training image with that of its neighbour, if `mixes`.

        The images at the places p and p ^ 1, that is, 0 and 1, 2 and 3, ..., are partners: the pairs are the same on
        any number of devices, where each has an even number of images.

        mixup (Zhang et al. 2017, https://arxiv.org/abs/1710.09412): l x + (1 - l) partner, with l ~ Beta(alpha, alpha).
        CutMix (Yun et al. 2019, https://arxiv.org/abs/1905.04899): a box of the partner replaces that of the image. Its
        sides are sqrt(1 - l) of the image's, its centre is uniform, and what sticks out is cut off; then l becomes the
        share that is left (rounded as in github.com/clovaai/CutMix-PyTorch: the half sides to whole pixels). In both
        codes a batch shares one l; here every example draws its own, and which of the two it takes, where both are
        on, each with probability 1/2 (our choice).

        Args:
          images: float32 [N, H, W, C], what `train` returned.
          index: uint32 [N].
          key: as for `train`.

        Returns:
          The images, and float32 [N], the share l of each one's own label; 1 - l is that of its partner's.

        Raises:
          ValueError: N is odd.
        """
        count, height, width, _ = images.shape
        if count % 2:
            raise ValueError(f"{count} images make no pairs: mixup and cutmix need an even number on each device")
        partners = images.reshape(-1, 2, *images.shape[1:])[:, ::-1].reshape(images.shape)
        if self.mixup:
            share = _beta(_keys(key, index, _MIXUP), self.mixup)
            own = share[:, None, None, None]
            mixed = own * images + (1 - own) * partners
        if self.cutmix:
            boxes, share_left = _boxes(_keys(key, index, _CUTMIX), self.cutmix, height, width)
            cut = jnp.where(boxes[..., None], partners, images)
        if not self.cutmix:
            return mixed, share
        if not self.mixup:
            return cut, share_left
        cuts = jax.vmap(jax.random.bernoulli)(_keys(key, index, _MIXUP_OR_CUTMIX))
        return jnp.where(cuts[:, None, None, None], cut, mixed), jnp.where(cuts, share_left, share)


def _keys(key: jax.Array, index: jax.Array, operation: int) -> jax.Array:
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), operation))(index)


def _luma(red, green, blue):
    return 0.299 * red + 0.587 * green + 0.114 * blue


def gcn(images: jax.Array) -> jax.Array:
    """Global contrast normalisation: each image minus its mean, then divided so that its norm is 55.

    As for the CIFAR images of Maxout networks and their followers: github.com/lisa-lab/pylearn2,
    pylearn2/expr/preprocessing.py, with the scale 55 of pylearn2/scripts/datasets/make_cifar10_gcn_whitened.py. The
    mean and the norm are over all pixels and channels of the image together. An image of a single colour becomes 0.

    Args:
      images: [N, H, W, C], on the scale 0 to 255.

    Returns:
      float32 [N, H, W, C].
    """
    axes = (1, 2, 3)
    images = images.astype(jnp.float32)
    # The second time takes away what rounding left, which in an image of a single colour would be all contrast.
    for _ in range(2):
        images -= images.mean(axes, keepdims=True)
    divisor = jnp.sqrt(jnp.square(images).sum(axes, keepdims=True)) / 55
    return images / jnp.where(divisor < 1e-8, 1, divisor)


def draw_distortions(key: jax.Array, strength: float, fast: bool) -> dict[str, jax.Array]:
    """Draws Howard's colour distortions of one image (https://arxiv.org/abs/1312.5402), as tf-slim has them.

    github.com/tensorflow/models, research/slim/preprocessing/inception_preprocessing.py, distort_color: brightness is
    moved by up to 32/255, saturation and contrast are multiplied by 0.5 to 1.5, hue is moved by up to 0.2 of the
    circle, all uniformly, in one of four orders. The fast mode, slim's default, leaves hue and contrast out. There
    three orders of the four are the same, so that brightness comes first in a quarter of the images.

    Args:
      key: of the image.
      strength: factor on the four ranges; slim's is 1.
      fast: whether to leave hue and contrast out.

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
    """Applies the distortions of `draw_distortions` in one of slim's orders.

    0: brightness, saturation, hue, contrast; 1: saturation, brightness, contrast, hue; 2: contrast, hue, brightness,
    saturation; 3: hue, saturation, contrast, brightness. Each is that of tf.image. Between them values may leave
    [0, 1], and are then treated as by TensorFlow on a GPU; on a CPU its adjust_hue keeps the colour of a pixel of which
    no channel is positive, which here becomes grey.

    Args:
      image: float32 [H, W, 3], from 0 to 1.
      order: from 0 to 3.
      brightness: is added.
      saturation: is multiplied by, in HSV.
      hue: is added, in HSV, where 1 is the whole circle; None: fast, neither hue nor contrast.
      contrast: multiplies what each channel differs from its mean over the image; None with `hue`.

    Returns:
      float32 [H, W, 3], clipped to [0, 1].
    """
    # Under vmap every image would pay for all four orders. But brightness and contrast can change places, and so can
    # hue and saturation, so that all orders have the same four steps, with neutral values where one does nothing:
    #   order  brightness, contrast  hue, saturation  brightness, contrast  hue, saturation
    #   0      brightness            both             contrast              -
    #   1      -                     saturation       both                  hue
    #   2      contrast              hue              brightness            saturation
    #   3      -                     both             both                  -
    # Channel by channel it takes less than half of the time on a CPU.
    where = jnp.where
    is_0, is_1, is_2 = (order == number for number in range(3))
    channels = jnp.split(image, 3, axis=-1)
    if hue is None:
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
    """tf.image's adjust_saturation, if `saturates`, and its adjust_hue."""
    h, s, v = jnp.split(pix.rgb_to_hsv(jnp.concatenate(channels, axis=-1)), 3, axis=-1)
    # Only adjust_saturation limits the saturation, which is above 1 where a channel is negative.
    s = jnp.clip(s * saturation, 0, jnp.where(saturates, 1, jnp.inf))
    return jnp.split(pix.hsv_to_rgb(jnp.concatenate([h + hue, s, v], axis=-1)), 3, axis=-1)


def pca_noise(keys: jax.Array, std: float, statistics: Mapping[str, jax.Array]) -> jax.Array:
    """AlexNet's colour noise: along the principal components p of the colours, in proportion to their extent.

    The paper (section 4.1) adds sum p_i alpha_i lambda_i, alpha_i ~ N(0, 0.1) once for each image, with the eigenvalues
    lambda of the covariance of the pixels on the scale 0 to 255. Its code (convdata_jpeg.py of
    github.com/computerhistory/AlexNet-Source-Code) multiplies by `pca_stdevs`, the standard deviations sqrt(lambda),
    which we follow. ImageNet's eigenvalues are 0.2175, 0.0188 and 0.0045 on the scale 0 to 1
    (github.com/facebookarchive/fb.resnet.torch, datasets/imagenet.lua; that they are no standard deviations shows their
    sum, 0.241: the variances of the channels add up to 0.236, github.com/pytorch/vision/issues/1439). So the noise has
    standard deviations of 11.9, 3.5 and 1.7 levels of 255. The paper's formula would give 1,414, 122 and 29, and
    fb.resnet.torch, which applies it on the scale 0 to 1, has 5.5, 0.5 and 0.1. AlexNet's code also divides the image
    by 1.1 after that, which the paper does not say, and we leave out.

    Args:
      keys: [N], one for each image.
      std: of alpha.
      statistics: with 'colour_values' and 'colour_vectors'.

    Returns:
      float32 [N, 3], to be added to pixels on the scale 0 to 255.
    """
    alpha = std * jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
    extent = alpha * jnp.sqrt(statistics["colour_values"])
    return (extent[:, None] * statistics["colour_vectors"]).sum(axis=-1)


def _shift(images: jax.Array, keys: jax.Array, most: int) -> jax.Array:
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))

    def window(image, key):
        top, left = jax.random.randint(key, (2,), 0, 2 * most + 1)
        return lax.dynamic_slice(image, (top, left, 0), images.shape[1:])

    return jax.vmap(window)(padded, keys)


def _beta(keys: jax.Array, alpha: float) -> jax.Array:
    return jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)


def _boxes(keys: jax.Array, alpha: float, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """CutMix's boxes, bool [N, H, W], and the share of the image that is outside, float32 [N]."""

    def within(centre, side, length):
        half = jnp.floor(side * length).astype(jnp.int32) // 2
        centre = jnp.floor(centre * length).astype(jnp.int32)
        places = jnp.arange(length)
        return (places >= centre - half) & (places < centre + half)

    def box(key):
        share_key, centre_key = jax.random.split(key)
        side = jnp.sqrt(1 - jax.random.beta(share_key, alpha, alpha))
        row, column = jax.random.uniform(centre_key, (2,))
        rows, columns = within(row, side, height), within(column, side, width)
        share = (height * width - rows.sum() * columns.sum()) / (height * width)
        return rows[:, None] & columns, share

    return jax.vmap(box)(keys)
