"""Every key of a config: its default, its meaning and the values that it takes; and the variants of every recipe.

A recipe starts from `get_config` and sets the values of its paper. Durations are '500 steps', '8 epochs' or '10000
examples'. Patterns are regular expressions, searched in the path of a parameter such as 'inception_4a/conv1x1/kernel'.
"""

from ml_collections import ConfigDict

from inception_jax import config as keys
from inception_jax.config import (
    choice,
    duration,
    durations,
    factors,
    flag,
    interval,
    number,
    patterns,
    per_channel,
    text,
    weights,
    whole,
)
from inception_jax.errors import section

# Mean of ImageNet's training images in red, green, blue, as Caffe's reference networks subtract it
# (BVLC Caffe, models/bvlc_googlenet/train_val.prototxt: 104, 117, 123 in the order blue, green, red).
IMAGENET_MEAN = (123.0, 117.0, 104.0)

_SIDE = 2**13  # pixels; a square of this side has as many pixels as an image may have by default
_BATCH = 2**20
_POSITIVE = 1e-30

# fmt: off
KEYS = {
    "seed": whole(0, "Seed of initialisation, data order, crops, augmentation and dropout", most=2**32 - 1),
    "parallel": choice("shard_map", "How steps are mapped over devices", ("shard_map", "pmap")),
    "fast_compile": flag(False, "Compile steps faster, but run them slower; for runs of a few steps"),
    "init_from": text("",
        "Start from these weights", "a workdir, a checkpoint or a file of exported weights", optional=True),
    "reinit": patterns((), "Parameters to re-initialise; all others must exist in init_from"),
    "model": {  # each recipe adds the options of its network; `create_model` checks them
        "name": text("googlenet", "Name of the network", "a name of inception_jax.list_models()"),
        "dtype": choice("float32", "Precision of the computation; bfloat16 on GPU and TPU", ("float32", "bfloat16")),
        "width": number(1.0, "Factor on the number of filters of every layer", 1e-3, 16),
    },
    "data": {
        "name": text("synthetic",
            "Data set", "'folder', 'digits', 'glyphs', 'textures', 'synthetic' or the name of a TFDS data set"),
        "dir": text("",
            "Image folder, or directory of prepared TFDS data sets (default: ~/tensorflow_datasets)",
            "a directory", optional=True),
        "boxes": text("",
            "Boxes of the images, for train.loss 'euclidean'; images without an entry are left out; empty: those of "
            "the data set",
            "a CSV file or a directory of XML files", optional=True),
        "train_split": text("train", "Split to train on", "the name of a split"),
        "eval_split": text("validation", "Split to evaluate on", "the name of a split"),
        "image_size": whole(224, "Height and width of the network's input", 1, _SIDE),
        "channels": choice(3, "Number of colour channels; 1: greyscale", (1, 3)),
        "resize": whole(256, "Shorter side of the resized image, before the central crop of evaluation", 1, _SIDE),
        "crop": choice("area",
            "Training crop; area: box of random area and aspect ratio (Inception); scale: window of the resized image "
            "(VGG); square: window of its central square (AlexNet); central: the evaluation crop",
            ("area", "scale", "square", "central")),
        "area": interval((0.08, 1.0), "Crop 'area': fraction of the image that the box covers", 1e-4, 1),
        "aspect": interval((3 / 4, 4 / 3), "Crop 'area': width of the box divided by its height", 0.01, 100),
        "scale": interval((256, 256),
            "Crops 'scale', 'square': range of the shorter side, drawn for each image", 1, _SIDE, int),
        "interpolation": choice("bilinear",
            "Interpolation of crops; mixed: bilinear, area, nearest or cubic at random in training, else bilinear",
            ("bilinear", "mixed", "bicubic")),
        "flip": flag(True, "Flip half of the training images horizontally"),
        "randaugment": whole(0, "Number of RandAugment operations on each image", 0, 10),
        "randaugment_magnitude": number(9.0, "Magnitude of RandAugment", 0, 10),
        "photometric": choice("none",
            "Colour distortions; slim: brightness, saturation, hue and contrast in random order; slim_fast: two "
            "of them", ("none", "slim", "slim_fast")),
        "photometric_strength": number(1.0, "Factor on the ranges of the colour distortions", 0, 1),
        "pca_noise": number(0.0,
            "Standard deviation of AlexNet's colour noise, in units of the principal components", 0, 10),
        "mean": per_channel(IMAGENET_MEAN,
            "Mean subtracted from pixels; 127.5 with a std of 127.5 gives the range [-1, 1]", 0, 255),
        "std": per_channel((1.0, 1.0, 1.0), "Divisor of pixels", 1e-3, 1e4),
        "whitening": choice("none",
            "Replaces mean and std; gcn: global contrast normalisation; gcn_zca: the same, then ZCA whitening",
            ("none", "gcn", "gcn_zca")),
        "shift": whole(0, "Shift normalised images by up to this many pixels; the border is filled with 0", 0, _SIDE),
        "mixup": number(0.0, "Alpha of mixup; 0: off", 0, 100),
        "cutmix": number(0.0, "Alpha of CutMix; 0: off; with mixup, each pair of images gets one of the two", 0, 100),
        "max_pixels": whole(2**26, "Images with more pixels count as damaged", 1),
        "cache": choice("none",
            "Where images are kept once they are decoded; memory: of the host; device: on each device, which crops "
            "them too, for images of one size, none of them damaged", ("none", "memory", "device")),
        "threads": whole(0, "Number of decoding threads; each decodes whole batches; 0: one per core", 0, 1024),
        "processes": whole(-1,
            "Number of worker processes that run the threads; 0: none; -1: one per 8 cores, from 16 cores, none with a "
            "cache", -1, 1024),
    },
    "train": {
        "batch_size": whole(32, "Images per step, over all devices", 1, _BATCH),
        "microbatch": whole(0,
            "Images per device at once (gradient accumulation), also for batch statistics; 0: all", 0, _BATCH),
        "steps": whole(0, "Length of training in steps; set exactly one of steps, epochs, examples"),
        "epochs": number(0.0, "Length of training in epochs"),
        "examples": whole(0, "Length of training in images"),
        "recompute": choice("nothing",
            "What the backward pass computes again to save memory; activations: normalisation, activation and pooling; "
            "blocks: everything inside a layer", ("nothing", "activations", "blocks")),
        "loss": choice("softmax",
            "Loss; map: LeNet-5's criterion, for outputs that are distances; euclidean: VGG's, for boxes",
            ("softmax", "map", "euclidean")),
        "aux_weights": weights({"aux1": 0.3, "aux2": 0.3}, "Weight of each auxiliary head's loss, by name"),
        "label_smoothing": number(0.0, "Label smoothing", 0, 1, below=True),
        "ema_decay": number(0.0,
            "Decay of the moving average (EMA) of the weights, which is evaluated; 0: off", 0, 1, below=True),
        "sync_batch_norm": flag(False, "Compute batch statistics over all devices, not on each device"),
        "freeze_batch_norm": flag(False, "Normalise with the running statistics, without updating them"),
        "on_nonfinite": choice("stop",
            "After a step whose loss, gradient or new parameters are not finite; stop: end the run; skip: leave the "
            "step out", ("stop", "skip")),
        # Skipped steps change no weights. If a tenth of the batches were bad, ten in a row would come once in 10^10
        # times; so the weights are bad, and no batch will help.
        "max_skips": whole(10, "on_nonfinite skip: largest number of skipped steps in a row; one more ends the run", 1),
    },
    "optimizer": {
        "name": choice("sgd", "Optimizer; rmsprop: TensorFlow's variant", ("sgd", "rmsprop", "adamw", "lars", "lamb")),
        "momentum": number(0.9, "Momentum of sgd, rmsprop, lars", 0, 1, below=True),
        "nesterov": flag(False, "Nesterov momentum"),
        "caffe_momentum": flag(False, "sgd: accumulate updates (AlexNet, Caffe), not gradients"),
        "rms_decay": number(0.9, "rmsprop: decay of the mean of squares", 0, 1, below=True),
        # 0 would divide by 0 where a gradient stays 0
        "rms_epsilon": number(1.0, "rmsprop: epsilon, inside the root", _POSITIVE),
        "weight_decay": number(0.0, "Weight decay lambda"),
        "weight_decay_style": choice("caffe",
            "caffe: add lambda w to the clipped gradient; tf: add lambda / 2 |w|^2 to the loss, before clipping; "
            "decoupled: subtract learning rate times lambda w from the weights (always so in adamw and lamb)",
            ("caffe", "tf", "decoupled")),
        "weight_decay_on": patterns((r"kernel[^/]*$",), "Parameters that decay"),
        "lr_multipliers": factors((), "Factors on the learning rate; the first pattern that matches is used"),
        "freeze": patterns((), "Parameters that are not trained"),
        "clip_norm": number(0.0, "Largest global norm of the gradients; 0: no clipping"),
        "max_norm": number(0.0, "Largest norm of the weights of one filter or unit; 0: no limit"),
        "max_rms": number(0.0, "Largest root mean square of a convolution's filter; 0: no limit"),
    },
    "schedule": {
        "name": choice("constant",
            "Learning-rate schedule", ("constant", "exponential", "piecewise", "poly", "cosine", "plateau")),
        "base_lr": number(0.01, "Learning rate after the warm-up", _POSITIVE),
        "base_batch_size": whole(0,
            "Batch size that base_lr and end_lr are for; they scale linearly with batch_size; 0: no scaling"),
        "warmup": duration("0 steps", "Length of the linear warm-up from 0", zero=True),
        "every": duration("8 epochs", "exponential: interval after which the learning rate is multiplied by `rate`"),
        "rate": number(0.96, "exponential, piecewise, plateau: factor on the learning rate", _POSITIVE),
        "power": number(0.5, "poly: exponent of 1 - step / total", _POSITIVE),
        "boundaries": durations((), "piecewise: times at which the learning rate is multiplied by `rate`"),
        "patience": whole(3, "plateau: evaluations without a better result before `rate` is applied", 1),
        "end_lr": number(0.0, "poly, cosine: learning rate at the end of training; plateau: lowest learning rate"),
    },
    "eval": {
        "every": duration("1 epoch", "Interval of evaluations; the last step is always evaluated"),
        "batch_size": whole(0, "Images per evaluation step; 0: train.batch_size", 0, _BATCH),
        "batch_norm_check": whole(0,
            "Number of training images to evaluate with running and with batch statistics; 0: off"),
    },
    "checkpoint": {
        "every": duration("1 epoch", "Interval of checkpoints; every evaluation and the last step save one too"),
        "keep": whole(3, "Number of latest checkpoints to keep, in addition to the best", 1),
    },
    "log": {
        "every": duration("100 steps", "Interval of log lines"),
        "tensorboard": flag(True, "Write TensorBoard events"),
        "report": flag(True, "Write report.html at each evaluation and at the end, and the snapshots that it shows"),
        "profile_at": whole(0, "Step after which a profile is traced into WORKDIR/profile; 0: off"),
        "profile_steps": whole(5, "Number of steps to profile", 1),
    },
}
# fmt: on


