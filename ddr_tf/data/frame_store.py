"""Folders of images -> one memory-mapped array of frames, decoded and checked once.

Every file is decoded before training starts: what is damaged is found then, and training reads an array, which is
many times faster than images and does not mind if the folder vanishes. The array is kept in a cache and made again
when any file or setting has changed. Nothing in the folder itself is ever written.
"""

import csv
import hashlib
import json
import math
import os
import re
import shutil
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ddr_tf.data.frame_cache import FRAMES, FrameCache, default_cache_dir
from ddr_tf.data.sequence_dataset import Remark
from ddr_tf.errors import UserError
from ddr_tf.files import local_path
from ddr_tf.folders import Unused, escaped, natural_order, no_data, unknown_kind, walk
from ddr_tf.images import (
    FITS,
    ONLY_SMALLER,
    Frame,
    FrameFormat,
    UnreadableError,
    can_be_read,
    is_named_as_image,
    read_frame,
    read_pictures,
    remark_on_range,
)

FORMAT = 4  # of what is in the cache
MAX_BLOCK_BYTES = 64_000_000  # of decoded frames that are in memory at once
REPORT = "remarks.tsv"
NUM_SHOWN = 3  # remarks that are printed; all are in the report
NOT_MATCHED = "name_pattern does not match its name"
# What systems call a copy of a file, without its suffix: "smile (1)", "smile copy 2", "smile - Copy"...
COPY = re.compile(r"(.+?)(?: ?-? ?\b(?:copy|copie|kopie|copia)(?: ?\d+| ?\(\d+\))?| ?\(\d+\))", re.IGNORECASE)
LABELS_FILE = "labels.csv"  # in the root; no frame


class FrameStore(NamedTuple):
    """Frames of folders.

    Attributes:
      bank: uint8 `[sum of counts, H, W, C]`, memory-mapped.
      ids: Names of the S sequences.
      files: For each sequence, the paths of its files under the root, with "/"; see `picture_name`.
      remarks: What is not used as it is.
      content: A digest of the files' names and sizes.
    """

    bank: tf.Tensor
    ids: list[str]
    files: list[list[str]]
    remarks: list[Remark]
    content: str = ""


def picture_name(path: str, number: int) -> str:
    """What one of several pictures in a file is called: "anna/stack.tif#3" is the third."""
    return f"{path}#{number}"


def without_suffix(name: str) -> str:
    """A file's path or name without its suffix: "stack" of "stack.tif", and "stack#3" of "stack.tif#3"."""
    file, mark, number = name.rpartition("#")
    if mark and number.isdecimal() and os.path.splitext(file)[1]:
        return os.path.splitext(file)[0] + mark + number
    return os.path.splitext(name)[0]


