"""The width of GoogLeNet's 1x1 reductions."""

from experiments.sweeps import Sweep, on


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    return Sweep(
        title="GoogLeNet: the width of its reductions",
        text="A factor multiplies the number of filters of the 1x1 convolutions before the 3x3 and 5x5 convolutions. "
        "The paper reduces 'judiciously' (section 4) and compares nothing.",
        base=on(data, "googlenet", "configs/googlenet.py"),
        variants={
            "1": {},
            "0.25": {"model.reduction_width": 0.25},
            "0.5": {"model.reduction_width": 0.5},
            "2": {"model.reduction_width": 2.0},
        },
    )
