"""Images of three sizes at equal cost: Table 2 of "Rethinking the Inception Architecture"."""

from experiments.sweeps import Claim, Overrides, Sweep, on

PAPER = "Rethinking the Inception Architecture, Table 2"
SIZES = {"embedded": (32, 16, 8), "imagenet2012": (299, 151, 79), "imagenette/320px-v2": (128, 64, 32)}


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    variants: dict[str, Overrides] = {}
    for size, reduction in zip(SIZES.get(data, (64, 32, 16)), (4, 2, 1), strict=True):
        variants[f"{size}"] = {"data.image_size": size, "model.early_reduction": reduction}
        if data == "embedded":  # whole images, shifted by up to an eighth
            variants[f"{size}"] |= {"data.resize": size, "data.shift": size // 8}
        else:
            variants[f"{size}"] |= {"data.resize": round(size * 342 / 299)}
    large, middle, small = variants
    return Sweep(
        title="GoogLeNet: the receptive field at equal cost",
        text="The large image passes a first layer of stride 2 and a max-pool, the middle one a first layer of stride "
        "1 and the pool. The small one passes a first layer of stride 1 alone. All have the same grids after that. The "
        "paper does not name its network; ours is GoogLeNet. The embedded digits are of 8 x 8 "
        "pixels, whatever their size here.",
        base=on(data, "googlenet", "configs/googlenet.py", paper={"model.norm": "batch"}),
        variants=variants,
        claims=(
            Claim("the large image is better than the small one", PAPER, large, small),
            Claim("the middle one is better than the small one", PAPER, middle, small),
            Claim("the middle one is nearly as accurate as the large one", PAPER, middle, large, "no_worse"),
        ),
        printed={large: "76.6", middle: "76.4", small: "75.2"},
        printed_what="top-1 accuracy in %, ImageNet, sides of 299, 151 and 79 (Table 2)",
    )
