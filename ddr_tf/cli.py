"""What command lines share: one line for an error, the exit status, and the flags that name a model."""

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ddr_tf import config, startup
from ddr_tf.errors import UserError

WRONG_USE, INTERRUPTED = 2, 130  # exit statuses; the second is that of a program that Ctrl-C stopped


def printable(text: str) -> str:
    """The text with control characters other than line ends and tabs written as escapes.

    Names of files and labels come from others, and a terminal would obey what they hold.
    """
    return "".join(c if c.isprintable() or ord(c) >= 160 or c in "\n\t" else repr(c)[1:-1] for c in text)


def add_model_flags(flags: argparse.ArgumentParser) -> None:
    """Adds the two flags that name a model; exactly one must be given."""
    which = flags.add_mutually_exclusive_group(required=True)
    which.add_argument("--run_dir", type=config.path_flag, metavar="DIR", help="a finished run of ddr_tf.train")
    which.add_argument(
        "--saved_model",
        type=config.path_flag,
        metavar="DIR",
        help="an exported model: saved_models/NAME, one of its versions, or the name of a model that comes with ddr_tf",
    )


def check_writable(path: Path, what: str) -> None:
    """Raises UserError if a file cannot be written, now and not after minutes. Leaves no file behind.

    Args:
      path: The file.
      what: How the message begins.
    """
    existed = path.exists()
    try:
        path.open("a").close()
        if not existed:
            path.unlink()
    except OSError as error:
        raise UserError(f"{what} {path} cannot be written ({error.strerror}).") from error


def check_folder(folder: Path, flag: str) -> None:
    """Raises UserError if a folder that a flag names, and that may be yet to be made, cannot be written to."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        reason = "it cannot be written to" if existing.is_dir() else "it is not a folder"
        raise UserError(f"{flag} {folder} cannot be used: {existing}: {reason}; give another {flag}.")


class _Lasting:
    """A stream whose reader may go, as `tee` does at Ctrl-C, and a terminal that is closed.

    What is written after that is lost, and the program goes on: what it is doing may be the checkpoint of a run.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._losses():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._losses():
            self._stream.flush()

    @contextlib.contextmanager
    def _losses(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            with open(os.devnull, "w") as nowhere:  # for good; also for what Python flushes at its end
                os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Printable(_Lasting):
    """A stream that writes `printable` text."""

    def write(self, text: str) -> int:
        super().write(printable(text))
        return len(text)


@contextlib.contextmanager
def _lasting_streams() -> Iterator[None]:
    """A block whose output goes on when its readers are gone."""
    out, error = _Printable(sys.stdout), _Lasting(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            yield
        finally:
            out.flush()
            error.flush()


def run(
    body: Callable[[], None], interrupted: Callable[[], str] = lambda: "stopped", *, needs_tensorflow: bool = True
) -> int:
    """Runs the body of a command line.

    Args:
      body: Does the work; what a user can put right is a `UserError`.
      interrupted: Gives what to say after Ctrl-C.
      needs_tensorflow: Whether to import TensorFlow first, so that its own notes do not show.

    Returns:
      The exit status: 0, or 2 for a `UserError`, which is printed with the place of the setting that it names, and for
      a file that this user may not read or write.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names need not be valid text
    with _lasting_streams():
        return _status(body, interrupted, needs_tensorflow)


def _status(body: Callable[[], None], interrupted: Callable[[], str], needs_tensorflow: bool) -> int:
    """The exit status; see `run`."""
    try:
        if needs_tensorflow:
            startup.import_for_program()
        body()
    except UserError as error:
        message = str(error).splitlines()[0]  # gin appends lines that say where it was called
        print(f"error: {printable(config.explain(message))}", file=sys.stderr)
        return WRONG_USE
    except PermissionError as error:
        print(f"error: {printable(str(error))}; ask the owner of the file.", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        print(f"\n{interrupted()}", file=sys.stderr)
        return INTERRUPTED
    return 0
