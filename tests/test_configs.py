"""Every config and argument loads, fits its network, says what its paper says; each takes steps; no key is dead."""

import contextlib
import functools
import importlib
import itertools
import json
import pathlib
import re

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common
from configs.common import KEYS, validate
from inception_jax import UserError, create_model
from inception_jax.data import loader
from inception_jax.data.crops import CROPS
from inception_jax.parallel import REPLICATED, SPLIT, DataParallel
from inception_jax.runs.workdir import differences
from inception_jax.training import loop
from inception_jax.training.experiment import Experiment
from inception_jax.training.optimizers import make_optimizer, select, with_learning_rate
from inception_jax.training.schedules import Clock, make_plateau, make_schedule
from inception_jax.training.tasks import make_task

NAMES = sorted(path.stem for path in (pathlib.Path(__file__).parent.parent / "configs").glob("*.py"))
NAMES.remove("common")


def get_config(name, argument=""):
    return importlib.import_module(f"configs.{name}").get_config(argument)


def groups(name):
    """The groups of words that the config gives to `common.parse`."""
    calls, parse = [], common.parse

    def record(argument, *words):
        calls.append(words)
        return parse(argument, *words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "parse", record)
        get_config(name)
    return calls[0]


def is_excluded(name, argument):
    try:
        get_config(name, argument)
    except ValueError:
        return True
    return False


COMBINATIONS = {name: [",".join(words) for words in itertools.product(*groups(name))] for name in NAMES}
COMBINATIONS["inception_v2"] = [""]  # it is one word of inception_v3's
ARGUMENTS = {name: [a for a in COMBINATIONS[name] if not is_excluded(name, a)] for name in NAMES}
IMAGES = {
    "imagenet2012": 1_281_167,
    "mnist": 60_000,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "digits": 1437,
    "glyphs": 20_000,
}


@functools.cache
def trace(network, size, channels):
    """Shapes of the parameters, and of the outputs in training by the head's name, for two images."""
    key = jax.random.key(0)
    init = functools.partial(network.init_with_output, {"params": key, "dropout": key}, train=True)
    images = jax.ShapeDtypeStruct((2, size, size, channels), np.float32)
    (logits, end_points), variables = jax.eval_shape(init, images)
    outputs = {head.name: end_points[head.name].shape for head in network.aux_heads}
    return variables["params"], {"logits": logits.shape, **outputs}


# Options that change no shape.
SHAPELESS = ("dtype", "init", "activation", "dropout", "input_dropout", "aux_dropout", "batch_norm_decay")


def trace_of(config):
    """Networks that differ in nothing but `SHAPELESS` are traced once, and narrow ones at one width."""
    options = config.model.to_dict()
    create_model(num_classes=7, **options)  # raises if one is wrong
    options = {key: value for key, value in options.items() if key not in SHAPELESS}
    options["width"] = 1.0 if options["width"] == 1 else 0.1  # that of `smoke`
    return trace(create_model(num_classes=7, **options), config.data.image_size, config.data.channels)


def clock_and_schedule(config):
    train = config.train
    clock = Clock(train.batch_size, IMAGES.get(config.data.name, 10_000))
    total = clock.total_steps(train.steps, train.epochs, train.examples)
    return clock, total, make_schedule(clock, total, **config.schedule)


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_fits_its_network(name):
    for argument in ARGUMENTS[name]:
        more = (",modern", ",modern,smoke") if argument == ARGUMENTS[name][0] else ()
        for option in ("", ",smoke", *more):
            check_that_it_fits(get_config(name, argument + option))


def check_that_it_fits(config):
    validate(config)
    data, train, optimizer = config.data, config.train, config.optimizer

    params, outputs = trace_of(config)
    assert set(outputs.values()) == {(2, *boxes_of(config.model), 4) if train.loss == "euclidean" else (2, 7)}
    assert set(outputs) in ({"logits"}, {"logits", *train.aux_weights})

    patterns = (*config.reinit, *(pattern for pattern, _ in optimizer.lr_multipliers), *optimizer.weight_decay_on)
    for pattern in patterns:
        assert any(jax.tree.leaves(select(params, [pattern]))), f"{pattern} matches no parameter"

    make_optimizer(**optimizer)
    clock_and_schedule(config)
    assert (make_plateau(**config.schedule) is None) == (config.schedule.name != "plateau")

    assert data.crop == "central" or data.resize >= data.image_size
    assert data.crop not in ("scale", "square") or data.scale[0] >= data.image_size
    assert not train.microbatch or train.batch_size % train.microbatch == 0
    assert train.loss == "softmax" or not (train.label_smoothing or data.mixup or data.cutmix)


