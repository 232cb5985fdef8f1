"""Weights of PyTorch's world: the publishers' own networks with random weights, and ours with the same.

Published files cannot be had here. Names, shapes, layouts and arithmetic are those of the packages.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import numpy as np
import pytest

from inception_jax.models.units import Dropout
from inception_jax.weights import formats
from inception_jax.weights.export import peers
from inception_jax.weights.formats.safetensors import write_safetensors
from inception_jax.weights.sources import cadene, catalogue, facenet, mapping, pytorch_fid, timm, torchvision
from inception_jax.weights.sources.mapping import WeightMap
from tests.parity.conftest import required

torch, torchvision_models, timm_package = map(required, ("torch", "torchvision.models", "timm"))


@dataclasses.dataclass(frozen=True)
class Case:
    """A network of a publisher.

    Attributes:
      make: builds it.
      weights: our map of its weights.
      size: height and width of the test's images.
      modules: its modules that give our end points, where the names of the parameters do not say which.
      without: our end points of which it has no module.
      bgr: whether it takes blue, green, red, by its own settings.
    """

    make: Callable
    weights: WeightMap
    size: int
    modules: Mapping[str, str]
    without: tuple[str, ...] = ()
    bgr: bool = False


def of_torchvision(name, **options):
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": False, "transform_input": False, "aux_logits": True} | options
    return getattr(torchvision_models, name)(weights=None, **options)


def of_timm(name, **options):
    if name == "inception_v3.tv_in1k":
        options = {"aux_logits": True} | options
    return timm_package.create_model(name, pretrained=False, **options)


def of_facenet():
    network = optional("facenet_pytorch.models.inception_resnet_v1").InceptionResnetV1
    return network(classify=True, num_classes=8631)


def of_cadene(name, classes):
    return getattr(optional("pretrainedmodels"), name)(num_classes=classes, pretrained=None)


def optional(module):
    """A package that cannot be required, because it asks for an old PyTorch or is no longer maintained."""
    package = {"facenet_pytorch": "facenet-pytorch", "pretrainedmodels": "pretrainedmodels munch"}[module.split(".")[0]]
    return pytest.importorskip(module, reason=f"pip install --no-deps {package}")


def pools_of_vgg(*numbers):
    return {f"pool{i}": f"features.{number}" for i, number in enumerate(numbers, start=1)}


STEM_POOLS = ("maxpool_3a_3x3", "maxpool_5a_3x3")
# A network of each family. Rows of the catalogue that differ by names alone: `test_names_of_every_row`.
CASES = {
    "torchvision/googlenet": Case(
        lambda: of_torchvision("googlenet"),
        torchvision.GOOGLENET,
        64,
        {"conv2": "conv3", **{f"pool{i}": f"maxpool{i}" for i in (1, 2, 3, 4)}, "pool5": "avgpool"},
    ),
    "torchvision/inception_v3": Case(
        lambda: of_torchvision("inception_v3"),
        torchvision.INCEPTION_V3,
        107,
        {**dict(zip(STEM_POOLS, ("maxpool1", "maxpool2"), strict=True)), "pool": "avgpool"},
    ),
    "torchvision/alexnet": Case(
        lambda: of_torchvision("alexnet"),
        torchvision.ALEXNET,
        96,
        {"pool1": "features.2", "pool2": "features.5", "pool5": "features.12", "avgpool": "avgpool"},
    ),
    "torchvision/vgg11": Case(
        lambda: of_torchvision("vgg11"), torchvision.VGG[11, False], 224, pools_of_vgg(2, 5, 10, 15, 20)
    ),
    "torchvision/resnet50": Case(
        lambda: of_torchvision("resnet50"),
        torchvision.RESNET50,
        64,
        {"conv1": "bn1", "pool1": "maxpool", "pool": "avgpool"},
    ),
    "timm/inception_v3.tf_in1k": Case(
        lambda: of_timm("inception_v3.tf_in1k"),
        timm.INCEPTION_V3,
        107,
        {**dict(zip(STEM_POOLS, ("Pool1", "Pool2"), strict=True)), "pool": "global_pool"},
    ),
    "timm/inception_v3.tv_in1k": Case(
        lambda: of_timm("inception_v3.tv_in1k"),
        timm.INCEPTION_V3_AUX,
        299,  # timm runs the auxiliary head in inference too, and it needs a grid of 17x17
        {**dict(zip(STEM_POOLS, ("Pool1", "Pool2"), strict=True)), "pool": "global_pool"},
    ),
    "timm/inception_v4": Case(
        lambda: of_timm("inception_v4"),
        timm.INCEPTION_V4,
        107,
        {"mixed_3a": "features.3", "mixed_5a": "features.5", "pool": "global_pool"},
    ),
    "timm/inception_resnet_v2": Case(
        lambda: of_timm("inception_resnet_v2"),
        timm.INCEPTION_RESNET_V2,
        107,
        {**dict(zip(STEM_POOLS, ("maxpool_3a", "maxpool_5a"), strict=True)), "pool": "global_pool"},
    ),
    "timm/vgg11_bn": Case(lambda: of_timm("vgg11_bn"), timm.VGG[11, True], 224, pools_of_vgg(3, 7, 14, 21, 28)),
    "timm/resnet50": Case(
        lambda: of_timm("resnet50"), timm.RESNET50, 64, {"conv1": "bn1", "pool1": "maxpool", "pool": "global_pool"}
    ),
    "facenet": Case(
        of_facenet,
        facenet.INCEPTION_RESNET_V1,
        160,
        {"maxpool_3a_3x3": "maxpool_3a", "pool": "avgpool_1a", "embedding": "last_bn"},
    ),
    "cadene/bninception": Case(
        lambda: of_cadene("bninception", 1000),
        cadene.BN_INCEPTION,
        224,
        {
            "conv1": "conv1_7x7_s2_bn",
            "conv2": "conv2_3x3_bn",
            "pool1": "pool1_3x3_s2",
            "pool2": "pool2_3x3_s2",
            "pool": "global_pool",
        },
        without=tuple(f"inception_{block}" for block in ["3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]),
        bgr=True,  # `input_space` of its `pretrained_settings`
    ),
    "cadene/inceptionv4": Case(
        lambda: of_cadene("inceptionv4", 1001),
        cadene.INCEPTION_V4,
        299,
        {"mixed_3a": "features.3", "mixed_5a": "features.5"},
        without=("pool",),  # a function
    ),
    "cadene/inceptionresnetv2": Case(
        lambda: of_cadene("inceptionresnetv2", 1001),
        cadene.INCEPTION_RESNET_V2,
        299,
        {**dict(zip(STEM_POOLS, ("maxpool_3a", "maxpool_5a"), strict=True)), "pool": "avgpool_1a"},
    ),
}


def on_meta(make):
    """Builds a module of shapes alone, which takes no time and no memory."""
    with torch.device("meta"):
        return make()


def randomized(make):
    """Builds a module with random weights and statistics with which signals neither vanish nor explode."""
    module, generator = on_meta(make).to_empty(device="cpu"), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1, generator=generator)
                part.running_var.uniform_(0.5, 1.5, generator=generator)
                part.num_batches_tracked.zero_()
                part.weight.uniform_(0.5, 1.5, generator=generator)
                part.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
                part.weight.normal_(0, (2 / part.weight[0].numel()) ** 0.5, generator=generator)
                if part.bias is not None:
                    part.bias.normal_(0, 0.1, generator=generator)
    return module.eval()


def arrays_of(module):
    """Copies of its arrays, which later changes of the module leave alone."""
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def noise(images, size):
    return np.random.default_rng(0).standard_normal((images, size, size, 3), np.float32)


def channels_first(images):
    return torch.tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def common_module(prefixes):
    """The deepest module that contains all of these; of VGG's list of layers the last, its normalisation."""
    parts = [prefix.split(".") for prefix in prefixes]
    shared = [names[0] for names in zip(*parts, strict=False) if len(set(names)) == 1]
    return prefixes[-1] if shared == ["features"] else ".".join(shared)


