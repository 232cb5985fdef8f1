"""Shows the report of a training in a browser, and follows the training.

python -m experiments.watch --workdir=runs/digits
"""

import argparse
import sys

from experiments import cli

_EPILOG = """
The training may run on this machine or elsewhere, with its workdir in a bucket; it may also begin later. The page
follows each evaluation, as WORKDIR/report.html does, and is not loaded again. Nothing else of the workdir is served.

On a machine far away: ssh -L 8000:localhost:8000 MACHINE, then open http://localhost:8000/ here. With --host=0.0.0.0
everybody in the network can read the page. Ctrl-C ends the command.
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 2 for invalid input, 130 after Ctrl-C."""
    parser = cli.Parser("-m experiments.watch", __doc__, _EPILOG)
    add = parser.add_argument
    add("--workdir", required=True, type=cli.path, help="directory of a training, also one that begins later")
    add("--host", default="127.0.0.1", help="address to listen at (default: %(default)s, this machine alone)")
    add("--port", type=_port, default=8000, help="port to listen at; 0: any that is free (default: %(default)s)")
    add("--every", type=_seconds, default=5.0, metavar="SECONDS",
        help="time after which the report is looked for again (default: 5)")  # fmt: skip
    return cli.run(parser, _watch, argv)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number, 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        if 0 < (seconds := float(text)) < float("inf"):
            return seconds
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text} is not a number of seconds, more than 0")


def _watch(arguments: argparse.Namespace) -> None:
    from inception_jax.report.watch import Server

    with Server(arguments.workdir, arguments.host, arguments.port, arguments.every) as server:
        print(f"{arguments.workdir} at {server.url} (Ctrl-C ends)", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
