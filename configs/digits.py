"""GoogLeNet's topology on the 1,797 handwritten digits that scikit-learn ships: the demo, two minutes on two CPU cores.

  python main.py --config=configs/digits.py --workdir=runs/digits

It goes the way of ImageNet (prepared by TFDS as ArrayRecord, decoded, cropped, trained with both auxiliary heads,
averaged weights), but it is no recipe of the paper: a quarter of the filters, images of 8x8 enlarged to 64x64, batch
normalisation in place of LRN, label smoothing, a cosine schedule, milder crops, no mirroring.
"""

from ml_collections import ConfigDict

from configs import googlenet


def get_config() -> ConfigDict:
    """Returns the recipe."""
    config = googlenet.get_config()

    config.model.norm = "batch"
    config.model.width = 0.25
    config.model.batch_norm_decay = 0.9

    config.data.name = "digits"
    config.data.eval_split = "test"
    config.data.image_size = 64
    config.data.resize = 64
    config.data.area = (0.6, 1.0)
    config.data.flip = False
    config.data.mean = (127.5,) * 3
    config.data.std = (127.5,) * 3

    config.train.batch_size = 64
    config.train.epochs = 14.0
    config.train.average_decay = 0.95
    config.train.label_smoothing = 0.1

    config.optimizer.weight_decay = 1e-3

    config.schedule.name = "cosine"
    config.schedule.base_lr = 0.1
    config.schedule.warmup = "1 epoch"

    config.eval.every = "3.5 epochs"
    config.eval.batch_size = 120  # three batches
    config.checkpoint.every = "3.5 epochs"
    config.log.every = "10 steps"
    return config
