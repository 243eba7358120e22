"""Videos and folders of images to frame folders, `<out>/<sequence>/<frame>.jpg`."""

import contextlib
import json
import math
import os
import shutil
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from ddr_tf.errors import UserError
from ddr_tf.files import Lock, local_path, put_where_free, read_json, read_limited, write_json, write_text
from ddr_tf.folders import escaped
from ddr_tf.images import remark_on_range
from ddr_tf.preparation.face_detector import FaceDetector
from ddr_tf.preparation.face_tracks import crop, face_squares, face_track, read_squares
from ddr_tf.preparation.opencv import opencv
from ddr_tf.preparation.sources import Reader, Source, UnusableSourceError, find_sources

MIN_FRAMES = 2  # frames of a sequence; a single frame says nothing about what changes
MAX_SIZE = 16_384  # pixels
CROP_SIZE = 112  # pixels, as in Aff-Wild2's cropped_aligned
FACE_MARGIN = 0.2  # added on each side, as a fraction of the box, so that the whole head shows
JPEG_QUALITY = 95

MAX_LINES = 10  # lines of the summary about what was skipped; the file has all of them
SETTINGS_FILE = "preparation.json"
SKIPPED_FILE = "skipped.tsv"
LOCK_FILE = ".lock"
MAX_REPORT_BYTES = 1_000_000_000


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
      value_range: The values that are black and white in images of 16 or 32 bits a pixel, as (0, 4095) for 12 bits;
        None: 0 and 65,535, and those of 32 bits are left out.
    """

    step: int = 1
    max_frames: int | None = None
    size: int | None = None
    image_type: str = "jpg"
    faces: bool = False
    boxes: str | None = None
    margin: float | None = None
    value_range: tuple[float, float] | None = None

    def checked(self) -> "Settings":
        """The settings with every default spelt out.

        Raises:
          UserError: If a value is out of its range, or two exclude each other.
        """
        for name in ("step", "max_frames", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name} is {value}, but must be at least 1.")
        if self.size is not None and self.size > MAX_SIZE:
            raise UserError(f"--size is {self.size}, but must be at most {MAX_SIZE:,}.")
        if self.image_type not in ("jpg", "png"):
            raise UserError(f"--image_type is {self.image_type!r}, but must be jpg or png.")
        if self.value_range is not None:
            black, white = self.value_range
            if not -math.inf < black < white < math.inf:
                raise UserError(f"--value_range is {black:g} {white:g}, but must be black and, above it, white.")
        if self.faces and self.boxes is not None:
            raise UserError("--faces and --boxes exclude each other: the face is either detected or given; drop one.")
        if not self.faces and self.boxes is None:
            if self.margin is not None:
                raise UserError("--margin is for crops; add --faces or --boxes, or drop it.")
            return self
        if self.margin is not None and not 0 <= self.margin <= 10:
            raise UserError(f"--margin is {self.margin}, but must be from 0 to 10.")
        margin = self.margin if self.margin is not None else FACE_MARGIN if self.faces else 0.0
        boxes = None if self.boxes is None else str(local_path(self.boxes).resolve())
        if boxes is not None and not Path(boxes).is_dir():
            raise UserError(f"--boxes: {boxes} is not a folder; name the one that holds <split>/<id>/<frame>.pts.")
        return replace(self, size=self.size or CROP_SIZE, margin=margin, boxes=boxes)


@dataclass
class Summary:
    """What came of a preparation.

    Attributes:
      sequences: Number of sequences written by this run.
      frames: Number of frames written by this run.
      present: Number of sequences that an earlier run had written.
      skipped: Reason by path (relative to the input) of what gave no sequence.
      notes: Reason by path of sequences that were written, but not from everything that the source promised.
      remarks: What is worth a look by path of the first sequence that it is about.
      unused: Reason by path of what else is in the input, one path for each kind.
      keeps_names: Whether all frames are called as the images that they come from, and not by numbers.
    """

    sequences: int = 0
    frames: int = 0
    present: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    keeps_names: bool = False

    def __str__(self) -> str:
        text = f"{self.sequences} sequences, {self.frames} frames"
        if self.present:
            text += f"; {self.present} sequences were there already"
        kinds = {"skipped": self.skipped, "in part": self.notes, "noted": self.remarks, "not used": self.unused}
        for title, reasons in kinds.items():
            lines = [f"\n{title}: {path}: {reason}" for path, reason in sorted(reasons.items())]
            text += "".join(lines[:MAX_LINES]) + f"\n{title}: {len(lines) - MAX_LINES} more" * (len(lines) > MAX_LINES)
        return text


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

    Attributes:
      deep: The readers of sources with pictures of 16 bits.
    """

    def __init__(self, out: Path, settings: Settings) -> None:
        self.out, self.settings = out, settings
        self.stopped = threading.Event()
        self.deep: list[Reader] = []
        self._detectors = threading.local()  # each network holds the activations of one frame

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
        reader = Reader(source, self.settings.value_range)
        try:
            shutil.rmtree(partial, ignore_errors=True)
            make_folders(partial)
            count, notes = self._write_frames(reader, partial)
            reason = "; ".join(note for note in (reader.note, *notes) if note)
            if count < MIN_FRAMES:
                shutil.rmtree(partial)
                raise UnusableSourceError(f"{count or 'no'} frame{'s' * (count != 1)}" + f" ({reason})" * bool(reason))
            if not put_where_free(partial, place):
                raise UserError(f"{place} could not be written: something else has this name; move it away.")
        except UnusableSourceError:
            shutil.rmtree(partial, ignore_errors=True)
            self._remove_empty(partial.parent)
            raise
        except OSError as error:
            raise UserError(f"{place} could not be written: {error}.") from error
        finally:
            self.deep += [reader] * any(reader.max_values.values())
        return count, reason

    def _remove_empty(self, folder: Path) -> None:
        while folder != self.out:
            try:
                folder.rmdir()
            except OSError:  # it holds another sequence
                return
            folder = folder.parent

    def _write_frames(self, reader: Reader, folder: Path) -> tuple[int, list[str]]:
        areas, notes = self._areas(reader)
        # The squares of faces are already those of the frames that were taken.
        taken = Taken(replace(self.settings, step=1, max_frames=None) if self.settings.faces else self.settings, areas)
        last = max(areas, default=0) if areas is not None else None
        names = {} if self.settings.boxes else reader.source.names_of_frames()  # boxes are of numbers
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
            path = folder / f"{names.get(number, f'{number:05d}')}.{self.settings.image_type}"
            Image.fromarray(frame).save(path, quality=JPEG_QUALITY, subsampling=0)
            count += 1
        return count, [*notes, f"{missed} boxes lie outside the frame" if missed else ""]

    def _read(self, reader: Reader, taken: Taken, last: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        # Stops as soon as nothing more can come, without reading the video to its end.
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


def make_folders(folder: Path) -> None:
    """`Path.mkdir` with parents, but without the recursion that ends it at 1,000 folders within each other."""
    missing = [folder]
    while not missing[-1].parent.is_dir():
        missing.append(missing[-1].parent)
    for path in reversed(missing):
        path.mkdir(exist_ok=True)


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
    path, settings = out / SETTINGS_FILE, json.loads(json.dumps(settings))  # as the file has them
    try:
        if path.exists():
            before = read_json(path)
            differing = [name for name in settings if before.get(name) != settings[name]]
            made = {entry.name for entry in out.iterdir()} - {SETTINGS_FILE, SKIPPED_FILE, LOCK_FILE}
            if differing and not made:  # an earlier attempt came to nothing
                write_json(path, settings)
            elif differing:
                changes = ", ".join(f"{name} was {before.get(name)}, is {settings[name]}" for name in differing)
                raise UserError(f"{out} was prepared with other settings ({changes}); use those, or another --out.")
        else:
            if out.exists() and any(out.iterdir()):
                raise UserError(f"{out} is not empty and was not made by this tool; choose another folder for --out.")
            out.mkdir(parents=True, exist_ok=True)
            write_json(path, settings)
    except OSError as error:
        raise UserError(f"--out {out} cannot be used: {error}.") from error
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}); choose another folder for --out.") from error


