"""Command line: a development server of an exported model, with the explorer."""

import argparse
import asyncio
import contextlib
import gc
import logging
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from ddr_tf import cli, config
from ddr_tf.errors import UserError

HOST = "127.0.0.1"  # only this machine can reach it
DRAIN_SECONDS = 60  # seconds for answering requests after SIGTERM or Ctrl-C


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog="python -m ddr_tf.serve",
        description="Serve an exported model on this machine alone: the explorer, a page for the browser, and TF "
        "Serving's REST API. For development; docs/serving.md says how to serve others.",
        epilog="example: python -m ddr_tf.serve --saved_model puppets",
    )
    flags.add_argument(
        "--saved_model",
        required=True,
        type=config.path_flag,
        metavar="DIR",
        help="an exported model (its newest version, or one of them), the name of one that comes with ddr_tf, as "
        "puppets, or a finished run",
    )
    flags.add_argument("--port", type=int, default=8501, help="0: any that is free (default: %(default)s)")
    flags.add_argument(
        "--allow_host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that requests may use for this server, besides 127.0.0.1 and localhost; repeatable",
    )
    return flags


def bound_socket(port: int) -> socket.socket:
    """A socket that has this port of `HOST`.

    Raises:
      UserError: If the port cannot be used.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(f"Port {port} cannot be used ({error}); choose another with --port.") from error
    return listener


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    flags = parser().parse_args(arguments)

    def body() -> None:
        with bound_socket(flags.port) as listener:
            from ddr_tf.serving import guard, server  # says what is missing before the slow import of TensorFlow

            hosts = {*guard.LOCAL_HOSTS, *map(allowed_host, flags.allow_host)}
            start = time.perf_counter()
            with exported_model(flags.saved_model) as directory:
                servable = server.Servable(directory)
                seconds = time.perf_counter() - start
                _tune_process()
                listener.listen()  # from now on every connection gets an answer, if only after a moment
                url = f"http://{HOST}:{listener.getsockname()[1]}"
                print(f"{servable.name}, version {servable.version}, loaded in {seconds:.1f} s")
                print(f"explorer: {url}/\nREST API: {url}/v1/models/{quote(servable.name, safe='')}")
                print("Ctrl-C stops it", flush=True)
                asyncio.run(server.run(server.application(servable, hosts=hosts), listener, DRAIN_SECONDS))

    return cli.run(body)


@contextlib.contextmanager
def exported_model(path: str) -> Iterator[Path]:
    """The folder of an exported model. For a run, a temporary export is made, which is removed afterwards.

    Args:
      path: See `shipped.resolve`.

    Raises:
      UserError: If there is neither.
    """
    from ddr_tf import shipped
    from ddr_tf.serving import exporting

    folder = shipped.resolve(path)
    if not shipped.is_run(folder):
        yield folder
        return
    print(f"{folder} is a run; it is exported to a temporary folder (python -m ddr_tf.export makes one that stays)")
    with tempfile.TemporaryDirectory(prefix="ddr_tf_") as temporary:
        directory = Path(temporary) / folder.resolve().name
        exporting.export(folder, directory, progress=print)
        yield directory


def allowed_host(name: str) -> str:
    """A name that `--allow_host` gives, in the form in which requests are compared with it.

    Raises:
      UserError: If it is not the name of a host.
    """
    from ddr_tf.serving import guard

    known_as = guard.host_name(name)
    if known_as is None:
        raise UserError(f"--allow_host {name} must be the name of a host, without http:// or a path.")
    return known_as


def _tune_process() -> None:
    """Keeps the log and the garbage collector from getting in the way of requests."""
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # hides its tracebacks for clients' mistakes
    # Each request makes many small lists, which trigger the collector. It took a third of a second to look through the
    # million objects of TensorFlow and the model. It passes over these from now on, and runs less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)


if __name__ == "__main__":
    sys.exit(main())
