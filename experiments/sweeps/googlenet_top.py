"""GoogLeNet's top: average pooling or a fully connected layer, each without and with dropout."""

from experiments.sweeps import Claim, Sweep, on, product

PAPER = "Going Deeper with Convolutions, section 5"
RATES = (0.4, 0.0, 0.7)


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    return Sweep(
        title="GoogLeNet: average pool, fully connected top, dropout",
        text='The paper replaced fully connected layers by the average pool and gained "about 0.6 %" top-1. It does '
        "not describe these layers; ours is one layer of 1024 units that sees the whole grid. Dropout comes before the "
        "classifier, 40 % in the paper; the auxiliary heads always have 70 %.",
        base=on(data, "googlenet", "configs/googlenet.py"),
        variants=product(
            {"average": {"model.top": "average"}, "fc": {"model.top": "fc"}},
            {f"dropout_{rate}": {"model.dropout": rate} for rate in RATES},
        ),
        claims=(
            Claim(
                "the average pool is better",
                PAPER,
                tuple(f"average-dropout_{rate}" for rate in RATES),
                tuple(f"fc-dropout_{rate}" for rate in RATES),
            ),
            Claim("dropout is essential even with it", PAPER, "average-dropout_0.4", "average-dropout_0.0"),
        ),
    )
