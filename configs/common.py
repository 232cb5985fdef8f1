"""Every key of a config, with its default. A recipe starts from here and sets what its paper says.

Durations are written '500 steps', '8 epochs' or '10000 examples'.
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

    config.model = model = ConfigDict()  # each recipe adds the options of its network
    model.name = "googlenet"
    model.dtype = "float32"  # of the computation; "bfloat16" on GPU and TPU
    model.width = 1.0  # factor on all numbers of filters

    config.data = data = ConfigDict()
    data.name = "synthetic"  # "folder", "digits", "synthetic" or the name of a TFDS data set
    data.dir = ""  # of the folder, or of the prepared TFDS data sets (default: ~/tensorflow_datasets)
    data.train_split = "train"
    data.eval_split = "validation"
    data.image_size = 224  # height and width of the network's input
    data.resize = 256  # shorter side before the central crop, in evaluation
    data.area = (0.08, 1.0)  # share of the image that a training crop covers
    data.aspect = (3 / 4, 4 / 3)  # its width over its height
    data.flip = True  # mirror half of the training images
    data.mean = IMAGENET_MEAN  # subtracted; with std = (127.5,) * 3 a mean of 127.5 gives the range [-1, 1]
    data.std = (1.0, 1.0, 1.0)  # divided by
    data.threads = 0  # that decode at once, a batch each; 0: one for each core
    data.processes = -1  # over which they are spread; 0: none but this one; -1: one for every 8 cores from 16 up

    config.train = train = ConfigDict()
    train.batch_size = 32  # over all devices
    train.steps = 0  # exactly one of these three says how long to train, the others are 0
    train.epochs = 0.0
    train.examples = 0
    train.accumulate = 1  # take each batch in so many parts, to save memory
    train.aux_weights = ConfigDict({"aux1": 0.3, "aux2": 0.3})  # of the auxiliary heads' losses, by name
    train.label_smoothing = 0.0
    train.average_decay = 0.0  # of the moving averages of the weights, which are then evaluated; 0: none
    train.sync_batch_norm = False  # batch statistics over all devices instead of each device's own

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "sgd"
    optimizer.momentum = 0.9
    optimizer.nesterov = False
    optimizer.weight_decay = 0.0  # lambda / 2 * |w|^2 on the kernels alone
    optimizer.clip_norm = 0.0  # largest norm of all gradients together; 0: no clipping

    config.schedule = schedule = ConfigDict()
    schedule.name = "constant"  # "exponential", "piecewise", "poly", "cosine"
    schedule.base_lr = 0.01
    schedule.warmup = "0 steps"  # linear rise from 0
    schedule.every = "8 epochs"  # exponential: times `rate` at the end of each
    schedule.rate = 0.96  # exponential, piecewise
    schedule.power = 0.5  # poly: (1 - t / T) ^ power
    schedule.boundaries = ()  # piecewise: times `rate` at each of these durations
    schedule.end_lr = 0.0  # poly, cosine: at the end of training

    config.eval = evaluation = ConfigDict()
    evaluation.every = "1 epoch"  # and at the end
    evaluation.batch_size = 0  # 0: that of training

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
