"""Trains published weights further, on your own classes.

Variants (after the colon): the name of published weights, see `python -m experiments.import_weights --list`.

  python main.py --config=configs/finetune.py:timm/inception_v3.tf_in1k --workdir=/data/pets \
      --config.data.name=folder --config.data.dir=images --config.data.eval_split=val
  python main.py --config=configs/finetune.py:torchvision/googlenet --workdir=/data/pets2 \
      --config.init_from=/data/googlenet_tv --config.data.name=folder --config.data.dir=images

`smoke` (eight steps on the digits) may be added: `:torchvision/googlenet,smoke`.

The network, its flavour and its preprocessing are those of the weights. They are fetched unless `init_from` names a
workdir of `experiments.import_weights`. The classifier is re-initialised and learns ten times as fast as the rest.

No paper states this recipe; the values are chosen here:
- Batch normalisation keeps the statistics of the weights (`train.freeze_batch_norm`), which small batches would spoil.
- Batch 32, momentum 0.9, a learning rate of 0.005 that falls to 0 along a cosine after one epoch of warm-up, 20 epochs.
- GoogLeNet's crops, not smaller than a quarter of the image.

Run here: only single steps of this recipe, from random weights; published ones were not at hand.
"""

from ml_collections import ConfigDict

from configs import common

DEFAULT = "timm/inception_v3.tf_in1k"


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the name of published weights after the colon."""
    from inception_jax.weights.sources import catalogue, mapping  # not at the top, where it would delay --help

    words = argument.split(",")
    name = next((word for word in words if "/" in word), DEFAULT)
    (options,) = common.parse(",".join(word for word in words if word != name))
    source = catalogue.find(name)
    config = common.get_config()

    config.init_from = name
    classifiers = sorted({scope.partition("/")[0] for scope in mapping.classifiers(source.weights)})
    config.reinit = tuple(f"^{layer}/" for layer in classifiers)

    config.model.name = source.weights.network
    config.model.update(source.weights.options)

    config.data.update(source.data)
    config.data.name = "imagenet2012"
    config.data.area = (0.25, 1.0)

    config.train.batch_size = 32
    config.train.epochs = 20.0
    config.train.freeze_batch_norm = True
    config.train.aux_weights = {layer: 0.3 for layer in classifiers if layer.startswith("aux")}

    config.optimizer.lr_multipliers = tuple((pattern, 10.0) for pattern in config.reinit)
    config.schedule.name = "cosine"
    config.schedule.base_lr = 0.005
    config.schedule.warmup = "1 epochs"

    if "smoke" in options:
        config.init_from = ""
        config.reinit = ()
    return common.finish(config, options, smoke_size=source.image_size)
