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

from ddr_tf import metrics
from ddr_tf.data.sequences import HELD_OUT, Sequences
from ddr_tf.distributions import diagonal_normal
from ddr_tf.errors import UserError
from ddr_tf.model import DDR, as_float, relative_transfer

NUM_PAIRS = 64  # pairs of sequences a seed
NUM_FRAMES = 8  # frames of each
NUM_POSES = 2 * NUM_FRAMES  # frames of each sequence whose codes are probed, in two disjoint halves
MOST_SEQUENCES = 300  # whose codes are probed
MOST_VALUES = 20  # of a label that is probed
PRIOR_SEQUENCES, PRIOR_SAMPLES = 16, 64  # f, and z ~ p(z | f) for each
CHUNK = 32  # sequences that are encoded at once


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


def ssim(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al., 2004) of each frame: `[..., H, W, C]` in [0, 1] -> `[...]`, at most 1.

    Raises:
      UserError: If scikit-image is not installed.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise UserError(f"SSIM needs scikit-image ({error}); pip install -e '.[eval]'.") from error
    pairs = zip(frames.reshape(-1, *frames.shape[-3:]), truth.reshape(-1, *truth.shape[-3:]), strict=True)
    values = [structural_similarity(frame, true, data_range=1.0, channel_axis=-1) for frame, true in pairs]
    return np.reshape(values, frames.shape[:-3])


def best_of(measure: Callable[..., np.ndarray], frames: np.ndarray, truths: Sequence[np.ndarray]) -> float:
    """Mean over pairs of `psnr` or `ssim` to the best of several truths, one for all frames of a pair.

    Args:
      measure: Higher is better.
      frames: float `[P, N, H, W, C]`.
      truths: Each float `[P, N, H, W, C]`, at least one.
    """
    return float(np.max([measure(frames, truth).mean(axis=-1) for truth in truths], axis=0).mean())


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


def draw_frame_numbers(random: np.random.RandomState, sequences: Sequences, numbers: np.ndarray) -> np.ndarray:
    """`NUM_FRAMES` frames of each sequence int `[S]`, distinct where it has so many: int `[S, N]`."""
    counts = sequences.frame_counts[numbers]
    return np.stack([random.choice(count, NUM_FRAMES, replace=count < NUM_FRAMES) for count in counts])


def fetch(sequences: Sequences, numbers: np.ndarray, frame: np.ndarray) -> tf.Tensor:
    """Frames int `[S, N]` of sequences int `[S]`: uint8 `[S, N, H, W, C]`."""
    numbers = np.broadcast_to(numbers[:, None], frame.shape)
    return sequences.frames(tf.constant(numbers, tf.int32), tf.constant(frame, tf.int32))


