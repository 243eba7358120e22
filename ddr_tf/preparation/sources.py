"""What a sequence can be made of: videos, animations and folders of images; their frames, one after the other."""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ddr_tf.errors import UserError
from ddr_tf.files import open_regular
from ddr_tf.folders import TABLE_SUFFIXES, VIDEO_SUFFIXES, Unused, natural_order, no_data, walk
from ddr_tf.images import (
    MAX_DECODING_MB,
    TooLargeError,
    count_pictures,
    decoding,
    each_picture,
    has_deep_colour,
    is_named_as_image,
    max_of_16_bits,
    opened,
    upright,
)
from ddr_tf.preparation.opencv import opencv

# Videos where they hold several pictures, images where they hold one.
SERIES_SUFFIXES = frozenset((".gif", ".webp", ".tif", ".tiff", ".png", ".apng", ".avif", ".fli", ".flc"))
VIDEO_PIXEL_BYTES = 24  # the frame in two colour orders, and the few that the decoder keeps
KNOWN = ", ".join(sorted(suffix[1:] for suffix in VIDEO_SUFFIXES | SERIES_SUFFIXES))


@dataclass(frozen=True)
class Source:
    """One sequence to be.

    Attributes:
      name: The sequence's folder below the output, with `/`.
      path: The video, or the folder of images.
      stem: The path relative to the input, without suffix, with `/`.
      images: The frames in order; empty for a video or a file of several pictures.
    """

    name: str
    path: Path
    stem: str
    images: tuple[Path, ...] = ()

    @property
    def is_video(self) -> bool:
        """Whether OpenCV is needed to read it."""
        return not self.images and self.path.suffix.lower() in VIDEO_SUFFIXES

    def names_of_frames(self) -> dict[int, str]:
        """Names of images without suffix, which may say what they show, by number from 1; empty if some are alike."""
        names = {number: path.stem for number, path in enumerate(self.images, 1)}
        return names if len({name.casefold() for name in names.values()}) == len(names) else {}


class UnusableSourceError(Exception):
    """A source that gives no sequence; the message says why. The others go on."""


class _UnknownRangeError(ValueError):
    """A picture that is whole, but whose values could mean any brightness."""


class _Candidate(NamedTuple):
    """A source, and what tells it from another of the same name."""

    source: Source
    kind: str


def is_series(path: Path) -> bool:
    """Whether a file holds several pictures, smaller versions apart; damaged ones count as most of their kind are."""
    try:
        with opened(path) as (_, image):
            return count_pictures(image) > 1 and len(list(islice(each_picture(image, path.stat().st_size), 2))) > 1
    except (OSError, ValueError):
        return path.suffix.lower() in (".gif", ".webp")


def find_sources(path: Path) -> tuple[list[Source], dict[str, str]]:
    """The videos and folders of images at and below `path`, in the order of their names.

    Hidden files and folders are left out, and links to folders are not followed. The name of a sequence is the path
    relative to `path` without suffix. Where two would be the same, or one would lie inside the other, the suffix is
    kept behind an underscore (`clip_mp4` and `clip_avi`; `_images` for a folder).

    Returns:
      The sources; and what of the folder is not used, a line for each kind: the reason by the path of the first.

    Raises:
      UserError: If `path` is missing, is a file that is no video, or holds nothing usable.
    """
    if path.is_file():
        if path.suffix.lower() not in VIDEO_SUFFIXES | SERIES_SUFFIXES:
            raise UserError(f"{path} is not a video by its suffix ({KNOWN}); name a video or a folder.")
        return [Source(path.stem, path, path.stem)], {}
    if not path.is_dir():
        raise UserError(f"{path} does not exist; name a video or a folder of videos or images.")
    candidates, unused = _candidates(path)
    if not candidates:
        kinds = "".join(f"; {file}: {reason}" for file, reason in list(unused.items())[:3])
        raise UserError(f"{path} holds no videos ({KNOWN}) and no images; check the folder{kinds}.")
    return _with_distinct_names(candidates), unused


