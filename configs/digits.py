"""Every kind of network, made small, on the 1,797 handwritten digits that scikit-learn ships; GoogLeNet's is the demo.

  python main.py --config=configs/digits.py --workdir=runs/digits                  `googlenet`, two minutes on two cores
  python main.py --config=configs/digits.py:inception_v3 --workdir=runs/digits_v3  or another network of the table below

All go the way of ImageNet (prepared by TFDS as ArrayRecord, decoded, cropped, trained with their auxiliary heads,
averaged weights), but these are no recipes of the papers, and all values are our own choice: fewer filters, images of
8x8 enlarged, batch normalisation in place of LRN in GoogLeNet, label smoothing, a cosine schedule, milder crops, no
mirroring, less dropout in narrow layers; of each kind of module one in Inception-v2 to v4 and two in the
Inception-ResNets, where the papers have up to twenty. LeNet-5 has its own criterion and range of input
(configs/lenet5.py); networks whose initial weights are weak get stronger input, in the extreme pixels from which a mean
is subtracted, as in their papers.

Two comparisons that papers make: `inception` is `bn_inception` without batch normalisation, as
configs/bn_inception.py has it, with LRN, dropout of 40 %, stronger input and a fifth of the rate; `googlenet_no_aux` is
`googlenet` without its auxiliary heads.

`modern` and `smoke` may follow: `:vgg_a,smoke`. What was measured stands in docs/results.md.
"""

import copy
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common


class Row(NamedTuple):
    """How a network is made small and trained."""

    size: int  # of its images
    options: dict[str, Any]  # of the network
    optimizer: str = "sgd"
    base_lr: float = 0.1
    epochs: float = 14.0
    mean: float = 127.5
    std: float = 127.5
    area: float = 0.6  # least share of an image that a crop covers
    network: str = ""  # where the argument is not its name


STATISTICS = {"batch_norm_decay": 0.9}  # a run has some hundred steps only
GOOGLENET = {
    "module": "reduced",
    "stem": "convolution",
    "norm": "batch",
    "early_reduction": 4,
    "reduction_width": placeholder(float),
    "top": "average",
    "aux": True,
    "bn_auxiliary": False,
    "dropout": 0.4,
    "aux_dropout": 0.7,
    "width": 0.25,
    **STATISTICS,
}
BN_INCEPTION = {"norm": "batch", "lrn": False, "activation": "relu", "dropout": 0.0, "width": 0.25, **STATISTICS}
PLAIN = BN_INCEPTION | {"norm": "none", "lrn": True, "dropout": 0.4}
RESIDUAL = {"width": 0.125, "blocks": 2, "residual": True, "residual_scale": placeholder(float), **STATISTICS}
SHALLOW = {"width": 0.25, "blocks": 1, **STATISTICS}

# fmt: off
NETWORKS = {
    "googlenet": Row(64, GOOGLENET),
    "googlenet_no_aux": Row(64, GOOGLENET | {"aux": False}, network="googlenet"),
    "lenet5": Row(32, {}, "adamw", 0.01, 60.0, mean=20.0, std=200.0, area=0.8),
    "lenet5_modern": Row(32, {}, "adamw", 3e-3),
    "alexnet": Row(64, {"lrn": True, "overlapping_pools": True, "width": 0.25, "dropout": 0.2}, "adamw", 1e-3, std=1.0),
    "zfnet": Row(64, {"width": 0.25, "dropout": 0.2}, "adamw", 1e-3, 20.0, std=1.0),
    "vgg_a": Row(32, {"init": "glorot", "width": 0.125, "dropout": 0.2}, "adamw", 3e-3, std=12.75),
    "nin_cifar10": Row(16, {"mlpconv": True, "width": 0.5, "dropout": 0.2}, "adamw", 1e-3, 20.0, std=12.75),
    "all_cnn_c": Row(16, {"width": 0.5, "dropout": 0.2, "input_dropout": 0.0}, "adamw", 1e-3, 20.0, std=12.75),
    "bn_inception": Row(64, BN_INCEPTION, "adamw", 5e-3, 20.0),
    "inception": Row(64, PLAIN, "adamw", 1e-3, 20.0, std=12.75, network="bn_inception"),
    "inception_v2": Row(75, SHALLOW, "lamb", 0.01),
    "inception_v3": Row(75, SHALLOW | {"bn_auxiliary": True}, "lamb", 0.01),
    "inception_v4": Row(75, SHALLOW, "lamb", 0.01),
    "inception_resnet_v1": Row(75, RESIDUAL),
    "inception_resnet_v2": Row(75, RESIDUAL, "lamb", 0.01),
    "resnet50": Row(32, {"width": 0.25, **STATISTICS}, "lamb", 0.01, 20.0),
}
# fmt: on


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe of the network that `argument`, what stands behind the colon, names."""
    name, options = common.parse(argument, tuple(NETWORKS))
    return common.finish(recipe_of(name), options, smoke_size=NETWORKS[name].size)


def recipe_of(name: str) -> ConfigDict:
    """The recipe of that row of `NETWORKS`, on the digits."""
    row = NETWORKS[name]
    network = row.network or name
    config = common.get_config()

    config.model.name = network
    config.model.update(copy.deepcopy(row.options))  # a placeholder is of one config alone

    config.data.name = "digits"
    config.data.eval_split = "test"
    config.data.image_size = row.size
    config.data.resize = row.size
    config.data.area = (row.area, 1.0)
    config.data.flip = False
    config.data.mean = (row.mean,) * 3
    config.data.std = (row.std,) * 3

    config.train.batch_size = 64
    config.train.epochs = row.epochs
    config.train.average_decay = 0.95
    config.train.label_smoothing = 0.1
    if network in ("inception_v2", "inception_v3"):
        config.train.aux_weights = ConfigDict({"aux": 0.4})

    config.optimizer.name = row.optimizer
    config.optimizer.weight_decay = 1e-3

    config.schedule.name = "cosine"
    config.schedule.base_lr = row.base_lr
    config.schedule.warmup = "1 epoch"

    if network in ("lenet5", "lenet5_modern"):
        config.data.channels = 1
    if network == "lenet5":
        config.train.loss = "map"
        config.train.label_smoothing = 0.0

    config.eval.every = "20 steps" if network == "bn_inception" else "3.5 epochs"  # steps are compared
    config.eval.batch_size = 120  # three batches
    config.checkpoint.every = "3.5 epochs"
    config.log.every = "10 steps"
    return config
