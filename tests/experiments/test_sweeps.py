"""The papers' ablations, as files: what each run is on each data set. Nothing is trained or computed."""

import functools
import itertools
import math
import pathlib
import re

import jax
import pytest

from configs import digits
from experiments import sweeps
from experiments.sweep import bench, plan
from experiments.sweep.plan import ROOT
from inception_jax.errors import UserError
from inception_jax.models import create_model, trace

# What each ablation is about: the keys that its variants change, on the embedded images.
KEYS = {
    "alexnet": {"model.lrn", "model.overlapping_pools"},
    "all_cnn": {"model.name"},
    "bn_inception": {"model.norm", "model.lrn", "model.dropout", "model.activation", "optimizer.weight_decay",
                     "schedule.base_lr"},
    "crops_models": {"seed"},
    "googlenet_aux": {"model.aux", "model.bn_auxiliary", "train.aux_weights.aux1", "train.aux_weights.aux2"},
    "googlenet_lrn": {"model.lrn", "model.norm", "schedule.base_lr"},
    "googlenet_module": {"model.module", "model.width"},
    "googlenet_reduction": {"model.reduction_width"},
    "googlenet_top": {"model.top", "model.dropout"},
    "inception_resnet": {"model.residual", "model.residual_scale"},
    "inception_v3": {"model.name", "model.bn_auxiliary", "optimizer.name", "train.label_smoothing"},
    "interpolation": {"data.interpolation"},
    "label_smoothing": {"train.label_smoothing"},
    "nin": {"model.mlpconv", "model.width"},
    "optimizer": {"optimizer.name", "optimizer.rms_epsilon", "schedule.base_lr"},
    "polyak": {"train.ema_decay"},
    "receptive_field": {"data.image_size", "data.resize", "data.shift", "model.early_reduction"},
    "vgg": {"model.name"},
}  # fmt: skip
# The recipe on the paper's own data, and what of it is another's: batch normalisation came later than GoogLeNet.
RECIPES = {
    "alexnet": "alexnet.py",
    "all_cnn": "all_cnn.py",
    "bn_inception": "bn_inception.py:inception",
    "crops_models": "googlenet.py",
    "googlenet_aux": "googlenet.py",
    "googlenet_lrn": "bn_inception.py:inception",
    "googlenet_module": "googlenet.py",
    "googlenet_reduction": "googlenet.py",
    "googlenet_top": "googlenet.py",
    "inception_resnet": "inception_resnet_v1.py",
    "inception_v3": "inception_v3.py",
    "interpolation": "googlenet.py",
    "label_smoothing": "inception_v3.py",
    "nin": "nin.py",
    "optimizer": "inception_v3.py:rmsprop",
    "polyak": "googlenet.py",
    "receptive_field": "googlenet.py",
    "vgg": "vgg.py:A",
}
CIFAR = ("all_cnn", "nin")  # their papers', where there is none on ImageNet
OFTEN = ("embedded", "imagenet2012")


@functools.cache
def sweep_of(name, data):
    return plan.load(f"{ROOT}/experiments/sweeps/{name}.py:{data}")[0]


@functools.cache
def runs_of(name, data):
    """The runs of the first seed, of a planned sweep on its first set of images."""
    sweep = sweep_of(name, data)
    if not sweep.base.sets:
        return plan.tasks_of(sweep, ROOT / "runs" / name, seeds=1)
    first = next(iter(sweep.base.sets.values()))
    flags = {variant: plan.flags_of(sweep, variant, 0, overrides=first.overrides) for variant in sweep.variants}
    return [plan.Task(f"{variant}/0", 0, ("main.py", *these)) for variant, these in flags.items()]


@functools.cache
def configs(name, data):
    """The config of each variant as main.py would have it, flat."""
    trainings = [run for run in runs_of(name, data) if not run.needs]
    return {run.name.partition("/")[0]: dict(flat(plan.resolve(run.command[1:]).to_dict())) for run in trainings}