def get_config() -> ConfigDict:
    """Returns the config with every key at its default."""
    return keys.build(KEYS)


def validate(config: ConfigDict) -> None:
    """Checks every key of `config`, and the options of its network; makes the values canonical.

    Raises:
      UserError: names the first invalid key, and the nearest valid key or the valid values.
    """
    from inception_jax.models import create_model  # not at the top, where it would delay --help by seconds

    keys.validate(config, KEYS, open_sections=("config.model",))
    with section("config.model"):
        create_model(**config.model)


OPTIONS = ("modern", "smoke")


def parse(argument: str, *groups: tuple[str, ...]) -> tuple:
    """Splits the argument of --config=configs/NAME.py:ARGUMENT into variants, separated by commas, in any order.

    Args:
      argument: the text after the colon, such as 'x5,smoke'.
      groups: variants that exclude each other; the first of each group is the default.

    Returns:
      One variant of each group and, last, the set of the named `OPTIONS`.

    Raises:
      ValueError: a variant is unknown, or two of one group are named.
    """
    words = [word for word in argument.split(",") if word]
    known = [*(word for group in groups for word in group), *OPTIONS]
    for word in words:
        if word not in known:
            raise ValueError(f"this config has no variant {word!r}; it has {', '.join(known)}")
    chosen = []
    for group in groups:
        named = [word for word in words if word in group]
        if len(named) > 1:
            raise ValueError(f"the variants {' and '.join(named)} of this config exclude each other")
        chosen.append(named[0] if named else group[0])
    return *chosen, {word for word in words if word in OPTIONS}


