"""A metric: the value that one seed gives, and what is reported of several seeds."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np


class Measurement(NamedTuple):
    """A metric as one seed measures it.

    Attributes:
      value: What was measured.
      chance: What a model that knows nothing of what is measured gets, or None where there is no such level.
      ceiling: What a perfect model gets, or None where there is no limit.
    """

    value: float
    chance: float | None = None
    ceiling: float | None = None


class Metric(NamedTuple):
    """A metric as it is reported.

    Attributes:
      value: Mean over seeds.
      standard_error: Of that mean, from the spread over seeds; None for what was measured once.
      chance, ceiling: As of `Measurement`, means over seeds.
    """

    value: float
    standard_error: float | None = None
    chance: float | None = None
    ceiling: float | None = None

    @classmethod
    def over_seeds(cls, measurements: Sequence[Measurement]) -> Self:
        """The metric that these measurements, one a seed, give."""
        values, chances, ceilings = zip(*measurements, strict=True)
        error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
        levels = [None if level[0] is None else float(np.mean(level)) for level in (chances, ceilings)]
        return cls(float(np.mean(values)), error, *levels)
