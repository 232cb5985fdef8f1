"""Trains VGG on ImageNet.

Paper: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014,
https://arxiv.org/abs/1409.1556

Variants (after the colon), default first:

  python main.py --config=configs/vgg.py --workdir=/data/vgg_d    D,S256,scratch
  python main.py --config=configs/vgg.py:A --workdir=/data/vgg_a  A, A-LRN, B, C, D or E
  python main.py --config=configs/vgg.py:D,from_a --workdir=/data/vgg_d_256 --config.init_from=/data/vgg_a
  python main.py --config=configs/vgg.py:D,S384 --workdir=/data/vgg_d_384 --config.init_from=/data/vgg_d_256
  python main.py --config=configs/vgg.py:D,jitter --workdir=/data/vgg_d_jitter --config.init_from=/data/vgg_d_384

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:E,jitter,smoke`.
For a larger batch: --config.train.batch_size=1024 --config.schedule.base_batch_size=256.

The paper states (section 3):
- Batch 256, momentum 0.9, weight decay 5e-4, dropout of 0.5.
- A learning rate of 0.01, divided by 10 three times, when the validation accuracy stopped improving.
- 370,000 steps (74 epochs), two to three weeks on four Titan Black.
- Images are resized to a shorter side of S: 256, 384, or drawn from 256 to 512 for each image ("jitter").
- Crops of 224, flipped; AlexNet's colour noise.
- Nets B to E start from net A, see `from_a`. S = 384 starts from the weights of S = 256 with a learning rate of 1e-3.
  Jitter is fine-tuned from the weights of S = 384.
- Initial weights have a variance of 0.01, initial biases are 0.

The stated initialisation is not followed: with it the first logits of net A have a standard deviation of 8e7 (measured
here, on a photograph). It is likely a misprint for a standard deviation of 0.01. Here all weights have Glorot's
initialisation, which the authors later found to work. --config.model.init=normal follows the text.

`from_a`: "the first four convolutional layers and the last three fully-connected layers" of a deep network start from
those of net A. These layers are matched by name: conv1_1, conv2_1, conv3_1, conv3_2, fc6, fc7 and fc8. With any other
reading the shapes do not match: A's second convolution doubles the channels, that of B to E does not. All other layers
are initialised from scratch. With `scratch`, B to E do so for all layers.

`S384` and `jitter` take all parameters from --config.init_from; without it they train from scratch.

The paper does not say, so it is chosen here:
- When accuracy has stopped improving: after five evaluations without a better result.
- The length for S = 384 and jitter, as for 256; the learning rate for jitter, 1e-3.
- Biases do not decay.
- Momentum is accumulated over updates, as in Caffe, from which the authors' code derives.
- The mean colour is that of the published weights (123.68, 116.78, 103.94).

Published (Table 3), top-1 and top-5 error on the validation set in one dense evaluation at Q = S, 384 for jitter: A
29.6 and 10.4 %, A-LRN 29.7 and 10.5, B 28.7 and 9.9, C 28.1 and 9.4, D 27.0 and 8.8, E 27.3 and 9.0; at 384 C 28.1 and
9.3, D 26.8 and 8.7, E 26.9 and 8.7; jitter C 27.3 and 8.8, D 25.6 and 8.1, E 25.5 and 8.0. Training evaluates one
central crop of the image at Q, not densely.

Run here: only single steps of this recipe. Net A on the digits: configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common

# Parameters that net A lacks, or has under another name: see `from_a`.
NEW = (r"^conv(1_2|2_2|3_[34]|4_|5_)",)


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    letter, scale, start, options = common.parse(
        argument, ("D", "A", "A-LRN", "B", "C", "E"), ("S256", "S384", "jitter"), ("scratch", "from_a")
    )
    if start == "from_a" and (letter in ("A", "A-LRN") or scale != "S256"):
        raise ValueError(
            "from_a is for B, C, D and E at S256: A starts from scratch, S384 and jitter from a whole network"
        )
    config = common.get_config()

    config.model.name = f"vgg_{letter.lower().replace('-', '_')}"
    config.model.dropout = 0.5
    config.model.init = "glorot"
    if start == "from_a":
        config.reinit = NEW

    config.data.name = "imagenet2012"
    config.data.crop = "scale"
    config.data.scale = {"S256": (256, 256), "S384": (384, 384), "jitter": (256, 512)}[scale]
    config.data.resize = 256 if scale == "S256" else 384
    config.data.pca_noise = 0.1
    config.data.mean = (123.68, 116.78, 103.94)

    config.train.batch_size = 256
    config.train.examples = 370_000 * 256

    config.optimizer.momentum = 0.9
    config.optimizer.caffe_momentum = True
    config.optimizer.weight_decay = 5e-4

    config.schedule.name = "plateau"
    config.schedule.base_lr = 0.01 if scale == "S256" else 1e-3
    config.schedule.rate = 0.1
    config.schedule.patience = 5
    config.schedule.end_lr = 1e-5
    return common.finish(config, options, smoke_size=32)