def flat(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@functools.cache
def network(name, data, variant):
    """The network, and the shape of its images."""
    config = configs(name, data)[variant]
    options = {key.removeprefix("model."): value for key, value in config.items() if key.startswith("model.")}
    size = config["data.image_size"]
    classes = {"imagenet2012": 1000, "cifar100": 100}.get(data, 10)
    return create_model(num_classes=classes, **options), (size, size, config["data.channels"])


@functools.cache
def layers(name, data, variant):
    """Those of inference."""
    model, shape = network(name, data, variant)
    return trace.layers(model.clone(aux_heads=()), shape)[0]


def multiply_adds(name, data, *variants):
    return [sum(layer.multiply_adds for layer in layers(name, data, variant)) for variant in variants]


def parameters(name, data, variant):
    return trace.parameters(*network(name, data, variant))


def changed(old, new):
    """The keys in which two configs differ."""
    return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}


def pairs_of(claim):
    better, than = ((one,) if isinstance(one, str) else one for one in (claim.better, claim.than))
    return zip(better, than, strict=True)


def test_every_subject_has_a_file():
    files = pathlib.Path(sweeps.__file__).parent.glob("[!_]*.py")
    assert sorted({file.stem for file in files} - {"recipes"}) == sorted(KEYS) == sorted(RECIPES)
    for name, keys in KEYS.items():
        assert {key for changes in sweep_of(name, "embedded").variants.values() for key in changes} == keys, name


@pytest.mark.parametrize("data", sweeps.DATA)
def test_every_run_of_every_file(data):
    """Its config is valid, its network takes images of that size, and it is not that of another variant."""
    for name in KEYS:
        if data == "imagenet2012" and name in CIFAR:
            with pytest.raises(UserError, match="is the paper's network for cifar10; the paper has none for imagenet"):
                sweep_of(name, data)
            continue
        sweep = sweep_of(name, data)
        plan.check(runs_of(name, data))
        assert sweep.title, name
        assert sweep.text, name
        assert sweep.seeds == 3, name
        for claim in sweep.claims:
            assert claim.text, name
            assert claim.source, name
            pairs = list(pairs_of(claim))
            if len(pairs) > 1 and name != "all_cnn":  # all_cnn's are names
                assert len({frozenset(changed(*map(configs(name, data).get, pair))) for pair in pairs}) == 1, name
        assert bool(sweep.printed) == bool(sweep.printed_what), name
        for variant, config in configs(name, data).items():
            for key, value in sweep.variants[variant].items():
                same = config[key] == pytest.approx(value) if isinstance(value, float) else config[key] == value
                assert same, (name, variant, key)
        for (_, one), (_, other) in itertools.combinations(configs(name, data).items(), 2):
            assert changed(one, other), name


def test_the_small_recipes_are_a_sweep_too():
    for data in ("digits", "glyphs"):
        recipes = configs("recipes", data)
        assert list(recipes) == list(digits.NETWORKS)
        assert {config["data.name"].partition("/")[0] for config in recipes.values()} == {data}
        for variant, config in recipes.items():
            assert config["model.name"] == (digits.NETWORKS[variant].network or variant)
    with pytest.raises(UserError, match="recipes.py:cifar10: 'cifar10' is not one of digits, glyphs"):
        plan.load(f"{ROOT}/experiments/sweeps/recipes.py:cifar10")


def test_on_the_papers_own_data_it_is_the_papers_recipe():
    for name, recipe in RECIPES.items():
        base = sweep_of(name, "cifar10" if name in CIFAR else "imagenet2012").base
        normalised = name in ("googlenet_aux", "receptive_field")
        assert base == sweeps.Base(f"configs/{recipe}", {"model.norm": "batch"} if normalised else {}), name


GLYPHS = "glyphs/train=3000,test=2000,difficulty=0,classes=10"
SIZES = [
    ("googlenet_module", "cifar10", ("cifar10", "test", 32, 1.0)),
    ("googlenet_module", "imagenette/320px-v2", ("imagenette/320px-v2", "validation", 128, 1.0)),
    ("vgg", "cifar100", ("cifar100", "test", 32, 1.0)),
    ("alexnet", "cifar100", ("cifar100", "test", 64, 1.0)),
    ("inception_resnet", "cifar10", ("cifar10", "test", 75, 1.0)),
    ("optimizer", "cifar10", ("cifar10", "test", 75, 1.0)),
    ("inception_v3", "imagenette/320px-v2", ("imagenette/320px-v2", "validation", 128, 1.0)),
    ("googlenet_module", "embedded", (GLYPHS, "test", 32, 0.25)),
    ("all_cnn", "embedded", (GLYPHS, "test", 24, 0.25)),
    ("bn_inception", "embedded", (GLYPHS, "test", 48, 0.25)),
]


