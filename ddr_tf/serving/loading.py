"""A trained model for users: frames of any kind in, NumPy arrays out, from a run or an exported model."""

import math
import operator
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from ddr_tf.errors import UserError
from ddr_tf.files import local_path
from ddr_tf.memory import check_memory
from ddr_tf.model import FITTED, STANDARD
from ddr_tf.runs import image_settings, load_model
from ddr_tf.serving.calls import Signature, call
from ddr_tf.serving.inputs import FrameReader, check_no_record, check_not_masked
from ddr_tf.serving.saved_model import EXTRA, find_saved_model, load_signatures
from ddr_tf.shipped import is_run, resolve

FrameInput = np.ndarray | str | PathLike | Image.Image | Iterable


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


class Normal(NamedTuple):
    """Parameters of p(z | f), or of q(z_i | x_i, f).

    Attributes:
      mean, stddev: float32 `[Z]`, `[B, Z]`, `[N, Z]` or `[B, N, Z]`.
    """

    mean: np.ndarray
    stddev: np.ndarray


class EncodedFolder(NamedTuple):
    """Codes of S sequences with T frames in all.

    Attributes:
      ids: Name of each sequence: the path of its folder under the root. The root itself goes by its own name, or by "."
        where that is the path of another.
      static_mean, static_stddev: float32 `[S, F]`.
      frame_ids: Name of the sequence of each frame, T of them.
      files: Name of the file of each frame; "stack.tif#3" is the third picture in one of several.
      dynamic_mean, dynamic_stddev: float32 `[T, Z]`.
    """

    ids: list[str]
    static_mean: np.ndarray
    static_stddev: np.ndarray
    frame_ids: list[str]
    files: list[str]
    dynamic_mean: np.ndarray
    dynamic_stddev: np.ndarray


class Samples(NamedTuple):
    """Sequences that the model makes up.

    Attributes:
      static: float32 `[B, F]`, f.
      dynamic: float32 `[B, N, Z]`, z.
      frames: float32 `[B, N, H, W, C]` in [0, 1].
    """

    static: np.ndarray
    dynamic: np.ndarray
    frames: np.ndarray