def boxes_of(model):
    return {"single": (1,), "per_class": (7,)}[model.boxes]


def test_arguments_that_exclude_each_other():
    excluded = {name: set(COMBINATIONS[name]) - set(ARGUMENTS[name]) for name in NAMES}
    assert [name for name in NAMES if excluded[name]] == ["vgg"]
    assert all("from_a" in argument for argument in excluded["vgg"])
    assert [a for a in ARGUMENTS["vgg"] if "from_a" in a] == [f"{letter},S256,from_a" for letter in "DBCE"]
    with pytest.raises(ValueError, match="the variants v2 and tpu of this config exclude each other"):
        get_config("inception_v2", "tpu")
    with pytest.raises(ValueError, match="the variants B and E of this config exclude each other"):
        get_config("vgg", "B,smoke,E")


def test_an_unknown_argument_is_named():
    for name in NAMES:
        with pytest.raises(ValueError, match=r"this config has no variant 'x7'; it has .*modern, smoke$"):
            get_config(name, "x7")


def test_each_card_names_its_commands():
    for name in NAMES:
        card = importlib.import_module(f"configs.{name}").__doc__
        assert f"--config=configs/{name}.py" in card
        if name not in ("digits", "glyphs", "inception_v2"):  # a table, and one word of another's
            for word in itertools.chain(*groups(name)):
                assert word in card or (name == "all_cnn" and word[:-1] in card), f"{word} is not in the card of {name}"


@pytest.mark.parametrize(("name", "network"), [*((name, "tiny") for name in NAMES), ("lenet5", "its own")])
def test_each_config_takes_two_steps(name, network, tmp_path):
    """All that a recipe says works together, but for its network, whose compilation takes long; LeNet-5's does not."""
    config = get_config(name, "smoke")
    if config.train.loss == "euclidean":  # boxes have a network and data of their own
        config.data.dir = str(tmp_path)
    else:
        config.data.name = "synthetic"
    if network == "tiny" and config.train.loss != "euclidean":
        config.model = ConfigDict({"name": "tiny", "dtype": "float32", "width": 1.0, "norm": "batch"})
        config.train.aux_weights = ConfigDict({"aux1": 0.3})
        config.optimizer.lr_multipliers = ()
    parallel = DataParallel(devices=jax.devices()[:2])
    experiment = Experiment(config, parallel)
    assert experiment.total_steps == 8
    step = parallel.map(experiment.train_step(), (REPLICATED, SPLIT), (REPLICATED, REPLICATED))
    state = start = experiment.create_state()
    state = parallel.replicate(state)
    with contextlib.closing(
        loader.train_batches(
            experiment.train_source,
            experiment.crop_config,
            loader.DamageReport(experiment.train_source),
            seed=0,
            batch_size=16,
            first_step=0,
            last_step=2,
            shard=loader.ProcessShard(0, 1),
            threads=1,
            processes=0,
            boxes=experiment.task.boxes,
            to_device=parallel.shard,
        )
    ) as batches:
        for batch in batches:
            state, metrics = step(state, batch)
    state, metrics = jax.device_get((state, metrics))
    assert int(state.step) == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, metrics)))
    assert any(
        (leaf != first).any() for leaf, first in zip(*map(jax.tree.leaves, (state.params, start.params)), strict=True)
    )


