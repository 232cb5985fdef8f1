"""GoogLeNet on ImageNet.

Paper: Szegedy et al., "Going Deeper with Convolutions", 2014, https://arxiv.org/abs/1409.4842

  python main.py --config=configs/googlenet.py --workdir=/data/googlenet                    `paper`
  python main.py --config=configs/googlenet.py:caffe --workdir=/data/googlenet_caffe        bvlc_googlenet's solver
  python main.py --config=configs/googlenet.py:caffe_quick --workdir=/data/googlenet_quick  its quick_solver

The paper states (sections 5 and 6): the network (Table 1), crops of 8 to 100 % of the image with an aspect ratio of 3/4
to 4/3, photometric distortions, bilinear, area, nearest and cubic interpolation at random (introduced late, its effect
not isolated), mean subtraction, SGD with momentum 0.9, a learning rate that falls by 4 % every 8 epochs, averaged
weights at test time, auxiliary losses with weight 0.3, dropout of 40 % (70 % in the auxiliary heads). It trained
asynchronously on CPUs; the seven networks of its ensemble differ in their sampling of images, which changed as they
were trained.

It leaves unsaid, and this is taken from BVLC Caffe's models/bvlc_googlenet (solver and train_val prototxt): batch 32,
initial learning rate 0.01, weight decay 2e-4 and none of biases, 10,000,000 steps (250 epochs), initialisation, the
constants of LRN. The distortions, which it takes from another paper, are tf-slim's four at their full range
(models/research/slim/preprocessing/inception_preprocessing.py of github.com/tensorflow). Of our own choice: the decay
of the moving average.

`caffe` is what Caffe's solver does: crops of 224 of the central square of 256, mirrored, and no other augmentation,
momentum of updates, biases twice as fast, no averages. `caffe_quick`, from which its published weights come, falls with
the square root over 2,400,000 steps (60 epochs).

Not reproduced: asynchronous SGD; the changing sampling; in Caffe's recipes the squashing of whole images to 256x256.
For a larger batch: --config.train.batch_size=1024 --config.schedule.scale_from=32. `modern` and `smoke` may follow:
`:caffe,smoke`.

Published, top-5 error on the validation set, one model: 10.07 % with one crop, 7.89 % with 144 (Table 3); Caffe's
weights 31.3 % top-1 and 11.1 % top-5 with one central crop. Of this recipe nothing but single steps was run here; the
topology on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe that `argument`, what stands behind the colon, names."""
    recipe, options = common.parse(argument, ("paper", "caffe", "caffe_quick"))
    config = common.get_config()

    config.model.name = "googlenet"
    config.model.module = "reduced"  # Fig. 2b; "naive": Fig. 2a
    config.model.stem = "convolution"  # "separable": what Table 1's numbers for conv1 fit
    config.model.norm = "lrn"  # "batch", "none"
    config.model.early_reduction = 4  # 2, 1: less, for smaller images
    config.model.reduction_width = placeholder(float)  # factor on the filters of the reductions; 1 unless given
    config.model.top = "average"  # "fc"
    config.model.aux = True
    config.model.bn_auxiliary = False  # with norm = "batch", of the auxiliary heads' dense layers
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
        config.train.average_decay = 0.9999
        config.schedule.name = "exponential"
        config.schedule.every = "8 epochs"
        config.schedule.rate = 0.96
    else:
        config.data.crop = "square"
        config.optimizer.lr_in_momentum = True
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
