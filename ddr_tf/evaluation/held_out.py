"""What metrics are computed from: held-out sequences and frames that a seed draws, and what a model makes of them.

f is computed from N frames of a sequence, z of each of them; all are posterior means. A swap is z_i of a sequence B
decoded with f of another sequence A. z is transferred in three ways:

    direct       z_i from q(z | x_B, f_B), as it is; the one to compare with other systems
    relative     moved from its place under p(z | f_B) to the same place under p(z | f_A)
    conditioned  z_i from q(z | x_B, f_A)

As people have clips and not frames drawn at random, there are also swaps with f of A from N consecutive frames, and z
as in the last of these transfers that the model knows: `neighbours`.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ddr_tf.data.sequence_dataset import HELD_OUT, SequenceDataset, checked_frames
from ddr_tf.errors import UserError
from ddr_tf.evaluation.interfaces import Autoencoder, DensityModel
from ddr_tf.model.ddr import as_float, relative_transfer
from ddr_tf.model.densities import diagonal_normal

NEIGHBOURS = "neighbours"  # in place of a transfer
FRAMES_AT_ONCE = 128  # that are encoded or decoded; memory grows with them
SHOWN_FRAMES = 8  # of a pair that are swapped, at most; in random order, so those of more would say little more

# Codes of A and B, and the frames of B -> transfer -> z, float32 [P, N, Z].
Transfers = Callable[[dict[str, tf.Tensor], dict[str, tf.Tensor], tf.Tensor], dict[str, tf.Tensor]]


def draw_frame_numbers(
    random: np.random.RandomState, sequences: SequenceDataset, numbers: np.ndarray, num_frames: int
) -> np.ndarray:
    """N frames of each sequence int `[S]`, distinct where it has so many: int `[S, N]`."""
    counts = sequences.frame_counts[numbers]
    return np.stack([random.choice(count, num_frames, replace=count < num_frames) for count in counts])


def draw_neighbours(
    random: np.random.RandomState, sequences: SequenceDataset, numbers: np.ndarray, num_frames: int
) -> np.ndarray:
    """N consecutive frames of each sequence int `[S]`, all of them in turn where it has fewer: int `[S, N]`."""
    counts = sequences.frame_counts[numbers]
    starts = [random.randint(max(count - num_frames, 0) + 1) for count in counts]
    return (np.array(starts)[:, None] + np.arange(num_frames)) % counts[:, None]


def _draw_pairs(
    random: np.random.RandomState, sequences: SequenceDataset, num_pairs: int, num_frames: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs A, B of different held-out sequences, int `[P]`, and frames of B, int `[P, N]`.

    Where some sequences lack some poses, only pairs with some in common are drawn, and frames in those; but where no
    pair has any, as if no poses were known.
    """
    held_out = sequences.splits[HELD_OUT]
    if sequences.pose_numbers is not None and not sequences.shared_poses:
        common = {(a, b): _common_frames(sequences, a, b) for a in held_out for b in held_out if a != b}
        if pairs := [pair for pair, frames in common.items() if frames.size]:
            a, b = np.array(pairs)[random.choice(len(pairs), num_pairs)].T
            drawn = [common[pair] for pair in zip(a, b, strict=True)]
            return (
                a,
                b,
                np.stack([random.choice(numbers, num_frames, replace=numbers.size < num_frames) for numbers in drawn]),
            )
    a, b = np.stack([random.choice(held_out, 2, replace=False) for _ in range(num_pairs)]).T
    return a, b, draw_frame_numbers(random, sequences, b, num_frames)


def _common_frames(sequences: SequenceDataset, a: int, b: int) -> np.ndarray:
    """Numbers of the frames of B in whose poses A has a frame, too."""
    return np.flatnonzero(sequences.swap_frames(a, b, np.arange(sequences.frame_counts[b])) >= 0)


def fetch(sequences: SequenceDataset, numbers: np.ndarray, frame: np.ndarray) -> tf.Tensor:
    """Frames int `[S, N]` of sequences int `[S]`: uint8 `[S, N, H, W, C]`."""
    numbers = np.broadcast_to(numbers[:, None], frame.shape)
    return checked_frames(sequences, tf.constant(numbers, tf.int32), tf.constant(frame, tf.int32))