def test_learning_rates_are_the_papers():
    for name, argument, steps, rates in [
        ("lenet5", "original", 1_200_000, {"1 epoch": 1e-3, "13 epochs": 2e-5}),
        ("alexnet", "caffe", 450_000, {"99999 steps": 1e-2, "100000 steps": 1e-3, "449999 steps": 1e-6}),
        ("vgg", "E", 370_000, {"369999 steps": 0.01}),  # but for the plateaus
        ("vgg", "D,S384", 370_000, {"0 steps": 1e-3}),
        ("nin", "cifar10", 101_562, {"199 epochs": 0.1, "201 epochs": 0.01, "231 epochs": 1e-3}),
        ("nin", "imagenet", 450_000, {"400000 steps": 1e-4}),
        ("all_cnn", "", 68_359, {"199 epochs": 0.05, "251 epochs": 5e-4, "301 epochs": 5e-5}),
        ("googlenet", "paper", 10_009_117, {"7.9 epochs": 0.01, "8.1 epochs": 0.0096, "16.1 epochs": 0.009216}),
        ("googlenet", "caffe", 10_000_000, {"319999 steps": 0.01, "320000 steps": 0.0096}),
        ("googlenet", "caffe_quick", 2_400_000, {"0 steps": 0.01, "1800000 steps": 0.005}),
        ("bn_inception", "x30", 6_000_000, {"1.3 epochs": 0.045, "1.4 epochs": 0.0432}),
        ("bn_inception", "baseline", 13_300_000, {"7.9 epochs": 0.0015, "8.1 epochs": 0.00144}),
        ("inception_v3", "", 80_073, {"1.9 epochs": 0.045, "2.1 epochs": 0.0423}),
        ("inception_v3", "tpu", 213_000, {"2.9 epochs": 0.66, "3.1 epochs": 0.6204}),
        ("inception_v4", "tpu", 80_000, {"1.5 epochs": 0.15 / 0.94**1.5 / 2, "3.9 epochs": 0.15 / 0.94**0.5}),
        ("resnet50", "goyal", 450_410, {"2.5 epochs": 0.05, "29 epochs": 0.1, "31 epochs": 0.01, "81 epochs": 1e-4}),
    ]:
        clock, total, schedule = clock_and_schedule(get_config(name, argument))
        assert total == steps
        assert {at: float(schedule(clock.steps(at))) for at in rates} == pytest.approx(rates, rel=1e-3)


def test_a_larger_batch_trains_on_as_many_images_at_a_higher_rate():
    config = get_config("googlenet", "caffe")
    config.train.batch_size, config.schedule.base_batch_size = 320, 32
    _, total, schedule = clock_and_schedule(config)
    assert total == 1_000_000
    assert [float(schedule(step)) for step in (0, 31_999, 32_000)] == pytest.approx([0.1, 0.1, 0.096])


@pytest.mark.parametrize("letter", ["B", "C", "D", "E"])
def test_a_deep_vgg_takes_over_what_net_a_has(letter):
    config = get_config("vgg", f"{letter},from_a,smoke")
    params, _ = trace_of(config)
    params_of_a, _ = trace_of(get_config("vgg", "A,smoke"))
    new = select(params, config.reinit)
    taken = {layer for layer in params if not any(jax.tree.leaves(new[layer]))}
    assert taken == {"conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"}
    assert all(jax.tree.leaves(new[layer]) == [True, True] for layer in params if layer not in taken)
    for layer in taken:
        shapes, shapes_of_a = (jax.tree.map(lambda x: x.shape, tree[layer]) for tree in (params, params_of_a))
        assert shapes == shapes_of_a


def test_the_input_of_lenet5_has_its_papers_range():
    data = get_config("lenet5").data
    ends = [(pixel - mean) / std for mean, std in zip(data.mean, data.std, strict=True) for pixel in (0, 255)]
    assert ends == pytest.approx([-0.1, 1.175] * 3)


def test_the_rungs_of_inception_v3_differ_by_what_they_are_called():
    rungs = ["v2", "rmsprop", "label_smoothing", "factorized_7x7", "bn_auxiliary"]
    configs = [get_config("inception_v3", rung).to_dict() for rung in rungs]
    assert [differences(a, b) for a, b in itertools.pairwise(configs)] == [
        ["config.optimizer.name: 'sgd' -> 'rmsprop'"],
        ["config.train.label_smoothing: 0.0 -> 0.1"],
        ["config.model.bn_auxiliary: absent -> False", "config.model.name: 'inception_v2' -> 'inception_v3'"],
        ["config.model.bn_auxiliary: False -> True"],
    ]
    assert get_config("inception_v2").to_dict() == configs[0]
    assert get_config("inception_v3").to_dict() == configs[-1]


def test_bn_baseline_is_inception_with_batch_normalisation():
    inception, baseline, x5, x30 = (
        get_config("bn_inception", argument).to_dict() for argument in ("inception", "baseline", "x5", "x30")
    )
    assert differences(inception, baseline) == [
        "config.model.norm: 'none' -> 'batch'",
        "config.train.examples: 992000000 -> 425600000",
    ]
    assert differences(x5, x30) == ["config.schedule.base_lr: 0.0075 -> 0.045"]
    assert baseline["optimizer"]["weight_decay"] == pytest.approx(5 * x5["optimizer"]["weight_decay"])