class Codes(NamedTuple):
    """Codes of one draw of frames of held-out sequences, those with at least `NUM_POSES` frames.

    Attributes:
      sequence: int `[S]`, numbers of the sequences.
      frame: int `[S, 2, N]`, numbers of the frames, all different: two sets, each encoded by itself.
      pose: int `[S, 2, N]`, 0 to `NUM_POSES` - 1, alike where `shared_poses` makes the poses alike.
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


def draw_codes(model: DDR, sequences: Sequences, seed: int) -> Codes | None:
    """Encodes two disjoint sets of frames of every held-out sequence; None if too few have enough frames."""
    random = np.random.RandomState(seed)
    held_out = sequences.splits[HELD_OUT]
    held_out = held_out[sequences.frame_counts[held_out] >= NUM_POSES]
    if len(held_out) < metrics.FOLDS:
        return None
    held_out = np.sort(random.permutation(held_out)[:MOST_SEQUENCES])
    shared = random.choice(sequences.frame_counts[held_out].min(), NUM_POSES, replace=False)
    pose = np.stack([random.permutation(NUM_POSES) for _ in held_out])
    if sequences.shared_poses:
        frame = shared[pose]
    else:
        counts = sequences.frame_counts[held_out]
        frame = np.stack([random.choice(count, NUM_POSES, replace=False) for count in counts])
    frame, pose = (each.reshape(len(held_out), 2, NUM_FRAMES) for each in (frame, pose))
    static, dynamic, bounds, change = [], [], [], 0.0
    for start in range(0, len(held_out), CHUNK):
        chosen = frame[start : start + CHUNK].reshape(-1, NUM_FRAMES)  # a row for each set
        frames = fetch(sequences, np.repeat(held_out[start : start + CHUNK], 2), chosen)
        codes = model.encode(frames)
        static.append(codes["static_mean"].numpy())
        dynamic.append(codes["dynamic_mean"].numpy())
        permuted = model.encode(tf.gather(frames, random.permutation(NUM_FRAMES), axis=1))["static_mean"]
        change = max(change, float(tf.reduce_max(tf.abs(permuted - codes["static_mean"]))))
        noise = [
            tf.random.stateless_normal(tf.shape(mean), [seed, start + i])
            for i, mean in enumerate((codes["static_mean"], codes["dynamic_mean"]))
        ]
        bounds.append(model.figures_of_bound(frames, model.elbo_terms(frames, *noise)))
    shape = (len(held_out), 2)
    weights = [len(each) for each in static]
    return Codes(
        sequence=held_out,
        frame=frame,
        pose=pose,
        static=np.concatenate(static).reshape(*shape, -1),
        dynamic=np.concatenate(dynamic).reshape(*shape, NUM_FRAMES, -1),
        order_dependence=change,
        bound={name: float(np.average([each[name] for each in bounds], weights=weights)) for name in bounds[0]},
    )


def probed_labels(sequences: Sequences) -> dict[str, np.ndarray]:
    """The static labels with few values, all known: name -> int `[S]`."""
    labels = {name: np.asarray(values) for name, values in sequences.static_labels.items()}
    return {
        name: values
        for name, values in labels.items()
        if values.dtype.kind == "i" and values.min() >= 0 and 2 <= len(np.unique(values)) <= MOST_VALUES
    }


def figures_of_codes(codes: Codes, sequences: Sequences) -> dict[str, float]:
    """Figures that need no frames; see `metrics` for each.

    Returns:
      `static_consistency`, `order_dependence`, `active_units_*`, the bound and its parts; `probe_static_to_*` and
      `leakage_dynamic_to_*` of each of `probed_labels`; where poses are shared `dynamic_coherence`,
      `probe_dynamic_to_pose` and `leakage_static_to_pose`: which of 16 poses drawn at random a frame is in, or the
      first of the frames that f was computed from.
    """
    num_sequences = len(codes.sequence)
    dynamic = codes.dynamic.reshape(num_sequences, NUM_POSES, -1)
    found = {
        "elbo_nats_per_frame": codes.bound["elbo"],
        "reconstruction_excess_nats_per_frame": codes.bound["reconstruction_excess"],
        "kl_static_nats_per_frame": codes.bound["kl_static"],
        "kl_dynamic_nats_per_frame": codes.bound["kl_dynamic"],
        "active_units_static": metrics.active_units(codes.static[:, 0]),
        "active_units_dynamic": metrics.active_units(dynamic.reshape(-1, dynamic.shape[-1])),
        "static_consistency": metrics.consistency(codes.static),
        "order_dependence": codes.order_dependence,
    }
    statics, static_owner = codes.static.reshape(2 * num_sequences, -1), np.repeat(codes.sequence, 2)
    dynamics, dynamic_owner = dynamic.reshape(-1, dynamic.shape[-1]), np.repeat(codes.sequence, NUM_POSES)
    for name, labels in probed_labels(sequences).items():
        found[f"probe_static_to_{name}"] = metrics.probe(statics, labels[static_owner], static_owner)
        found[f"leakage_dynamic_to_{name}"] = metrics.probe(dynamics, labels[dynamic_owner], dynamic_owner)
    if sequences.shared_poses:
        by_pose = np.take_along_axis(dynamic, codes.pose.reshape(num_sequences, -1).argsort(axis=1)[..., None], axis=1)
        found["dynamic_coherence"] = metrics.consistency(by_pose.swapaxes(0, 1))
        found["probe_dynamic_to_pose"] = metrics.probe(dynamics, codes.pose.ravel(), dynamic_owner)
        found["leakage_static_to_pose"] = metrics.probe(statics, codes.pose[:, :, 0].ravel(), static_owner)
    return found


def prior_pose_coverage(model: DDR, sequences: Sequences, seed: int) -> float:
    """Coverage of the poses by the true frames that are nearest to decoded z ~ p(z | f), the f of held-out sequences.

    Args:
      model: A model.
      sequences: A dataset with `shared_poses`.
      seed: Of sequences, frames and z.
    """
    random = np.random.RandomState(seed)
    chosen = random.choice(sequences.splits[HELD_OUT], PRIOR_SEQUENCES)
    poses = np.arange(sequences.frame_counts.min())
    codes = model.encode(fetch(sequences, chosen, draw_frame_numbers(random, sequences, chosen)))
    prior = diagonal_normal(codes["prior_mean"], codes["prior_stddev"])
    dynamic = tf.transpose(prior.sample(PRIOR_SAMPLES, seed=[seed, 0]), [1, 0, 2])
    decoded = model.decode(codes["static_mean"], dynamic).numpy()
    found = []
    for number, images in zip(chosen, decoded, strict=True):
        truths = as_float(tf.constant(sequences.swap_truth(number, number, poses))).numpy()
        found += [nearest(image, truths) for image in images]
    return metrics.coverage(found, len(poses))


def draw_swaps(model: DDR, sequences: Sequences, seed: int) -> Swaps:
    """Pairs of different held-out sequences, with distinct frames of each; see `Swaps`."""
    random = np.random.RandomState(seed)
    held_out = sequences.splits[HELD_OUT]
    if len(held_out) < 2:
        raise UserError(f"Evaluation needs at least two held-out sequences; {sequences.name} has {len(held_out)}.")
    pairs = np.stack([random.choice(held_out, 2, replace=False) for _ in range(NUM_PAIRS)])
    a, b = pairs.T
    frame = draw_frame_numbers(random, sequences, b)
    frames_b = fetch(sequences, b, frame)
    codes_a = model.encode(fetch(sequences, a, draw_frame_numbers(random, sequences, a)))
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
    if not sequences.shared_poses:
        return {}
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
        add("reconstruction_ssim", ssim(swaps.reconstruction, swaps.source).mean())
        if (codes := draw_codes(model, sequences, seed)) is not None:
            for name, value in figures_of_codes(codes, sequences).items():
                add(name, value)
        if sequences.shared_poses:
            add("prior_pose_coverage", prior_pose_coverage(model, sequences, seed))
        if not swaps.truths:
            continue
        for name, measure in (("psnr", psnr), ("ssim", ssim)):
            add(f"nothing_swapped_{name}", best_of(measure, swaps.source, swaps.truths))
        for transfer, swapped in swaps.swapped.items():
            prefix = "swap" if transfer == "direct" else f"swap_{transfer}"
            add(f"{prefix}_psnr", best_of(psnr, swapped, swaps.truths))
            add(f"{prefix}_ssim", best_of(ssim, swapped, swaps.truths))
            if sequences.shared_poses:
                for name, accuracy in swap_accuracies(sequences, swaps, swapped).items():
                    add(f"{prefix}_{name}_accuracy", accuracy)
    levels = {f"swap_{name}_accuracy": (chance, 1.0) for name, chance in chance_of_accuracies(sequences).items()}
    for name in ("psnr", "ssim"):
        if unchanged := values.pop(f"nothing_swapped_{name}", None):
            levels[f"swap_{name}"] = (float(np.mean(unchanged)), None if name == "psnr" else 1.0)
    levels |= {"static_consistency": (0.0, 1.0), "dynamic_coherence": (0.0, 1.0), "reconstruction_ssim": (None, 1.0)}
    levels |= {"order_dependence": (None, 0.0), "prior_pose_coverage": (0.0, 1.0)}
    levels["reconstruction_excess_nats_per_frame"] = (None, 0.0)
    levels |= {"active_units_static": (0.0, model.static_dim), "active_units_dynamic": (0.0, model.dynamic_dim)}

    def figure(name: str, drawn: list[float]) -> Figure:
        error = float(np.std(drawn, ddof=1) / np.sqrt(len(drawn))) if len(drawn) > 1 else 0.0
        plain = name.replace("_relative", "").replace("_conditioned", "")
        probed = (0.0, 1.0) if name.startswith(("probe_", "leakage_")) else (None, None)
        return Figure(float(np.mean(drawn)), error, *levels.get(plain, probed))

    return {name: figure(name, drawn) for name, drawn in values.items()}
