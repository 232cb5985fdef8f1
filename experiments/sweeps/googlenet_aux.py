"""GoogLeNet's auxiliary classifiers: none, either, both; their weight; batch normalisation in them."""

from experiments.sweeps import Claim, Sweep, on

FIRST = "Going Deeper with Convolutions, section 5"
THIRD = "Rethinking the Inception Architecture"


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    return Sweep(
        title="GoogLeNet: auxiliary classifiers",
        text="With batch normalisation throughout, as in the paper that found the lower head of no use. That paper "
        "tried them on a later network. A head of weight 0 has no effect.",
        base=on(
            data,
            "googlenet",
            "configs/googlenet.py",
            paper={"model.norm": "batch"},
            embedded={"eval.every": "50 steps"},
        ),
        variants={
            "both": {},
            "none": {"model.aux": False},
            "lower": {"train.aux_weights.aux2": 0.0},
            "upper": {"train.aux_weights.aux1": 0.0},
            "both-weight_0.1": {"train.aux_weights.aux1": 0.1, "train.aux_weights.aux2": 0.1},
            "both-weight_1.0": {"train.aux_weights.aux1": 1.0, "train.aux_weights.aux2": 1.0},
            "both-normalised": {"model.bn_auxiliary": True},
        },
        claims=(
            Claim(
                "auxiliary classifiers speed up training",
                f"{FIRST}; {THIRD}, section 4, saw no faster convergence",
                "both",
                "none",
                "steps",
            ),
            Claim("auxiliary classifiers regularise: the trained network is more accurate", FIRST, "both", "none"),
            Claim("the lower head can be removed without harm", f"{THIRD}, section 4", "upper", "both", "no_worse"),
            Claim(
                "batch normalisation in the heads helps", f"{THIRD}, section 4 and Table 3", "both-normalised", "both"
            ),
        ),
    )
