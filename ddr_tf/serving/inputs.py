"""Frames as people have them: arrays, images, files, folders, patterns of names, or anything that yields those."""

import glob
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from ddr_tf.data.frame_store import LABELS_FILE, list_files, picture_name, sequence_of
from ddr_tf.errors import UserError
from ddr_tf.files import local_path
from ddr_tf.folders import Unused, escaped, natural_order, unknown_kind
from ddr_tf.images import (
    ONLY_SMALLER,
    FrameFormat,
    is_named_as_image,
    max_of_16_bits,
    read_pictures,
    remark_on_range,
    to_frame,
    upright,
)

PATTERN_MARKS = "*?["  # they count where no path has this name
MAX_BAD_FRACTION = 0.05  # of the images under a root, as `FrameFolders` has it
ROUNDING = 1e-3  # floats may be so far beyond [0, 1], as resizing leaves them
_NO_FILE = "a FIFO, a socket or a device"


class Frames(NamedTuple):
    """Frames, and how they were given.

    Attributes:
      array: float32 `[B, N, H, W, C]`; in [0, 1] unless they were given otherwise.
      single: Whether they are one sequence, so that results are without B.
    """

    array: np.ndarray
    single: bool


class _Account:
    """What is worth a warning about the images that one call reads."""

    def __init__(self, value_range: tuple[float, float] | None, max_bad: int = 0) -> None:
        """Args: value_range: As of `images.FrameFormat`; max_bad: How many images may be damaged."""
        self._value_range, self._max_bad = value_range, max_bad
        self._unused = Unused()
        self._bad: list[str] = []
        self._max_values: dict[bool, list[tuple[str, int]]] = {False: [], True: []}  # of 16 bits, by "in colour"

    def saw(self, path: str | Path, max_value: int | None, in_colour: bool) -> None:
        """Of a picture that is used; `max_value` and `in_colour` as of `images.Frame`."""
        if max_value is not None:
            self._max_values[in_colour].append((str(path), max_value))

    def leave_out(self, path: str | Path, kind: str) -> None:
        """Something that is not used, and of which kind it is."""
        self._unused.add(str(path), kind)

    def reject(self, path: str | Path, reason: str) -> None:
        """A file that is no image; raises UserError if it should be one and there are too many of that kind."""
        if is_named_as_image(path):
            self.add_bad(path, reason)
        else:
            self.leave_out(path, unknown_kind(str(path)))

    def add_bad(self, path: str | Path, reason: str) -> None:
        """Something that should be usable and is not; raises UserError if there are too many of that kind."""
        self._bad.append(f"{path}: {reason}")
        if len(self._bad) > self._max_bad:
            several = f" ({len(self._bad)} images cannot, which is too many)" if len(self._bad) > 1 else ""
            raise UserError(escaped(f"{path} cannot be used: {reason}{several}."))

    def warn(self) -> None:
        """Warns the caller of the caller's caller: who called the method of `LoadedModel`."""
        parts = [f"{path} ({reason})" for path, reason in self._unused.reasons().items()]
        if self._bad:
            parts.append(f"{len(self._bad)} image(s) that cannot be used, such as {self._bad[0]}")
        remarks = [f"Not used: {'; '.join(parts)}."] if parts else []
        for remark in (*remarks, *self._remarks_on_range()):
            warnings.warn(escaped(remark), stacklevel=4)

    def _remarks_on_range(self) -> Iterator[str]:
        """As `FrameFolders`, remarks on images of 16 bits if no value in any of them needs more than 14."""
        setting = "load the model with value_range=(0, {})"
        for in_colour, values in self._max_values.items():
            largest = [value for _, value in values]
            if remark := remark_on_range(largest, in_colour, bool(self._value_range), setting):
                yield f"{values[0][0]}: {remark}."


