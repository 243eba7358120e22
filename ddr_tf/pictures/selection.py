"""What the pictures of a model are drawn from: held-out sequences that a seed selects, their frames and codes.

Codes are posterior means, z and p(z | f) at the mean of f, so for one seed everything is deterministic.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ddr_tf.data.sequence_dataset import HELD_OUT, SequenceDataset
from ddr_tf.evaluation.held_out import draw_frame_numbers, fetch
from ddr_tf.evaluation.interfaces import DensityModel
from ddr_tf.model.ddr import as_float
from ddr_tf.pictures.names import legible

NUM_SHOWN = 6  # sequences whose frames are shown
NUM_STATIC_FRAMES = 8  # of each, which f is computed from
MAX_SEQUENCES = 256  # whose z are drawn
NUM_POINTS = 2048  # z that are drawn, about
MAX_TIMELINE = 512  # frames of a timeline; of a longer sequence, evenly spaced ones
FRAMES_AT_ONCE = 64  # that are encoded


class LeftOutError(Exception):
    """Why a picture makes no sense for this run."""


class SequenceCodes(NamedTuple):
    """Codes of frames of one sequence.

    Attributes:
      sequence: Its number.
      frame: int `[N]`, numbers of the frames.
      dynamic_mean, dynamic_stddev: float32 `[N, Z]`, of q(z | x, f) at the mean of f.
      prior_mean, prior_stddev: float32 `[Z]`, of p(z | f) at the mean of f.
    """

    sequence: int
    frame: np.ndarray
    dynamic_mean: np.ndarray
    dynamic_stddev: np.ndarray
    prior_mean: np.ndarray
    prior_stddev: np.ndarray

    @property
    def spread(self) -> np.ndarray:
        """How much each dimension of z differs between frames, in stddevs of p(z | f): float `[Z]`."""
        return self.dynamic_mean.std(axis=0) / self.prior_stddev


def encode_sequence(
    model: DensityModel, sequences: SequenceDataset, number: int, static_frame: np.ndarray, frame: np.ndarray
) -> SequenceCodes:
    """Z of any number of frames of a sequence, with f from a few of them.

    Args:
      model: A model.
      sequences: A dataset.
      number: Of the sequence.
      static_frame: int `[M]`, numbers of the frames that f is computed from.
      frame: int `[N]`, of those whose z are wanted.
    """
    owner = np.array([number])
    codes = model.encode(fetch(sequences, owner, static_frame[None]))
    parts = []
    for start in range(0, len(frame), FRAMES_AT_ONCE):
        features = model.features(fetch(sequences, owner, frame[None, start : start + FRAMES_AT_ONCE]))
        posterior = model.dynamic_posterior(features, codes["static_mean"])
        parts.append((posterior.mean()[0].numpy(), posterior.stddev()[0].numpy()))
    means, stddevs = (np.concatenate(part) for part in zip(*parts, strict=True))
    prior = (codes[name][0].numpy() for name in ("prior_mean", "prior_stddev"))
    return SequenceCodes(int(number), frame, means, stddevs, *prior)


class Selection:
    """A model, and frames and codes of held-out sequences that a seed selects.

    Attributes:
      order: int `[held out]`, numbers of the held-out sequences in the order in which they are drawn.
      shown: int `[S]`, the first of them, `NUM_SHOWN` at most.
      shown_frame: int `[S, N]`, numbers of frames of these.
      real: float32 `[S, N, H, W, C]` in [0, 1], the frames.
      shown_codes: What `model.encode` returns for them.
    """

    def __init__(
        self, model: DensityModel, sequences: SequenceDataset, metrics: Sequence[dict[str, Any]] | None, seed: int
    ) -> None:
        """Args: metrics: the lines of `metrics.jsonl`; None of an exported model."""
        self.model, self.sequences, self.metrics, self.seed = model, sequences, metrics, seed & 0x7FFFFFFF
        random = np.random.RandomState(self.seed)
        self.order = random.permutation(sequences.splits[HELD_OUT])
        self.shown = self.order[:NUM_SHOWN]
        self.shown_frame = draw_frame_numbers(random, sequences, self.shown, NUM_STATIC_FRAMES)
        frames = fetch(sequences, self.shown, self.shown_frame)
        self.real = as_float(frames).numpy()
        self.shown_codes = model.encode(frames)

    def name(self, number: int) -> str:
        """Of a sequence, as pictures show it."""
        return legible(self.sequences.ids[number], or_else=f"no. {number}")

    def encode(self, number: int, num_frames: int | None = None) -> SequenceCodes:
        """Codes of a sequence, with f from `NUM_STATIC_FRAMES` frames drawn at random.

        Args:
          number: Of the sequence.
          num_frames: How many frames, drawn at random; None: all, in their own order, or `MAX_TIMELINE` evenly spaced
            ones.
        """
        count = self.sequences.frame_counts[number]
        drawn = np.random.RandomState([self.seed, number]).permutation(count)
        frame = np.arange(0, count, -(-count // MAX_TIMELINE)) if num_frames is None else drawn[:num_frames]
        return encode_sequence(self.model, self.sequences, number, drawn[:NUM_STATIC_FRAMES], frame)

    @functools.cached_property
    def codes(self) -> list[SequenceCodes]:
        """Of all held-out sequences, at most `MAX_SEQUENCES`."""
        chosen = self.order[:MAX_SEQUENCES]
        return [self.encode(number, max(NUM_STATIC_FRAMES, NUM_POINTS // len(chosen))) for number in chosen]

    @functools.cached_property
    def dimensions(self) -> tuple[int, int]:
        """The two dimensions of z that differ most between the frames of a sequence, in stddevs of p(z | f).

        Raises:
          LeftOutError: If the model has but one.
        """
        if self.model.dynamic_dim < 2:
            raise LeftOutError("it needs two dynamic dimensions, and the model has one")
        spread = [codes.spread for codes in self.codes]
        first, second = np.sort(np.argsort(-np.mean(spread, axis=0), kind="stable")[:2])
        return int(first), int(second)
