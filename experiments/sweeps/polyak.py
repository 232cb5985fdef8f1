"""Averaged weights against the latest."""

from experiments.sweeps import Claim, Sweep, image_sets, on


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    decays = (0.0, 0.999, 0.9999) if data == "imagenet2012" else (0.0, 0.95, 0.99)
    return Sweep(
        title="GoogLeNet: averaged weights",
        text="The variants are named after the decay of the moving average that is evaluated; 0 evaluates the latest "
        "weights. The paper evaluates averages and does not say what they gain. A decay of 0.99 averages over about "
        "100 steps. On small data the learning rate stays the same, because one that falls to 0 leaves little to "
        "average. The baseline is an average, as in the paper.",
        base=on(
            data,
            "googlenet",
            "configs/googlenet.py",
            small={"schedule.name": "constant"},
            # After 500 steps at a rate that stays, the latest weights had 94 % of glyphs and textures, in trials with
            # two seeds on validation images; after 1,000 at 96 to 99 % on glyphs.
            embedded={"schedule.base_lr": 5e-3},
            sets=image_sets(("glyphs", "textures", "digits"), {"glyphs": 1000, "textures": 1000, "digits": 500}),
        ),
        variants={f"{decay}": {"train.ema_decay": decay} for decay in decays},
        baseline=f"{decays[1]}",
        claims=(
            Claim("averaged weights are better", "Going Deeper with Convolutions, section 6", f"{decays[1]}", "0.0"),
        ),
    )