def test_data():
    for name, data, expected in SIZES:
        config = next(iter(configs(name, data).values()))
        keys = ("data.name", "data.eval_split", "data.image_size", "model.width")
        assert tuple(config[key] for key in keys) == expected, name
        assert config["data.resize"] == config["data.image_size"]
        if data == "embedded":
            assert (config["train.epochs"], config["train.batch_size"]) == (0, 32)
            assert 100 <= config["train.steps"] <= 2000
        else:
            assert (config["train.epochs"], config["train.batch_size"], config["data.flip"]) == (60, 128, True)


def test_a_config_keeps_nothing_of_another():
    base = plan.Task("a/0", 0, ("main.py", "--config=configs/glyphs.py:googlenet"))
    other = plan.Task("b/0", 0, (*base.command, "--config.model.reduction_width=2.0"))
    assert [plan.resolve(run.command[1:]).model.reduction_width for run in (base, other, base)] == [None, 2.0, None]


PRINTED = {
    "inception_v3": (
        "top-1 error in %",
        {"v2": "23.4", "rmsprop": "23.1", "label_smoothing": "22.8", "factorized_7x7": "21.6", "bn_auxiliary": "21.2"},
    ),
    "vgg": ("top-1 error in %", {"A": "29.6", "A-LRN": "29.7", "B": "28.7", "C": "28.1", "D": "27.0", "E": "27.3"}),
    "bn_inception": (
        "best top-1 accuracy in %",
        {"inception": "72.2", "baseline": "72.7", "x5": "73.0", "x30": "74.8", "x5_sigmoid": "69.8"},
    ),
    "receptive_field": ("top-1 accuracy in %", {"32": "76.6", "16": "76.4", "8": "75.2"}),
    "optimizer": ("top-1 error in %", {"momentum": "23.4", "rmsprop": "23.1"}),
    "alexnet": ("top-1 error in %", {"lrn-overlap": "40.66", "no_lrn-overlap": "42.03", "lrn-no_overlap": "41.06"}),
    "all_cnn": (
        "error in %",
        {
            "base-a": "12.47",
            "strided-a": "13.46",
            "conv_pool-a": "10.21",
            "all-a": "10.30",
            "base-b": "10.20",
            "strided-b": "10.98",
            "conv_pool-b": "9.33",
            "all-b": "9.10",
            "base-c": "9.74",
            "strided-c": "10.19",
            "conv_pool-c": "9.31",
            "all-c": "9.08",
        },
    ),
}


def test_what_the_papers_print():
    found = {name: sweep_of(name, "embedded") for name in KEYS}
    assert {name: dict(sweep.printed) for name, sweep in found.items() if sweep.printed} == {
        name: numbers for name, (_, numbers) in PRINTED.items()
    }
    for name, (what, _) in PRINTED.items():
        assert found[name].printed_what.startswith(what), name


# ---- GoogLeNet


def test_naive_modules_at_equal_compute():
    """As the file says, within 4 %; at equal width they cost several times as much."""
    for data in (*OFTEN, "cifar10"):
        of = configs("googlenet_module", data)
        costs = dict(zip(of, multiply_adds("googlenet_module", data, *of), strict=True))
        assert costs["naive-equal_compute"] == pytest.approx(costs["reduced"], rel=0.04)
        assert data == "embedded" or costs["naive-equal_width"] > 5 * costs["reduced"]
        assert all((config["model.module"] == "naive") == ("naive" in variant) for variant, config in of.items())


def test_auxiliary_heads():
    for data in OFTEN:
        configs_of = configs("googlenet_aux", data)
        weights = {
            variant: (c["train.aux_weights.aux1"], c["train.aux_weights.aux2"]) for variant, c in configs_of.items()
        }
        assert weights == {
            "both": (0.3, 0.3),
            "none": (0.3, 0.3),
            "lower": (0.3, 0.0),
            "upper": (0.0, 0.3),
            "both-weight_0.1": (0.1, 0.1),
            "both-weight_1.0": (1.0, 1.0),
            "both-normalised": (0.3, 0.3),
        }
        assert {config["model.norm"] for config in configs_of.values()} == {"batch"}
        for variant in weights:
            model, _ = network("googlenet_aux", data, variant)
            assert [head.name for head in model.aux_heads] == ([] if variant == "none" else ["aux1", "aux2"])


