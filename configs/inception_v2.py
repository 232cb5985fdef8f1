"""Inception-v2 of the Rethinking paper on ImageNet: the first rung of configs/inception_v3.py, where its card is.

Paper: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015,
https://arxiv.org/abs/1512.00567, Table 3

  python main.py --config=configs/inception_v2.py --workdir=/data/inception_v2

It is the network for images of 299x299 with a 7x7 convolution first and no batch normalisation in the auxiliary head's
dense layer, trained by SGD with momentum and without label smoothing. It was never released; the modules are those of
the released Inception-v3 (inception_jax/models/inception_v3.py). tf-slim gives the same name to BN-Inception, see
configs/bn_inception.py. The paper's batch was 50 replicas of 32 images, one Kepler GPU each.

`modern` and `smoke` may follow the colon. Published, single crop on 48,238 validation images: 23.4 % top-1 error. Of
this recipe nothing but single steps was run here; the network on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import inception_v3


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe; `argument` is what stands behind the colon."""
    return inception_v3.get_config(f"v2,{argument}")
