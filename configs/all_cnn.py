"""Trains All-CNN and the networks that its paper compares it with on CIFAR-10 or CIFAR-100.

Paper: Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for Simplicity: The All Convolutional Net", 2014,
https://arxiv.org/abs/1412.6806

Variants (after the colon), default first:

  python main.py --config=configs/all_cnn.py --workdir=/data/all_cnn_c  all_cnn_c,plain,cifar10
  python main.py --config=configs/all_cnn.py:base_cnn_a --workdir=/data/base_cnn_a
  python main.py --config=configs/all_cnn.py:all_cnn_c,augmented --workdir=/data/all_cnn_c_aug
  python main.py --config=configs/all_cnn.py:augmented,cifar100 --workdir=/data/all_cnn_c_cifar100

The network is all_cnn_, base_cnn_, strided_cnn_ or conv_pool_cnn_, followed by a, b or c (Tables 1 and 2). `plain` has
no augmentation.

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:strided_cnn_b,smoke`.

The paper states (its text was reached through summaries):
- SGD with momentum 0.9 and weight decay 0.001.
- A learning rate of 0.25, 0.1, 0.05 or 0.01, the best for each network. It is divided by 10 after 200, 250 and 300 of
  350 epochs.
- Dropout of 20 % on the image, and of 50 % after each pool or the layer that replaces it.
- Contrast-normalised and whitened images, as in Maxout networks.
- "Augmented" means horizontal flips and shifts of up to 5 pixels.

The paper does not say, so it is chosen here:
- Each network's learning rate, and the batch: 0.05 and 256 for all twelve, as in a public Caffe solver
  (github.com/gfbuerger/CARLOFFF, models/ALL-CNN/solver.tpl).
- The initialisation, Glorot's. The paper does not state the hardware either.
- Biases do not decay.

Others report that smaller batches diverge at 0.05. Then set --config.schedule.base_lr=0.01, or
--config.schedule.base_batch_size=256 with another --config.train.batch_size.

Not reproduced: the choice of a learning rate for each network, by its error on the test set or on held-out images; the
network for ImageNet (section 3.4).

Published, error on CIFAR-10's test set, not augmented: A 12.47 %, Strided 13.46, ConvPool 10.21, All-CNN 10.30; B
10.20, 10.98, 9.33, 9.10; C 9.74, 10.19, 9.31, 9.08. Augmented All-CNN-C 7.25 %; CIFAR-100, augmented, 33.71 % (both
from memory, unverified).

Run here: only single steps of this recipe. All-CNN-C on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common

NETWORKS = tuple(f"{variant}_cnn_{base}" for variant in ("all", "base", "strided", "conv_pool") for base in "cba")


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    network, images, data_set, options = common.parse(
        argument, NETWORKS, ("plain", "augmented"), ("cifar10", "cifar100")
    )
    config = common.get_config()

    config.model.name = network
    config.model.dropout = 0.5
    config.model.input_dropout = 0.2
    config.model.classifier_relu = True

    config.data.name = data_set
    config.data.eval_split = "test"
    config.data.image_size = 32
    config.data.resize = 32
    config.data.crop = "central"
    config.data.whitening = "gcn_zca"
    config.data.shift = 5 if images == "augmented" else 0
    config.data.flip = images == "augmented"
    config.data.cache = "memory"

    config.train.batch_size = 256
    config.train.epochs = 350.0

    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-3

    config.schedule.name = "piecewise"
    config.schedule.base_lr = 0.05
    config.schedule.boundaries = ("200 epochs", "250 epochs", "300 epochs")
    config.schedule.rate = 0.1
    return common.finish(config, options, smoke_size=32)
