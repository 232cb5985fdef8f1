"""Inception-ResNet: factors on the residuals, and the same blocks without shortcuts."""

from experiments.sweeps import Claim, Sweep, on

PAPER = "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning"


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    return Sweep(
        title="Inception-ResNet-v1: residuals and their scaling",
        text="The paper compares Inception-ResNets with Inceptions of similar cost; here the same blocks have no "
        "shortcut. In the paper, networks of more than 1,000 filters died without a factor of 0.1 to 0.3. A small "
        "network has fewer filters, so it can show whether a factor harms, not whether it rescues.",
        base=on(
            data,
            "inception_resnet_v1",
            "configs/inception_resnet_v1.py",
            embedded={"eval.every": "50 steps"},
        ),
        variants={
            "scale_0.1": {"model.residual_scale": 0.1},
            "scale_0.2": {"model.residual_scale": 0.2},
            "scale_0.3": {"model.residual_scale": 0.3},
            "scale_1.0": {"model.residual_scale": 1.0},
            "no_residual": {"model.residual": False},
        },
        claims=(
            Claim(
                "a small factor does not harm the accuracy",
                f"{PAPER}, section 3.3",
                "scale_0.1",
                "scale_1.0",
                "no_worse",
            ),
            Claim(
                "residual networks are slightly better than similar ones without",
                f"{PAPER}, abstract",
                "scale_0.2",
                "no_residual",
            ),
            Claim(
                "residual connections make training faster", f"{PAPER}, section 4", "scale_0.2", "no_residual", "steps"
            ),
        ),
    )
