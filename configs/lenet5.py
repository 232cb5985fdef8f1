"""Trains LeNet-5 on MNIST.

Paper: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998,
http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf

Variants (after the colon), default first:

  python main.py --config=configs/lenet5.py --workdir=/data/lenet5            original: network and criterion of 1998
  python main.py --config=configs/lenet5.py:relu --workdir=/data/lenet5_relu  relu: as it is taught today

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:relu,smoke`.
For a larger batch of `relu`: --config.train.batch_size=512 --config.schedule.base_batch_size=64.

The paper states:
- Digits of 20x20, centred by mass in a field of 28x28, which is centred in one of 32x32.
- Background -0.1 and foreground 1.175, so that the mean is about 0 and the variance about 1.
- One update for each image, without momentum; 20 passes over 60,000 images on one workstation CPU.
- Stochastic diagonal Levenberg-Marquardt with a step of 5e-4 for two passes, 2e-4 for three, 1e-4 for three, 5e-5 for
  four, then 1e-5.
- RBF outputs with fixed targets, and the MAP criterion (its form, and mu = 0.02, from memory, unverified).

The paper does not say, so it is chosen here: the constant of the MAP criterion, see `map_criterion` in
inception_jax/training/losses.py.

Not reproduced: the diagonal curvature h, which gives every weight its own learning rate, step / (mu + h). Here all
weights have one learning rate:
- It starts at 1e-3, the geometric mean of 7e-5 and 0.016, the range of learning rates that the paper reports (from
  memory, unverified).
- It falls when the paper's step falls, after passes 2, 5, 8 and 12, by a factor of 50 in all. Here each fall is by the
  same factor; the paper has 2.5, 2, 2 and 5.

`relu` is chosen here throughout: the network of 61,706 parameters with ReLU and max-pools, softmax, batches of 64,
momentum and a cosine schedule.

Published, error on MNIST's 10,000 test images: 0.95 % without distortions, 0.8 % with (from memory, unverified).

Run here: only single steps of this recipe. The networks on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    recipe, options = common.parse(argument, ("original", "relu"))
    config = common.get_config()

    config.data.name = "mnist"
    config.data.eval_split = "test"
    config.data.channels = 1
    config.data.image_size = 32
    config.data.resize = 28  # MNIST's own size; centred in 32
    config.data.crop = "central"
    config.data.flip = False
    config.data.cache = "memory"
    config.data.mean = (20.0,) * 3  # the background, 0, becomes -0.1 and the foreground, 255, becomes 1.175
    config.data.std = (200.0,) * 3

    config.train.epochs = 20.0

    if recipe == "original":
        config.model.name = "lenet5"
        config.train.batch_size = 1
        config.train.loss = "map"
        config.optimizer.momentum = 0.0
        config.schedule.name = "piecewise"
        config.schedule.base_lr = 1e-3
        config.schedule.boundaries = ("2 epochs", "5 epochs", "8 epochs", "12 epochs")
        config.schedule.rate = (1e-5 / 5e-4) ** (1 / 4)
        config.eval.batch_size = 250
        config.log.every = "10000 steps"
    else:
        config.model.name = "lenet5_modern"
        config.train.batch_size = 64
        config.optimizer.weight_decay = 5e-4
        config.schedule.name = "cosine"
        config.schedule.base_lr = 0.05
    return common.finish(config, options, smoke_size=32)
