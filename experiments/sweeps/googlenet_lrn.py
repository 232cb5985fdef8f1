"""Local response normalisation in Inception, with and without batch normalisation."""

from experiments.sweeps import Claim, Sweep, image_sets, on, product


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    plain, normalised = {"model.norm": "none"}, {"model.norm": "batch"}
    if data == "embedded":
        # In trials on validation images, of one seed, AdamW with this rate learnt 99.9 % of the textures from 2,000
        # with batch normalisation, with 1e-3 81 % in 1,000 steps; SGD learnt 75 to 98 %, with four rates.
        normalised["schedule.base_lr"] = 6e-3
    return Sweep(
        title="Inception: local response normalisation",
        text="The network is the Inception of the batch normalisation paper, with GoogLeNet's layers of local response "
        "normalisation. GoogLeNet itself, with its initial weights, begins to learn too late for runs of this length. "
        "The sweep alexnet tests AlexNet's layers.",
        # From 200 glyphs one with batch normalisation learnt 85 and 88 % in these trials, from 400 99.9 %. From 2,000
        # textures one with it and one without learnt 99 %, which would hide differences.
        base=on(
            data,
            "inception",
            "configs/bn_inception.py:inception",
            sets=image_sets(("glyphs", "textures"), glyphs=400, textures=400),
        ),
        variants=product(
            {"plain": plain, "batch": normalised}, {"lrn": {"model.lrn": True}, "no_lrn": {"model.lrn": False}}
        ),
        claims=(
            Claim("local response normalisation helps", "AlexNet, section 3.3", "plain-lrn", "plain-no_lrn"),
            Claim(
                "with batch normalisation it is not needed",
                "Batch Normalization, section 4.2.1",
                "batch-no_lrn",
                "batch-lrn",
                "no_worse",
            ),
        ),
    )
