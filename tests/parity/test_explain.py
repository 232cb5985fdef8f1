"""Explanations by captum and pytorch-grad-cam, and ours of the same network with the same random weights.

All in float64: in float32 a ReLU whose input is nearly 0 may let another signal pass, so that even PyTorch's gradient
of GoogLeNet differs from its own in float64 by 2e-3.
"""

import copy

import jax
import numpy as np
import pytest

from inception_jax.explain.methods import ActivationMap, Gradient, IntegratedGradients, Summed
from inception_jax.explain.network import Explained
from inception_jax.weights.sources import mapping
from tests.parity.conftest import required
from tests.parity.test_sources_torch import CASES, arrays_of, assert_close, channels_first, noise, randomized

torch = required("torch")
CLASSES = np.array([3, 501])


class Pair:
    """A publisher's network and ours, two images and a class for each."""

    def __init__(self, name):
        case = CASES[name]
        self.module = randomized(case.make)
        self.module.get_parameter(list(self.module.state_dict())[-2]).data *= 1e6  # see `test_activation_maps`
        for part in self.module.modules():  # captum's hooks need ReLUs that leave their input alone
            if isinstance(part, torch.nn.ReLU):
                part.inplace = False
        variables = mapping.to_ours(case.weights, arrays_of(self.module))
        self.variables = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
        model = mapping.build(case.weights).clone(dtype=np.float64)
        self.explained = Explained(model, model.layers[-1][0], None)
        self.images = noise(2, case.size).astype(np.float64)
        self.theirs = channels_first(self.images).requires_grad_()
        self.module.double()
        self.classes = torch.tensor(CLASSES)

    def ours(self, method, **layer):
        call = jax.jit(
            lambda variables, images, part: method(self.explained, variables, images, CLASSES, **layer, **part)
        )
        parts = [{"part": part} for part in range(method.parts)] if isinstance(method, Summed) else [{}]
        with jax.enable_x64(True):
            return sum(np.asarray(call(self.variables, self.images, part)) for part in parts)


def channels_last(values):
    return values.detach().permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def pairs():
    made = {}
    return lambda name: made.setdefault(name, Pair(name))


@pytest.mark.parametrize("name", ["torchvision/googlenet", "torchvision/resnet50", "torchvision/alexnet"])
def test_gradients(pairs, name):
    pair = pairs(name)
    found = required("captum.attr").Saliency(pair.module).attribute(pair.theirs, pair.classes, abs=False)
    assert_close(pair.ours(Gradient()), channels_last(found), "gradient")


# GoogLeNet's module has functions in place of ReLU modules, of which captum's hooks see nothing.
@pytest.mark.parametrize("name", ["torchvision/resnet50", "torchvision/alexnet"])
@pytest.mark.parametrize(("rule", "method"), [("deconvnet", "Deconvolution"), ("guided", "GuidedBackprop")])
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
def test_rules_of_relus(pairs, name, rule, method):
    pair = pairs(name)
    attribution = getattr(required("captum.attr"), method)(copy.deepcopy(pair.module))
    assert_close(pair.ours(Gradient(rule)), channels_last(attribution.attribute(pair.theirs, pair.classes)), rule)


def test_integrated_gradients(pairs):
    pair = pairs("torchvision/resnet50")
    attribution = required("captum.attr").IntegratedGradients(pair.module)
    found = attribution.attribute(pair.theirs, target=pair.classes, n_steps=3, method="riemann_middle")
    assert_close(pair.ours(IntegratedGradients(steps=3)), channels_last(found), "integrated gradients")


@pytest.mark.parametrize(
    ("name", "layer", "module"),
    [
        ("torchvision/googlenet", "inception_5b", "inception5b"),
        ("torchvision/resnet50", "conv4_6", "layer3"),
    ],
)
@pytest.mark.parametrize(("weights", "method"), [
    ("gradcam", "GradCAM"), ("gradcam++", "GradCAMPlusPlus"), ("hirescam", "HiResCAM"),
])  # fmt: skip
def test_activation_maps(pairs, name, layer, module, weights, method):
    """The gradients are large, because pytorch-grad-cam adds 1e-6 to the divisor of Grad-CAM++, which has squares."""
    pair = pairs(name)
    cam, targets = required("pytorch_grad_cam"), required("pytorch_grad_cam.utils.model_targets")
    with getattr(cam, method)(model=pair.module, target_layers=[pair.module.get_submodule(module)]) as attribution:
        wanted = [targets.ClassifierOutputTarget(int(k)) for k in CLASSES]
        expected = attribution(input_tensor=pair.theirs, targets=wanted)
    chosen = ActivationMap(weights)
    heat = chosen.heat(pair.ours(chosen, layer=layer), pair.images.shape[1:3])
    assert np.isfinite(expected).all()
    for ours, theirs in zip(heat, expected, strict=True):
        assert_close(_scaled(ours), theirs, f"{weights} of {layer}", tolerance=1e-4)


def _scaled(heat):
    """As pytorch-grad-cam scales each map: its smallest value is 0, its largest 1."""
    return (heat - heat.min()) / (heat.max() - heat.min())
