"""Shows a network layer by layer, and beside it what its paper prints.

python -m experiments.summary --model=googlenet [stem=separable] [num_classes=10]
python -m experiments.summary --config=configs/googlenet.py [--config.model.stem=separable]
python -m experiments.summary --fidelity > docs/fidelity.md
"""

import argparse
import ast
import sys

from experiments import cli


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input."""
    parser = cli.Parser("-m experiments.summary", __doc__)
    parser.add_config(required=False)
    parser.add_argument("options", nargs="*", metavar="NAME=VALUE", help="options of the network")
    parser.add_argument("--model", metavar="NAME", help="name of a network, instead of a recipe")
    parser.add_argument(
        "--size", type=cli.positive, help="height and width of the images (default: the recipe's or paper's)"
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", type=cli.path, metavar="FILE", help="JSON file to write")
    parser.add_argument(
        "--fidelity", action="store_true", help="print docs/fidelity.md: paper against code, all networks"
    )
    return cli.run(parser, _show, argv)


def _show(arguments: argparse.Namespace) -> None:
    import json

    from inception_jax import UserError, list_models, summary
    from inception_jax.models.summary import check_with_xla
    from inception_jax.report.fidelity import fidelity_page, network_page

    config, model, options = arguments.config, arguments.model, _options(arguments.options)
    if (config is not None) + (model is not None) + arguments.fidelity != 1 or (arguments.fidelity and options):
        raise UserError("give one of --config, --model and --fidelity, the last without options")
    if arguments.fidelity:
        print(fidelity_page(map(summary, list_models())), end="")
        return
    shape = (arguments.size,) * 2 if arguments.size else ()
    if config is not None:
        options = config.model.to_dict() | options
        model = options.pop("name")
        shape = (*(shape or (config.data.image_size,) * 2), config.data.channels)
    network = summary(model, shape, **options)
    check_with_xla(network.operations)
    if arguments.json:
        text = json.dumps(network.to_dict(), indent=2, default=float)
        arguments.json.write_text(text + "\n", encoding="utf-8")
    print(network_page(network) if arguments.markdown else network)


def _options(arguments: list[str]) -> dict:
    """Returns the options that the command line gives as NAME=VALUE."""
    from inception_jax import UserError

    options = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or name == "name" or name in options:
            raise UserError(f"{argument!r} is not an option NAME=VALUE, given once")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):  # a word
            options[name] = value
    return options


if __name__ == "__main__":
    sys.exit(main())