def test_the_demo_stays_what_it_was():
    assert differences(common.get_config().to_dict(), get_config("digits").to_dict()) == [
        "config.data.area: (0.08, 1.0) -> (0.6, 1.0)",
        "config.data.eval_split: 'validation' -> 'test'",
        "config.data.flip: True -> False",
        "config.data.image_size: 224 -> 64",
        "config.data.mean: (123.0, 117.0, 104.0) -> (127.5, 127.5, 127.5)",
        "config.data.name: 'synthetic' -> 'digits'",
        "config.data.resize: 256 -> 64",
        "config.data.std: (1.0, 1.0, 1.0) -> (127.5, 127.5, 127.5)",
        "config.model.aux: absent -> True",
        "config.model.aux_dropout: absent -> 0.7",
        "config.model.batch_norm_decay: absent -> 0.9",
        "config.model.bn_auxiliary: absent -> False",
        "config.model.dropout: absent -> 0.4",
        "config.model.early_reduction: absent -> 4",
        "config.model.module: absent -> 'reduced'",
        "config.model.norm: absent -> 'batch'",
        "config.model.reduction_width: absent -> None",
        "config.model.stem: absent -> 'convolution'",
        "config.model.top: absent -> 'average'",
        "config.model.width: 1.0 -> 0.25",
        "config.optimizer.weight_decay: 0.0 -> 0.001",
        "config.schedule.base_lr: 0.01 -> 0.1",
        "config.schedule.name: 'constant' -> 'cosine'",
        "config.schedule.warmup: '0 steps' -> '1 epoch'",
        "config.train.batch_size: 32 -> 64",
        "config.train.ema_decay: 0.0 -> 0.95",
        "config.train.epochs: 0.0 -> 14.0",
        "config.train.label_smoothing: 0.0 -> 0.1",
    ]


def test_the_defaults_are_valid_and_canonical():
    config = common.get_config()
    before = repr(config.to_dict())
    validate(config)
    assert repr(config.to_dict()) == before


def test_the_library_takes_every_choice():
    """The choices of a key are stated in configs/common.py; what takes them would refuse another one."""
    config = common.get_config()
    clock = Clock(10, 100)
    for name in choices("optimizer", "name"):
        for style in choices("optimizer", "weight_decay_style"):
            make_optimizer(**config.optimizer.to_dict() | {"name": name, "weight_decay_style": style})
    for name in choices("schedule", "name"):
        make_schedule(clock, 200, **config.schedule.to_dict() | {"name": name})
    for kind in choices("parallel"):
        DataParallel(kind)
    for loss in choices("train", "loss"):
        make_task(loss, 0.0, {})
    for dtype in choices("model", "dtype"):
        create_model("lenet5", dtype=dtype)
    for key, fields in {"crop": "crop_config", "interpolation": "crop_config"}.items():
        for value in choices("data", key):
            config.data.update({"name": "synthetic", "eval_split": "train", key: value})
            config.model.name, config.train.steps, config.train.batch_size = "tiny", 1, 8
            config.train.aux_weights = ConfigDict({"aux1": 0.3})
            assert getattr(getattr(Experiment(config, DataParallel()), fields), key) == value


def choices(*path):
    entry = functools.reduce(lambda table, name: table[name], path, KEYS)
    return [json.loads(word.replace("'", '"')) for word in entry.valid.split(", ")]


def test_wrong_keys_are_named():
    for change, message in (
        (lambda c: setattr(c.train, "epohcs", 3.0), "config.train has no key 'epohcs'; did you mean epochs"),
        (lambda c: setattr(c, "modle", 3), "config has no key 'modle'; did you mean model"),
        (
            lambda c: setattr(c.optimizer, "momentum", "much"),
            "config.optimizer.momentum='much' must be of type float, not",
        ),
        (lambda c: setattr(c.train, "microbatch", True), "config.train.microbatch=True must be of type int, not bool"),
        (lambda c: delattr(c.data, "std"), "config.data.std is missing; start from configs/common.py"),
        (lambda c: delattr(c.model, "width"), "config.model.width is missing; start from configs/common.py"),
        (lambda c: setattr(c.model, "norn", "batch"), "network 'googlenet' has no option 'norn'; it has"),
        (lambda c: setattr(c, "data", "digits"), "config.data='digits' must be of type dict, not str"),
    ):
        config = ConfigDict(common.get_config().to_dict(), type_safe=False)
        change(config)
        with pytest.raises(UserError, match=message):
            validate(config)


