"""Opens a page to play with a trained network: drop or draw an image, see what the network sees, paint over it.

python -m experiments.demo --workdir=runs/digits
python -m experiments.demo --workdir=/data/googlenet --port=8000
"""

import argparse
import os
import socket
import sys
import tempfile
import threading

from experiments import cli

_EPILOG = """\
The page shows the classes of an image with their probabilities, an explanation by any method that the network takes,
and the outputs of all channels of a layer. It needs no network: nothing is loaded from elsewhere and nothing is sent.
Whoever reaches the port can use the page, so by default it is open to this machine only; there is no password. Images
are kept in a temporary directory until the end. Ctrl-C ends the command.
"""
_MOST_BYTES = 2**26  # of an uploaded file


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 2 for invalid input, 130 for Ctrl-C."""
    parser = cli.Parser("-m experiments.demo", __doc__, _EPILOG)
    parser.add_network()
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)")
    add("--port", type=_port, default=7860, help="port (default: %(default)s; 0: any free one)")
    return cli.run(parser, _serve, argv)


def _serve(arguments: argparse.Namespace) -> None:
    from inception_jax.console import warn
    from inception_jax.errors import needs_extra
    from inception_jax.runs.classifier import load
    from inception_jax.runs.run import Run
    from inception_jax.runtime import configure

    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}  # before Gradio is imported
    with needs_extra("demo"):
        import gradio
    import fastapi
    import uvicorn

    from experiments.demo.explorer import Explorer
    from experiments.demo.page import CSS, build

    listening = _listen(arguments.host, arguments.port)
    with listening, tempfile.TemporaryDirectory(prefix="inception_jax-demo-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        configure("float32")
        classifier = load(arguments.workdir, arguments.checkpoint, arguments.weights, warn)
        run = Run.read(classifier.workdir, metrics_bytes=0)
        explorer = Explorer(classifier, (run.config or {}).get("data", {}).get("name", ""))
        app = gradio.mount_gradio_app(
            fastapi.FastAPI(openapi_url=None),
            build(explorer),
            path="",
            footer_links=[],
            run_history=False,
            max_file_size=_MOST_BYTES,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            css=CSS,
        )
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        address, port = listening.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        print(f"http://{shown}:{port}/ shows {classifier.title}; Ctrl-C ends it", flush=True)
        # Not in the main thread, which ends at Ctrl-C without waiting for a computation or for open pages.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        thread.join()


def _listen(host: str, port: int) -> socket.socket:
    from inception_jax.errors import UserError

    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise UserError(f"port={port} of {host} cannot be opened: {reason}") from None


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number up to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
