"""The papers' ablations, one file each, and the classes that they are written with.

A file has `get_sweep(data)`, which returns a `Sweep` on one of `DATA`, or on one of the file's own `DATA`. "embedded"
are the images that come with this package, on small copies of the networks. The others train the full networks: on
what TFDS can fetch, or on the paper's own data by its recipe, configs/*.py.

python -m experiments.sweep experiments/sweeps/googlenet_lrn.py --workdir=runs/googlenet_lrn
python -m experiments.sweep experiments/sweeps/googlenet_lrn.py:imagenet2012 --workdir=/data/googlenet_lrn
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from inception_jax.errors import UserError

# Keys of the config and their values, such as {"model.norm": "none"}.
Overrides = Mapping[str, Any]

# Ten classes of difficulty 1, which many networks without batch normalisation learn in a few hundred steps. Networks
# that do not, such as those by momentum SGD, get the digits.
GLYPHS = "glyphs/test=1000,difficulty=1,classes=10"

# What all runs on the embedded images change. Batches of 32 allow more steps in the time than larger ones.
_EMBEDDED = {
    "train.epochs": 0.0,
    "train.batch_size": 32,
    "eval.every": "50 steps",
    "checkpoint.every": "200 steps",
    "checkpoint.keep": 1,
    "log.every": "25 steps",
    "log.tensorboard": False,
    "log.report": False,
}
_GLYPHS = {"data.name": GLYPHS, "eval.batch_size": 250}
_SMALLER = {"model.width": 0.25, "data.image_size": 24, "data.resize": 24}
# What each network changes: a number of steps and a learning rate. In trials with seed 0 (GoogLeNet: 0 and 1) the
# baseline had begun to learn with them, and had not yet learnt everything, within about a minute on one core.
_REDUCED = {
    "alexnet": {"train.steps": 600, "schedule.base_lr": 3e-4, **_GLYPHS},
    "vgg_a": {"train.steps": 800, "schedule.base_lr": 1e-3, **_GLYPHS},
    "all_cnn_c": {"train.steps": 500, **_SMALLER, **_GLYPHS},
    "googlenet": {"train.steps": 350, "schedule.base_lr": 3e-3, **_GLYPHS},
    "inception_resnet_v1": {"train.steps": 400, "schedule.base_lr": 3e-3, **_GLYPHS},
    "inception": {"train.steps": 300, "schedule.base_lr": 0.003, "optimizer.name": "sgd"},
    "nin_cifar10": {"train.steps": 500, "model.width": 0.25},
    "inception_v2": {"train.steps": 200},
    "inception_v3": {"train.steps": 200},
}

# What each TFDS data set changes in a small recipe: size of the images, test split, epochs. Images are enlarged for
# networks that need larger ones than CIFAR's.
_LARGER = {
    "cifar10": (32, "test", 60.0),
    "cifar100": (32, "test", 60.0),
    "imagenette/320px-v2": (128, "validation", 60.0),
}
_LEAST = {"alexnet": 64, "inception_resnet_v1": 75, "inception_v2": 75, "inception_v3": 75}
DATA = ("embedded", *_LARGER, "imagenet2012")


@dataclasses.dataclass(frozen=True)
class Base:
    """The recipe that all variants start from: `config` as `--config` takes it, and the values that are changed."""

    config: str
    overrides: Overrides = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a paper says of one variant beside another.

    Attributes:
      text: the claim, in our words.
      source: paper and section or table.
      better, than: names of two variants or evaluations; or two equally long tuples of names, whose pairs are judged
        together, where a sweep has other factors too.
      measure: "top1": `better` is more accurate at the end; "no_worse": it is as accurate as `than`; "steps": it needs
        fewer steps to the accuracy with which `than` ends.
    """

    text: str
    source: str
    better: str | tuple[str, ...]
    than: str | tuple[str, ...]
    measure: str = "top1"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How trained variants are evaluated beyond the single crop: one variant, or several as an ensemble.

    Attributes:
      members: names of variants; the runs of one seed make an ensemble.
      protocol: protocol of `python -m experiments.evaluate`.
    """

    members: tuple[str, ...]
    protocol: str


@dataclasses.dataclass(frozen=True)
class Sweep:
    """An ablation.

    Attributes:
      title: what is compared.
      text: what the reader of the report must know: where it is the paper's experiment, and where it is not.
      base: the recipe.
      variants: what each variant changes, by name. Its values override those of the base. Its "seed" is added to the
        run's; its "config" replaces the recipe.
      baseline: the variant or evaluation with which the others are compared; '': the first.
      claims: claims of the papers.
      printed: numbers of the papers by variant, as they are printed.
      printed_what: what these numbers are, with their source.
      evaluations: evaluations by name.
      seeds: number of seeds; each variant is run with 0 to `seeds` - 1.
    """

    title: str
    text: str
    base: Base
    variants: Mapping[str, Overrides]
    baseline: str = ""
    claims: tuple[Claim, ...] = ()
    printed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    printed_what: str = ""
    evaluations: Mapping[str, Evaluation] = dataclasses.field(default_factory=dict)
    seeds: int = 3


def product(*factors: Mapping[str, Overrides]) -> dict[str, dict[str, Any]]:
    """Returns all combinations of one entry of each factor: names joined by '-', overrides merged."""
    combined = {}
    for choice in itertools.product(*(factor.items() for factor in factors)):
        overrides: dict[str, Any] = {}
        for _, part in choice:
            overrides |= part
        combined["-".join(name for name, _ in choice if name)] = overrides
    return combined


def on(
    data: str,
    network: str,
    recipe: str,
    of: str = "imagenet2012",
    paper: Overrides | None = None,
    small: Overrides | None = None,
    embedded: Overrides | None = None,
) -> Base:
    """Returns the base of a sweep on `data`.

    Args:
      data: one of `DATA`.
      network: a network of configs/digits.py, the base on all data but the paper's.
      recipe: the paper's config, the base on the paper's data.
      of: the paper's data.
      paper: changes of `recipe`.
      small: changes of the base on all data but the paper's.
      embedded: more changes, on the embedded images.

    Raises:
      UserError: the network is too small for `data`.
    """
    if data == of:
        return Base(recipe, paper or {})
    if data == "imagenet2012":
        raise UserError(f"{network} is the paper's network for {of}; the paper has none for {data}")
    if data == "embedded":
        overrides = _EMBEDDED | _REDUCED[network] | dict(small or {}) | dict(embedded or {})
        return Base(f"configs/{'glyphs' if 'data.name' in overrides else 'digits'}.py:{network}", overrides)
    size, split, epochs = _LARGER[data]
    size = max(size, _LEAST.get(network, 0))
    larger = {"data.name": data, "data.eval_split": split, "data.image_size": size, "data.resize": size}
    larger |= {"data.area": (0.25, 1.0), "data.flip": True, "train.batch_size": 128, "train.epochs": epochs}
    larger |= {"eval.every": "1 epoch", "model.width": 1.0}
    return Base(f"configs/glyphs.py:{network}", larger | dict(small or {}))
