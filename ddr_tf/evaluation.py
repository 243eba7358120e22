"""Figures of a trained model on held-out sequences, each with its standard error, chance level and ceiling.

Everything but the bounds is computed from posterior means, and for one seed (which draws sequences, frames and noise)
it is deterministic. Where the dataset knows the true frame of a swap (identity of A in the pose of B), the swap is
compared with it, so no judge is needed. See `draws` for how swaps are made.
"""

import fnmatch
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ddr_tf import metrics, training
from ddr_tf.data.preparation import FaceDetector
from ddr_tf.data.sequences import HELD_OUT, Sequences
from ddr_tf.distributions import diagonal_normal
from ddr_tf.draws import Codes, Swaps, draw_codes, draw_frame_numbers, draw_swaps, fetch, transfer_prefix
from ddr_tf.elbo import bits_per_dim
from ddr_tf.errors import UserError
from ddr_tf.exported import ExportedModel
from ddr_tf.faces import landmark_figures, recognition
from ddr_tf.judge import Judge
from ddr_tf.metrics import Measured
from ddr_tf.model import DDR, as_float
from ddr_tf.serving import EXTRA, find_saved_model

NUM_FRAMES = 8  # N, of the figures without a number of frames in their names
PRIOR_SEQUENCES, PRIOR_SAMPLES = 16, 64  # f, and z ~ p(z | f) for each
JUDGED_SEQUENCES = 128  # whose frames, generated and real, the judge sees
BOUND_SEQUENCES, BOUND_SAMPLES = 32, 16  # of the importance-weighted bound


class Figure(NamedTuple):
    """A figure as it is reported.

    Attributes:
      value: Mean over seeds.
      standard_error: Of that mean, from the spread over seeds; None for what was measured once.
      chance, ceiling: As of `Measured`, means over seeds.
    """

    value: float
    standard_error: float | None = None
    chance: float | None = None
    ceiling: float | None = None


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


def figures_of_bound(codes: Codes, frame_shape: tuple[int, int, int]) -> dict[str, Measured]:
    """The bound and its parts, in nats a frame, and in bits a pixel and channel."""
    bound = codes.bound
    return {
        "elbo_nats_per_frame": Measured(bound["elbo"]),
        "bits_per_dim": Measured(bits_per_dim(bound["elbo"], frame_shape)),
        "reconstruction_excess_nats_per_frame": Measured(bound["reconstruction_excess"], ceiling=0.0),
        "kl_static_nats_per_frame": Measured(bound["kl_static"]),
        "kl_dynamic_nats_per_frame": Measured(bound["kl_dynamic"]),
    }


def importance_weighted_bound(model: DDR, sequences: Sequences, seed: int, num_frames: int) -> dict[str, Measured]:
    """`importance_weighted_bound_nats_per_frame`: log p(x_1..N) / N from `BOUND_SAMPLES` samples of (f, z_1..N).

    The log of the mean of exp `DDR.log_weights`; at one sample it would be the ELBO (Burda et al., 2016).
    """
    random = np.random.RandomState(seed)
    numbers = random.choice(sequences.splits[HELD_OUT], BOUND_SEQUENCES)
    frames = fetch(sequences, numbers, draw_frame_numbers(random, sequences, numbers, num_frames))
    shapes = ([len(numbers), model.static_dim], [len(numbers), num_frames, model.dynamic_dim])
    weights = [
        model.log_weights(
            frames, *(tf.random.stateless_normal(shape, [seed, 2 * k + i]) for i, shape in enumerate(shapes))
        )
        for k in range(BOUND_SAMPLES)
    ]
    bound = tf.reduce_logsumexp(tf.stack(weights), axis=0) - np.log(BOUND_SAMPLES)
    return {"importance_weighted_bound_nats_per_frame": Measured(float(tf.reduce_mean(bound)) / num_frames)}


