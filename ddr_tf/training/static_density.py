"""The density of f of a trained model, fitted to what it makes of its dataset."""

import numpy as np

from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, SequenceDataset
from ddr_tf.model.ddr import DDR
from ddr_tf.model.static_density import StaticDensity, StaticPosteriors, fit_static_density

MAX_DRAWN = 1024  # sequences whose f is computed
DRAWS_PER_SEQUENCE = 2  # sequences are drawn with replacement, each time with other frames
BATCH_SIZE = 16  # sequences that are encoded at once


def fitted_static_density(ddr: DDR, dataset: SequenceDataset, num_frames: int, seed: int) -> StaticDensity:
    """`fit_static_density` of q(f | x_1..N), N frames drawn at random, of training and of held-out sequences.

    Raises:
      tf.errors.OpError: If data cannot be read.
    """
    return fit_static_density(
        *(static_posteriors(ddr, dataset, split, num_frames, seed) for split in (TRAIN, HELD_OUT)), seed
    )


def static_posteriors(ddr: DDR, dataset: SequenceDataset, split: str, num_frames: int, seed: int) -> StaticPosteriors:
    """q(f | x_1..N) of sequences of a split, drawn as in training."""
    drawn = min(MAX_DRAWN, DRAWS_PER_SEQUENCE * len(dataset.splits[split]))
    batches = dataset.batches(split, BATCH_SIZE, num_frames, seed).take(-(-drawn // BATCH_SIZE))
    codes = [ddr.encode(frames) for frames in batches]
    return StaticPosteriors(
        *(np.concatenate([code[f"static_{name}"] for code in codes])[:drawn] for name in ("mean", "stddev"))
    )
