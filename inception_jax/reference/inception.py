"""The printed numbers of the Inception networks; 'Rethinking' is the paper of Inception-v2 and -v3.

Sections, tables and figures are those of the paper named in the network's model file.
"""

from inception_jax.reference.printed import Printed, column, imgclsmob, torchvision

# fmt: off
_GOOGLENET = (
    # layer           output size   params  ops
    ("conv1",        "112x112x64", "2.7K",  "34M"),
    ("pool1",        "56x56x64",   "",      ""),
    ("conv2",        "56x56x192",  "112K",  "360M"),
    ("pool2",        "28x28x192",  "",      ""),
    ("inception_3a", "28x28x256",  "159K",  "128M"),
    ("inception_3b", "28x28x480",  "380K",  "304M"),
    ("pool3",        "14x14x480",  "",      ""),
    ("inception_4a", "14x14x512",  "364K",  "73M"),
    ("inception_4b", "14x14x512",  "437K",  "88M"),
    ("inception_4c", "14x14x512",  "463K",  "100M"),
    ("inception_4d", "14x14x528",  "580K",  "119M"),
    ("inception_4e", "14x14x832",  "840K",  "170M"),
    ("pool4",        "7x7x832",    "",      ""),
    ("inception_5a", "7x7x832",    "1072K", "54M"),
    ("inception_5b", "7x7x1024",   "1388K", "71M"),
    ("pool5",        "1x1x1024",   "",      ""),
    ("dropout",      "1x1x1024",   "",      ""),
    ("linear",       "",           "1000K", "1M"),
)
_GOOGLENET_SIZES = {r[0]: r[1] for r in _GOOGLENET if r[1]}
_GOOGLENET_BASE = {layer: size for layer, size in _GOOGLENET_SIZES.items() if layer not in ("pool5", "dropout")}
_INCEPTION5H_REASONS = {"inception_4a": "the graph's 3x3 has 204 filters, not 208"}
_CONV1 = "exactly a separable 7x7 of multiplier 8: 2,712 weights, 64 biases, 34,019,328 operations; stem='separable'"
_MODULES = [f"inception_{row}" for row in ("4a", "4c", "4d", "4e", "5a", "5b")]
_PARAMS_REASONS = dict.fromkeys(_MODULES, "contradicts the filters in its own row") | {
    "conv1": _CONV1, "inception_4b": "438 without its biases, one unit off",
}
_OPS_REASONS = {"conv1": _CONV1, "inception_5a": "fits 1072K weights of its row (times 49), but not the filters there"}

_FIGURE_5 = {
    "conv1": "112x112x64", "pool1": "56x56x64", "conv2": "56x56x192", "pool2": "28x28x192",
    "inception_3a": "28x28x256", "inception_3b": "28x28x320", "inception_3c": "28x28x576",
    **{f"inception_4{letter}": "14x14x576" for letter in "abcd"}, "inception_4e": "14x14x1024",
    "inception_5a": "7x7x1024", "inception_5b": "7x7x1024",
}
_FIGURE_5_REASONS = {
    "inception_3c": "the grid before its stride of 2",
    **dict.fromkeys(("inception_4c", "inception_4d"), "the row's filters, with a pool projection of 128, make 608"),
    "inception_4e": "the grid before its stride of 2; 192 + 256 + the 608 of 4d make 1056",
}
_BN_INCEPTION = column("output", "Figure 5, output size", _FIGURE_5 | {"pool": "1x1x1024"}, reasons=_FIGURE_5_REASONS)
_V2_SLIM = _FIGURE_5 | {"inception_3c": "14x14x576", "inception_4e": "7x7x1024"}

