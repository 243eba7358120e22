"""What a dataset provides: numbered sequences of numbered frames, in two splits that never mix."""

import abc
import functools
import hashlib
import inspect
import json
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ddr_tf.data.label_names import check_names
from ddr_tf.data.label_values import label_array
from ddr_tf.data.sampling import sample_numbers, stream_seed
from ddr_tf.errors import UserError

TRAIN = "train"
HELD_OUT = "held_out"
# The attributes of a dataset that describe it, which may be changed after it was made.
DESCRIPTION = frozenset(
    ("name", "frame_counts", "splits", "ids", "static_labels", "frame_labels", "label_names", "remarks", "pose_numbers")
)
SPLIT_SEED = 423  # seed of every random split into training and held-out sequences


class Remark(NamedTuple):
    """Something in the user's data that is not used as it is.

    Attributes:
      path: File or folder.
      kind: "bad": should be usable and is not; "left out": is not used, for a good reason; "noted": is used, but worth
        a look.
      reason: In words.
    """

    path: str
    kind: str
    reason: str


class StreamSettings(NamedTuple):
    """What `SequenceDataset.batches` is called with; its docstring says what each argument means."""

    split: str
    batch_size: int
    num_frames: int
    seed: int
    start_step: int
    worker: int
    num_workers: int
    num_neighbours: int

    @property
    def worker_batch_size(self) -> int:
        """B / W. Raises ValueError if that is no whole number."""
        if self.batch_size % self.num_workers:
            raise ValueError(
                f"A batch of {self.batch_size} sequences cannot be shared evenly by {self.num_workers} workers."
            )
        return self.batch_size // self.num_workers


def split_at_random(num_sequences: int, held_out_fraction: float) -> dict[str, np.ndarray]:
    """The same random split for the same number each time, with at least one sequence on each side.

    Of four sequences or more at least two are held out, since swaps need two.

    Raises:
      UserError: If there are fewer than two sequences, or the fraction is not between 0 and 1.
    """
    if num_sequences < 2:
        raise UserError(
            f"At least two sequences are needed, one of them to hold out; found {num_sequences}. Of FrameFolders each "
            "folder of images is one, unless name_pattern tells them apart."
        )
    if not 0 < held_out_fraction < 1:
        raise UserError(f"held_out_fraction must be between 0 and 1, got {held_out_fraction}.")
    order = np.random.RandomState(SPLIT_SEED).permutation(num_sequences)
    least = 2 if num_sequences >= 4 else 1
    count = min(max(least, round(num_sequences * held_out_fraction)), num_sequences - 1)
    return {TRAIN: np.sort(order[count:]), HELD_OUT: np.sort(order[:count])}


