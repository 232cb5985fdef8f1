"""The small networks of configs/digits.py on the glyphs, and comparisons that the papers make.

  python main.py --config=configs/glyphs.py --workdir=runs/glyphs
  python main.py --config=configs/glyphs.py:inception_v3 --workdir=runs/glyphs_v3    or another network of that table

`inception` against `bn_inception`: the network of the BN paper without and with batch normalisation, as
configs/bn_inception.py has it (local response normalisation and dropout of 40 %, and neither). `googlenet_no_aux` against
`googlenet`: without and with the auxiliary heads of the GoogLeNet paper.

No recipe of a paper: everything is our own choice, as in configs/digits.py. `modern` and `smoke` may follow:
`:inception,smoke`.
"""

from ml_collections import ConfigDict

from configs import common, digits

BN_INCEPTION, GOOGLENET = digits.NETWORKS["bn_inception"], digits.NETWORKS["googlenet"]

# Name: network, and how it is made small and trained.
VARIANTS = {
    **{network: (network, row) for network, row in digits.NETWORKS.items()},
    "inception": (
        "bn_inception",
        # At BN-Inception's rate it diverges, as in the paper.
        BN_INCEPTION._replace(
            options=BN_INCEPTION.options | {"norm": "none", "lrn": True, "dropout": 0.4},
            base_lr=BN_INCEPTION.base_lr / 10,
        ),
    ),
    "googlenet_no_aux": ("googlenet", GOOGLENET._replace(options=GOOGLENET.options | {"aux": False})),
}


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe of the network that `argument`, what stands behind the colon, names."""
    variant, options = common.parse(argument, tuple(VARIANTS))
    network, row = VARIANTS[variant]
    config = digits.recipe_of(network, row)
    config.data.name = "glyphs"
    return common.finish(config, options, smoke_size=row.size)