def _candidates(root: Path) -> tuple[list[_Candidate], dict[str, str]]:
    """All that a folder holds, names as they are; and what is not used of it."""
    candidates, unused = [], Unused()
    for folder, folders, names in walk(root, on_error=lambda error: unused.add(error.filename, str(error.strerror))):
        if Path(folder) != root and (kind := no_data(folder, [*folders, *names])):
            unused.add(folder, kind)
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                unused.add(os.path.join(folder, name), "a folder by a link")
        files = [Path(folder, name) for name in sorted(names, key=natural_order) if _is_usable(folder, name, unused)]
        images = []
        for file in files:
            if _is_video(file):
                stem = file.relative_to(root).with_suffix("").as_posix()
                candidates.append(_Candidate(Source(stem, file, stem), file.suffix[1:].lower()))
            else:
                images.append(file)
        if images:
            relative = Path(folder).relative_to(root).as_posix()
            stem = root.resolve().name if relative == "." else relative
            candidates.append(_Candidate(Source(stem, Path(folder), stem, tuple(images)), "images"))
    return candidates, unused.reasons()


def _is_video(path: Path) -> bool:
    """Whether a file is a sequence of its own, rather than a frame of its folder's."""
    suffix = path.suffix.lower()
    return suffix in VIDEO_SUFFIXES or (suffix in SERIES_SUFFIXES and is_series(path))


def _is_usable(folder: str, name: str, unused: Unused) -> bool:
    """Whether something in a folder is a video or an image by its name; if not, it is counted."""
    path = os.path.join(folder, name)
    suffix = os.path.splitext(name)[1].lower()
    if name.startswith("."):
        return False
    if suffix not in VIDEO_SUFFIXES and not is_named_as_image(path):
        table = "; a table of labels is not carried over, so copy it to the output" if suffix in TABLE_SUFFIXES else ""
        unused.add(path, f"neither a video nor an image by its suffix ({suffix or 'none'}){table}")
    elif os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        unused.add(path, "a FIFO, a socket or a device")
    else:
        return True
    return False


def _with_distinct_names(candidates: list[_Candidate]) -> list[Source]:
    """The sources in the order of their names, none of which is that of another or of a folder that another is in."""
    taken = Counter(source.name for source, _ in candidates)
    parents = {parent.as_posix() for name in taken for parent in Path(name).parents}
    sources = []
    for source, kind in candidates:
        name = source.name
        if taken[name] > 1 or name in parents:
            name = f"{name}_{kind}"
            while name in taken or name in parents:
                name += "_"
            taken[name] = 1
        sources.append(replace(source, name=name))
    return sorted(sources, key=lambda source: source.name)


