"""Folders of images -> one memory-mapped array of frames, decoded and checked once.

Every file is decoded before training starts: what is damaged is found then, and training reads an array, which is
many times faster than images and does not mind if the folder vanishes. The array is kept in a cache and made again
when any file or setting has changed. Nothing in the folder itself is ever written.
"""

import csv
import glob
import hashlib
import json
import os
import re
import shutil
import stat
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ddr_tf.data.arrays import map_npy
from ddr_tf.data.images import FITS, Frame, is_named_as_image, read_frame
from ddr_tf.data.sequence_dataset import Remark
from ddr_tf.errors import UserError

BLOCK = 4096  # frames of a sequence that are in memory at once
FORMAT = 1  # of what is in the cache
REPORT = "remarks.tsv"
LABELS_FILE = "labels.csv"  # in the root; no frame


class FrameStore(NamedTuple):
    """Frames of folders.

    Attributes:
      bank: uint8 `[sum of counts, size, size, C]`, memory-mapped.
      ids: Names of the S sequences.
      files: For each sequence, the paths of its files under the root, with "/".
      remarks: What is not used as it is.
    """

    bank: tf.Tensor
    ids: list[str]
    files: list[list[str]]
    remarks: list[Remark]


def natural_order(text: str) -> list[tuple[bool, int, str]]:
    """Key by which "frame 10" comes after "frame 9"."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", text)]


def default_cache_dir() -> Path:
    """The environment variable DDR_TF_CACHE, else ~/.cache/ddr_tf/frames."""
    return Path(os.environ.get("DDR_TF_CACHE") or "~/.cache/ddr_tf/frames").expanduser()


def list_files(root: Path) -> tuple[list[tuple[str, os.stat_result]], list[Remark]]:
    """Every file under a folder that may be a frame, in natural order; symbolic links are followed, but no loops.

    Hidden files and folders are passed over. Files that are not named as images are listed too: they are looked into.

    Returns:
      (path under the root with "/", status) pairs, and remarks about what is no file.
    """
    files, remarks, seen = [], [], set()
    for folder, subfolders, names in os.walk(
        root, followlinks=True, onerror=lambda error: remarks.append(Remark(error.filename, "bad", str(error.strerror)))
    ):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            remarks.append(Remark(folder, "left out", "the same folder as one before, by a link"))
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted((name for name in subfolders if not name.startswith(".")), key=natural_order)
        names = [name for name in names if not name.startswith(".")]
        if not names and not subfolders:
            remarks.append(Remark(folder, "left out", "an empty folder"))
        for name in sorted(names, key=natural_order):
            path = os.path.join(folder, name)
            try:
                status = os.stat(path)
            except OSError as error:
                if is_named_as_image(Path(name)):
                    remarks.append(Remark(path, "bad", f"cannot be opened ({error.strerror})"))
                continue
            if stat.S_ISREG(status.st_mode) and path != os.path.join(root, LABELS_FILE):
                files.append((os.path.relpath(path, root).replace(os.sep, "/"), status))
    return files, remarks


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
    match = name_pattern.fullmatch(os.path.splitext(path)[0])
    return match and match.groupdict().get("sequence", folder)


def load_frames(
    root: Path,
    size: int,
    fit: str,
    channels: int,
    name_pattern: str | None = None,
    min_frames: int = 2,
    max_bad_fraction: float = 0.05,
    cache_dir: str | None = None,
) -> FrameStore:
    """Decodes all frames under a folder, or finds them in the cache.

    Args:
      root: Holds images, in folders or not.
      size: Side of the frames in pixels, a multiple of 16.
      fit: "crop" or "resize"; see `read_frame`.
      channels: 3 or 1.
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
    if size < 16 or size % 16:
        raise UserError(f"size must be a multiple of 16 (the encoder halves it four times), got {size}.")
    if fit not in FITS:
        raise UserError(f"fit must be one of {', '.join(FITS)}; got {fit!r}.")
    if channels not in (1, 3):
        raise UserError(f"channels must be 3 (colour) or 1 (grey), got {channels}.")
    if min_frames < 1:
        raise UserError(f"min_frames must be at least 1, got {min_frames}.")
    if not 0 <= max_bad_fraction <= 1:
        raise UserError(f"max_bad_fraction must be from 0 to 1, got {max_bad_fraction}.")
    if not root.is_dir():
        raise UserError(f"There is no folder {root}.")
    try:
        pattern = re.compile(name_pattern) if name_pattern is not None else None
    except re.error as error:
        raise UserError(f"name_pattern is not a regular expression ({error}): {name_pattern}") from error

    root = root.resolve()
    settings = [FORMAT, str(root), size, fit, channels, name_pattern, min_frames]
    place = hashlib.blake2b(json.dumps(settings).encode(), digest_size=6).hexdigest()
    folder = (Path(cache_dir).expanduser() if cache_dir else default_cache_dir()) / f"{root.name[:40]}-{place}"
    files, remarks = list_files(root)
    listing = [(path, status.st_size, status.st_mtime_ns) for path, status in files]
    fingerprint = hashlib.blake2b(json.dumps([listing, remarks]).encode()).hexdigest()

    index = _read_index(folder, fingerprint)
    if index is None:
        partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        _remove_abandoned(folder)
        try:
            partial.mkdir(parents=True, exist_ok=True)
            space, needed = shutil.disk_usage(partial).free, len(files) * size * size * channels
            if needed > space:
                raise UserError(
                    f"Decoding {root} needs up to {needed / 1e9:.1f} GB in {folder.parent}, where {space / 1e9:.1f} GB "
                    "are free; set cache_dir to another place."
                )
            index = _decode(root, files, pattern, size, fit, channels, min_frames, partial / "frames.npy")
            index["remarks"] = remarks + index["remarks"]
            _write_report(partial / REPORT, index["remarks"])
            index |= {"fingerprint": fingerprint, "bytes": (partial / "frames.npy").stat().st_size}
            (partial / "index.json").write_text(json.dumps(index))
            shutil.rmtree(folder, ignore_errors=True)
            try:
                partial.rename(folder)
            except OSError:  # another run may have just made the same
                if _read_index(folder, fingerprint) is None:
                    raise
        except OSError as error:
            raise UserError(f"The cache {folder.parent} cannot be written ({error}); set cache_dir.") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    remarks = [Remark(*remark) for remark in index["remarks"]]
    report = folder / REPORT
    bad = [remark for remark in remarks if remark.kind == "bad"]
    images = sum(len(names) for names in index["files"]) + len(bad)
    if len(bad) > max_bad_fraction * images:
        path, _, reason = bad[0]
        raise UserError(
            f"{len(bad)} of the {images} images under {root} cannot be used, which is more than max_bad_fraction = "
            f"{max_bad_fraction}; for example {path}: {reason}. All are listed in {report}."
        )
    if not index["ids"]:
        raise UserError(
            f"There is no sequence of at least {min_frames} images under {root}; a sequence is a folder of images, or "
            f"what name_pattern says. {report} lists what was found."
        )
    if remarks:
        kinds = {kind: sum(remark.kind == kind for remark in remarks) for kind in ("bad", "left out", "noted")}
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        print(f"{root}: {told} (reasons in {report})", flush=True)
    return FrameStore(map_npy(folder / "frames.npy"), index["ids"], index["files"], remarks)


