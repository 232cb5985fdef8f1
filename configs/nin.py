"""Trains Network in Network on CIFAR-10 or ImageNet.

Paper: Lin, Chen and Yan, "Network In Network", 2013, https://arxiv.org/abs/1312.4400

Variants (after the colon), default first:

  python main.py --config=configs/nin.py --workdir=/data/nin                        cifar10: no augmentation
  python main.py --config=configs/nin.py:cifar10_augmented --workdir=/data/nin_aug  shifts and flips
  python main.py --config=configs/nin.py:imagenet --workdir=/data/nin_imagenet      Caffe's model zoo, not the paper

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:imagenet,smoke`.
For a larger batch: --config.train.batch_size=512 --config.schedule.base_batch_size=128 (64 for `imagenet`).

The paper states:
- Batches of 128, dropout and weight decay. It does not state the hardware.
- The learning rate is divided by 10 twice, when training stops improving (from memory, unverified).
- Global contrast normalisation and ZCA whitening, as in Maxout networks.
- "Augmented" means translation and horizontal flips.

The paper does not say, so it is taken from the author's code (github.com/mavenlin/cuda-convnet, NIN/ and README):
- 200 epochs, then 30 and 30 more, each time with a tenth of the learning rate.
- Momentum 0.9, accumulated over updates.
- A learning rate of 0.1 for weights, 0.01 for the weights of cccp6, and 0.2 for biases.
- A decay of 1e-5 in each update, which is lambda = 1e-4 at that learning rate.

Chosen here: shifts of up to 4 pixels; biases do not decay.

`imagenet` follows nin_imagenet of Caffe's model zoo, which took four to five days on one Titan:
- Crops of 224, flipped; batch 64; 450,000 steps; weight decay 5e-4.
- A learning rate of 0.01, divided by 10 every 200,000 steps. Biases have twice that rate and do not decay.
- The learning rates and lengths are from excerpts of its solver; the whole file was not seen.

Not reproduced:
- `imagenet`: the mean image (a mean colour is subtracted) and Caffe's squashing of images to 256x256.
- The paper's stopping rule.
- The paper's CIFAR-100, whose code has another initialisation and another learning rate. --config.data.name=cifar100
  trains this network on it.

Published, error: CIFAR-10 10.41 %, augmented 8.81 %, on its test set; `imagenet` 40.64 % top-1 on the validation set,
one central crop (the model zoo's page).

Run here: only single steps of this recipe. The network on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    recipe, options = common.parse(argument, ("cifar10", "cifar10_augmented", "imagenet"))
    config = common.get_config()

    config.model.dropout = 0.5

    config.optimizer.momentum = 0.9
    config.optimizer.caffe_momentum = True

    config.schedule.rate = 0.1

    if recipe == "imagenet":
        config.model.name = "nin_imagenet"
        config.data.name = "imagenet2012"
        config.data.crop = "square"
        config.train.batch_size = 64
        config.train.examples = 450_000 * 64
        config.optimizer.weight_decay = 5e-4
        config.optimizer.lr_multipliers = ((r"bias$", 2.0),)
        config.schedule.name = "exponential"
        config.schedule.base_lr = 0.01
        config.schedule.every = f"{200_000 * 64} examples"
    else:
        config.model.name = "nin_cifar10"
        config.model.mlpconv = True  # False: linear convolutions
        config.model.classifier_relu = True
        config.data.name = "cifar10"
        config.data.eval_split = "test"
        config.data.image_size = 32
        config.data.resize = 32
        config.data.crop = "central"
        config.data.whitening = "gcn_zca"
        config.data.shift = 4 if recipe == "cifar10_augmented" else 0
        config.data.flip = recipe == "cifar10_augmented"
        config.data.cache = "memory"
        config.train.batch_size = 128
        config.train.epochs = 260.0
        config.optimizer.weight_decay = 1e-4
        config.optimizer.lr_multipliers = ((r"^cccp6/.*kernel$", 0.1), (r"bias$", 2.0))
        config.schedule.name = "piecewise"
        config.schedule.base_lr = 0.1
        config.schedule.boundaries = ("200 epochs", "230 epochs")
    return common.finish(config, options, smoke_size=64 if recipe == "imagenet" else 32)
