"""AlexNet with and without local response normalisation and overlapping pools."""

from experiments.sweeps import Claim, Sweep, on, product

PAPER = "ImageNet Classification with Deep Convolutional Neural Networks"


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    return Sweep(
        title="AlexNet: local response normalisation and overlapping pools",
        text="The paper names the gains on ImageNet, of top-1 and top-5 error: 1.4 and 1.2 % by normalisation, 0.4 "
        "and 0.3 % by pools of 3x3/2 instead of 2x2/2. Its network without normalisation also lacked a normalisation "
        "within each channel, which only the original code shows (layers-148). Ours never has that one.",
        base=on(data, "alexnet", "configs/alexnet.py"),
        variants=product(
            {"lrn": {"model.lrn": True}, "no_lrn": {"model.lrn": False}},
            {"overlap": {"model.overlapping_pools": True}, "no_overlap": {"model.overlapping_pools": False}},
        ),
        claims=(
            Claim(
                "local response normalisation helps",
                f"{PAPER}, section 3.3",
                ("lrn-overlap", "lrn-no_overlap"),
                ("no_lrn-overlap", "no_lrn-no_overlap"),
            ),
            Claim(
                "overlapping pools help",
                f"{PAPER}, section 3.4",
                ("lrn-overlap", "no_lrn-overlap"),
                ("lrn-no_overlap", "no_lrn-no_overlap"),
            ),
        ),
        # The logs of the original code, github.com/computerhistory/AlexNet-Source-Code, layers-145, -148 and -147.
        printed={"lrn-overlap": "40.66", "no_lrn-overlap": "42.03", "lrn-no_overlap": "41.06"},
        printed_what="top-1 error in %, ImageNet, 10 crops (logs of the original code)",
    )
