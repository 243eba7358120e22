"""Figures of a trained model on held-out sequences, each with its standard error, chance level and ceiling.

Everything is computed from posterior means, so for one seed (which draws the sequences and frames) it is deterministic.
A swap is z_i of a sequence B decoded with f of another, A. Where the dataset knows the true frame (identity of A in
the pose of B), the swap is compared with it, so no judge is needed. z reaches A in three ways, each reported:

    direct       z_i from q(z | x_B, f_B), as it is; the one to compare with other systems
    relative     moved from its place under p(z | f_B) to the same place under p(z | f_A)
    conditioned  z_i from q(z | x_B, f_A)
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ddr_tf.data.sequences import HELD_OUT, Sequences
from ddr_tf.distributions import diagonal_normal
from ddr_tf.model import DDR, as_float, relative_transfer

NUM_PAIRS = 64  # pairs of sequences a seed
NUM_FRAMES = 8  # frames of each


class Figure(NamedTuple):
    """A figure as it is reported.

    Attributes:
      value: Mean over seeds.
      standard_error: Of that mean, from the spread over seeds.
      chance: What a model that knows nothing of what is measured gets, or None where there is no such level.
      ceiling: What a perfect model gets, or None where there is no limit.
    """

    value: float
    standard_error: float
    chance: float | None
    ceiling: float | None


def psnr(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of each frame: `[..., H, W, C]` in [0, 1] -> `[...]`."""
    error = np.mean(np.square(np.asarray(frames, np.float64) - truth), axis=(-3, -2, -1))
    return -10 * np.log10(np.maximum(error, 1e-12))


def best_psnr(frames: np.ndarray, truths: Sequence[np.ndarray]) -> float:
    """Mean over pairs of the PSNR in dB to the nearest of several truths, one for all frames of a pair.

    Args:
      frames: float `[P, N, H, W, C]`.
      truths: Each float `[P, N, H, W, C]`, at least one.
    """
    return float(np.max([psnr(frames, truth).mean(axis=-1) for truth in truths], axis=0).mean())


