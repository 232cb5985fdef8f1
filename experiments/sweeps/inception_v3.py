"""The ladder from Inception-v2 to Inception-v3: Table 3 of "Rethinking the Inception Architecture"."""

import itertools

from experiments.sweeps import Claim, Sweep, on

PAPER = "Rethinking the Inception Architecture, Table 3"
V2 = {"model.name": "inception_v2", "model.bn_auxiliary": False}
# Each rung includes those before it; all other keys are as in Inception-v3, the base.
RUNGS = {
    "v2": V2 | {"optimizer.name": "sgd", "train.label_smoothing": 0.0},
    "rmsprop": V2 | {"train.label_smoothing": 0.0},
    "label_smoothing": V2,
    "factorized_7x7": {"model.bn_auxiliary": False},
    "bn_auxiliary": {},
}
ERRORS = {"v2": "23.4", "rmsprop": "23.1", "label_smoothing": "22.8", "factorized_7x7": "21.6", "bn_auxiliary": "21.2"}
GAINS = {
    "rmsprop": "RMSProp is better than momentum",
    "label_smoothing": "label smoothing helps",
    "factorized_7x7": "three 3x3 convolutions are better than the first 7x7",
    "bn_auxiliary": "batch normalisation in the auxiliary head's dense layer helps",
}


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    return Sweep(
        title="Inception-v3: the rungs of Table 3",
        text="Each rung adds to the one before: RMSProp, label smoothing, three 3x3 convolutions instead of the first "
        "7x7, batch normalisation in the auxiliary head's dense layer. Momentum SGD and RMSProp have the same learning "
        "rate, as in configs/inception_v3.py.",
        base=on(
            data,
            "inception_v3",
            "configs/inception_v3.py",
            small={"optimizer.name": "rmsprop", "schedule.base_lr": 0.1, "train.label_smoothing": 0.1},
        ),
        variants=RUNGS,
        baseline="v2",
        claims=tuple(Claim(GAINS[better], PAPER, better, than) for than, better in itertools.pairwise(RUNGS)),
        printed=ERRORS,
        printed_what="top-1 error in %, ImageNet, single crop, 48,238 images (Table 3)",
    )
