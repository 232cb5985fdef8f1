"""Says what a run on many chips costs: operations, exchange, memory, input, checkpoints of every ImageNet recipe.

python -m experiments.scale                                   # the estimates, half a minute
python -m experiments.scale --check > docs/scale.md           # with gradients, compiled steps, checkpoints: ten minutes
"""

import argparse
import sys
from pathlib import Path

from experiments import cli

# Every recipe of an ImageNet network, with its variant.
RECIPES = {
    "alexnet": "",
    "zfnet": "",
    "nin": "imagenet",
    "vgg": "",
    "googlenet": "",
    "bn_inception": "",
    "inception_v2": "",
    "inception_v3": "",
    "inception_v4": "",
    "inception_resnet_v1": "",
    "inception_resnet_v2": "",
    "resnet50": "",
}
CHECKED = ("googlenet", "inception_v3")
DEVICES = (1, 2, 4, 8, 16, 32, 64)
_IMAGES = 2  # of each simulated device


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input."""
    parser = cli.Parser("-m experiments.scale", __doc__)
    add = parser.add_argument
    add("--check", action="store_true", help="count what the backward passes keep; compile the steps of "
        f"{' and '.join(CHECKED)} for 1 to {DEVICES[-1]} simulated devices, count their collectives, and time their "
        "checkpoints")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="JSON file to write")
    return cli.run(parser, _print, argv)


def _print(arguments: argparse.Namespace) -> None:
    import json
    import tempfile

    import jax

    jax.config.update("jax_platforms", "cpu")  # nothing is computed; devices are simulated
    if arguments.check:
        jax.config.update("jax_num_cpu_devices", DEVICES[-1])
    from inception_jax.report.scale import scale_page, scale_record
    from inception_jax.training.cost import compile_step, kept_by_choice, step_cost, time_checkpoint

    cli.check_writable(arguments.json)
    costs = [step_cost(experiment(recipe)[0]) for recipe in RECIPES]
    steps, checkpoints, kept = [], [], []
    if arguments.check:
        kept = [kept_by_choice(experiment(recipe)[0]) for recipe in RECIPES]
        for recipe in CHECKED:
            for devices in DEVICES:
                print(f"{recipe}: compiling for {devices} simulated devices", file=sys.stderr)
                steps.append(compile_step(*experiment(recipe, devices)))
            with tempfile.TemporaryDirectory() as directory:
                checkpoints.append(time_checkpoint(*experiment(recipe, 1), Path(directory)))
    if arguments.json:
        record = scale_record(costs, steps, checkpoints, kept)
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(scale_page(costs, steps, checkpoints, kept), end="")


def experiment(recipe: str, devices: int = 0):
    """Builds a recipe with noise in place of ImageNet, which has as many classes.

    Args:
      recipe: name of a recipe in `RECIPES`.
      devices: number of devices, each with few images; 0: one device with the recipe's batch.

    Returns:
      The `Experiment` and its `DataParallel`.
    """
    import importlib

    import jax

    from inception_jax.parallel import DataParallel
    from inception_jax.training.experiment import Experiment

    config = importlib.import_module(f"configs.{recipe}").get_config(RECIPES[recipe])
    config.data.update(name="synthetic", eval_split="train")
    if devices:
        config.train.update(batch_size=_IMAGES * devices, microbatch=0)
    parallel = DataParallel(devices=jax.devices()[: devices or 1], fast_compile=True)
    return Experiment(config, parallel), parallel


if __name__ == "__main__":
    sys.exit(main())
