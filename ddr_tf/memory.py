"""What would not fit into the memory of this machine, refused before it is tried."""

import os

from ddr_tf.errors import UserError


def check_memory(num_bytes: int, what: str) -> None:
    """Compares a size with the memory of this machine, where the system tells it.

    Args:
      num_bytes: What is needed at least.
      what: What needs it, in words.

    Raises:
      UserError: If that is more than there is.
    """
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return
    if num_bytes > total:
        raise UserError(
            f"{what} take {num_bytes / 1e9:,.0f} GB; this machine has {total / 1e9:,.0f} GB of memory. Ask for fewer."
        )
