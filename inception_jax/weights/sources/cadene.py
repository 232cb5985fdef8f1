"""Maps of Cadene's pretrained-models.pytorch (pretrainedmodels/models/*.py)."""

import dataclasses

from inception_jax.weights.sources import timm
from inception_jax.weights.sources.mapping import TORCH, WeightMap
from inception_jax.weights.sources.torchvision import COUNTERS, join, normalised

_MODULE = {
    "conv1x1": "1x1",
    "conv3x3_reduce": "3x3_reduce",
    "conv3x3": "3x3",
    "double3x3_reduce": "double_3x3_reduce",
    "double3x3_1": "double_3x3_1",
    "double3x3_2": "double_3x3_2",
    "pool_proj": "pool_proj",
}
_BLOCKS = ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
_PASSING = ("3c", "4e")  # blocks that halve the grid, which have neither a 1x1 nor a projection

BN_INCEPTION = WeightMap(
    network="bn_inception_caffe",
    options={},
    framework=TORCH,
    scopes=normalised(
        {
            "conv1/conv7x7": "conv1_7x7_s2",
            "conv2/conv3x3_reduce": "conv2_3x3_reduce",
            "conv2/conv3x3": "conv2_3x3",
        }
        | {
            ours: theirs
            for block in _BLOCKS
            for ours, theirs in join(
                f"inception_{block}/",
                f"inception_{block}_",
                {u: v for u, v in _MODULE.items() if block not in _PASSING or u not in ("conv1x1", "pool_proj")},
            ).items()
        },
        conv="",
        norm="_bn",
    )
    | {"linear/classifier": "last_linear"},
    ignored=COUNTERS,
    bgr=True,
)
# 1001 classes, of which the first means 'none of these'.
INCEPTION_V4 = dataclasses.replace(timm.INCEPTION_V4, background=1)
INCEPTION_RESNET_V2 = dataclasses.replace(
    timm.INCEPTION_RESNET_V2, scopes=timm.resnet_v2_scopes("last_linear"), background=1
)
