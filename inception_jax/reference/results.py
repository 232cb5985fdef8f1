"""Results on ImageNet that the papers print: error rates by network, protocol and number of networks."""

from typing import NamedTuple


class Result(NamedTuple):
    """A cell of a paper's table.

    Attributes:
      networks: as `create_model` names them; an ensemble of one kind names it once.
      protocol: of `evaluation.protocols`.
      models: number of networks.
      top1: error in percent on the validation images of 2012; None where the paper has none.
      top5: likewise.
      source: paper, table, and the images where they are not all 50,000.
    """

    networks: tuple[str, ...]
    protocol: str
    models: int
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
    Result(("alexnet",), "10crop", 1, 40.7, 18.2, _ALEXNET),
    Result(("alexnet",), "10crop", 5, 38.1, 16.4, _ALEXNET),
    Result(("zfnet",), "10crop", 1, 38.4, 16.5, _ZFNET),
    Result(("zfnet",), "10crop", 5, 36.7, 15.3, _ZFNET),
    Result(("zfnet_wide",), "10crop", 1, 37.5, 16.0, _ZFNET),
    # Trained with scales from 256 to 512, evaluated at 256, 384 and 512.
    Result(("vgg_d",), "dense", 1, 24.8, 7.5, f"{_VGG} 5"),
    Result(("vgg_d",), "multicrop", 1, 24.6, 7.5, f"{_VGG} 5"),
    Result(("vgg_e",), "dense", 1, 24.8, 7.5, f"{_VGG} 5"),
    Result(("vgg_e",), "multicrop", 1, 24.6, 7.4, f"{_VGG} 5"),
    Result(("vgg_d", "vgg_e"), "dense", 2, 24.0, 7.1, f"{_VGG} 6"),
    Result(("vgg_d", "vgg_e"), "multicrop", 2, 23.9, 7.2, f"{_VGG} 6"),
    Result(("googlenet",), "single", 1, None, 10.07, _GOOGLENET),
    Result(("googlenet",), "10crop", 1, None, 9.15, _GOOGLENET),
    Result(("googlenet",), "144crop", 1, None, 7.89, _GOOGLENET),
    Result(("googlenet",), "single", 7, None, 8.09, _GOOGLENET),
    Result(("googlenet",), "10crop", 7, None, 7.62, _GOOGLENET),
    Result(("googlenet",), "144crop", 7, None, 6.67, _GOOGLENET),
    Result(("bn_inception",), "single", 1, 25.2, 7.82, _BN),
    Result(("bn_inception",), "144crop", 1, 21.99, 5.82, _BN),
    Result(("bn_inception",), "144crop", 6, 20.1, 4.9, _BN),
    Result(("inception_v2",), "single", 1, 23.4, None, f"{_V3} 3, 48,238 images"),
    Result(("inception_v3",), "single", 1, 21.2, 5.6, f"{_V3} 3, 48,238 images"),
    Result(("inception_v3",), "12crop", 1, 19.47, 4.48, f"{_V3} 4, 48,238 images"),
    Result(("inception_v3",), "144crop", 1, 18.77, 4.2, f"{_V3} 4, 48,238 images"),
    Result(("inception_v3",), "144crop", 4, 17.2, 3.46, f"{_V3} 5, 48,238 images"),
    Result(("inception_resnet_v1",), "single", 1, 21.3, 5.5, f"{_V4} 2, {_SUBSET}"),
    Result(("inception_v4",), "single", 1, 20.0, 5.0, f"{_V4} 2, {_SUBSET}"),
    Result(("inception_resnet_v2",), "single", 1, 19.9, 4.9, f"{_V4} 2, {_SUBSET}"),
    Result(("inception_resnet_v1",), "12crop", 1, 19.8, 4.6, f"{_V4} 3"),
    Result(("inception_v4",), "12crop", 1, 18.7, 4.2, f"{_V4} 3"),
    Result(("inception_resnet_v2",), "12crop", 1, 18.7, 4.1, f"{_V4} 3"),
    Result(("inception_resnet_v1",), "144crop", 1, 18.8, 4.3, f"{_V4} 4"),
    Result(("inception_v4",), "144crop", 1, 17.7, 3.8, f"{_V4} 4"),
    Result(("inception_resnet_v2",), "144crop", 1, 17.8, 3.7, f"{_V4} 4"),
    # One Inception-v4 and three Inception-ResNet-v2.
    Result(("inception_resnet_v2", "inception_v4"), "144crop", 4, 16.4, 3.1, f"{_V4} 5 (AAAI)"),
)


def printed_result(networks: list[str], protocol: str) -> Result | None:
    """What a paper prints of an ensemble of these networks, one name for each member, None if nothing."""
    kinds = tuple(sorted(set(networks)))
    return next((r for r in RESULTS if (r.networks, r.protocol, r.models) == (kinds, protocol, len(networks))), None)
