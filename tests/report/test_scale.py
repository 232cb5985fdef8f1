"""The estimates follow their formulas, and docs/scale.md holds what the networks cost today."""

import json
from pathlib import Path

import pytest

from experiments.scale import RECIPES, experiment
from inception_jax.report import scale
from inception_jax.training.cost import KeptBytes, StepCost, kept_by_choice, step_cost

DOCS = Path(__file__).parents[2] / "docs" / "scale.md"
# Of a network of 1 G multiply-adds, 10 MB averaged, 100 images.
COST = StepCost("googlenet", 224, 100, 0, "sgd", 10**9, 10**6, 2_500_000, 9, 10**7, 2 * 10**7)


def test_docs_scale_is_fresh():
    """For three of its networks: all together take long."""
    costs = [step_cost(experiment(recipe)[0]) for recipe in ("alexnet", "vgg", "googlenet")]
    names = tuple(f"| {cost.network} |" for cost in costs)
    text, page = (x.splitlines() for x in (DOCS.read_text(encoding="utf-8"), scale.scale_page(costs)))
    rows = [line for line in page if line.startswith(names)]
    assert len(rows) == 3 * (1 + 1 + 3 * 3 + 3)
    summary = page.index("| chip | 8 chips | 64 chips | 512 chips |")
    stale = [line for line in page[:summary] + page[summary + 5 :] if line not in text]
    assert not stale, "run: python -m experiments.scale --check > docs/scale.md"


def test_docs_scale_has_what_is_kept_today():
    """For two of its networks, and its text."""
    lines = scale.kept_section([kept_by_choice(experiment(recipe)[0]) for recipe in ("alexnet", "googlenet")])
    text = DOCS.read_text(encoding="utf-8").splitlines()
    stale = [line for line in lines.splitlines() if line not in text]
    assert not stale, "run: python -m experiments.scale --check > docs/scale.md"


def test_docs_scale_has_all_recipes_and_its_checks():
    text = DOCS.read_text(encoding="utf-8")
    kept = text.partition("## What the backward pass keeps")[2].partition("## Simulated")[0]
    assert sum("MB" in line for line in kept.splitlines()) == len(RECIPES)
    configs = {path.stem for path in (DOCS.parents[1] / "configs").glob("*.py")}
    assert configs - set(RECIPES) == {"all_cnn", "common", "digits", "finetune", "glyphs", "lenet5", "vgg_localize"}
    simulated = [line for line in text.partition("## Simulated devices")[2].splitlines() if "all-reduce |" in line]
    assert len(simulated) == 14
    assert all("| 1 all-reduce |" in line for line in simulated)


@pytest.mark.parametrize(
    ("chips", "milliseconds"),
    [
        (1, 0.0),
        (8, 1e3 * 2 * 7 / 8 * 1e7 / 450e9),
        (64, 1e3 * (2 * 7 / 8 * 1e7 / 450e9 + 2 * 7 / 8 * 1e7 / 8 / 50e9)),  # eight hosts of eight
    ],
)
def test_the_least_time_of_an_all_reduce(chips, milliseconds):
    assert 1e3 * scale.all_reduce_seconds(10**7, scale.H200, chips) == pytest.approx(milliseconds)


def test_a_step_on_many_chips():
    each = scale.estimate(COST, 0.5, scale.H200, 8, 100)
    assert each.batch_size == 104  # the next that eight divide
    assert each.compute == pytest.approx(13 * 6e9 / (0.5 * 723e12))
    assert each.decoding == pytest.approx(104 / (112 * 638))
    assert each.limit == "decoding"
    assert each.images_per_second == pytest.approx(112 * 638)
    slow = scale.estimate(COST, 0.001, scale.H200, 8, 100)
    assert slow.limit == "compute"
    assert slow.images_per_second == pytest.approx(104 / (slow.compute + slow.all_reduce))


def test_a_networks_share_is_measured_or_assumed():
    share = scale.shares([COST])
    assert share == {"googlenet": pytest.approx(12942 * 6e9 / 723e12)}


def test_the_record_holds_every_estimate():
    kept = KeptBytes("googlenet", 224, {"nothing": 3, "activations": 2, "blocks": 1})
    record = json.loads(json.dumps(scale.scale_record([COST], kept=[kept])))
    assert record["kept"][0]["bytes"]["blocks"] == 1
    assert record["networks"][0]["operations"] == 6 * 10**9
    assert len(record["recipe_batch"]) == len(record["batch_per_chip"]) == 9  # three chips, three counts
    assert record["recipe_batch"][0]["limit"] == scale.estimates([COST])[0].limit