# For each key at least one value that is wrong, and what is said of it.
WRONG = [
    ("seed", -1, "=-1 must be at least 0"),
    ("seed", 2**32, "=4294967296 must be between 0 and 4294967295"),
    ("parallel", "jit", "='jit' is not one of shard_map, pmap"),
    ("fast_compile", "yes", "='yes' must be of type bool, not str"),
    ("init_from", "None", "='None': leave it empty, or give a workdir, a checkpoint or a file of exported weights"),
    ("reinit", ("",), " has an empty pattern, which matches everything; remove it, or write '.' for everything"),
    ("model.name", "gogglenet", "there is no network 'gogglenet'; did you mean googlenet"),
    ("model.name", 5, "=5 must be of type str, not int"),
    ("model.dtype", "float16", "='float16' is not one of float32, bfloat16"),
    ("model.width", 0.0, "=0.0 must be at least 0.001"),
    ("model.width", 17.0, "=17.0 must be between 0.001 and 16"),
    ("model.dropout", 1.0, "=1.0 must be a number from 0 to below 1"),
    (
        "data.name",
        "None",
        "='None': give 'folder', 'digits', 'glyphs', 'textures', 'synthetic' or the name of a TFDS data set",
    ),
    ("data.name", "", "='': give 'folder'"),
    ("data.dir", "none", "='none': leave it empty, or give a directory"),
    ("data.boxes", "none", "='none': leave it empty, or give a CSV file or a directory of XML files"),
    ("data.train_split", "None", "='None': give the name of a split"),
    ("data.eval_split", "None", "='None': give the name of a split"),
    ("data.image_size", 0, "=0 must be at least 1"),
    ("data.channels", 2, "=2 is not one of 1, 3"),
    ("data.resize", -5, "=-5 must be at least 1"),
    ("data.crop", "center", "='center' is not one of area, scale, square, central"),
    ("data.area", (0.5, 0.1), "=(0.5, 0.1) must be two numbers between 0.0001 and 1, the smaller one first"),
    ("data.area", (), "=() must be two numbers"),
    ("data.aspect", (0.75, float("inf")), "=(0.75, inf) must be two numbers between 0.01 and 100"),
    ("data.scale", (256, 256.5), "=(256, 256.5) must be two whole numbers between 1 and 8192, the smaller one first"),
    ("data.interpolation", "cubic", "='cubic' is not one of bilinear, mixed"),
    ("data.flip", 1, "=1 must be of type bool, not int"),
    ("data.randaugment", 11, "=11 must be between 0 and 10"),
    ("data.randaugment_magnitude", 11.0, "=11.0 must be between 0 and 10"),
    ("data.photometric", "fast", "='fast' is not one of none, slim, slim_fast"),
    ("data.photometric_strength", 2.0, "=2.0 must be between 0 and 1"),
    ("data.pca_noise", -0.1, "=-0.1 must be at least 0"),
    ("data.mean", (1.0, 2.0), "=(1.0, 2.0) must be three numbers between 0 and 255, or one for all"),
    ("data.mean", (1.0, 2.0, 256.0), "must be three numbers between 0 and 255"),
    ("data.mean", (float("nan"),), "must be three numbers between 0 and 255"),
    ("data.mean", ("a", "b", "c"), "must be three numbers between 0 and 255"),
    ("data.std", (1.0, 0.0, 1.0), "=(1.0, 0.0, 1.0) must be three numbers between 0.001 and 10000.0, or one for all"),
    ("data.whitening", "zca", "='zca' is not one of none, gcn, gcn_zca"),
    ("data.shift", -1, "=-1 must be at least 0"),
    ("data.mixup", -0.2, "=-0.2 must be at least 0"),
    ("data.cutmix", float("nan"), "=nan must be between 0 and 100"),
    ("data.max_pixels", 0, "=0 must be at least 1"),
    ("data.cache", "gpu", "='gpu' is not one of none, memory, device"),
    ("data.threads", -1, "=-1 must be at least 0"),
    ("data.processes", -2, "=-2 must be at least -1"),
    ("train.batch_size", 0, "=0 must be at least 1"),
    ("train.microbatch", -1, "=-1 must be at least 0"),
    ("train.steps", -1, "=-1 must be at least 0"),
    ("train.epochs", float("inf"), "=inf must be between 0 and 1e+30"),
    ("train.examples", -1, "=-1 must be at least 0"),
    ("train.loss", "mse", "='mse' is not one of softmax, map, euclidean"),
    ("train.aux_weights", {"aux1": -0.3}, ".aux1=-0.3 must be at least 0"),
    ("train.aux_weights", {"aux1": "0.3"}, ".aux1='0.3' must be of type float, not str"),
    ("train.label_smoothing", 1.0, "=1.0 must be between 0 and 1, 1 excluded"),
    ("train.ema_decay", 1.0, "=1.0 must be between 0 and 1, 1 excluded"),
    ("train.sync_batch_norm", 0, "=0 must be of type bool, not int"),
    ("train.freeze_batch_norm", 0, "=0 must be of type bool, not int"),
    ("train.recompute", "everything", "='everything' is not one of nothing, activations, blocks"),
    ("train.on_nonfinite", "go on", "='go on' is not one of stop, skip"),
    ("train.max_skips", 0, "=0 must be at least 1"),
    ("optimizer.name", "adam", "='adam' is not one of sgd, rmsprop, adamw, lars, lamb"),
    ("optimizer.momentum", 1.0, "=1.0 must be between 0 and 1, 1 excluded"),
    ("optimizer.nesterov", 0, "=0 must be of type bool, not int"),
    ("optimizer.caffe_momentum", 0, "=0 must be of type bool, not int"),
    ("optimizer.rms_decay", 1.0, "=1.0 must be between 0 and 1, 1 excluded"),
    ("optimizer.rms_epsilon", 0.0, "=0.0 must be at least 1e-30"),
    ("optimizer.weight_decay", -1e-4, "=-0.0001 must be at least 0"),
    ("optimizer.weight_decay_style", "l2", "='l2' is not one of caffe, tf, decoupled"),
    ("optimizer.weight_decay_on", ("kernel", ""), " has an empty pattern"),
    ("optimizer.lr_multipliers", (("", 2.0),), " has an empty pattern"),
    ("optimizer.lr_multipliers", (("bias$", -1.0),), ": the factor of 'bias$'=-1.0 must be at least 0"),
    ("optimizer.lr_multipliers", ("bias$",), ": 'bias$' is not a pair of a pattern and a factor, such as ('bias$'"),
    ("optimizer.lr_multipliers", ("bias$", float("inf")), "=inf must be between 0 and 1000000.0"),
    ("optimizer.freeze", ("",), " has an empty pattern"),
    ("optimizer.freeze", ("(",), ": '(' is not a regular expression"),
    ("optimizer.freeze", (1,), "=1 must be of type str, not int"),
    ("optimizer.clip_norm", -1.0, "=-1.0 must be at least 0"),
    ("optimizer.max_norm", -1.0, "=-1.0 must be at least 0"),
    ("optimizer.max_rms", -1.0, "=-1.0 must be at least 0"),
    ("schedule.name", "step", "='step' is not one of constant, exponential, piecewise, poly, cosine, plateau"),
    ("schedule.base_lr", 0.0, "=0.0 must be at least 1e-30"),
    ("schedule.base_batch_size", -1, "=-1 must be at least 0"),
    ("schedule.warmup", "5", "='5' is not a duration; write '500 steps', '8 epochs' or '10000 examples'"),
    ("schedule.every", "0 steps", "='0 steps' must be longer than 0"),
    ("schedule.rate", 0.0, "=0.0 must be at least 1e-30"),
    ("schedule.power", 0.0, "=0.0 must be at least 1e-30"),
    ("schedule.boundaries", ("5 steps", "0 epochs"), "='0 epochs' must be longer than 0"),
    ("schedule.boundaries", ("soon",), "='soon' is not a duration"),
    ("schedule.patience", 0, "=0 must be at least 1"),
    ("schedule.end_lr", -1.0, "=-1.0 must be at least 0"),
    ("eval.every", "0 epochs", "='0 epochs' must be longer than 0"),
    ("eval.batch_size", -1, "=-1 must be at least 0"),
    ("eval.batch_norm_check", -1, "=-1 must be at least 0"),
    ("checkpoint.every", "1e400 steps", "='1e400 steps' must be at most 1e+15 steps, epochs or examples"),
    ("checkpoint.keep", 0, "=0 must be at least 1"),
    ("log.every", "0 steps", "='0 steps' must be longer than 0"),
    ("log.tensorboard", 0, "=0 must be of type bool, not int"),
    ("log.report", 0, "=0 must be of type bool, not int"),
    ("log.profile_at", -1, "=-1 must be at least 0"),
    ("log.profile_steps", 0, "=0 must be at least 1"),
]


