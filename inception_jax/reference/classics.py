"""The printed numbers of LeNet-5, AlexNet, ZFNet, VGG, Network in Network, All-CNN and ResNet-50.

Sections, tables and figures are those of the paper named in the network's model file.
"""

from inception_jax.reference.printed import Printed, column, imgclsmob, torchvision

# fmt: off
_LENET5 = (
    # layer   maps        trainable parameters
    ("c1",   "28x28x6",  "156"),
    ("s2",   "14x14x6",  "12"),
    ("c3",   "10x10x16", "1,516"),
    ("s4",   "5x5x16",   "32"),
    ("c5",   "1x1x120",  "48,120"),
    ("f6",   "84",       "10,164"),
)
_MODERN = "C3 sees all maps (900 more), pools have none (44 fewer), the output is trained (850 more)"

_ALEXNET = {
    "conv1": "253,440", "conv2": "186,624", "conv3": "64,896", "conv4": "64,896", "conv5": "43,264",
    "fc6": "4096", "fc7": "4096", "fc8": "1000",
}
_ALEXNET_SLIDES = {
    "conv1": "55x55x96", "pool1": "27x27x96", "norm1": "27x27x96",
    "conv2": "27x27x256", "pool2": "13x13x256", "norm2": "13x13x256",
    "conv3": "13x13x384", "conv4": "13x13x384", "conv5": "13x13x256", "pool5": "6x6x256",
    "fc6": "4096", "fc7": "4096", "fc8": "1000",
}
_CAFFENET = "the slides normalise after the pool, the paper before it"

_ZFNET = {
    "conv1": "110x110x96", "pool1": "55x55x96", "conv2": "26x26x256", "pool2": "13x13x256",
    "conv3": "13x13x384", "conv4": "13x13x384", "conv5": "13x13x256",
}

_VGG_D = (
    # layer      size          params, without biases
    ("conv1_1", "224x224x64",  "1,728"),
    ("conv1_2", "224x224x64",  "36,864"),
    ("pool1",   "112x112x64",  "0"),
    ("conv2_1", "112x112x128", "73,728"),
    ("conv2_2", "112x112x128", "147,456"),
    ("pool2",   "56x56x128",   "0"),
    ("conv3_1", "56x56x256",   "294,912"),
    ("conv3_2", "56x56x256",   "589,824"),
    ("conv3_3", "56x56x256",   "589,824"),
    ("pool3",   "28x28x256",   "0"),
    ("conv4_1", "28x28x512",   "1,179,648"),
    ("conv4_2", "28x28x512",   "2,359,296"),
    ("conv4_3", "28x28x512",   "2,359,296"),
    ("pool4",   "14x14x512",   "0"),
    ("conv5_1", "14x14x512",   "2,359,296"),
    ("conv5_2", "14x14x512",   "2,359,296"),
    ("conv5_3", "14x14x512",   "2,359,296"),
    ("pool5",   "7x7x512",     "0"),
    ("fc6",     "",            "102,760,448"),
    ("fc7",     "",            "16,777,216"),
    ("fc8",     "",            "4,096,000"),
)
_24M = "the slides' own column adds up to 15.2M numbers, 61.0 MB, not to 24M"

_0_84 = "Table 1 gives 0.84 M"
_1_25 = "Tables 1 and 2 give 1.25 M"
_1_30 = "Tables 1 and 2 give 1.30 M"
_0_95 = "Table 1 gives 0.95 M (1.29 M it would with one more 3x3 convolution of 192 filters)"
_ALL_CNN = (
    # network           # parameters, each with a sign of approximation
    ("base_cnn_a",      "0.9 M",  _0_84),
    ("strided_cnn_a",   "0.9 M",  _0_84),
    ("conv_pool_cnn_a", "1.28 M", _1_25),
    ("all_cnn_a",       "1.28 M", _1_25),
    ("base_cnn_b",      "1 M",    ""),
    ("strided_cnn_b",   "1 M",    ""),
    ("conv_pool_cnn_b", "1.35 M", _1_30),
    ("all_cnn_b",       "1.35 M", _1_30),
    ("base_cnn_c",      "1.3 M",  _0_95),
    ("strided_cnn_c",   "1.3 M",  _0_95),
    ("conv_pool_cnn_c", "1.4 M",  ""),
    ("all_cnn_c",       "1.4 M",  ""),
)

