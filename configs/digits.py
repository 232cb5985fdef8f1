"""Trains a small network of any kind on the 1,797 handwritten digits that scikit-learn ships; GoogLeNet's is the demo.

Variants (after the colon), default first:

  python main.py --config=configs/digits.py --workdir=runs/digits                  googlenet, two minutes on two cores
  python main.py --config=configs/digits.py:inception_v3 --workdir=runs/digits_v3  or another network of the table below

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:vgg_a,smoke`.

These recipes come from no paper. They use the same code as those for ImageNet: a TFDS data set as ArrayRecord,
decoding, crops, auxiliary heads and the EMA of the weights. All values are chosen here:
- Fewer filters, and less dropout in narrow layers. Images of 8x8 are enlarged.
- Label smoothing and a cosine schedule.
- Milder crops and no flips.
- Batch normalisation in place of LRN in GoogLeNet.
- One module of each kind in Inception-v2 to v4, two in the Inception-ResNets; the papers have up to twenty.
- LeNet-5 has its own criterion and range of input (configs/lenet5.py).
- Networks with weak initial weights get a stronger input. At the extreme, only a mean is subtracted from the pixels, as
  in their papers.

Two comparisons that papers make:
- `inception` is `bn_inception` without batch normalisation, as in configs/bn_inception.py. It has LRN, 40 % dropout, a
  stronger input and a fifth of the learning rate.
- `googlenet_no_aux` is `googlenet` without its auxiliary heads.

Run here: see the measurements in docs/results.md.
"""

import copy
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common


class SmallNetwork(NamedTuple):
    """How a small network is built and trained."""

    size: int  # height and width of its images
    options: dict[str, Any]  # keys of config.model
    optimizer: str = "sgd"
    base_lr: float = 0.1
    epochs: float = 14.0
    mean: float = 127.5
    std: float = 127.5
    area: float = 0.6  # smallest fraction of an image that a crop covers
    network: str = ""  # its name, if not the key of `NETWORKS`


BATCH_NORM = {"batch_norm_decay": 0.9}  # a run has only a few hundred steps
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
    **BATCH_NORM,
}
BN_INCEPTION = {"norm": "batch", "lrn": False, "activation": "relu", "dropout": 0.0, "width": 0.25, **BATCH_NORM}
PLAIN = BN_INCEPTION | {"norm": "none", "lrn": True, "dropout": 0.4}
ALEXNET = {"lrn": True, "overlapping_pools": True, "width": 0.25, "dropout": 0.2}
NIN = {"mlpconv": True, "width": 0.5, "dropout": 0.2, "classifier_relu": True}
ALL_CNN = {"width": 0.5, "dropout": 0.2, "input_dropout": 0.0, "classifier_relu": True}
RESIDUAL = {"width": 0.125, "blocks": 2, "residual": True, "residual_scale": placeholder(float), **BATCH_NORM}
SHALLOW = {"width": 0.25, "blocks": 1, **BATCH_NORM}

# fmt: off
NETWORKS = {
    "googlenet": SmallNetwork(64, GOOGLENET),
    "googlenet_no_aux": SmallNetwork(64, GOOGLENET | {"aux": False}, network="googlenet"),
    "lenet5": SmallNetwork(32, {}, "adamw", 0.01, 60.0, mean=20.0, std=200.0, area=0.8),
    "lenet5_modern": SmallNetwork(32, {}, "adamw", 3e-3),
    "alexnet": SmallNetwork(64, ALEXNET, "adamw", 1e-3, std=1.0),
    "zfnet": SmallNetwork(64, {"width": 0.25, "dropout": 0.2}, "adamw", 1e-3, 20.0, std=1.0),
    "vgg_a": SmallNetwork(32, {"init": "glorot", "width": 0.125, "dropout": 0.2}, "adamw", 3e-3, std=12.75),
    "nin_cifar10": SmallNetwork(16, NIN, "adamw", 1e-3, 20.0, std=12.75),
    "all_cnn_c": SmallNetwork(16, ALL_CNN, "adamw", 1e-3, 20.0, std=12.75),
    "bn_inception": SmallNetwork(64, BN_INCEPTION, "adamw", 5e-3, 20.0),
    "inception": SmallNetwork(64, PLAIN, "adamw", 1e-3, 20.0, std=12.75, network="bn_inception"),
    "inception_v2": SmallNetwork(75, SHALLOW, "lamb", 0.01),
    "inception_v3": SmallNetwork(75, SHALLOW | {"bn_auxiliary": True}, "lamb", 0.01),
    "inception_v4": SmallNetwork(75, SHALLOW, "lamb", 0.01),
    "inception_resnet_v1": SmallNetwork(75, RESIDUAL),
    "inception_resnet_v2": SmallNetwork(75, RESIDUAL, "lamb", 0.01),
    "resnet50": SmallNetwork(32, {"width": 0.25, **BATCH_NORM}, "lamb", 0.01, 20.0),
}
# fmt: on


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    name, options = common.parse(argument, tuple(NETWORKS))
    return common.finish(recipe_of(name), options, smoke_size=NETWORKS[name].size)


def recipe_of(name: str) -> ConfigDict:
    """Returns the recipe of `NETWORKS[name]` on the digits."""
    small = NETWORKS[name]
    network = small.network or name
    config = common.get_config()

    config.model.name = network
    config.model.update(copy.deepcopy(small.options))  # two configs must not share a placeholder

    config.data.name = "digits"
    config.data.eval_split = "test"
    config.data.image_size = small.size
    config.data.resize = small.size
    config.data.area = (small.area, 1.0)
    config.data.flip = False
    config.data.cache = "memory"
    config.data.mean = (small.mean,) * 3
    config.data.std = (small.std,) * 3

    config.train.batch_size = 64
    config.train.epochs = small.epochs
    config.train.ema_decay = 0.95
    config.train.label_smoothing = 0.1
    if network in ("inception_v2", "inception_v3"):
        config.train.aux_weights = ConfigDict({"aux": 0.4})

    config.optimizer.name = small.optimizer
    config.optimizer.weight_decay = 1e-3

    config.schedule.name = "cosine"
    config.schedule.base_lr = small.base_lr
    config.schedule.warmup = "1 epoch"

    if network in ("lenet5", "lenet5_modern"):
        config.data.channels = 1
    if network == "lenet5":
        config.train.loss = "map"
        config.train.label_smoothing = 0.0

    config.eval.every = "20 steps" if network == "bn_inception" else "3.5 epochs"  # compared step by step
    config.eval.batch_size = 120  # three batches
    config.checkpoint.every = "3.5 epochs"
    config.log.every = "10 steps"
    return config
