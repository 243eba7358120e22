"""The settings of `train` as one record."""

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

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
MAX_COUNT = 2**31 - 1  # which TensorFlow counts to


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `train` is called with; its docstring says what each setting means, and its signature the defaults."""

    sequences: Callable[[], SequenceDataset] | SequenceDataset
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
        """Makes Python's numbers of NumPy's, and raises UserError if a setting is not possible."""
        for name, value in vars(self).items():
            if isinstance(value, np.generic):
                object.__setattr__(self, name, value.item())
        for name in (*_COUNTS, "num_neighbours", "min_static_frames", "seed"):
            self._check_kind(name, numbers.Integral, "a whole number")
        for name in ("learning_rate", "final_learning_rate"):
            self._check_kind(name, numbers.Real, "a number")
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"train.{name} must be above 0, got {getattr(self, name)}.")
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise UserError(f"train.{name} must be at least 1, got {getattr(self, name)}.")
            if getattr(self, name) > MAX_COUNT:
                raise UserError(f"train.{name} must be at most {MAX_COUNT:,}, got {getattr(self, name)}.")
        for name in ("num_neighbours", "min_static_frames"):
            if getattr(self, name) < 0:
                raise UserError(f"train.{name} must be 0 or more, got {getattr(self, name)}.")
        if self.initial_model == "":
            raise UserError("train.initial_model is empty; name a run or an exported model, or give None.")
        if not isinstance(self.sequences, SequenceDataset) and not callable(self.sequences):
            raise UserError(f"train.sequences must be a dataset, or a function that makes one, got {self.sequences!r}.")
        for name, example in (("model", "DDR"), ("optimizer", "Muon")):
            is_used = name != "model" or self.initial_model is None
            value = getattr(self, name)
            if is_used and (not callable(value) or isinstance(value, keras.Model)):  # which can be called, too
                raise UserError(f"train.{name} must be a class, such as {example}, got {value!r}.")
        if not (self.augmentation is None or callable(self.augmentation)):
            raise UserError(f"train.augmentation must be a class or None, got {self.augmentation!r}.")

    def _check_kind(self, name: str, kind: type, words: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"train.{name} must be {words}, got {value!r}.")

    @property
    def given_to_model(self) -> dict[str, int]:
        """Arguments of `DDR` that `train` has settings of its own for."""
        return {"noise_seed": self.seed, "min_static_frames": self.min_static_frames}

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


def as_in_gin(
    settings: Settings, ddr: DDR, dataset: SequenceDataset, augmentation: Augmentation | None
) -> dict[str, str]:
    """What a run that was started from Python is trained with, as gin writes it: "Name.parameter" -> value.

    Args:
      settings: Of `train`.
      ddr: As `build` makes it.
      dataset, augmentation: What the settings give. Arguments of the dataset that are no plain values are left out.
    """
    optimizer = ddr.optimizer
    of_model = {name: value for name, value in ddr.get_config().items() if name not in settings.given_to_model}
    parts = {
        "train": vars(settings),
        "DDR": of_model | {"dtype": ddr.dtype_policy.name},
        type(optimizer).__name__: optimizer.get_config(),
        type(dataset).__name__: dataset.arguments,
        "Augmentation": augmentation.settings if augmentation else {},
    }
    values = {f"{part}.{name}": value for part, given in parts.items() for name, value in given.items()}
    made = {"sequences": dataset, "model": ddr, "optimizer": optimizer, "augmentation": augmentation}
    return {name: repr(value) for name, value in values.items() if _is_plain(value) and not name.endswith(".name")} | {
        f"train.{name}": f"@{type(thing).__name__}" for name, thing in made.items() if thing is not None
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
