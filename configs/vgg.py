"""VGG on ImageNet.

Paper: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014,
https://arxiv.org/abs/1409.1556

  python main.py --config=configs/vgg.py --workdir=/data/vgg_d    `D,S256,scratch`
  python main.py --config=configs/vgg.py:A --workdir=/data/vgg_a  A, A-LRN, B, C, D or E
  python main.py --config=configs/vgg.py:D,from_a --workdir=/data/vgg_d_256 --config.init_from=/data/vgg_a
  python main.py --config=configs/vgg.py:D,S384 --workdir=/data/vgg_d_384 --config.init_from=/data/vgg_d_256
  python main.py --config=configs/vgg.py:D,jitter --workdir=/data/vgg_d_jitter --config.init_from=/data/vgg_d_384

The paper states (section 3): batch 256, momentum 0.9, weight decay 5e-4, dropout of 0.5, a learning rate of 0.01,
divided by 10 three times when the validation accuracy stopped improving; 370,000 steps (74 epochs), two to three weeks
on four Titan Black. Images are resized so that the shorter side is S: 256, 384 or drawn from 256 to 512 for each
("jitter"); crops of 224, mirrored, AlexNet's shift of colours. Weights begin with variance 0.01, biases with 0; that is
not followed: with it net A's first logits have a standard deviation of 8e7 (measured here, on a photograph), and a
misprint for a standard deviation of 0.01 is likely. All weights begin with Glorot's initialisation, which the authors
later found to do; --config.model.init=normal has what is printed.

`from_a`: "the first four convolutional layers and the last three fully-connected layers" of a deep network begin with
those of net A. Read by name, conv1_1, conv2_1, conv3_1, conv3_2, fc6, fc7, fc8: no other reading has fitting shapes,
for A's second convolution doubles the channels and that of B to E does not. All others begin anew. Without it
(`scratch`) B to E begin without net A. `S384` begins with the weights of S = 256 and a rate of 1e-3, `jitter` is
fine-tuned from those of S = 384: all parameters come from --config.init_from; without it training begins anew.

It leaves unsaid and is chosen here: how long accuracy must stand still (five evaluations); for S = 384 and jitter the
length, as for 256, and for jitter the rate, 1e-3; that biases do not decay; momentum of updates, Caffe's, from which
its code derives. The mean colour is that of its published weights (123.68, 116.78, 103.94). For a larger batch:
--config.train.batch_size=1024 --config.schedule.scale_from=256. `modern` and `smoke` may follow: `:E,jitter,smoke`.

Published (Table 3), top-1 and top-5 error on the validation set in one dense evaluation at Q = S, 384 for jitter: A
29.6 and 10.4 %, A-LRN 29.7 and 10.5, B 28.7 and 9.9, C 28.1 and 9.4, D 27.0 and 8.8, E 27.3 and 9.0; at 384 C 28.1 and
9.3, D 26.8 and 8.7, E 26.9 and 8.7; jitter C 27.3 and 8.8, D 25.6 and 8.1, E 25.5 and 8.0. Training evaluates one
central crop of the image at Q, not densely. Of this recipe nothing but single steps was run here; net A on the digits:
configs/digits.py.
"""

from ml_collections import ConfigDict

from configs import common

# The parameters that A does not have, or not of that name; see `from_a`.
NEW = (r"^conv(1_2|2_2|3_[34]|4_|5_)",)


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe of the network, scale and start that `argument`, what stands behind the colon, names."""
    letter, scale, start, options = common.parse(
        argument, ("D", "A", "A-LRN", "B", "C", "E"), ("S256", "S384", "jitter"), ("scratch", "from_a")
    )
    if start == "from_a" and (letter in ("A", "A-LRN") or scale != "S256"):
        raise ValueError("from_a is for B, C, D and E at S256: A begins anew, S384 and jitter with all of its weights")
    config = common.get_config()

    config.model.name = f"vgg_{letter.lower().replace('-', '_')}"
    config.model.dropout = 0.5
    config.model.init = "glorot"
    if start == "from_a":
        config.init_new = NEW

    config.data.name = "imagenet2012"
    config.data.crop = "scale"
    config.data.scale = {"S256": (256, 256), "S384": (384, 384), "jitter": (256, 512)}[scale]
    config.data.resize = 256 if scale == "S256" else 384
    config.data.pca_noise = 0.1
    config.data.mean = (123.68, 116.78, 103.94)

    config.train.batch_size = 256
    config.train.examples = 370_000 * 256

    config.optimizer.momentum = 0.9
    config.optimizer.lr_in_momentum = True
    config.optimizer.weight_decay = 5e-4

    config.schedule.name = "plateau"
    config.schedule.base_lr = 0.01 if scale == "S256" else 1e-3
    config.schedule.rate = 0.1
    config.schedule.patience = 5
    config.schedule.end_lr = 1e-5
    return common.finish(config, options, smoke_size=32)
