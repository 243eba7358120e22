"""Figures of datasets of which no true frame of a swap exists, faces above all: who a swap is, and how it looks there.

Both ask a judge that has learnt from real frames, so beside each figure stands what the judge says of real frames, or
of reconstructions.
"""

import numpy as np
import tensorflow as tf

from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.evaluation import metrics
from ddr_tf.evaluation.held_out import Codes, Swaps, fetch, transfer_prefix
from ddr_tf.evaluation.metrics import Measurement
from ddr_tf.model.ddr import as_float
from ddr_tf.preparation.videos import FaceDetector

MAX_RECOGNISED, RECOGNISED_FRAMES = 50, 32  # sequences to recognise, and real frames of each that show how
DETECTION_SIDE = 128  # pixels that a frame is enlarged to; CenterFace is surer of larger faces
LANDMARK_PAIRS = 16  # of the pairs that are swapped
CLOSE = 0.05  # of the side of a frame: mean distance of five landmarks up to which they count as in the same place


def recognition(sequences: SequenceDataset, swaps: Swaps) -> dict[str, Measurement]:
    """How often a swap is recognised as its A, by a classifier of real frames ("Fisherfaces": Belhumeur et al., 1997).

    Principal components and linear discriminants of the pixels of real frames of `MAX_RECOGNISED` sequences, but of
    none that is the source of a swap. Other real frames of theirs give the ceiling; as frames of one clip are much
    alike, it is high.

    Returns:
      `swap_recognised_accuracy` and of the other transfers, and `reconstruction_recognised_accuracy` (as B): fractions;
      what no pair allows is left out, as where sequences have too few frames.

    Raises:
      UserError: If scikit-learn is not installed.
    """
    try:
        from sklearn.decomposition import PCA
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from sklearn.pipeline import make_pipeline
    except ImportError as error:
        raise UserError(f"Recognition needs scikit-learn ({error}); pip install -e '.[eval]'.") from error
    random = np.random.RandomState(0)
    known, frame = [], []
    for each in np.unique([swaps.static_sequence, swaps.dynamic_sequence]):
        free = np.setdiff1d(np.arange(sequences.frame_counts[each]), swaps.frame[swaps.dynamic_sequence == each])
        if len(free) >= RECOGNISED_FRAMES and len(known) < MAX_RECOGNISED:
            known.append(each)
            frame.append(random.choice(free, RECOGNISED_FRAMES, replace=False))
    if len(known) < 2:
        return {}
    pixels = as_float(fetch(sequences, np.array(known), np.stack(frame))).numpy()
    half = RECOGNISED_FRAMES // 2
    owner = np.repeat(known, half)
    fitting, testing = (each.reshape(len(owner), -1) for each in (pixels[:, :half], pixels[:, half:]))
    components = min(100, len(owner) - len(known))
    recogniser = make_pipeline(PCA(components, random_state=0), LinearDiscriminantAnalysis()).fit(fitting, owner)
    levels = 1 / len(known), float(recogniser.score(testing, owner))
    swapped = {transfer_prefix(name): (frames, swaps.static_sequence) for name, frames in swaps.swapped.items()}
    found = {}
    for name, (frames, right) in {"reconstruction": (swaps.reconstruction, swaps.dynamic_sequence), **swapped}.items():
        chosen = np.isin(right, known)
        if chosen.any():
            shown, right = frames[chosen], np.repeat(right[chosen], frames.shape[1])
            score = float(recogniser.score(shown.reshape(len(right), -1), right))
            found[f"{name}_recognised_accuracy"] = Measurement(score, *levels)
    return found


def landmarks(detector: FaceDetector, frames: np.ndarray) -> np.ndarray:
    """Landmarks of faces in frames float `[..., H, W, C]` in [0, 1]: float `[..., 5, 2]`, x and y, of the sides.

    NaN where no face is found.
    """
    size = [DETECTION_SIDE, DETECTION_SIDE]
    flat = frames.reshape(-1, *frames.shape[-3:])
    flat = np.broadcast_to(flat, (*flat.shape[:-1], 3))
    found = []
    for frame in flat:
        enlarged = tf.clip_by_value(tf.image.resize(frame, size, "bicubic"), 0, 1)
        found.append(detector.landmarks(np.round(enlarged * 255).astype(np.uint8)) / DETECTION_SIDE)
    return np.reshape(found, (*frames.shape[:-3], 5, 2))


def landmark_figures(
    detector: FaceDetector, sequences: SequenceDataset, swaps: Swaps, codes: Codes | None
) -> dict[str, Measurement]:
    """Whether a face looks as the source of its z does, by CenterFace's five landmarks.

    Returns:
      `real_face_detected`, and of reconstructions and swaps `*_face_detected`: fractions; `*_landmark_distance`: mean
      over faces that were found, to the source of z, in sides of the frame; `*_landmark_accuracy`: the fraction no
      further than `CLOSE`, where a face that is not found counts as wrong. Chance is the same with z of another frame
      of the same sequence. `probe_dynamic_to_landmarks`: R^2 from z, on identities that the probe was not fitted on.
    """
    source = landmarks(detector, swaps.source[:LANDMARK_PAIRS])
    real = float((~np.isnan(source[..., 0, 0])).mean())
    found = {"real_face_detected": Measurement(real, ceiling=1.0)}
    swapped = {transfer_prefix(name): frames for name, frames in swaps.swapped.items()}
    for prefix, frames in {"reconstruction": swaps.reconstruction, **swapped}.items():
        points = landmarks(detector, frames[:LANDMARK_PAIRS])
        found[f"{prefix}_face_detected"] = Measurement(float((~np.isnan(points[..., 0, 0])).mean()), ceiling=real)
        right, other = (
            np.linalg.norm(points - each, axis=-1).mean(axis=-1) for each in (source, np.roll(source, 1, axis=1))
        )
        if not (np.isnan(right).all() or np.isnan(other).all()):
            found[f"{prefix}_landmark_distance"] = Measurement(np.nanmean(right), np.nanmean(other), 0.0)
        found[f"{prefix}_landmark_accuracy"] = Measurement((right <= CLOSE).mean(), (other <= CLOSE).mean(), real)
    if codes is not None:
        few = slice(max(1, metrics.MAX_ROWS // codes.dynamic[0, ..., 0].size))
        points = np.concatenate(
            [
                landmarks(detector, as_float(fetch(sequences, np.array([number]), frame.reshape(1, -1))).numpy()[0])
                for number, frame in zip(codes.sequence[few], codes.frame[few], strict=True)
            ]
        )
        dynamic = codes.dynamic[few].reshape(len(points), -1)
        owner = np.repeat(codes.sequence[few], codes.dynamic[0, ..., 0].size)
        value = metrics.explained(dynamic, points.reshape(-1, 10), owner)
        if value is not None:
            found["probe_dynamic_to_landmarks"] = Measurement(value, 0.0, 1.0)
    return found
