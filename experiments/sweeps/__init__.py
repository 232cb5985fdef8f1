"""The papers' ablations, a file each, and what they are written in.

A file has `get_sweep(data)`, which returns a `Sweep` on one of `DATA`: "embedded", the images that come with this
package, on small copies of the networks; the others at the networks' full width, where TFDS can fetch them, and on the
papers' own data by their recipes, configs/*.py.

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

# Of the images that come with this package: ten classes of difficulty 1, which in the few hundred steps of a run many
# networks without batch normalisation learn. What does not, by momentum SGD for instance, has the digits.
GLYPHS = "glyphs/test=1000,difficulty=1,classes=10"

# Of each run on them. Batches of 32 take more steps in the time than larger ones.
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
# And of each network: a number of steps and a rate at which, in trials with seed 0 (GoogLeNet: 0 and 1), the baseline
# had begun to learn and had not yet learnt everything, within about a minute of one core.
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

# What each TFDS data set changes in a small recipe: size of the images, test split, epochs. Networks that need larger
# images than CIFAR's get them enlarged.
_LARGER = {
    "cifar10": (32, "test", 60.0),
    "cifar100": (32, "test", 60.0),
    "imagenette/320px-v2": (128, "validation", 60.0),
}
_LEAST = {"alexnet": 64, "inception_resnet_v1": 75, "inception_v2": 75, "inception_v3": 75}
DATA = ("embedded", *_LARGER, "imagenet2012")


@dataclasses.dataclass(frozen=True)
class Base:
    """The recipe that all variants start from: `config` as `--config` takes it, and what is changed of it."""

    config: str
    overrides: Overrides = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a paper says of one variant beside another.

    Attributes:
      text: the claim, in our words.
      source: paper and section or table.
      better, than: names of two variants, or evaluations; or as many of one as of the other, which are compared one by
        one and all together, where a sweep has other factors too.
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
    """How trained variants are evaluated beyond the single crop: one of them, or several as an ensemble.

    Attributes:
      members: names of variants; those of one seed make an ensemble.
      protocol: of `python -m experiments.evaluate`.
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
      variants: what each changes of it, by name. A variant's overrides go before those of the base; its "seed" is
        added to the run's.
      baseline: the variant, or evaluation, that the others are compared with; '' for the first.
      claims: of the papers.
      printed: numbers of the papers by the variant, as they print them.
      printed_what: what those are, with their source.
      evaluations: by name.
      seeds: 0 to `seeds` - 1 of each variant.
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
    """All combinations of one entry of each factor: names joined by '-', overrides together."""
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
    """The base of a sweep on `data`.

    Args:
      data: one of `DATA`.
      network: a row of configs/digits.py, the base where it is not `recipe`.
      recipe: the paper's config, the base on the paper's own data.
      of: those data.
      paper: changes of `recipe`.
      small: changes of the base elsewhere.
      embedded: more of them on the embedded images.

    Raises:
      UserError: the network is too small for `data`.
    """
    if data == of:
        return Base(recipe, paper or {})
    if data == "imagenet2012":
        raise UserError(f"{network} is the paper's network for {of}: there is none of its kind for {data}")
    if data == "embedded":
        overrides = _EMBEDDED | _REDUCED[network] | dict(small or {}) | dict(embedded or {})
        return Base(f"configs/{'glyphs' if 'data.name' in overrides else 'digits'}.py:{network}", overrides)
    size, split, epochs = _LARGER[data]
    size = max(size, _LEAST.get(network, 0))
    larger = {"data.name": data, "data.eval_split": split, "data.image_size": size, "data.resize": size}
    larger |= {"data.area": (0.25, 1.0), "data.flip": True, "train.batch_size": 128, "train.epochs": epochs}
    larger |= {"eval.every": "1 epoch", "model.width": 1.0}
    return Base(f"configs/glyphs.py:{network}", larger | dict(small or {}))
