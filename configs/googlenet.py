"""GoogLeNet on ImageNet.

Paper: Szegedy et al., "Going Deeper with Convolutions", 2014, https://arxiv.org/abs/1409.4842

  python main.py --config=configs/googlenet.py --workdir=/data/googlenet

The paper states: the network (Table 1), crops of 8 to 100 % of the image with an aspect ratio of 3/4 to 4/3, mean
subtraction, SGD with momentum 0.9, a learning rate that falls by 4 % every 8 epochs, averaged weights at test time,
auxiliary losses with weight 0.3, dropout of 40 % (70 % in the auxiliary heads). It trained asynchronously on CPUs.

It leaves unsaid, and this is taken from BVLC Caffe's models/bvlc_googlenet (solver and train_val prototxt): batch 32,
initial learning rate 0.01, weight decay 2e-4, 10,000,000 steps (250 epochs), initialisation, the constants of LRN. Of
our own choice: the decay of the moving average. Not in this recipe: the photometric distortions and the mix of
interpolation methods, which the paper recommends, and Caffe's doubled learning rate of the biases.

Published, top-5 error on the validation set, one model: 10.07 % with one crop, 7.89 % with 144 (Table 3). Of this
recipe nothing but single steps was run here.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    """Returns the recipe."""
    config = common.get_config()

    config.model.name = "googlenet"
    config.model.module = "reduced"  # Fig. 2b; "naive": Fig. 2a
    config.model.stem = "convolution"  # "separable": what Table 1's numbers for conv1 fit
    config.model.norm = "lrn"  # "batch", "none"
    config.model.aux = True
    config.model.dropout = 0.4
    config.model.aux_dropout = 0.7
    config.model.batch_norm_decay = 0.9997  # for norm = "batch"

    config.data.name = "imagenet2012"

    config.train.batch_size = 32
    config.train.epochs = 250.0
    config.train.average_decay = 0.9999

    config.optimizer.weight_decay = 2e-4

    config.schedule.name = "exponential"
    config.schedule.base_lr = 0.01
    config.schedule.every = "8 epochs"
    config.schedule.rate = 0.96
    return config
