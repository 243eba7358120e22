"""Command line: a development server of an exported model, with the explorer."""

import argparse
import gc
import logging
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ddr_tf import cli, config
from ddr_tf.errors import UserError

HOST = "127.0.0.1"  # nobody but this machine


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog="python -m ddr_tf.serve",
        description="Serve an exported model on this machine alone: the explorer, a page for the browser, and TF "
        "Serving's REST API. For development; docs/serving.md says how to serve others.",
        epilog="example: python -m ddr_tf.serve --saved_model saved_models/puppets",
    )
    flags.add_argument(
        "--saved_model",
        required=True,
        type=config.path_flag,
        metavar="DIR",
        help="saved_models/NAME, for its newest version, or one of them",
    )
    flags.add_argument("--port", type=int, default=8501, help="0: any that is free (default: %(default)s)")
    return flags


def bound(port: int) -> socket.socket:
    """A socket of that port.

    Raises:
      UserError: If it cannot be had.
    """
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
    except (OSError, OverflowError) as error:
        found.close()
        raise UserError(f"Port {port} cannot be used ({error}); choose another with --port.") from error
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    flags = parser().parse_args(arguments)

    def body() -> None:
        with bound(flags.port) as listener:
            from aiohttp import web

            from ddr_tf.serving import server  # says what is missing before TensorFlow takes its time

            logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # its traces of what clients do wrong
            start = time.perf_counter()
            servable = server.Servable(Path(flags.saved_model))
            seconds = time.perf_counter() - start
            # Each request makes many small lists, and so sets off searches of garbage; without the million objects that
            # TensorFlow and the model are, these no longer take a third of a second.
            gc.collect()
            gc.freeze()
            listener.listen()  # from now on whoever connects is answered, if only after a moment
            url = f"http://{HOST}:{listener.getsockname()[1]}"
            print(f"{servable.name}, version {servable.version}, loaded in {seconds:.1f} s")
            print(f"explorer: {url}/\nREST API: {url}/v1/models/{servable.name}\nCtrl-C stops it", flush=True)
            app = server.application(servable)
            web.run_app(
                app,
                sock=listener,
                print=None,
                access_log=None,
                keepalive_timeout=server.KEPT_ALIVE_SECONDS,
                shutdown_timeout=1,
            )

    return cli.run(body)


if __name__ == "__main__":
    sys.exit(main())
