"""Trains GoogLeNet on ImageNet.

Paper: Szegedy et al., "Going Deeper with Convolutions", 2014, https://arxiv.org/abs/1409.4842

Variants (after the colon), default first:

  python main.py --config=configs/googlenet.py --workdir=/data/googlenet                    paper: the paper's recipe
  python main.py --config=configs/googlenet.py:caffe --workdir=/data/googlenet_caffe        caffe: bvlc_googlenet
  python main.py --config=configs/googlenet.py:caffe_quick --workdir=/data/googlenet_quick  caffe_quick: quick_solver

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:caffe,smoke`.
For a larger batch: --config.train.batch_size=1024 --config.schedule.base_batch_size=32.

The paper states (sections 5 and 6):
- The network (Table 1), with dropout of 40 %, and of 70 % in the auxiliary heads, whose losses have a weight of 0.3.
- Crops of 8 to 100 % of the image, with an aspect ratio of 3/4 to 4/3; photometric distortions; mean subtraction.
- Bilinear, area, nearest or cubic interpolation at random. It was introduced late, and its effect was not isolated.
- SGD with momentum 0.9. The learning rate falls by 4 % every 8 epochs.
- Averaged weights are evaluated.
- It trained asynchronously on CPUs. The seven networks of its ensemble differ in their sampling of images, which
  changed during training.

The paper does not say, so it is taken from BVLC Caffe's models/bvlc_googlenet (solver and train_val prototxt):
- Batch 32, initial learning rate 0.01, 10,000,000 steps (250 epochs).
- Weight decay 2e-4; biases do not decay.
- The initialisation and the constants of LRN.

From elsewhere:
- The distortions, for which the paper refers to another one: tf-slim's four at their full range
  (models/research/slim/preprocessing/inception_preprocessing.py of github.com/tensorflow).
- The decay of the moving average (EMA) is chosen here.

`caffe` follows Caffe's solver: crops of 224 from the central square of 256, flipped, and no other augmentation;
momentum accumulated over updates; biases with twice the learning rate; no EMA. `caffe_quick` produced Caffe's
published weights: its learning rate falls with the square root over 2,400,000 steps (60 epochs).

Not reproduced: asynchronous SGD; the changing sampling; in Caffe's recipes the squashing of whole images to 256x256.

Published, top-5 error on the validation set, one model: 10.07 % with one crop, 7.89 % with 144 (Table 3); Caffe's
weights 31.3 % top-1 and 11.1 % top-5 with one central crop.

Run here: only single steps of this recipe. The topology on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    recipe, options = common.parse(argument, ("paper", "caffe", "caffe_quick"))
    config = common.get_config()

    config.model.name = "googlenet"
    config.model.module = "reduced"  # Fig. 2b; "naive": Fig. 2a
    config.model.stem = "convolution"  # "separable" matches Table 1's numbers for conv1
    config.model.norm = "lrn"  # "batch", "none"
    config.model.early_reduction = 4  # 2 or 1: less reduction, for smaller images
    config.model.reduction_width = placeholder(float)  # factor on the filters of the reductions; default 1
    config.model.top = "average"  # "fc"
    config.model.aux = True
    config.model.bn_auxiliary = False  # batch normalisation in the auxiliary heads' dense layers, for norm = "batch"
    config.model.dropout = 0.4
    config.model.aux_dropout = 0.7
    config.model.batch_norm_decay = 0.9997  # for norm = "batch"

    config.data.name = "imagenet2012"

    config.train.batch_size = 32

    config.optimizer.weight_decay = 2e-4

    config.schedule.base_lr = 0.01

    if recipe == "paper":
        config.data.interpolation = "mixed"
        config.data.photometric = "slim"
        config.train.epochs = 250.0
        config.train.ema_decay = 0.9999
        config.schedule.name = "exponential"
        config.schedule.every = "8 epochs"
        config.schedule.rate = 0.96
    else:
        config.data.crop = "square"
        config.optimizer.caffe_momentum = True
        config.optimizer.lr_multipliers = ((r"bias$", 2.0),)
    if recipe == "caffe":
        config.train.examples = 10_000_000 * 32
        config.schedule.name = "exponential"
        config.schedule.every = f"{320_000 * 32} examples"
        config.schedule.rate = 0.96
    if recipe == "caffe_quick":
        config.train.examples = 2_400_000 * 32
        config.schedule.name = "poly"
        config.schedule.power = 0.5
    return common.finish(config, options, smoke_size=64)
