"""The small networks of configs/digits.py on the glyphs, synthetic characters that do separate networks.

  python main.py --config=configs/glyphs.py --workdir=runs/glyphs                  `googlenet`
  python main.py --config=configs/glyphs.py:inception_v3 --workdir=runs/glyphs_v3  or another network of that table

The glyphs are drawn characters of 107 classes, here of difficulty 1 and 20,000 to train on, 2,000 to test
(inception_jax/data/glyphs.py); harder ones: --config.data.name=glyphs. No recipe of a paper: all values are our own
choice, as in configs/digits.py; every network sees each image once. `modern` and `smoke` (on the digits) may follow:
`:inception,smoke`. What was measured stands in docs/results.md.
"""

from ml_collections import ConfigDict

from configs import common, digits


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe of the network that `argument`, what stands behind the colon, names."""
    name, options = common.parse(argument, tuple(digits.NETWORKS))
    config = digits.recipe_of(name)

    config.data.name = "glyphs/difficulty=1"
    config.train.epochs = 1.0
    config.schedule.warmup = "20 steps"

    if config.model.name != "bn_inception":
        config.eval.every = "0.5 epochs"
    config.eval.batch_size = 250
    config.checkpoint.every = "0.5 epochs"
    config.log.every = "20 steps"
    return common.finish(config, options, smoke_size=digits.NETWORKS[name].size)
