"""GoogLeNet's modules with and without the 1x1 reductions (Fig. 2b and 2a), at equal width and at equal compute."""

from experiments.sweeps import Claim, Sweep, on

# Fraction of the filters with which the naive network has the multiply-adds of the reduced one, within 4 % (tested).
EQUAL_COMPUTE = {"embedded": 0.095, "imagenet2012": 0.35}
ELSEWHERE = 0.355


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    naive = {"model.module": "naive"}
    return Sweep(
        title="GoogLeNet: naive and reduced modules",
        text="The paper draws the naive module (Fig. 2a) and does not train it. Its pools keep all "
        "channels, so that each module is wider than the last. At equal width the naive network costs several times as "
        "much; on the embedded images it is left out.",
        base=on(data, "googlenet", "configs/googlenet.py"),
        variants={
            "reduced": {},
            **({} if data == "embedded" else {"naive-equal_width": naive}),
            "naive-equal_compute": naive | {"model.width": EQUAL_COMPUTE.get(data, ELSEWHERE)},
        },
        claims=(
            Claim(
                "at equal compute reductions allow a wider, better network",
                "Going Deeper with Convolutions, section 4",
                "reduced",
                "naive-equal_compute",
            ),
        ),
    )
