"""Maps of TensorFlow's two frozen graphs: inception5h, and the one of 2015-12-05 that the Inception score and FID use.

Names are those of the graphs' constants, as their readers list them (tensorflow/lucid, lucid/modelzoo/other_models/
InceptionV1.py; mseitzer/pytorch-fid and toshas/torch-fidelity).
"""

from inception_jax.weights.sources.mapping import Framework, WeightMap
from inception_jax.weights.sources.torchvision import V3_MODULES, join

_SHAPES = {
    r".*/(concat_dim|reshape/shape|_reshape/shape|dim|size|y)": "a constant of the graph that is no weight",
}

# ------------------------------------------- inception5h, with its auxiliary heads

_MODULE = {
    "conv1x1": "1x1",
    "conv3x3_reduce": "3x3_bottleneck",
    "conv3x3": "3x3",
    "conv5x5_reduce": "5x5_bottleneck",
    "conv5x5": "5x5",
    "pool_proj": "pool_reduce",
}
INCEPTION5H = WeightMap(
    network="inception5h",
    options={},
    framework=Framework(separator="_", layer={"kernel": "w", "bias": "b"}, norm={}, channels_first=False),
    scopes={
        "conv1/conv7x7": "conv2d0",
        "conv2/conv3x3_reduce": "conv2d1",
        "conv2/conv3x3": "conv2d2",
        "linear/classifier": "softmax2",
    }
    | {
        ours: theirs
        for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
        for ours, theirs in join(f"inception_{block}/", f"mixed{block}_", _MODULE).items()
    }
    | {
        f"aux{i + 1}/{ours}": theirs
        for i in (0, 1)
        for ours, theirs in (("conv1x1", f"head{i}_bottleneck"), ("fc", f"nn{i}"), ("classifier", f"softmax{i}"))
    },
    ignored=_SHAPES,
)

# ------------------------------------------- Inception-v3 of 2015-12-05, without an auxiliary head

_STEM = ("conv2d_1a_3x3/conv3x3", "conv2d_2a_3x3/conv3x3", "conv2d_2b_3x3/conv3x3", "conv2d_3b_1x1/conv1x1",
         "conv2d_4a_3x3/conv3x3")  # fmt: skip
# The convolutions of each kind of module, by torchvision's names.
_UNITS = {
    "branch1x1": "conv",
    "branch3x3": "conv",
    "branch_pool": "tower_2/conv",
    **{f"branch5x5_{i + 1}": f"tower/conv{n}" for i, n in enumerate(("", "_1"))},
    **{f"branch3x3dbl_{i + 1}": f"tower_1/conv{n}" for i, n in enumerate(("", "_1", "_2"))},
    **{f"branch7x7_{i + 1}": f"tower/conv{n}" for i, n in enumerate(("", "_1", "_2"))},
    **{f"branch7x7dbl_{i + 1}": f"tower_1/conv{n}" for i, n in enumerate(("", "_1", "_2", "_3", "_4"))},
    **{f"branch3x3_{i + 1}": f"tower/conv{n}" for i, n in enumerate(("", "_1"))},
    **{f"branch7x7x3_{i + 1}": f"tower_1/conv{n}" for i, n in enumerate(("", "_1", "_2", "_3"))},
    "branch3x3_2a": "tower/mixed/conv",
    "branch3x3_2b": "tower/mixed/conv_1",
    "branch3x3dbl_3a": "tower_1/mixed/conv",
    "branch3x3dbl_3b": "tower_1/mixed/conv_1",
}
# In the module that halves 35x35 the only tower is the double 3x3.
_REDUCTION_A = {f"branch3x3dbl_{i + 1}": f"tower/conv{n}" for i, n in enumerate(("", "_1", "_2"))}


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def _fid_convolutions() -> dict[str, str]:
    found = {ours: _numbered("conv", number) for number, ours in enumerate(_STEM)}
    for number, (module, prefix, units) in enumerate(V3_MODULES):
        names = _UNITS | (_REDUCTION_A if prefix == "Mixed_6a" else {})
        found |= {f"{module}/{ours}": f"{_numbered('mixed', number)}/{names[theirs]}" for ours, theirs in units.items()}
    return found


FID = WeightMap(
    network="inception_v3_fid",
    options={},
    framework=Framework(
        separator="/",
        layer={"kernel": "conv2d_params", "bias": "biases"},
        norm={
            "scale": "batchnorm/gamma",
            "bias": "batchnorm/beta",
            "mean": "batchnorm/moving_mean",
            "var": "batchnorm/moving_variance",
        },
        channels_first=False,
    ),
    scopes={scope: theirs for ours, theirs in _fid_convolutions().items() for scope in (ours, f"{ours}_bn")}
    | {"logits/classifier": "softmax"},
    names={"params/logits/classifier/kernel": "softmax/weights"},
    ignored=_SHAPES | {r"(.*/)?(concat_dim|dim|size|shape)": "a constant of the graph that is no weight"},
)
