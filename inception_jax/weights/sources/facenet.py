"""Map of facenet-pytorch's Inception-ResNet-v1 (timesler/facenet-pytorch, models/inception_resnet_v1.py)."""

from inception_jax.weights.sources import timm, torchvision
from inception_jax.weights.sources.mapping import TORCH, WeightMap
from inception_jax.weights.sources.torchvision import COUNTERS, join, normalised

_BLOCKS = (
    *((f"block35_{i + 1}", f"repeat_1.{i}", timm.BLOCK35) for i in range(5)),
    *((f"block17_{i + 1}", f"repeat_2.{i}", timm.BLOCK17) for i in range(10)),
    *((f"block8_{i + 1}", f"repeat_3.{i}", timm.BLOCK8) for i in range(5)),
    ("block8_6", "block8", timm.BLOCK8),
)
_MODULES = (("mixed_6a", "mixed_6a", timm.REDUCTION_A), ("mixed_7a", "mixed_7a", timm.REDUCTION_B), *_BLOCKS)

INCEPTION_RESNET_V1 = WeightMap(
    network="inception_resnet_v1_facenet",
    options={},
    framework=TORCH,
    scopes=normalised(
        timm.lower_case(torchvision.V3_STEM)
        | {"conv2d_4b_3x3/conv3x3": "conv2d_4b"}
        | {
            ours: theirs
            for name, prefix, units in _MODULES
            for ours, theirs in join(f"{name}/", f"{prefix}.", units).items()
        }
    )
    | {f"{name}/conv1x1_expand": f"{prefix}.conv2d" for name, prefix, _ in _BLOCKS}
    | {"embedding/dense": "last_linear", "embedding/dense_bn": "last_bn", "logits/classifier": "logits"},
    ignored=COUNTERS,
)
