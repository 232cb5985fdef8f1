"""Local response normalisation in Inception, with and without batch normalisation."""

from experiments.sweeps import Claim, Sweep, image_sets, on, product


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    plain, normalised = {"model.norm": "none"}, {"model.norm": "batch"}
    return Sweep(
        title="Inception: local response normalisation",
        text="The network is the Inception of the batch normalisation paper, with GoogLeNet's layers of local response "
        "normalisation. GoogLeNet itself, with its initial weights, begins to learn too late for runs of this length. "
        "The sweep alexnet tests AlexNet's layers.",
        # With batch normalisation the networks generalise badly from 200 glyphs, see the sweep bn_inception.
        base=on(
            data,
            "inception",
            "configs/bn_inception.py:inception",
            sets=image_sets(("glyphs", "textures"), glyphs=2000),
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
