"""LeNet-5 on MNIST.

Paper: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998,
http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf

  python main.py --config=configs/lenet5.py --workdir=/data/lenet5            `original`: network and criterion of 1998
  python main.py --config=configs/lenet5.py:relu --workdir=/data/lenet5_relu  as it is taught today

The paper states: digits of 20x20 centred by mass in a field of 28x28, that in one of 32x32; background -0.1, foreground
1.175, so that the mean is about 0 and the variance about 1; one update an image, without momentum; 20 passes over
60,000 images; the step of stochastic diagonal Levenberg-Marquardt is 5e-4 for two passes, 2e-4 for three, 1e-4 for
three, 5e-5 for four, then 1e-5; RBF outputs of fixed targets; the MAP criterion (its form, and mu = 0.02, from memory,
unverified). It trained on one workstation CPU.

Not reproduced: the diagonal curvature h, by which every weight has the rate step / (mu + h) of its own. In its place
one rate for all: it begins at 1e-3, the geometric middle of the 7e-5 to 0.016 that the paper found its rates to be
(from memory, unverified), and falls as its step does, after passes 2, 5, 8 and 12, by 50 in all; each time by the same
factor, where the paper has 2.5, 2, 2 and 5. Unsaid is the criterion's constant: see `map_criterion` in
inception_jax/training/losses.py.

`relu` is of our own choice throughout: the network of 61,706 parameters with ReLU and max-pools, softmax, batches of
64, momentum, a cosine. For a larger batch: --config.train.batch_size=512 --config.schedule.scale_from=64. On any
network `modern` (today's recipe) and `smoke` (eight steps on the digits) may follow: `:relu,smoke`.

Published, error on MNIST's 10,000 test images: 0.95 % without distortions, 0.8 % with (from memory, unverified). Of
this recipe nothing but single steps was run here; its networks on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe that `argument`, what stands behind the colon, names."""
    recipe, options = common.parse(argument, ("original", "relu"))
    config = common.get_config()

    config.data.name = "mnist"
    config.data.eval_split = "test"
    config.data.channels = 1
    config.data.image_size = 32
    config.data.resize = 28  # MNIST's own size; centred in 32
    config.data.crop = "central"
    config.data.flip = False
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
