"""The small networks of configs/digits.py on the glyphs, synthetic characters that do separate networks.

  python main.py --config=configs/glyphs.py --workdir=runs/glyphs                  `googlenet`
  python main.py --config=configs/glyphs.py:inception_v3 --workdir=runs/glyphs_v3  or another network of that table

The glyphs are drawn characters (inception_jax/data/glyphs.py), here of difficulty 1: 20,000 to train on, 1,000 to test.
Twenty of the 107 classes, because deep networks begin to learn after some hundred images of each class, and a run is
not to take more than two minutes. All of them, and harder ones: --config.data.name=glyphs --config.train.epochs=10. No
recipe of a paper: all values are our own choice, as in configs/digits.py, and every network sees each image once.
`modern` and `smoke` (on the digits) may follow: `:inception,smoke`. What was measured stands in docs/results.md.
"""

from ml_collections import ConfigDict

from configs import common, digits


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe of the network that `argument`, what stands behind the colon, names."""
    name, options = common.parse(argument, tuple(digits.NETWORKS))
    config = digits.recipe_of(name)

    config.data.name = "glyphs/test=1000,difficulty=1,classes=20"
    config.data.area = (0.9, 1.0)
    if config.optimizer.name != "adamw":  # after this epoch SGD left GoogLeNet near chance, LAMB a deeper Inception-v3
        config.optimizer.name, config.schedule.base_lr = "adamw", 5e-3
    config.train.epochs = 1.0
    config.schedule.warmup = "20 steps"

    if config.model.name != "bn_inception":
        config.eval.every = "0.5 epochs"
    config.eval.batch_size = 250
    config.checkpoint.every = "0.5 epochs"
    config.log.every = "20 steps"
    return common.finish(config, options, smoke_size=digits.NETWORKS[name].size)
