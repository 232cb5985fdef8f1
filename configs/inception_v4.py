"""Inception-v4 on ImageNet.

Paper: Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", 2016, https://arxiv.org/abs/1602.07261, section 4

  python main.py --config=configs/inception_v4.py --workdir=/data/inception_v4          `paper`
  python main.py --config=configs/inception_v4.py:tpu --workdir=/data/inception_v4_tpu  Google's for Cloud TPU

The paper states, for its three networks alike (configs/inception_resnet_v1.py and _v2.py share this recipe): 20
replicas, a Kepler GPU each; momentum 0.9 in earlier experiments, RMSProp with decay 0.9 and epsilon 1.0 in the best; a
rate of 0.045, times 0.94 every two epochs; a running average of the parameters is evaluated. The AAAI version adds that
clipping the gradients helped.

It leaves unsaid and is chosen here: 32 images a replica, as for Inception-v3, so batches of 640 in parts of 32, each
normalised by itself; synchronous replicas; 160 epochs (its curves end between 160 and 200, from memory, unverified);
clipping at 2.0, label smoothing 0.1, images, weight decay, averages, statistics and the momentum of RMSProp as in
configs/inception_v3.py, where their sources are. No auxiliary head, as in the figures (from memory, unverified);
--config.model.aux adds tf-slim's, with its weight of 0.4. The order of 1x7 and 7x1 is the released network's:
inception_jax/models/inception_v4.py.

`tpu` (models/experimental/inception/inception_v4.py of github.com/tensorflow/tpu): batch 256 over 8 cores, a rate of
0.15 for each 256, times 0.94 every 2 epochs after a warm-up of 3, averages and statistics 0.995, no clipping, an
auxiliary head, 80,000 steps, its default, which are 16 epochs only. Its rate stands at 0.001 for the first epoch and at
a third and two thirds in the next two; here it rises linearly.

Not reproduced: crops around annotated boxes. Linear scaling, off but in `tpu`: --config.schedule.scale_from=640. On 8
devices the parts of 32 fit a batch of 512 or 768. `modern` and `smoke` may follow: `:tpu,smoke`.

Published, top-1 and top-5 error on the validation set: 20.0 and 5.0 % with a single crop of some 48,300 images (Table
2); on all images 18.7 and 4.2 % with 12 crops (Table 3), 17.7 and 3.8 % with 144 (Table 4). tf-slim's weights: 19.8 and
4.8 % with one crop. Of this recipe nothing but single steps was run here; the network on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common, inception_v3


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe that `argument`, what stands behind the colon, names."""
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
        config.train.average_decay = 0.995
        config.optimizer.clip_norm = 0.0
        config.schedule.base_lr = 0.15 / 0.94 ** (3 / 2)  # raised for what it has fallen by in the warm-up
        config.schedule.scale_from = 256
        config.schedule.warmup = "3 epochs"
    return common.finish(config, options, smoke_size=75)


def recipe_of(network: str) -> ConfigDict:
    """What the paper's three networks share: images, RMSProp and schedule as for Inception-v3, 20 replicas."""
    config = inception_v3.get_config()
    config.model = ConfigDict(
        {
            "name": network,
            "dtype": "float32",
            "width": 1.0,
            "blocks": placeholder(int),  # of each kind; the paper's numbers unless given
            "dropout": 0.2,
            "batch_norm_decay": 0.9997,
            "batch_norm_scale": True,
        }
    )
    config.train.batch_size = 20 * 32
    config.train.epochs = 160.0
    return config


def residual_recipe_of(network: str) -> ConfigDict:
    """The same with the options of the Inception-ResNets."""
    config = recipe_of(network)
    config.model.residual = True  # False: the same blocks without shortcuts
    config.model.residual_scale = placeholder(float)  # one factor for all residuals; tf-slim's three unless given
    return config
