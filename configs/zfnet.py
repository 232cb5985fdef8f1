"""ZFNet on ImageNet.

Paper: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013, https://arxiv.org/abs/1311.2901

  python main.py --config=configs/zfnet.py --workdir=/data/zfnet            `fig3`, the network of Fig. 3
  python main.py --config=configs/zfnet.py:wide --workdir=/data/zfnet_wide  512, 1024, 512 filters in conv3 to conv5

The paper states (section 3.1): batch 128, momentum 0.9, a learning rate of 0.01 that is lowered by hand when the
validation error stands still, dropout of 0.5 in fc6 and fc7; filters whose root mean square exceeds 0.1 are scaled back
to 0.1; images whose shorter side is 256, of these the central 256x256, crops of 224, mirrored; weights "initialized to"
1e-2 (read as a standard deviation), biases 0. 70 epochs, twelve days on one GTX 580.

It leaves unsaid and is chosen here: weight decay, 5e-4 and none of biases, as in AlexNet, from which its experiments
start; by how much the rate is lowered (a tenth, three times) and what standing still is (five evaluations); momentum of
updates, AlexNet's.

Not reproduced: the mean image (a mean colour is subtracted). Its crops are the four corners and the centre, ours lie
anywhere. The constants of contrast normalisation are AlexNet's (inception_jax/models/zfnet.py).

For a larger batch: --config.train.batch_size=1024 --config.schedule.scale_from=128. `modern` and `smoke` may follow:
`:wide,smoke`.

Published (Table 2), top-1 and top-5 error on the validation set, one network, the mean over 10 crops: 38.4 and 16.5 %;
wide 37.5 and 16.0 %. The 11.7 % of ILSVRC 2013 are another system's, Clarifai's. Of this recipe nothing but single
steps was run here; the network on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe of the network that `argument`, what stands behind the colon, names."""
    network, options = common.parse(argument, ("fig3", "wide"))
    config = common.get_config()

    config.model.name = "zfnet_wide" if network == "wide" else "zfnet"
    config.model.dropout = 0.5

    config.data.name = "imagenet2012"
    config.data.crop = "square"

    config.train.batch_size = 128
    config.train.epochs = 70.0

    config.optimizer.momentum = 0.9
    config.optimizer.lr_in_momentum = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.max_rms = 0.1

    config.schedule.name = "plateau"
    config.schedule.base_lr = 0.01
    config.schedule.rate = 0.1
    config.schedule.patience = 5
    config.schedule.end_lr = 1e-5
    return common.finish(config, options, smoke_size=64)