def figures_of_codes(codes: Codes, sequences: Sequences) -> dict[str, Measured]:
    """Figures that need no frames; see `metrics` for each.

    Returns:
      `static_consistency`, `order_dependence`, `active_units_*`, `static_retrieval_accuracy`; for each label of
      sequences that is classes `probe_static_to_*` and `leakage_dynamic_to_*`; for each label of frames
      `probe_dynamic_to_*` and `leakage_static_to_*`, of classes or, as R^2, of numbers; where poses are shared
      `dynamic_coherence`, and the same two of "pose": which of 2 N poses drawn at random a frame is in. What f leaks is
      of the first of the frames that it was computed from.
    """
    num_sequences, _, num_frames, _ = codes.dynamic.shape
    dynamic = codes.dynamic.reshape(num_sequences, 2 * num_frames, -1)
    statics, static_owner = codes.static.reshape(2 * num_sequences, -1), np.repeat(codes.sequence, 2)
    dynamics, dynamic_owner = dynamic.reshape(-1, dynamic.shape[-1]), np.repeat(codes.sequence, 2 * num_frames)
    found = {
        "active_units_static": Measured(metrics.active_units(codes.static[:, 0]), 0.0, statics.shape[-1]),
        "active_units_dynamic": Measured(metrics.active_units(dynamics), 0.0, dynamics.shape[-1]),
        "static_consistency": Measured(metrics.consistency(codes.static), 0.0, 1.0),
        "static_retrieval_accuracy": Measured(metrics.retrieval(codes.static), 1 / num_sequences, 1.0),
        "order_dependence": Measured(codes.order_dependence, ceiling=0.0),
    }
    for name, labels in metrics.as_classes(sequences.static_labels).items():
        for kind, each, owner in (
            ("probe_static", statics, static_owner),
            ("leakage_dynamic", dynamics, dynamic_owner),
        ):
            found[f"{kind}_to_{name}"] = Measured(metrics.probe(each, labels[owner], owner), 0.0, 1.0)

    def of_frames(name: str, measure: Callable[..., float], labels: np.ndarray) -> None:
        """Labels `[S, 2, N]`, NaN where not known."""
        for kind, each, owner, values in (
            ("probe_dynamic", dynamics, dynamic_owner, labels.ravel()),
            ("leakage_static", statics, static_owner, labels[:, :, 0].ravel()),
        ):
            known = ~np.isnan(values)
            if len(np.unique(values[known])) > 1 and len(np.unique(owner[known])) >= metrics.FOLDS:
                value = measure(each[known], values[known], owner[known])
                found[f"{kind}_to_{name}"] = Measured(value, 0.0, 1.0)

    rows = sequences.rows(codes.sequence[:, None, None], codes.frame)
    for name, labels in metrics.as_classes(sequences.frame_labels).items():
        of_frames(name, metrics.probe, labels[rows])
    for name, labels in metrics.as_numbers(sequences.frame_labels).items():
        of_frames(name, metrics.explained, labels[rows])
    if sequences.shared_poses:
        by_pose = np.take_along_axis(dynamic, codes.pose.reshape(num_sequences, -1).argsort(axis=1)[..., None], axis=1)
        found["dynamic_coherence"] = Measured(metrics.consistency(by_pose.swapaxes(0, 1)), 0.0, 1.0)
        of_frames("pose", metrics.probe, codes.pose)
    return found