@dataclass
class Reader:
    """Reads the frames of one source, again and again.

    Attributes:
      source: What to read.
      value_range: The values that are black and white in images of 16 or 32 bits a pixel; None: 0 and 65,535, and 32
        bits cannot be read.
      note: What was wrong with what has been read so far; empty: nothing.
      max_values: The largest value in each picture of 16 bits that has been read, by its number: first of those with
        16 bits a pixel (False), then of those with 16 bits a channel (True).
    """

    source: Source
    value_range: tuple[float, float] | None = None
    note: str = ""
    max_values: dict[bool, dict[int, int]] = field(default_factory=lambda: {False: {}, True: {}})

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the number (from 1) and the pixels (uint8 `[H, W, 3]`, RGB) of each frame that is `wanted`.

        Raises:
          UnusableSourceError: If the video cannot be opened.
          UserError: If OpenCV is needed and not installed.
        """
        if self.source.images:
            return self._images(wanted)
        return self._video(wanted) if self.source.is_video else self._series(wanted)

    def _images(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, np.ndarray]]:
        broken = []
        for number, path in enumerate(self.source.images, 1):
            if not wanted(number):
                continue
            try:
                with opened(path) as (_, image):
                    frame = self._pixels(number, image)
            except ValueError as error:
                broken.append(path.name + _why(error))
                self.note = f"{len(broken)} images cannot be read, the first is {broken[0]}"
            else:
                yield number, frame

    def _series(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, np.ndarray]]:
        done = 0
        try:
            with opened(self.source.path) as (file, image):
                for number, picture in each_picture(image, os.fstat(file.fileno()).st_size):
                    if wanted(number):
                        yield number, self._pixels(number, picture)
                    done = number
        except ValueError as error:
            if not done:
                kind = "" if _is_whole(error) else ": damaged, or not an animation"
                raise UnusableSourceError("cannot be decoded" + kind + _why(error)) from error
            self.note = f"damaged: cannot be decoded beyond frame {done} ({error})"

    def _pixels(self, number: int, image: Image.Image) -> np.ndarray:
        """The picture at which an open image is, uint8 `[H, W, 3]`."""
        deep_colour = has_deep_colour(image)  # it can be told only before anything is decoded
        with decoding(image):
            image.load()
            try:
                plain = upright(image, 3, self.value_range)
            except ValueError as error:
                raise _UnknownRangeError(str(error)) from error
            if (largest := max_of_16_bits(image, deep_colour)) is not None:
                self.max_values[deep_colour][number] = largest
            return np.asarray(plain)

    def _video(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, np.ndarray]]:
        name = str(self.source.path)
        try:
            open_regular(self.source.path).close()
        except (OSError, ValueError) as error:
            raise UnusableSourceError(f"cannot be opened ({error})") from error
        try:
            name.encode()  # OpenCV crashes
        except UnicodeEncodeError as error:
            raise UnusableSourceError("the name is not valid UTF-8; rename it") from error
        cv2 = opencv()
        # Only this backend: the one for images takes a name with digits for a pattern.
        video = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
        number, seconds = 0, 0.0
        try:
            if not video.isOpened():
                raise UnusableSourceError("cannot be decoded: damaged, empty or not a video")
            height, width = (video.get(side) for side in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
            if height * width * VIDEO_PIXEL_BYTES > MAX_DECODING_MB * 1_000_000:
                raise UnusableSourceError(f"frames of {width:.0f} x {height:.0f} pixels are too large")
            while video.grab():
                number += 1
                seconds = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if wanted(number):
                    whole, frame = video.retrieve()
                    if whole:
                        yield number, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            self.note = _note_of(video, number, seconds)
        except cv2.error as error:
            self.note = f"damaged: cannot be decoded beyond frame {number} ({error.err})"
        finally:
            video.release()


def _note_of(video: Any, number: int, seconds: float) -> str:
    """What to say of an OpenCV video that gave so many frames, the last one at this time, and no more; or ""."""
    cv2 = opencv()
    if not number:
        return (
            "OpenCV opens it and decodes nothing: it is damaged, or of a codec that OpenCV lacks, so that ffmpeg -i IN "
            "-c:v libx264 OUT.mp4 may help"
        )
    notes = []
    # By time, since many containers do not know their number of frames; by frames where times are unknown.
    rate = video.get(cv2.CAP_PROP_FPS) or 25.0
    seconds = max(seconds, number / rate)
    promised = video.get(cv2.CAP_PROP_FRAME_COUNT) / rate
    if promised - seconds > max(0.5, promised / 20):
        notes.append(
            f"{number} frames can be decoded, {seconds:.1f} of {promised:.1f} seconds: it is cut short, trimmed "
            "without being encoded again, or its sound is longer"
        )
    width, height = video.get(cv2.CAP_PROP_SAR_NUM), video.get(cv2.CAP_PROP_SAR_DEN)  # of a pixel; 0 if not known
    if min(width, height) > 0 and width != height:
        notes.append(
            f"its pixels are {width / height:.3g} times as wide as high, so frames are distorted; ffmpeg -i IN -vf "
            "scale=iw*sar:ih,setsar=1 OUT.mp4 makes them square"
        )
    return "; ".join(notes)


def _is_whole(error: ValueError) -> bool:
    """Whether an image that could not be read is not damaged."""
    return isinstance(error.__cause__, _UnknownRangeError)


def _why(error: ValueError) -> str:
    """Why an image that may be whole cannot be read, in brackets, or nothing."""
    return f" ({error})" if _is_whole(error) or isinstance(error, TooLargeError) else ""
