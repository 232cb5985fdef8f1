"""Trains ResNet-50 on ImageNet, as a baseline.

Papers: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2015, https://arxiv.org/abs/1512.03385,
section 3.4; Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017,
https://arxiv.org/abs/1706.02677

Variants (after the colon), default first:

  python main.py --config=configs/resnet50.py --workdir=/data/resnet50              he: He et al.
  python main.py --config=configs/resnet50.py:goyal --workdir=/data/resnet50_goyal  goyal: Goyal et al.

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:goyal,smoke`.
For a larger batch of `goyal`: --config.train.batch_size=8192; the learning rate follows.
The microbatch of 32 must divide the images of a device.

He et al. state (from summaries; the range of the scale and the colours from memory, unverified):
- Images resized to a shorter side drawn from 256 to 480; crops of 224, flipped; AlexNet's colour noise.
- Batch 256, momentum 0.9, weight decay 1e-4, 600,000 steps (120 epochs).
- A learning rate of 0.1, divided by 10 whenever the error stops improving.

The authors' page adds (github.com/KaimingHe/deep-residual-networks):
- 8 GPUs with 32 images each, whose batch statistics are separate.
- Momentum accumulated over updates.

He et al. do not say, so it is chosen here: the error has stopped improving after five evaluations without a better
top-1, three times at most; running batch statistics decay by 0.9 (torchvision).

Goyal et al. state (from memory, unverified):
- A learning rate of 0.1 for each 256 images, after a warm-up of five epochs. It is divided by 10 after 30, 60 and 80 of
  90 epochs.
- GoogLeNet's crops.
- 32 images on each GPU, and batches of up to 8,192 on 256 P100. Here the batch is 256.

Not reproduced:
- From He et al.: the mean image (a mean colour is subtracted); batch statistics recomputed after training.
- From Goyal et al.: gamma = 0 at the end of each block; colour distortions; a warm-up that starts at 0.1, not at 0.

Published, top-1 and top-5 error on the validation set with one central crop: 24.7 and 7.8 % (the authors' page); Goyal
et al. 23.6 % top-1 (from memory, unverified), with the stride in the 3x3 (--config.model.downsample=conv3x3).

Run here: only single steps of this recipe. The network on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    recipe, options = common.parse(argument, ("he", "goyal"))
    config = common.get_config()

    config.model.name = "resnet50"
    config.model.downsample = "conv1x1" if recipe == "he" else "conv3x3"
    config.model.batch_norm_decay = 0.9

    config.data.name = "imagenet2012"

    config.train.batch_size = 256
    config.train.microbatch = 32

    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4

    config.schedule.base_lr = 0.1
    config.schedule.rate = 0.1

    if recipe == "he":
        config.data.crop = "scale"
        config.data.scale = (256, 480)
        config.data.pca_noise = 0.1
        config.train.examples = 600_000 * 256
        config.optimizer.caffe_momentum = True
        config.schedule.name = "plateau"
        config.schedule.patience = 5
        config.schedule.end_lr = 1e-4
    else:
        config.train.epochs = 90.0
        config.schedule.name = "piecewise"
        config.schedule.base_batch_size = 256
        config.schedule.warmup = "5 epochs"
        config.schedule.boundaries = ("30 epochs", "60 epochs", "80 epochs")
    return common.finish(config, options, smoke_size=32)
