"""Writes the weights of a checkpoint for other programs, and for other runs (--config.init_from=FILE).

python -m experiments.export_weights --workdir=/data/googlenet --format=safetensors --out=out/model.safetensors
python -m experiments.export_weights --workdir=/data/googlenet --format=onnx --out=out/model.onnx
"""

import argparse
import sys

from experiments import cli
from inception_jax.weights.export import FORMATS

_EPILOG = """\
formats:
  safetensors  our names; the archive: inception_jax.load(FILE) reads it, years later too
  npz          the same as NumPy's archive
  onnx         a graph for ONNX Runtime and others; takes uint8 images, the preprocessing is inside
  stablehlo    a folder with a program for JAX on CPU, GPU and TPU, readable for six months; the preprocessing is inside
  torchvision, timm
               safetensors with the names of that package, for load_state_dict(..., strict=True)
  keras        a .keras file, for keras.models.load_model

config.json beside the file holds the network, its options, the preprocessing and the class names.
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input."""
    parser = cli.Parser("-m experiments.export_weights", __doc__, _EPILOG)
    parser.add_network()
    add = parser.add_argument
    add("--format", default="", choices=FORMATS, help="see below (default: by the suffix of --out)")
    add("--out", type=cli.path, required=True, help="file to write; stablehlo: folder")
    add("--end-points", default="", help="onnx: layers whose outputs the graph gives too, separated by commas")
    add("--probabilities", action="store_true", help="onnx, stablehlo: the softmax in place of the logits")
    add("--keep-batch-norm", action="store_true", help="onnx: keep batch normalisation apart from the convolutions")
    add("--push", metavar="REPOSITORY", help="also upload the folder of --out to this repository of the Hugging Face "
        "hub, with a model card")  # fmt: skip
    return cli.run(parser, _export, argv)


def _export(arguments: argparse.Namespace) -> None:
    from inception_jax import paths
    from inception_jax.console import warn
    from inception_jax.errors import UserError
    from inception_jax.runs import exporting
    from inception_jax.runs.classifier import load
    from inception_jax.runtime import configure

    configure("float32")
    form = arguments.format or arguments.out.suffix.removeprefix(".") or "stablehlo"
    if form not in FORMATS:
        raise UserError(f"out={arguments.out} has no suffix of a format; give --format")
    classifier = load(arguments.workdir, arguments.checkpoint, arguments.weights, warn)
    with paths.written(arguments.out) as out:
        count = exporting.export(
            classifier,
            out,
            form,
            end_points=tuple(filter(None, arguments.end_points.split(","))),
            probabilities=arguments.probabilities,
            fold=not arguments.keep_batch_norm,
        )
    print(f"{count} arrays of {classifier.source} written to {arguments.out}")
    if arguments.push:
        folder = arguments.out if arguments.out.is_dir() else arguments.out.parent
        print(f"pushed to {exporting.push(classifier, folder, arguments.push)}")


if __name__ == "__main__":
    sys.exit(main())
