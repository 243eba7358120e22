"""Metrics of any model of sequences, in any framework, that can encode frames and decode codes."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.evaluation.held_out import direct_transfer
from ddr_tf.evaluation.metric import Measurement, Metric
from ddr_tf.evaluation.protocol import check_packages, draw_held_out, measure_codes_and_swaps, over_draws
from ddr_tf.evaluation.settings import Settings
from ddr_tf.model.ddr import as_float

Encode = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
Decode = Callable[[np.ndarray, np.ndarray], np.ndarray]


def evaluate_model(
    encode: Encode,
    decode: Decode,
    sequences: SequenceDataset,
    settings: Settings | None = None,
    progress: bool = False,
) -> dict[str, Metric]:
    """All metrics that need no density of the model: everything but the bounds, the prior and the judge.

    Args:
      encode: float32 frames in [0, 1] `[B, N, H, W, C]` -> f, float `[B, F]`, and z, float `[B, N, Z]`. A model that
        has several stochastic codes gives their means.
      decode: f `[B, F]` and z `[B, N, Z]` -> frames in [0, 1], float `[B, N, H, W, C]`.
      sequences: A dataset. Only its held-out sequences are used, so train on the others: `sequences.splits["train"]`.
      settings: What is drawn and measured; None: the defaults.
      progress: Whether to show a bar.

    Returns:
      name -> metric; docs/evaluation.md explains each. Swaps are those of the *direct* transfer.

    Raises:
      UserError: If scikit-learn is missing, there are fewer than two held-out sequences, or a function returns
        something of another shape.
    """
    settings, model = settings or Settings(), _NumPyModel(encode, decode)
    check_packages()

    def measure(seed: int, num_frames: int) -> dict[str, Measurement]:
        draw = draw_held_out(model, sequences, settings, seed, num_frames, direct_transfer)
        return measure_codes_and_swaps(sequences, settings, draw)

    return over_draws(measure, sequences, settings, progress)


class _NumPyModel:
    """Two functions of NumPy arrays as an `interfaces.Autoencoder`."""

    def __init__(self, encode: Encode, decode: Decode) -> None:
        self._encode, self._decode = encode, decode

    def encode(self, frames: tf.Tensor) -> dict[str, np.ndarray]:
        frames = as_float(tf.convert_to_tensor(frames)).numpy()
        codes = self._encode(frames)
        if not isinstance(codes, tuple | list) or len(codes) != 2:
            raise UserError("encode must return two arrays, f [B, F] and z [B, N, Z].")
        static, dynamic = (np.asarray(code, np.float32) for code in codes)
        if static.ndim != 2 or dynamic.ndim != 3 or dynamic.shape[:2] != frames.shape[:2] or len(static) != len(frames):
            raise UserError(
                f"encode must return f [B, F] and z [B, N, Z] for frames [B, N, H, W, C]; for {list(frames.shape)} it "
                f"returned {list(static.shape)} and {list(dynamic.shape)}."
            )
        return {"static_mean": static, "dynamic_mean": dynamic}

    def decode(self, static: np.ndarray, dynamic: np.ndarray) -> np.ndarray:
        static, dynamic = np.asarray(static), np.asarray(dynamic)
        frames = np.asarray(self._decode(static, dynamic), np.float32)
        if frames.ndim != 5 or frames.shape[:2] != dynamic.shape[:2]:
            raise UserError(
                f"decode must return frames [B, N, H, W, C]; for z {list(dynamic.shape)} it returned "
                f"{list(frames.shape)}."
            )
        if not (frames.min() >= -1e-3 and frames.max() <= 1 + 1e-3):
            raise UserError(f"decode must return frames in [0, 1]; it returned {frames.min():g} to {frames.max():g}.")
        return frames.clip(0, 1)
