"""Anybody's folders: `<root>/<sequence>/<frame>.<any image type>`, nested or flat, with labels where there are any."""

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddr_tf.config import configurable
from ddr_tf.data.arrays import ArrayDataset
from ddr_tf.data.frame_store import LABELS_FILE, FrameStore, load_frames
from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, split_at_random
from ddr_tf.errors import UserError


def as_label(values: Iterable[str | None]) -> tuple[np.ndarray, list[str] | None]:
    """Text of a label -> numbers, and the words that they stand for.

    Args:
      values: A text for each thing; None or "" where not known.

    Returns:
      If all are numbers, float32 with NaN where not known, and None; otherwise int32 with -1 where not known, and the
      words in alphabetical order.
    """
    values = [value or None for value in values]
    try:
        return np.array([np.nan if value is None else float(value) for value in values], np.float32), None
    except ValueError:
        words = sorted({value for value in values if value is not None})
        return np.array([-1 if value is None else words.index(value) for value in values], np.int32), words


def read_labels(path: Path, store: FrameStore) -> tuple[dict[str, list], dict[str, list]]:
    """Labels from a CSV file with a header line.

    A column `sequence` names the sequence; a column `frame`, if there is one, names the frame, by the name of its file
    with or without suffix. Any other column is a label: of frames if there is a column `frame`, else of sequences.

    Args:
      path: The file.
      store: What it describes.

    Returns:
      Labels of sequences, and labels of frames: name -> a text or None for each.

    Raises:
      UserError: If a column is missing, or a line names what does not exist (with the line's number).
    """
    sequences = {sequence: number for number, sequence in enumerate(store.ids)}
    first = np.cumsum([0, *map(len, store.files)])
    frames: dict[tuple[int, str], int] = {}
    for number, files in enumerate(store.files):
        names = {file.rpartition("/")[2]: row for row, file in enumerate(files, start=first[number])}
        stems = {os.path.splitext(name)[0]: row for name, row in names.items()}
        frames |= {(number, name): row for name, row in (stems | names).items()}
    not_used = [os.path.relpath(remark.path, path.parent) for remark in store.remarks if remark.kind != "noted"]
    not_used = {name for file in not_used for name in (file, os.path.splitext(file)[0])}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file)
            columns = [column for column in lines.fieldnames or () if column not in ("sequence", "frame")]
            if "sequence" not in (lines.fieldnames or ()) or not columns or not all(columns):
                raise UserError(
                    f"{path} needs a header line with 'sequence', perhaps 'frame', and the names of labels."
                )
            of_frames = "frame" in lines.fieldnames
            labels = {column: [None] * (first[-1] if of_frames else len(sequences)) for column in columns}
            for line in lines:
                place = number = sequences.get(line["sequence"])
                if number is not None and of_frames:
                    place = frames.get((number, line["frame"]))
                if place is not None:
                    for column in columns:
                        labels[column][place] = line[column]
                elif not {line["sequence"], f"{line['sequence']}/{line.get('frame')}"} & not_used:
                    what = f"{line['sequence']}/{line['frame']}" if of_frames else line["sequence"]
                    raise UserError(f"{path}, line {lines.line_num}: there is no {what}.")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as UTF-8 CSV ({error}).") from error
    return ({}, labels) if of_frames else (labels, {})


def labels_in_names(name_pattern: str, store: FrameStore) -> dict[str, list[str | None]]:
    """The named groups of a pattern, but for `sequence`, as labels of frames."""
    pattern = re.compile(name_pattern)
    matches = [pattern.fullmatch(os.path.splitext(file)[0]) for files in store.files for file in files]
    return {name: [match[name] for match in matches] for name in pattern.groupindex if name != "sequence"}


