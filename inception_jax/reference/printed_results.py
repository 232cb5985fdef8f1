"""The results on ImageNet that the papers print: errors by network, protocol and ensemble; errors of localisation."""

import collections
from collections.abc import Sequence
from typing import NamedTuple


class Result(NamedTuple):
    """A result in a paper's table.

    Attributes:
      networks: number of each network in the ensemble, by its name in `create_model`.
      protocol: name of a protocol of `evaluation.protocols`.
      top1: top-1 error in percent on the validation images of 2012; None if the paper does not print it.
      top5: top-5 error, likewise.
      source: paper and table, and the images unless they are all 50,000.
    """

    networks: dict[str, int]
    protocol: str
    top1: float | None
    top5: float | None
    source: str


_ALEXNET = "ImageNet Classification with Deep Convolutional Neural Networks, Table 2"
_ZFNET = "Visualizing and Understanding Convolutional Networks, Table 2"
_VGG = "Very Deep Convolutional Networks, Table"
_GOOGLENET = "Going Deeper with Convolutions, Table 3"
_BN = "Batch Normalization, Fig. 4"
_V3 = "Rethinking the Inception Architecture, Table"
_V4 = "Inception-v4, Table"
_SUBSET = "some 48,300 images"

RESULTS = (
    Result({"alexnet": 1}, "10crop", 40.7, 18.2, _ALEXNET),
    Result({"alexnet": 5}, "10crop", 38.1, 16.4, _ALEXNET),
    Result({"zfnet": 1}, "10crop", 38.4, 16.5, _ZFNET),
    Result({"zfnet": 5}, "10crop", 36.7, 15.3, _ZFNET),
    Result({"zfnet_wide": 1}, "10crop", 37.5, 16.0, _ZFNET),
    Result({"zfnet": 5, "zfnet_wide": 1}, "10crop", 36.0, 14.7, _ZFNET),
    Result({"vgg_b": 1}, "dense", 28.2, 9.6, f"{_VGG} 4, trained at 256"),
    Result({"vgg_c": 1}, "dense", 26.3, 8.2, f"{_VGG} 4, trained at 256 to 512"),
    Result({"vgg_d": 1}, "dense", 24.8, 7.5, f"{_VGG} 5, trained at 256 to 512"),
    Result({"vgg_d": 1}, "multicrop", 24.6, 7.5, f"{_VGG} 5, trained at 256 to 512"),
    Result({"vgg_e": 1}, "dense", 24.8, 7.5, f"{_VGG} 5, trained at 256 to 512"),
    Result({"vgg_e": 1}, "multicrop", 24.6, 7.4, f"{_VGG} 5, trained at 256 to 512"),
    Result({"vgg_d": 1, "vgg_e": 1}, "dense", 24.0, 7.1, f"{_VGG} 6, trained at 256 to 512"),
    Result({"vgg_d": 1, "vgg_e": 1}, "multicrop", 23.9, 7.2, f"{_VGG} 6, trained at 256 to 512"),
    Result({"googlenet": 1}, "single", None, 10.07, _GOOGLENET),
    Result({"googlenet": 1}, "10crop", None, 9.15, _GOOGLENET),
    Result({"googlenet": 1}, "144crop", None, 7.89, _GOOGLENET),
    Result({"googlenet": 7}, "single", None, 8.09, _GOOGLENET),
    Result({"googlenet": 7}, "10crop", None, 7.62, _GOOGLENET),
    Result({"googlenet": 7}, "144crop", None, 6.67, _GOOGLENET),
    Result({"bn_inception": 1}, "single", 25.2, 7.82, _BN),
    Result({"bn_inception": 1}, "144crop", 21.99, 5.82, _BN),
    Result({"bn_inception": 6}, "144crop", 20.1, 4.9, _BN),
    Result({"inception_v2": 1}, "single", 23.4, None, f"{_V3} 3, 48,238 images"),
    Result({"inception_v3": 1}, "single", 21.2, 5.6, f"{_V3} 3, 48,238 images"),
    Result({"inception_v3": 1}, "12crop", 19.47, 4.48, f"{_V3} 4, 48,238 images"),
    Result({"inception_v3": 1}, "144crop", 18.77, 4.2, f"{_V3} 4, 48,238 images"),
    Result({"inception_v3": 4}, "144crop", 17.2, 3.46, f"{_V3} 5, 48,238 images"),
    Result({"inception_resnet_v1": 1}, "single", 21.3, 5.5, f"{_V4} 2, {_SUBSET}"),
    Result({"inception_v4": 1}, "single", 20.0, 5.0, f"{_V4} 2, {_SUBSET}"),
    Result({"inception_resnet_v2": 1}, "single", 19.9, 4.9, f"{_V4} 2, {_SUBSET}"),
    Result({"inception_resnet_v1": 1}, "12crop", 19.8, 4.6, f"{_V4} 3"),
    Result({"inception_v4": 1}, "12crop", 18.7, 4.2, f"{_V4} 3"),
    Result({"inception_resnet_v2": 1}, "12crop", 18.7, 4.1, f"{_V4} 3"),
    Result({"inception_resnet_v1": 1}, "144crop", 18.8, 4.3, f"{_V4} 4"),
    Result({"inception_v4": 1}, "144crop", 17.7, 3.8, f"{_V4} 4"),
    Result({"inception_resnet_v2": 1}, "144crop", 17.8, 3.7, f"{_V4} 4"),
    Result({"inception_v4": 1, "inception_resnet_v2": 3}, "144crop", 16.4, 3.1, f"{_V4} 5 (AAAI)"),
)