def changed(key, value):
    """The default config with another value of `key`, whatever its type."""
    config = ConfigDict(common.get_config().to_dict(), type_safe=False)
    *sections, name = key.split(".")
    functools.reduce(getattr, sections, config)[name] = value
    return config


def test_a_wrong_value_is_named_with_what_is_right():
    for key, value, message in WRONG:
        with pytest.raises(UserError) as error:
            validate(changed(key, value))
        assert message in str(error.value), key
        assert str(error.value).startswith((f"config.{key}", "there is no network"))


def test_every_key_has_a_wrong_value():
    keys = {re.sub(r"(aux_weights)\..*", r"\1", key) for key in leaves(common.get_config().to_dict())}
    assert keys - {key for key, _, _ in WRONG} == set()


@pytest.mark.parametrize(
    ("key", "given", "held"),
    [
        ("data.mean", (127.5,), (127.5, 127.5, 127.5)),
        ("data.std", [1, 2, 3], (1.0, 2.0, 3.0)),
        ("data.scale", (256.0, 512.0), (256, 512)),
        ("eval.every", " 1E3  Steps", "1e3 steps"),
        ("schedule.boundaries", ("8 Epochs",), ("8 epochs",)),
        ("schedule.warmup", "0 epochs", "0 epochs"),
        ("optimizer.freeze", ["^stem"], ("^stem",)),
        ("optimizer.lr_multipliers", ("bias$", 2), (("bias$", 2.0),)),
        ("optimizer.lr_multipliers", ("bias$", 2.0, ".", 0.5), (("bias$", 2.0), (".", 0.5))),
        ("optimizer.lr_multipliers", [["bias$", 2.0]], (("bias$", 2.0),)),
        ("optimizer.lr_multipliers", (), ()),
        ("train.aux_weights", {}, {}),
    ],
)
def test_values_are_brought_to_one_form(key, given, held):
    config = changed(key, given)
    validate(config)
    *sections, name = key.split(".")
    value = functools.reduce(getattr, sections, config).to_dict()[name]
    assert repr(value) == repr(held)


