"""Makes a workdir from weights that others have published.

python -m experiments.import_weights timm/inception_v3.tf_in1k --workdir=/data/v3
python -m experiments.import_weights torchvision/googlenet --file=googlenet-1378be20.pth --workdir=/data/googlenet_tv
python -m experiments.import_weights --file=unknown.caffemodel
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import cli

if TYPE_CHECKING:
    from inception_jax.weights.sources.importing import Imported

_EPILOG = """\
Without --file the weights are fetched from their publisher, checked and kept in a cache. Without NAME the names and
shapes in the file say what it is. Without --workdir nothing is written. experiments.evaluate, experiments.predict and
--config.init_from take the workdir as one of training; the last two take NAME itself too.
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input, 130 for Ctrl-C."""
    parser = cli.Parser("-m experiments.import_weights", __doc__, _EPILOG)
    parser.add_argument("name", nargs="?", metavar="NAME", help="published weights, such as torchvision/googlenet")
    parser.add_argument("--file", type=cli.path, help="a local copy of the file")
    parser.add_argument("--workdir", type=cli.path, help="directory to write, which must not hold a run yet")
    parser.add_argument("--list", action="store_true", help="list the published weights that are known")
    parser.add_argument("--page", action="store_true", help="print docs/weights.md, what is known about all of them")
    return cli.run(parser, _import, argv)


def _import(arguments: argparse.Namespace) -> None:
    from inception_jax.errors import UserError
    from inception_jax.runs.imported import check_free
    from inception_jax.weights.sources import catalogue, importing

    if arguments.page:
        from inception_jax.report.weights import weights_page

        print(weights_page(catalogue.sources().values()), end="")
        return
    if arguments.list:
        _list(catalogue.sources().values())
        return
    if not (arguments.name or arguments.file):
        raise UserError("a NAME or --file is needed; --list shows the names")
    if arguments.workdir:
        check_free(arguments.workdir)
    source = catalogue.find(arguments.name) if arguments.name else None
    file = arguments.file or source.fetch()
    if not (arguments.name or arguments.workdir) and importing.different(found := importing.identify_file(file)):
        print(f"{file} may be {importing.explain(found)}")
        return
    weights = importing.read(file, source)
    _describe(weights, file)
    if arguments.workdir:
        _write(weights, file, arguments.workdir)
        print(f"workdir     {arguments.workdir}")


def _list(sources) -> None:
    from inception_jax.console import table

    rows = [
        (each.name, each.weights.network, _percent(each.top1), _percent(each.top5), each.license) for each in sources
    ]
    print(table(("name", "network", "top-1", "top-5", "license"), rows))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} %"


def _describe(weights: Imported, file: Path) -> None:
    source = weights.source
    options = ", ".join(f"{key}={value}" for key, value in source.weights.options.items())
    print(f"weights     {source.name}")
    print(f"file        {file}")
    print(f"network     {source.weights.network}" + (f" ({options})" if options else ""))
    print(f"classes     {len(weights.class_names)}: {weights.class_names[0]} ...")
    print(f"input       {source.image_size}x{source.image_size}, shorter side {source.resize}, {source.interpolation}, "
          f"mean {_triple(source.mean)}, std {_triple(source.std)}")  # fmt: skip
    if source.top1 is not None:
        print(f"published   top-1 {_percent(source.top1)}, top-5 {_percent(source.top5)}")
    print(f"license     {source.license}")
    if source.remarks:
        print(f"note        {source.remarks}")


def _triple(values: tuple[float, float, float]) -> str:
    return "/".join(f"{value:g}" for value in values)


def _write(weights: Imported, file: Path, workdir: Path) -> None:
    from configs.common import get_config
    from inception_jax.runs.classifier import imported
    from inception_jax.runs.imported import write_workdir

    config = get_config()
    with config.unlocked():
        config.model.update(weights.options)
    config.data.update(name="imagenet2012", **weights.source.data)
    source = weights.source
    origin = {
        "name": source.name,
        "file": file.name,
        "license": source.license,
        "top1": source.top1,
        "top5": source.top5,
    }
    write_workdir(imported(weights, file), workdir, config, origin)


if __name__ == "__main__":
    sys.exit(main())