def checked_frames(sequences: "SequenceDataset", sequence: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
    """`SequenceDataset.frames`, of which somebody may have written their own.

    Raises:
      UserError: If they are not `[B, N, H, W, C]` of that type, or no TensorFlow operations give them.
    """
    name = f"{type(sequences).__name__}.frames"
    try:
        frames = tf.convert_to_tensor(sequences.frames(sequence, frame))
    except NotImplementedError as error:
        if not tf.is_symbolic_tensor(sequence):
            raise
        raise UserError(
            f"{name} is traced into the input pipeline, so it must use TensorFlow operations, as "
            "tf.gather(tf.constant(array), places); tf.numpy_function makes one of NumPy's."
        ) from error
    expected = [*sequence.shape, *sequences.frame_shape]
    # Floats in [0, 1] do as well, though they take four times the memory.
    known = frames.dtype == tf.uint8 or frames.dtype.is_floating
    if not known or not frames.shape.is_compatible_with(expected):
        raise UserError(f"{name} must give uint8 {expected}, but gave {frames.dtype.name} {frames.shape}.")
    return frames


def _items(labels: Mapping[str, Any] | None) -> Iterable[tuple[str, Any]]:
    """Labels by their names; also of a table of pandas."""
    return () if labels is None else labels.items()


class SequenceDataset(abc.ABC):
    """A set of sequences, each an unordered set of frames of one thing.

    A dataset subclasses this and implements `frames`. Datasets whose true factors are known also give `pose_numbers`,
    or implement `swap_truth`, and give `static_labels`.

    Attributes:
      name: Short name for file names and logs.
      frame_shape: `(H, W, C)`.
      frame_counts: int32 `[S]`, the number of frames of each of the S sequences, at least 1.
      splits: `{"train": int32 [S1], "held_out": int32 [S2]}`, numbers of sequences, disjoint.
      ids: S names, unique; of folders, videos or the like, or else the numbers.
      static_labels: name of an attribute of a sequence -> `[S]`; empty where nothing is known.
      frame_labels: name of an attribute of a frame -> `[sum of frame_counts]`: all of sequence 0, then all of 1...
      label_names: name of a label -> the words that its values stand for. Labels with words are int32, -1 where not
        known; others are numbers, NaN where not known.
      remarks: What of the data is not used as it is.
      pose_numbers: int32 `[sum of frame_counts]`, a number for what each frame shows, whatever its sequence: the frame
        of another sequence with that number is the true frame of a swap. -1 where not known; None: nothing is known.
      ordered: Whether the numbers of frames are an order that means something, such as time. The model never uses it.
      licence: Of the data, in words; None where it is not known.
      open_licence: Whether everybody may pass on frames of it, so that an exported model may hold a few.
      content: A digest of what the frames are, as far as it can be told without decoding them; None: it cannot.
      PATHS: Which arguments of `__init__` are paths of files or folders; the first is where the data are.
      arguments: Those of `__init__`, defaults included, by which the dataset can be made again.
    """

    ordered = True
    licence: str | None = None
    open_licence = False
    content: str | None = None
    PATHS: Sequence[str] = ()
    arguments: Mapping[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> "SequenceDataset":
        """Keeps the arguments."""
        dataset = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind(dataset, *args, **kwargs)
        bound.apply_defaults()
        _, *given = bound.arguments.items()
        dataset._given = bound.args[1:], bound.kwargs
        dataset.arguments = {
            argument: value.item() if isinstance(value, np.generic) else value for argument, value in given
        }
        return dataset

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and other processes: the dataset is made again, and described as it is now."""
        positional, keywords = self._given
        description = {name: value for name, value in vars(self).items() if name in DESCRIPTION}
        return functools.partial(type(self), *positional, **keywords), (), description

    def __init__(
        self,
        name: str,
        frame_shape: tuple[int, int, int],
        frame_counts: np.ndarray,
        splits: Mapping[str, np.ndarray],
        static_labels: Mapping[str, np.ndarray] | None = None,
        frame_labels: Mapping[str, np.ndarray] | None = None,
        label_names: Mapping[str, Sequence[str]] | None = None,
        ids: Sequence[str] | None = None,
        remarks: Sequence[Remark] = (),
        pose_numbers: np.ndarray | None = None,
    ) -> None:
        """Checks and keeps the description.

        Labels may be arrays or lists. Text and booleans become classes with their words. A split may also be a mask,
        bool `[S]`.

        Raises:
          ValueError: If a split is empty, names a sequence that does not exist, or shares one with the other; or if
            labels or ids are not as many as what they describe.
          UserError: If frames are neither grey nor colour; or if labels are of another kind, or two of them would give
            metrics of the same name.
        """
        self.name = name
        self.frame_shape = tuple(frame_shape)
        counts = np.asarray(frame_counts)
        are_whole = counts.ndim == 1 and counts.dtype.kind in "iuf" and (counts % 1 == 0).all()
        if not are_whole or (counts > np.iinfo(np.int32).max).any():
            raise UserError(f"{name}: frame_counts must be a list or an array, of one whole number for each sequence.")
        self.frame_counts = counts.astype(np.int32)
        if not isinstance(splits, Mapping):
            raise UserError(f"{name}: splits must be {{'{TRAIN}': [...], '{HELD_OUT}': [...]}}, got {splits!r}.")
        self.splits = {split: self._split_numbers(split, sequences) for split, sequences in splits.items()}
        self.label_names = {label: tuple(words) for label, words in (label_names or {}).items()}
        self.static_labels = {label: self._label(label, values) for label, values in _items(static_labels)}
        self.frame_labels = {label: self._label(label, values) for label, values in _items(frame_labels)}
        check_names(self.static_labels, self.frame_labels)
        self.ids = list(ids) if ids is not None else [str(number) for number in range(len(self.frame_counts))]
        self.remarks = tuple(remarks)
        self.pose_numbers = None if pose_numbers is None else self._numbered(pose_numbers)
        if len(self.frame_shape) == 3 and self.frame_shape[-1] not in (1, 3):
            raise UserError(f"{name}: frames have 1 or 3 channels, not {self.frame_shape[-1]}: grey or colour.")
        if (self.frame_counts < 1).any():
            raise ValueError(f"{name}: every sequence needs at least one frame.")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError(f"{name}: ids must be unique.")
        self._check_labels()
        self._check_splits()

    def _split_numbers(self, split: str, sequences: np.ndarray) -> np.ndarray:
        """The sequences of a split as int32 numbers, be they given so or as a mask."""
        sequences = np.asarray(sequences)
        if sequences.dtype.kind in "iu" or not sequences.size:
            numbers, counts = np.unique(sequences, return_counts=True)
            if (counts > 1).any():
                raise UserError(f"{self.name}: split '{split}' names sequence {numbers[counts > 1][0]} more than once.")
            return sequences.astype(np.int32)
        if sequences.dtype != bool:
            raise UserError(
                f"{self.name}: split '{split}' must be a list or an array of numbers of sequences, or a mask; got "
                f"{sequences.dtype}."
            )
        if sequences.shape != self.frame_counts.shape:
            raise UserError(
                f"{self.name}: the mask of split '{split}' is of the shape {list(sequences.shape)}, but there are "
                f"{len(self.frame_counts)} sequences."
            )
        return np.flatnonzero(sequences).astype(np.int32)

    def _label(self, label: str, values: np.ndarray) -> np.ndarray:
        """The values of a label as numbers; keeps the words that they stand for."""
        try:
            array, words = label_array(values, self.label_names.get(label))
        except ValueError as error:
            raise UserError(f"{self.name}: the label {label} {error}.") from error
        if words is not None:
            self.label_names[label] = tuple(words)
        return array

    def _numbered(self, poses: np.ndarray) -> np.ndarray:
        """Poses as people have them, be they large numbers or words -> int32, 0 and up in their order, -1 unknown."""
        try:
            values, _ = label_array(poses)
        except ValueError as error:
            raise UserError(f"{self.name}: an array of pose_numbers {error}.") from error
        is_known = np.isfinite(values) if values.dtype.kind == "f" else values >= 0
        numbers = np.full(values.shape, -1, np.int32)
        numbers[is_known] = np.unique(values[is_known], return_inverse=True)[1]
        return numbers

    def _check_labels(self) -> None:
        described = {"ids": (self.ids, self.num_sequences)}
        described |= {label: (values, self.num_sequences) for label, values in self.static_labels.items()}
        described |= {label: (values, self.frame_counts.sum()) for label, values in self.frame_labels.items()}
        if self.pose_numbers is not None:
            described["pose_numbers"] = (self.pose_numbers, self.frame_counts.sum())
        for label, (values, count) in described.items():
            if len(values) != count:
                raise ValueError(f"{self.name}: {label} has {len(values)} values, not {count}.")
            words = self.label_names.get(label)
            if words is not None and not (np.min(values) >= -1 and np.max(values) < len(words)):
                raise ValueError(f"{self.name}: {label} has values for which there is no word.")

    def _check_splits(self) -> None:
        if set(self.splits) != {TRAIN, HELD_OUT}:
            raise ValueError(f"{self.name}: splits must be '{TRAIN}' and '{HELD_OUT}', got {sorted(self.splits)}.")
        for split, numbers in self.splits.items():
            if not numbers.size:
                raise ValueError(f"{self.name}: split '{split}' has no sequence.")
            if numbers.min() < 0 or numbers.max() >= self.num_sequences:
                raise ValueError(f"{self.name}: split '{split}' names sequences outside 0..{self.num_sequences - 1}.")
        both = np.intersect1d(self.splits[TRAIN], self.splits[HELD_OUT])
        if both.size:
            raise ValueError(f"{self.name}: {both.size} sequences are in both splits, for example number {both[0]}.")

    @property
    def num_sequences(self) -> int:
        """S, over both splits."""
        return len(self.frame_counts)

    @functools.cached_property
    def shared_poses(self) -> bool:
        """Whether all sequences have the same poses, in frames of the same numbers."""
        if self.pose_numbers is None or np.ptp(self.frame_counts):
            return False
        poses = self.pose_numbers.reshape(self.num_sequences, -1)
        return bool((poses == poses[0]).all() and len(np.unique(poses[0])) == poses.shape[1] and poses.min() >= 0)

    def fingerprint(self) -> str:
        """Of what sequences there are, how many frames they have, and in which split they are."""
        splits = {split: numbers.tolist() for split, numbers in self.splits.items()}
        description = json.dumps([self.ids, self.frame_counts.tolist(), splits], sort_keys=True)
        return hashlib.blake2b(description.encode(), digest_size=16).hexdigest()

    def description(self) -> dict[str, Any]:
        """What a model card says of the data, as an object for JSON."""
        return {
            "name": self.name,
            "licence": self.licence,
            "splits": {
                split: {"sequences": len(numbers), "frames": int(self.frame_counts[numbers].sum())}
                for split, numbers in self.splits.items()
            },
        }

    @staticmethod
    def frame_shape_of(**settings: Any) -> tuple[int, int, int] | None:
        """The `frame_shape` that these arguments of `__init__` lead to, without the data; None if only those tell."""
        del settings
        return None

    def rows(self, sequence: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Places in `frame_labels`, int64 `[...]`, of frames given by int `[...]` sequence and frame numbers."""
        first = np.cumsum(self.frame_counts, dtype=np.int64) - self.frame_counts
        return first[sequence] + frame

    @abc.abstractmethod
    def frames(self, sequence: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
        """The frames with these numbers; traced into the input pipeline, so TensorFlow operations only.

        Args:
          sequence: int32 `[B, N]`, numbers of sequences.
          frame: int32 `[B, N]`, numbers of frames within them.

        Returns:
          uint8 `[B, N, H, W, C]`.
        """

    def damage(self) -> str | None:
        """What is wrong with the files behind the dataset, in one line, to be asked when reading them has failed.

        None: nothing was found.
        """
        return None

    def swap_truth(self, static_sequence: np.ndarray, dynamic_sequence: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """True frames of swaps: the thing of one sequence as it would look in a frame of another.

        Args:
          static_sequence: int `[...]`, numbers of the sequences that give the identity.
          dynamic_sequence: int `[...]`, numbers of the sequences that give the pose.
          frame: int `[...]`, numbers of the frames of `dynamic_sequence` that give the pose.

        Returns:
          uint8 `[..., H, W, C]`.

        Raises:
          NotImplementedError: If the true factors of this dataset are not known, or a sequence lacks the pose.
        """
        true_frame = self.swap_frames(static_sequence, dynamic_sequence, frame)
        if (true_frame < 0).any():
            raise NotImplementedError(f"{self.name} has not all true frames of these swaps.")
        static_sequence = np.broadcast_to(static_sequence, true_frame.shape)
        return self.frames(tf.constant(static_sequence, tf.int32), tf.constant(true_frame, tf.int32)).numpy()

    def swap_frames(self, static_sequence: np.ndarray, dynamic_sequence: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Numbers of the frames of `static_sequence` that are in the poses of frames of `dynamic_sequence`.

        Args:
          static_sequence, dynamic_sequence, frame: As of `swap_truth`.

        Returns:
          int32 `[...]`; the first of several, -1 where there is none.

        Raises:
          NotImplementedError: If the poses of this dataset are not known.
        """
        if self.pose_numbers is None:
            raise NotImplementedError(f"{self.name} has no true frames of swaps.")
        pose = self.pose_numbers[self.rows(np.asarray(dynamic_sequence), np.asarray(frame))]
        return np.where(pose < 0, -1, self._frame_in_pose[static_sequence, pose])

    @functools.cached_property
    def _frame_in_pose(self) -> np.ndarray:
        """int32 `[S, poses]`, the number of the first frame of each sequence in each pose, or -1."""
        table = np.full((self.num_sequences, max(1, int(self.pose_numbers.max()) + 1)), -1, np.int32)
        sequence = np.repeat(np.arange(self.num_sequences), self.frame_counts)
        frame = np.concatenate([np.arange(count) for count in self.frame_counts])
        known = np.flatnonzero(self.pose_numbers >= 0)[::-1]  # so that the first of several is what stays
        table[sequence[known], self.pose_numbers[known]] = frame[known]
        return table

    def swap_truths(
        self, static_sequence: np.ndarray, dynamic_sequence: np.ndarray, frame: np.ndarray
    ) -> list[np.ndarray]:
        """All frames that are right as `swap_truth`: several where no frame can tell parts of a thing apart.

        Empty if the true factors are not known.
        """
        try:
            return [self.swap_truth(static_sequence, dynamic_sequence, frame)]
        except NotImplementedError:
            return []

    def batches(
        self,
        split: str,
        batch_size: int,
        num_frames: int,
        seed: int,
        start_step: int = 0,
        worker: int = 0,
        num_workers: int = 1,
        num_neighbours: int = 0,
    ) -> tf.data.Dataset:
        """An endless stream of batches; element k depends on (seed, start_step + k) alone.

        So a stream that is started at step k continues one that was interrupted there, bit for bit; and what several
        workers get for a step is, put together, what one would get.

        Args:
          split: "train" or "held_out".
          batch_size: B, at least 1, over all workers.
          num_frames: N, at least 1.
          seed: Any int.
          start_step: Step of the first batch.
          worker: Which of the workers this is, from 0.
          num_workers: W, a divisor of B.
          num_neighbours: In half of the sequences, at random, so many of the N frames are consecutive, and come first.

        Returns:
          uint8 `[B / W, N, H, W, C]`, prefetched.

        Raises:
          UserError: If there is no such split, or a number is not whole or too small.
        """
        if not hasattr(self, "splits"):
            raise UserError(f"{type(self).__name__}.__init__ must call super().__init__(name, frame_shape, ...).")
        if split not in self.splits:
            raise UserError(f"{self.name}: there is no split {split!r}; there are '{TRAIN}' and '{HELD_OUT}'.")
        numbers = dict(batch_size=batch_size, num_frames=num_frames, seed=seed, start_step=start_step)
        numbers |= dict(worker=worker, num_workers=num_workers, num_neighbours=num_neighbours)
        least = dict(batch_size=1, num_frames=1, num_workers=1, seed=-math.inf)
        for name, number in numbers.items():
            try:
                numbers[name] = operator.index(number)  # also of NumPy's and TensorFlow's
            except TypeError:
                numbers[name] = None
            if numbers[name] is None or numbers[name] < least.get(name, 0):
                of_least = "" if name == "seed" else f" of at least {least.get(name, 0)}"
                raise UserError(f"{self.name}: {name} must be a whole number{of_least}, got {number!r}.")
        return self._stream(StreamSettings(split, **numbers))

    def _stream(self, settings: StreamSettings) -> tf.data.Dataset:
        """What `batches` returns; overridden where frames cannot be read by their numbers."""
        numbers = self.splits[settings.split]
        frame_counts = tf.constant(self.frame_counts[numbers])
        numbers = tf.constant(numbers)
        key, count = stream_seed(settings.seed, settings.split), settings.worker_batch_size
        refused: list[UserError] = []

        def batch(step: tf.Tensor) -> tf.Tensor:
            step_seed = tf.random.fold_in(key, step)
            sequence, frame = sample_numbers(
                step_seed, numbers, frame_counts, settings.batch_size, settings.num_frames, settings.num_neighbours
            )
            mine = slice(settings.worker * count, (settings.worker + 1) * count)
            try:
                frames = checked_frames(self, sequence[mine], frame[mine])
            except UserError as error:
                refused.append(error)
                raise
            return tf.ensure_shape(frames, (count, settings.num_frames, *self.frame_shape))

        steps = tf.data.Dataset.counter(np.int64(settings.start_step))
        try:
            batches = steps.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        except Exception:  # what AutoGraph makes of an error has its traceback in the message
            if refused:
                raise refused[0] from None
            raise
        batches = batches.prefetch(tf.data.AUTOTUNE)
        # TensorFlow's optimizations copy what `frames` reads, memory-mapped or not; here they would gain nothing.
        options = tf.data.Options()
        options.experimental_optimization.apply_default_optimizations = False
        return batches.with_options(options)
