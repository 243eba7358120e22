"""Metrics of any model of sequences, in any framework, that can encode frames and decode codes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.evaluation.held_out import direct_transfer
from ddr_tf.evaluation.metric import Measurement, Metric
from ddr_tf.evaluation.protocol import checked, draw_held_out, measure_codes_beside, measure_frames, over_draws
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

    The functions get arrays of their own, which they may change, and what they return is copied.

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
      UserError: If there are fewer than two held-out sequences, an argument is something else, or a function returns
        something of another shape or numbers that are not finite.
    """
    settings = checked(sequences, settings)
    model = _NumPyModel(encode, decode, sequences.frame_shape)

    def measure(seed: int, num_frames: int) -> dict[str, Measurement]:
        draw = draw_held_out(model, sequences, settings, seed, num_frames, direct_transfer)
        return measure_codes_beside(lambda: measure_frames(sequences, settings, draw), sequences, settings, draw)

    return over_draws(measure, sequences, settings, progress)


class _NumPyModel:
    """Two functions of NumPy arrays as an `interfaces.Autoencoder`.

    Args:
      encode, decode: As of `evaluate_model`.
      frame_shape: `(H, W, C)`.
    """

    def __init__(self, encode: Encode, decode: Decode, frame_shape: tuple[int, int, int]) -> None:
        for name, function in (("encode", encode), ("decode", decode)):
            if not callable(function):
                raise UserError(f"{name} must be a function, got {_described(function)}.")
        self._encode, self._decode, self._frame_shape = encode, decode, tuple(frame_shape)
        self._dims: tuple[int, int] | None = None  # F and Z

    def encode(self, frames: tf.Tensor) -> dict[str, np.ndarray]:
        frames = np.array(as_float(tf.convert_to_tensor(frames)))
        wanted = "two arrays, f [B, F] and z [B, N, Z]"
        shape = frames.shape
        codes = self._encode(frames)
        if not isinstance(codes, tuple | list) or len(codes) != 2:
            raise UserError(f"encode must return {wanted}; it returned {_described(codes)}.")
        static, dynamic = (_array("encode", wanted, code) for code in codes)
        dims = static.shape[-1:] + dynamic.shape[-1:]
        if static.shape != (shape[0], *dims[:1]) or dynamic.shape != (*shape[:2], *dims[1:]) or 0 in dims:
            raise UserError(
                "encode must return f [B, F] and z [B, N, Z], none of them empty, for frames [B, N, H, W, C]; for "
                f"{list(shape)} it returned {list(static.shape)} and {list(dynamic.shape)}."
            )
        if self._dims not in (None, dims):
            raise UserError(f"encode must return the same F and Z each time; they were {self._dims} and are {dims}.")
        self._dims = dims
        _check_finite("encode", "f", static)
        _check_finite("encode", "z", dynamic)
        return {"static_mean": static, "dynamic_mean": dynamic}

    def decode(self, static: np.ndarray, dynamic: np.ndarray) -> np.ndarray:
        shape = (*dynamic.shape[:2], *self._frame_shape)
        wanted = f"frames [B, N, H, W, C] as one array, here {list(shape)}"
        frames = _array("decode", wanted, self._decode(np.array(static), np.array(dynamic)))
        if frames.shape != shape:
            channels_first = frames.shape == (*shape[:2], shape[4], *shape[2:4])
            remedy = "; move the channels to the end" if channels_first else ""
            raise UserError(f"decode must return {wanted}; it returned {list(frames.shape)}{remedy}.")
        _check_finite("decode", "frames", frames)
        if not (frames.min() >= -1e-3 and frames.max() <= 1 + 1e-3):
            raise UserError(f"decode must return frames in [0, 1]; it returned {frames.min():g} to {frames.max():g}.")
        return frames.clip(0, 1)


def _array(function: str, wanted: str, result: Any) -> np.ndarray:
    """A copy, float32, of what a function returned; raises UserError for what is no array of real numbers."""
    try:
        if result is None:
            raise TypeError
        if np.iscomplexobj(result):
            raise TypeError("complex numbers")
        return np.array(result, np.float32)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = "".join(f" ({line})" for line in str(error).splitlines()[:1])
        is_tensor = "tensor" in f"{type(result)}{reason}".lower()
        remedy = "; return x.detach().cpu().numpy() of a tensor x" if is_tensor else ""
        found = f"{_described(result)}{reason}{remedy}"
        raise UserError(f"{function} must return {wanted}; it returned {found}.") from error


def _check_finite(function: str, name: str, values: np.ndarray) -> None:
    """Raises UserError if some values are not finite."""
    count = values.size - np.isfinite(values).sum()
    if count:
        values_of = f"{count:,} of {values.size:,} of {name}"
        raise UserError(f"{function} must return finite numbers; {values_of} are NaN or infinite.")


def _described(value: Any) -> str:
    """What something is, in a few words."""
    if value is None:
        return "None"
    kind = type(value).__name__
    if isinstance(value, tuple | list | dict):
        return f"a {kind} of {len(value)}"
    shape = getattr(value, "shape", None)
    return f"something of type {kind}" + ("" if shape is None else f" and shape {list(shape)}")
