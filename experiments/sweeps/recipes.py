"""Every kind of network, made small: the recipes of configs/digits.py, or those of configs/glyphs.py.

python -m experiments.sweep experiments/sweeps/recipes.py --workdir=runs/recipes_digits --jobs=2
python -m experiments.sweep experiments/sweeps/recipes.py:glyphs --workdir=runs/recipes_glyphs --jobs=2
"""

from configs.digits import NETWORKS
from experiments.sweeps import Base, Claim, Sweep

DATA = ("digits", "glyphs")
_TEXT = {
    "digits": "1,437 handwritten digits to train on, 360 to test: one image more or less is 0.28 %.",
    "glyphs": "Synthetic characters of 20 classes under distortion, clutter and noise (inception_jax/data/glyphs.py, "
    "difficulty 1): 20,000 to train on, each seen once, and 1,000 to test. Chance is 5 %: networks near it had not "
    "begun to learn after these 312 steps.",
}
_COMPARED = (
    "The networks have a fraction of their papers' filters, and small images. The tables show that all of them train; "
    "they do not show how the networks compare on ImageNet. `inception` is `bn_inception` without batch normalisation, "
    "with local response normalisation and dropout, each at a learning rate that suits it. In the paper, on ImageNet, "
    'Inception reaches its 72.2 % after 31.0 million steps, and BN-x5 after 2.1 million, "14 times fewer" '
    "(https://arxiv.org/abs/1502.03167, Fig. 3). `googlenet_no_aux` is `googlenet` without its auxiliary classifiers. "
    "Their paper names no gain; Szegedy et al. (2015, https://arxiv.org/abs/1512.00567, section 4) found the lower one "
    "of no use."
)


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `DATA`."""
    return Sweep(
        title="Every kind of network, made small",
        text=f"{_TEXT[data]}\n\n{_COMPARED}",
        base=Base(f"configs/{data}.py"),
        variants={name: {"config": f"configs/{data}.py:{name}"} for name in NETWORKS},
        claims=(
            Claim(
                "batch normalisation reaches Inception's accuracy in fewer steps",
                "Batch Normalization, section 4.2.2 and Fig. 3",
                "bn_inception",
                "inception",
                "steps",
            ),
            Claim(
                "auxiliary classifiers help the layers below them to learn",
                "Going Deeper with Convolutions, section 5",
                "googlenet",
                "googlenet_no_aux",
            ),
        ),
    )
