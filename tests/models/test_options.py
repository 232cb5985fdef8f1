"""The options of `create_model`: every one has a type, changes the network, and is refused where it is wrong."""

import pytest

import inception_jax
from inception_jax import models
from inception_jax.models.options import check

NAMES = inception_jax.list_models()

# Another value for every option that a network has.
AUX_OFF = ("inception_v4", "inception_resnet_v2")
OTHER = {
    "activation": {"bn_inception": "sigmoid", "lenet5_modern": "tanh"},
    "aux": {name: name in AUX_OFF for name in NAMES},
    "pool": "average", "groups": 1, "lrn": {"alexnet": False, "bn_inception": True}, "lrn_by_group": True,
    "overlapping_pools": False, "dropout": 0.11, "input_dropout": 0.11, "aux_dropout": 0.11, "init": "normal",
    "dense_window": 7, "boxes": "single", "batch_norm_decay": 0.11, "module": "naive", "stem": "separable",
    "norm": "none",
    "factorized_7x7": {"inception_v2": True, "inception_v3": False},
    "bn_auxiliary": {"inception_v2": True, "inception_v3": False, "googlenet": True},
    "early_reduction": 2, "reduction_width": 0.5, "top": "fc", "residual": False, "mlpconv": False,
    "classifier_relu": False,
    "batch_norm_scale": False, "count_include_pad": True, "order": "figures", "residual_scale": 0.3,
    "variant": "paper", "downsample": "conv3x3", "blocks": 2, "batch_norm_epsilon": 1e-3,
    "pool_first": {name: name.startswith("alexnet") for name in NAMES},
    "geometry": {name: "caffe" if name.endswith("onnx") else "onnx" for name in NAMES},
}  # fmt: skip


def test_every_option_changes_the_network():
    for name in NAMES:
        model = inception_jax.create_model(name)
        assert inception_jax.create_model(name) == model, name
        assert hash(inception_jax.create_model(name)) == hash(model), name
        for option in models.options_of(name):
            value = OTHER[option][name] if isinstance(OTHER[option], dict) else OTHER[option]
            normalised = name == "googlenet" and option in ("batch_norm_decay", "bn_auxiliary")
            options = {"norm": "batch"} if normalised else {}
            changed = inception_jax.create_model(name, **options | {option: value})
            unchanged = inception_jax.create_model(name, **options)
            # The only option without effect: there is no batch normalisation whose decay it could be.
            idle = option == "batch_norm_decay" and model.style.batch_norm is None and not options
            assert (changed == unchanged) == idle, f"{name} {option}"
        assert inception_jax.create_model(name, num_classes=7) != model, name
        assert inception_jax.create_model(name, dtype="bfloat16") != model, name


def test_every_option_has_a_type_that_takes_its_default_and_no_list():
    for name in NAMES:
        for option, parameter in models.options_of(name).items():
            check(option, parameter.default, parameter.annotation)
            with pytest.raises(inception_jax.UserError, match=rf"^{option}=\[\] (must be a?|is not one of)"):
                check(option, [], parameter.annotation)


WRONG = [
    ("googlenet", {"module": "fancy"}, "module='fancy' is not one of reduced, naive"),
    ("googlenet", {"norm": "layer"}, "norm='layer' is not one of lrn, batch, none"),
    ("googlenet", {"norm": 5}, "norm=5 is not one of lrn, batch, none"),
    ("googlenet", {"stem": "big"}, "stem='big' is not one of convolution, separable"),
    ("googlenet", {"early_reduction": True}, "early_reduction=True is not one of 4, 2, 1"),
    ("googlenet", {"width": 0.0}, "width=0.0 must be a number above 0 and at most 16"),
    ("googlenet", {"dropout": 1.0}, "dropout=1.0 must be a number from 0 to below 1"),
    ("googlenet", {"dropout": None}, "dropout=None must be a number from 0 to below 1"),
    ("googlenet", {"batch_norm_decay": "most"}, "batch_norm_decay='most' must be a number from 0 to below 1"),
    ("googlenet", {"reduction_width": -1}, "reduction_width=-1 must be a number not below 0"),
    ("googlenet", {"aux": "false"}, "aux='false' must be True or False"),
    ("googlenet", {"num_classes": 0}, "num_classes=0 must be a whole number above 0"),
    ("googlenet", {"dtype": "int8"}, "dtype='int8' is not one of float32, bfloat16"),
    ("googlenet", {"bn_auxiliary": True}, "bn_auxiliary=True needs norm='batch'"),
    (
        "googlenet",
        {"axu": True},
        "network 'googlenet' has no option 'axu'; it has module, stem, norm, early_reduction, reduction_width, top, "
        "aux, bn_auxiliary, dropout, aux_dropout, batch_norm_decay, width",
    ),
    ("alexnet", {"lrn_by_group": True, "groups": 1}, "lrn_by_group=True needs lrn=True and groups=2"),
    ("vgg_a", {"dense_window": 0}, "dense_window=0 must be a whole number above 0"),
    ("vgg_a", {"boxes": "two"}, "boxes='two' is not one of none, single, per_class"),
    ("vgg_a", {"boxes": "single", "dense_window": 7}, "boxes='single' are of one crop: set dense_window to None"),
    ("inception_v3", {"blocks": 3}, "blocks=3 must be a whole number from 1 to 2"),
    ("inception_v4", {"blocks": 4}, "blocks=4 must be a whole number from 1 to 3"),
    ("inception_resnet_v1", {"blocks": 1.5}, "blocks=1.5 must be a whole number above 0"),
    ("gogglenet", {}, "there is no network 'gogglenet'; did you mean googlenet or googlenet_tv or googlenet_gap?"),
]


def test_wrong_options_are_named():
    for name, options, message in WRONG:
        with pytest.raises(inception_jax.UserError) as error:
            inception_jax.create_model(name, **options)
        assert str(error.value) == message