class FrameReader:
    """Makes frames of what it is given; see `LoadedModel`. All methods raise `UserError` for what they cannot use."""

    def __init__(
        self, frame_shape: tuple[int, int, int], fit: str, value_range: tuple[float, float] | None = None
    ) -> None:
        """Keeps what frames are.

        Args:
          frame_shape: (H, W, C).
          fit: How images become frames, see `images.FrameFormat`.
          value_range: Likewise.
        """
        self._shape = frame_shape
        _check_value_range(value_range)
        self._format = FrameFormat(tuple(frame_shape[:2]), fit, frame_shape[2], value_range)

    def __call__(self, given: Any) -> Frames:
        """One sequence, or several of equally many frames."""
        account = _Account(self._format.value_range)
        array = self._floats(given, account)
        height, width, channels = self._shape
        if channels == 1 and array.shape[-2:] == (height, width):
            array = array[..., None]
        array = _in_range(array)
        # The model checks the axes of several sequences, and its messages name each axis.
        if array.ndim not in (3, 4, 5) or (array.ndim < 5 and array.shape[-3:] != self._shape):
            sizes = ", ".join(map(str, self._shape))
            raise UserError(
                f"frames must have the shape [{sizes}], [N, {sizes}] or [B, N, {sizes}]; got {list(array.shape)}. "
                "Images of other sizes can be given as Pillow images or files."
            )
        account.warn()
        return Frames(array.reshape((1,) * (5 - array.ndim) + array.shape), single=array.ndim < 5)

    def sequences(self, root: Path) -> Iterator[tuple[str, list[str], np.ndarray]]:
        """Every folder under a root, itself among them, that holds images directly, by the rules of `FrameFolders`.

        Yields:
          Its name, in natural order: its path under the root; the root is called by its own name, or "." where that is
          the path of another. Then names of its pictures, and float32 `[N, H, W, C]`.
        """
        files, remarks, unused = _listed(root)
        count = sum(is_named_as_image(path) for path, _ in files)
        account = _Account(self._format.value_range, int(MAX_BAD_FRACTION * count))
        for path, kind, reason in (*remarks, *unused):
            (account.add_bad if kind == "bad" else account.leave_out)(path, reason)
        found = False
        for name, paths in _by_sequence(root, [path for path, _ in files]).items():
            names, frames = self._found(paths, account)
            if frames:
                found = True
                yield name, names, _scaled(np.stack(frames))
        if not found:
            raise UserError(f"There are no images in {root}.")
        account.warn()

    def _floats(self, given: Any, account: _Account) -> np.ndarray:
        """An array, image, path or list of those as float32: of a frame, a sequence or several."""
        check_no_record(given, "frames")
        if isinstance(given, Image.Image):
            return _scaled(self._image(given, account))
        if isinstance(given, (str, os.PathLike)):
            return self._read_path(local_path(given), account)
        if tf.is_symbolic_tensor(given):
            raise UserError(
                "frames are a tensor without values, as in the map of a tf.data.Dataset or in a tf.function; call the "
                "model from tf.numpy_function there."
            )
        check_not_masked(given, "frames")
        if _is_array(given):
            array = _as_array(given)
            if array.ndim and array.dtype.kind in "UTO":  # paths or images, as NumPy and pandas hold them
                return self._floats(array.tolist(), account)
            return _scaled(array)
        if _is_nested_numbers(given):
            return _scaled(_as_array(given))
        if isinstance(given, (bytes, bytearray)) or hasattr(given, "read"):
            raise UserError(
                f"frames may not be encoded images in memory, or open files; got {type(given).__name__}. Pillow opens "
                "them: Image.open(io.BytesIO(data)), or Image.open(file)."
            )
        if isinstance(given, Set):
            raise UserError("frames in a set have no order, so no code could be told from another; give a list.")
        if not isinstance(given, Iterable) or isinstance(given, Mapping):
            raise UserError(f"frames must be arrays, images, or paths of files or folders; got {type(given).__name__}.")
        if isinstance(given, tf.data.Dataset) and given.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise UserError("The tf.data.Dataset never ends; give a part of it, as its .take(n) for n elements.")
        return _stacked([part for item in given for part in self._parts(item, account)])

    def _parts(self, item: Any, account: _Account) -> Iterable[np.ndarray]:
        """What one item of a list adds to it: of an image file each of its pictures, else the item as an array."""
        if isinstance(item, (str, os.PathLike)):
            path = local_path(item)
            if os.path.lexists(path) and not os.path.isdir(path):
                return map(_scaled, self._chosen(path, account))
        return [self._floats(item, account)]

    def _read_path(self, path: Path, account: _Account) -> np.ndarray:
        """The pictures in a file, in a folder, or of the files that fit a pattern: float32 `[N, H, W, C]`."""
        if os.path.isdir(path):
            return self._read_folder(path, account)
        if os.path.lexists(path):
            files = [path]
        elif any(mark in str(path) for mark in PATTERN_MARKS):
            files = _matches(path, account)
        else:
            raise UserError(f"There is no folder {path}, nor a file of that name.")
        return _scaled(np.stack([pixels for file in files for pixels in self._chosen(file, account)]))

    def _read_folder(self, folder: Path, account: _Account) -> np.ndarray:
        """All pictures in a folder's image files, in natural order: float32 `[N, H, W, C]`."""
        files, folders = _entries(folder, account)
        _, frames = self._found(files, account)
        if not frames:
            below = "; encode_folder reads the folders in it, each as a sequence" if folders else ""
            raise UserError(f"There are no images in {folder}{below}.")
        for path in folders:
            account.leave_out(path, "a folder in the folder; encode_folder reads both")
        return _scaled(np.stack(frames))

    def _chosen(self, file: Path, account: _Account) -> list[np.ndarray]:
        """All pictures of a file that must be an image, as uint8 `[H, W, C]` each."""
        try:
            return [pixels for _, pixels in self._pictures(file, account)]
        except ValueError as error:
            raise UserError(f"The image {file} cannot be used: {error}.") from error

    def _found(self, files: Iterable[Path], account: _Account) -> tuple[list[str], list[np.ndarray]]:
        """All pictures of those files that are images: their names, and uint8 `[H, W, C]` each."""
        pictures: list[tuple[str, np.ndarray]] = []
        for file in files:
            try:
                pictures.extend(self._pictures(file, account))
            except ValueError as error:
                account.reject(file, str(error))
        return [name for name, _ in pictures], [pixels for _, pixels in pictures]

    def _pictures(self, file: Path, account: _Account) -> Iterator[tuple[str, np.ndarray]]:
        """Each picture of a file: its name, with its number if there are several, and uint8 `[H, W, C]`.

        Raises:
          ValueError: With the reason, if it is no whole image; the pictures before the damage have been yielded.
        """
        number = 0
        for number, frame in read_pictures(file, self._format):
            account.saw(file, frame.max_value, frame.deep_colour)
            yield file.name if frame.num_pictures == 1 else picture_name(file.name, number), frame.pixels
        if not number:
            raise ValueError(ONLY_SMALLER)

    def _image(self, image: Image.Image, account: _Account) -> np.ndarray:
        """A Pillow image, at the picture where it is, as uint8 `[H, W, C]`."""
        _, _, channels, value_range, _ = self._format
        try:
            pixels = to_frame(upright(image, channels, value_range), self._format.size, self._format.fit)
        except ValueError as error:
            raise UserError(f"A Pillow image of mode {image.mode} cannot be used: {error}.") from error
        account.saw("a Pillow image", max_of_16_bits(image), in_colour=False)
        return pixels


