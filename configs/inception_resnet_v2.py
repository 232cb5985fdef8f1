"""Inception-ResNet-v2 on ImageNet; the recipe's card is configs/inception_v4.py.

Paper: Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", 2016, https://arxiv.org/abs/1602.07261

  python main.py --config=configs/inception_resnet_v2.py --workdir=/data/inception_resnet_v2  (`released`)
  python main.py --config=configs/inception_resnet_v2.py:figures --workdir=/data/inception_resnet_v2_figures

The first is the released network (models/research/slim/nets/inception_resnet_v2.py of github.com/tensorflow), `figures`
the one that the paper draws, with Inception-v4's stem; how they differ: inception_jax/models/inception_resnet.py.

The paper states: as for Inception-v4, 20 replicas with a Kepler GPU each; residuals are scaled by 0.1 to 0.3 before
they are added (section 3.3): with more than 1,000 filters networks died otherwise, and neither a lower rate nor a
warm-up helped. Chosen here where it is silent: what configs/inception_v4.py chooses; the factors 0.17, 0.10 and 0.20 of
the A, B and C blocks, tf-slim's. --config.model.aux adds tf-slim's auxiliary head, with its weight of 0.4.

Batch 640 in parts of 32, each normalised by itself. Linear scaling: --config.schedule.scale_from=640. `modern` and
`smoke` may follow: `:figures,smoke`.

Published, top-1 and top-5 error on the validation set: 19.9 and 4.9 % with a single crop of some 48,300 images (Table
2); on all images 18.7 and 4.1 % with 12 crops (Table 3), 17.8 and 3.7 % with 144 (Table 4). tf-slim's weights: 19.6 and
4.7 % with one crop. Of this recipe nothing but single steps was run here; the network on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common, inception_v4


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe of the network that `argument`, what stands behind the colon, names."""
    network, options = common.parse(argument, ("released", "figures"))
    config = inception_v4.residual_recipe_of("inception_resnet_v2")
    config.model.variant = "paper" if network == "figures" else "released"
    config.model.aux = False
    return common.finish(config, options, smoke_size=75)
