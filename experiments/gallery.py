"""Makes docs/gallery.md and its pictures: what a network that was trained on the glyphs sees.

python -m experiments.gallery --workdir=runs/gallery --out=docs    # about ten minutes on two cores

Without a finished run in --workdir the network is trained first.
"""

import argparse
import contextlib
import io
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import cli

_RECIPE = (
    "--config=configs/glyphs.py:googlenet_no_aux",
    "--config.data.name=glyphs/size=64,train=10000,test=1000,difficulty=4,classes=10",
    "--config.model.early_reduction=1",
    "--config.train.epochs=1.0",
    "--config.log.tensorboard=False",
)
_IMAGES = 8
_METHODS = "gradient,guided,deconvnet,smoothgrad,integrated,occlusion,cam,gradcam,gradcam++,hirescam"
_INTRODUCTION = """\
# Gallery

Made by `python -m experiments.gallery` from embedded data alone. The network is a GoogLeNet with a quarter of the
paper's filters and without auxiliary classifiers. It was trained on {images:,} glyphs of 64 x 64 pixels among clutter
(10 classes, difficulty 4). Its top-1 accuracy on {count:,} other glyphs is {top1}. [What a network sees](explain.md)
describes the methods.

```
{training}
```"""


class _Picture(NamedTuple):
    """A picture of the gallery: its heading, its text, the command that makes it, and the file that is shown of it."""

    heading: str
    text: str
    command: str
    main: Callable[[Sequence[str]], int]
    arguments: tuple[str, ...]
    file: str


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input, 130 for Ctrl-C."""
    parser = cli.Parser("-m experiments.gallery", __doc__)
    add = parser.add_argument
    add("--workdir", type=Path, default=Path("runs/gallery"), help="run (default: %(default)s)")
    add("--out", type=Path, default=Path("docs"), metavar="DIR", help="directory of the page (default: %(default)s)")
    return cli.run(parser, _make, argv)


def _make(arguments: argparse.Namespace) -> None:
    from PIL import Image

    from main import main as train

    if status := train([*_RECIPE, f"--workdir={arguments.workdir}"]):
        sys.exit(status)
    with tempfile.TemporaryDirectory() as directory:
        images, out = Path(directory) / "glyphs", Path(directory) / "out"
        images.mkdir()
        _write_images(arguments.workdir, images)
        page = [_introduction(arguments.workdir)]
        pictures = arguments.out / "gallery"
        pictures.mkdir(parents=True, exist_ok=True)
        for shown in _pictures(images):
            print(f"{shown.heading} ...", file=sys.stderr)
            with contextlib.redirect_stdout(io.StringIO()):
                if status := shown.main([*shown.arguments, f"--workdir={arguments.workdir}", f"--out={out}"]):
                    sys.exit(status)
            name = f"{shown.heading.lower().replace(' ', '_')}.webp"  # a third of a PNG
            Image.open(out / shown.file).save(pictures / name, quality=90)
            command = shlex.join(["python", "-m", shown.command, *shown.arguments])
            command = command.replace(f"{directory}/", "") + " --workdir=runs/gallery --out=seen"
            page += [f"## {shown.heading}", shown.text, f"![{shown.heading}](gallery/{name})", f"```\n{command}\n```"]
    (arguments.out / "gallery.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")


def _pictures(images: Path) -> list[_Picture]:
    from experiments import explain, visualize

    def explained(heading, text, *arguments, file="contact_sheet.png"):
        return _Picture(heading, text, "experiments.explain", explain.main, (str(images), *arguments), file)

    def made(heading, text, layer, *arguments, file=""):
        shown = file or f"{layer}.png"
        return _Picture(heading, text, "experiments.visualize", visualize.main, (f"--layer={layer}", *arguments), shown)

    mosaic = images.parent / "mosaic.png"
    return [
        explained(
            "Every method",
            "Which pixels speak for the most probable class. From left to right: image, gradient, guided "
            "backpropagation, deconvnet, SmoothGrad, integrated gradients, occlusion, CAM, Grad-CAM, Grad-CAM++, "
            "HiResCAM.",
            f"--method={_METHODS}",
        ),
        explained(
            "Grad-CAM of random layers",
            "The sanity check: from left to right more layers are random, from the last one down. The map of a method "
            "that explains the network changes.",
            "--method=gradcam",
            "--sanity",
            file="gradcam.sanity.png",
        ),
        explained(
            "Guided backpropagation of random layers",
            "The same check. The pictures hardly change: they show the edges of the image rather than what the network "
            "makes of them.",
            "--method=guided",
            "--sanity",
            file="guided.sanity.png",
        ),
        explained(
            "A unit",
            "The strongest unit of a channel in each image. The frame is its receptive field; deconvnet, guided "
            "backpropagation and gradient show what excites it.",
            "--unit=inception_3a:20",
            "--method=deconvnet,guided,gradient",
        ),
        made(
            "Channels and their examples",
            "An image that excites the channel, and the six test images that excite it most. The frame is the "
            "receptive field of the strongest unit.",
            "inception_3b",
            "--channel=0-7",
            "--examples=6",
        ),
        made("A whole layer", "The image that excites each channel of inception_3a.", "inception_3a", "--steps=256"),
        made(
            "Copies that differ",
            "Four images of each channel, which a term for diversity drives apart.",
            "inception_4e",
            "--channel=0-5",
            "--copies=4",
        ),
        made("Classes", "The image that excites each class.", "linear"),
        made(
            "A circuit",
            "Weights of four channels of inception_3b, one of each branch, to the channels of inception_3a that they "
            "read most; 1x1 reductions are multiplied in. Red excites, blue inhibits.",
            "inception_3b",
            "--channel=8,40,90,110",
            "--circuit",
            file="inception_3b.circuit.png",
        ),
        made(
            "A dream",
            "DeepDream on a mosaic of glyphs: the outputs of inception_3b grow.",
            "inception_3b",
            f"--dream={mosaic}",
            file="mosaic.inception_3b.png",
        ),
    ]


def _write_images(workdir: Path, images: Path) -> None:
    """Writes the first images of the run's test split as files, and a mosaic of others beside the folder."""
    from PIL import Image

    from inception_jax.data import loader
    from inception_jax.evaluation.evaluate import open_data

    source, _ = open_data([workdir], None, None, None)
    decoded = [np.asarray(loader.whole_image(source, i, 10**6)) for i in range(_IMAGES + 24)]
    for i, image in enumerate(decoded[:_IMAGES]):
        Image.fromarray(image).save(images / f"{i}.png")
    rows = [np.concatenate(decoded[start : start + 6], axis=1) for start in range(_IMAGES, _IMAGES + 24, 6)]
    Image.fromarray(np.concatenate(rows)).save(images.parent / "mosaic.png")


def _introduction(workdir: Path) -> str:
    from inception_jax.console import percent
    from inception_jax.runs.run import Run

    run = Run.read(workdir)
    if run.results is None or run.network is None:
        raise SystemExit(f"{workdir} is not a finished run")
    last = run.results["last"]
    return _INTRODUCTION.format(
        images=run.network["train_images"],
        count=last["count"],
        top1=percent(last["top1"], 1),
        training=shlex.join(["python", "main.py", *_RECIPE, "--workdir=runs/gallery"]).replace(" --", " \\\n    --"),
    )


if __name__ == "__main__":
    sys.exit(main())
