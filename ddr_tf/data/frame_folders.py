"""Your own folders: `<root>/<sequence>/<frame>.<any image type>`, nested or flat, with labels where there are any."""

import functools
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddr_tf.config import configurable
from ddr_tf.data.arrays import ArrayDataset
from ddr_tf.data.frame_store import (
    LABELS_FILE,
    FrameStore,
    compiled,
    frame_size,
    load_frames,
    sequence_of,
    without_suffix,
)
from ddr_tf.data.labels import LabelTable, described, label_remarks, labels_in_names, read_labels
from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, Remark, split_at_random
from ddr_tf.errors import UserError
from ddr_tf.files import local_path
from ddr_tf.images import MAX_DECODING_MB, FrameFormat

SPLIT_NAMES = frozenset(("train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"))
FILE_NAME = "file name"  # of a frame, as its `pose_label`


@configurable()
class FrameFolders(ArrayDataset):
    """Sequences from folders of images.

    Each folder that holds images directly is a sequence, named by its path under `root`; or `name_pattern` tells them
    apart. Labels come from `<root>/labels.csv`, if it is there (see `read_labels`), and from `name_pattern`.
    """

    PATHS = ("root", "cache_dir")

    def __init__(
        self,
        root: str,
        size: int | tuple = 64,
        fit: str = "crop",
        channels: int = 3,
        name_pattern: str | None = None,
        held_out: str | None = None,
        held_out_fraction: float = 0.1,
        min_frames: int = 2,
        max_bad_fraction: float = 0.05,
        cache_dir: str | None = None,
        value_range: tuple | None = None,
        class_labels: tuple | str = (),
        pose_label: str | None = FILE_NAME,
        max_decoding_mb: int = MAX_DECODING_MB,
    ) -> None:
        """Decodes the frames, or finds them in the cache; see `load_frames`.

        Args:
          root: The folder.
          size: Side of the frames in pixels, a multiple of 16; or (height, width).
          fit: "crop": the largest part of that shape in the middle of an image; "resize": all of it, squeezed.
          channels: 3 (colour) or 1 (grey).
          name_pattern: A regular expression for a file's path under `root` without its suffix. Its group `sequence`,
            if it has one, names the sequence; other named groups are labels of the frame.
          held_out: A regular expression for the names of the sequences to hold out; None: at random.
          held_out_fraction: How many to hold out at random; always the same ones.
          min_frames: Sequences with fewer are left out.
          max_bad_fraction: If more of the images cannot be read, none is used.
          cache_dir: For the decoded frames; None: $DDR_TF_CACHE, else ~/.cache/ddr_tf/frames.
          value_range: The values that are black and white in images of 16 or 32 bits a pixel, as (0, 4095) for 12 bits
            in files of 16; None: 0 and 65,535, and images of 32 bits are bad.
          class_labels: Names of labels whose values are classes, even if they are numbers; or one name.
          pose_label: The label of frames that says what a frame shows, whatever its sequence. The true frame of a swap
            is then the frame of A with the same value as the frame of B. "file name": the name of the file without its
            folder and suffix, if all sequences have the same names. None: there is none, as for clips.
          max_decoding_mb: Memory that decoding may take, in megabytes; an image that alone takes more is bad.

        Raises:
          UserError: If a setting or the folder does not allow for at least one sequence in each split.
        """
        if not root:
            raise UserError("FrameFolders.root is empty; name a folder.")
        folder = local_path(root)
        class_labels = (class_labels,) if isinstance(class_labels, str) else class_labels
        frame_format = FrameFormat(frame_size(size), fit, channels, value_range, max_decoding_mb)
        store = load_frames(folder, frame_format, name_pattern, min_frames, max_bad_fraction, cache_dir)
        table = _labels(folder, store, name_pattern)
        labels = described(table, class_labels)
        frame_labels = labels.get("frame_labels", {})
        values = labels.get("static_labels", {}) | frame_labels
        path = folder / LABELS_FILE if (folder / LABELS_FILE).exists() else folder
        remarks = label_remarks(table, values, labels["label_names"], class_labels, path)
        if reason := _like_sequences(table, store, name_pattern):
            remarks.append(Remark(str(folder), "noted", reason))
        if pose_label == FILE_NAME:
            pose_numbers, reason = poses_in_names(store, _names_not_used(folder, store, name_pattern))
        else:
            pose_numbers, reason = poses_in_label(frame_labels, pose_label, store)
        remarks += [Remark(str(folder), "noted", reason)] if reason else []
        if reason := _like_splits(store.ids, held_out):
            remarks.append(Remark(str(folder), "noted", reason))
        for remark in remarks:
            print(f"{remark.path}: {remark.reason}", flush=True)
        self.content = store.content
        super().__init__(
            store.bank,
            name=folder.resolve().name,
            frame_counts=np.array(list(map(len, store.files))),
            splits=split_by_name(store.ids, held_out)
            if held_out
            else split_at_random(len(store.ids), held_out_fraction),
            ids=store.ids,
            pose_numbers=pose_numbers,
            remarks=[*store.remarks, *remarks],
            **labels,
        )

    @staticmethod
    def frame_shape_of(**settings: Any) -> tuple[int, int, int]:
        """See `SequenceDataset.frame_shape_of`."""
        return *frame_size(settings["size"]), settings["channels"]


