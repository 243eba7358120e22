"""Metrics of what samples of f and z decode to: whether such frames could exist, and whose they are."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ddr_tf.data.label_names import name_in_metrics
from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, SequenceDataset
from ddr_tf.evaluation.held_out import draw_frame_numbers, fetch, in_parts
from ddr_tf.evaluation.interfaces import DensityModel
from ddr_tf.evaluation.metric import Measurement
from ddr_tf.evaluation.prior import coverage
from ddr_tf.evaluation.probes import as_classes
from ddr_tf.model import FITTED, STANDARD
from ddr_tf.model.bounds import as_float

VALID_WITHIN = 1.0  # dB below the median of reconstructions
IDENTITIES_AT_ONCE = 8  # identities whose frames are compared with all images at a quarter of their sides
NUM_CANDIDATES = 16  # frames that an image is compared with at full size
IMAGES_AT_ONCE = 16  # images that are compared at full size
SUFFIXES = {FITTED: "", STANDARD: "_standard"}  # of the names of metrics
NUM_REFERENCES = 2  # reconstructions of held-out identities, and of all


class NearestFrames(NamedTuple):
    """The true frame nearest to each of n images, among those of some sequences.

    Attributes:
      sequence: int `[n]`.
      error: float32 `[n]`, mean squared error.
    """

    sequence: np.ndarray
    error: np.ndarray


def nearest_frames(images: np.ndarray, sequences: SequenceDataset, numbers: np.ndarray) -> NearestFrames:
    """Compares images uint8, or float in [0, 1], `[n, H, W, C]` with all frames of all sequences int `[S]`.

    Frames are compared at a quarter of their sides first, and the `NUM_CANDIDATES` that are nearest there as they are.
    """
    sequence, frame = _candidates(images, sequences, numbers)
    nearest = []
    for start in range(0, len(images), IMAGES_AT_ONCE):
        part = slice(start, start + IMAGES_AT_ONCE)
        shown = sequences.frames(tf.constant(sequence[part], tf.int32), tf.constant(frame[part], tf.int32))
        of_images = as_float(tf.constant(images[part, None]))
        error = tf.reduce_mean(tf.square(as_float(shown) - of_images), axis=(-3, -2, -1)).numpy()
        best = np.arange(len(error)), error.argmin(axis=1)
        nearest.append((sequence[part][best], error[best]))
    return NearestFrames(*map(np.concatenate, zip(*nearest, strict=True)))


def _candidates(images: np.ndarray, sequences: SequenceDataset, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The frames nearest to each image at a quarter of the sides: sequences and frames, int `[n, NUM_CANDIDATES]`."""
    small, poses = _quarter(images), np.arange(sequences.frame_counts.min())
    nearest: tuple[np.ndarray, ...] | None = None  # distance, sequence and frame
    for start in range(0, len(numbers), IDENTITIES_AT_ONCE):
        chosen = numbers[start : start + IDENTITIES_AT_ONCE]
        frames = _quarter(fetch(sequences, chosen, np.broadcast_to(poses, (len(chosen), len(poses)))).numpy())
        # |image - frame|^2 without |image|^2, the same for all frames.
        distance = np.einsum("fd,fd->f", frames, frames) - 2 * small @ frames.T
        places = _least(distance)
        new = np.take_along_axis(distance, places, 1), chosen[places // len(poses)], places % len(poses)
        if nearest is not None:
            new = tuple(np.concatenate(pair, axis=1) for pair in zip(nearest, new, strict=True))
            places = _least(new[0])
            new = tuple(np.take_along_axis(values, places, axis=1) for values in new)
        nearest = new
    return nearest[1], nearest[2]


def _least(distance: np.ndarray) -> np.ndarray:
    """Places of the `NUM_CANDIDATES` least of each row, or of all: int `[n, NUM_CANDIDATES]`."""
    if distance.shape[1] <= NUM_CANDIDATES:
        return np.broadcast_to(np.arange(distance.shape[1]), distance.shape)
    return np.argpartition(distance, NUM_CANDIDATES, axis=1)[:, :NUM_CANDIDATES]


def _quarter(frames: np.ndarray) -> np.ndarray:
    """Means of blocks of 4 x 4 pixels: uint8, or float in [0, 1], `[..., H, W, C]` -> float32 `[n, H W C / 16]`."""
    height, width, channels = frames.shape[-3:]
    is_bytes = frames.dtype == np.uint8
    # First over rows, in which pixels lie side by side, then by strides: many times as fast as a sum over both.
    rows = frames.reshape(-1, height // 4, 4, width * channels).sum(axis=2, dtype=np.uint16 if is_bytes else None)
    rows = rows.reshape(-1, height // 4, width // 4, 4, channels)
    columns = rows[:, :, :, 0] + rows[:, :, :, 1] + rows[:, :, :, 2] + rows[:, :, :, 3]
    return columns.reshape(len(columns), -1) / np.float32(16 * 255 if is_bytes else 16)


class Nearest(NamedTuple):
    """The true frames nearest to n images, among those of training and of held-out identities.

    Attributes:
      training, held_out: As of `nearest_frames`.
    """

    training: NearestFrames
    held_out: NearestFrames

    @property
    def is_novel(self) -> np.ndarray:
        """Whether the nearer of the two is held out: bool `[n]`."""
        return self.held_out.error < self.training.error

    @property
    def sequence(self) -> np.ndarray:
        """The nearest identity of all: int `[n]`."""
        return np.where(self.is_novel, self.held_out.sequence, self.training.sequence)

    @property
    def psnr(self) -> np.ndarray:
        """In dB, to the nearest frame of all: `[n]`."""
        return -10 * np.log10(np.maximum(np.minimum(self.training.error, self.held_out.error), 1e-12))

    @property
    def memorised(self) -> float:
        """Distance to the nearest frame of a training identity over that to the nearest of a held-out one, on average.

        It is the geometric mean, in which twice as near and twice as far cancel.
        """
        training, held_out = (np.log(np.maximum(split.error, 1e-12)) for split in self)
        return float(np.exp(np.mean(training - held_out) / 2))


def measure_samples(
    model: DensityModel, sequences: SequenceDataset, seeds: Sequence[int], num_frames: int, num_samples: int = 256
) -> list[dict[str, Measurement]]:
    """Compares samples, and reconstructions of held-out frames, with the true frames of all identities in all poses.

    Args:
      model: A model.
      sequences: A dataset with `shared_poses`.
      seeds: Of samples, and of what is reconstructed. All are measured at once, since each true frame is drawn for it.
      num_frames: N, frames that f of reconstructions is computed from.
      num_samples: How many of each with each seed; one z for each f.

    Returns:
      For each seed the metrics of `compared`, `sample_*` for f and z from the densities that were fitted after
      training, and `sample_*_standard` for those from p(f) and p(z | f).
    """
    images = [shown for seed in seeds for shown in _images(model, sequences, seed, num_frames, num_samples)]
    of_splits = [nearest_frames(np.concatenate(images), sequences, sequences.splits[s]) for s in (TRAIN, HELD_OUT)]
    ends = np.cumsum([len(shown) for shown in images])[:-1]
    parts = zip(*(zip(*(np.split(values, ends) for values in split), strict=True) for split in of_splits), strict=True)
    nearest = [Nearest(*(NearestFrames(*split) for split in part)) for part in parts]
    kinds = NUM_REFERENCES + len(SUFFIXES)
    return [_of_seed(*nearest[start : start + kinds], sequences) for start in range(0, len(nearest), kinds)]


def _of_seed(
    reconstructed: Nearest, of_all: Nearest, fitted: Nearest, standard: Nearest, sequences: SequenceDataset
) -> dict[str, Measurement]:
    """What `measure_samples` returns for a seed."""
    return {
        f"sample_{name}{suffix}": measurement
        for suffix, nearest in zip(SUFFIXES.values(), (fitted, standard), strict=True)
        for name, measurement in compared(nearest, reconstructed, of_all, sequences).items()
    }


def compared(
    samples: Nearest, reconstructed: Nearest, of_all: Nearest, sequences: SequenceDataset
) -> dict[str, Measurement]:
    """Metrics of samples; their ceilings are those of reconstructions: of held-out identities, or `of_all`.

    Returns:
      `psnr`, the median in dB to the nearest true frame; `valid_fraction`, not more than `VALID_WITHIN` below the
      median of reconstructions; `novel_fraction`, whose nearest identity was never trained on, its chance and ceiling
      being the fraction of held-out identities; `diversity_<label>`, see `prior.coverage`, of those of the nearest
      identities whose label is known; and `memorised`, see `Nearest`, its ceiling that of reconstructions of all
      identities, below 1 where most of them are of training.
    """
    median = float(np.median(reconstructed.psnr))
    valid, ceiling = (float(np.mean(frames.psnr >= median - VALID_WITHIN)) for frames in (samples, reconstructed))
    held_out = len(sequences.splits[HELD_OUT]) / sequences.num_sequences
    metrics = {
        "psnr": Measurement(float(np.median(samples.psnr)), None, median),
        "valid_fraction": Measurement(valid, 0.0, ceiling),
        "novel_fraction": Measurement(float(np.mean(samples.is_novel)), held_out, held_out),
        "memorised": Measurement(samples.memorised, None, of_all.memorised),
    }
    for name, labels in as_classes(sequences.static_labels).items():
        nearest = [labels[frames.sequence] for frames in (samples, reconstructed)]
        if all((of_frames >= 0).any() for of_frames in nearest):  # known of some
            evenness = [coverage(of_frames[of_frames >= 0], labels.max() + 1) for of_frames in nearest]
            metrics[f"diversity_{name_in_metrics(name)}"] = Measurement(evenness[0], 0.0, evenness[1])
    return metrics


def _images(
    model: DensityModel, sequences: SequenceDataset, seed: int, num_frames: int, count: int
) -> Iterator[np.ndarray]:
    """Reconstructions of held-out identities, of all, and samples of `SUFFIXES`: each uint8 `[count, H, W, C]`."""
    held_out = sequences.splits[HELD_OUT]
    for identities in (held_out, np.concatenate([sequences.splits[TRAIN], held_out])):
        yield _reconstructions(model, sequences, identities, seed, num_frames, count)
    for density in SUFFIXES:
        codes = model.sample_codes(count, 1, tf.constant([seed, 0]), density)
        yield _as_bytes(in_parts(model.decode, *codes))


def _as_bytes(frames: np.ndarray) -> np.ndarray:
    """The first frame of each sequence, rounded: float `[B, N, H, W, C]` -> uint8 `[B, H, W, C]`."""
    return np.rint(255 * frames[:, 0]).astype(np.uint8)


def _reconstructions(
    model: DensityModel, sequences: SequenceDataset, identities: np.ndarray, seed: int, num_frames: int, count: int
) -> np.ndarray:
    """One frame of each of `count` draws of these sequences, int `[S]`, reconstructed: uint8 `[count, H, W, C]`."""
    random = np.random.RandomState(seed)
    numbers = random.choice(identities, count)
    frames = fetch(sequences, numbers, draw_frame_numbers(random, sequences, numbers, num_frames))
    codes = in_parts(model.encode, frames)
    return _as_bytes(in_parts(model.decode, codes["static_mean"], codes["dynamic_mean"][:, :1]))