class LoadedModel:
    """A trained model, which encodes, decodes, swaps and samples.

    Frames are given as one of
      - an array of NumPy, TensorFlow or another library: whole numbers from 0 to 255 or floats in [0, 1], `[H, W, C]`,
        one frame, `[N, H, W, C]`, one sequence, or `[B, N, H, W, C]`, several of equally many frames;
      - a Pillow image, one frame; an image file, whose pictures (pages of a TIFF) are one sequence; a folder or a
        pattern of names, such as "frames/*.png", whose images are one, in the natural order of their names;
      - a list, a generator or a `tf.data.Dataset` of those: frames or files of one sequence, or sequences (a list of
        folders); or an array or a column of pandas that holds paths.
    Images may be of any size and mode: they become frames as those of frame folders do in training. One frame is a
    sequence of one. Results are without B where one sequence was given. All methods raise `UserError` for what they
    cannot use, and warn of what they leave out and of images of 16 bits that are dark.

    Attributes:
      name: Of the exported model or the run.
      frame_shape: (H, W, C).
      static_dim, dynamic_dim: F, Z.
      origin: What `load` was called with; None: it was not.
    """

    origin: tuple[str, tuple[float, float] | None] | None = None

    def __init__(self, signatures: Mapping[str, Signature], image_settings: Mapping[str, Any], name: str = "") -> None:
        """Keeps the functions.

        Args:
          signatures: `Signatures.functions()`, or those of a loaded SavedModel.
          image_settings: How images become frames: `fit` and `value_range` of `images.FrameFormat`.
          name: What to call it.
        """
        self.name = name
        self._signatures = signatures
        inputs = {name: signatures[name].structured_input_signature[1] for name in ("encode", "decode")}
        self.frame_shape = tuple(inputs["encode"]["frames"].shape[2:])
        self.static_dim, self.dynamic_dim = (inputs["decode"][code].shape[-1] for code in ("static", "dynamic"))
        self._read = FrameReader(self.frame_shape, **image_settings)

    def __reduce__(self) -> tuple[Any, ...]:
        """To pickle it, as for other processes, is to load it there again."""
        if self.origin is None:
            raise UserError("Only a model that ddr_tf.load has loaded can be pickled or copied.")
        return load, self.origin

    def __repr__(self) -> str:
        height, width, channels = self.frame_shape
        return (
            f"<LoadedModel {self.name}: frames {height} x {width} x {channels}, f of {self.static_dim} and z of "
            f"{self.dynamic_dim} numbers>"
        )

    def encode(self, frames: FrameInput) -> Encoded:
        """Static and dynamic codes of frames, of any N from 1."""
        array, single = self._read(frames)
        return Encoded(**self._call("encode", single, frames=array))

    def encode_dynamic(self, frames: FrameInput, static: np.ndarray) -> Normal:
        """q(z_i | x_i, f) for any f, such as that of another sequence.

        Args:
          frames: N frames of each sequence.
          static: float `[F]`, for all sequences, or `[B, F]`.

        Returns:
          float32 `[N, Z]` or `[B, N, Z]` each.
        """
        array, single = self._read(frames)
        static, array = _as_many(_with_axes(self._static(static), 2), array)
        outputs = self._call("encode_dynamic", single and len(static) == 1, frames=array, static=static)
        return Normal(outputs["dynamic_mean"], outputs["dynamic_stddev"])

    def encode_folder(self, root: str | PathLike) -> EncodedFolder:
        """Codes of all sequences in a folder: each folder in it that holds images directly is one, of any length.

        What is an image and what is passed over is as for `FrameFolders`, and a warning tells what is not used; but the
        same file twice is used twice.

        As tables of pandas:

            codes = model.encode_folder("my_frames")
            f = pd.DataFrame(codes.static_mean, index=codes.ids)
            z = pd.DataFrame(codes.dynamic_mean, index=[codes.frame_ids, codes.files])
        """
        ids, frame_ids, files, codes = [], [], [], []
        for name, names, frames in self._read.sequences(local_path(root)):
            codes.append(Encoded(**self._call("encode", True, frames=frames[None])))
            ids.append(name)
            frame_ids += [name] * len(names)
            files += names
        static_mean, static_stddev, dynamic_mean, dynamic_stddev = zip(*codes, strict=True)
        return EncodedFolder(
            ids=ids,
            static_mean=np.stack(static_mean),
            static_stddev=np.stack(static_stddev),
            frame_ids=frame_ids,
            files=files,
            dynamic_mean=np.concatenate(dynamic_mean),
            dynamic_stddev=np.concatenate(dynamic_stddev),
        )

    def decode(self, static: np.ndarray, dynamic: np.ndarray) -> np.ndarray:
        """The mean of p(x | f, z).

        Args:
          static: float `[F]` or `[B, F]`.
          dynamic: float `[Z]`, one frame, `[N, Z]` or `[B, N, Z]`. One f is used for all sequences of z, and one
            sequence of z for all f.

        Returns:
          float32 `[H, W, C]`, `[N, H, W, C]` or `[B, N, H, W, C]` in [0, 1]: as many axes as were given.
        """
        static, dynamic = self._static(static), self._dynamic(dynamic)
        one_frame = dynamic.ndim == 1
        single = static.ndim == 1 and dynamic.ndim < 3
        static, dynamic = _as_many(_with_axes(static, 2), _with_axes(dynamic, 3))
        frames = self._call("decode", single, static=static, dynamic=dynamic)["frames"]
        return frames[..., 0, :, :, :] if one_frame else frames

    def prior(self, static: np.ndarray) -> Normal:
        """p(z | f).

        Args:
          static: float `[F]` or `[B, F]`.

        Returns:
          float32 `[Z]` or `[B, Z]` each.
        """
        static = self._static(static)
        return Normal(**self._call("prior", static.ndim == 1, static=_with_axes(static, 2)))

    def reconstruct(self, frames: FrameInput) -> np.ndarray:
        """Frames encoded and decoded: float32 `[N, H, W, C]` or `[B, N, H, W, C]` in [0, 1]."""
        array, single = self._read(frames)
        return self._call("reconstruct", single, frames=array)["frames"]

    def swap(self, static_frames: FrameInput, dynamic_frames: FrameInput) -> np.ndarray:
        """Who is in `static_frames`, as in each of `dynamic_frames`; see `Signatures.swap`.

        Args:
          static_frames: N frames of each sequence.
          dynamic_frames: M frames of as many sequences.

        Returns:
          float32 `[M, H, W, C]` or `[B, M, H, W, C]` in [0, 1].
        """
        static_array, _ = self._read(static_frames)
        dynamic_array, single = self._read(dynamic_frames)
        return self._call("swap", single, static_frames=static_array, dynamic_frames=dynamic_array)["frames"]

    def sample(self, count: int = 1, frames_per_sequence: int = 8, seed: int = 0, density: str = FITTED) -> Samples:
        """Sequences that do not exist, the same for the same seed.

        Args:
          count: B, how many.
          frames_per_sequence: N.
          seed: Of the codes.
          density: "fitted": f and z are from densities that were fitted to those of the training sequences, as far as
            the model has them; "standard": from p(f) = N(0, I) and p(z | f), as in the paper. Models exported before
            0.3.0 have the second only, whatever is asked for.
        """
        if density not in (FITTED, STANDARD):
            raise UserError(f"density must be {FITTED!r} or {STANDARD!r}, got {density!r}.")
        is_apart = density == STANDARD and "sample_standard" in self._signatures
        number = {
            "count": _int32(_whole(count, "count"), "count"),
            "frames_per_sequence": _int32(_whole(frames_per_sequence, "frames_per_sequence"), "frames_per_sequence"),
            "seed": np.array([_whole(seed, "seed") & 0x7FFFFFFF, 0], np.int32),
        }
        frames = int(number["count"]) * int(number["frames_per_sequence"])
        check_memory(4 * frames * math.prod(self.frame_shape), f"{frames:,} frames")
        return Samples(**self._call("sample_standard" if is_apart else "sample", False, **number))

    def _call(self, signature: str, single: bool, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        outputs = call(self._signatures[signature], inputs)
        if not all(np.isfinite(value).all() for value in outputs.values()):
            raise UserError(f"{signature} gave NaN or infinite numbers: its codes are too far from those of any frame.")
        return {name: value[0] for name, value in outputs.items()} if single else outputs

    def _static(self, codes: Any) -> np.ndarray:
        """F as float32 `[F]` or `[B, F]`."""
        return _codes(codes, "static", ("B",), f"F = {self.static_dim}")

    def _dynamic(self, codes: Any) -> np.ndarray:
        """Z as float32 `[Z]`, `[N, Z]` or `[B, N, Z]`."""
        return _codes(codes, "dynamic", ("B", "N"), f"Z = {self.dynamic_dim}")


def _whole(number: Any, name: str) -> int:
    try:
        return operator.index(number)
    except TypeError as error:
        raise UserError(f"{name} must be a whole number, got {number!r}.") from error


def _int32(number: int, name: str) -> np.int32:
    try:
        return np.int32(number)
    except OverflowError as error:
        raise UserError(f"{name} must be less than 2^31, got {number}.") from error


def _codes(codes: Any, name: str, axes: tuple[str, ...], last: str) -> np.ndarray:
    """Codes as float32, of whose axes any may be missing but the last.

    Args:
      codes: Numbers.
      name: What to call them.
      axes: Names of the axes before the last.
      last: Name and size of the last axis, as "F = 64".

    Raises:
      UserError: If they are none, or of another shape.
    """
    check_no_record(codes, name)
    if tf.is_symbolic_tensor(codes):
        raise UserError(f"{name} is a tensor without values; in a tf.function, call the model from tf.numpy_function.")
    check_not_masked(codes, name)
    shapes = " or ".join(f"[{', '.join((*axes[start:], last))}]" for start in range(len(axes), -1, -1))
    try:
        if np.iscomplexobj(codes):
            raise TypeError("complex numbers")
        with np.errstate(over="ignore"):  # the model refuses values that become infinite
            array = np.asarray(codes, np.float32)
    except (TypeError, ValueError) as error:
        kind = type(codes).__name__
        raise UserError(f"{name} must be numbers of the shape {shapes}; got a {kind} of something else.") from error
    if not 1 <= array.ndim <= len(axes) + 1 or array.shape[-1] != int(last.split()[-1]):
        raise UserError(f"{name} must have the shape {shapes}; got {list(array.shape)}.")
    return array


def _with_axes(codes: np.ndarray, num_axes: int) -> np.ndarray:
    """Codes with axes of one before theirs."""
    return codes.reshape((1,) * (num_axes - codes.ndim) + codes.shape)


def _as_many(static: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One sequence of either is repeated for those of the other. Other numbers are left to the model to refuse."""
    if len(static) == 1:
        static = np.repeat(static, len(others), axis=0)
    elif len(others) == 1:
        others = np.repeat(others, len(static), axis=0)
    return static, others


def load(path: str | PathLike, value_range: tuple[float, float] | None = None) -> LoadedModel:
    """A model from a finished run, or from an exported model: its newest version, or the one that is named.

    Args:
      path: Of the folder, or the name of an exported model, see `shipped.resolve`.
      value_range: The values that are black and white in images of 16 or 32 bits a pixel, as (0, 4095) for 12 bits in
        files of 16; None: as in training.

    Raises:
      UserError: If there is neither.
    """
    folder = resolve(path)
    if is_run(folder):
        from ddr_tf.serving.signatures import Signatures

        signatures, settings = Signatures(load_model(folder)).functions(), image_settings(folder)
        name = folder.resolve().name
    else:
        version = find_saved_model(folder)
        signatures, settings = load_signatures(version).signatures, image_settings(version / EXTRA)
        name = version.resolve().parent.name if version.name.isdecimal() else version.resolve().name
    if value_range is not None:
        settings["value_range"] = value_range
    model = LoadedModel(signatures, settings, name)
    model.origin = str(folder.resolve()), value_range
    return model
