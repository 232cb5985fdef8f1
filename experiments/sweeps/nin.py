"""Network in Network against the same network with linear convolutions."""

from experiments.sweeps import Claim, Sweep, image_sets, on

PAPER = "Network In Network, sections 1 and 3.1"
# Fraction of the filters with which the linear network has the multiply-adds of the other, within 2 % (tested).
EQUAL_COMPUTE = {"embedded": 0.225}
ELSEWHERE = 0.905
STEPS = {"glyphs": 1500, "textures": 2500, "digits": 1500}


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    linear = {"model.mlpconv": False}
    return Sweep(
        title="Network in Network: mlpconv and linear convolutions",
        text="The paper argues that a small multilayer perceptron in each window abstracts better than a linear "
        "filter, and compares its network with published ones. Here the linear network is the same one without its 1x1 "
        "convolutions. On the embedded images no network has the ReLU behind its last layer.",
        # In trials on validation images, of 200 glyphs four seeds learnt 93 to 99 %, of 600 three 99.7 % or more.
        base=on(data, "nin_cifar10", "configs/nin.py", of="cifar10", sets=image_sets(tuple(STEPS), STEPS, glyphs=600)),
        variants={
            "mlpconv": {},
            "linear-equal_width": linear,
            "linear-equal_compute": linear | {"model.width": EQUAL_COMPUTE.get(data, ELSEWHERE)},
        },
        claims=(Claim("mlpconv layers are better than linear ones", PAPER, "mlpconv", "linear-equal_compute"),),
    )