class Swaps(NamedTuple):
    """One draw of pairs of held-out sequences, and what a model makes of them.

    Attributes:
      static_sequence, dynamic_sequence: int `[P]`, the numbers of A and B.
      frame: int `[P, N]`, the numbers of the frames of B.
      truths: Each float32 `[P, N, H, W, C]`, A in the poses of B; see `Sequences.swap_truths`.
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


def draw_swaps(model: DDR, sequences: Sequences, seed: int) -> Swaps:
    """Pairs of different held-out sequences, with distinct frames of each; see `Swaps`."""
    random = np.random.RandomState(seed)
    held_out = sequences.splits[HELD_OUT]
    pairs = np.stack([random.choice(held_out, 2, replace=False) for _ in range(NUM_PAIRS)])
    a, b = np.broadcast_to(pairs[:, :, None], (NUM_PAIRS, 2, NUM_FRAMES)).transpose(1, 0, 2)

    def draw(sequence: np.ndarray) -> np.ndarray:
        counts = sequences.frame_counts[sequence[:, 0]]
        return np.stack([random.choice(count, NUM_FRAMES, replace=count < NUM_FRAMES) for count in counts])

    def fetch(sequence: np.ndarray, frame: np.ndarray) -> tf.Tensor:
        return sequences.frames(tf.constant(sequence, tf.int32), tf.constant(frame, tf.int32))

    frame = draw(b)
    frames_b = fetch(b, frame)
    codes_a, codes_b = model.encode(fetch(a, draw(a))), model.encode(frames_b)
    static_a, dynamic_b = codes_a["static_mean"], codes_b["dynamic_mean"]
    prior_a, prior_b = (
        diagonal_normal(codes["prior_mean"][:, None], codes["prior_stddev"][:, None]) for codes in (codes_a, codes_b)
    )
    dynamic = {
        "direct": dynamic_b,
        "relative": relative_transfer(dynamic_b, source=prior_b, target=prior_a),
        "conditioned": model.dynamic_posterior(model.features(frames_b), static_a).mean(),
    }
    return Swaps(
        static_sequence=a[:, 0],
        dynamic_sequence=b[:, 0],
        frame=frame,
        truths=[as_float(tf.constant(truth)).numpy() for truth in sequences.swap_truths(a, b, frame)],
        source=as_float(frames_b).numpy(),
        reconstruction=model.decode(codes_b["static_mean"], dynamic_b).numpy(),
        swapped={name: model.decode(static_a, z).numpy() for name, z in dynamic.items()},
    )


def nearest(frame: np.ndarray, candidates: np.ndarray) -> int:
    """Number of the candidate `[S, H, W, C]` that is nearest to the frame `[H, W, C]` in squared error."""
    flat = candidates.reshape(len(candidates), -1)
    return int(np.argmin(np.einsum("sd,sd->s", flat, flat) - 2 * flat @ frame.ravel()))


def swap_accuracies(sequences: Sequences, swaps: Swaps, swapped: np.ndarray) -> dict[str, float]:
    """What a swap looks like most, among the true frames of all identities in that pose, and of A in all poses.

    One frame of each pair is judged. A pose counts as right if its true frame is pixel-identical to the right one.

    Args:
      sequences: A dataset with `static_labels` and `shared_poses`.
      swaps: The draw.
      swapped: float32 `[P, N, H, W, C]`, one of `swaps.swapped`.

    Returns:
      Fractions: `identity`, `pose`, and one for each static label.
    """
    identities, poses = np.arange(sequences.num_sequences), np.arange(sequences.frame_counts.min())
    right: dict[str, list[bool]] = {name: [] for name in ("identity", "pose", *sequences.static_labels)}
    for a, b, frame, image in zip(
        swaps.static_sequence, swaps.dynamic_sequence, swaps.frame[:, 0], swapped[:, 0], strict=True
    ):
        same_pose = as_float(tf.constant(sequences.swap_truth(identities, b, frame))).numpy()
        found = nearest(image, same_pose)
        right["identity"].append(found == a)
        for name, labels in sequences.static_labels.items():
            right[name].append(labels[found] == labels[a])
        same_identity = as_float(tf.constant(sequences.swap_truth(a, b, poses))).numpy()
        found = nearest(image, same_identity)
        right["pose"].append(np.array_equal(same_identity[found], same_identity[frame]))
    return {name: float(np.mean(values)) for name, values in right.items()}


def chance_of_accuracies(sequences: Sequences) -> dict[str, float]:
    """Expected `swap_accuracies` of a guess drawn uniformly: one over the number of values."""
    counts = {name: len(np.unique(labels)) for name, labels in sequences.static_labels.items()}
    counts |= {"identity": sequences.num_sequences, "pose": int(sequences.frame_counts.min())}
    return {name: 1 / count for name, count in counts.items()}


def evaluate(
    model: DDR, sequences: Sequences, seeds: Sequence[int] = (0, 1, 2), progress: Callable[[str], None] = lambda _: None
) -> dict[str, Figure]:
    """The figures of swaps and reconstructions, on held-out sequences.

    Args:
      model: A trained model.
      sequences: A dataset; the figures of swaps need the true frames, and accuracies need `shared_poses`.
      seeds: Each draws its own pairs and frames.
      progress: Called with a line about each seed.

    Returns:
      name -> figure. PSNRs in dB, accuracies as fractions; of `swap_psnr` the chance level is that of frames of B as
      they are.
    """
    values: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        values.setdefault(name, []).append(float(value))

    for seed in seeds:
        progress(f"seed {seed}: {NUM_PAIRS} pairs of {NUM_FRAMES} frames")
        swaps = draw_swaps(model, sequences, seed)
        add("reconstruction_psnr", psnr(swaps.reconstruction, swaps.source).mean())
        if not swaps.truths:
            continue
        add("nothing_swapped_psnr", best_psnr(swaps.source, swaps.truths))
        for transfer, swapped in swaps.swapped.items():
            prefix = "swap" if transfer == "direct" else f"swap_{transfer}"
            add(f"{prefix}_psnr", best_psnr(swapped, swaps.truths))
            if sequences.shared_poses:
                for name, accuracy in swap_accuracies(sequences, swaps, swapped).items():
                    add(f"{prefix}_{name}_accuracy", accuracy)
    unchanged = float(np.mean(values.pop("nothing_swapped_psnr"))) if "nothing_swapped_psnr" in values else None
    chances = chance_of_accuracies(sequences) if sequences.shared_poses else {}

    def figure(name: str, drawn: list[float]) -> Figure:
        error = float(np.std(drawn, ddof=1) / np.sqrt(len(drawn))) if len(drawn) > 1 else 0.0
        if name.endswith("_psnr"):
            return Figure(float(np.mean(drawn)), error, unchanged if name.startswith("swap") else None, None)
        measured = name.removesuffix("_accuracy").split("_")[-1]
        return Figure(float(np.mean(drawn)), error, chances[measured], 1.0)

    return {name: figure(name, drawn) for name, drawn in values.items()}