def test_normalised_heads_and_no_others():
    both, normalised = (parameters("googlenet_aux", "embedded", variant) for variant in ("both", "both-normalised"))
    assert {name for name in both if both[name] != normalised[name]} == {"aux1", "aux2"}


def test_local_response_normalisation():
    """With and without it, with and without the other thing."""
    for name in ("alexnet", "googlenet_lrn"):
        key = {"alexnet": "model.overlapping_pools", "googlenet_lrn": "model.norm"}[name]
        configs_of = configs(name, "embedded")
        assert len({(config["model.lrn"], config[key]) for config in configs_of.values()}) == 4
        for variant, config in configs_of.items():
            assert config["model.lrn"] == ("no_lrn" not in variant)
            if name == "alexnet":
                assert config[key] == ("no_overlap" not in variant)
            else:
                assert config[key] == ("batch" if "batch" in variant else "none")


def test_the_top():
    """The layer that sees the whole grid of 7 x 7 x 1024, and dropout before the classifier alone."""
    average, dense = (parameters("googlenet_top", "imagenet2012", f"{top}-dropout_0.4") for top in ("average", "fc"))
    assert sum(dense.values()) - sum(average.values()) == 7 * 7 * 1024 * 1024 + 1024
    configs_of = configs("googlenet_top", "imagenet2012")
    assert [(config["model.top"], config["model.dropout"]) for config in configs_of.values()] == [
        (top, rate) for top in ("average", "fc") for rate in (0.4, 0.0, 0.7)
    ]
    assert {config["model.aux_dropout"] for config in configs_of.values()} == {0.7}


def test_the_width_of_reductions():
    """Inception 3b reduces to 128 and 32 channels, a quarter of them here."""
    for variant, factor in {"0.25": 0.25, "0.5": 0.5, "1": 1, "2": 2}.items():
        tree = trace.abstract_variables(*network("googlenet_reduction", "embedded", variant))["params"]
        filters = [tree["inception_3b"][f"conv{size}_reduce"]["kernel"].shape[-1] for size in ("3x3", "5x5")]
        assert filters == [32 * factor, 8 * factor]


def test_receptive_fields_at_equal_cost():
    """Behind the stem are the same layers, and grids; but for a row or two of the paper's sizes, on ImageNet."""
    for data in OFTEN:
        large, middle, small = configs("receptive_field", data)
        if data == "imagenet2012":
            assert (large, middle, small) == ("299", "151", "79")
        costs = multiply_adds("receptive_field", data, large, middle, small)
        assert max(costs) / min(costs) < 1.25
        sides, sizes = [], []
        for variant in (large, middle, small):
            found = layers("receptive_field", data, variant)
            names = [layer.name for layer in found]
            sides.append([layer.output[0] for layer in found[names.index("inception_3a") :]])
            sizes.append(sum(layer.parameters for layer in found))
        if data == "embedded":
            assert sides[0] == sides[1] == sides[2]
        assert [side[0] for side in sides] == {"embedded": [4, 4, 4], "imagenet2012": [37, 37, 39]}[data]
        assert sizes[0] == sizes[1] == sizes[2]


def test_crops_and_models():
    """Every protocol of Table 3 alone and as an ensemble, whose members no other ensemble has."""
    sweep = sweep_of("crops_models", "embedded")
    assert {(len(e.members), e.protocol) for e in sweep.evaluations.values()} == set(
        itertools.product((1, 3), ("single", "10crop", "144crop"))
    )
    seeds = [
        plan.resolve(plan.flags_of(sweep, variant, seed)).seed
        for seed in range(bench.MOST_SEEDS)
        for variant in sweep.variants
    ]
    assert len(set(seeds)) == len(seeds) == 3 * bench.MOST_SEEDS
    [ensemble] = [run for run in bench.evaluation_tasks(sweep, ROOT, 3) if run.name.endswith("3x144crop/2")]
    assert ensemble.needs == ("training/model_0", "training/model_1", "training/model_2")
    members = [f"--workdir={ROOT}/textures/model_{number}/2" for number in range(3)]
    assert list(ensemble.command[2:5]) == members


