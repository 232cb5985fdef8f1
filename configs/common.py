"""Every key of a config, with its default, and the arguments that every config takes.

A recipe starts from `get_config` and sets what its paper says. Durations are written '500 steps', '8 epochs' or
'10000 examples'. Patterns are regular expressions that are searched in a parameter's path, such as
'inception_4a/conv1x1/kernel'.
"""

from ml_collections import ConfigDict

# Mean of ImageNet's training images in red, green, blue, as Caffe's reference networks subtract it
# (BVLC Caffe, models/bvlc_googlenet/train_val.prototxt: 104, 117, 123 in the order blue, green, red).
IMAGENET_MEAN = (123.0, 117.0, 104.0)


def get_config() -> ConfigDict:
    """Returns the defaults."""
    config = ConfigDict()
    config.seed = 0  # of initialisation, order, crops, augmentation and dropout
    config.parallel = "shard_map"  # or "pmap": the same step under jax.pmap
    config.hasty = False  # compile steps in a fraction of the time, to run slower; for a few steps
    config.init_from = ""  # start from these weights: a workdir, a checkpoint, or a file of exported weights
    config.init_new = ()  # patterns of the parameters that begin anew all the same; all others must be found there

    config.model = model = ConfigDict()  # each recipe adds the options of its network
    model.name = "googlenet"
    model.dtype = "float32"  # of the computation; "bfloat16" on GPU and TPU
    model.width = 1.0  # factor on all numbers of filters

    config.data = data = ConfigDict()
    data.name = "synthetic"  # "folder", "digits", "glyphs", "synthetic" or the name of a TFDS data set
    data.dir = ""  # of the folder, or of the prepared TFDS data sets (default: ~/tensorflow_datasets)
    data.train_split = "train"
    data.eval_split = "validation"
    data.image_size = 224  # height and width of the network's input
    data.channels = 3  # 1: grey
    data.resize = 256  # shorter side before the central crop, in evaluation
    # Of training images. "area": a box of random area and aspect (Inception); "scale": a window of the resized image
    # (VGG); "square": a window of its central square (AlexNet); "central": that of evaluation.
    data.crop = "area"
    data.area = (0.08, 1.0)  # area: share of the image that the box covers
    data.aspect = (3 / 4, 4 / 3)  # area: its width over its height
    data.scale = (256, 256)  # scale, square: range of the shorter side, drawn for each image
    data.interpolation = "bilinear"  # of training crops; "mixed": at random bilinear, area, nearest or cubic
    data.flip = True  # mirror half of the training images
    data.randaugment = 0  # number of RandAugment's operations on each image
    data.randaugment_magnitude = 9.0  # of 10
    data.photometric = "none"  # "slim": brightness, saturation, hue and contrast in random order; "slim_fast": two
    data.photometric_strength = 1.0  # factor on its ranges
    data.pca_noise = 0.0  # standard deviation of AlexNet's colour noise, in units of the principal components
    data.mean = IMAGENET_MEAN  # subtracted; with std = (127.5,) * 3 a mean of 127.5 gives the range [-1, 1]
    data.std = (1.0, 1.0, 1.0)  # divided by
    data.whitening = "none"  # instead of mean and std: "gcn": global contrast normalisation; "gcn_zca": whitened too
    data.shift = 0  # normalised images are shifted by up to so many pixels, and filled with 0
    data.mixup = 0.0  # alpha of the share in which two images are mixed; 0: none
    data.cutmix = 0.0  # alpha of the share of an image that is cut out for another; with mixup: one of the two
    data.max_pixels = 2**26  # of an image; a larger one counts as damaged
    data.threads = 0  # that decode at once, a batch each; 0: one for each core
    data.processes = -1  # over which they are spread; 0: none but this one; -1: one for every 8 cores from 16 up

    config.train = train = ConfigDict()
    train.batch_size = 32  # over all devices
    train.microbatch = 0  # images that a device takes at once, and over which batch statistics are; 0: its whole share
    train.steps = 0  # exactly one of these three says how long to train, the others are 0
    train.epochs = 0.0
    train.examples = 0
    train.loss = "softmax"  # "map": LeNet-5's criterion, for outputs that are distances
    train.aux_weights = ConfigDict({"aux1": 0.3, "aux2": 0.3})  # of the auxiliary heads' losses, by name
    train.label_smoothing = 0.0
    train.average_decay = 0.0  # of the moving averages of the weights, which are then evaluated; 0: none
    train.sync_batch_norm = False  # batch statistics over all devices instead of each device's own
    train.freeze_batch_norm = False  # normalise with the running statistics, which stay as they are

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "sgd"  # "rmsprop" (TensorFlow's), "adamw", "lars", "lamb"
    optimizer.momentum = 0.9  # sgd, rmsprop, lars
    optimizer.nesterov = False
    optimizer.lr_in_momentum = False  # sgd: the momentum is of updates (AlexNet, Caffe), not of gradients
    optimizer.rms_decay = 0.9  # rmsprop
    optimizer.rms_epsilon = 1.0  # rmsprop: inside the root
    optimizer.weight_decay = 0.0  # lambda
    # "caffe": lambda w is added to the clipped gradient; "tf": lambda / 2 |w|^2 is in the loss, and clipped with it;
    # "decoupled": learning rate times lambda w is subtracted beside the update (adamw and lamb always).
    optimizer.weight_decay_reading = "caffe"
    optimizer.weight_decay_on = (r"kernel[^/]*$",)  # patterns
    optimizer.lr_multipliers = ()  # pairs of a pattern and a factor; the first that fits counts
    optimizer.freeze = ()  # patterns of the parameters that stay as they are
    optimizer.clip_norm = 0.0  # largest norm of all gradients together; 0: no clipping
    optimizer.max_norm = 0.0  # largest norm of the weights of one filter or unit; 0: any
    optimizer.max_rms = 0.0  # largest root of the mean square of a convolution's filter; 0: any

    config.schedule = schedule = ConfigDict()
    schedule.name = "constant"  # "exponential", "piecewise", "poly", "cosine", "plateau"
    schedule.base_lr = 0.01
    schedule.scale_from = 0  # base_lr and end_lr are for this batch, and grow linearly with batch_size; 0: they stay
    schedule.warmup = "0 steps"  # linear rise from 0
    schedule.every = "8 epochs"  # exponential: times `rate` at the end of each
    schedule.rate = 0.96  # exponential, piecewise, plateau
    schedule.power = 0.5  # poly: (1 - t / T) ^ power
    schedule.boundaries = ()  # piecewise: times `rate` at each of these durations
    schedule.patience = 3  # plateau: times `rate` after so many evaluations in a row without a better top-1
    schedule.end_lr = 0.0  # poly, cosine: at the end of training; plateau: the least

    config.eval = evaluation = ConfigDict()
    evaluation.every = "1 epoch"  # and at the end
    evaluation.batch_size = 0  # 0: that of training
    # So many training images are evaluated too, with the running and with their own batch statistics.
    evaluation.batch_norm_check = 0

    config.checkpoint = checkpoint = ConfigDict()
    checkpoint.every = "1 epoch"  # and at each evaluation and at the end
    checkpoint.keep = 3  # the last so many, and the best

    config.log = log = ConfigDict()
    log.every = "100 steps"
    log.tensorboard = True
    log.report = True  # write report.html at the end
    log.profile_at = 0  # step after which a profile is traced into WORKDIR/profile; 0: none
    log.profile_steps = 5  # for so many steps
    return config


