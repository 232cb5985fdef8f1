"""Shows what a trained network sees in images: which pixels speak for a class, or what excites a channel.

python -m experiments.explain --workdir=/data/googlenet cat.jpg photos/ --method=gradcam,guided --out=explained
python -m experiments.explain --workdir=/data/googlenet cat.jpg --class=tabby --method=gradcam --layer=inception_4e --out=explained
python -m experiments.explain --workdir=/data/zfnet cat.jpg --unit=conv5:27 --method=deconvnet --out=explained
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import cli
from experiments.predict import all_images

if TYPE_CHECKING:
    from inception_jax.evaluation.predict import ImageFile
    from inception_jax.explain import Explanation
    from inception_jax.explain.attribution import Explainer

_METHODS = {
    "gradient": "derivative of the score by each pixel (Simonyan et al. 2013)",
    "deconvnet": "signal back through pooling switches and rectified filters (Zeiler and Fergus 2013)",
    "guided": "both rules of the ReLU at once (Springenberg et al. 2014)",
    "smoothgrad": "mean gradient of noisy copies (Smilkov et al. 2017)",
    "integrated": "integrated gradients (Sundararajan et al. 2017)",
    "occlusion": "loss of probability behind a grey square (Zeiler and Fergus 2013)",
    "cam": "class activation map, where a mean and one linear layer follow (Zhou et al. 2015)",
    "gradcam": "the same for any network (Selvaraju et al. 2016); the default",
    "gradcam++": "with weights for several objects (Chattopadhyay et al. 2017)",
    "hirescam": "gradients cell by cell (Draelos and Carin 2020)",
}
_EPILOG = """\
methods:
{methods}

A PATH is an image, a folder, a pattern in quotes, or -: see python -m experiments.predict --help. Images are explained as
the network gets them: by its evaluation crop.

--out gets NAME.METHOD.png for each image and method, with a number before NAME; contact_sheet.png, one image per row;
and with --npz explanations.npz. docs/explain.md says what the methods compute. --sanity adds sanity.png and sanity.json:
the same maps by networks whose last layers are random, and how similar they are.

If an image cannot be read, it is named, and the exit status is 1.
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 if an image could not be read, 2 for invalid input, 130 for Ctrl-C."""
    methods = "\n".join(f"  {name:<11} {what}" for name, what in _METHODS.items())
    parser = cli.Parser("-m experiments.explain", __doc__, _EPILOG.format(methods=methods))
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="image, folder, quoted pattern, or - (see below)")
    add("--workdir", type=cli.path, required=True, help="run, one of its checkpoints, or a file of weights")
    add("--checkpoint", default="best", help="best (default), last or a step")
    add("--weights", default="", choices=("ema", "raw"), help="moving averages (default if kept) or latest weights")
    add("--method", default="gradcam", metavar="NAME[,NAME...]", help="see below (default: %(default)s)")
    add("--class", dest="class_name", metavar="NAME", help="class by name or index (default: the most probable)")
    add("--unit", metavar="LAYER:CHANNEL", help="in place of a class, the strongest unit of a channel")
    add("--layer", default="", help="layer of class activation maps (default: the last one with a grid)")
    add("--out", type=Path, required=True, metavar="DIR", help="directory for the pictures")
    add("--npz", action="store_true", help="also write the arrays")
    add("--json", type=cli.path, metavar="FILE", help="also write classes, scores and files as JSON")
    add("--sanity", action="store_true", help="also explain by networks with random layers (Adebayo et al. 2018)")
    add("--batch-size", type=cli.positive, default=8, metavar="N", help="images at once (default: %(default)s)")
    options = parser.add_argument_group("options of methods")
    add = options.add_argument
    add("--steps", type=cli.positive, metavar="N", help="of integrated: number of gradients (default: 64)")
    add("--baseline", choices=("mean", "black", "white"), help="of integrated (default: mean, the mean colour)")
    add("--samples", type=cli.positive, metavar="N", help="of smoothgrad: number of noisy copies (default: 25)")
    add("--noise", type=float, metavar="F", help="of smoothgrad: part of the image's range (default: 0.15)")
    add("--patch", type=cli.positive, metavar="PIXELS", help="of occlusion: side of the square (default: 1/8)")
    add("--stride", type=cli.positive, metavar="PIXELS", help="of occlusion: its step (default: half its side)")
    return cli.run(parser, _explain, argv)
