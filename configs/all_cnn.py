"""All-CNN and the networks that it is compared with, on CIFAR-10.

Paper: Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for Simplicity: The All Convolutional Net", 2014,
https://arxiv.org/abs/1412.6806

  python main.py --config=configs/all_cnn.py --workdir=/data/all_cnn_c  (`all_cnn_c,plain,cifar10`)
  python main.py --config=configs/all_cnn.py:base_cnn_a --workdir=/data/base_cnn_a
  python main.py --config=configs/all_cnn.py:all_cnn_c,augmented --workdir=/data/all_cnn_c_aug
  python main.py --config=configs/all_cnn.py:augmented,cifar100 --workdir=/data/all_cnn_c_cifar100

with base_cnn_, strided_cnn_, conv_pool_cnn_ or all_cnn_ before a, b or c (Tables 1 and 2); `plain` takes images as they
are.

The paper states: SGD with momentum 0.9; a learning rate out of 0.25, 0.1, 0.05 and 0.01, the best for each network, a
tenth of it after 200, 250 and 300 of 350 epochs; weight decay 0.001; dropout of 20 % on the image and 50 % after each
pool or what replaces it; contrast-normalised and whitened images, as in Maxout networks; "augmented" is mirroring and
shifts of up to 5 pixels. (The text was reached through summaries.)

It leaves unsaid: which rate each network had, the batch, the initialisation, the hardware. Chosen here: 0.05 for all
twelve and batches of 256, as in a public Caffe solver (github.com/gfbuerger/CARLOFFF, models/ALL-CNN/solver.tpl);
Glorot's initialisation; that biases do not decay. Others report that smaller batches diverge at 0.05; then
--config.schedule.base_lr=0.01, or --config.schedule.scale_from=256 with another --config.train.batch_size. The choice
of a rate for each network, by its error on the test set or on images held out, is not reproduced.

`modern` and `smoke` may follow: `:strided_cnn_b,smoke`. The network for ImageNet (section 3.4) is not among ours.

Published, error on CIFAR-10's test set, not augmented: A 12.47 %, Strided 13.46, ConvPool 10.21, All-CNN 10.30; B
10.20, 10.98, 9.33, 9.10; C 9.74, 10.19, 9.31, 9.08. Augmented All-CNN-C 7.25 %; CIFAR-100, augmented, 33.71 % (both
from memory, unverified). Of this recipe nothing but single steps was run here; All-CNN-C on the digits:
configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common

NETWORKS = tuple(f"{variant}_cnn_{base}" for variant in ("all", "base", "strided", "conv_pool") for base in "cba")


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe of the network and data that `argument`, what stands behind the colon, names."""
    network, images, data_set, options = common.parse(
        argument, NETWORKS, ("plain", "augmented"), ("cifar10", "cifar100")
    )
    config = common.get_config()

    config.model.name = network
    config.model.dropout = 0.5
    config.model.input_dropout = 0.2

    config.data.name = data_set
    config.data.eval_split = "test"
    config.data.image_size = 32
    config.data.resize = 32
    config.data.crop = "central"
    config.data.whitening = "gcn_zca"
    config.data.shift = 5 if images == "augmented" else 0
    config.data.flip = images == "augmented"

    config.train.batch_size = 256
    config.train.epochs = 350.0

    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-3

    config.schedule.name = "piecewise"
    config.schedule.base_lr = 0.05
    config.schedule.boundaries = ("200 epochs", "250 epochs", "300 epochs")
    config.schedule.rate = 0.1
    return common.finish(config, options, smoke_size=32)