def test_a_set_of_images_goes_over_the_base_and_a_variant_over_both():
    base = sweeps.Base("configs/glyphs.py", {"train.steps": 1, "train.batch_size": 2})
    sweep = sweeps.Sweep("t", "t", base, {"a": {}, "b": {"train.steps": 9}})
    for variant, steps in (("a", 5), ("b", 9)):
        config = plan.resolve(plan.flags_of(sweep, variant, 0, overrides={"train.steps": 5}))
        assert (config.train.steps, config.train.batch_size) == (steps, 2)


def test_a_planned_sweep_never_tunes_on_what_it_is_tested_on():
    """Nor on what it learns from: the splits of each set share no image."""
    for name in KEYS:
        for one in sweep_of(name, "embedded").base.sets.values():
            assert one.overrides["data.eval_split"] == "test"
            end = re.fullmatch(r"train\[:(\d+)\]", one.overrides["data.train_split"])[1]
            begin = re.fullmatch(r"train\[(\d+):\]", one.validation)[1]
            assert int(end) <= int(begin), name


def test_polyak_and_interpolation():
    decays = [config["train.ema_decay"] for config in configs("polyak", "imagenet2012").values()]
    assert decays == [0.0, 0.999, 0.9999]
    assert [config["train.ema_decay"] for config in configs("polyak", "embedded").values()] == [0.0, 0.95, 0.99]
    assert [config["data.interpolation"] for config in configs("interpolation", "embedded").values()] == [
        "bilinear", "mixed"
    ]  # fmt: skip


# ---- Batch normalisation


def test_batch_normalisation():
    """Section 4.2: rates of 1, 5 and 30 times Inception's; accelerated, no LRN, no dropout, a fifth of the decay."""
    for data in sweeps.DATA:
        of = configs("bn_inception", data)
        rate, decay = (of["inception"][key] for key in ("schedule.base_lr", "optimizer.weight_decay"))
        ratios = {variant: config["schedule.base_lr"] / rate for variant, config in of.items()}
        assert ratios == pytest.approx({"inception": 1, "baseline": 1, "x5": 5, "x30": 30, "x5_sigmoid": 5})
        if data == "imagenet2012":
            assert rate == 0.0015
        assert changed(of["inception"], of["baseline"]) == {"model.norm"}
        assert (of["inception"]["model.norm"], of["baseline"]["model.norm"]) == ("none", "batch")
        assert of["inception"]["model.lrn"] is True
        assert of["inception"]["model.dropout"] == pytest.approx(0.4)
        for variant in ("x5", "x30", "x5_sigmoid"):
            config = of[variant]
            assert (config["model.norm"], config["model.lrn"], config["model.dropout"]) == ("batch", False, 0.0)
            assert config["optimizer.weight_decay"] == pytest.approx(decay / 5)
        assert changed(of["x5"], of["x30"]) == {"schedule.base_lr"}
        assert changed(of["x5"], of["x5_sigmoid"]) == {"model.activation"}
        assert {config["optimizer.name"] for config in of.values()} == {"adamw" if data == "embedded" else "sgd"}
        if data == "imagenet2012":
            every = [float(of[variant]["schedule.every"].split()[0]) for variant in ("inception", "x5")]
            assert every[0] == pytest.approx(6 * every[1])
            assert of["x5"]["data.photometric_strength"] < of["inception"]["data.photometric_strength"]


# ---- Inception-v3 and after it


def test_each_rung_adds_one_thing():
    for data in sweeps.DATA:
        rungs = configs("inception_v3", data)
        assert [changed(old, new) for old, new in itertools.pairwise(rungs.values())] == [
            {"optimizer.name"}, {"train.label_smoothing"}, {"model.name"}, {"model.bn_auxiliary"}
        ]  # fmt: skip
        keys = ("model.name", "optimizer.name", "train.label_smoothing", "model.bn_auxiliary")
        assert [rungs["v2"][key] for key in keys] == ["inception_v2", "sgd", 0.0, False]
        assert [rungs["bn_auxiliary"][key] for key in keys] == ["inception_v3", "rmsprop", 0.1, True]
        assert {rung["schedule.base_lr"] for rung in rungs.values()} == {0.045 if data == "imagenet2012" else 0.1}
        claims = sweep_of("inception_v3", data).claims
        assert [(claim.than, claim.better) for claim in claims] == list(itertools.pairwise(rungs))


