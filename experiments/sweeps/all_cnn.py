"""The twelve networks of All-CNN: pools, strided convolutions instead of pools, one more convolution before them."""

from experiments.sweeps import Claim, Sweep, on

PAPER = "Striving for Simplicity, Table 3"
KINDS = ("base", "strided", "conv_pool", "all")
# Without augmentation.
ERRORS = {
    "a": ("12.47", "13.46", "10.21", "10.30"),
    "b": ("10.20", "10.98", "9.33", "9.10"),
    "c": ("9.74", "10.19", "9.31", "9.08"),
}


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    base, strided, pooled, all_ = (tuple(f"{kind}-{letter}" for letter in ERRORS) for kind in KINDS)
    return Sweep(
        title="All-CNN: the twelve networks",
        text="Tables 1 and 2 of the paper. The paper chose one of four learning rates for each network. On the "
        "embedded images each has one of three, and none has the ReLU behind its last layer; elsewhere all have the "
        "same rate.",
        base=on(data, "all_cnn_c", "configs/all_cnn.py", of="cifar10"),
        variants={f"{kind}-{base}": {"model.name": f"{kind}_cnn_{base}"} for base in ERRORS for kind in KINDS},
        baseline="base-c",
        claims=(
            Claim("strides instead of pools are worse", PAPER, base, strided),
            Claim("one more convolution before each pool is better", PAPER, pooled, base),
            Claim("with strided convolutions instead of pools it is as accurate", PAPER, all_, pooled, "no_worse"),
        ),
        printed={
            f"{kind}-{base}": error for base, row in ERRORS.items() for kind, error in zip(KINDS, row, strict=True)
        },
        printed_what="error in %, CIFAR-10, without augmentation (Table 3)",
    )