def module_names(case):
    """The publisher's modules by the names of our layers that have parameters, and those that the case names."""
    layers = {}
    for scope, prefix in case.weights.scopes.items():
        layers.setdefault(scope.partition("/")[0], []).append(prefix)
    return {layer: common_module(prefixes) for layer, prefixes in layers.items()} | case.modules


def run(module, names, images):
    """The logits of a publisher's network, and the outputs of the modules of these names, channels last."""
    found, hooks = {}, []
    for layer, name in names.items():
        part = module.get_submodule(name)
        # Where a layer has no module of its own, its last convolution or normalisation is followed by a ReLU.
        before_relu = isinstance(part, torch.nn.Conv2d | torch.nn.Linear | torch.nn.BatchNorm2d)

        def keep(_, __, output, layer=layer, before_relu=before_relu):
            value = output.relu() if before_relu else output.clone()  # ReLUs that follow may work in place
            found[layer] = (value.permute(0, 2, 3, 1) if value.ndim == 4 else value).numpy()

        hooks.append(part.register_forward_hook(keep))
    with torch.no_grad():
        logits = module(channels_first(images))
    for hook in hooks:
        hook.remove()
    return (logits[0] if isinstance(logits, tuple) else logits).numpy(), found


def assert_close(found, expected, what, tolerance=1e-4):
    found = np.asarray(found)
    assert found.size == expected.size, f"{what}: {found.shape} and {expected.shape}"
    error = np.abs(found.reshape(expected.shape) - expected).max() / np.abs(expected).max()
    assert error < tolerance, f"{what}: {error:.1e}"


