"""VGG's configurations A to E, and A with local response normalisation."""

from experiments.sweeps import Claim, Sweep, on

PAPER = "Very Deep Convolutional Networks, section 4.1 and Table 3"
ERRORS = {"A": "29.6", "A-LRN": "29.7", "B": "28.7", "C": "28.1", "D": "27.0", "E": "27.3"}


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    initial = "torchvision's initial weights (He's)" if data != "imagenet2012" else "Glorot's initial weights"
    return Sweep(
        title="VGG: depth, 1x1 against 3x3, local response normalisation",
        text="The paper trained A first and initialised the deeper networks with its layers. Here all start from "
        f"{initial}; the authors later found Glorot's sufficient.",
        base=on(data, "vgg_a", "configs/vgg.py:A", small={"model.init": "torchvision"}),
        variants={letter: {"model.name": f"vgg_{letter.lower().replace('-', '_')}"} for letter in ERRORS},
        claims=(
            Claim("local response normalisation does not help", PAPER, "A", "A-LRN", "no_worse"),
            Claim("13 layers are better than 11", PAPER, "B", "A"),
            Claim("three more 1x1 layers are better than none", PAPER, "C", "B"),
            Claim("3x3 instead of these 1x1 layers are better still", PAPER, "D", "C"),
            Claim("19 layers are as accurate as 16", PAPER, "E", "D", "no_worse"),
        ),
        printed=ERRORS,
        printed_what="top-1 error in %, ImageNet, dense, trained and tested at one scale of 256 (Table 3)",
    )
