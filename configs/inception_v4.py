"""Trains Inception-v4 on ImageNet. configs/inception_resnet_v1.py and _v2.py share its recipe.

Paper: Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", 2016, https://arxiv.org/abs/1602.07261, section 4

Variants (after the colon), default first:

  python main.py --config=configs/inception_v4.py --workdir=/data/inception_v4          paper: the paper's recipe
  python main.py --config=configs/inception_v4.py:tpu --workdir=/data/inception_v4_tpu  tpu: Google's for Cloud TPU

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:tpu,smoke`.
For another batch, with linear scaling of the learning rate (only `tpu` has it): --config.schedule.base_batch_size=640.
On 8 devices microbatches of 32 need a batch of 512 or 768.

The paper states, for its three networks alike:
- 20 replicas with a Kepler GPU each.
- Momentum 0.9 in earlier experiments; in the best ones RMSProp with decay 0.9 and epsilon 1.0.
- A learning rate of 0.045, multiplied by 0.94 every two epochs.
- A running average of the parameters is evaluated. The AAAI version adds that clipping the gradients helped.

The paper does not say, so it is chosen here:
- 32 images on each replica, as for Inception-v3: batches of 640 in microbatches of 32, each with its own batch
  statistics. The replicas are synchronous.
- 160 epochs: the paper's curves end between 160 and 200 (from memory, unverified).
- Clipping at 2.0, label smoothing 0.1, images, weight decay, EMA, batch statistics and the momentum of RMSProp as in
  configs/inception_v3.py, which has their sources.
- No auxiliary head, as in the figures (from memory, unverified). --config.model.aux adds tf-slim's, with its weight of
  0.4.
- The order of 1x7 and 7x1 is the released network's: see inception_jax/models/inception_v4.py.

`tpu` follows models/experimental/inception/inception_v4.py of github.com/tensorflow/tpu:
- Batch 256 over 8 cores for 80,000 steps, its default, which are only 16 epochs.
- A learning rate of 0.15 for each 256 images, multiplied by 0.94 every 2 epochs after a warm-up of 3.
- In its warm-up the learning rate is 0.001 for one epoch, then a third and two thirds of its value. Here it rises
  linearly.
- Decay of the EMA and of the batch statistics 0.995; no clipping; an auxiliary head.

Not reproduced: crops around annotated boxes.

Published, top-1 and top-5 error on the validation set: 20.0 and 5.0 % with a single crop of about 48,300 images (Table
2); on all images 18.7 and 4.2 % with 12 crops (Table 3), 17.7 and 3.8 % with 144 (Table 4). tf-slim's weights: 19.8 and
4.8 % with one crop.

Run here: only single steps of this recipe. The network on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common, inception_v3


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    recipe, options = common.parse(argument, ("paper", "tpu"))
    config = recipe_of("inception_v4")
    config.model.order = "released"  # "figures"
    config.model.aux = recipe == "tpu"

    if recipe == "tpu":
        config.model.batch_norm_decay = 0.995
        config.model.batch_norm_scale = False
        config.train.batch_size = 256
        config.train.epochs = 0.0
        config.train.examples = 80_000 * 256
        config.train.ema_decay = 0.995
        config.optimizer.clip_norm = 0.0
        config.schedule.base_lr = 0.15 / 0.94 ** (3 / 2)  # makes up for the falls during the warm-up
        config.schedule.base_batch_size = 256
        config.schedule.warmup = "3 epochs"
    return common.finish(config, options, smoke_size=75)


def recipe_of(network: str) -> ConfigDict:
    """Returns the recipe that the paper's three networks share: Inception-v3's, with 20 replicas and 160 epochs."""
    config = inception_v3.get_config()
    config.model = ConfigDict(
        {
            "name": network,
            "dtype": "float32",
            "width": 1.0,
            "blocks": placeholder(int),  # of each kind; default: the paper's numbers
            "dropout": 0.2,
            "batch_norm_decay": 0.9997,
            "batch_norm_scale": True,
        }
    )
    config.train.batch_size = 20 * 32
    config.train.epochs = 160.0
    return config


def residual_recipe_of(network: str) -> ConfigDict:
    """Returns the shared recipe with the options of the Inception-ResNets."""
    config = recipe_of(network)
    config.model.residual = True  # False: the same blocks without shortcuts
    config.model.residual_scale = placeholder(float)  # one factor for all residuals; default: tf-slim's three
    return config
