"""Network in Network against the same network with linear convolutions."""

from experiments.sweeps import Claim, Sweep, on

PAPER = "Network In Network, sections 1 and 3.1"
# Fraction of the filters with which the linear network has the multiply-adds of the other, within 2 % (tested).
EQUAL_COMPUTE = {"embedded": 0.225}
ELSEWHERE = 0.905


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    linear = {"model.mlpconv": False}
    return Sweep(
        title="Network in Network: mlpconv and linear convolutions",
        text="The paper argues that a small multilayer perceptron in each window abstracts better than a linear "
        "filter, and compares its network with published ones. Here the linear network is the same one without its 1x1 "
        "convolutions. On the embedded images no network has the ReLU behind its last layer.",
        base=on(data, "nin_cifar10", "configs/nin.py", of="cifar10"),
        variants={
            "mlpconv": {},
            "linear-equal_width": linear,
            "linear-equal_compute": linear | {"model.width": EQUAL_COMPUTE.get(data, ELSEWHERE)},
        },
        claims=(Claim("mlpconv layers are better than linear ones", PAPER, "mlpconv", "linear-equal_compute"),),
    )
