"""Writes docs/weights.md: all published weights that can be imported, from the catalogue."""

from collections.abc import Iterable

from inception_jax import markdown
from inception_jax.weights.sources.catalogue import HALF, IMAGENET, Source

_INTRODUCTION = """# Published weights

The files that `python -m experiments.import_weights NAME` knows, see [weights in and out](exchange.md). Written by
`python -m experiments.import_weights --page`; a test fails when it is out of date.

Accuracies are the publishers', on ImageNet's validation set, by the protocol of the row unless its remark says
otherwise: "299 of 341" is the central 299x299 of the image, whose shorter side is resized to 341. They were not
measured here: none of these files was at hand, and no row was run with its real weights."""

# How each publisher's maps were tested, without its weights.
_TESTED = {
    "torchvision": "torchvision's own networks with random weights: logits and end points within 1e-4, and back",
    "timm": "timm's own networks with random weights: logits and end points within 1e-4, and back",
    "cadene": "pretrainedmodels' own networks with random weights: logits and end points within 1e-4, and back",
    "pytorch_fid": "pytorch-fid's own module with random weights: within 1e-5",
    "facenet": "facenet-pytorch's own network with random weights: logits and end points within 1e-4, and back",
    "jcjohnson": "torchvision's names of early 2017",
    "keras": "Keras's own networks with random weights: logits and end points within 1e-5, and back",
    "slim": "TF-Slim's own networks with random weights: logits and auxiliary logits within 4e-6",
    "caffe": "files of the wire format with the names of its prototxt files",
    "onnx": "the graphs in the package `onnx` (generated weights): their expected outputs",
}
_NAMED = "names and shapes of the published graph, as others have transcribed them"


def weights_page(sources: Iterable[Source]) -> str:
    """Returns docs/weights.md."""
    publishers: dict[str, list[Source]] = {}
    for source in sources:
        publishers.setdefault(source.name.partition("/")[0], []).append(source)
    sections = [_section(publisher, rows) for publisher, rows in publishers.items()]
    return "\n\n".join([_INTRODUCTION, *sections]) + "\n"


def _section(publisher: str, rows: list[Source]) -> str:
    header = ("name and network", "top-1, top-5 (%)", "input", "remarks")
    cells = [
        (
            f"`{source.name}`<br>{_network(source)}",
            _accuracy(source),
            _input(source),
            "; ".join(filter(None, (source.remarks, _checksum(source)))),
        )
        for source in rows
    ]
    licenses = "; ".join(dict.fromkeys(source.license for source in rows))
    tested = _TESTED.get(publisher, _NAMED)
    return f"### {publisher}\n\nTested with: {tested}. License: {licenses}.\n\n" + markdown.table(
        header, cells, right=("top-1", "top-5")
    )


def _network(source: Source) -> str:
    options = ", ".join(f"{key}={value}" for key, value in source.weights.options.items())
    return source.weights.network + (f" ({options})" if options else "")


def _accuracy(source: Source) -> str:
    known = [f"{value:.2f}" for value in (source.top1, source.top5) if value is not None]
    return ", ".join(known)


def _input(source: Source) -> str:
    values = {"mean": source.mean, "std": source.std}
    scale = (
        "[-1, 1]"
        if values == HALF
        else "ImageNet's mean and std"
        if values == IMAGENET
        else f"minus {_triple(source.mean)}"
    )
    if scale.startswith("minus") and source.std != (1.0, 1.0, 1.0):
        scale += f", divided by {_triple(source.std)}"
    bicubic = ", bicubic" if source.interpolation == "bicubic" else ""
    return f"{source.image_size} of {source.resize}{bicubic}; {scale}"


def _triple(values: tuple[float, float, float]) -> str:
    return "/".join(f"{value:g}" for value in values)


def _checksum(source: Source) -> str:
    digests = {"SHA-256": source.sha256, "SHA-1": source.sha1, "MD5": source.md5}
    return ", ".join(f"{kind} {digest[:8]}..." for kind, digest in digests.items() if digest)