@contextlib.contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """A block in which no other process writes to `out`.

    Raises:
      UserError: If one does.
    """
    path = out / LOCK_FILE
    lock = Lock(path)
    if not lock.acquire():
        raise UserError(f"Another process prepares frames in {out}; wait for it, or choose another folder for --out.")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def prepare(source: Path, out: Path, settings: Settings, workers: int | None = None) -> Summary:
    """Turns videos and folders of images into frame folders `<out>/<sequence>/<frame>.<image_type>`.

    Frames of a folder of images keep their names, without suffix, if no two are alike; others are named by their number
    in the source, counted from 1, as all are with boxes. Sequences that are there already are left as they
    are, so that an interrupted preparation is continued by the same call. What gave no sequence, or one in part, is
    listed in `<out>/skipped.tsv`, as is what else the input holds.

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
    source, out = local_path(source).resolve(), local_path(out).resolve()
    refuse_overlap(source, out, settings.boxes)
    with warnings.catch_warnings(action="ignore"):  # Pillow's, about odd metadata and sizes; what matters is an error
        sources, unused = find_sources(source)
    _check_packages(sources, settings, workers)
    claim(out, {"input": str(source), **asdict(settings)})
    with alone_in(out), warnings.catch_warnings(action="ignore"):
        report = Report(out, source, unused)
        present = {one.name for one in sources if (out / one.name).is_dir()}
        report.keep(one for one in sources if one.name in present)
        keeps_names = not settings.boxes and all(one.names_of_frames() for one in sources)
        summary = Summary(present=len(present), unused=report.unused, keeps_names=keeps_names)
        missing = [one for one in sources if one.name not in present]
        preparation = Preparation(out, settings)
        _write_all(missing, preparation, workers, summary, report)
        _remark_on_range(preparation, summary, report)
    if not summary.sequences + summary.present:
        path, reason = next(iter(summary.skipped.items()))
        raise UserError(
            f"No sequence came of {source}: {len(summary.skipped)} skipped, for example {path}: {reason}; "
            f"see {out / SKIPPED_FILE}."
        )
    return summary


def _check_packages(sources: Sequence[Source], settings: Settings, workers: int) -> None:
    """Raises UserError if a package that will be needed is missing, before anything is written."""
    if settings.faces:
        FaceDetector()
    if settings.faces or any(source.is_video for source in sources):
        # More threads inside these threads would only wait for each other.
        opencv().setNumThreads(max(1, (os.cpu_count() or 1) // min(workers, len(sources))))


def _write_all(
    sources: Sequence[Source], preparation: Preparation, workers: int, summary: Summary, report: "Report"
) -> None:
    """Makes sequences, several at a time, and keeps the summary and the report up to date."""
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(preparation.write, source): source for source in sources}
        try:
            for future in tqdm(as_completed(futures), "preparing", len(futures), unit="sequence", disable=not futures):
                path = report.path_of(futures[future])
                try:
                    frames, note = future.result()
                except UnusableSourceError as error:
                    summary.skipped[path] = str(error)
                    report.add(path, str(error))
                else:
                    summary.sequences += 1
                    summary.frames += frames
                    if note:
                        summary.notes[path] = note
                        report.add(path, note)
        except BaseException:
            preparation.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _remark_on_range(preparation: Preparation, summary: Summary, report: "Report") -> None:
    """Remarks on pictures of 16 bits if no value in any of them needs more than 14; as `data.frame_store` does."""
    for in_colour in (False, True):
        readers = [reader for reader in preparation.deep if reader.max_values[in_colour]]
        values = [value for reader in readers for value in reader.max_values[in_colour].values()]
        setting = "give --value_range 0 {} and another --out"
        remark = remark_on_range(values, in_colour, bool(preparation.settings.value_range), setting)
        if remark is None:
            continue
        path = min(report.path_of(reader.source) for reader in readers)
        summary.remarks[path] = "; ".join(filter(None, (summary.remarks.get(path), remark)))
        known = summary.skipped.get(path) or summary.notes.get(path)
        report.add(path, "; ".join(filter(None, (known, summary.remarks[path]))))


class Report:
    """`<out>/skipped.tsv`: what is not used, or in part, and why; a path and a reason a line.

    Attributes:
      unused: Reason by path of what is neither a video nor an image.
    """

    def __init__(self, out: Path, source: Path, unused: Mapping[str, str]) -> None:
        """Writes nothing.

        Args:
          out: The folder of sequences.
          source: The input; paths are relative to it.
          unused: Reason by path of what is neither a video nor an image.
        """
        self._path, self._source = out / SKIPPED_FILE, source
        self.unused = {self._relative(Path(path)): reason for path, reason in unused.items()}
        self._reasons = dict(self.unused)

    def path_of(self, source: Source) -> str:
        """What a source is called in the report."""
        return self._relative(source.path)

    def keep(self, sources: Iterable[Source]) -> None:
        """Keeps what an earlier report says of sequences that stay as they are, and writes the report.

        Raises:
          UserError: If it cannot be read or written.
        """
        before = self._read()
        paths = [self.path_of(source) for source in sources]
        self._reasons |= {path: before[path] for path in paths if path in before}
        self._write()

    def add(self, path: str, reason: str) -> None:
        """Adds a line and writes the report.

        Raises:
          UserError: If it cannot be written.
        """
        self._reasons[path] = reason
        self._write()

    def _relative(self, path: Path) -> str:
        name = path.name if path == self._source else path.relative_to(self._source).as_posix()
        return name.encode(errors="replace").decode()  # file names need not be valid text, but reports must

    def _read(self) -> dict[str, str]:
        """Reason by path; lines that are damaged are passed over."""
        try:
            text = read_limited(self._path, MAX_REPORT_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UserError(f"{self._path} cannot be read ({error}); delete it.") from error
        return dict(line.split("\t", 1) for line in text.split("\n") if "\t" in line)

    def _write(self) -> None:
        """Writes the file, or removes it when there is nothing to report."""
        rows = sorted(self._reasons.items())
        lines = ["\t".join(escaped(text) for text in row) + "\n" for row in rows]
        try:
            if lines:
                write_text(self._path, "".join(lines), sync=False)
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{self._path} cannot be written: {error}.") from error