_RESNET50 = {  # channels are the filters of a stage's last 1x1
    "conv1": "112x112x64", "conv2_3": "56x56x256", "conv3_4": "28x28x512", "conv4_6": "14x14x1024",
    "conv5_3": "7x7x2048", "pool": "1x1x2048",
}

_SLIDES = "Stanford CS231n, slides on CNN architectures"
_HE = "He et al. 2015"


def _vgg(millions: str) -> Printed:
    return Printed("parameters", "", f"{millions} M", "Table 2", 10**6)


_GRAPH = "onnx, backend/test/data/light/{}.onnx, shapes of its graph"
_ALEXNET_CAFFE = {"conv1": "55x55x96", "conv2": "27x27x256", "conv5": "13x13x256", "pool5": "6x6x256"}
_ALEXNET_ONNX = {
    "conv1": "54x54x96", "pool1": "26x26x96", "conv2": "26x26x256", "pool2": "12x12x256", "conv5": "12x12x256",
    "pool5": "6x6x256",
}
_ZFNET512 = {
    "conv1": "109x109x96", "pool1": "54x54x96", "conv2": "25x25x256", "pool2": "12x12x256", "conv5": "12x12x512",
    "pool5": "6x6x512",
}
_RESNET50_SLIM = {  # tests of tf_slim/nets/resnet_v1_test.py have its blocks; the last unit of three of them strides
    "conv2_2": "56x56x256", "conv2_3": "28x28x256", "conv3_4": "14x14x512", "conv4_6": "7x7x1024",
    "conv5_3": "7x7x2048",
}

PRINTED: dict[str, tuple[Printed, ...]] = {
    "lenet5": (
        *column("output", "section II.B", {row[0]: row[1] for row in _LENET5}),
        *column("parameters", "section II.B", {row[0]: row[2] for row in _LENET5}),
        Printed("parameters", "", "60,000", "section II.B"),
    ),
    "lenet5_modern": (
        *column("output", "section II.B", {row[0]: row[1] for row in _LENET5}),
        Printed("parameters", "", "60,000", "section II.B", reason=_MODERN),
    ),
    "alexnet": (
        *column("neurons", "Fig. 2", _ALEXNET, reasons={"conv1": "55 x 48 x 96, a slip for 55 x 55 x 96"}),
        Printed("parameters", "", "60 million", "abstract", 10**6),
        *column("output", _SLIDES, _ALEXNET_SLIDES, reasons=dict.fromkeys(("norm1", "norm2"), _CAFFENET)),
        Printed("weights", "conv1", "35K", _SLIDES, 1000),
    ),
    "alexnet_tv": torchvision("alexnet.py", "61,100,840", "0.714"),
    **{
        name: (
            *column("output", "BVLC/caffe, train_val.prototxt, by Caffe's rules", _ALEXNET_CAFFE),
            Printed("parameters", "", "60 million", "the paper's abstract", 10**6),
        )
        for name in ("alexnet_caffe", "caffenet")
    },
    **{
        name: column("output", _GRAPH.format("light_bvlc_alexnet"), _ALEXNET_ONNX)
        for name in ("alexnet_onnx", "caffenet_onnx")
    },
    "zfnet": (
        *column("output", "Fig. 3 (from memory, unverified)", _ZFNET),
        *column("output", "Fig. 3, caption", {"norm1": "55x55x96", "pool5": "6x6x256"}),
        *imgclsmob("62,357,608", "ZFNet"),
    ),
    "zfnet_wide": imgclsmob("107,627,624", "ZFNet-b"),
    "zfnet512": column("output", _GRAPH.format("light_zfnet512"), _ZFNET512),
    "vgg_a": (_vgg("133"), *torchvision("vgg.py", "132,863,336", "7.609")),
    "vgg_a_lrn": (_vgg("133"),),
    "vgg_b": (_vgg("133"), *torchvision("vgg.py", "133,047,848", "11.308")),
    "vgg_c": (_vgg("134"),),
    "vgg_d": (
        _vgg("138"),
        *torchvision("vgg.py", "138,357,544", "15.47"),
        Printed("multiply-adds", "", "15.3 billion", f"{_HE}, section 4.1", 10**9, "the convolutions alone: 15.35"),
        *column("output", _SLIDES, {row[0]: row[1] for row in _VGG_D if row[1]}),
        *column("weights", _SLIDES, {row[0]: row[2] for row in _VGG_D}),
        Printed("weights", "", "138M", _SLIDES, 10**6),
        Printed("activation bytes", "", "96MB", f"{_SLIDES}, 24M * 4 bytes", 10**6, _24M),
    ),
    "vgg_e": (
        _vgg("144"),
        *torchvision("vgg.py", "143,667,240", "19.632"),
        Printed("multiply-adds", "", "19.6 billion", f"{_HE}, section 4.1 and Fig. 3", 10**9),
    ),
    "vgg_a_bn": torchvision("vgg.py", "132,868,840", "7.609"),
    "vgg_b_bn": torchvision("vgg.py", "133,053,736", "11.308"),
    "vgg_d_bn": torchvision("vgg.py", "138,365,992", "15.47"),
    "vgg_e_bn": torchvision("vgg.py", "143,678,248", "19.632"),
    "vgg_d_gap": column("output", "CAM, section 3", {"conv5_3": "14x14x512", "cam_conv": "14x14x1024"}),
    "nin_cifar10": imgclsmob("966,986", "NIN on CIFAR-10"),
    "nin_imagenet": (
        # A number is four bytes, so 2 ** 18 of them are a MB of 2 ** 20 bytes.
        Printed("parameters", "", "29MB", "Caffe model zoo, size of the model; four bytes each", 2**18),
    ),
    **{row[0]: (Printed("parameters", "", row[1], "Table 3, # parameters", 10**6, row[2]),) for row in _ALL_CNN},
    "resnet50": (
        *column("output", "Table 1, 50-layer", _RESNET50),
        Printed("multiply-adds", "", "3.8x10^9", "Table 1, FLOPs (which are multiply-adds, section 3.3)", 10**9),
        *torchvision("resnet.py", "25,557,032", "4.089", "the stride is in the 3x3 there: downsample='conv3x3'"),
    ),
    "resnet50_slim": (
        *column("output", "tf_slim/nets/resnet_v1.py, by its strides", _RESNET50_SLIM),
        Printed("parameters", "", "25.6 million", "torchvision, of the same layers", 10**6),
    ),
}
# fmt: on

