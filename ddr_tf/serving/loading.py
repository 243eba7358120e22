"""A trained model for users: arrays, images or folders in, NumPy arrays out, from a run or an exported model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from ddr_tf.errors import UserError
from ddr_tf.folders import natural_order
from ddr_tf.images import FrameFormat, is_named_as_image, read_frame, to_frame, upright
from ddr_tf.runs import image_fit, load_model
from ddr_tf.serving.calls import Signature, call
from ddr_tf.serving.saved_model import EXTRA, find_saved_model
from ddr_tf.serving.signatures import Signatures

Frames = np.ndarray | str | Path | Sequence[str | Path | Image.Image]


class Encoded(NamedTuple):
    """Parameters of q(f | x_1..N), and of q(z_i | x_i, f) at the mean of f; without B for one sequence.

    Attributes:
      static_mean, static_stddev: float32 `[B, F]`.
      dynamic_mean, dynamic_stddev: float32 `[B, N, Z]`.
    """

    static_mean: np.ndarray
    static_stddev: np.ndarray
    dynamic_mean: np.ndarray
    dynamic_stddev: np.ndarray


class Samples(NamedTuple):
    """Sequences that never were.

    Attributes:
      static: float32 `[B, F]`, f ~ p(f).
      dynamic: float32 `[B, N, Z]`, z ~ p(z | f).
      frames: float32 `[B, N, H, W, C]` in [0, 1].
    """

    static: np.ndarray
    dynamic: np.ndarray
    frames: np.ndarray


class LoadedModel:
    """What can be done with a trained model.

    Frames are given as one of
      - an array, uint8 or float in [0, 1]: `[N, H, W, C]`, one sequence, or `[B, N, H, W, C]`, several of equal length;
      - a folder, whose images are one sequence, in the natural order of their names;
      - a list of image files or Pillow images, one sequence.
    Images may be of any size and mode: they become frames as those of frame folders do in training. Results are for one
    sequence without B where the frames were. All methods raise `UserError` for what they cannot use.

    Attributes:
      frame_shape: (H, W, C).
    """

    def __init__(self, signatures: Mapping[str, Signature], fit: str) -> None:
        """Keeps the functions.

        Args:
          signatures: `Signatures.functions()`, or those of a loaded SavedModel.
          fit: How images become square, see `read_frame`.
        """
        self._signatures, self._fit = signatures, fit
        shape = signatures["encode"].structured_input_signature[1]["frames"].shape
        self.frame_shape = tuple(shape[2:])

    def encode(self, frames: Frames) -> Encoded:
        """Static and dynamic codes of frames, of any N from 1."""
        array, single = self._array(frames)
        return Encoded(**self._call("encode", single, frames=array))

    def decode(self, static: np.ndarray, dynamic: np.ndarray) -> np.ndarray:
        """The mean of p(x | f, z).

        Args:
          static: float `[F]` or `[B, F]`.
          dynamic: float `[N, Z]` or `[B, N, Z]`.

        Returns:
          float32 `[N, H, W, C]` or `[B, N, H, W, C]` in [0, 1].
        """
        static, dynamic = np.asarray(static, np.float32), np.asarray(dynamic, np.float32)
        single = static.ndim == 1
        if single:
            static, dynamic = static[None], dynamic[None]
        return self._call("decode", single, static=static, dynamic=dynamic)["frames"]

    def reconstruct(self, frames: Frames) -> np.ndarray:
        """Frames encoded and decoded: float32 `[N, H, W, C]` or `[B, N, H, W, C]` in [0, 1]."""
        array, single = self._array(frames)
        return self._call("reconstruct", single, frames=array)["frames"]

    def swap(self, static_frames: Frames, dynamic_frames: Frames) -> np.ndarray:
        """Who is in `static_frames`, as in each of `dynamic_frames`; see `Signatures.swap`.

        Args:
          static_frames: N frames of each sequence.
          dynamic_frames: M frames of as many sequences.

        Returns:
          float32 `[M, H, W, C]` or `[B, M, H, W, C]` in [0, 1].
        """
        static_array, _ = self._array(static_frames)
        dynamic_array, single = self._array(dynamic_frames)
        return self._call("swap", single, static_frames=static_array, dynamic_frames=dynamic_array)["frames"]

    def sample(self, count: int, frames_per_sequence: int, seed: int = 0) -> Samples:
        """`count` sequences, the same for the same seed."""
        number = {"count": np.int32(count), "frames_per_sequence": np.int32(frames_per_sequence)}
        return Samples(**self._call("sample", False, **number, seed=np.array([seed & 0x7FFFFFFF, 0], np.int32)))

    def _call(self, signature: str, single: bool, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        outputs = call(self._signatures[signature], inputs)
        return {name: value[0] for name, value in outputs.items()} if single else outputs

    def _array(self, frames: Frames) -> tuple[np.ndarray, bool]:
        """Frames as float32 `[B, N, H, W, C]`, and whether they are one sequence."""
        if isinstance(frames, (str, Path)):
            folder = Path(frames)
            if not folder.is_dir():
                raise UserError(f"There is no folder {folder}.")
            images = (path for path in folder.iterdir() if is_named_as_image(path) and not path.name.startswith("."))
            frames = sorted(images, key=lambda path: natural_order(path.name))
            if not frames:
                raise UserError(f"There are no images in {folder}.")
        if isinstance(frames, Sequence) and any(isinstance(frame, (str, Path, Image.Image)) for frame in frames):
            frames = np.stack([self._frame(frame) for frame in frames])
        array = np.asarray(frames)
        if array.ndim not in (4, 5) or not (array.dtype == np.uint8 or array.dtype.kind == "f"):
            sizes = ", ".join(map(str, self.frame_shape))
            raise UserError(
                f"frames must be uint8, or float in [0, 1], of shape [N, {sizes}] or [B, N, {sizes}]; got "
                f"{array.dtype} {list(array.shape)}."
            )
        single = array.ndim == 4
        scale = 255 if array.dtype == np.uint8 else 1
        return array.astype(np.float32)[None if single else ...] / np.float32(scale), single

    def _frame(self, image: str | Path | Image.Image) -> np.ndarray:
        """An image as a frame, uint8 `[H, W, C]`."""
        height, width, channels = self.frame_shape
        try:
            if isinstance(image, Image.Image):
                return to_frame(upright(image, channels), (height, width), self._fit)
            return read_frame(Path(image), FrameFormat((height, width), self._fit, channels)).pixels
        except ValueError as error:
            raise UserError(f"The image {image} cannot be used: {error}.") from error


def load(path: Path) -> LoadedModel:
    """A model from a finished run, or from an exported model: its newest version, or the one that is named.

    Raises:
      UserError: If there is neither.
    """
    if (path / "config.gin").is_file():
        return LoadedModel(Signatures(load_model(path)).functions(), image_fit(path))
    version = find_saved_model(path)
    return LoadedModel(tf.saved_model.load(str(version)).signatures, image_fit(version / EXTRA))
