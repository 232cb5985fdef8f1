"""Preprocessing on the device, inside the compiled step: images travel as bytes."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Turns uint8 RGB into the network's input, (image - mean) / std in float32.

    Attributes:
      mean: of each channel, on the scale 0 to 255.
      std: likewise. (1, 1, 1) with the training set's mean is the papers' mean subtraction; mean and std of 127.5
        give the range [-1, 1].
      flip: whether half of the training images are mirrored.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    flip: bool

    def evaluate(self, images: jax.Array) -> jax.Array:
        """Normalises uint8 [N, H, W, 3]."""
        return (images.astype(jnp.float32) - jnp.array(self.mean)) / jnp.array(self.std)

    def train(self, images: jax.Array, index: jax.Array, key: jax.Array) -> jax.Array:
        """Augments and normalises uint8 [N, H, W, 3].

        Each example's chance is drawn from `key` and its `index`, uint32 [N], its place in the stream of training.
        """
        if self.flip:
            mirror = jax.vmap(lambda i: jax.random.bernoulli(jax.random.fold_in(key, i)))(index)
            images = jnp.where(mirror[:, None, None, None], images[:, :, ::-1], images)
        return self.evaluate(images)