_VGG_NOTES = (
    "The paper draws weights with variance 0.01 and starts deep networks from a trained A; the authors later found "
    "Glorot's initialisation enough without that, which is followed; init='normal' is the paper's.",
    "Rethinking the Inception Architecture gives VGGNet about three times AlexNet's 60 million; Table 2 has 133 to "
    "144.",
)
_ALL_CNN_NOTES = (
    "The average over 6x6 in Table 1 means that the last 3x3 convolution is not padded, which is followed; many ports "
    "pad it and average over 8x8, with the same parameters.",
    "Batch size and initialisation are not in the paper, which was read through summaries only.",
)
_STRIDED = "The paper does not say where dropout is without a pool; here it is after the strided convolution."

NOTES: dict[str, tuple[str, ...]] = {
    "lenet5": (
        "The paper counts connections, biases included: 122,304; 5,880; 151,600; 2,000; 48,120; 10,164 and the "
        "output's 840, together 340,908. C3 is a full convolution with zeros here: 240,000 products for the paper's "
        "150,000.",
        "Which maps C3 sees (Table I) and the initialisation are from memory, unverified; they do make 1,516 and "
        "60,000.",
        "The output's targets are a picture in the paper (Fig. 3), redrawn here. Its output is the squared distance, "
        "here minus that, so that the nearest class scores highest. Softmax cross-entropy of these scores lacks the "
        "term exp(-j) of the paper's criterion (from memory, unverified).",
    ),
    "lenet5_modern": ("No source in print: full C3, pools without parameters and ten linear outputs are custom.",),
    "alexnet": (
        "The paper says 224x224 pixels, and 55x55 after conv1, which 11x11/4 without padding gives from 227. In the "
        "original code windows overhang the right and lower edge by 3 pixels, which is followed; Caffe crops 227.",
        "The text counts 650,000 neurons; Fig. 2's numbers add up to 622,312, with 55 x 55 x 96 to 659,272.",
        "Section 3.3 does not divide alpha by n; the original code (computerhistory/AlexNet-Source-Code, the "
        "configuration whose logged errors are the paper's) does, as does Caffe, and is followed. k is the paper's 2; "
        "Caffe's is 1.",
        "The paper normalises after ReLU, which is followed. The original code has convolution, LRN, pool, ReLU in "
        "layer 1, stays within each GPU's half (lrn_by_group=True), and normalises once more after the second LRN, "
        "over 5x5 cells of the same map. CaffeNet pools before LRN.",
        "The paper's weights start with standard deviation 0.01, which is followed; the original code's with 0.03 in "
        "conv3 to conv5. Caffe's biases start with 0.1 for the paper's 1.",
    ),
    "alexnet_tv": (
        "torchvision follows 'One weird trick': one tower, no LRN, dropout before fc6 and fc7. tf-slim's alexnet_v2, "
        "after the same text, has 384 filters in conv4, torchvision 256.",
    ),
    "alexnet_caffe": (
        "Caffe's bvlc_alexnet crops 227 pixels and does not pad conv1. Its k is 1, the paper's 2; its biases start "
        "with 0.1 in place of 1, fc6 and fc7 with standard deviation 0.005.",
    ),
    "caffenet": (
        "Caffe's bvlc_reference_caffenet: as alexnet_caffe, but it pools before LRN, and biases start with 1.",
    ),
    "alexnet_onnx": (
        "The ONNX model zoo runs bvlc_alexnet's weights on 224 pixels, with pools that round down except the last; "
        "Caffe's crop of 227 gives 55, 27 and 13 cells.",
    ),
    "caffenet_onnx": (
        "The ONNX model zoo's CaffeNet. That its grids are those of the zoo's AlexNet is inferred, unverified.",
    ),
    "zfnet512": (
        "The network of the only public ZFNet weights, Caffe2's in the ONNX model zoo. Unlike the paper it pads "
        "nothing, normalises before the pools with alpha 5e-4, and has 512 filters in conv3 to conv5 and 1024 "
        "units in fc7.",
    ),
    "zfnet": (
        "Of Fig. 3's grids the caption confirms 55 and 6; 110, 26 and 13 are from memory, unverified. They need a "
        "pixel of padding at conv1 and pools that reach over the end; re-implementations differ.",
        "The paper prints no constants for its contrast normalisation across maps; AlexNet's LRN takes its place.",
    ),
    "zfnet_wide": ("Table 2 (b): 512, 1024 and 512 maps in layers 3 to 5; Stanford's slides call this network ZFNet.",),
    **dict.fromkeys(("vgg_a", "vgg_b", "vgg_c", "vgg_e"), _VGG_NOTES),
    "vgg_a_lrn": (*_VGG_NOTES, "LRN follows the first convolution only, with AlexNet's constants (k = 2)."),
    "vgg_d": (*_VGG_NOTES, "Stanford's slides make 24M * 4 bytes 96MB, its notes (cs231n.github.io) 93MB."),
    **dict.fromkeys(
        ("vgg_a_bn", "vgg_b_bn", "vgg_d_bn", "vgg_e_bn"),
        (
            "Not in the paper; torchvision is followed, whose convolutions keep biases beside batch normalisation. On "
            "other images than 224x224 torchvision pools to 7x7 adaptively before fc6; here fc6 grows.",
        ),
    ),
    "vgg_d_gap": (
        "VGG16-GAP of 'Learning Deep Features for Discriminative Localization'. The two groups of its last convolution "
        "are those of zhoubolei/CAM; the paper does not mention them.",
    ),
    "nin_cifar10": (
        "All pools but the last take the maximum in the author's configuration (mavenlin/cuda-convnet), which is "
        "followed; ports average in pool2. That Caffe's own does is from memory, unverified.",
        "ReLU follows the last convolution too. The paper was read through summaries only.",
    ),
    "nin_imagenet": ("Not in the paper: the network of the Caffe model zoo, after public copies of its prototxt.",),
    **{row[0]: _ALL_CNN_NOTES + ((_STRIDED,) if row[0].startswith("strided") else ()) for row in _ALL_CNN},
    "resnet50": (
        "The paper's stride of 2 is in a block's first 1x1, as here and in Keras; torchvision, timm and Flax's "
        "example have it in the 3x3 ('v1.5').",
    ),
    "resnet50_slim": (
        "tf-slim's resnet_v1_50 has the stride of a stage in the 3x3 of its last block, whose shortcut keeps every "
        "second cell. The paper has it in the first block of the next stage.",
    ),
}
