"""The settings of `train` as one record."""

import dataclasses
import math
from collections.abc import Callable

import keras

from ddr_tf.data.augmentation import Augmentation
from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR

_COUNTS = (
    "steps",
    "batch_size",
    "num_frames",
    "checkpoint_every",
    "log_every",
    "steps_per_execution",
    "held_out_batches",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `train` is called with; its docstring says what each setting means, and its signature the defaults."""

    sequences: Callable[[], SequenceDataset]
    steps: int
    model: Callable[..., DDR]
    optimizer: Callable[..., keras.optimizers.Optimizer]
    batch_size: int
    num_frames: int
    learning_rate: float
    final_learning_rate: float
    seed: int
    checkpoint_every: int
    log_every: int
    steps_per_execution: int
    held_out_batches: int
    augmentation: Callable[[], Augmentation] | None
    smaller_config: str | None
    initial_model: str | None
    num_neighbours: int
    min_static_frames: int

    def __post_init__(self) -> None:
        """Raises UserError if a setting is not possible."""
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise UserError(f"train.{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("num_neighbours", "min_static_frames"):
            if getattr(self, name) < 0:
                raise UserError(f"train.{name} must be 0 or more, got {getattr(self, name)}.")
        for name in ("learning_rate", "final_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"train.{name} must be above 0, got {getattr(self, name)}.")

    @property
    def frames_per_step(self) -> int:
        """B N."""
        return self.batch_size * self.num_frames

    def execution_steps(self, start: int) -> int:
        """Steps in one call of the compiled function, so that calls end where something is due.

        Args:
          start: The step at which the run begins or resumes.
        """
        every = (self.checkpoint_every, self.log_every)
        return math.gcd(self.steps_per_execution, self.steps - start, *every, start)