def _remove_abandoned(folder: Path) -> None:
    """Removes what runs that were killed while decoding have left."""
    for partial in folder.parent.glob(f".{glob.escape(folder.name)}.*.part"):
        try:
            os.kill(int(partial.name.split(".")[-2]), 0)
        except ProcessLookupError:
            shutil.rmtree(partial, ignore_errors=True)
        except (OSError, ValueError):
            continue  # of somebody else, or not ours at all


def _read_index(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """What is known about the frames in the cache; None if they are not there, not whole or not of these files."""
    try:
        index = json.loads((folder / "index.json").read_text())
        whole = (folder / "frames.npy").stat().st_size == index["bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return index if whole and index["fingerprint"] == fingerprint else None


def _write_report(path: Path, remarks: Iterable[Remark]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(Remark._fields)
        writer.writerows(remarks)


def _decode(
    root: Path,
    files: list[tuple[str, os.stat_result]],
    name_pattern: re.Pattern[str] | None,
    size: int,
    fit: str,
    channels: int,
    min_frames: int,
    target: Path,
) -> dict[str, Any]:
    """Decodes the files into the .npy file `target`, sequence after sequence; returns what is to be known about it."""
    sequences: dict[str, list[str]] = {}
    remarks = []
    for path, _ in files:
        sequence = sequence_of(path, name_pattern)
        if sequence is not None:
            sequences.setdefault(sequence, []).append(path)
        elif is_named_as_image(Path(path)):
            remarks.append(Remark(str(root / path), "left out", "name_pattern does not match its name"))

    def attempt(path: str) -> Frame | str:
        try:
            return read_frame(root / path, size, fit, channels)
        except ValueError as error:
            return str(error)

    kept: dict[str, list[str]] = {}
    first_with: dict[bytes, tuple[str, str]] = {}  # digest -> sequence and path
    with (
        warnings.catch_warnings(action="ignore"),  # Pillow's, about odd metadata and sizes; what matters is an error
        target.open("wb") as bank,
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(files), desc=f"decoding {root.name}", unit="file", disable=not files) as bar,
    ):
        _write_header(bank, 0, size, channels)
        for sequence in sorted(sequences, key=natural_order):
            start, good = bank.tell(), []
            for block in range(0, len(sequences[sequence]), BLOCK):
                paths = sequences[sequence][block : block + BLOCK]
                for path, frame in zip(paths, pool.map(attempt, paths), strict=True):  # cancelled when interrupted
                    bar.update()
                    full = str(root / path)
                    if isinstance(frame, str):
                        if is_named_as_image(Path(path)):
                            remarks.append(Remark(full, "bad", frame))
                        continue
                    before = first_with.setdefault(frame.digest, (sequence, full))
                    if before[1] != full and before[0] == sequence:
                        remarks.append(Remark(full, "left out", f"the same file as {before[1]}"))
                        continue
                    if before[1] != full:
                        remarks.append(Remark(full, "noted", f"the same file as {before[1]} of another sequence"))
                    if frame.note:
                        remarks.append(Remark(full, "noted", frame.note))
                    good.append(path)
                    bank.write(frame.pixels.tobytes())
            if len(good) >= min_frames:
                kept[sequence] = good
            else:
                bank.seek(start)
                bank.truncate()
                if good:
                    reason = f"only {len(good)} usable frame(s), fewer than min_frames = {min_frames}"
                    remarks.append(Remark(str(root / sequence), "left out", reason))
        bank.seek(0)
        _write_header(bank, sum(map(len, kept.values())), size, channels)
    return {"ids": list(kept), "files": list(kept.values()), "remarks": remarks}


def _write_header(file: IO[bytes], count: int, size: int, channels: int) -> None:
    """Of a .npy file. NumPy leaves room for the first axis to grow, so it is as long for any `count`."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, channels)}
    np.lib.format.write_array_header_1_0(file, header)