@pytest.mark.parametrize("name", CASES)
def test_logits_and_every_end_point(name, tmp_path):
    case, weights = CASES[name], CASES[name].weights
    module = randomized(case.make)
    state = arrays_of(module)
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    variables = mapping.to_ours(weights, formats.read(tmp_path / "weights.pth").arrays)
    model, images = mapping.build(weights), noise(1, case.size)
    logits, found = jax.jit(model.apply)(variables, images)

    uncompared = {layer for layer, unit in model.layers if isinstance(unit, Dropout)} | {model.layers[-1][0]}
    uncompared |= set(case.without)
    names = {layer: part for layer, part in module_names(case).items() if layer in found.keys() - uncompared}
    expected, ends = run(module, names, images[..., ::-1] if case.bgr else images)
    assert ends.keys() == found.keys() - uncompared
    assert_close(logits, expected[:, weights.background :], "logits")
    for layer, value in ends.items():
        assert_close(found[layer], value, layer)

    # The way back: byte for byte, and the package loads it strictly.
    write_safetensors(tmp_path / "back.safetensors", peers.arrays(weights, variables), {"format": "pt"})
    if weights is torchvision.GOOGLENET:
        module.aux1 = module.aux2 = None  # which were never trained, so that we drop them
    for value in module.state_dict().values():
        value.fill_(7)
    module.load_state_dict(required("safetensors.torch").load_file(tmp_path / "back.safetensors"))
    for key, array in arrays_of(module).items():
        dropped = slice(weights.background if key.startswith("last_linear") else 0, None)
        np.testing.assert_array_equal(array[dropped] if array.ndim else array, state[key][dropped] if array.ndim else 0)


@pytest.mark.parametrize("publisher", ["torchvision", "timm"])
def test_names_of_every_row(publisher):
    """The names and shapes of all networks of the catalogue are those of the package."""
    make = {"torchvision": of_torchvision, "timm": of_timm}[publisher]
    rows = [source for name, source in catalogue.sources().items() if name.startswith(f"{publisher}/")]
    assert len(rows) >= 12
    for source in rows:
        tag = source.name.partition("/")[2].removesuffix(".v2")  # torchvision's second weights of one network
        state = on_meta(lambda tag=tag: make(tag)).state_dict()
        shapes = {name: np.broadcast_to(np.float32(0), tuple(value.shape)) for name, value in state.items()}
        mapping.check(source.weights, shapes)


@pytest.mark.parametrize(
    ("make", "weights"),
    [
        (lambda: of_torchvision("inception_v3", dropout=0.0), torchvision.INCEPTION_V3),
        (lambda: of_timm("inception_v3.tv_in1k", drop_rate=0.0), timm.INCEPTION_V3_AUX),
    ],
    ids=["torchvision", "timm"],
)
def test_auxiliary_logits_in_training(make, weights):
    """Both normalise by the batch, without dropout.

    The package computes in float64. In float32 its own rounding is larger than the tolerance, because the last
    normalisation of the head has only four values a channel.
    """
    module = randomized(make).train()
    variables = mapping.to_ours(weights, arrays_of(module))
    images = noise(4, 299)
    with torch.no_grad():
        logits, aux = module.double()(channels_first(images).double())
    model = mapping.build(dataclasses.replace(weights, options=weights.options | {"dropout": 0.0}))
    apply = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])[0])
    ours, ends = apply(variables, images)
    assert_close(ends["aux"], aux.numpy(), "aux")
    assert_close(ours, logits.numpy(), "logits")


def test_the_network_of_fid(monkeypatch):
    """pytorch-fid's network and its four blocks of features, by its own loader."""
    inception = required("pytorch_fid.inception")
    state = randomized(
        lambda: inception._inception_v3(num_classes=1008, aux_logits=False, init_weights=False, weights=None)
    ).state_dict()
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)  # in place of its download
    blocks = inception.InceptionV3(range(4), resize_input=False, normalize_input=False).eval()
    variables = mapping.to_ours(pytorch_fid.INCEPTION_V3_FID, {name: value.numpy() for name, value in state.items()})
    images = np.random.default_rng(0).uniform(-1, 1, (1, 139, 139, 3)).astype(np.float32)
    logits, found = jax.jit(mapping.build(pytorch_fid.INCEPTION_V3_FID).apply)(variables, images)

    with torch.no_grad():
        features = blocks(channels_first(images))
        expected = inception.fid_inception_v3().eval()(channels_first(images)).numpy()
    assert [value.shape[1] for value in features] == [64, 192, 768, 2048]
    for layer, value in zip((*STEM_POOLS, "mixed_6e", "pool"), features, strict=True):
        assert_close(found[layer], value.permute(0, 2, 3, 1).numpy(), layer, 1e-5)
    assert_close(logits, expected, "logits", 1e-5)
