"""The densities that samples of a trained model are drawn from, fitted to what it makes of its dataset."""

import numpy as np

from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, SequenceDataset
from ddr_tf.model.ddr import DDR
from ddr_tf.model.dynamic_density import DynamicDensity, fit_dynamic_density
from ddr_tf.model.static_density import StaticDensity, StaticPosteriors, fit_static_density

MAX_DRAWN = 1024  # sequences whose codes are computed
DRAWS_PER_SEQUENCE = 2  # sequences are drawn with replacement, each time with other frames
BATCH_SIZE = 16  # sequences that are encoded at once


def fitted_densities(
    ddr: DDR, dataset: SequenceDataset, num_frames: int, seed: int
) -> tuple[StaticDensity, DynamicDensity]:
    """`fit_static_density` and `fit_dynamic_density` of codes of N frames, of training and of held-out sequences.

    Raises:
      tf.errors.OpError: If data cannot be read.
    """
    codes = [drawn_codes(ddr, dataset, split, num_frames, seed) for split in (TRAIN, HELD_OUT)]
    return (
        fit_static_density(*(StaticPosteriors(of["static_mean"], of["static_stddev"]) for of in codes), seed),
        fit_dynamic_density(*(drawn_places(of, seed) for of in codes), noise_of_places(codes[0]), seed),
    )


def drawn_codes(ddr: DDR, dataset: SequenceDataset, split: str, num_frames: int, seed: int) -> dict[str, np.ndarray]:
    """What `DDR.encode` returns for sequences of a split, drawn as in training."""
    drawn = min(MAX_DRAWN, DRAWS_PER_SEQUENCE * len(dataset.splits[split]))
    batches = dataset.batches(split, BATCH_SIZE, num_frames, seed).take(-(-drawn // BATCH_SIZE))
    codes = [ddr.encode(frames) for frames in batches]
    return {name: np.concatenate([code[name] for code in codes])[:drawn] for name in codes[0]}


def drawn_places(codes: dict[str, np.ndarray], seed: int) -> np.ndarray:
    """Where z ~ q(z | x, f) is under p(z | f), (z - mu(f)) / sigma(f), once for each frame: float `[S N, Z]`."""
    noise = np.random.RandomState(seed & 0x7FFFFFFF).standard_normal(codes["dynamic_mean"].shape)
    dynamic = codes["dynamic_mean"] + codes["dynamic_stddev"] * noise
    places = (dynamic - codes["prior_mean"][:, None]) / codes["prior_stddev"][:, None]
    return places.reshape(-1, places.shape[-1])


def noise_of_places(codes: dict[str, np.ndarray]) -> np.ndarray:
    """The stddev of the place of a frame, sigma(x, f) / sigma(f), median over frames: float `[Z]`."""
    return np.median(codes["dynamic_stddev"] / codes["prior_stddev"][:, None], axis=(0, 1))
