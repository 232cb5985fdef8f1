"""Network in Network on CIFAR-10, and on ImageNet.

Paper: Lin, Chen and Yan, "Network In Network", 2013, https://arxiv.org/abs/1312.4400

  python main.py --config=configs/nin.py --workdir=/data/nin                        `cifar10`, images as they are
  python main.py --config=configs/nin.py:cifar10_augmented --workdir=/data/nin_aug  shifted and mirrored
  python main.py --config=configs/nin.py:imagenet --workdir=/data/nin_imagenet      Caffe's model zoo, not the paper

The paper states: batches of 128, dropout, weight decay; a learning rate that is lowered by 10 twice, when training
stops improving (from memory, unverified); global contrast normalisation and ZCA whitening as in Maxout networks;
"augmented" is translation and mirroring. Hardware is not given.

It leaves the numbers to the author's code (github.com/mavenlin/cuda-convnet, NIN/ and README): 200 epochs, then 30 and
30 more at a tenth each; momentum 0.9 of updates; a rate of 0.1 for weights, 0.01 for those of cccp6, 0.2 for biases; a
decay of 1e-5 an update, which is lambda = 1e-4 at that rate. Of our choice: shifts of up to 4 pixels; that biases do
not decay.

`imagenet` is nin_imagenet of Caffe's model zoo: crops of 224, mirrored, batch 64, rate 0.01, a tenth every 200,000
steps, 450,000 steps, weight decay 5e-4, biases twice as fast and without decay. The rates and lengths were seen in
excerpts of its solver only. It took four to five days on one Titan.

Not reproduced: the mean image of `imagenet` (a mean colour is subtracted) and Caffe's squashing of images to 256x256;
the paper's stopping rule; its CIFAR-100, whose code has another initialisation and another rate
(--config.data.name=cifar100 trains this one on it). For a larger batch: --config.train.batch_size=512
--config.schedule.scale_from=128 (64 for `imagenet`). `modern` and `smoke` may follow: `:imagenet,smoke`.

Published, error: CIFAR-10 10.41 %, augmented 8.81 %, on its test set; `imagenet` 40.64 % top-1 on the validation set,
one central crop (the model zoo's page). Of this recipe nothing but single steps was run here; the network on the
digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe that `argument`, what stands behind the colon, names."""
    recipe, options = common.parse(argument, ("cifar10", "cifar10_augmented", "imagenet"))
    config = common.get_config()

    config.model.dropout = 0.5

    config.optimizer.momentum = 0.9
    config.optimizer.lr_in_momentum = True

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
        config.data.name = "cifar10"
        config.data.eval_split = "test"
        config.data.image_size = 32
        config.data.resize = 32
        config.data.crop = "central"
        config.data.whitening = "gcn_zca"
        config.data.shift = 4 if recipe == "cifar10_augmented" else 0
        config.data.flip = recipe == "cifar10_augmented"
        config.train.batch_size = 128
        config.train.epochs = 260.0
        config.optimizer.weight_decay = 1e-4
        config.optimizer.lr_multipliers = ((r"^cccp6/.*kernel$", 0.1), (r"bias$", 2.0))
        config.schedule.name = "piecewise"
        config.schedule.base_lr = 0.1
        config.schedule.boundaries = ("200 epochs", "230 epochs")
    return common.finish(config, options, smoke_size=64 if recipe == "imagenet" else 32)
