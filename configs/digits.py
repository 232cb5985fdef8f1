"""Every kind of network, made small, on the 1,797 handwritten digits that scikit-learn ships: GoogLeNet's is the demo.

  python main.py --config=configs/digits.py --workdir=runs/digits                       GoogLeNet, two minutes on two cores
  python main.py --config=configs/digits.py:inception_v3 --workdir=runs/digits_v3       or another network of the table

All go the way of ImageNet (prepared by TFDS as ArrayRecord, decoded, cropped, trained with their auxiliary heads, averaged
weights), but these are no recipes of the papers: fewer filters, images of 8x8 enlarged, batch normalisation in place of
LRN in GoogLeNet, label smoothing, a cosine schedule, milder crops, no mirroring. Everything in the table is our own
choice. Networks with batch normalisation are trained by momentum SGD, the others by AdamW, whose steps do not shrink with
the gradients of narrow layers; LeNet-5 has its own criterion and its range of input, and AlexNet, ZFNet and VGG start from
normalised input with He's... 

`modern` and `smoke` may follow: `:vgg_a,smoke`.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import common


class Row(NamedTuple):
    """How a network is made small and trained."""

    size: int  # of its images
    options: dict[str, Any]  # of the network
    optimizer: str = "sgd"
    base_lr: float = 0.1
    epochs: float = 14.0


BATCH_NORM = {"batch_norm_decay": 0.9}  # a run has some hundred steps only

NETWORKS = {
    # The demo. All its options are named, so that the command line can set them.
    "googlenet": Row(
        64,
        {
            "module": "reduced",
            "stem": "convolution",
            "norm": "batch",
            "aux": True,
            "dropout": 0.4,
            "aux_dropout": 0.7,
            "width": 0.25,
            **BATCH_NORM,
        },
    ),
    "lenet5": Row(32, {}, "adamw", 3e-3),
    "lenet5_modern": Row(32, {}, "adamw", 3e-3),
    "alexnet": Row(64, {"width": 0.25}, "adamw", 1e-3),
    "zfnet": Row(64, {"width": 0.25}, "adamw", 1e-3),
    "vgg_a": Row(32, {"width": 0.25}, "adamw", 1e-3),
    "nin_cifar10": Row(32, {"width": 0.5}, "adamw", 1e-3),
    "all_cnn_c": Row(32, {"width": 0.5}, "adamw", 1e-3),
    "bn_inception": Row(64, {"width": 0.25, **BATCH_NORM}),
    "inception_v2": Row(75, {"width": 0.25, **BATCH_NORM}),
    "inception_v3": Row(75, {"width": 0.25, **BATCH_NORM}),
    "inception_v4": Row(75, {"width": 0.25, **BATCH_NORM}),
    "inception_resnet_v1": Row(75, {"width": 0.25, **BATCH_NORM}),
    "inception_resnet_v2": Row(75, {"width": 0.25, **BATCH_NORM}),
    "resnet50": Row(32, {"width": 0.25, **BATCH_NORM}),
}


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe of the network that `argument`, what stands behind the colon, names."""
    network, options = common.parse(argument, tuple(NETWORKS))
    return common.finish(recipe_of(network, NETWORKS[network]), options, smoke_size=NETWORKS[network].size)


def recipe_of(network: str, row: Row) -> ConfigDict:
    """The recipe of `network`, made small as `row` says, on the digits."""
    config = common.get_config()

    config.model.name = network
    config.model.update(row.options)

    config.data.name = "digits"
    config.data.eval_split = "test"
    config.data.image_size = row.size
    config.data.resize = row.size
    config.data.area = (0.6, 1.0)
    config.data.flip = False
    config.data.mean = (127.5,) * 3
    config.data.std = (127.5,) * 3

    config.train.batch_size = 64
    config.train.epochs = row.epochs
    config.train.average_decay = 0.95
    config.train.label_smoothing = 0.1
    if network.startswith("inception_"):  # the names of its auxiliary head, where it has one
        config.train.aux_weights = ConfigDict({"aux": 0.4})

    config.optimizer.name = row.optimizer
    config.optimizer.weight_decay = 1e-3

    config.schedule.name = "cosine"
    config.schedule.base_lr = row.base_lr
    config.schedule.warmup = "1 epoch"

    if network.startswith("lenet5"):
        config.data.channels = 1
    if network == "lenet5":
        config.data.mean = (20.0,) * 3  # the range of its paper, see configs/lenet5.py
        config.data.std = (200.0,) * 3
        config.train.loss = "map"
        config.train.label_smoothing = 0.0

    config.eval.every = "3.5 epochs"
    config.eval.batch_size = 120  # three batches
    config.checkpoint.every = "3.5 epochs"
    config.log.every = "10 steps"
    return config