def frame_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of frames, from a setting that gives both, or one number for both.

    Raises:
      UserError: If one is not a multiple of 16.
    """
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    sides = tuple(int(side) if isinstance(side, np.integer) else side for side in sides)
    if len(sides) != 2 or any(type(side) is not int or side < 16 or side % 16 for side in sides):
        raise UserError(
            "size must be a multiple of 16 (the encoder halves it four times), or two as (height, width); "
            f"got {size!r}."
        )
    return sides


def load_frames(
    root: Path,
    frame_format: FrameFormat,
    name_pattern: str | None = None,
    min_frames: int = 2,
    max_bad_fraction: float = 0.05,
    cache_dir: str | None = None,
) -> FrameStore:
    """Decodes all frames under a folder, or finds them in the cache.

    Args:
      root: Holds images, in folders or not.
      frame_format: What the images become.
      name_pattern: See `sequence_of`; None: the folders are the sequences.
      min_frames: Sequences with fewer are left out.
      max_bad_fraction: If more of the images than this cannot be read, none is used.
      cache_dir: Where the array is kept; None: `default_cache_dir()`.

    Returns:
      The frames, sequences and frames in natural order of their names.

    Raises:
      UserError: If a setting is wrong, the folder is missing, holds no sequence or too many bad files, or the cache
        cannot be written.
    """
    _check_settings(frame_format, min_frames, max_bad_fraction)
    pattern = compiled(name_pattern, "name_pattern") if name_pattern is not None else None
    if not root.is_dir():
        if root.is_file():
            raise UserError(f"{root} is a file; name a folder of images (an archive has to be unpacked).")
        raise UserError(f"There is no folder {root}.")
    root = root.resolve()
    files, remarks, unused = list_files(root)
    cache = _cache(root, [*frame_format, name_pattern, min_frames], files, remarks, cache_dir)

    def make(folder: Path) -> dict[str, Any]:
        _check_space(folder, root, len(files) * math.prod(frame_format.size) * frame_format.channels)
        known = decode([path for path, _ in files], root, frame_format, pattern, min_frames, folder / FRAMES)
        known["remarks"] = remarks + known["remarks"] + unused
        _write_report(folder / REPORT, known["remarks"])
        return known

    bank, known = cache.get(make)
    remarks = [Remark(*remark) for remark in known["remarks"]]
    store = FrameStore(bank, known["ids"], known["files"], remarks, _content(known["files"], files))
    _check_usable(store, root, min_frames, max_bad_fraction, cache.folder / REPORT)
    _print_remarks(store.remarks, root, cache.folder / REPORT)
    return store


def _check_settings(frame_format: FrameFormat, min_frames: int, max_bad_fraction: float) -> None:
    if frame_format.fit not in FITS:
        raise UserError(f"fit must be one of {', '.join(FITS)}; got {frame_format.fit!r}.")
    if frame_format.channels not in (1, 3):
        raise UserError(f"channels must be 3 (colour) or 1 (grey), got {frame_format.channels}.")
    if min_frames < 1:
        raise UserError(f"min_frames must be at least 1, got {min_frames}.")
    if not 0 <= max_bad_fraction <= 1:
        raise UserError(f"max_bad_fraction must be from 0 to 1, got {max_bad_fraction}.")
    if frame_format.max_decoding_mb < 1:
        raise UserError(f"max_decoding_mb must be at least 1, got {frame_format.max_decoding_mb}.")
    if (values := frame_format.value_range) is not None and not (
        isinstance(values, tuple | list)
        and len(values) == 2
        and all(isinstance(value, int | float) for value in values)
        and -math.inf < values[0] < values[1] < math.inf
    ):
        raise UserError(
            f"value_range must be two numbers, that of black and, above it, that of white, as (0, 4095); got {values}."
        )


def compiled(pattern: str, setting: str) -> re.Pattern[str]:
    """A regular expression that a setting gives.

    Raises:
      UserError: If it is none.
    """
    if not isinstance(pattern, str):
        raise UserError(f"{setting} must be one regular expression, as 'anna|bob'; got {pattern!r}.")
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"{setting} is not a regular expression ({error}): {pattern}") from error


def list_files(root: Path) -> tuple[list[tuple[str, os.stat_result]], list[Remark], list[Remark]]:
    """Every file under a folder that may be a frame, in natural order; symbolic links are followed, but no loops.

    Hidden files and folders are passed over, and so is what `folders.no_data` names. Files that are not named as
    images are listed too: they are looked into.

    Returns:
      (path under the root with "/", status) pairs; remarks about what is no file; and remarks about what is passed
      over whatever is in it, such as FIFOs, one for each kind.
    """
    files, remarks, unused = [], [], Unused()

    def unreadable(error: OSError) -> None:
        remarks.append(Remark(error.filename, "bad", str(error.strerror)))

    def again(folder: str) -> None:
        remarks.append(Remark(folder, "left out", "the same folder as one before, by a link"))

    for folder, subfolders, names in walk(root, follow_links=True, on_error=unreadable, on_again=again):
        if folder != str(root) and (kind := no_data(folder, [*subfolders, *names])):
            unused.add(folder, kind)
            subfolders.clear()
            continue
        for entries in (subfolders, names):
            entries[:] = sorted((name for name in entries if not name.startswith(".")), key=natural_order)
        if not names and not subfolders:
            remarks.append(Remark(folder, "left out", "an empty folder"))
        for name in names:
            _list_file(os.path.join(folder, name), root, files, remarks, unused)
    return files, remarks, [Remark(path, "left out", reason) for path, reason in unused.reasons().items()]


def _list_file(
    path: str, root: Path, files: list[tuple[str, os.stat_result]], remarks: list[Remark], unused: Unused
) -> None:
    """Puts one file into the list that it belongs to."""
    try:
        status = os.stat(path)
    except OSError as error:
        if is_named_as_image(path):
            remarks.append(Remark(path, "bad", f"cannot be opened ({error.strerror})"))
        else:
            unused.add(path, f"cannot be opened ({error.strerror})")
        return
    if not stat.S_ISREG(status.st_mode):
        unused.add(path, "a FIFO, a socket or a device")
    elif os.path.basename(path).lower() != LABELS_FILE:
        files.append((os.path.relpath(path, root).replace(os.sep, "/"), status))
    elif os.path.dirname(path) != str(root):
        unused.add(path, f"{LABELS_FILE} is read in the root only")
    elif os.path.basename(path) != LABELS_FILE:
        unused.add(path, f"its name must be {LABELS_FILE}, in small letters")


def matched(name_pattern: re.Pattern[str], path: str) -> re.Match[str] | None:
    """The match of a pattern with the path of a file, or of a picture in one, without its suffix."""
    return name_pattern.fullmatch(os.path.splitext(re.sub(r"#\d+$", "", path))[0])


def sequence_of(path: str, name_pattern: re.Pattern[str] | None) -> str | None:
    """The sequence that a file, given by its path under the root, belongs to: its folder, unless the pattern says.

    Args:
      path: For example "anna/left_01.png".
      name_pattern: Matches all of the path without its suffix; a group named `sequence` gives the sequence.

    Returns:
      The name, "" for the root itself; None if the pattern does not match.
    """
    folder, _, _ = path.rpartition("/")
    if name_pattern is None:
        return folder
    match = matched(name_pattern, path)
    return match and match.groupdict().get("sequence", folder)


def _cache(
    root: Path,
    settings: list[Any],
    files: list[tuple[str, os.stat_result]],
    remarks: list[Remark],
    cache_dir: str | None,
) -> FrameCache:
    """The place of these frames in the cache."""
    place = hashlib.blake2b(json.dumps([FORMAT, str(root), *settings]).encode(), digest_size=6).hexdigest()
    listing = [(path, status.st_size, status.st_mtime_ns) for path, status in files]
    fingerprint = hashlib.blake2b(json.dumps([listing, remarks]).encode()).hexdigest()
    parent = local_path(cache_dir) if cache_dir else default_cache_dir()

    def is_current(known: dict[str, Any]) -> bool:  # of files that can be read by now, it says that they are bad
        return not any(can_be_read(root / path) for path in known["unreadable"])

    return FrameCache(parent / f"{root.name[:40]}-{place}", fingerprint, is_current)


def _content(used: list[list[str]], files: list[tuple[str, os.stat_result]]) -> str:
    """A digest of the names and sizes of the files that frames come from, which stays when they move."""
    sizes = {path: status.st_size for path, status in files}
    names = [name for of_sequence in used for name in of_sequence]
    listing = [[name, sizes.get(name, sizes.get(name.rpartition("#")[0]))] for name in names]
    return hashlib.blake2b(json.dumps(listing).encode(), digest_size=16).hexdigest()


def _check_space(folder: Path, root: Path, needed: int) -> None:
    """Raises UserError if the disk cannot hold the frames."""
    space = shutil.disk_usage(folder).free
    if needed > space:
        raise UserError(
            f"Decoding {root} needs up to {needed / 1e9:.1f} GB in {folder.parent.parent}, where {space / 1e9:.1f} GB "
            "are free; set cache_dir to another place."
        )


def _check_usable(store: FrameStore, root: Path, min_frames: int, max_bad_fraction: float, report: Path) -> None:
    """Raises UserError if too many files are bad, or there is no sequence."""
    bad = [remark for remark in store.remarks if remark.kind == "bad"]
    images = sum(map(len, store.files)) + len(bad)
    if len(bad) > max_bad_fraction * images:
        path, _, reason = bad[0]
        raise UserError(
            f"{len(bad)} of the {images} images under {root} cannot be used, which is more than max_bad_fraction = "
            f"{max_bad_fraction}; for example {path}: {reason}. All are listed in {report}."
        )
    if not store.ids:
        unmatched = [remark.path for remark in store.remarks if remark.reason == NOT_MATCHED]
        why = ""
        if unmatched:
            first = os.path.splitext(os.path.relpath(unmatched[0], root))[0]
            why = f"; name_pattern does not match {len(unmatched):,} of {images + len(unmatched):,} names, as '{first}'"
        elif store.remarks:
            path, _, reason = store.remarks[0]
            why = f"; {os.path.relpath(path, root)}: {reason}"
        raise UserError(
            f"There is no sequence of at least {min_frames} images under {root}; a sequence is a folder of images, or "
            f"what name_pattern says{why}. {report} lists what was found."
        )


def _print_remarks(remarks: list[Remark], root: Path, report: Path) -> None:
    if remarks:
        kinds = {kind: sum(remark.kind == kind for remark in remarks) for kind in ("bad", "left out", "noted")}
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        print(f"{root}: {told} (reasons in {report})", flush=True)
        for remark in remarks[:NUM_SHOWN]:
            print(f"  {escaped(os.path.relpath(remark.path, root))}: {escaped(remark.reason)}", flush=True)


def _write_report(path: Path, remarks: Iterable[Remark]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(Remark._fields)
        writer.writerows(map(escaped, remark) for remark in remarks)


def decode(
    paths: list[str],
    root: Path,
    frame_format: FrameFormat,
    name_pattern: re.Pattern[str] | None,
    min_frames: int,
    target: Path,
) -> dict[str, Any]:
    """Decodes files into one `.npy` file, sequence after sequence.

    Args:
      paths: Of the files, under the root.
      root: The folder.
      frame_format: What they become.
      name_pattern: See `sequence_of`.
      min_frames: Sequences with fewer are left out.
      target: The file to write.

    Returns:
      `ids`, `files` and `remarks`, as of `FrameStore`; and `unreadable`, the files that the system did not give.
    """
    with (
        warnings.catch_warnings(action="ignore"),  # Pillow's, about odd metadata and sizes; what matters is an error
        target.open("wb") as file,
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(paths), desc="decoding", unit="file", disable=not paths) as bar,
    ):
        writer = _Writer(file, root, frame_format, min_frames)
        sequences = writer.grouped(paths, name_pattern)
        for name in sorted(sequences, key=natural_order):
            writer.add(name, _decoded(_copies_last(sequences[name]), root, frame_format, pool, bar.update))
        return writer.finish()


def _copies_last(paths: list[str]) -> list[str]:
    """The files of a sequence, those named as a copy of one of the others after all others, which are kept."""
    names = {without_suffix(path) for path in paths}

    def is_copy(path: str) -> bool:
        match = COPY.fullmatch(without_suffix(path))
        return bool(match) and match[1] in names

    return sorted(paths, key=is_copy)


def _decoded(
    paths: list[str], root: Path, frame_format: FrameFormat, pool: Executor, advance: Callable[[], Any]
) -> Iterator[tuple[str, Frame | ValueError]]:
    """Each frame of some files with its name; or, where there is none, the reason."""

    def attempt(path: str) -> Frame | ValueError:
        try:
            return read_frame(root / path, frame_format)
        except ValueError as error:
            return error

    # The threads are ahead by a block at most, so that its frames fit into memory.
    block = max(16, MAX_BLOCK_BYTES // (math.prod(frame_format.size) * frame_format.channels))
    for start in range(0, len(paths), block):
        some = paths[start : start + block]
        for path, frame in zip(some, pool.map(attempt, some), strict=True):  # cancelled when interrupted
            if isinstance(frame, Frame) and frame.num_pictures > 1:
                yield from _decoded_pictures(path, root, frame_format)
            else:
                yield path, frame
            advance()


def _decoded_pictures(path: str, root: Path, frame_format: FrameFormat) -> Iterator[tuple[str, Frame | ValueError]]:
    """The pictures of one file, each a frame."""
    done = 0
    try:
        for number, frame in read_pictures(root / path, frame_format):
            if not done:
                frame = frame._replace(note=f"{frame.num_pictures} pictures in one file, each a frame")
            done = number
            yield picture_name(path, number), frame
        if not done:
            yield path, ValueError(ONLY_SMALLER)
    except ValueError as error:
        yield path, type(error)(f"no picture after number {done} can be decoded: {error}")


class _Writer:
    """Writes the frames that can be used, and keeps account of the others."""

    def __init__(self, file: IO[bytes], root: Path, frame_format: FrameFormat, min_frames: int) -> None:
        self._file, self._root, self._min_frames = file, root, min_frames
        self._shape = (*frame_format.size, frame_format.channels)
        self._remarks: list[Remark] = []
        self._unused = Unused()
        self._unreadable: list[str] = []
        self._kept: dict[str, list[str]] = {}
        self._first_with: dict[bytes, str] = {}  # digest -> path
        self._of_sequence: dict[bytes, str] = {}  # the same of the sequence that is being written
        # Of images of 16 bits, by whether they are in colour.
        self._max_values: dict[bool, dict[str, int]] = {False: {}, True: {}}
        self._value_range = frame_format.value_range
        self._write_header(0)

    def grouped(self, paths: list[str], name_pattern: re.Pattern[str] | None) -> dict[str, list[str]]:
        """The files of each sequence, in their order."""
        sequences: dict[str, list[str]] = {}
        for path in paths:
            sequence = sequence_of(path, name_pattern)
            if sequence is not None:
                sequences.setdefault(sequence, []).append(path)
            elif is_named_as_image(path):
                self._remark(path, "left out", NOT_MATCHED)
            else:
                self._unused.add(str(self._root / path), unknown_kind(path))
        return sequences

    def add(self, sequence: str, frames: Iterable[tuple[str, Frame | ValueError]]) -> None:
        """Writes the frames of one sequence, unless they are too few."""
        start, good = self._file.tell(), []
        self._of_sequence.clear()
        for path, frame in frames:
            if isinstance(frame, ValueError):
                self._reject(path, frame)
            elif self._is_new(path, frame):
                good.append(path)
                if frame.max_value is not None:
                    self._max_values[frame.deep_colour][path] = frame.max_value
                self._file.write(frame.pixels.tobytes())
        if len(good) >= self._min_frames:
            self._kept[sequence] = good
            return
        self._file.seek(start)
        self._file.truncate()
        if good:
            reason = f"only {len(good)} usable frame(s), fewer than min_frames = {self._min_frames}"
            self._remark(sequence, "left out", reason)

    def finish(self) -> dict[str, Any]:
        """Completes the file; returns what is to be known about it."""
        self._file.seek(0)
        self._write_header(sum(map(len, self._kept.values())))
        self._remark_on_range()
        unused = [Remark(path, "left out", reason) for path, reason in self._unused.reasons().items()]
        return {
            "ids": list(self._kept),
            "files": list(self._kept.values()),
            "remarks": self._remarks + unused,
            "unreadable": self._unreadable,
        }

    def _remark_on_range(self) -> None:
        """Remarks on images of 16 bits if no value in any of them needs more than 14."""
        for in_colour, values in self._max_values.items():
            setting = "set value_range = (0, {})"
            if reason := remark_on_range(values.values(), in_colour, bool(self._value_range), setting):
                self._remark(next(iter(values)), "noted", reason)

    def _remark(self, path: str, kind: str, reason: str) -> None:
        self._remarks.append(Remark(str(self._root / path), kind, reason))

    def _reject(self, path: str, reason: ValueError) -> None:
        if isinstance(reason, UnreadableError):
            self._unreadable.append(path)
        if is_named_as_image(path):
            self._remark(path, "bad", str(reason))
        else:
            self._unused.add(str(self._root / path), unknown_kind(path))

    def _is_new(self, path: str, frame: Frame) -> bool:
        """Whether a frame is not one of its sequence already; remarks on it."""
        full = str(self._root / path)
        if (before := self._of_sequence.setdefault(frame.digest, full)) != full:
            self._remark(path, "left out", f"the same file as {before}")
            return False
        if (before := self._first_with.setdefault(frame.digest, full)) != full:
            self._remark(path, "noted", f"the same file as {before} of another sequence")
        if frame.note:
            self._remark(path, "noted", frame.note)
        return True

    def _write_header(self, count: int) -> None:
        """Of a .npy file. NumPy leaves room for the first axis to grow, so it is as long for any `count`."""
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
