"""Trains Inception-ResNet-v1 on ImageNet. configs/inception_v4.py describes the recipe that it shares.

Paper: Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", 2016, https://arxiv.org/abs/1602.07261

  python main.py --config=configs/inception_resnet_v1.py --workdir=/data/inception_resnet_v1

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:smoke`.
For another batch, with linear scaling of the learning rate: --config.schedule.base_batch_size=640.

The paper states:
- As for Inception-v4, 20 replicas with a Kepler GPU each.
- Residuals are scaled by 0.1 to 0.3 before they are added, which makes training stable (section 3.3).

The paper does not say, so it is chosen here:
- Everything that configs/inception_v4.py chooses, including batches of 640 in microbatches of 32, each with its own
  batch statistics.
- The scales of the A, B and C blocks, 0.17, 0.10 and 0.20: davidsandberg/facenet's and tf-slim's.
  --config.model.residual_scale sets one for all.

No weights of this network were ever released. Facenet's network of that name has another head and another last block,
and was trained on faces.

Not reproduced: see configs/inception_v4.py.

Published, top-1 and top-5 error on the validation set: 21.3 and 5.5 % with a single crop of about 48,300 images (Table
2); on all images 19.8 and 4.6 % with 12 crops (Table 3), 18.8 and 4.3 % with 144 (Table 4).

Run here: only single steps of this recipe. The network on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common, inception_v4


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    (options,) = common.parse(argument)
    return common.finish(inception_v4.residual_recipe_of("inception_resnet_v1"), options, smoke_size=75)