def finish(config: ConfigDict, options: set[str], smoke_size: int) -> ConfigDict:
    """Applies the options from `parse`; `smoke_size` is a small image size that the network accepts."""
    if "modern" in options:
        _modern(config)
    if "smoke" in options:
        _smoke(config, smoke_size)
    return config


def _modern(config: ConfigDict) -> None:
    """Replaces the paper's training by today's usual recipe, for any network.

    The values are chosen here, in the style of Wightman, Touvron and Jegou, "ResNet strikes back", 2021,
    https://arxiv.org/abs/2110.00476 (LAMB, cosine, mixup or cutmix, RandAugment). LAMB's step is a fraction of each
    layer's weights, so one learning rate trains networks with and without batch normalisation.
    """
    config.model.dtype = "bfloat16"
    data, train, optimizer, schedule = config.data, config.train, config.optimizer, config.schedule
    data.update(crop="area", area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), interpolation="bilinear")
    data.resize = max(data.resize, data.image_size)  # LeNet-5's digits do not fill the image, these crops do
    data.update(randaugment=2, randaugment_magnitude=7.0, photometric="none", pca_noise=0.0, mixup=0.2, cutmix=1.0)
    train.update(batch_size=1024, microbatch=0, steps=0, epochs=100.0, examples=0, loss="softmax")
    train.update(label_smoothing=0.1, ema_decay=0.9999)
    optimizer.update(name="lamb", weight_decay=0.02, weight_decay_on=(r"kernel[^/]*$",), lr_multipliers=())
    optimizer.update(clip_norm=0.0, max_norm=0.0, max_rms=0.0)
    schedule.update(name="cosine", base_lr=5e-3, base_batch_size=2048, warmup="5 epochs", end_lr=0.0)


def _smoke(config: ConfigDict, size: int) -> None:
    """Shrinks a recipe to eight steps on the digits, to check on two CPU cores that everything works."""
    config.fast_compile = True
    config.model.dtype = "float32"
    if config.model.name != "lenet5":  # its paper fixes the width
        config.model.width = 0.1
    if "blocks" in config.model:  # each block takes seconds to compile
        config.model.blocks = 1
    shrink = size / config.data.image_size
    config.data.update(name="digits", dir="", train_split="train", eval_split="test", image_size=size)
    config.data.resize = round(config.data.resize * shrink)
    config.data.scale = tuple(max(size, round(side * shrink)) for side in config.data.scale)
    config.train.update(batch_size=16, microbatch=0, steps=8, epochs=0.0, examples=0)
    config.schedule.update(warmup="0 steps", boundaries=())
    config.eval.update(every="8 steps", batch_size=120)
    config.checkpoint.every = "8 steps"
    config.log.update(every="1 step", tensorboard=False)  # its import takes longer than the steps