def figures_of_prior(model: DDR, sequences: Sequences, seed: int, num_frames: int) -> dict[str, Measured]:
    """What z ~ p(z | f) decodes to, beside the true frames of the identities, f being of held-out sequences.

    Args:
      model: A model.
      sequences: A dataset with `shared_poses`.
      seed: Of sequences, frames and z.
      num_frames: N.

    Returns:
      `prior_pose_coverage`: evenness of the poses that are nearest, see `metrics.coverage`; `prior_sample_psnr`: to the
      nearest, in dB.
    """
    random = np.random.RandomState(seed)
    chosen = random.choice(sequences.splits[HELD_OUT], PRIOR_SEQUENCES)
    poses = np.arange(sequences.frame_counts.min())
    codes = model.encode(fetch(sequences, chosen, draw_frame_numbers(random, sequences, chosen, num_frames)))
    prior = diagonal_normal(codes["prior_mean"], codes["prior_stddev"])
    dynamic = tf.transpose(prior.sample(PRIOR_SAMPLES, seed=[seed, 0]), [1, 0, 2])
    decoded = model.decode(codes["static_mean"], dynamic).numpy()
    found, distances = [], []
    for number, images in zip(chosen, decoded, strict=True):
        truths = as_float(tf.constant(sequences.swap_truth(number, number, poses))).numpy()
        found += [nearest(image, truths) for image in images]
        distances.append(psnr(images, truths[found[-len(images) :]]))
    return {
        "prior_pose_coverage": Measured(metrics.coverage(found, len(poses)), 0.0, 1.0),
        "prior_sample_psnr": Measured(float(np.mean(distances))),
    }


def figures_of_judge(judge: Judge, model: DDR, sequences: Sequences, seed: int, num_frames: int) -> dict[str, Measured]:
    """The field's judge protocol; see `judge` and `metrics.judged`.

    Returns:
      For each label of frames `judge_fixed_dynamic_*` and for each label of sequences `judge_fixed_static_*`, with
      `_accuracy`, `_entropy`, `_conditional_entropy` (nats) and `_inception_score`; `judge_real_*_accuracy` of each: on
      real held-out frames, the ceiling of the other accuracies. Their chance is the most frequent class's share.
    """
    random = np.random.RandomState(seed)
    numbers = random.choice(sequences.splits[HELD_OUT], JUDGED_SEQUENCES)
    chosen = draw_frame_numbers(random, sequences, numbers, num_frames)
    frames = fetch(sequences, numbers, chosen)
    codes = model.encode(frames)
    static, dynamic = codes["static_mean"], codes["dynamic_mean"]
    others = tf.random.stateless_normal(tf.shape(static), [seed, 0])
    unit = tf.random.stateless_normal(tf.shape(dynamic), [seed, 1])
    from_prior = codes["prior_mean"][:, None] + codes["prior_stddev"][:, None] * unit
    seen = {
        "real": judge(_merged(as_float(frames))),
        "fixed_dynamic": judge(_merged(model.decode(others, dynamic))),
        "fixed_static": judge(_merged(model.decode(static, from_prior))),
    }
    truth = judge.truth(np.repeat(numbers, num_frames), chosen.ravel())
    found = {}
    for kind, labels in (("fixed_dynamic", judge.frame_labels), ("fixed_static", judge.static_labels)):
        for label in labels:
            real, generated = (metrics.judged(seen[each][label], truth[label]) for each in ("real", kind))
            classes = seen[kind][label].shape[-1]
            chance = float(np.bincount(truth[label]).max() / len(truth[label]))
            found[f"judge_real_{label}_accuracy"] = Measured(real["accuracy"], chance, 1.0)
            levels = {
                "accuracy": (chance, real["accuracy"]),
                "entropy": (0.0, float(np.log(classes))),
                "conditional_entropy": (float(np.log(classes)), 0.0),
                "inception_score": (1.0, float(classes)),
            }
            for name, value in generated.items():
                found[f"judge_{kind}_{label}_{name}"] = Measured(value, *levels[name])
    return found


def _merged(frames: tf.Tensor) -> np.ndarray:
    """`[B, N, H, W, C]` -> `[B N, H, W, C]`."""
    frames = np.asarray(frames)
    return frames.reshape(-1, *frames.shape[2:])


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


