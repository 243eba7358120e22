"""What a run does when it is told to stop: the first signal asks for a checkpoint and the end, the second ends it."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterable
from types import FrameType

from ddr_tf.training.devices import Devices

# What Ctrl-C, batch systems and closed terminals send.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def not_ignored(numbers: Iterable[int]) -> list[int]:
    """Those of some signals that this process was not told to ignore, as `nohup` tells it about SIGHUP."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


class Stop:
    """While it is entered, the first of `SIGNALS` sets `requested`, and the second ends the process.

    With several workers the first is a `KeyboardInterrupt` at once: the others, who wait for this one, could not write
    their part of a checkpoint. Outside the main thread Python takes no signals, so nothing is changed there.

    Attributes:
      requested: Whether the run is to stop.
    """

    def __init__(self, devices: Devices) -> None:
        """Args: devices: tell whether there are several workers."""
        self.requested = False
        self._active = devices.num_workers == 1 and threading.current_thread() is threading.main_thread()
        self._before = {}

    def __enter__(self) -> "Stop":
        if self._active:
            self._before = {number: signal.signal(number, self._handle) for number in not_ignored(SIGNALS)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.requested:
            _say("\nstopped at once")
            os._exit(128 + number)
        self.requested = True
        _say("\nstopping after a checkpoint of this step; the same signal again stops at once")


def _say(text: str) -> None:
    """Prints a line, unless nobody reads it any more: `tee` ends at the same Ctrl-C, and a terminal may be closed."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