def in_parts(function: Callable[..., Any], *inputs: tf.Tensor) -> Any:
    """What a function makes of B sequences, `FRAMES_AT_ONCE` frames at a time.

    Args:
      function: Of tensors `[B', ..]`, such as a model's `encode` or `decode`; each row of its results depends on the
        same row of its arguments alone.
      *inputs: Each `[B, ..]`, the last one `[B, N, ..]`.

    Returns:
      As the function, with arrays `[B, ..]` in place of tensors.
    """
    step = max(1, FRAMES_AT_ONCE // inputs[-1].shape[1])
    starts = range(0, len(inputs[0]), step)
    parts = [function(*(values[start : start + step] for values in inputs)) for start in starts]
    return tf.nest.map_structure(lambda *values: np.concatenate(values), *parts)


class Codes(NamedTuple):
    """Codes of two disjoint sets of N frames of each of S held-out sequences.

    Attributes:
      sequence: int `[S]`, numbers of the sequences.
      frame: int `[S, 2, N]`, numbers of the frames, all different: two sets, each encoded by itself.
      pose: int `[S, 2, N]`, 0 to 2 N - 1, equal where `shared_poses` makes the poses equal.
      static: float32 `[S, 2, F]`, the mean of f from each set.
      dynamic: float32 `[S, 2, N, Z]`, the mean of z of each frame.
      order_dependence: Largest change of `static` when the frames of a set are permuted, of the first sequences.
    """

    sequence: np.ndarray
    frame: np.ndarray
    pose: np.ndarray
    static: np.ndarray
    dynamic: np.ndarray
    order_dependence: float


def _draw_disjoint_frames(
    random: np.random.RandomState, sequences: SequenceDataset, num_frames: int, max_sequences: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """`sequence`, `frame` and `pose` of `Codes`; None if not even two held-out sequences have 2 N frames."""
    num_poses = 2 * num_frames
    held_out = sequences.splits[HELD_OUT]
    held_out = held_out[sequences.frame_counts[held_out] >= num_poses]
    if len(held_out) < 2:
        return None
    held_out = np.sort(random.permutation(held_out)[:max_sequences])
    counts = sequences.frame_counts[held_out]
    shared = random.choice(counts.min(), num_poses, replace=False)
    pose = np.stack([random.permutation(num_poses) for _ in held_out])
    if sequences.shared_poses:
        frame = shared[pose]
    else:
        frame = np.stack([random.choice(count, num_poses, replace=False) for count in counts])
    shape = (len(held_out), 2, num_frames)
    return held_out, frame.reshape(shape), pose.reshape(shape)


def frame_sets(sequences: SequenceDataset, sequence: np.ndarray, frame: np.ndarray) -> Iterator[tuple[int, tf.Tensor]]:
    """Sets of frames int `[S, M, N]` of sequences int `[S]`, some sequences at a time.

    Yields:
      The place of the first sequence in `sequence`, and uint8 `[S' M, N, H, W, C]`, all sets of each sequence.
    """
    _, num_sets, num_frames = frame.shape
    step = max(1, FRAMES_AT_ONCE // (num_sets * num_frames))
    for start in range(0, len(sequence), step):
        chosen = slice(start, start + step)
        yield start, fetch(sequences, np.repeat(sequence[chosen], num_sets), frame[chosen].reshape(-1, num_frames))


def draw_codes(
    model: Autoencoder, sequences: SequenceDataset, seed: int, num_frames: int, max_sequences: int
) -> Codes | None:
    """Encodes two disjoint sets of frames of held-out sequences.

    Args:
      model: Encodes.
      sequences: A dataset.
      seed: Draws sequences and frames.
      num_frames: N. Only sequences with at least 2 N frames are drawn.
      max_sequences: S, at most.

    Returns:
      None if fewer than two sequences have enough frames.
    """
    random = np.random.RandomState(seed)
    drawn = _draw_disjoint_frames(random, sequences, num_frames, max_sequences)
    if drawn is None:
        return None
    sequence, frame, pose = drawn
    static, dynamic, change = [], [], 0.0
    for start, frames in frame_sets(sequences, sequence, frame):
        codes = model.encode(frames)
        static.append(np.asarray(codes["static_mean"]))
        dynamic.append(np.asarray(codes["dynamic_mean"]))
        if start == 0:
            permuted = model.encode(tf.gather(frames, random.permutation(num_frames), axis=1))
            change = float(np.abs(permuted["static_mean"] - static[0]).max())
    return Codes(
        sequence=sequence,
        frame=frame,
        pose=pose,
        static=np.concatenate(static).reshape(len(sequence), 2, -1),
        dynamic=np.concatenate(dynamic).reshape(len(sequence), 2, num_frames, -1),
        order_dependence=change,
    )


class Swaps(NamedTuple):
    """One draw of pairs of held-out sequences, and what a model makes of them.

    N is here that of the frames of B that are shown, `SHOWN_FRAMES` at most.

    Attributes:
      static_sequence, dynamic_sequence: int `[P]`, the numbers of A and B.
      frame: int `[P, N]`, the numbers of the frames of B.
      truths: Each float32 `[P, N, H, W, C]`, A in the poses of B; see `SequenceDataset.swap_truths`.
      source: float32 `[P, N, H, W, C]`, the frames of B.
      reconstruction: float32 `[P, N, H, W, C]`, of the frames of B.
      other_dynamic: float32 `[P, N, H, W, C]`, the same, each with z of the next of them.
      swapped: transfer, or `NEIGHBOURS` -> float32 `[P, N, H, W, C]`.
    """

    static_sequence: np.ndarray
    dynamic_sequence: np.ndarray
    frame: np.ndarray
    truths: list[np.ndarray]
    source: np.ndarray
    reconstruction: np.ndarray
    other_dynamic: np.ndarray
    swapped: dict[str, np.ndarray]


def direct_transfer(
    codes_a: dict[str, tf.Tensor], codes_b: dict[str, tf.Tensor], frames_b: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Z of B as it is: the transfer that needs no density."""
    del codes_a, frames_b
    return {"direct": codes_b["dynamic_mean"]}


def density_transfers(model: DensityModel) -> Transfers:
    """All three transfers."""

    def conditioned(static: tf.Tensor, frames: tf.Tensor) -> tf.Tensor:
        return model.dynamic_posterior(model.features(frames), static).mean()

    def transfers(
        codes_a: dict[str, tf.Tensor], codes_b: dict[str, tf.Tensor], frames_b: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        prior_a, prior_b = (
            diagonal_normal(codes["prior_mean"][:, None], codes["prior_stddev"][:, None])
            for codes in (codes_a, codes_b)
        )
        return {
            **direct_transfer(codes_a, codes_b, frames_b),
            "relative": relative_transfer(codes_b["dynamic_mean"], source=prior_b, target=prior_a),
            "conditioned": in_parts(conditioned, codes_a["static_mean"], frames_b),
        }

    return transfers


def draw_swaps(
    model: Autoencoder, sequences: SequenceDataset, seed: int, num_frames: int, num_pairs: int, transfers: Transfers
) -> Swaps:
    """Swaps pairs of different held-out sequences, with distinct frames of each.

    Args:
      model: Encodes and decodes.
      sequences: A dataset.
      seed: Draws pairs and frames.
      num_frames: N.
      num_pairs: P.
      transfers: How z reaches A.

    Raises:
      UserError: If there are fewer than two held-out sequences.
    """
    random = np.random.RandomState(seed)
    held_out = sequences.splits[HELD_OUT]
    if len(held_out) < 2:
        raise UserError(
            f"Evaluation needs at least two held-out sequences, to swap between; {sequences.name} has {len(held_out)}. "
            "A larger held_out_fraction, in training, holds out more."
        )
    a, b, frame = _draw_pairs(random, sequences, num_pairs, num_frames)
    frames_b = fetch(sequences, b, frame)
    codes_a = in_parts(model.encode, fetch(sequences, a, draw_frame_numbers(random, sequences, a, num_frames)))
    codes_b = in_parts(model.encode, frames_b)
    frame, frames_b = frame[:, :SHOWN_FRAMES], frames_b[:, :SHOWN_FRAMES]
    codes_b = {**codes_b, "dynamic_mean": codes_b["dynamic_mean"][:, :SHOWN_FRAMES]}
    swapped = {
        name: in_parts(model.decode, codes_a["static_mean"], dynamic)
        for name, dynamic in transfers(codes_a, codes_b, frames_b).items()
    }
    neighbours = in_parts(model.encode, fetch(sequences, a, draw_neighbours(random, sequences, a, num_frames)))
    *_, dynamic = transfers(neighbours, codes_b, frames_b).values()
    swapped[NEIGHBOURS] = in_parts(model.decode, neighbours["static_mean"], dynamic)
    truths = sequences.swap_truths(*(np.broadcast_to(owner[:, None], frame.shape) for owner in (a, b)), frame)
    return Swaps(
        static_sequence=a,
        dynamic_sequence=b,
        frame=frame,
        truths=[as_float(tf.constant(truth)).numpy() for truth in truths],
        source=as_float(frames_b).numpy(),
        reconstruction=in_parts(model.decode, codes_b["static_mean"], codes_b["dynamic_mean"]),
        other_dynamic=in_parts(model.decode, codes_b["static_mean"], np.roll(codes_b["dynamic_mean"], -1, axis=1)),
        swapped=swapped,
    )


def transfer_prefix(transfer: str) -> str:
    """How the names of metrics of this transfer begin; the plain name is that of the one to compare with others."""
    return "swap" if transfer == "direct" else f"swap_{transfer}"