def figures_of_swaps(sequences: Sequences, swaps: Swaps) -> dict[str, Measured]:
    """Reconstructions, and swaps where the true frames are known: `swap_*` for z as it is, and the other transfers.

    Returns:
      PSNRs in dB and SSIMs, whose chance level is that of the frames of B as they are; accuracies as fractions where
      poses are shared, see `swap_accuracies`.
    """
    found = {
        "reconstruction_psnr": Measured(psnr(swaps.reconstruction, swaps.source).mean()),
        "reconstruction_ssim": Measured(ssim(swaps.reconstruction, swaps.source).mean(), ceiling=1.0),
    }
    if not swaps.truths:
        return found
    unchanged = {measure: best_of(measure, swaps.source, swaps.truths) for measure in (psnr, ssim)}
    chance = chance_of_accuracies(sequences)
    for transfer, swapped in swaps.swapped.items():
        prefix = transfer_prefix(transfer)
        for measure, ceiling in ((psnr, None), (ssim, 1.0)):
            value = best_of(measure, swapped, swaps.truths)
            found[f"{prefix}_{measure.__name__}"] = Measured(value, unchanged[measure], ceiling)
        if sequences.shared_poses:
            for name, accuracy in swap_accuracies(sequences, swaps, swapped).items():
                found[f"{prefix}_{name}_accuracy"] = Measured(accuracy, chance[name], 1.0)
    return found


def evaluate(
    model: DDR | ExportedModel,
    sequences: Sequences,
    seeds: Sequence[int] = (0, 1, 2),
    frame_counts: Sequence[int] = (NUM_FRAMES,),
    faces: bool = False,
    progress: bool = False,
) -> dict[str, Figure]:
    """All figures that the dataset allows, on held-out sequences.

    Args:
      model: A trained model, `DDR` or `ExportedModel`.
      sequences: A dataset; figures of swaps need the true frames, and accuracies need `shared_poses`.
      seeds: Each draws its own pairs, frames and noise.
      frame_counts: The numbers N of frames that f is computed from. For N other than `NUM_FRAMES`, names of figures end
        with `_with_N_frames`, and the judge is left out.
      faces: Whether frames show faces, so that their landmarks can be found.
      progress: Whether to show a bar.

    Returns:
      name -> figure.
    """
    detector = FaceDetector() if faces else None
    judge = Judge(sequences, seed=0) if NUM_FRAMES in frame_counts else None
    values: dict[str, list[Measured]] = {}
    bar = tqdm([(count, seed) for count in frame_counts for seed in seeds], disable=not progress, unit="draw")
    for num_frames, seed in bar:
        bar.set_description(f"N = {num_frames}, seed {seed}")
        suffix = "" if num_frames == NUM_FRAMES else f"_with_{num_frames}_frames"
        for name, measured in measure(model, sequences, judge, detector, seed, num_frames).items():
            values.setdefault(name + suffix, []).append(measured)
    return {name: summary(drawn) for name, drawn in values.items()}


def measure(
    model: DDR, sequences: Sequences, judge: Judge | None, detector: FaceDetector | None, seed: int, num_frames: int
) -> dict[str, Measured]:
    """All figures of one seed; see `evaluate`."""
    found = {}
    codes = draw_codes(model, sequences, seed, num_frames)
    if codes is not None:
        found |= figures_of_bound(codes, model.frame_shape)
        found |= importance_weighted_bound(model, sequences, seed, num_frames)
        found |= figures_of_codes(codes, sequences)
    swaps = draw_swaps(model, sequences, seed, num_frames)
    found |= figures_of_swaps(sequences, swaps)
    if not swaps.truths:
        found |= recognition(sequences, swaps)
    if detector:
        found |= landmark_figures(detector, sequences, swaps, codes)
    if sequences.shared_poses:
        found |= figures_of_prior(model, sequences, seed, num_frames)
    if judge and judge.labels and num_frames == NUM_FRAMES:
        found |= figures_of_judge(judge, model, sequences, seed, num_frames)
    return found


def summary(drawn: Sequence[Measured]) -> Figure:
    """Mean and standard error over seeds."""
    values, chances, ceilings = zip(*drawn, strict=True)
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    levels = [None if each[0] is None else float(np.mean(each)) for each in (chances, ceilings)]
    return Figure(float(np.mean(values)), error, *levels)


