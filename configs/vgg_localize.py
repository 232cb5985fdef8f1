"""Trains VGG's localisation network on ImageNet: it predicts the box of the object in an image, whose class is known.

Paper: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014,
https://arxiv.org/abs/1409.1556, appendix A

Variants (after the colon), default first:

  python main.py --config=configs/vgg_localize.py --workdir=/data/vgg_boxes --config.init_from=/data/vgg_d_384 \
      --config.data.dir=ILSVRC/Data/CLS-LOC --config.data.boxes=ILSVRC/Annotations/CLS-LOC       pcr,all,S384,imagenet
  python main.py --config=configs/vgg_localize.py:scr,fc,S256 ...    one box for all classes (SCR); fc6 to fc8 only; S
  python main.py --config=configs/vgg_localize.py:glyphs --workdir=runs/boxes           small, on drawn characters

`modern` (today's usual recipe, without what moves or mixes images) and `smoke` (eight steps on 64 glyphs) may be added:
`:scr,smoke`.

The paper states (appendix A.1):
- Net D. Its last fully connected layer predicts (centre x, centre y, width, height) in place of class scores: of one
  box (single-class regression, `scr`), or of one for each class (per-class regression, `pcr`).
- A Euclidean loss between the predicted and the true parameters. All else is as for classification (configs/vgg.py).
- S = 256 or 384, no jitter. Training starts from the classification network of the same S, with a learning rate of
  1e-3. The last layer is random and trained from scratch.
- Either all layers are fine-tuned (`all`), or only the first two fully connected ones (`fc`; the last is new).

The paper does not say, so it is chosen here:
- Parameters are in fractions of the crop's side, and the loss is half the squared distance, as in Caffe, from which the
  authors' code derives.
- The part of a box that a training crop shows is its target; of several boxes of the class, the largest such part. An
  image whose boxes the crop loses adds nothing to the loss.
- Training images without boxes (ILSVRC has boxes for less than half of them) are left out.
- The length: 20 epochs, and the plateaus of configs/vgg.py, of the box accuracy.

Images are a folder of class directories, because boxes are matched by the names of files; sort the validation images
into such directories, too.

Published (Table 8, S = 384), error on the validation set with the box of the true class, of the central crop: SCR 36.4
and PCR 34.3 % with `fc`, PCR 33.1 % with `all`. A box is wrong if its intersection over union with each true box is
below 0.5; the error is 1 - `box_accuracy`.

`glyphs`: net A with an eighth of the filters and batch normalisation, from scratch, on characters among clutter
(difficulty 4, 20 classes). All its values are chosen here.

Run here: of the recipe for ImageNet only single steps; `glyphs` as measured in docs/localisation.md.
"""

from ml_collections import ConfigDict

from configs import common, vgg


def get_config(argument: str = "") -> ConfigDict:
    """Returns the recipe for `argument`, the variants after the colon."""
    regression, tuned, scale, images, options = common.parse(
        argument, ("pcr", "scr"), ("all", "fc"), ("S384", "S256"), ("imagenet", "glyphs")
    )
    config = vgg.get_config(f"D,{scale}")
    config.model.boxes = {"pcr": "per_class", "scr": "single"}[regression]

    config.data.name = "folder"
    config.data.eval_split = "val"

    config.train.loss = "euclidean"
    config.train.examples = 0
    config.train.epochs = 20.0

    config.reinit = (r"^fc8/",)
    if tuned == "fc":
        config.optimizer.freeze = (r"^conv",)
    config.schedule.base_lr = 1e-3
    if images == "glyphs":
        _glyphs(config)

    common.finish(config, options, smoke_size=32)
    if "modern" in options:
        config.data.update(randaugment=0, mixup=0.0, cutmix=0.0)
        config.train.update(loss="euclidean", label_smoothing=0.0)
    if "smoke" in options:
        config.data.name = "glyphs/size=32,train=64,test=32,difficulty=4,classes=10"
    return config


def _glyphs(config: ConfigDict) -> None:
    config.model.update(name="vgg_a_bn", init="torchvision", width=0.125, dropout=0.0, batch_norm_decay=0.9)
    config.reinit = ()

    config.data.name = "glyphs/size=64,train=10000,test=1000,difficulty=4,classes=20"
    config.data.eval_split = "test"
    config.data.update(image_size=64, resize=64, scale=(64, 80), pca_noise=0.0)
    config.data.flip = False  # a mirrored character is another one
    config.data.update(mean=(127.5,) * 3, std=(127.5,) * 3)

    config.train.update(batch_size=64, epochs=6.0, ema_decay=0.99)
    config.optimizer.update(name="adamw", caffe_momentum=False, weight_decay=1e-3)
    config.schedule.update(name="cosine", base_lr=3e-3, warmup="20 steps", end_lr=0.0)
    config.eval.batch_size = 250
    config.log.every = "20 steps"
