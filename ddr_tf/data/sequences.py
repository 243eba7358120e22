"""What a dataset provides: numbered sequences of numbered frames, in two splits that never mix."""

import abc
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

TRAIN = "train"
HELD_OUT = "held_out"


class Sequences(abc.ABC):
    """A set of sequences, each an unordered set of frames of one thing.

    A dataset subclasses this and implements `frames`. Datasets whose true factors are known also
    implement `swap_truth`, and give `static_labels`.

    Attributes:
      name: Short name for file names and logs.
      frame_shape: `(H, W, C)`.
      frame_counts: int32 `[S]`, the number of frames of each of the S sequences, at least 1.
      splits: `{"train": int32 [S1], "held_out": int32 [S2]}`, numbers of sequences, disjoint.
      static_labels: name of a static attribute -> int32 `[S]`; empty where nothing is known.
    """

    def __init__(
        self,
        name: str,
        frame_shape: tuple[int, int, int],
        frame_counts: np.ndarray,
        splits: Mapping[str, np.ndarray],
        static_labels: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Checks and keeps the description.

        Raises:
          ValueError: If a split is empty, names a sequence that does not exist, or shares one with the other.
        """
        self.name = name
        self.frame_shape = tuple(frame_shape)
        self.frame_counts = np.asarray(frame_counts, np.int32)
        self.splits = {split: np.asarray(numbers, np.int32) for split, numbers in splits.items()}
        self.static_labels = dict(static_labels or {})
        if set(self.splits) != {TRAIN, HELD_OUT}:
            raise ValueError(f"{name}: splits must be '{TRAIN}' and '{HELD_OUT}', got {sorted(self.splits)}.")
        if self.frame_counts.ndim != 1 or (self.frame_counts < 1).any():
            raise ValueError(f"{name}: every sequence needs at least one frame.")
        for split, numbers in self.splits.items():
            if not numbers.size:
                raise ValueError(f"{name}: split '{split}' has no sequence.")
            if numbers.min() < 0 or numbers.max() >= self.num_sequences:
                raise ValueError(f"{name}: split '{split}' names sequences outside 0..{self.num_sequences - 1}.")
        shared = np.intersect1d(self.splits[TRAIN], self.splits[HELD_OUT])
        if shared.size:
            raise ValueError(f"{name}: {shared.size} sequences are in both splits, for example number {shared[0]}.")

    @property
    def num_sequences(self) -> int:
        """S, over both splits."""
        return len(self.frame_counts)

    @abc.abstractmethod
    def frames(self, sequence: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
        """The frames with these numbers; traced into the input pipeline, so TensorFlow operations only.

        Args:
          sequence: int32 `[B, N]`, numbers of sequences.
          frame: int32 `[B, N]`, numbers of frames within them.

        Returns:
          uint8 `[B, N, H, W, C]`.
        """

    def swap_truth(self, static_sequence: np.ndarray, dynamic_sequence: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """True frames of swaps: the thing of one sequence as it would look in a frame of another.

        Args:
          static_sequence: int `[...]`, numbers of the sequences that give the identity.
          dynamic_sequence: int `[...]`, numbers of the sequences that give the pose.
          frame: int `[...]`, numbers of the frames of `dynamic_sequence` that give the pose.

        Returns:
          uint8 `[..., H, W, C]`.

        Raises:
          NotImplementedError: If the true factors of this dataset are not known.
        """
        raise NotImplementedError(f"{self.name} has no true frames of swaps.")
