"""Trains ZFNet on ImageNet.

Paper: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013, https://arxiv.org/abs/1311.2901

Variants (after the colon), default first:

  python main.py --config=configs/zfnet.py --workdir=/data/zfnet            fig3: the network of Fig. 3
  python main.py --config=configs/zfnet.py:wide --workdir=/data/zfnet_wide  wide: 512, 1024, 512 filters in conv3 to 5

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:wide,smoke`.
For a larger batch: --config.train.batch_size=1024 --config.schedule.base_batch_size=128.

The paper states (section 3.1):
- Batch 128, momentum 0.9, dropout of 0.5 in fc6 and fc7.
- A learning rate of 0.01, which is lowered by hand when the validation error stops improving.
- Filters whose root mean square exceeds 0.1 are scaled back to 0.1.
- Images are resized to a shorter side of 256 and cut to their central 256x256. Crops of 224, flipped.
- Weights are "initialized to" 1e-2 (read as a standard deviation), biases to 0.
- 70 epochs, twelve days on one GTX 580.

The paper does not say, so it is chosen here:
- Weight decay 5e-4, and none for biases, as in AlexNet, from which the paper's experiments start.
- The learning rate is divided by 10, three times. The error has stopped improving after five evaluations without a
  better result.
- Momentum is accumulated over updates, as in AlexNet.
- The constants of contrast normalisation are AlexNet's (inception_jax/models/zfnet.py).

Not reproduced: the mean image (a mean colour is subtracted); crops at the four corners and the centre only (here crops
lie anywhere).

Published (Table 2), top-1 and top-5 error on the validation set, one network, averaged over 10 crops: 38.4 and 16.5 %;
wide 37.5 and 16.0 %. The 11.7 % of ILSVRC 2013 are another system's, Clarifai's.

Run here: only single steps of this recipe. The network on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    network, options = common.parse(argument, ("fig3", "wide"))
    config = common.get_config()

    config.model.name = "zfnet_wide" if network == "wide" else "zfnet"
    config.model.dropout = 0.5

    config.data.name = "imagenet2012"
    config.data.crop = "square"

    config.train.batch_size = 128
    config.train.epochs = 70.0

    config.optimizer.momentum = 0.9
    config.optimizer.caffe_momentum = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.max_rms = 0.1

    config.schedule.name = "plateau"
    config.schedule.base_lr = 0.01
    config.schedule.rate = 0.1
    config.schedule.patience = 5
    config.schedule.end_lr = 1e-5
    return common.finish(config, options, smoke_size=64)