def described(
    static: Mapping[str, Iterable[str | None]], frame: Mapping[str, Iterable[str | None]]
) -> dict[str, dict[str, np.ndarray] | dict[str, list[str]]]:
    """Labels as text -> the arguments `static_labels`, `frame_labels` and `label_names` of `SequenceDataset`."""
    names: dict[str, list[str]] = {}
    labels: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for kind, texts in (("static_labels", static), ("frame_labels", frame)):
        for name, values in texts.items():
            labels[kind][name], words = as_label(values)
            if words is not None:
                names[name] = words
    return {**labels, "label_names": names}


@configurable()
class FrameFolders(ArrayDataset):
    """Sequences from folders of images.

    Each folder that holds images directly is a sequence, named by its path under `root`; or `name_pattern` tells them
    apart. Labels come from `<root>/labels.csv`, if it is there (see `read_labels`), and from `name_pattern`.
    """

    def __init__(
        self,
        root: str,
        size: int = 64,
        fit: str = "crop",
        channels: int = 3,
        name_pattern: str | None = None,
        held_out: str | None = None,
        held_out_fraction: float = 0.1,
        min_frames: int = 2,
        max_bad_fraction: float = 0.05,
        cache_dir: str | None = None,
    ) -> None:
        """Decodes the frames, or finds them in the cache; see `load_frames`.

        Args:
          root: The folder.
          size: Side of the frames in pixels, a multiple of 16.
          fit: "crop": the largest square in the middle of an image; "resize": all of it, squeezed to a square.
          channels: 3 (colour) or 1 (grey).
          name_pattern: A regular expression for a file's path under `root` without its suffix. Its group `sequence`,
            if it has one, names the sequence; other named groups are labels of the frame.
          held_out: A regular expression for the names of the sequences to hold out; None: at random.
          held_out_fraction: How many to hold out at random; always the same ones.
          min_frames: Sequences with fewer are left out.
          max_bad_fraction: If more of the images cannot be read, none is used.
          cache_dir: For the decoded frames; None: $DDR_TF_CACHE, else ~/.cache/ddr_tf/frames.

        Raises:
          UserError: If a setting or the folder does not allow for at least one sequence in each split.
        """
        if not root:
            raise UserError("FrameFolders.root is empty; name a folder.")
        folder = Path(os.path.expanduser(root))
        store = load_frames(folder, size, fit, channels, name_pattern, min_frames, max_bad_fraction, cache_dir)
        static, frame = read_labels(folder / LABELS_FILE, store) if (folder / LABELS_FILE).exists() else ({}, {})
        in_names = labels_in_names(name_pattern, store) if name_pattern is not None else {}
        if twice := in_names.keys() & (static.keys() | frame.keys()):
            raise UserError(f"The label '{min(twice)}' is in {folder / LABELS_FILE} and in name_pattern; rename one.")
        frame |= in_names
        super().__init__(
            store.bank,
            name=folder.resolve().name,
            frame_counts=np.array(list(map(len, store.files))),
            splits=split_by_name(store.ids, held_out)
            if held_out
            else split_at_random(len(store.ids), held_out_fraction),
            ids=store.ids,
            remarks=store.remarks,
            **described(static, frame),
        )

    @staticmethod
    def frame_shape_of(**settings: Any) -> tuple[int, int, int]:
        """See `SequenceDataset.frame_shape_of`."""
        return settings["size"], settings["size"], settings["channels"]


def split_by_name(ids: list[str], held_out: str) -> dict[str, np.ndarray]:
    """Holds out the sequences whose whole name a regular expression matches.

    Raises:
      UserError: If it matches none or all, or is not a regular expression.
    """
    try:
        matches = np.array([re.fullmatch(held_out, name) is not None for name in ids])
    except re.error as error:
        raise UserError(f"held_out is not a regular expression ({error}): {held_out}") from error
    if matches.all() or not matches.any():
        raise UserError(
            f"held_out must match some of the {len(ids)} sequences; '{held_out}' matches "
            f"{'all' if matches.all() else 'none'} (they are named like '{ids[0]}')."
        )
    return {TRAIN: np.flatnonzero(~matches), HELD_OUT: np.flatnonzero(matches)}
