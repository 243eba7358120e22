"""Frames as people have them: arrays, images, files, folders, patterns of names, or anything that yields those."""

import glob
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ddr_tf.errors import UserError
from ddr_tf.files import local_path
from ddr_tf.folders import natural_order, walk
from ddr_tf.images import FrameFormat, is_named_as_image, read_frame, read_pictures, to_frame, upright

PATTERN_MARKS = "*?["  # they count where no path has this name


class Frames(NamedTuple):
    """Frames, and how they were given.

    Attributes:
      array: float32 `[B, N, H, W, C]`; in [0, 1] unless they were given otherwise.
      single: Whether they are one sequence, so that results are without B.
    """

    array: np.ndarray
    single: bool


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
        self._format = FrameFormat(tuple(frame_shape[:2]), fit, frame_shape[2], value_range)

    def __call__(self, given: Any) -> Frames:
        """One sequence, or several of equally many frames."""
        array = self._floats(given)
        height, width, channels = self._shape
        if channels == 1 and array.shape[-2:] == (height, width):
            array = array[..., None]
        # The model checks the axes of several sequences, and its messages name each axis.
        if array.ndim not in (3, 4, 5) or (array.ndim < 5 and array.shape[-3:] != self._shape):
            sizes = ", ".join(map(str, self._shape))
            raise UserError(
                f"frames must have the shape [{sizes}], [N, {sizes}] or [B, N, {sizes}]; got {list(array.shape)}. "
                "Images of other sizes can be given as Pillow images or files."
            )
        return Frames(array.reshape((1,) * (5 - array.ndim) + array.shape), single=array.ndim < 5)

    def _floats(self, given: Any) -> np.ndarray:
        """An array, image, path or list of those as float32: of a frame, a sequence or several."""
        if isinstance(given, Image.Image):
            return _scaled(self._frame(given))
        if isinstance(given, (str, os.PathLike)):
            return self._read_path(local_path(given))
        if _is_array(given) or _is_nested_numbers(given):
            return _scaled(_as_array(given))
        if not isinstance(given, Iterable) or isinstance(given, (bytes, Mapping)):
            raise UserError(f"frames must be arrays, images, or paths of files or folders; got {type(given).__name__}.")
        return _stacked([self._floats(item) for item in given])

    def _read_path(self, path: Path) -> np.ndarray:
        """The frame in a file, or those in a folder or of the files that fit a pattern."""
        if path.is_dir():
            if not image_files(path):
                raise UserError(f"There are no images in {path}.")
            return self.read_folder(path)[1]
        if os.path.lexists(path):
            return _scaled(self._frame(path))
        if any(mark in str(path) for mark in PATTERN_MARKS):
            names = sorted(glob.glob(str(path), recursive=True), key=natural_order)
            paths, missing = [Path(name) for name in names if os.path.isfile(name)], f"There are no files {path}."
        else:
            paths, missing = [], f"There is no folder {path}, nor a file of that name."
        if not paths:
            raise UserError(missing)
        return _scaled(np.stack([self._frame(path) for path in paths]))

    def _frame(self, image: Any) -> np.ndarray:
        """An image, or the first picture in a file, as uint8 `[H, W, C]`."""
        try:
            if isinstance(image, Image.Image):
                return to_frame(
                    upright(image, self._format.channels, self._format.value_range), self._format.size, self._format.fit
                )
            return read_frame(local_path(image), self._format).pixels
        except ValueError as error:
            raise UserError(f"The image {image} cannot be used: {error}.") from error

    def read_folder(self, folder: Path) -> tuple[list[str], np.ndarray]:
        """All pictures in a folder's image files, in natural order: names of files, and float32 `[N, H, W, C]`.

        The pages of a file of several pictures are frames, named with their numbers.
        """
        names, frames = [], []
        for file in image_files(folder):
            try:
                for number, frame in read_pictures(file, self._format):
                    names.append(file.name if frame.num_pictures == 1 else f"{file.name}#{number}")
                    frames.append(frame.pixels)
            except ValueError as error:
                raise UserError(f"The image {file} cannot be used: {error}.") from error
        return names, _scaled(np.stack(frames))


def image_files(folder: Path) -> list[Path]:
    """Image files directly in a folder, in natural order; hidden ones are left out."""
    files = (path for path in folder.iterdir() if is_named_as_image(path) and not path.name.startswith("."))
    return sorted((path for path in files if path.is_file()), key=lambda path: natural_order(path.name))


def sequence_folders(root: Path) -> dict[str, Path]:
    """Folders with image files directly in them, `root` itself among them: path under `root` -> folder.

    Raises:
      UserError: If there is none.
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}.")
    folders = [Path(folder) for folder, _, names in walk(root) if any(map(is_named_as_image, names))]
    folders = [folder for folder in folders if image_files(folder)]
    if not folders:
        raise UserError(f"There are no images in {root}.")
    named = {root.resolve().name if folder == root else str(folder.relative_to(root)): folder for folder in folders}
    return {name: named[name] for name in sorted(named, key=natural_order)}


def _is_array(given: Any) -> bool:
    """Whether NumPy takes it as an array: of NumPy, TensorFlow, PyTorch, JAX; or a number."""
    return hasattr(given, "__array__") or hasattr(given, "__array_interface__") or isinstance(given, (int, float))


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
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype.kind not in "iu":
        raise UserError(f"frames must be whole numbers from 0 to 255 or floats in [0, 1]; got {array.dtype}.")
    if array.dtype != np.uint8 and array.size and not 0 <= array.min() <= array.max() <= 255:
        extremes = f"from {array.min()} to {array.max()}"
        raise UserError(f"frames of whole numbers must be from 0 to 255; yours, {array.dtype}, are {extremes}.")
    return array.astype(np.float32) / np.float32(255)


def _stacked(arrays: list[np.ndarray]) -> np.ndarray:
    """Frames as a sequence, or sequences of equally many frames."""
    if not arrays:
        raise UserError("There are no frames in what was given.")
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1 and all(len(shape) == 4 for shape in shapes) and len({shape[1:] for shape in shapes}) == 1:
        counts = ", ".join(str(shape[0]) for shape in shapes)
        raise UserError(
            f"The sequences have different numbers of frames ({counts}); give them one at a time, or use encode_folder."
        )
    if len(shapes) > 1:
        raise UserError(f"The frames have different shapes: {', '.join(str(list(shape)) for shape in shapes)}.")
    return np.stack(arrays)