def _labels(folder: Path, store: FrameStore, name_pattern: str | None) -> LabelTable:
    """The labels in the folder's table and in the names of the files.

    Raises:
      UserError: As `read_labels`; or if a label is in both.
    """
    path = folder / LABELS_FILE
    table = read_labels(path, store) if path.exists() else LabelTable({}, {})
    in_names = labels_in_names(name_pattern, store) if name_pattern is not None else {}
    if twice := in_names.keys() & (table.sequences.keys() | table.frames.keys()):
        raise UserError(f"The label '{min(twice)}' is in {path} and in name_pattern; rename one.")
    return table._replace(frames=table.frames | in_names)


def _like_sequences(table: LabelTable, store: FrameStore, name_pattern: str | None) -> str:
    """What to say of a group of a pattern without `sequence` that is the same in all names of a sequence; or ""."""
    if name_pattern is None or "sequence" in (groups := re.compile(name_pattern).groupindex):
        return ""
    ends = np.cumsum(list(map(len, store.files)))[:-1]
    for name in groups:
        values = np.array(table.frames[name], object)
        if len(set(table.frames[name])) > 1 and all(len(set(part)) == 1 for part in np.split(values, ends)):
            return (
                f"the group {name} of name_pattern never changes within a sequence; if it should tell sequences apart, "
                "call it sequence; if it is a label of sequences, put it into labels.csv"
            )
    return ""


def _like_splits(ids: Sequence[str], held_out: str | None) -> str:
    """What to say of folders that are called as splits are, and are not used as such; or ""."""
    tops = {name.partition("/")[0] for name in ids}
    if held_out is not None or len(tops) < 2 or not {top.casefold() for top in tops} <= SPLIT_NAMES:
        return ""
    last = min((top for top in tops if "train" not in top.casefold()), default=min(tops))
    return (
        f"the folders {' and '.join(sorted(tops))} are called as splits are, but sequences are held out at random from "
        f"all of them; FrameFolders.held_out = '{last}/.*' holds out those of one"
    )


def _frame_name(file: str) -> str:
    """The name of a file without its folder and suffix."""
    return without_suffix(file.rpartition("/")[2])


def _names_not_used(folder: Path, store: FrameStore, name_pattern: str | None) -> dict[str, set[str]]:
    """Of each sequence, the names of frames of files that are there, but bad or left out."""
    pattern = compiled(name_pattern, "name_pattern") if name_pattern is not None else None
    folder = folder.resolve()
    names = defaultdict(set)
    for remark in store.remarks:
        file = os.path.relpath(remark.path, folder).replace(os.sep, "/")
        if remark.kind != "noted" and (sequence := sequence_of(file, pattern)) is not None:
            names[sequence].add(_frame_name(file))
    return names