OPTIONS = ("modern", "smoke")


def parse(argument: str, *groups: tuple[str, ...]) -> tuple:
    """Reads what stands behind the colon of --config=configs/NAME.py:ARGUMENT, words between commas in any order.

    Args:
      argument: for instance 'x5,smoke'.
      groups: alternatives, of which the first is the default.

    Returns:
      One word of each group, and as the last the set of those of `OPTIONS` that are named.

    Raises:
      ValueError: a word is unknown, or two exclude each other.
    """
    words = [word for word in argument.split(",") if word]
    known = [*(word for group in groups for word in group), *OPTIONS]
    for word in words:
        if word not in known:
            raise ValueError(f"this config has no argument {word!r}; it has {', '.join(known)}")
    chosen = []
    for group in groups:
        named = [word for word in words if word in group]
        if len(named) > 1:
            raise ValueError(f"the arguments {' and '.join(named)} of this config exclude each other")
        chosen.append(named[0] if named else group[0])
    return *chosen, {word for word in words if word in OPTIONS}


def finish(config: ConfigDict, options: set[str], smoke_size: int) -> ConfigDict:
    """Applies the options that `parse` found; `smoke_size` is a small image on which the network still works."""
    if "modern" in options:
        _modern(config)
    if "smoke" in options:
        _smoke(config, smoke_size)
    return config


def _modern(config: ConfigDict) -> None:
    """Trains any network as is usual today, in place of its paper's recipe.

    The values are our choice, in the manner of Wightman, Touvron and Jegou, "ResNet strikes back", 2021,
    https://arxiv.org/abs/2110.00476 (LAMB, cosine, mixup or cutmix, RandAugment); LAMB, because its step is a share of
    each layer's weights, trains networks with and without batch normalisation at one learning rate.
    """
    config.model.dtype = "bfloat16"
    data, train, optimizer, schedule = config.data, config.train, config.optimizer, config.schedule
    data.update(crop="area", area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), interpolation="bilinear")
    data.resize = max(data.resize, data.image_size)  # its crops fill the field that LeNet-5's digits do not
    data.update(randaugment=2, randaugment_magnitude=7.0, photometric="none", pca_noise=0.0, mixup=0.2, cutmix=1.0)
    train.update(batch_size=1024, microbatch=0, steps=0, epochs=100.0, examples=0, loss="softmax")
    train.update(label_smoothing=0.1, average_decay=0.9999)
    optimizer.update(name="lamb", weight_decay=0.02, weight_decay_on=(r"kernel[^/]*$",), lr_multipliers=())
    optimizer.update(clip_norm=0.0, max_norm=0.0, max_rms=0.0)
    schedule.update(name="cosine", base_lr=5e-3, scale_from=2048, warmup="5 epochs", end_lr=0.0)


def _smoke(config: ConfigDict, size: int) -> None:
    """Shrinks a recipe to some steps on the digits, for two CPU cores: does everything work?"""
    config.hasty = True
    config.model.dtype = "float32"
    if config.model.name != "lenet5":  # whose paper fixes its width
        config.model.width = 0.1
    if "blocks" in config.model:  # each takes seconds to compile
        config.model.blocks = 1
    shrink = size / config.data.image_size
    config.data.update(name="digits", dir="", train_split="train", eval_split="test", image_size=size)
    config.data.resize = round(config.data.resize * shrink)
    config.data.scale = tuple(max(size, round(side * shrink)) for side in config.data.scale)
    config.train.update(batch_size=16, microbatch=0, steps=8, epochs=0.0, examples=0)
    config.schedule.update(warmup="0 steps", boundaries=())
    config.eval.update(every="8 steps", batch_size=120)
    config.checkpoint.every = "8 steps"
    config.log.update(every="1 step", tensorboard=False)  # to import it takes longer than the steps
