"""Trains Inception-v3, and the rungs that lead to it, on ImageNet.

Paper: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015,
https://arxiv.org/abs/1512.00567, section 8 and Table 3

Variants (after the colon), default first; each rung from v2 to bn_auxiliary adds one change to the rung before it:

  python main.py --config=configs/inception_v3.py --workdir=/data/inception_v3                 Inception-v3: all rungs
  python main.py --config=configs/inception_v3.py:v2 --workdir=/data/inception_v2              SGD with momentum
  python main.py --config=configs/inception_v3.py:rmsprop --workdir=/data/v3_rmsprop           RMSProp
  python main.py --config=configs/inception_v3.py:label_smoothing --workdir=/data/v3_smooth    label smoothing
  python main.py --config=configs/inception_v3.py:factorized_7x7 --workdir=/data/v3_factor     three 3x3 first
  python main.py --config=configs/inception_v3.py:bn_auxiliary --workdir=/data/inception_v3    the default
  python main.py --config=configs/inception_v3.py:tf --workdir=/data/v3_tf                     TensorFlow's own code
  python main.py --config=configs/inception_v3.py:tpu --workdir=/data/v3_tpu                   Google's for Cloud TPU

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:rmsprop,smoke`.
For another batch, with linear scaling of the learning rate (only `tpu` has it): --config.schedule.base_batch_size=1600.

The paper states:
- 50 replicas with 32 images and a Kepler GPU each, for 100 epochs.
- Momentum 0.9 in earlier experiments; in the best ones RMSProp with decay 0.9 and epsilon 1.0.
- A learning rate of 0.045, multiplied by 0.94 every two epochs. Gradients are clipped at 2.0.
- Label smoothing 0.1. A running average of the parameters is evaluated.

Here a batch is 1,600 images in microbatches of 32, each with its own batch statistics. The microbatch must divide the
images of a device: on 8 devices set --config.train.microbatch=25, or a batch of 1,536.

The paper does not say, so it is taken from TensorFlow's distributed code (inception/inception of
github.com/tensorflow/models, inception_distributed_train.py, slim/ops.py, image_processing.py):
- Momentum 0.9 in RMSProp; weight decay 4e-5 as a term of the loss; the auxiliary head's weight 0.4.
- Decay of the EMA 0.9999, of the running batch statistics 0.9997.
- Crops of 5 to 100 % of the image, the distortions, four interpolations, the range [-1, 1].

The paper does not say, so it is chosen here:
- The replicas are synchronous.
- SGD with momentum has a learning rate of 0.045 as well: with an epsilon of 1.0 the steps of both are of similar size.
- The evaluation crop has 87.5 % of the side, and the image keeps its aspect ratio (torchvision's 342 to 299).
  TensorFlow's code squashes the image.
- The network is the released one, not Table 1's: see inception_jax/models/inception_v3.py.

`tf` follows that code where it differs: no clipping, batch normalisation without gamma. `tpu` follows
models/experimental/inception/inception_v3.py of github.com/tensorflow/tpu:
- Batch 1,024 over 8 cores for 213,000 steps (170 epochs). No gamma.
- A learning rate of 0.165 for each 256 images, multiplied by 0.94 every 3 epochs. Its lower limit is never reached.
- Decay of the EMA 0.995, of the running batch statistics 0.996.
- Bilinear crops and two distortions (tf-slim's fast mode).

Not reproduced: crops around annotated boxes.

Published (Table 3), single crop on 48,238 validation images (all 50,000: 0.2 and 0.1 worse), top-1 and top-5 error: v2
23.4 %; RMSProp 23.1 and 6.3; label smoothing 22.8 and 6.1; factorized 7x7 21.6 and 5.8; BN-auxiliary, Inception-v3,
21.2 and 5.6.

Run here: only single steps of this recipe. The networks on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common

# The rungs of Table 3, each with the changes of the rungs before it.
RUNGS = ("v2", "rmsprop", "label_smoothing", "factorized_7x7", "bn_auxiliary")


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    recipe, options = common.parse(argument, ("bn_auxiliary", *RUNGS[:-1], "tf", "tpu"))
    reached = RUNGS[: RUNGS.index(recipe) + 1] if recipe in RUNGS else RUNGS
    config = common.get_config()

    if "factorized_7x7" in reached:
        config.model.name = "inception_v3"
        config.model.bn_auxiliary = "bn_auxiliary" in reached
    else:
        config.model.name = "inception_v2"
    config.model.blocks = placeholder(int)  # of each kind; default: the paper's numbers
    config.model.dropout = 0.2  # tf-slim's
    config.model.batch_norm_decay = 0.9997
    config.model.batch_norm_scale = recipe not in ("tf", "tpu")

    config.data.name = "imagenet2012"
    config.data.image_size = 299
    config.data.resize = 342
    config.data.area = (0.05, 1.0)
    config.data.interpolation = "mixed"
    config.data.photometric = "slim"
    config.data.mean = (127.5,) * 3
    config.data.std = (127.5,) * 3

    config.train.batch_size = 50 * 32
    config.train.microbatch = 32
    config.train.epochs = 100.0
    config.train.aux_weights = ConfigDict({"aux": 0.4})
    config.train.label_smoothing = 0.1 if "label_smoothing" in reached else 0.0
    config.train.ema_decay = 0.9999

    config.optimizer.name = "rmsprop" if "rmsprop" in reached else "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.rms_decay = 0.9
    config.optimizer.rms_epsilon = 1.0
    config.optimizer.weight_decay = 4e-5
    config.optimizer.weight_decay_style = "tf"
    config.optimizer.clip_norm = 0.0 if recipe in ("tf", "tpu") else 2.0

    config.schedule.name = "exponential"
    config.schedule.base_lr = 0.045
    config.schedule.every = "2 epochs"
    config.schedule.rate = 0.94

    if recipe == "tpu":
        config.model.batch_norm_decay = 0.996
        config.data.interpolation = "bilinear"
        config.data.photometric = "slim_fast"
        config.train.batch_size = 1024
        config.train.microbatch = 128
        config.train.epochs = 0.0
        config.train.examples = 213_000 * 1024
        config.train.ema_decay = 0.995
        config.schedule.base_lr = 0.165
        config.schedule.base_batch_size = 256
        config.schedule.every = "3 epochs"
    return common.finish(config, options, smoke_size=75)
