"""Map of pytorch-fid's Inception (mseitzer/pytorch-fid, src/pytorch_fid/inception.py): the graph of 2015-12-05."""

from inception_jax.weights.sources import torchvision
from inception_jax.weights.sources.mapping import TORCH, WeightMap

INCEPTION_V3_FID = WeightMap(
    network="inception_v3_fid",
    options={},
    framework=TORCH,
    scopes=torchvision.v3_scopes(aux=False),
    ignored=torchvision.COUNTERS,
)