def test_differences_leave_out_what_may_change():
    old, new = common.get_config().to_dict(), common.get_config()
    new.log.every, new.data.threads, new.parallel = "1 step", 1, "pmap"
    new.train.on_nonfinite = "skip"
    new.train.recompute = "blocks"
    assert differences(old, new.to_dict()) == []
    new.seed = 5
    new.model.aux = False
    del old["data"]["max_pixels"]  # as in a workdir from before there was this key
    assert differences(old, new.to_dict()) == ["config.model.aux: absent -> False", "config.seed: 0 -> 5"]


def test_a_cache_is_a_difference_only_where_it_draws_other_crops():
    def changed(crop, *caches):
        old, new = ({"data": {"crop": crop, "cache": cache} if cache else {"crop": crop}} for cache in caches)
        return differences(old, new)

    for crop in CROPS:
        assert (
            changed(crop, "none", "memory") == changed(crop, None, "memory") == changed(crop, "device", "device") == []
        )
        lines = [f"config.data.cache: {was} -> 'device'" for was in ("'memory'", "absent")]
        lines = [] if crop == "central" else lines
        assert changed(crop, "memory", "device") + changed(crop, None, "device") == lines


class Recorder:
    """A config that notes which of its leaves are read one by one."""

    def __init__(self, config, read, prefix=""):
        self._config, self._read, self._prefix = config, read, prefix

    def __getattr__(self, name):
        value = getattr(self._config, name)
        if isinstance(value, ConfigDict):
            return Recorder(value, self._read, f"{self._prefix}{name}.")
        if not callable(value):
            self._read.add(self._prefix + name)
        return value

    def __getitem__(self, name):
        return getattr(self, name)

    def __iter__(self):
        return iter(self._config)

    def __contains__(self, name):
        return name in self._config


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_every_key_is_read(tiny_config, tmp_path):
    """The sections that are passed on whole are looked at below, key by key."""
    read = set()
    tiny_config.log.profile_at = 20  # never reached
    loop.train_and_evaluate(Recorder(tiny_config, read), str(tmp_path))
    whole = ("model.", "optimizer.", "schedule.")
    expected = {key for key in leaves(tiny_config.to_dict()) if not key.startswith(whole)}
    expected.remove("log.report")  # main.py reads it
    assert expected <= read | {"train.aux_weights.aux1"}
    assert expected - read == set()


