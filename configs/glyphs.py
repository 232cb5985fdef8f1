"""Trains the small networks of configs/digits.py on the glyphs, synthetic characters that tell networks apart.

Variants (after the colon), default first:

  python main.py --config=configs/glyphs.py --workdir=runs/glyphs                  googlenet
  python main.py --config=configs/glyphs.py:inception_v3 --workdir=runs/glyphs_v3  or another network of that table

`modern` (today's usual recipe) and `smoke` (eight steps on the digits) may be added: `:inception,smoke`.

The glyphs are drawn characters (inception_jax/data/glyphs.py), here of difficulty 1: 20,000 to train on and 1,000 to
test on. Only 20 of the 107 classes are used, so that a run takes at most two minutes: deep networks begin to learn
after a few hundred images of each class. For all classes, and harder ones: --config.data.name=glyphs
--config.train.epochs=10.

These recipes come from no paper: all values are chosen here, as in configs/digits.py. Every network sees each image
once.

Run here: see the measurements in docs/results.md.
"""

from ml_collections import ConfigDict

from configs import common, digits


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    name, options = common.parse(argument, tuple(digits.NETWORKS))
    config = digits.recipe_of(name)

    config.data.name = "glyphs/test=1000,difficulty=1,classes=20"
    config.data.area = (0.9, 1.0)
    config.data.cache = "none"  # in one epoch no image comes again
    if config.optimizer.name != "adamw":  # in one epoch SGD left GoogLeNet near chance, LAMB a deeper Inception-v3
        config.optimizer.name, config.schedule.base_lr = "adamw", 5e-3
    config.train.epochs = 1.0
    config.schedule.warmup = "20 steps"

    if config.model.name != "bn_inception":
        config.eval.every = "0.5 epochs"
    config.eval.batch_size = 250
    config.checkpoint.every = "0.5 epochs"
    config.log.every = "20 steps"
    return common.finish(config, options, smoke_size=digits.NETWORKS[name].size)