def poses_in_names(
    store: FrameStore, not_used: Mapping[str, Collection[str]] | None = None
) -> tuple[np.ndarray | None, str]:
    """What each frame shows of any sequence, as the names of files say, if all sequences have the same ones.

    Args:
      store: The frames.
      not_used: Sequence -> names of frames that it has, but that are not used.

    Returns:
      `pose_numbers` of `SequenceDataset`; and what a user should know of it, or "".
    """
    not_used = not_used or {}
    names = [[_frame_name(file) for file in files] for files in store.files]
    poses = set().union(*names)
    if any(poses - set(own) - set(not_used.get(sequence, ())) for sequence, own in zip(store.ids, names, strict=True)):
        return None, _odd_names(store, names)
    remedy = "FrameFolders.pose_label can name a label of frames that does"
    for sequence, own, files in zip(store.ids, names, store.files, strict=True):
        if len(set(own)) < len(own):
            twice, _ = Counter(own).most_common(1)[0]
            alike = [file for name, file in zip(own, files, strict=True) if name == twice][:2]
            return None, (
                f"no true frames of swaps are known, since {' and '.join(alike)} of one sequence, {sequence}, have the "
                f"same name, so names of files do not say what a frame shows; {remedy}"
            )
    lacking = next((number for number, own in enumerate(names) if len(own) < len(poses)), None)
    reasons = []
    if len(poses) > 1 and len({re.sub(r"\d+", "", name) for name in poses}) == 1:
        reasons.append(
            f"files of the same number (as {min(poses)}) count as showing the same, as on a turntable; where they do "
            "not, as in clips, set FrameFolders.pose_label = None"
        )
    if lacking is not None:
        reasons.append(
            f"not all true frames of swaps are known, since {store.ids[lacking]} has no usable "
            f"{min(poses - set(names[lacking]))}; metrics that need all poses of all sequences are left out"
        )
    return np.unique(np.concatenate(names), return_inverse=True)[1], "; ".join(reasons)


def _odd_names(store: FrameStore, names: Sequence[Sequence[str]]) -> str:
    """What to say if all sequences would have the same names but for one, which has one more; or ""."""
    common = set(names[0]).intersection(*names[1:])
    odd = [number for number, own in enumerate(names) if set(own) != common]
    if len(names) < 3 or len(common) < 2 or len(odd) != 1 or len(set(names[odd[0]]) - common) != 1:
        return ""
    extra = next(file for name, file in zip(names[odd[0]], store.files[odd[0]], strict=True) if name not in common)
    return (
        f"no true frames of swaps are known, since only {store.ids[odd[0]]} has {extra}; without it all sequences "
        "would have the same names of files"
    )


def poses_in_label(
    frame_labels: Mapping[str, np.ndarray], pose_label: str | None, store: FrameStore
) -> tuple[np.ndarray | None, str]:
    """What each frame shows of any sequence, as a label says.

    Args:
      frame_labels: Name -> values, -1 or NaN where not known.
      pose_label: See `FrameFolders`.
      store: The frames.

    Returns:
      `pose_numbers` of `SequenceDataset`, -1 also for frames whose value another of their sequence has, since it does
      not say all that they show; and what a user should know of it, or "".

    Raises:
      UserError: If there is no such label of frames.
    """
    if pose_label is None:
        return None, ""
    if pose_label not in frame_labels:
        raise UserError(
            f"FrameFolders.pose_label: frames have no label {pose_label!r}; they have "
            f"{', '.join(frame_labels) or 'none'}."
        )
    values = frame_labels[pose_label]
    known = np.isfinite(values) & ((values >= 0) | np.issubdtype(values.dtype, np.floating))
    poses = np.where(known, np.unique(np.where(known, values, 0), return_inverse=True)[1], -1)
    files = [file for of_sequence in store.files for file in of_sequence]
    owner = np.repeat(np.arange(len(store.files)), [len(of_sequence) for of_sequence in store.files])
    first: dict[tuple[int, int], int] = {}
    twice = [
        (first[owner[row], poses[row]], row)
        for row in np.flatnonzero(known)
        if first.setdefault((owner[row], poses[row]), row) != row
    ]
    if not twice:
        return poses, ""
    poses[np.unique(twice)] = -1
    return poses, (
        f"{files[twice[0][0]]} and {files[twice[0][1]]} of one sequence have the same {pose_label}, so it does not say "
        f"all that they show; {len(np.unique(twice))} such frames have no true frames of swaps"
    )


def split_by_name(ids: list[str], held_out: str) -> dict[str, np.ndarray]:
    """Holds out the sequences whose whole name a regular expression matches.

    Raises:
      UserError: If it matches none or all, or is not a regular expression.
    """
    pattern = compiled(held_out, "held_out")
    # Folders from a Mac have another form of Unicode than what is typed.
    forms = (str, functools.partial(unicodedata.normalize, "NFC"))
    matches = np.array([any(pattern.fullmatch(form(name)) for form in forms) for name in ids])
    if matches.all() or not matches.any():
        raise UserError(
            f"held_out must match some of the {len(ids)} sequences; '{held_out}' matches "
            f"{'all' if matches.all() else 'none'} (they are named like '{ids[0]}')."
        )
    return {TRAIN: np.flatnonzero(~matches), HELD_OUT: np.flatnonzero(matches)}
