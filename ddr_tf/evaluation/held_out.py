"""What figures are computed from: held-out sequences and frames drawn by a seed, and what a model makes of them.

f is computed from N frames of a sequence, z of each of them; all are posterior means. A swap is z_i of a sequence B
decoded with f of another, A. z reaches A in three ways:

    direct       z_i from q(z | x_B, f_B), as it is; the one to compare with other systems
    relative     moved from its place under p(z | f_B) to the same place under p(z | f_A)
    conditioned  z_i from q(z | x_B, f_A)
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ddr_tf.data.sequence_dataset import HELD_OUT, SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR, as_float, relative_transfer
from ddr_tf.model.densities import diagonal_normal

NUM_PAIRS = 64  # pairs of sequences that are swapped
MAX_SEQUENCES = 300  # whose codes are drawn
CHUNK = 512  # frames that are encoded at once


def draw_frame_numbers(
    random: np.random.RandomState, sequences: SequenceDataset, numbers: np.ndarray, num_frames: int
) -> np.ndarray:
    """N frames of each sequence int `[S]`, distinct where it has so many: int `[S, N]`."""
    counts = sequences.frame_counts[numbers]
    return np.stack([random.choice(count, num_frames, replace=count < num_frames) for count in counts])


def fetch(sequences: SequenceDataset, numbers: np.ndarray, frame: np.ndarray) -> tf.Tensor:
    """Frames int `[S, N]` of sequences int `[S]`: uint8 `[S, N, H, W, C]`."""
    numbers = np.broadcast_to(numbers[:, None], frame.shape)
    return sequences.frames(tf.constant(numbers, tf.int32), tf.constant(frame, tf.int32))


class Codes(NamedTuple):
    """Codes of one draw of frames of held-out sequences, those with at least 2 N frames.

    Attributes:
      sequence: int `[S]`, numbers of the sequences.
      frame: int `[S, 2, N]`, numbers of the frames, all different: two sets, each encoded by itself.
      pose: int `[S, 2, N]`, 0 to 2 N - 1, alike where `shared_poses` makes the poses alike.
      static: float32 `[S, 2, F]`, the mean of f from each set.
      dynamic: float32 `[S, 2, N, Z]`, the mean of z of each frame.
      order_dependence: Largest change of `static` when the frames of a set are permuted.
      bound: "elbo" and its parts, nats a frame, one sample.
    """

    sequence: np.ndarray
    frame: np.ndarray
    pose: np.ndarray
    static: np.ndarray
    dynamic: np.ndarray
    order_dependence: float
    bound: dict[str, float]


def draw_codes(model: DDR, sequences: SequenceDataset, seed: int, num_frames: int) -> Codes | None:
    """Encodes two disjoint sets of frames of every held-out sequence; None if not even two have enough frames."""
    random = np.random.RandomState(seed)
    num_poses = 2 * num_frames
    held_out = sequences.splits[HELD_OUT]
    held_out = held_out[sequences.frame_counts[held_out] >= num_poses]
    if len(held_out) < 2:
        return None
    held_out = np.sort(random.permutation(held_out)[:MAX_SEQUENCES])
    shared = random.choice(sequences.frame_counts[held_out].min(), num_poses, replace=False)
    pose = np.stack([random.permutation(num_poses) for _ in held_out])
    if sequences.shared_poses:
        frame = shared[pose]
    else:
        counts = sequences.frame_counts[held_out]
        frame = np.stack([random.choice(count, num_poses, replace=False) for count in counts])
    frame, pose = (each.reshape(len(held_out), 2, num_frames) for each in (frame, pose))
    static, dynamic, bounds, change = [], [], [], 0.0
    size = max(1, CHUNK // num_poses)
    for start in range(0, len(held_out), size):
        chosen = frame[start : start + size].reshape(-1, num_frames)  # a row for each set
        frames = fetch(sequences, np.repeat(held_out[start : start + size], 2), chosen)
        codes = model.encode(frames)
        static.append(codes["static_mean"].numpy())
        dynamic.append(codes["dynamic_mean"].numpy())
        permuted = model.encode(tf.gather(frames, random.permutation(num_frames), axis=1))["static_mean"]
        change = max(change, float(tf.reduce_max(tf.abs(permuted - codes["static_mean"]))))
        noise = [
            tf.random.stateless_normal(tf.shape(mean), [seed, start + i])
            for i, mean in enumerate((codes["static_mean"], codes["dynamic_mean"]))
        ]
        bounds.append(model.bound_metrics(frames, model.elbo_terms(frames, *noise)))
    shape = (len(held_out), 2)
    weights = [len(each) for each in static]
    return Codes(
        sequence=held_out,
        frame=frame,
        pose=pose,
        static=np.concatenate(static).reshape(*shape, -1),
        dynamic=np.concatenate(dynamic).reshape(*shape, num_frames, -1),
        order_dependence=change,
        bound={name: float(np.average([each[name] for each in bounds], weights=weights)) for name in bounds[0]},
    )


class Swaps(NamedTuple):
    """One draw of pairs of held-out sequences, and what a model makes of them.

    Attributes:
      static_sequence, dynamic_sequence: int `[P]`, the numbers of A and B.
      frame: int `[P, N]`, the numbers of the frames of B.
      truths: Each float32 `[P, N, H, W, C]`, A in the poses of B; see `SequenceDataset.swap_truths`.
      source: float32 `[P, N, H, W, C]`, the frames of B.
      reconstruction: float32 `[P, N, H, W, C]`, of the frames of B.
      swapped: transfer -> float32 `[P, N, H, W, C]`.
    """

    static_sequence: np.ndarray
    dynamic_sequence: np.ndarray
    frame: np.ndarray
    truths: list[np.ndarray]
    source: np.ndarray
    reconstruction: np.ndarray
    swapped: dict[str, np.ndarray]


def draw_swaps(model: DDR, sequences: SequenceDataset, seed: int, num_frames: int) -> Swaps:
    """Pairs of different held-out sequences, with distinct frames of each; see `Swaps`."""
    random = np.random.RandomState(seed)
    held_out = sequences.splits[HELD_OUT]
    if len(held_out) < 2:
        raise UserError(f"Evaluation needs at least two held-out sequences; {sequences.name} has {len(held_out)}.")
    pairs = np.stack([random.choice(held_out, 2, replace=False) for _ in range(NUM_PAIRS)])
    a, b = pairs.T
    frame = draw_frame_numbers(random, sequences, b, num_frames)
    frames_b = fetch(sequences, b, frame)
    codes_a = model.encode(fetch(sequences, a, draw_frame_numbers(random, sequences, a, num_frames)))
    codes_b = model.encode(frames_b)
    static_a, dynamic_b = codes_a["static_mean"], codes_b["dynamic_mean"]
    prior_a, prior_b = (
        diagonal_normal(codes["prior_mean"][:, None], codes["prior_stddev"][:, None]) for codes in (codes_a, codes_b)
    )
    dynamic = {
        "direct": dynamic_b,
        "relative": relative_transfer(dynamic_b, source=prior_b, target=prior_a),
        "conditioned": model.dynamic_posterior(model.features(frames_b), static_a).mean(),
    }
    truths = sequences.swap_truths(*(np.broadcast_to(each[:, None], frame.shape) for each in (a, b)), frame)
    return Swaps(
        static_sequence=a,
        dynamic_sequence=b,
        frame=frame,
        truths=[as_float(tf.constant(truth)).numpy() for truth in truths],
        source=as_float(frames_b).numpy(),
        reconstruction=model.decode(codes_b["static_mean"], dynamic_b).numpy(),
        swapped={name: model.decode(static_a, z).numpy() for name, z in dynamic.items()},
    )


def transfer_prefix(transfer: str) -> str:
    """How the names of figures of this transfer begin; the plain name is that of the one to compare with others."""
    return "swap" if transfer == "direct" else f"swap_{transfer}"
