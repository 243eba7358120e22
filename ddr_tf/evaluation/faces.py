"""Metrics of datasets of which no true frame of a swap exists, faces above all: who a swap shows, and how.

Both rely on something that has learnt from real frames, so beside each metric stands what it says of real frames, or
of reconstructions.
"""

import numpy as np
import tensorflow as tf

from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.evaluation.held_out import Codes, Swaps, fetch, transfer_prefix
from ddr_tf.evaluation.lazy import scikit_learn
from ddr_tf.evaluation.metric import Measurement
from ddr_tf.evaluation.probes import MAX_ITERATIONS, MAX_ROWS, explained
from ddr_tf.model.ddr import as_float
from ddr_tf.preparation.face_detector import FaceDetector

MAX_COMPONENTS = 100  # principal components that sequences are recognised by
DETECTION_SIDE = 128  # pixels that a frame is enlarged to, since CenterFace is more certain of larger faces
CLOSE = 0.05  # fraction of a frame's side: landmarks with a smaller mean distance count as in the same place


def measure_recognition(
    sequences: SequenceDataset, swaps: Swaps, max_sequences: int = 50, num_frames: int = 32
) -> dict[str, Measurement]:
    """How often a swap is recognised as its A, by a classifier of real frames ("Fisherfaces": Belhumeur et al., 1997).

    Principal components and linear discriminants of the pixels of real frames, but of none that is the source of a
    swap. Other real frames of the same sequences give the ceiling; as frames of one clip are much alike, it is high.

    Args:
      sequences: A dataset.
      swaps: The draw.
      max_sequences: The most sequences that are told apart.
      num_frames: Real frames of each, half of them to fit on.

    Returns:
      `swap_recognised_accuracy` and of the other transfers, and `reconstruction_recognised_accuracy` (as B): fractions;
      what no pair allows is left out, as where sequences have too few frames.
    """
    known, frame = _draw_free_frames(sequences, swaps, max_sequences, num_frames)
    if len(known) < 2:
        return {}
    pixels = as_float(fetch(sequences, known, frame)).numpy()
    half = num_frames // 2
    owner = np.repeat(known, half)
    fitted_on, tested_on = (part.reshape(len(owner), -1) for part in (pixels[:, :half], pixels[:, half:]))
    sklearn = scikit_learn()
    recogniser = sklearn.pipeline.make_pipeline(
        sklearn.decomposition.PCA(min(MAX_COMPONENTS, len(owner) - len(known)), random_state=0),
        sklearn.discriminant_analysis.LinearDiscriminantAnalysis(),
    ).fit(fitted_on, owner)
    levels = 1 / len(known), float(recogniser.score(tested_on, owner))
    shown = {"reconstruction": (swaps.reconstruction, swaps.dynamic_sequence)}
    shown |= {transfer_prefix(name): (frames, swaps.static_sequence) for name, frames in swaps.swapped.items()}
    measurements = {}
    for name, (frames, right) in shown.items():
        chosen = np.isin(right, known)
        if chosen.any():
            right = np.repeat(right[chosen], frames.shape[1])
            score = float(recogniser.score(frames[chosen].reshape(len(right), -1), right))
            measurements[f"{name}_recognised_accuracy"] = Measurement(score, *levels)
    return measurements