_STEM = {
    "conv2d_1a_3x3": "149x149x32", "conv2d_2a_3x3": "147x147x32", "conv2d_2b_3x3": "147x147x64",
    "maxpool_3a_3x3": "73x73x64", "conv2d_3b_1x1": "73x73x80", "conv2d_4a_3x3": "71x71x192",
}
_V3_SOURCE = "Rethinking, Table 1, input size of the next row"
_V3_MODULES = {"mixed_6a": "17x17x768", "mixed_7a": "8x8x1280", "mixed_7c": "8x8x2048", "pool": "1x1x2048"}
_V3_TABLE_1 = _STEM | {
    "conv2d_3b_1x1": "71x71x80", "conv2d_4a_3x3": "35x35x192", "maxpool_5a_3x3": "35x35x288", **_V3_MODULES,
}
_V3_REASONS = {
    "conv2d_3b_1x1": "in Table 1 a 3x3 without padding, in the released network a 1x1",
    "conv2d_4a_3x3": "in Table 1 its stride is 2; in the released network 1, and the max-pool after it gives 35x35x192",
    "maxpool_5a_3x3": "Table 1 has one more 3x3 convolution here, which the released network lacks",
    "mixed_5b": "in the released network the first of the three has 256",
}
_V3_SECTION_6 = dict.fromkeys(("mixed_5b", "mixed_5c", "mixed_5d"), "35x35x288")
_V3_SLIM = _STEM | {
    "maxpool_5a_3x3": "35x35x192", "mixed_5b": "35x35x256", "mixed_5c": "35x35x288", "mixed_5d": "35x35x288",
    **{f"mixed_6{letter}": "17x17x768" for letter in "abcde"},
    "mixed_7a": "8x8x1280", "mixed_7b": "8x8x2048", "mixed_7c": "8x8x2048", "pool": "1x1x2048",
}
_V4_SLIM = {
    "conv2d_1a_3x3": "149x149x32", "conv2d_2a_3x3": "147x147x32", "conv2d_2b_3x3": "147x147x64",
    "mixed_3a": "73x73x160", "mixed_4a": "71x71x192", **{f"mixed_5{letter}": "35x35x384" for letter in "abcde"},
    **{f"mixed_6{letter}": "17x17x1024" for letter in "abcdefgh"},
    **{f"mixed_7{letter}": "8x8x1536" for letter in "abcd"}, "pool": "1x1x1536",
}
_RESNET_V1_FIGURE_15 = {
    "conv2d_4b_3x3": "35x35x256", "block35_5": "35x35x256", "mixed_6a": "17x17x896", "block17_10": "17x17x896",
    "mixed_7a": "8x8x1792", "block8_5": "8x8x1792", "pool": "1x1x1792",
}
_RESNET_V2_SLIM = _STEM | {
    "maxpool_5a_3x3": "35x35x192", "mixed_5b": "35x35x320", "mixed_6a": "17x17x1088", "block17_20": "17x17x1088",
    "conv2d_7b_1x1": "8x8x1536", "pool": "1x1x1536",
}
_RESNET_V2_FIGURES = {"block35_10": "35x35x384", "block17_20": "17x17x1154", "block8_10": "8x8x2048"}
_RESNET_V2_REASONS = {
    "block35_10": "384 with the stem of Fig. 3 (variant='paper'); the released network has another, of 320",
    "block17_20": "Reduction-A's own filters make 1152 (variant='paper'), the released network's 1088",
    "block8_10": "Reduction-B's own filters make 2144 (variant='paper'), the released network's 2080",
}


def _timm(param_count: str, gmacs: str) -> tuple[Printed, ...]:
    source = "timm, results/benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv"
    why = "2 more for each number that is normalised"
    return (
        Printed("parameters", "", f"{param_count} M", f"{source}, param_count", 10**6),
        Printed("multiply-adds", "", f"{gmacs} G", f"{source}, infer_gmacs", 10**9, why),
    )


def _table_3(billions: str, reason: str = "") -> Printed:
    return Printed("multiply-adds", "", f"{billions} Bn", "Rethinking, Table 3, cost", 10**9, reason)