def check_not_masked(given: Any, name: str) -> None:
    """Raises UserError for an array of which a part is masked; `name` as of `check_no_record`."""
    if np.ma.is_masked(given):
        verb = "are" if name == "frames" else "is"
        raise UserError(f"{name} {verb} an array of which a part is masked; say what is there with .filled(value).")


def check_no_record(given: Any, name: str) -> None:
    """Raises UserError if an array is wanted and a whole record of them, such as `Normal`, is given.

    NumPy would make an array of a record, with its fields, as mean and stddev, for frames or sequences.

    Args:
      given: Anything.
      name: What is wanted: "static", "dynamic" or "frames".
    """
    while isinstance(given, (list, tuple)) and given:
        if fields := getattr(given, "_fields", ()):
            wanted = next((field for field in (f"{name}_mean", "mean", name) if field in fields), None)
            advice = f"pass .{wanted}" if wanted else f"it holds {', '.join(fields)}"
            raise UserError(f"{name} must be an array; got {type(given).__name__}, a record of several: {advice}.")
        given = given[0]


def _check_value_range(value_range: Any) -> None:
    """Raises UserError if it is none of `images.FrameFormat`."""
    try:
        low, high = (0, 1) if value_range is None else map(float, value_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise UserError(
            f"value_range must be two numbers, that of black and, above it, that of white; got {value_range}."
        )


def _listed(root: Path) -> tuple[list, list, list]:
    """`frame_store.list_files`.

    Raises:
      UserError: If there is no such folder.
    """
    if os.path.lexists(root) and not root.is_dir():
        raise UserError(f"{root} is a file, not a folder of folders; encode takes files.")
    if not root.is_dir():
        raise UserError(f"There is no folder {root}.")
    return list_files(root)


def _by_sequence(root: Path, files: Iterable[str]) -> dict[str, list[Path]]:
    """Paths under a root by the names of their sequences, which `FrameReader.sequences` explains, in natural order."""
    folders: dict[str, list[Path]] = {}
    for path in files:
        folders.setdefault(sequence_of(path, None), []).append(root / path)
    own_name = root.resolve().name
    if "" in folders:
        folders["." if own_name in folders else own_name or "."] = folders.pop("")
    return {name: folders[name] for name in sorted(folders, key=natural_order)}


def _entries(folder: Path, account: _Account) -> tuple[list[Path], list[Path]]:
    """Files directly in a folder that may be images, and the folders in it, in natural order, without hidden ones.

    Raises:
      UserError: If it cannot be read.
    """
    try:
        paths = sorted(folder.iterdir(), key=lambda path: natural_order(path.name))
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}).") from error
    files: list[Path] = []
    folders: list[Path] = []
    for path in paths:
        if path.name.startswith(".") or path.name == LABELS_FILE:
            continue
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            account.leave_out(path, _NO_FILE)
        else:
            (folders if os.path.isdir(path) else files).append(path)
    return files, folders


