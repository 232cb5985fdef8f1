"""Averaged weights against the latest."""

from experiments.sweeps import Claim, Sweep, on


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    decays = (0.0, 0.999, 0.9999) if data == "imagenet2012" else (0.0, 0.95, 0.99)
    return Sweep(
        title="GoogLeNet: averaged weights",
        text="The variants are named after the decay of the moving average that is evaluated; 0 evaluates the latest "
        "weights. The paper evaluates averages and does not say what they gain. A decay of 0.99 averages over about "
        "100 steps. On small data the learning rate stays the same, because one that falls to 0 leaves little to "
        "average.",
        base=on(data, "googlenet", "configs/googlenet.py", small={"schedule.name": "constant"}),
        variants={f"{decay}": {"train.ema_decay": decay} for decay in decays},
        claims=(
            Claim("averaged weights are better", "Going Deeper with Convolutions, section 6", f"{decays[1]}", "0.0"),
        ),
    )
