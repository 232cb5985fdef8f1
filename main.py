"""Trains a network, or resumes a run that was stopped.

python main.py --config=configs/googlenet.py --workdir=/data/googlenet [--config.train.epochs=90]
"""

import os
import sys
import threading

from absl import app, flags
from ml_collections import config_flags

from experiments.command_line import parse_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe, a file of configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Run directory. An existing run is resumed.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join the other processes of this job (SLURM, MPI, TPU pod).")

_PATIENCE = 5.0  # seconds that a run which is stopped may take to end its threads


def main(argv: list[str]) -> int:
    """Returns the exit status: 0, 2 for bad input, 128 + N if signal N stopped it and it may be started again."""
    del argv
    try:
        return _train()
    except KeyboardInterrupt:  # before or after training, which handles it itself
        print("stopped; the same command resumes the run", file=sys.stderr)
        return 130


def _train() -> int:
    # Imported here, so that --help and a wrong flag answer at once.
    import jax

    from inception_jax.errors import UserError
    from inception_jax.runtime import configure
    from inception_jax.training.config import validate
    from inception_jax.training.interruption import Interrupted
    from inception_jax.training.loop import train_and_evaluate

    try:
        validate(_CONFIG.value)
        configure(_CONFIG.value.model.dtype)
        if _DISTRIBUTED.value:
            try:
                jax.distributed.initialize()
            except ValueError as error:
                raise UserError(f"--distributed: JAX finds no job of several processes here ({error})") from None
        train_and_evaluate(_CONFIG.value, _WORKDIR.value, exits=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted as interruption:
        print(f"{interruption}; the same command resumes the run", file=sys.stderr)
        # All is written; Python would wait for a thread that reads from a file system which hangs.
        leave = threading.Timer(_PATIENCE, os._exit, [128 + interruption.signal_number])
        leave.daemon = True
        leave.start()
        return 128 + interruption.signal_number
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: parse_flags(argv, "main.py", required=("config", "workdir")))
