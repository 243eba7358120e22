"""The similarity of frames: PSNR, SSIM, and which of several is nearest."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from ddr_tf.evaluation.optional import scikit_learn

MAX_PSNR = 120.0  # dB, the value for equal frames


def psnr(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of each frame, `MAX_PSNR` at most: `[..., H, W, C]` in [0, 1] -> `[...]`."""
    return np.minimum(tf.image.psnr(frames, truth, max_val=1.0), MAX_PSNR)


def ssim(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity of each frame: `[..., H, W, C]` in [0, 1], at least 11 x 11, -> `[...]`, at most 1.

    With the Gaussian window of Wang et al., "Image Quality Assessment", 2004.
    """
    return tf.image.ssim(np.float32(frames), np.float32(truth), max_val=1.0).numpy()


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
    from threadpoolctl import threadpool_limits

    if not telling.any():
        return np.zeros(len(frames), int)
    candidates = candidates[:, telling] / np.float32(255 if candidates.dtype == np.uint8 else 1)
    with threadpool_limits(1):  # threads only wait for each other at this size
        return scikit_learn().metrics.pairwise_distances_argmin(frames[:, telling], candidates)