def printed_result(networks: Sequence[str], protocol: str) -> Result | None:
    """Returns the result that a paper prints for an ensemble, or None.

    Args:
      networks: name of each member.
      protocol: name of the protocol.
    """
    counts = collections.Counter(networks)
    return next((r for r in RESULTS if r.networks == counts and r.protocol == protocol), None)


class LocalizationResult(NamedTuple):
    """An error of ILSVRC's classification with localisation in a paper's table.

    Attributes:
      network: what the paper calls it.
      boxes: where its boxes come from.
      images: 'validation' or 'test'.
      top1: top-1 error in percent; None if the paper does not print it.
      top5: top-5 error, likewise.
      source: paper and table.
      known: the error with the true class in place of the predictions, in percent; None likewise.
    """

    network: str
    boxes: str
    images: str
    top1: float | None
    top5: float | None
    source: str
    known: float | None = None


_CAM = "Learning Deep Features for Discriminative Localization"
_VGG_BOXES = "Very Deep Convolutional Networks, appendix A, Table"

LOCALIZATION = (
    LocalizationResult(
        "GoogLeNet-GAP", "CAM, two for each of the best classes", "test", None, 37.1, f"{_CAM}, abstract"
    ),
    LocalizationResult("VGGnet-GAP", "CAM", "validation", None, 45.14, f"{_CAM}, as listed by paperswithcode.com"),
    LocalizationResult("VGG D", "regression, by class", "validation", None, None, f"{_VGG_BOXES} 8, centre crop", 33.1),
    LocalizationResult("VGG", "regression, several networks", "validation", None, 26.9, f"{_VGG_BOXES} 9"),
    LocalizationResult("VGG", "regression, several networks", "test", None, 25.3, f"{_VGG_BOXES} 10"),
    LocalizationResult("GoogLeNet", "its entry of 2014", "test", None, 26.7, f"{_VGG_BOXES} 10"),
    LocalizationResult("OverFeat", "regression", "test", None, 29.9, f"{_VGG_BOXES} 10"),
    LocalizationResult("AlexNet", "its entry of 2012", "test", None, 34.2, f"{_VGG_BOXES} 10"),
)
