"""Trains Inception-ResNet-v2 on ImageNet. configs/inception_v4.py describes the recipe that it shares.

Paper: Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", 2016, https://arxiv.org/abs/1602.07261

Variants (after the colon), default first:

  python main.py --config=configs/inception_resnet_v2.py --workdir=/data/inception_resnet_v2  released
  python main.py --config=configs/inception_resnet_v2.py:figures --workdir=/data/inception_resnet_v2_figures

`released` is the released network (models/research/slim/nets/inception_resnet_v2.py of github.com/tensorflow).
`figures` is the network that the paper draws, with Inception-v4's stem. inception_jax/models/inception_resnet.py says
how they differ.

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:figures,smoke`.
For another batch, with linear scaling of the learning rate: --config.schedule.base_batch_size=640.

The paper states:
- As for Inception-v4, 20 replicas with a Kepler GPU each.
- Residuals are scaled by 0.1 to 0.3 before they are added (section 3.3). Without it networks with more than 1,000
  filters died; neither a lower learning rate nor a warm-up helped.

The paper does not say, so it is chosen here:
- Everything that configs/inception_v4.py chooses, including batches of 640 in microbatches of 32, each with its own
  batch statistics.
- The scales of the A, B and C blocks, 0.17, 0.10 and 0.20: tf-slim's.
- No auxiliary head. --config.model.aux adds tf-slim's, with its weight of 0.4.

Not reproduced: see configs/inception_v4.py.

Published, top-1 and top-5 error on the validation set: 19.9 and 4.9 % with a single crop of about 48,300 images (Table
2); on all images 18.7 and 4.1 % with 12 crops (Table 3), 17.8 and 3.7 % with 144 (Table 4). tf-slim's weights: 19.6 and
4.7 % with one crop.

Run here: only single steps of this recipe. The network on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common, inception_v4


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    network, options = common.parse(argument, ("released", "figures"))
    config = inception_v4.residual_recipe_of("inception_resnet_v2")
    config.model.variant = "paper" if network == "figures" else "released"
    config.model.aux = False
    return common.finish(config, options, smoke_size=75)
