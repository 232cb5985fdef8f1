"""More crops and more models at test time: Table 3 of "Going Deeper with Convolutions"."""

from experiments.sweeps import Claim, Evaluation, Sweep, image_sets, on

PAPER = "Going Deeper with Convolutions, Table 3"
MODELS, PROTOCOLS = 3, ("single", "10crop", "144crop")
CROPS = {
    "data.crop": "area",
    "data.area": (0.3, 1.0),
    "data.shift": 0,
    "data.flip": True,
    "data.resize": 37,  # in the paper a shorter side of 256 for crops of 224
    # Such crops are harder to learn: in trials 92 % of new images after 500 steps, 99 % after 1,200.
    "train.steps": 1200,
}
# Top-5 errors of 1 and of 7 models.
ERRORS = {"1": ("10.07", "9.15", "7.89"), "7": ("8.09", "7.62", "6.67")}


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    members = tuple(f"model_{i}" for i in range(MODELS))
    evaluations = {
        f"{count}x{protocol}": Evaluation(members[:count], protocol) for count in (1, MODELS) for protocol in PROTOCOLS
    }
    one, all_ = "1xsingle", f"{MODELS}xsingle"
    small = (
        " Training uses crops of at least 0.3 of the area, and flips. Only the textures are used: characters cannot be "
        "cut or mirrored."
    )
    return Sweep(
        title="GoogLeNet: crops times models",
        text=f"Ensembles have {MODELS} members, in the paper 7. The paper's networks had the same initial weights and "
        "differed in the sampling and order of the images; ours differ in all of these."
        + (small if data == "embedded" else ""),
        base=on(data, "googlenet", "configs/googlenet.py", embedded=CROPS, sets=image_sets(names=("textures",))),
        # The members of an ensemble differ in their seed, and no two ensembles share one.
        variants={member: {"seed": 100 * i} for i, member in enumerate(members)},
        evaluations=evaluations,
        baseline="1xsingle",
        claims=(
            Claim("10 crops are better than one", PAPER, "1x10crop", one),
            Claim("144 crops are better than 10", PAPER, "1x144crop", "1x10crop"),
            Claim("several models are better than one", PAPER, all_, one),
            Claim("144 crops of several models are better than one crop of them", PAPER, f"{MODELS}x144crop", all_),
        ),
    )
