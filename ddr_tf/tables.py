"""Tables in Markdown that also read well as text."""

from collections.abc import Sequence

from tabulate import tabulate


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table.

    Args:
      rows: The heading, then the others, all of the same length. The first column is aligned left, the others right.
    """
    head, *body = rows
    aligned = ["left", *["right"] * (len(head) - 1)]
    text = tabulate(body, head, tablefmt="pipe", disable_numparse=True, colalign=aligned if body else None)
    return text + "\n"
