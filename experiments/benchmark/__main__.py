"""Measures speed and memory beside PyTorch, Keras and tf.data, which take part where they are installed.

python -m experiments.benchmark [ops model memory crops loader startup scaling] [--json=FILE] [--markdown=FILE]
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

PARTS = ("ops", "model", "memory", "crops", "loader", "startup", "scaling")


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--models", help="networks, separated by commas, or 'all' (default: one of each kind)")
    parser.add_argument("--modes", default="inference,train", help="of part model (default: %(default)s)")
    parser.add_argument("--peers", default="PyTorch,Keras", help="of part model (default: %(default)s)")
    parser.add_argument("--dtype", default="", help="float32, bfloat16 (default: float32, on a GPU both)")
    parser.add_argument("--batch", type=int, help="images (default: GoogLeNet 32, others at about its cost)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for the rows; those that are there are kept, or replaced")
    parser.add_argument("--markdown", type=Path, help="page to write from all rows, with its plot beside it")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page from the --json file")
    arguments = parser.parse_args()
    # Imported here, so that --help answers at once.
    from experiments.benchmark import report
    from inception_jax.errors import UserError

    try:
        rows = _read(arguments.json)
        if arguments.render and not rows:
            raise UserError("--render needs a --json file with rows")
        if not arguments.render:
            machine = report.machine()
            for part, measured in _measurements(arguments):
                print(f"\n{part}", file=sys.stderr, flush=True)
                new = []
                for row in measured:
                    new.append({"part": part} | row | {"machine": machine})
                    _say(row)
                    if arguments.json:  # after each row, so that nothing is lost when it is stopped
                        arguments.json.write_text(
                            json.dumps(report.merge(rows, new), indent=1) + "\n", encoding="utf-8"
                        )
                rows = report.merge(rows, new)
                print(report.table(part, new), flush=True)
        if arguments.markdown:
            picture = arguments.markdown.with_suffix(".png")
            report.plot(rows, picture)
            arguments.markdown.write_text(report.markdown(rows, picture.name), encoding="utf-8")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what was measured is in the --json file", file=sys.stderr)
        return 130
    return 0


def _read(path: Path | None) -> list[dict]:
    from inception_jax.errors import UserError

    if path is None or not path.exists():
        return []
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not a file of this command: {error}") from None


def _measurements(arguments) -> Iterator[tuple[str, Iterator[dict]]]:
    from experiments.benchmark import contest, crops, loader, model, ops, scaling, start
    from inception_jax import list_models
    from inception_jax.errors import UserError

    parts = arguments.parts or PARTS
    networks = list_models() if arguments.models == "all" else (arguments.models or ",".join(model.NETWORKS)).split(",")
    modes, peers = arguments.modes.split(","), arguments.peers.split(",")
    dtypes = [arguments.dtype] if arguments.dtype else contest.default_dtypes()
    for what, given, known in (
        ("part", parts, PARTS),
        ("network", networks, list_models()),
        ("mode", modes, model.MODES),
        ("peer", peers, ("", *model.PEERS)),
        ("dtype", dtypes, ("float32", "bfloat16")),
    ):
        if wrong := set(given) - set(known):
            raise UserError(f"there is no {what} {sorted(wrong)[0]!r}; there are {', '.join(known)}")
    if arguments.repeats < 1:
        raise UserError(f"--repeats={arguments.repeats} must be at least 1")
    batches = {network: arguments.batch or model.default_batch(network) for network in networks}
    cases = [
        model.Case(network, mode, dtype, batches[network]) for network in networks for dtype in dtypes for mode in modes
    ]
    for part in parts:
        match part:
            case "ops":
                for dtype in dtypes:
                    yield part, ops.measure(arguments.batch or 32, dtype, arguments.repeats)
            case "model":
                yield part, model.measure(cases, arguments.repeats, peers)
            case "memory":
                # Part model measures the memory of its cases as well.
                if "model" not in parts:
                    yield "model", model.measure(cases, 0, peers)
            case "crops":
                yield part, crops.measure(networks[0], arguments.batch or 32, dtypes[0], arguments.repeats)
            case "loader":
                yield part, loader.measure(arguments.repeats)
            case "startup":
                yield part, start.measure(arguments.repeats)
            case "scaling":
                yield part, scaling.measure(networks[0], arguments.batch or 32, dtypes[0], arguments.repeats)


def _say(row: dict) -> None:
    shown = (f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in row.items())
    print("  ".join(shown), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