def _matches(pattern: Path, account: _Account) -> list[Path]:
    """The files that fit a pattern, in natural order.

    Raises:
      UserError: If there are none.
    """
    paths = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True), key=natural_order)]
    files = [path for path in paths if not path.is_dir()]
    if not files:
        only = ", only folders; encode_folder reads the folder that they are in" if paths else ""
        raise UserError(f"There are no files {pattern}{only}.")
    for path in paths:
        if path.is_dir() and "**" not in str(pattern):  # which fits folders only to go through them
            account.leave_out(path, "a folder that fits the pattern")
    return files


def _is_array(given: Any) -> bool:
    """Whether NumPy takes it as an array: of NumPy, TensorFlow, PyTorch, JAX; or a number."""
    is_like_one = hasattr(given, "__array__") or hasattr(given, "__array_interface__")
    return is_like_one or isinstance(given, (int, float, memoryview))


def _is_nested_numbers(given: Any) -> bool:
    """Whether it is lists, or lists of lists, of Python's own numbers."""
    while isinstance(given, (list, tuple)) and given:
        given = given[0]
    return isinstance(given, (int, float))


def _as_array(given: Any) -> np.ndarray:
    try:
        return np.asarray(given)
    except Exception as error:  # for example PyTorch's error for a tensor with a gradient or on a GPU
        raise UserError(f"frames cannot be made an array of ({' '.join(str(error).split())}).") from error


def _scaled(array: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 to 255 as float32 from 0 to 1; floats as they are."""
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    if array.dtype.kind not in "iu":
        raise UserError(f"frames must be whole numbers from 0 to 255 or floats in [0, 1]; got {array.dtype}.")
    if array.dtype != np.uint8 and array.size:
        _check_whole_numbers(array)
    return array.astype(np.float32) / np.float32(255)


def _in_range(frames: np.ndarray) -> np.ndarray:
    """Frames in [0, 1]: what rounding has put a little beyond is put back.

    Raises:
      UserError: For other values, and NaN.
    """
    if not frames.size:
        return frames
    low, high = frames.min(), frames.max()
    if np.isnan(low):
        raise UserError(f"frames must be in [0, 1], without NaN; {np.isnan(frames).mean():.0%} of yours are NaN.")
    if low < -ROUNDING or high > 1 + ROUNDING:
        advice = "divide them by 255" if low >= 0 and 2 < high <= 255 else "scale them so that 0 is black and 1 white"
        advice = "add 1 and divide by 2" if -1 <= low < 0 and high <= 1 else advice
        raise UserError(f"frames of floats must be in [0, 1]; yours are from {low:g} to {high:g}: {advice}.")
    return np.clip(frames, 0, 1) if low < 0 or high > 1 else frames


def _check_whole_numbers(array: np.ndarray) -> None:
    """Raises UserError for whole numbers that do not mean 0 for black and 255 for white."""
    low, high = array.min(), array.max()
    if not 0 <= low <= high <= 255:
        raise UserError(
            f"frames of whole numbers must be from 0 to 255; yours, {array.dtype}, are from {low} to {high}. "
            "Divide them by the number that is white, which makes floats in [0, 1]."
        )
    if high == 1 and array.ndim > 1:
        raise UserError(
            f"frames of whole numbers must be from 0 to 255, which is white; yours, {array.dtype}, are 0 and 1 alone. "
            "Give floats if 1 is white, or uint8 if they are as dark as that."
        )


def _stacked(arrays: list[np.ndarray]) -> np.ndarray:
    """Frames as a sequence, or sequences of equally many frames; batches of those as one batch."""
    if not arrays:
        raise UserError("There are no frames in what was given.")
    if all(array.ndim == 5 for array in arrays) and len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1 and all(len(shape) == 4 for shape in shapes) and len({shape[1:] for shape in shapes}) == 1:
        counts = ", ".join(str(shape[0]) for shape in shapes)
        raise UserError(
            f"The sequences have different numbers of frames ({counts}); give them one at a time, or use encode_folder."
        )
    if len(shapes) > 1:
        raise UserError(f"The frames have different shapes: {', '.join(str(list(shape)) for shape in shapes)}.")
    return np.stack(arrays)
