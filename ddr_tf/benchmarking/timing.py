"""Readings of a clock, in turns, so that what is compared has seen the same noise."""

import math
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
from tqdm import tqdm

MIN_SECONDS = 0.2  # seconds of a reading; anything faster is repeated


class Timed:
    """Something that is timed again and again.

    Attributes:
      readings: Seconds of one call, a reading each.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        """Calls it twice: the first call may compile, the second tells how often a reading must repeat it."""
        self._call = call
        self.readings: list[float] = []
        self._repeats = 1
        self._seconds()
        self._repeats = max(1, math.ceil(MIN_SECONDS / self._seconds()))

    def _seconds(self) -> float:
        tf.test.experimental.sync_devices()
        start = time.perf_counter()
        for _ in range(self._repeats):
            self._call()
        tf.test.experimental.sync_devices()  # a GPU returns before it has computed
        return (time.perf_counter() - start) / self._repeats

    def read(self) -> None:
        """Takes one reading."""
        self.readings.append(self._seconds())

    @property
    def seconds(self) -> float:
        """The median of the readings."""
        return statistics.median(self.readings)


def in_turns(timed: Iterable[Timed], rounds: int, description: str) -> None:
    """Takes `rounds` readings of each, one of each in every round, with a progress bar."""
    with bar(list(timed) * rounds, description) as readings:
        for reading in readings:
            reading.read()


def bar(items: Iterable[Any], description: str) -> tqdm:
    """The items with a progress bar, which `with` clears away, also before an error is printed."""
    return tqdm(items, desc=description, leave=False)
