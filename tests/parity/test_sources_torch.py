"""Weights of torchvision, timm, Cadene and pytorch-fid: their own networks with random weights, and ours with the same.

Published files cannot be had here. Names, shapes, layouts and arithmetic are those of the packages.
"""

import dataclasses

import jax
import numpy as np
import pytest

from inception_jax.weights import formats
from inception_jax.weights.export import peers
from inception_jax.weights.formats.safetensors import write_safetensors
from inception_jax.weights.sources import mapping, pytorch_fid, timm, torchvision
from tests.parity.conftest import required

torch, torchvision_models, timm_package = map(required, ("torch", "torchvision.models", "timm"))


def randomize(module):
    """Random weights and statistics with which signals neither vanish nor explode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1, generator=generator)
                part.running_var.uniform_(0.5, 1.5, generator=generator)
                part.weight.uniform_(0.5, 1.5, generator=generator)
                part.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
                part.weight.normal_(0, (2 / part.weight[0].numel()) ** 0.5, generator=generator)
                if part.bias is not None:
                    part.bias.normal_(0, 0.1, generator=generator)
    return module.eval()


def of_torchvision(name, **options):
    return randomize(getattr(torchvision_models, name)(weights=None, **options))


def of_timm(name):
    return randomize(timm_package.create_model(name, pretrained=False))


V3 = {"init_weights": False, "transform_input": False}
# A network of each family; the other depths of VGG differ by a table, which the core tests check.
CASES = {
    "torchvision/googlenet": (lambda: of_torchvision("googlenet", **V3, aux_logits=True), torchvision.GOOGLENET, 64),
    "torchvision/inception_v3": (lambda: of_torchvision("inception_v3", **V3), torchvision.INCEPTION_V3, 107),
    "torchvision/alexnet": (lambda: of_torchvision("alexnet"), torchvision.ALEXNET, 96),
    "torchvision/vgg11": (lambda: of_torchvision("vgg11"), torchvision.VGG[11, False], 224),
    "torchvision/vgg16_bn": (lambda: of_torchvision("vgg16_bn"), torchvision.VGG[16, True], 224),
    "torchvision/resnet50": (lambda: of_torchvision("resnet50"), torchvision.RESNET50, 64),
    "timm/inception_v3": (lambda: of_timm("inception_v3"), timm.INCEPTION_V3, 107),
    "timm/inception_v4": (lambda: of_timm("inception_v4"), timm.INCEPTION_V4, 107),
    "timm/inception_resnet_v2": (lambda: of_timm("inception_resnet_v2"), timm.INCEPTION_RESNET_V2, 107),
    "timm/vgg11_bn": (lambda: of_timm("vgg11_bn"), timm.VGG[11, True], 224),
    "timm/resnet50": (lambda: of_timm("resnet50"), timm.RESNET50, 64),
}


def common_module(prefixes):
    """The deepest module that contains all of these."""
    parts = [prefix.split(".") for prefix in prefixes]
    shared = [names[0] for names in zip(*parts, strict=False) if len(set(names)) == 1]
    return prefixes[-1] if shared == ["features"] else ".".join(shared)  # in VGG the normalisation is the last


def outputs_of(module, weights, images):
    """The logits, and the output of each module that holds all of a layer of ours, channels last."""
    layers = {}
    for scope, prefix in weights.scopes.items():
        layers.setdefault(scope.partition("/")[0], []).append(prefix)
    modules, found, hooks = dict(module.named_modules()), {}, []
    for layer, prefixes in layers.items():
        part = modules.get(common_module(prefixes))
        if part is not None and part is not module and f"{layer}/classifier" not in weights.scopes:
            linear = isinstance(part, torch.nn.Conv2d | torch.nn.Linear | torch.nn.BatchNorm2d)

            def keep(_, __, output, layer=layer, linear=linear):
                value = output.relu() if linear else output
                found[layer] = value.permute(0, 2, 3, 1).numpy() if value.ndim == 4 else value.numpy()

            hooks.append(part.register_forward_hook(keep))
    with torch.no_grad():
        logits = module(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    for hook in hooks:
        hook.remove()
    return logits, found


def assert_close(found, expected, what, tolerance=1e-4):
    assert found.shape == expected.shape, what
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < tolerance, f"{what}: {error:.1e}"


@pytest.mark.parametrize("name", CASES)
def test_weights_of_the_real_packages(name, tmp_path):
    make, weights, size = CASES[name]
    module = make()
    state = {key: value.numpy() for key, value in module.state_dict().items()}
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    variables = mapping.to_ours(weights, formats.read(tmp_path / "weights.pth").arrays)
    images = np.random.default_rng(0).standard_normal((1, size, size, 3), np.float32)
    expected, ends = outputs_of(module, weights, images)
    logits, found = jax.jit(mapping.build(weights).apply)(variables, images)
    assert_close(np.asarray(logits), expected, "logits")
    compared = 0
    for layer in ends:
        if ends[layer].size == found[layer].size:
            assert_close(np.asarray(found[layer]).reshape(ends[layer].shape), ends[layer], layer)
            compared += 1
    assert compared >= 5, f"only {compared} end points have a module of their own"

    back = mapping.to_theirs(weights, variables)
    for key, array in back.items():
        np.testing.assert_array_equal(array, state[key], err_msg=key)
    write_safetensors(tmp_path / "back.safetensors", peers.arrays(weights, variables), {"format": "pt"})
    fresh = make()
    torch.nn.init.zeros_(next(fresh.parameters()))
    strict = weights is not torchvision.GOOGLENET  # whose auxiliary heads we drop
    fresh.load_state_dict(required("safetensors.torch").load_file(tmp_path / "back.safetensors"), strict=strict)
    with torch.no_grad():
        again = fresh(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_array_equal(again, expected)


def test_auxiliary_logits_in_training():
    """Both normalise by the batch, without dropout."""
    module = of_torchvision("inception_v3", **V3, dropout=0.0).train()
    weights = torchvision.INCEPTION_V3
    variables = mapping.to_ours(weights, {key: value.numpy() for key, value in module.state_dict().items()})
    images = np.random.default_rng(0).standard_normal((4, 299, 299, 3), np.float32)
    with torch.no_grad():
        logits, aux = module(torch.tensor(images.transpose(0, 3, 1, 2)))
    model = dataclasses.replace(weights, options=weights.options | {"dropout": 0.0})
    apply = jax.jit(lambda v, x: mapping.build(model).apply(v, x, train=True, mutable=["batch_stats"])[0])
    ours, ends = apply(variables, images)
    assert_close(np.asarray(ends["aux"]), aux.numpy(), "aux", 1e-3)  # statistics of four images amplify rounding
    assert_close(np.asarray(ours), logits.numpy(), "logits", 1e-3)


def test_the_network_of_fid():
    """pytorch-fid's own module and ours, on the same random weights."""
    inception = required("pytorch_fid.inception")
    module = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    for name, block in (("Mixed_5b", inception.FIDInceptionA(192, 32)), ("Mixed_5c", inception.FIDInceptionA(256, 64))):
        setattr(module, name, block)
    module.Mixed_5d = inception.FIDInceptionA(288, 64)
    for letter, width in zip("bcde", (128, 160, 160, 192), strict=True):
        setattr(module, f"Mixed_6{letter}", inception.FIDInceptionC(768, channels_7x7=width))
    module.Mixed_7b, module.Mixed_7c = inception.FIDInceptionE_1(1280), inception.FIDInceptionE_2(2048)
    module = randomize(module)
    weights = pytorch_fid.INCEPTION_V3_FID
    variables = mapping.to_ours(weights, {key: value.numpy() for key, value in module.state_dict().items()})
    images = np.random.default_rng(0).uniform(-1, 1, (1, 139, 139, 3)).astype(np.float32)
    module.transform_input = False
    expected, ends = outputs_of(module, weights, images)
    logits, found = jax.jit(mapping.build(weights).apply)(variables, images)
    assert_close(np.asarray(logits), expected, "logits", 1e-5)
    for layer in ("mixed_5d", "mixed_6e", "mixed_7c"):
        assert_close(np.asarray(found[layer]), ends[layer], layer, 1e-5)
