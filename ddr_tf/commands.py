"""What all command lines share: one line for an error, and the exit status."""

import sys
from collections.abc import Callable

from ddr_tf import config
from ddr_tf.errors import UserError

WRONG_USE, INTERRUPTED = 2, 130  # exit statuses; the second is that of a program that Ctrl-C stopped


def run(body: Callable[[], None], interrupted: str = "stopped") -> int:
    """Runs the body of a command line.

    Args:
      body: Does the work; what a user can mend is a `UserError`.
      interrupted: What to say after Ctrl-C.

    Returns:
      The exit status: 0, or 2 for a `UserError`, which is printed with the place of the setting that it names.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        body()
    except UserError as error:
        message = str(error).splitlines()[0]  # gin appends lines about where it was called
        print(f"error: {config.explain(message)}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return INTERRUPTED
    return 0