_GRAPH = "onnx, backend/test/data/light/{}.onnx, shapes of its graph"
_V1_ONNX = {
    "conv1": "112x112x64", "pool1": "55x55x64", "conv2": "55x55x192", "pool2": "27x27x192", "inception_3b": "27x27x480",
    "pool3": "13x13x480", "inception_4e": "13x13x832", "pool4": "6x6x832", "inception_5b": "6x6x1024",
    "pool5": "1x1x1024",
}
_V2_ONNX = {
    "conv1": "112x112x64", "pool1": "56x56x64", "pool2": "28x28x192", "inception_3c": "14x14x576",
    "inception_4d": "14x14x576", "inception_4e": "7x7x1024", "inception_5b": "7x7x1024",
}

PRINTED: dict[str, tuple[Printed, ...]] = {
    "googlenet": (
        *column("output", "Table 1, output size", _GOOGLENET_SIZES),
        Printed("neurons", "linear", "1000", "Table 1, output size 1x1x1000"),
        *column("parameters", "Table 1, params", {r[0]: r[2] for r in _GOOGLENET if r[2]}, 1024, _PARAMS_REASONS),
        *column("multiply-adds", "Table 1, ops", {r[0]: r[3] for r in _GOOGLENET if r[3]}, 10**6, _OPS_REASONS),
        Printed("multiply-adds", "", "1.5 billion", "section 1", 10**9),
        Printed("parameters", "", "5 million", "Rethinking, section 1", 10**6, "Table 1's params sum to 6,798K"),
    ),
    "googlenet_tv": torchvision("googlenet.py", "6,624,904", "1.498"),
    "googlenet_slim": column("output", "tf_slim/nets/inception_v1_test.py", _GOOGLENET_BASE),
    "inception5h": (
        *column("output", "Table 1, output size", _GOOGLENET_SIZES, reasons=_INCEPTION5H_REASONS),
        Printed("neurons", "linear", "1008", "lucid, modelzoo/other_models/InceptionV1.py, softmax2"),
    ),
    "inception_v1_onnx": column("output", _GRAPH.format("light_inception_v1"), _V1_ONNX),
    "googlenet_gap": column(
        "output", "CAM, section 3", {"inception_4e": "14x14x832", "cam_conv": "14x14x1024"}
    ),
    "bn_inception": (
        *_BN_INCEPTION,
        Printed("parameters", "", "13.6M", "section 4.2", 10**6, "unresolved: Figure 5's filters do not add up to it"),
        _table_3("2.0", "Figure 5's filters make 1.95; 2.03 with a full first convolution"),
    ),
    "bn_inception_slim": column("output", "tf_slim/nets/inception_v2_test.py", _V2_SLIM),
    "bn_inception_caffe": (*_BN_INCEPTION, *imgclsmob("11,295,240", "BN-Inception")),
    "bn_inception_onnx": column("output", _GRAPH.format("light_inception_v2"), _V2_ONNX),
    "inception_v2": (
        *column("output", _V3_SOURCE, _V3_MODULES),
        _table_3("3.8", "the paper's filters are not public; the released Inception-v3's cost 4.4 without any stem"),
    ),
    "inception_v3": (
        *column("output", _V3_SOURCE, _V3_TABLE_1, reasons=_V3_REASONS),
        *column("output", "section 6: three modules with 288 filters each", _V3_SECTION_6, reasons=_V3_REASONS),
        *column("output", "tf_slim/nets/inception_v3_test.py", _V3_SLIM),
        _table_3("4.8", "unresolved: the paper's filters are not public; the released ones cost 5.7"),
        Printed("multiply-adds", "", "5 billion", "abstract", 10**9),
        Printed("multiply-adds", "", "5.713 G", "torchvision/models/inception.py, weights' metadata, _ops", 10**9),
        *_timm("23.83", "5.73"),
        *imgclsmob("23,834,568", "InceptionV3"),
    ),
    "inception_v3_fid": (Printed("neurons", "pool", "2048", "pytorch-fid, inception.py, BLOCK_INDEX_BY_DIM"),),
    "inception_v4": (
        *column("output", "tensorflow/models, research/slim/nets/inception_v4_test.py", _V4_SLIM),
        *_timm("42.68", "12.28"),
        *imgclsmob("42,679,816", "InceptionV4"),
    ),
    "inception_resnet_v1": (
        *column("output", "Fig. 15 (its grids unverified)", _RESNET_V1_FIGURE_15),
        *column("output", "davidsandberg/facenet, src/models/inception_resnet_v1.py, comments", _STEM),
    ),
    "inception_resnet_v1_facenet": (
        Printed("parameters", "", "27,910,327", "counted on facenet-pytorch's module (inception_resnet_v1.py)"),
    ),
    "inception_resnet_v2": (
        *column("output", "tensorflow/models, research/slim/nets/inception_resnet_v2_test.py", _RESNET_V2_SLIM),
        *column("output", "Figs. 16, 17, 19 (transcribed), last 1x1", _RESNET_V2_FIGURES, reasons=_RESNET_V2_REASONS),
        *_timm("55.84", "13.18"),
        *imgclsmob("55,843,464", "InceptionResNetV2"),
    ),
}
# fmt: on

