"""The twelve networks of All-CNN: pools, strided convolutions in their place, a convolution before them."""

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
    """The sweep on one of `sweeps.DATA`."""
    claims = []
    for base in ERRORS:
        name = base.upper()
        claims += [
            Claim(f"{name}: strides in place of pools are worse", PAPER, f"base-{base}", f"strided-{base}"),
            Claim(f"{name}: a convolution more is better", PAPER, f"conv_pool-{base}", f"base-{base}"),
            Claim(
                f"{name}: with strides it is as good as with pools", PAPER, f"all-{base}", f"conv_pool-{base}", "same"
            ),
        ]
    return Sweep(
        title="All-CNN: the twelve networks",
        text="Tables 1 and 2 of the paper. It chose a learning rate for each network out of four; all have one here.",
        base=on(data, "all_cnn_c", "configs/all_cnn.py", of="cifar10"),
        variants={f"{kind}-{base}": {"model.name": f"{kind}_cnn_{base}"} for base in ERRORS for kind in KINDS},
        baseline="base-c",
        claims=tuple(claims),
        printed={
            f"{kind}-{base}": error for base, row in ERRORS.items() for kind, error in zip(KINDS, row, strict=True)
        },
        printed_what="error in %, CIFAR-10, without augmentation (Table 3)",
    )
