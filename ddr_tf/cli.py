"""What all command lines share: one line for an error, and the exit status."""

import sys
from collections.abc import Callable, Sequence

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


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table that also reads well as text: the first is the heading, the first column the names."""
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    rows = [rows[0], rule, *rows[1:]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(each.rjust(width) for each, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
