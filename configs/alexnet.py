"""AlexNet on ImageNet.

Paper: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012,
https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks

  python main.py --config=configs/alexnet.py --workdir=/data/alexnet              `paper`
  python main.py --config=configs/alexnet.py:caffe --workdir=/data/alexnet_caffe  BVLC Caffe's solver of bvlc_alexnet

The paper states (section 5): batch 128, momentum 0.9 of updates, weight decay 5e-4, a learning rate of 0.01 for all
layers, divided by 10 three times, whenever the validation error no longer improved; about 90 epochs, five to six days
on two GTX 580 of 3 GB; images whose shorter side is 256, of these the central square, of that crops of 224 and mirror
images; colour noise along the principal components of RGB with a standard deviation of 0.1 (section 4.1); dropout.

It leaves unsaid and is chosen here: how long the error must stand still (five evaluations); bilinear enlargement and
reduction. That weights decay and biases do not is the original code's (github.com/computerhistory/AlexNet-Source-Code).
Its rates fell at epochs 25, 51 and 79, and it stopped at 91; the same is had with --config.schedule.name=piecewise
'--config.schedule.boundaries=("25 epochs","51 epochs","79 epochs")' --config.train.epochs=91.
--config.model.lrn_by_group keeps LRN within each GPU's half, as that code did.

Not reproduced: the mean image (a mean colour is subtracted); of the original code the rate of 0.02 for biases, which
never falls, the standard deviation of 0.03 in conv3 to conv5, the other order of ReLU, LRN and pools, a second,
unmentioned normalisation. Of Caffe the squashing of whole images to 256x256, biases of 0.1, k = 1 in LRN and 0.005 in
fc6 and fc7 (models/bvlc_alexnet/train_val.prototxt); its crops are of 227, biases learn twice as fast, 450,000 steps of
256, a tenth every 100,000. For a larger batch: --config.train.batch_size=1024 --config.schedule.scale_from=128.
`modern` and `smoke` may follow: `:caffe,smoke`.

Published, top-1 and top-5 error on the validation set: 40.7 and 18.2 % for one network, the mean over 10 crops; Caffe's
weights 42.9 and 19.8 % with one central crop (models/bvlc_alexnet/readme.md). Of this recipe nothing but single steps
was run here; the network on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe that `argument`, what stands behind the colon, names."""
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
    config.optimizer.lr_in_momentum = True
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
