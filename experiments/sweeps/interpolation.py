"""Interpolation of training crops: bilinear, or one of four at random."""

from experiments.sweeps import Sweep, on


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    return Sweep(
        title="GoogLeNet: interpolation of training crops",
        text="Mixed: bilinear, area, nearest and cubic at random. The paper adopted it late and could not tell "
        "whether it helped (section 6), so there is no claim to test.",
        base=on(
            data,
            "googlenet",
            "configs/googlenet.py",
            embedded={"data.crop": "area", "data.area": (0.5, 1.0), "data.shift": 0},
        ),
        variants={"bilinear": {"data.interpolation": "bilinear"}, "mixed": {"data.interpolation": "mixed"}},
    )