def _draw_free_frames(
    sequences: SequenceDataset, swaps: Swaps, max_sequences: int, num_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Some sequences of the pairs, int `[S]`, and frames of each that are the source of no swap: int `[S, frames]`."""
    free = {}
    for number in np.unique([swaps.static_sequence, swaps.dynamic_sequence]):
        used = swaps.frame[swaps.dynamic_sequence == number]
        free[number] = np.setdiff1d(np.arange(sequences.frame_counts[number]), used)
    enough = [number for number, frames in free.items() if len(frames) >= num_frames]
    known = np.sort(np.random.RandomState(0).permutation(enough)[:max_sequences]).astype(int)
    random = np.random.RandomState(0)
    frame = [random.choice(free[number], num_frames, replace=False) for number in known]
    return known, np.reshape(frame, (len(known), num_frames)).astype(int)


def landmarks(detector: FaceDetector, frames: np.ndarray) -> np.ndarray:
    """Landmarks of faces in frames float `[..., H, W, C]` in [0, 1]: float `[..., 5, 2]`, x and y, of the sides.

    NaN where no face is detected.
    """
    size = [DETECTION_SIDE, DETECTION_SIDE]
    flat = frames.reshape(-1, *frames.shape[-3:])
    flat = np.broadcast_to(flat, (*flat.shape[:-1], 3))
    points = []
    for frame in flat:
        enlarged = tf.clip_by_value(tf.image.resize(frame, size, "bicubic"), 0, 1)
        points.append(detector.landmarks(np.round(enlarged * 255).astype(np.uint8)) / DETECTION_SIDE)
    return np.reshape(points, (*frames.shape[:-3], 5, 2))


def measure_landmarks(
    detector: FaceDetector,
    sequences: SequenceDataset,
    swaps: Swaps,
    codes: Codes | None,
    max_pairs: int = 16,
    probe_iterations: int = MAX_ITERATIONS,
) -> dict[str, Measurement]:
    """Whether a face looks as the source of its z does, by CenterFace's five landmarks.

    Args:
      detector: Finds landmarks.
      sequences: A dataset.
      swaps: The draw.
      codes: To read landmarks from, or None.
      max_pairs: Pairs that are looked at.
      probe_iterations: Of the probe's fit, at most.

    Returns:
      `real_face_detected`, and of reconstructions and swaps `*_face_detected`: fractions; `*_landmark_distance`: mean
      over faces that were detected, to the source of z, in sides of the frame; `*_landmark_accuracy`: the fraction no
      further than `CLOSE`, where a face that is not detected counts as wrong. Chance is the same with z of another
      frame of the same sequence. `probe_dynamic_to_landmarks`: R^2 from z, on identities that the probe was not fitted
      on.
    """
    source = landmarks(detector, swaps.source[:max_pairs])
    real = _detected(source)
    measurements = {"real_face_detected": Measurement(real, ceiling=1.0)}
    shown = {"reconstruction": swaps.reconstruction}
    shown |= {transfer_prefix(name): frames for name, frames in swaps.swapped.items()}
    for prefix, frames in shown.items():
        points = landmarks(detector, frames[:max_pairs])
        measurements[f"{prefix}_face_detected"] = Measurement(_detected(points), ceiling=real)
        right, other = (_distance(points, to) for to in (source, np.roll(source, 1, axis=1)))
        if not (np.isnan(right).all() or np.isnan(other).all()):
            distances = float(np.nanmean(right)), float(np.nanmean(other))
            measurements[f"{prefix}_landmark_distance"] = Measurement(*distances, 0.0)
        accuracies = (float((distance <= CLOSE).mean()) for distance in (right, other))
        measurements[f"{prefix}_landmark_accuracy"] = Measurement(*accuracies, real)
    value = None if codes is None else _read_landmarks(detector, sequences, codes, probe_iterations)
    return measurements | ({} if value is None else {"probe_dynamic_to_landmarks": Measurement(value, 0.0, 1.0)})


def _detected(points: np.ndarray) -> float:
    """Fraction of frames in which a face was detected."""
    return float((~np.isnan(points[..., 0, 0])).mean())


def _distance(points: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Mean distance of five landmarks: `[..., 5, 2]` -> `[...]`."""
    return np.linalg.norm(points - to, axis=-1).mean(axis=-1)


def _read_landmarks(
    detector: FaceDetector, sequences: SequenceDataset, codes: Codes, probe_iterations: int
) -> float | None:
    """How well landmarks can be read from z; see `probes.explained`."""
    frames_each = codes.dynamic[0, ..., 0].size
    few = np.sort(np.random.RandomState(0).permutation(len(codes.sequence))[: max(1, MAX_ROWS // frames_each)])
    points = np.concatenate(
        [
            landmarks(detector, as_float(fetch(sequences, np.array([number]), frame.reshape(1, -1))).numpy()[0])
            for number, frame in zip(codes.sequence[few], codes.frame[few], strict=True)
        ]
    )
    dynamic = codes.dynamic[few].reshape(len(points), -1)
    owner = np.repeat(codes.sequence[few], frames_each)
    return explained(dynamic, points.reshape(-1, 10), owner, probe_iterations)
