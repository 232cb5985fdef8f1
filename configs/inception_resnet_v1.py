"""Inception-ResNet-v1 on ImageNet; the recipe's card is configs/inception_v4.py.

Paper: Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", 2016, https://arxiv.org/abs/1602.07261

  python main.py --config=configs/inception_resnet_v1.py --workdir=/data/inception_resnet_v1

The paper states: as for Inception-v4, 20 replicas with a Kepler GPU each; residuals are scaled by 0.1 to 0.3 before
they are added (section 3.3), which steadies training. Chosen here where it is silent: what configs/inception_v4.py
chooses; the factors 0.17, 0.10 and 0.20 of the A, B and C blocks, davidsandberg/facenet's and tf-slim's
(--config.model.residual_scale sets one for all). No weights of this network were ever released; facenet's of that name
has another head, another last block and faces to train on.

Batch 640 in parts of 32, each normalised by itself. Linear scaling: --config.schedule.scale_from=640. `modern` and
`smoke` may follow the colon.

Published, top-1 and top-5 error on the validation set: 21.3 and 5.5 % with a single crop of some 48,300 images (Table
2); on all images 19.8 and 4.6 % with 12 crops (Table 3), 18.8 and 4.3 % with 144 (Table 4). Of this recipe nothing but
single steps was run here; the network on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common, inception_v4


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe; `argument` is what stands behind the colon."""
    (options,) = common.parse(argument)
    return common.finish(inception_v4.residual_recipe_of("inception_resnet_v1"), options, smoke_size=75)