def test_label_smoothing_and_optimizers():
    for data in OFTEN:
        smoothing = configs("label_smoothing", data)
        assert {float(variant): config["train.label_smoothing"] for variant, config in smoothing.items()} == {
            0.0: 0.0, 0.1: 0.1, 0.2: 0.2, 0.4: 0.4
        }  # fmt: skip
        of = configs("optimizer", data)
        assert {config["model.name"] for config in of.values()} == {"inception_v2"}
        for name, optimizer in {"momentum": "sgd", "rmsprop": "rmsprop"}.items():
            usual = of[name]
            assert usual["optimizer.name"] == optimizer
            if data != "embedded":  # where each variant is tuned
                lower = of[f"{name}-lower_rate"]
                assert changed(usual, lower) == {"schedule.base_lr"}
                assert usual["schedule.base_lr"] == pytest.approx(5 * lower["schedule.base_lr"])
            assert [usual[f"optimizer.{key}"] for key in ("momentum", "rms_decay", "rms_epsilon")] == [0.9, 0.9, 1.0]
        assert of["rmsprop-epsilon_1e-6"]["optimizer.rms_epsilon"] == 1e-6
        assert changed(of["momentum"], of["rmsprop"]) == {"optimizer.name"}
        if data == "imagenet2012":
            assert of["rmsprop"]["schedule.base_lr"] == 0.045


def test_residuals():
    """Without shortcuts the blocks have the very same layers."""
    of = configs("inception_resnet", "embedded")
    scales = {variant: config["model.residual_scale"] for variant, config in of.items()}
    assert scales == {"scale_0.1": 0.1, "scale_0.2": 0.2, "scale_0.3": 0.3, "scale_1.0": 1.0, "no_residual": None}
    assert [variant for variant, config in of.items() if not config["model.residual"]] == ["no_residual"]
    first, last = (parameters("inception_resnet", "embedded", variant) for variant in ("scale_0.1", "no_residual"))
    assert first == last
    for name in ("inception_resnet_v1", "inception_resnet_v2"):
        options = digits.NETWORKS[name].options | {"residual_scale": None}
        both = [create_model(name, 10, **options | {"residual": residual}) for residual in (True, False)]
        trees = [trace.parameters(model, (75, 75, 3)) for model in both]
        assert trees[0] == trees[1]


# ---- Networks of plain layers


def test_vgg():
    """Weight layers as in Table 1; 1x1 convolutions in C alone."""
    found = {}
    for variant in sweep_of("vgg", "embedded").variants:
        tree = trace.abstract_variables(*network("vgg", "embedded", variant))["params"]
        kernels = [leaf.shape for leaf in jax.tree.leaves(tree) if leaf.ndim > 1]
        found[variant] = (len(kernels), sum(shape[:2] == (1, 1) for shape in kernels if len(shape) == 4))
    assert {variant: count for variant, (count, _) in found.items()} == {
        "A": 11, "A-LRN": 11, "B": 13, "C": 16, "D": 16, "E": 19
    }  # fmt: skip
    assert found["C"][1] == found["D"][1] + 3


def test_linear_convolutions_at_equal_compute():
    """As the file says, within 2 %."""
    for data in ("embedded", "cifar10"):
        perceptron, equal, wide = multiply_adds("nin", data, "mlpconv", "linear-equal_compute", "linear-equal_width")
        assert equal == pytest.approx(perceptron, rel=0.02)
        assert wide > 1.1 * perceptron
        assert [config["model.mlpconv"] for config in configs("nin", data).values()] == [True, False, False]


def test_all_cnn():
    """The twelve networks; strides in place of pools change no layer, the others have convolutions more."""
    kinds = ("base", "strided", "conv_pool", "all")
    names = {variant: config["model.name"] for variant, config in configs("all_cnn", "cifar10").items()}
    assert names == {f"{kind}-{letter}": f"{kind}_cnn_{letter}" for letter in "abc" for kind in kinds}
    for letter in "abc":
        sizes = [sum(parameters("all_cnn", "embedded", f"{kind}-{letter}").values()) for kind in kinds]
        assert sizes[0] == sizes[1] < sizes[2] == sizes[3]
    assert math.isclose(configs("all_cnn", "embedded")["base-c"]["model.width"], 0.25)
