"""Trains Inception-v2, the first rung of Inception-v3, on ImageNet. configs/inception_v3.py describes the recipe.

Paper: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015,
https://arxiv.org/abs/1512.00567, Table 3

  python main.py --config=configs/inception_v2.py --workdir=/data/inception_v2

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:smoke`.

The paper states:
- Images of 299x299, a 7x7 convolution first, and no batch normalisation in the auxiliary head's dense layer.
- SGD with momentum, without label smoothing. Batches of 50 replicas with 32 images and a Kepler GPU each.

The paper does not say, so it is chosen here: its weights were never released, so the modules are those of the released
Inception-v3 (inception_jax/models/inception_v3.py). tf-slim gives the same name to BN-Inception: see
configs/bn_inception.py.

Not reproduced: see configs/inception_v3.py.

Published, single crop on 48,238 validation images: 23.4 % top-1 error.

Run here: only single steps of this recipe. The network on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import inception_v3


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    return inception_v3.get_config(f"v2,{argument}")