def evaluate_run(
    run_dir: Path,
    data_dir: str | None,
    num_seeds: int,
    frame_counts: Sequence[int],
    faces: bool = False,
    progress: bool = False,
) -> dict[str, Figure]:
    """`evaluate` of a finished run, and what it cost; kept in its `evaluation.json`, and shown in TensorBoard.

    Raises:
      UserError: As `training.load_run`, or if the file cannot be written.
    """
    model, sequences = training.load_run(run_dir, data_dir)
    found = evaluate(model, sequences, range(num_seeds), frame_counts, faces, progress)
    found |= {name: Figure(value) for name, value in training.cost(run_dir, model).items()}
    write_figures(run_dir / "evaluation.json", found)
    step = json.loads((run_dir / "run.json").read_text())["step"]
    with tf.summary.create_file_writer(str(run_dir / "logs" / "evaluation")).as_default(step=step):
        for name, figure in found.items():
            tf.summary.scalar(f"evaluation/{name}", figure.value)
        tf.summary.text("evaluation", table({"": found}))
    return found


def evaluate_exported(
    saved_model: Path,
    data_dir: str | None,
    num_seeds: int,
    frame_counts: Sequence[int],
    faces: bool = False,
    progress: bool = False,
) -> dict[str, Figure]:
    """`evaluate` of an exported model by its signatures, on the dataset of its run; kept in its `assets.extra`.

    Args:
      saved_model: `saved_models/<name>` or one of its versions.
      data_dir: As of `training.load_sequences`; the others as of `evaluate`.

    Raises:
      UserError: If there is no such model, or as `training.load_sequences`.
    """
    version = find_saved_model(saved_model)
    sequences = training.load_sequences(version / EXTRA, data_dir)
    found = evaluate(ExportedModel(version), sequences, range(num_seeds), frame_counts, faces, progress)
    write_figures(version / EXTRA / "evaluation.json", found)
    return found


def write_figures(path: Path, figures: dict[str, Figure]) -> None:
    """Writes figures as JSON: name -> an object with `value`, `standard_error`, `chance`, `ceiling`."""
    try:
        path.write_text(json.dumps({name: figure._asdict() for name, figure in figures.items()}, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}).") from error


def read_figures(path: Path) -> dict[str, Figure]:
    """What `write_figures` wrote.

    Raises:
      UserError: If the file is something else.
    """
    try:
        return {name: Figure(**figure) for name, figure in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it, and the run is evaluated again.") from error


def table(runs: Mapping[str, Mapping[str, Figure]], patterns: Sequence[str] = ("*", "*_with_*")) -> str:
    """Figures of one or more runs as a Markdown table, a figure a line: value +- standard error, chance and ceiling.

    Args:
      runs: Name of a run -> its figures.
      patterns: Which figures, in this order, as in shells ("swap_*"); those of other numbers of frames only by
        patterns that have "_with_", too.
    """
    everything = list(dict.fromkeys(name for figures in runs.values() for name in figures))
    names = dict.fromkeys(
        name
        for pattern in patterns
        for name in fnmatch.filter(everything, pattern)
        if "_with_" in pattern or not re.search(r"_with_\d+_frames$", name)
    )

    def number(value: float | None) -> str:
        if value is None:
            return ""
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}" if abs(value) >= 1000 else f"{value:.3f}"

    def cell(figure: Figure | None) -> str:
        if figure is None:
            return ""
        error = f" ± {figure.standard_error:.3f}" if figure.standard_error else ""
        return number(figure.value) + error

    rows = [["figure", *(name or "value" for name in runs), "chance", "ceiling"]]
    rows.append(["---"] + ["---:"] * (len(rows[0]) - 1))
    for name in names:
        figures = [figures.get(name) for figures in runs.values()]
        levels = []
        for level in ("chance", "ceiling"):
            values = [getattr(each, level) for each in figures if each]
            low, high = (None, None) if None in values else (number(min(values)), number(max(values)))
            levels.append("" if low is None else low if low == high else f"{low} to {high}")
        rows.append([name, *map(cell, figures), *levels])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(each.rjust(width) for each, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