_FIGURE_5_NOTE = "Figure 5's pool projections of 128 in 4c and 4d give 608 channels, not its 576; tf-slim's are of 96."
_GAMMA = "tf-slim and Keras train no gamma; torchvision, timm and this network do, unless batch_norm_scale=False."
_V4_PAPER = (
    "The figures themselves were not available: statements about them are from transcriptions (titu1994/Inception-v4; "
    "tensorflow/models issues 3313 and 7041) or memory, unverified.",
    _GAMMA,
)

NOTES: dict[str, tuple[str, ...]] = {
    "googlenet": (
        "The paper has no constants of LRN and no initialisers; Caffe's are followed: 5 channels, alpha 1e-4 (divided "
        "by 5), beta 0.75, k = 1, after pool1 and before pool2. That Fig. 3 has this order is unverified.",
        "The padding of conv1 is not in the paper. Caffe and torchvision pad 3 pixels on each side, which is "
        "followed; tf-slim 2 before and 3 after, which shifts the grid by a pixel.",
        "The paper does not say that conv1 is separable, as the BN paper's is; Caffe's full convolution is followed. "
        "Table 1 fits the separable one, and with it the whole costs the 1.5 billion of section 1: 1,498,677,248.",
    ),
    "googlenet_tv": (
        "Unlike the paper: 3x3 for 5x5 (pytorch/vision issue 906) and pool4 of 2x2 (pull request 678), both "
        "tf-slim's; batch normalisation, no LRN; dropout 0.2; heads that pool to 4x4 adaptively, untrained in the "
        "checkpoint.",
    ),
    "googlenet_slim": (
        "As googlenet_tv, but SAME padding, no gamma, no auxiliary heads. tf-slim's test counts 5,607,184 below the "
        "classifier: 5,592,624 trained and 2 * 7,280 running statistics. Its checkpoints have 1001 classes.",
    ),
    "inception5h": (
        "508 channels in 4a (lucid prints them too) and 48 filters in 5a's 5x5 reduction are the graph's. LRN is "
        "unverified: transcriptions have windows of 9, 10 and 11 channels and a k of 1 or 2; here 11 and 2.",
    ),
    "inception_v1_onnx": (
        "The ONNX model zoo's Inception-v1: GoogLeNet with pools that round down. Its graph averages 6x6 cells with a "
        "7x7 window and one cell of padding that does not count (onnx/models issues 11 and 263 take it for a mistake).",
    ),
    "googlenet_gap": (
        "GoogLeNet-GAP of 'Learning Deep Features for Discriminative Localization'. The two groups of its last "
        "convolution are those of zhoubolei/CAM; the paper does not mention them.",
    ),
    "bn_inception": (
        _FIGURE_5_NOTE,
        "The paper claims 25 % more parameters than GoogLeNet's, and 13.6 million; Figure 5 gives 11.3, 61 % more.",
        "Gamma and beta are trained, as in the paper. Epsilon, decay and padding, which it leaves open, are tf-slim's.",
    ),
    "bn_inception_slim": (
        _FIGURE_5_NOTE,
        "tf-slim's test counts 10,173,112 below the classifier: 10,153,336 trained (no gamma; a bias and no batch "
        "normalisation in the first layer) and 2 * 9,888 running statistics. Its checkpoints have 1001 classes.",
    ),
    "bn_inception_caffe": (
        _FIGURE_5_NOTE,
        "Unlike the paper conv1 is not separable and biases stand beside batch normalisation; average pools count "
        "padding. Strided convolutions pad both sides, max-pools the end: paths of 3c and 4e are a pixel apart.",
    ),
    "bn_inception_onnx": (
        "The ONNX model zoo's Inception-v2: conv1 is not separable, 4c and 4d have tf-slim's filters, average pools do "
        "not count padding. Strided convolutions pad both sides, max-pools the end.",
    ),
    "inception_v2": (
        "The network of Table 3 was not published; here it is the released Inception-v3 with one 7x7 first and no "
        "batch normalisation in the head's dense layer. tf-slim's inception_v2 is another network, BN-Inception.",
        "Table 3 adds the factorised 7x7 late; Table 1, of the network called Inception-v2, already begins with it.",
    ),
    "inception_v3": (
        "Where paper and code differ the code is followed. Section 6 has figures 5 and 6 where Table 1 has 6 and 7. "
        "Table 1 has 5 modules at 17x17, the code a reduction and 4; its unpadded 3x3 on 35x35x192 would not leave "
        "35x35; Fig. 5 has two 3x3 for a 5x5, the code a 5x5 too (pytorch/vision issue 798).",
        "The cost is 5 billion in the abstract, 4.8 in Table 3 and 5.7 of the released network.",
        "The abstract's 'less than 25 million parameters' holds without the auxiliary head, which torchvision's "
        "num_params, 27,161,264, counts (and its _ops do not).",
        "Keras's total, 23,851,784, is 23,800,136 weights and biases, and 3 * 17,216 for beta and running statistics; "
        "tf-slim's test counts 21,802,784, without the classifier.",
        _GAMMA,
        "Average pools leave padding out of the mean, as in tf-slim and Keras; torchvision and timm count it.",
    ),
    "inception_v3_fid": (
        "The last module pools by maximum, every other Inception-v3 averages there; averages leave padding out.",
        "The graph scales pixels by (x - 128) / 128, which is followed; pytorch-fid by (x - 127.5) / 127.5.",
    ),
    "inception_v4": (
        "The order of 1x7 and 7x1 differs in Fig. 3, in both paths of Fig. 5 and (from memory) in Fig. 6. The "
        "released code is followed, because its weights fit no other order; order='figures' is the other.",
        "Fig. 3's last step is drawn without its stride of 2. That the figures have no auxiliary head is from memory.",
        "Average pools leave padding out of the mean, as in tf-slim and timm.",
        *_V4_PAPER,
    ),
    "inception_resnet_v1": (
        "No weights were released. facenet is followed where the figures could not be read: 192 filters in the C "
        "block's 1x1 path (128 in titu1994/Inception-v4), residuals scaled by 0.17, 0.10, 0.20 (the paper: 0.1 to "
        "0.3). Its sixth C block is left out. The repeats 5, 10, 5 of Fig. 15 are unverified.",
        *_V4_PAPER,
    ),
    "inception_resnet_v1_facenet": (
        "For faces of 160x160: a sixth C block of scale 1 without ReLU, as in facenet, and an embedding of 512.",
    ),
    "inception_resnet_v2": (
        "The released network is followed, which differs from the figures in its stem, in a last C block of scale 1 "
        "without ReLU and in a 1x1 of 1536 filters after it; variant='paper' has the figures'.",
        "Fig. 15 repeats blocks 5, 10, 5 times and prints Inception-ResNet-v1's sizes. The text says that the cost is "
        "Inception-v4's, 12.3 billion: 10, 20, 10, as released, cost 13.2, but 5, 10, 5 only 9.3.",
        "Keras's total, 55,873,736, counts two running statistics for each gamma here: 30,272 more.",
        *_V4_PAPER,
    ),
}
