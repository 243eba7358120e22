"""The similarity of frames: PSNR, SSIM, and which of several is nearest."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from ddr_tf.evaluation.lazy import scikit_learn
from ddr_tf.model.bounds import as_float

MAX_PSNR = 120.0  # dB, the value for equal frames
FRAMES_AT_ONCE = 64  # that are compared; SSIM takes ten times their memory
CANDIDATES_AT_ONCE = 256  # that frames are compared with


def psnr(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of each frame, `MAX_PSNR` at most: `[..., H, W, C]` in [0, 1] -> `[...]`."""
    return np.minimum(_in_parts(functools.partial(tf.image.psnr, max_val=1.0), frames, truth), MAX_PSNR)


def ssim(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity of each frame: `[..., H, W, C]` in [0, 1], at least 11 x 11, -> `[...]`, at most 1.

    With the Gaussian window of Wang et al., "Image Quality Assessment", 2004.
    """
    return _in_parts(functools.partial(tf.image.ssim, max_val=1.0), frames, truth)


def _in_parts(similarity: Callable[..., tf.Tensor], frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Compares `FRAMES_AT_ONCE`: `[..., H, W, C]` twice -> `[...]`."""
    flat = [np.reshape(images, (-1, *images.shape[-3:])) for images in (frames, truth)]
    parts = [
        similarity(*(as_float(tf.constant(images[start : start + FRAMES_AT_ONCE])) for images in flat))
        for start in range(0, len(flat[0]), FRAMES_AT_ONCE)
    ]
    return np.concatenate(parts).reshape(frames.shape[:-3])


def best_of_truths(similarity: Callable[..., np.ndarray], frames: np.ndarray, truths: Sequence[np.ndarray]) -> float:
    """Mean over pairs of the similarity to the best of several truths, one for all frames of a pair.

    Args:
      similarity: `psnr` or `ssim`.
      frames: float `[P, N, H, W, C]`.
      truths: Each float `[P, N, H, W, C]`, at least one.
    """
    return float(np.max([similarity(frames, truth).mean(axis=-1) for truth in truths], axis=0).mean())


def nearest(frames: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Which candidate is nearest to each frame in squared error.

    Args:
      frames: float `[n, H, W, C]` in [0, 1].
      candidates: uint8, or float in [0, 1], `[S, H, W, C]`.

    Returns:
      Numbers of candidates, int `[n]`.
    """
    frames, candidates = (images.reshape(len(images), -1) for images in (frames, candidates))
    telling = (candidates != candidates[0]).any(axis=0)  # other pixels are as far from all candidates
    if not telling.any():
        return np.zeros(len(frames), int)
    compare, shown = scikit_learn().metrics.pairwise_distances_argmin_min, frames[:, telling]
    places, distances = [], []
    for start in range(0, len(candidates), CANDIDATES_AT_ONCE):
        part = candidates[start : start + CANDIDATES_AT_ONCE, telling]
        place, distance = compare(shown, part / np.float32(255 if part.dtype == np.uint8 else 1))
        places.append(start + place)
        distances.append(distance)
    best = np.argmin(distances, axis=0)
    return np.array(places)[best, np.arange(len(frames))]
