"""The published files of weights that are known: where each is, what it holds, what its publisher measured."""

import dataclasses
import difflib
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from inception_jax.errors import UserError
from inception_jax.weights.fetch import fetch
from inception_jax.weights.sources import (
    cadene,
    caffe,
    facenet,
    graphs,
    keras,
    onnx_zoo,
    pytorch_fid,
    slim,
    timm,
    torchvision,
)
from inception_jax.weights.sources.mapping import WeightMap

# 255 times (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225); the range [-1, 1].
IMAGENET: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
HALF: dict[str, Any] = {"mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5)}


@dataclasses.dataclass(frozen=True)
class Source:
    """One published file.

    Attributes:
      name: 'PUBLISHER/NETWORK', with a tag where there are several.
      weights: its map.
      image_size: height and width of the network's input in its publisher's protocol.
      resize: length of the shorter side before the central crop.
      mean: subtracted from red, green and blue, on the scale 0 to 255.
      std: divisor of each.
      url: address of the file; '': it is on the Hugging Face hub.
      hub: 'REPOSITORY:FILE' on the Hugging Face hub.
      sha256: first hexadecimal digits of its checksum, where the publisher gives them; likewise `sha1`, `md5`.
      interpolation: of the crop.
      top1: published top-1 accuracy on ImageNet's validation set in percent, by the protocol of these attributes unless
        `remarks` say otherwise; None: none was published.
      top5: the same for top-5.
      license: what the publisher says.
      remarks: what is easily overlooked.
    """

    name: str
    weights: WeightMap
    image_size: int
    resize: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    url: str = ""
    hub: str = ""
    sha256: str = ""
    sha1: str = ""
    md5: str = ""
    interpolation: str = "bilinear"
    top1: float | None = None
    top5: float | None = None
    license: str = "none stated"
    remarks: str = ""

    @property
    def data(self) -> dict[str, Any]:
        """The preprocessing, by the names of the config's keys."""
        names = ("image_size", "resize", "mean", "std", "interpolation")
        return {name: getattr(self, name) for name in names}

    @property
    def file(self) -> str:
        """Name of the file."""
        return (self.hub or self.url).replace(":", "/").rpartition("/")[2].partition("?")[0]

    def fetch(self) -> Path:
        """Returns the file in the cache; it is fetched from its publisher unless it is there.

        Raises:
          UserError: it cannot be had.
        """
        if self.hub:
            from inception_jax.weights.hub import fetch_from_hub  # its library is large and optional

            repository, _, file = self.hub.partition(":")
            return fetch_from_hub(repository, file)
        digests = {"sha256_prefix": self.sha256 or None, "sha1": self.sha1 or None, "md5": self.md5 or None}
        return fetch(self.url, name=self.file, **digests)  # type: ignore[arg-type]  # they are all of these


# ------------------------------------------- torchvision: torchvision/models/*.py, `*_Weights`

_CODE_ALONE = "BSD-3-Clause for the code, none stated for the weights"
_TORCH = "https://download.pytorch.org/models"


def _torchvision(name: str, file: str, weights: WeightMap, top1: float, top5: float, **more) -> Source:
    """A file of torchvision, whose name ends in the first eight digits of its SHA-256."""
    fields: dict[str, Any] = {"image_size": 224, "resize": 256, "license": _CODE_ALONE} | IMAGENET | more
    return Source(
        f"torchvision/{name}",
        weights,
        url=f"{_TORCH}/{file}.pth",
        sha256=file.rpartition("-")[2],
        top1=top1,
        top5=top5,
        **fields,
    )


_VGG_FILES = {
    (11, False): ("vgg11-8a719046", 69.020, 88.628),
    (13, False): ("vgg13-19584684", 69.928, 89.246),
    (16, False): ("vgg16-397923af", 71.592, 90.382),
    (19, False): ("vgg19-dcbb9e9d", 72.376, 90.876),
    (11, True): ("vgg11_bn-6002323d", 70.370, 89.810),
    (13, True): ("vgg13_bn-abd245e5", 71.586, 90.374),
    (16, True): ("vgg16_bn-6c64b313", 73.360, 91.516),
    (19, True): ("vgg19_bn-c79401a0", 74.218, 91.842),
}
TORCHVISION = (
    _torchvision(
        "googlenet",
        "googlenet-1378be20",
        torchvision.GOOGLENET,
        69.778,
        89.530,
        **HALF,
        remarks="3x3 in place of 5x5; its auxiliary heads were never trained; `transform_input` is our mean and std",
    ),
    _torchvision(
        "inception_v3",
        "inception_v3_google-0cc3c7bd",
        torchvision.INCEPTION_V3,
        77.294,
        93.450,
        image_size=299,
        resize=342,
        **HALF,
        remarks="average pools count padding; `transform_input` is our mean and std; with the auxiliary head",
    ),
    _torchvision(
        "alexnet",
        "alexnet-owt-7be5be79",
        torchvision.ALEXNET,
        56.522,
        79.066,
        remarks='AlexNet of "One weird trick", 2014: no response normalisation, no groups',
    ),
    *(
        _torchvision(file.partition("-")[0], file, torchvision.VGG[key], top1, top5)
        for key, (file, top1, top5) in _VGG_FILES.items()
    ),
    _torchvision("resnet50", "resnet50-0676ba61", torchvision.RESNET50, 76.130, 92.862),
    _torchvision("resnet50.v2", "resnet50-11ad3fa6", torchvision.RESNET50, 80.858, 95.434, resize=232),
)

# ------------------------------------------- timm: results/results-imagenet.csv of pytorch-image-models


def _timm(tag: str, weights: WeightMap, top1: float, top5: float, size: int, resize: int, **fields) -> Source:
    fields = {"interpolation": "bicubic", "license": "Apache-2.0"} | fields
    return Source(
        f"timm/{tag}",
        weights,
        size,
        resize,
        hub=f"timm/{tag}:model.safetensors",
        top1=top1,
        top5=top5,
        **fields,
    )


_AS_TORCHVISION: dict[str, Any] = IMAGENET | {"interpolation": "bilinear", "license": "BSD-3-Clause"}
_PADDING = "timm's average pools count padding, those of TensorFlow's training did not"
TIMM = (
    _timm("inception_v3.tv_in1k", timm.INCEPTION_V3_AUX, 77.472, 93.468, 299, 341, **HALF),
    _timm("inception_v3.tf_in1k", timm.INCEPTION_V3, 77.866, 93.644, 299, 341, **HALF, remarks=_PADDING),
    _timm("inception_v3.tf_adv_in1k", timm.INCEPTION_V3, 77.598, 93.726, 299, 341, **HALF, remarks=_PADDING),
    _timm("inception_v3.gluon_in1k", timm.INCEPTION_V3, 78.806, 94.372, 299, 341, **IMAGENET),
    _timm("inception_v4.tf_in1k", timm.INCEPTION_V4, 80.144, 94.982, 299, 341, **HALF),
    _timm("inception_resnet_v2.tf_in1k", timm.INCEPTION_RESNET_V2, 80.434, 95.312, 299, 333, **HALF),
    _timm("inception_resnet_v2.tf_ens_adv_in1k", timm.INCEPTION_RESNET_V2, 79.998, 94.940, 299, 333, **HALF),
    *(
        _timm(f"{file.partition('-')[0]}.tv_in1k", timm.VGG[key], top1, top5, 224, 256, **_AS_TORCHVISION)
        for key, (file, top1, top5) in _VGG_FILES.items()
    ),
    _timm("resnet50.tv_in1k", timm.RESNET50, 76.130, 92.862, 224, 256, **_AS_TORCHVISION),
)

# ------------------------------------------- Cadene: pretrained-models.pytorch, README

_LIP6 = "http://data.lip6.fr/cadene/pretrainedmodels"
_BACKGROUND = "1001 outputs, of which the first ('none of these') is dropped"
CADENE = (
    Source(
        "cadene/bninception",
        cadene.BN_INCEPTION,
        224,
        256,
        mean=(128.0, 117.0, 104.0),
        std=(1.0, 1.0, 1.0),
        url=f"{_LIP6}/bn_inception-52deb4733.pth",
        sha256="52deb4733",
        top1=73.524,
        top5=91.562,
        license=_CODE_ALONE,
        remarks="takes blue, green, red of 0 to 255, which the import turns round; the host is often down",
    ),
    Source(
        "cadene/inceptionv4",
        cadene.INCEPTION_V4,
        299,
        341,
        **HALF,
        url=f"{_LIP6}/inceptionv4-8e4777a0.pth",
        sha256="8e4777a0",
        top1=80.062,
        top5=94.926,
        license=_CODE_ALONE,
        remarks=_BACKGROUND,
    ),
    Source(
        "cadene/inceptionresnetv2",
        cadene.INCEPTION_RESNET_V2,
        299,
        333,
        **HALF,
        url=f"{_LIP6}/inceptionresnetv2-520b38e4.pth",
        sha256="520b38e4",
        top1=80.170,
        top5=95.234,
        license=_CODE_ALONE,
        remarks=_BACKGROUND,
    ),
)

# ------------------------------------------- Others with torchvision's names

_FACENET: dict[str, Any] = {
    "mean": (127.5, 127.5, 127.5),
    "std": (128.0, 128.0, 128.0),
    "license": "MIT for the code, none stated for the weights",
}
FACENET = tuple(
    Source(
        f"facenet/{data}",
        facenet.INCEPTION_RESNET_V1,
        160,
        160,
        url=f"https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/{file}.pt",
        remarks=f"for cropped faces; {classes} persons; features are the end point `embedding`, divided by its norm",
        **_FACENET,
    )
    for data, file, classes in (
        ("vggface2", "20180402-114759-vggface2", 8631),
        ("casia-webface", "20180408-102900-casia-webface", 10575),
    )
)
PYTORCH_FID = Source(
    "pytorch_fid/inception",
    pytorch_fid.INCEPTION_V3_FID,
    299,
    299,
    **HALF,
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    sha256="6726825d",
    license="Apache-2.0",
    remarks="1008 outputs; pytorch-fid maps pixels to [-1, 1] by 127.5, the graph of 2015 by (x - 128) / 128",
)
_JCJOHNSON: dict[str, Any] = {
    "mean": (123.68, 116.779, 103.939),
    "std": (1.0, 1.0, 1.0),
    "remarks": "Caffe's weights (VGG_ILSVRC), for blue, green, red, which the import turns round",
}
JCJOHNSON = tuple(
    Source(
        f"jcjohnson/vgg{depth}",
        torchvision.VGG_CAFFE[depth],
        224,
        256,
        url=f"https://web.eecs.umich.edu/~justincj/models/{file}.pth",
        sha256=file.rpartition("-")[2],
        **_JCJOHNSON,
    )
    for depth, file in ((16, "vgg16-00b39a1b"), (19, "vgg19-d01eb7cb"))
)

# ------------------------------------------- Keras: keras/src/applications/*.py; accuracies: keras.io/api/applications

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
# Mode 'caffe' subtracts 103.939, 116.779, 123.68 from blue, green, red.
_CAFFE: dict[str, Any] = {"mean": (123.68, 116.779, 103.939), "std": (1.0, 1.0, 1.0)}
_BGR = "takes blue, green, red, which the import turns round"
_NOTOP = "without the classifier: for features and fine-tuning"


def _keras(
    file: str, weights: tuple[WeightMap, WeightMap], md5: tuple[str, str], top: tuple[float, float], size: int, **more
) -> tuple[Source, Source]:
    """Returns the file with the classifier and that without, '_notop'."""
    name = file.rpartition("/")[2]
    fields: dict[str, Any] = {"image_size": size, "resize": size} | more
    address = f"{_KERAS}/{file}_weights_tf_dim_ordering_tf_kernels"
    whole = Source(f"keras/{name}", weights[0], url=f"{address}.h5", md5=md5[0], top1=top[0], top5=top[1], **fields)
    fields["remarks"] = "; ".join(filter(None, (_NOTOP, fields.get("remarks", ""))))
    return whole, Source(f"keras/{name}_notop", weights[1], url=f"{address}_notop.h5", md5=md5[1], **fields)


KERAS = (
    *_keras(
        "inception_v3/inception_v3",
        (keras.INCEPTION_V3, keras.INCEPTION_V3_NOTOP),
        ("9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63"),
        (77.9, 93.7),
        299,
        license="MIT",
        **HALF,
    ),
    *_keras(
        "inception_resnet_v2/inception_resnet_v2",
        (keras.INCEPTION_RESNET_V2, keras.INCEPTION_RESNET_V2_NOTOP),
        ("e693bd0210a403b3192acc6073ad2e96", "d19885ff4a710c122648d3b5c3b684e4"),
        (80.3, 95.3),
        299,
        license="Apache-2.0",
        **HALF,
    ),
    *_keras(
        "vgg16/vgg16",
        (keras.VGG16, keras.VGG16_NOTOP),
        ("64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"),
        (71.3, 90.1),
        224,
        license="CC-BY-4.0",
        remarks=_BGR,
        **_CAFFE,
    ),
    *_keras(
        "vgg19/vgg19",
        (keras.VGG19, keras.VGG19_NOTOP),
        ("cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6"),
        (71.3, 90.0),
        224,
        license="CC-BY-4.0",
        remarks=_BGR,
        **_CAFFE,
    ),
    *_keras(
        "resnet/resnet50",
        (keras.RESNET50, keras.RESNET50_NOTOP),
        ("2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"),
        (74.9, 92.1),
        224,
        license="MIT",
        remarks=f"{_BGR}; biases of convolutions are folded into the running means",
        **_CAFFE,
    ),
)

# ------------------------------------------- TensorFlow-Slim: research/slim/README.md

_SLIM = "http://download.tensorflow.org/models"
_SQUEEZED = "measured on the central 87.5 % of both sides, resized to a square (protocol anisotropic)"


def _slim(name: str, date: str, weights: WeightMap, top1: float, top5: float, size: int, **more) -> Source:
    fields: dict[str, Any] = HALF | {"license": "Apache-2.0", "remarks": _SQUEEZED, "resize": size} | more
    return Source(f"slim/{name}", weights, size, url=f"{_SLIM}/{name}_{date}.tar.gz", top1=top1, top5=top5, **fields)


SLIM = (
    _slim("inception_v1", "2016_08_28", slim.INCEPTION_V1, 69.8, 89.6, 224),
    _slim("inception_v2", "2016_08_28", slim.INCEPTION_V2, 73.9, 91.8, 224),
    _slim("inception_v3", "2016_08_28", slim.INCEPTION_V3, 78.0, 93.9, 299),
    _slim("inception_v4", "2016_09_09", slim.INCEPTION_V4, 80.2, 95.2, 299),
    _slim("inception_resnet_v2", "2016_08_30", slim.INCEPTION_RESNET_V2, 80.4, 95.3, 299),
    _slim("vgg_16", "2016_08_28", slim.VGG16, 71.5, 89.8, 224, resize=256, remarks="", **_CAFFE),
    _slim("vgg_19", "2016_08_28", slim.VGG19, 71.1, 89.8, 224, resize=256, remarks="", **_CAFFE),
    _slim("resnet_v1_50", "2016_08_28", slim.RESNET50, 75.2, 92.2, 224, resize=256, remarks="", **_CAFFE),
)

# ------------------------------------------- Caffe: BVLC/caffe models/*/readme.md, the model zoo, zhoubolei/CAM

# The mean per channel of ilsvrc_2012_mean.npy (BVLC/caffe, python/caffe/imagenet), the mean image of 256x256 pixels.
_MEAN_IMAGE: dict[str, Any] = {"mean": (122.679, 116.669, 104.007), "std": (1.0, 1.0, 1.0)}
_MEAN_PIXEL: dict[str, Any] = {"mean": (123.0, 117.0, 104.0), "std": (1.0, 1.0, 1.0)}
_BERKELEY = "http://dl.caffe.berkeleyvision.org"
_SQUASHED = "measured on images squashed to 256x256, whatever their aspect ratio"
_IMAGE_MEAN = "Caffe subtracts a mean image, this its mean per channel, which costs some accuracy"
_UNRESTRICTED = "unrestricted use"
_OXFORD = "http://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe"
_CAM = "http://cnnlocalization.csail.mit.edu/demoCAM/models"


def _caffe(name: str, weights: WeightMap, url: str, size: int, *remarks: str, **more) -> Source:
    fields: dict[str, Any] = {"license": _UNRESTRICTED, "remarks": "; ".join((_BGR, *remarks))} | more
    return Source(f"caffe/{name}", weights, size, 256, url=url, **fields)


CAFFE = (
    _caffe(
        "bvlc_googlenet",
        caffe.GOOGLENET,
        f"{_BERKELEY}/bvlc_googlenet.caffemodel",
        224,
        _SQUASHED,
        sha1="405fc5acd08a3bb12de8ee5e23a96bec22f08204",
        top1=68.7,
        top5=88.9,
        **_MEAN_PIXEL,
    ),
    _caffe(
        "bvlc_alexnet",
        caffe.ALEXNET,
        f"{_BERKELEY}/bvlc_alexnet.caffemodel",
        227,
        _SQUASHED,
        _IMAGE_MEAN,
        sha1="9116a64c0fbe4459d18f4bb6b56d647b63920377",
        top1=57.1,
        top5=80.2,
        **_MEAN_IMAGE,
    ),
    _caffe(
        "bvlc_reference_caffenet",
        caffe.CAFFENET,
        f"{_BERKELEY}/bvlc_reference_caffenet.caffemodel",
        227,
        _SQUASHED,
        _IMAGE_MEAN,
        "pools before it normalises, unlike bvlc_alexnet, whose names and shapes are the same",
        sha1="4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
        top1=57.4,
        top5=80.4,
        **_MEAN_IMAGE,
    ),
    *(
        _caffe(
            f"vgg{depth}",
            weights,
            f"{_OXFORD}/VGG_ILSVRC_{depth}_layers.caffemodel",
            224,
            "7.5 % top-5 error with many crops, none published for one",
            license="CC-BY-4.0",
            **_CAFFE,
        )
        for depth, weights in ((16, caffe.VGG16), (19, caffe.VGG19))
    ),
    _caffe(
        "nin_imagenet",
        caffe.NIN,
        "https://www.dropbox.com/s/0cidxafrb2wuwxw/nin_imagenet.caffemodel?dl=1",
        224,
        _IMAGE_MEAN,
        sha1="8e89c8fcd46e02780e16c867a5308e7bb7af0803",
        top1=59.36,
        license="non-commercial",
        **_MEAN_IMAGE,
    ),
    _caffe(
        "googlenet_cam",
        caffe.GOOGLENET_GAP,
        f"{_CAM}/imagenet_googlenetCAM_train_iter_120000.caffemodel",
        224,
        "for class activation maps, the weighted sums of `cam_conv`",
        **_MEAN_PIXEL,
    ),
    _caffe(
        "vgg16_cam",
        caffe.VGG16_GAP,
        f"{_CAM}/vgg16CAM_train_iter_90000.caffemodel",
        224,
        "for class activation maps, the weighted sums of `cam_conv`",
        **_CAFFE,
    ),
)

# ------------------------------------------- TensorFlow's frozen graphs

_1008 = (
    "1008 outputs in another order than that of WordNet's numbers; the first is none of these, the last 7 are unused"
)
GRAPHS = (
    Source(
        "tensorflow/inception5h",
        graphs.INCEPTION5H,
        224,
        224,
        mean=(117.0, 117.0, 117.0),
        std=(1.0, 1.0, 1.0),
        url="https://storage.googleapis.com/download.tensorflow.org/models/inception5h.zip",
        license="Apache-2.0",
        remarks=f"the network of DeepDream and Lucid; {_1008}; the constants of its LRN are unverified",
    ),
    Source(
        "tensorflow/inception-2015-12-05",
        graphs.FID,
        299,
        299,
        mean=(128.0, 128.0, 128.0),
        std=(128.0, 128.0, 128.0),
        url="http://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz",
        license="Apache-2.0",
        remarks=f"the network of FID and of the Inception score; {_1008}; it resizes bilinearly as TensorFlow 1",
    ),
)

# ------------------------------------------- ONNX model zoo: onnx/models, validated/vision/classification

_ONNX = "https://github.com/onnx/models/raw/main/validated/vision/classification"
_RETIRED = "the zoo was retired in June 2025; its files moved to huggingface.co/onnxmodelzoo"
# neural-compressor's examples, with which the zoo's accuracies were measured, resize to 224x224 whatever the ratio.
_RESIZED = "measured on images squashed to 224x224"


def _onnx(name: str, file: str, weights: WeightMap, *remarks: str, **more) -> Source:
    fields: dict[str, Any] = _CAFFE | {"resize": 224, "license": "Apache-2.0"} | more
    bgr = (_BGR,) if weights.bgr else ()
    return Source(
        f"onnx/{name}",
        weights,
        224,
        url=f"{_ONNX}/{file}.onnx",
        remarks="; ".join((*bgr, *remarks, _RETIRED)),
        **fields,
    )


_GOOGLENETS = "inception_and_googlenet"
ONNX = (
    _onnx(
        "googlenet",
        f"{_GOOGLENETS}/googlenet/model/googlenet-12",
        onnx_zoo.GOOGLENET,
        _RESIZED,
        "Caffe's weights",
        top1=67.78,
        top5=88.34,
        license="BSD-3-Clause",
    ),
    _onnx(
        "inception_v1",
        f"{_GOOGLENETS}/inception_v1/model/inception-v1-12",
        onnx_zoo.INCEPTION_V1,
        _RESIZED,
        "names and shapes are those of onnx/googlenet, but its pools round down",
        top1=67.23,
    ),
    _onnx("inception_v2", f"{_GOOGLENETS}/inception_v2/model/inception-v2-9", onnx_zoo.INCEPTION_V2),
    _onnx(
        "alexnet",
        "alexnet/model/bvlcalexnet-12",
        onnx_zoo.ALEXNET,
        _RESIZED,
        "Caffe's weights on grids of 224 pixels in place of 227",
        top1=54.80,
        top5=78.23,
        license="BSD-3-Clause",
    ),
    _onnx(
        "caffenet",
        "caffenet/model/caffenet-12",
        onnx_zoo.CAFFENET,
        _RESIZED,
        "Caffe's weights on grids of 224 pixels in place of 227",
        top1=56.27,
        top5=79.52,
    ),
    _onnx("zfnet512", "zfnet-512/model/zfnet512-12", onnx_zoo.ZFNET512, _RESIZED, top1=55.97, top5=79.41),
    *(
        _onnx(
            f"vgg{depth}" + ("_bn" if norm else ""),
            f"vgg/model/vgg{depth}{'-bn' if norm else ''}-{version}",
            onnx_zoo.VGG[depth, norm],
            "trained in MXNet",
            resize=256,
            top1=top1,
            top5=top5,
            **IMAGENET,
        )
        for depth, norm, version, top1, top5 in (
            (16, False, 7, 72.62, 91.14),
            (16, True, 7, 72.71, 91.21),
            (19, False, 7, 73.72, 91.58),
            (19, True, 7, 73.83, 91.79),
        )
    ),
    _onnx("vgg19-caffe2", "vgg/model/vgg19-caffe2-9", onnx_zoo.VGG19_CAFFE2, "Oxford's weights", resize=256),
    _onnx("resnet50-caffe2", "resnet/model/resnet50-caffe2-v1-9", onnx_zoo.RESNET50_CAFFE2, "preprocessing unverified"),
)


@functools.cache
def sources() -> Mapping[str, Source]:
    """Returns all known files by name."""
    known = (*TORCHVISION, *TIMM, *CADENE, PYTORCH_FID, *FACENET, *JCJOHNSON, *KERAS, *SLIM, *CAFFE, *GRAPHS, *ONNX)
    return {source.name: source for source in known}


def find(name: str) -> Source:
    """Returns the file of this name.

    Raises:
      UserError: it is not known; names the nearest.
    """
    known = sources()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)
        raise UserError(f"no published weights are named {name!r}; did you mean {' or '.join(near)}?")
    return known[name]


def maps() -> Iterable[tuple[WeightMap, list[Source]]]:
    """Yields each map with the files that have it."""
    found: dict[int, tuple[WeightMap, list[Source]]] = {}
    for source in sources().values():
        found.setdefault(id(source.weights), (source.weights, []))[1].append(source)
    return found.values()
