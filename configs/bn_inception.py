"""Trains BN-Inception, and the same network without batch normalisation, on ImageNet.

Paper: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift", 2015, https://arxiv.org/abs/1502.03167, section 4.2

Variants (after the colon), default first:

  python main.py --config=configs/bn_inception.py --workdir=/data/bn_x30                 x30: BN-x30
  python main.py --config=configs/bn_inception.py:x5 --workdir=/data/bn_x5               x5: BN-x5
  python main.py --config=configs/bn_inception.py:x5_sigmoid --workdir=/data/bn_sigmoid  x5_sigmoid: BN-x5-Sigmoid
  python main.py --config=configs/bn_inception.py:baseline --workdir=/data/bn_baseline   baseline: BN-Baseline
  python main.py --config=configs/bn_inception.py:inception --workdir=/data/inception    inception: no normalisation

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:x5,smoke`.
For a larger batch with the batch statistics of 32 images: --config.train.batch_size=1024 --config.train.microbatch=32
--config.schedule.base_batch_size=32.

The paper states:
- SGD with momentum and batch 32, in a distributed system.
- A learning rate of 0.0015 (Inception and BN-Baseline), 0.0075 (x5) or 0.045 (x30).
- BN-Baseline is Inception with batch normalisation before each nonlinearity; nothing else differs.
- The variants with a higher learning rate have neither dropout (Inception: 40 %) nor local response normalisation.
- They also have a fifth of the weight decay, a learning rate that falls six times as fast, less distorted images, and
  images shuffled within a shard.

The paper does not say, so it is chosen here:
- Momentum 0.9.
- The learning rate falls by 4 % every 8 epochs, as in GoogLeNet; in the faster variants every 4/3 epochs.
- Weight decay 2e-4, as in bvlc_googlenet; a fifth of it is tf-slim's 4e-5.
- Crops, interpolation and distortions are GoogLeNet's; the faster variants have half the distortions' strength.
- The EMA of the weights is evaluated, as in GoogLeNet. Running batch statistics decay by 0.9997 (tf-slim).
- The length is the number of steps after which the paper reports an accuracy: 31.0 million for Inception, 13.3 for
  BN-Baseline, 6 for x30, which are 774, 332 and 150 epochs. x5 and x5-Sigmoid have 6 million too.
- Where the columns of the figure contradict each other, its filters count: inception_jax/models/bn_inception.py.

Not reproduced: asynchronous or sharded SGD; the ensemble, with its larger initial weights and dropout of 5 or 10 %.

Published, single crop on the validation set, best top-1 accuracy, and steps to Inception's 72.2 %: Inception 72.2 %,
31.0e6; BN-Baseline 72.7 %, 13.3e6; x5 73.0 %, 2.1e6; x30 74.8 %, 2.7e6; x5-Sigmoid 69.8 %, never. BN-Inception 7.82 %
top-5 error, 5.82 % with 144 crops.

Run here: only single steps of this recipe. Small copies of `inception` and BN-Inception, compared: configs/glyphs.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    network, options = common.parse(argument, ("x30", "x5", "x5_sigmoid", "baseline", "inception"))
    accelerated = network.startswith("x")
    config = common.get_config()

    config.model.name = "bn_inception"
    config.model.norm = "none" if network == "inception" else "batch"
    config.model.lrn = not accelerated
    config.model.activation = "sigmoid" if network == "x5_sigmoid" else "relu"
    config.model.dropout = 0.0 if accelerated else 0.4
    config.model.batch_norm_decay = 0.9997

    config.data.name = "imagenet2012"
    config.data.interpolation = "mixed"
    config.data.photometric = "slim"
    config.data.photometric_strength = 0.5 if accelerated else 1.0

    config.train.batch_size = 32
    config.train.examples = {"inception": 31_000_000, "baseline": 13_300_000}.get(network, 6_000_000) * 32
    config.train.ema_decay = 0.9999

    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 2e-4 / 5 if accelerated else 2e-4

    config.schedule.name = "exponential"
    config.schedule.base_lr = {"x30": 0.045, "x5": 0.0075, "x5_sigmoid": 0.0075}.get(network, 0.0015)
    config.schedule.every = f"{8 / 6 if accelerated else 8} epochs"
    config.schedule.rate = 0.96
    return common.finish(config, options, smoke_size=64)
