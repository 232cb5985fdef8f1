"""Trains AlexNet on ImageNet.

Paper: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012,
https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks

Variants (after the colon), default first:

  python main.py --config=configs/alexnet.py --workdir=/data/alexnet              paper: the paper's recipe
  python main.py --config=configs/alexnet.py:caffe --workdir=/data/alexnet_caffe  caffe: BVLC Caffe's bvlc_alexnet

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:caffe,smoke`.
For a larger batch: --config.train.batch_size=1024 --config.schedule.base_batch_size=128.

The paper states (section 5, unless another is named):
- Batch 128; momentum 0.9, accumulated over updates; weight decay 5e-4; dropout.
- One learning rate for all layers, 0.01, divided by 10 three times, each time the validation error stopped improving.
- About 90 epochs, which took five to six days on two GTX 580 with 3 GB each.
- Images are resized to a shorter side of 256 and cut to their central square. Crops of 224 and horizontal flips.
- Colour noise along the principal components of RGB, with a standard deviation of 0.1 (section 4.1).

The paper does not say, so it is chosen here:
- When the error has stopped improving: after five evaluations without a better result.
- Resizing is bilinear.
- Weights decay and biases do not, as in the original code (github.com/computerhistory/AlexNet-Source-Code).

In the original code the learning rate fell at epochs 25, 51 and 79, and training ended at epoch 91. To do the same:
--config.schedule.name=piecewise '--config.schedule.boundaries=("25 epochs","51 epochs","79 epochs")'
--config.train.epochs=91. That code also keeps LRN within each GPU's half of the filters: --config.model.lrn_by_group.

`caffe` follows models/bvlc_alexnet (train_val.prototxt) of BVLC Caffe: crops of 227, biases with twice the learning
rate, 450,000 steps of 256 images, and a learning rate divided by 10 every 100,000 steps.

Not reproduced:
- The mean image: a mean colour is subtracted.
- From the original code: the constant learning rate of 0.02 for biases; the standard deviation of 0.03 in conv3 to
  conv5; the different order of ReLU, LRN and pools; a second normalisation, which the paper does not mention.
- From Caffe: squashing of whole images to 256x256; initial biases of 0.1; k = 1 in LRN; a standard deviation of 0.005
  in fc6 and fc7.

Published, top-1 and top-5 error on the validation set: 40.7 and 18.2 % for one network, averaged over 10 crops; Caffe's
weights 42.9 and 19.8 % with one central crop (models/bvlc_alexnet/readme.md).

Run here: only single steps of this recipe. The network on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    recipe, options = common.parse(argument, ("paper", "caffe"))
    config = common.get_config()

    config.model.name = "alexnet"
    config.model.groups = 2  # 1: one tower
    config.model.lrn = True
    config.model.lrn_by_group = False
    config.model.overlapping_pools = True
    config.model.dropout = 0.5

    config.data.name = "imagenet2012"
    config.data.crop = "square"

    config.optimizer.momentum = 0.9
    config.optimizer.caffe_momentum = True
    config.optimizer.weight_decay = 5e-4

    config.schedule.base_lr = 0.01
    config.schedule.rate = 0.1

    if recipe == "paper":
        config.data.pca_noise = 0.1
        config.train.batch_size = 128
        config.train.epochs = 90.0
        config.schedule.name = "plateau"
        config.schedule.patience = 5
        config.schedule.end_lr = 1e-5
    else:
        config.data.image_size = 227
        config.train.batch_size = 256
        config.train.examples = 450_000 * 256
        config.optimizer.lr_multipliers = ((r"bias$", 2.0),)
        config.schedule.name = "exponential"
        config.schedule.every = f"{100_000 * 256} examples"
    return common.finish(config, options, smoke_size=64)
