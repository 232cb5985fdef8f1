"""Pictures the first images that a recipe trains on, augmented as the network gets them.

python -m experiments.show_batch --config=configs/googlenet.py --out=batch.png [--count=32]
"""

import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from experiments.command_line import parse_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe, a file of configs/.", lock_config=True)
_OUT = flags.DEFINE_string("out", "batch.png", "The PNG file to write.")
_COUNT = flags.DEFINE_integer("count", 32, "Number of images, an even one.", lower_bound=2)


def main(argv: list[str]) -> int:
    """Returns the exit status: 0, 2 for bad input."""
    del argv
    from inception_jax.errors import UserError
    from inception_jax.runtime import configure
    from inception_jax.training.config import validate
    from inception_jax.training.parallelism import DataParallel
    from inception_jax.training.pictures import augmented_batch, contact_sheet
    from inception_jax.training.task import Task

    try:
        if _COUNT.value % 2:
            raise UserError(f"--count={_COUNT.value} must be even")
        validate(_CONFIG.value)
        configure(_CONFIG.value.model.dtype)
        task = Task(_CONFIG.value, DataParallel(_CONFIG.value.parallel))
        pictures = augmented_batch(task, task.fit_statistics(lambda line: print(line, file=sys.stderr)), _COUNT.value)
        sheet = contact_sheet(pictures)
        try:
            sheet.save(Path(_OUT.value), format="PNG")
        except OSError as error:
            raise UserError(f"{_OUT.value} cannot be written: {error.strerror}") from None
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(pictures)} images of {task.name} in {_OUT.value}, {sheet.width} x {sheet.height}")
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: parse_flags(argv, "-m experiments.show_batch", required=("config",)))
