"""How a model is evaluated."""

import dataclasses
from numbers import Integral

from ddr_tf.errors import UserError

LEAST = {"max_sequences": 2, "recognised_frames": 4}  # of other numbers 1
STANDARD_NUM_FRAMES = 8  # N for metrics without a number of frames in their names


@dataclasses.dataclass(frozen=True)
class Settings:
    """What an evaluation draws and measures. The defaults are those of all reported metrics.

    Raises UserError for numbers that are not possible.

    Attributes:
      num_seeds: Evaluation seeds, 0 to `num_seeds - 1`. Each draws its own pairs, frames and noise.
      frame_counts: The numbers N of frames that f is computed from. None: `STANDARD_NUM_FRAMES`, and where held-out
        sequences have too few frames for codes from so many, the first of `protocol.FEWER_FRAMES` that they suffice
        for. For N other than `STANDARD_NUM_FRAMES` the names
        of metrics end with `_with_N_frames`, and those of samples, of the frame classifier, DCI, MIG, the
        importance-weighted bound and what codes tell of poses are left out. What z tells of labels is measured for
        the first for which there are frames.
      faces: Whether frames show faces, so that their landmarks can be found.
      num_pairs: Pairs of sequences that are swapped.
      max_sequences: Held-out sequences whose codes are measured, at most.
      probe_iterations: Iterations of a probe's fit, at most.
      bound_sequences: Sequences of the importance-weighted bound.
      bound_samples: Samples of the codes of each of them.
      prior_sequences: Sequences whose p(z | f) is sampled.
      prior_samples: z ~ p(z | f) for each of them.
      samples: Samples of f and z from fitted densities, as many from p(f) and p(z | f), and as many reconstructions to
        compare them with.
      classifier_frames: Real frames that the frame classifier is trained on.
      classified_sequences: Sequences whose frames, generated and real, it sees.
      recognised_sequences: Sequences that swaps are recognised among, at most.
      recognised_frames: Real frames of each, half of them to fit on.
      landmark_pairs: Pairs, of those that are swapped, whose landmarks are compared.
    """

    num_seeds: int = 3
    frame_counts: tuple[int, ...] | None = None
    faces: bool = False
    num_pairs: int = 64
    max_sequences: int = 300
    probe_iterations: int = 200
    bound_sequences: int = 32
    bound_samples: int = 16
    prior_sequences: int = 16
    prior_samples: int = 64
    samples: int = 256
    classifier_frames: int = 5_000
    classified_sequences: int = 128
    recognised_sequences: int = 50
    recognised_frames: int = 32
    landmark_pairs: int = 16

    def __post_init__(self) -> None:
        frame_counts = (STANDARD_NUM_FRAMES,) if self.frame_counts is None else self.frame_counts
        if not isinstance(frame_counts, (tuple, list)) or not frame_counts:
            raise UserError(
                f"Settings.frame_counts must be one or more numbers of frames, as (8,) or (8, 2); got "
                f"{self.frame_counts!r}."
            )
        numbers = [(field.name, getattr(self, field.name)) for field in dataclasses.fields(self) if field.type is int]
        for name, number in [*numbers, *(("frame_counts", count) for count in frame_counts)]:
            least = LEAST.get(name, 1)
            if not isinstance(number, Integral) or isinstance(number, bool) or number < least:
                raise UserError(f"Settings.{name}: {number!r} is not a whole number of at least {least}.")