CLOCK, SCHEDULE = Clock(10, 100), common.get_config().schedule.to_dict()


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("constant", "base_lr", 0.2),
        ("constant", "warmup", "5 steps"),
        ("exponential", "every", "1 epoch"),
        ("exponential", "rate", 0.5),
        ("piecewise", "rate", 0.5),
        ("piecewise", "boundaries", ("10 steps",)),
        ("poly", "power", 1.0),
        ("poly", "end_lr", 0.001),
        ("cosine", "end_lr", 0.001),
        ("constant", "name", "cosine"),
    ],
)
def test_every_key_of_the_schedule_changes_it(name, key, value):
    section = common.get_config().schedule.to_dict() | {"name": name, "boundaries": ("50 steps",)}
    before, after = (make_schedule(CLOCK, 200, **options) for options in (section, section | {key: value}))
    assert any(float(before(step)) != float(after(step)) for step in range(200))


@pytest.mark.parametrize(
    ("boundaries", "steps"), [(("5 steps", "0.5 epochs"), "5, 5"), (("1 example", "5 steps"), "0, 5")]
)
def test_boundaries_are_different_steps(boundaries, steps):
    with pytest.raises(UserError, match=f"are the steps {steps}; they must differ, and come after the first step"):
        make_schedule(CLOCK, 200, **SCHEDULE | {"name": "piecewise", "boundaries": boundaries})


@pytest.mark.parametrize("options", [{"every": "1e15 epochs"}, {"name": "piecewise", "boundaries": ("1e15 epochs",)}])
def test_a_fall_after_the_end_never_comes(options):
    schedule = make_schedule(CLOCK, 200, **SCHEDULE | {"name": "exponential", "base_lr": 0.1, "rate": 0.5} | options)
    assert [float(schedule(jax.numpy.int32(step))) for step in (0, 200)] == pytest.approx([0.1, 0.1])


def test_more_steps_than_can_be_counted():
    with pytest.raises(UserError, match="epochs=1e.25 is more than 2147483647 steps"):
        CLOCK.total_steps(0, 1e25, 0)
    assert CLOCK.total_steps(0, 1e-05 * 1e6, 0) == 100


@pytest.mark.parametrize(
    ("key", "value"), [("momentum", 0.5), ("nesterov", True), ("weight_decay", 0.1), ("clip_norm", 0.1)]
)
def test_every_key_of_the_optimizer_changes_the_update(key, value):
    section = common.get_config().optimizer.to_dict()
    params = {"kernel": np.ones(3, np.float32)}
    ends = []
    for options in (section, section | {key: value}):
        optimizer = make_optimizer(**options)
        state = with_learning_rate(optimizer.init(params), np.float32(0.1))
        for _ in range(2):
            updates, state = optimizer.update(params, state, params)
        ends.append(updates["kernel"])
    assert not np.array_equal(*ends)


def test_every_option_of_googlenet_changes_it():
    """Its description, of which the network is made; tests of the blocks say that each part of it counts."""
    section = importlib.import_module("configs.googlenet").get_config().model.to_dict() | {"norm": "batch"}
    other = {
        "module": "naive",
        "stem": "separable",
        "norm": "none",
        "early_reduction": 2,
        "reduction_width": 0.5,
        "top": "fc",
        "aux": False,
        "bn_auxiliary": True,
        "dropout": 0.1,
        "aux_dropout": 0.1,
        "width": 0.5,
        "batch_norm_decay": 0.5,
        "dtype": "bfloat16",
    }
    assert set(section) - {"name"} == set(other)
    assert description(section) == description(section)
    for key, value in other.items():
        assert description(section) != description(section | {key: value}), key


def description(section):
    model = create_model(num_classes=10, **section)
    return model.layers, model.aux_heads, model.style, model.dtype
