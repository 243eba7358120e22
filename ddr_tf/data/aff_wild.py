"""Aff-Wild and Aff-Wild2: aligned crops of the faces in videos, with valence and arousal (the paper, Appendix A)."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ddr_tf.config import configurable
from ddr_tf.data.arrays import ArrayDataset
from ddr_tf.data.frame_store import FrameStore, frame_size, load_frames
from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, Remark, split_at_random
from ddr_tf.errors import UserError
from ddr_tf.files import local_path, open_regular, read_limited
from ddr_tf.folders import walk
from ddr_tf.images import FrameFormat

LABELS = ("valence", "arousal")
HEADER = "valence,arousal"
DISCARD = -5.0  # what the annotations hold where a frame was not annotated
MAX_HEADER_BYTES, MAX_ANNOTATION_BYTES = 1000, 100_000_000  # an hour of video has one megabyte of annotations
HELD_OUT_FOLDER = "Validation_Set"  # of the annotations; the other is Train_Set


def find_annotations(folder: Path) -> dict[str, Path]:
    """The file of valence and arousal of each video: `<video>.txt` with that header line, at any depth.

    Aff-Wild2 has other annotations under the same names, which are passed over, as is what is no regular file.
    """
    annotations = {}
    found = walk(folder, follow_links=True, on_again=lambda again: None)
    paths = sorted(Path(parent, name) for parent, _, names in found for name in names if name.endswith(".txt"))
    for path in paths:
        try:
            with open_regular(path) as file:
                header = file.readline(MAX_HEADER_BYTES)
        except (OSError, ValueError):
            continue
        if re.sub(r"\s", "", header.decode("utf-8-sig", "replace").lower()) == HEADER:
            annotations[path.stem] = path
    return annotations


def read_annotation(path: Path) -> np.ndarray:
    """Valence and arousal of the frames of one video.

    Args:
      path: A header line, then "valence,arousal" in [-1, 1] for each source frame from 1; -5 means discard.

    Returns:
      float32 `[source frames, 2]`, NaN where discarded.

    Raises:
      UserError: If it is something else, with the line.
    """
    try:
        lines = read_limited(path, MAX_ANNOTATION_BYTES).decode("utf-8-sig").rstrip().splitlines()[1:]
        values = [_valence_and_arousal(line, number) for number, line in enumerate(lines, start=2)]
    except (OSError, ValueError) as error:
        raise UserError(f"The annotation {path} cannot be read ({error}).") from error
    array = np.array(values, np.float32).reshape(-1, len(LABELS))
    return np.where(array == DISCARD, np.nan, array)


def _valence_and_arousal(line: str, number: int) -> list[float]:
    """The two numbers of a line; raises ValueError, with the line's number, if they are not there."""
    pair = [float(value) for value in line.split(",")]
    if len(pair) != len(LABELS) or not all(value == DISCARD or -1 <= value <= 1 for value in pair):
        raise ValueError(f"line {number} is '{line[:80]}', not two numbers from -1 to 1, or -5")
    return pair


def frame_labels(store: FrameStore, annotations: dict[str, Path]) -> dict[str, np.ndarray]:
    """Valence and arousal of every frame, float32, NaN where not known.

    A frame's file is named by its number in the source video, from 1, so gaps do no harm.

    Raises:
      UserError: If the name of a file is not a number.
    """
    rows = []
    for sequence, files in zip(store.ids, store.files, strict=True):
        path = annotations.get(sequence)
        values = read_annotation(path) if path else np.empty((0, len(LABELS)), np.float32)
        values = np.concatenate([values, np.full((1, len(LABELS)), np.nan, np.float32)])  # for frames beyond the end
        for file in files:
            name = os.path.splitext(file.rpartition("/")[2])[0]
            if not name.isdecimal():
                raise UserError(f"{file}: frames must be named by their number in the video, as 00001.jpg.")
            number = int(name)
            rows.append(values[number - 1 if 1 <= number < len(values) else -1])
    return dict(zip(LABELS, np.array(rows).T, strict=True))


def _lacking(store: FrameStore, annotations: dict[str, Path], values: np.ndarray) -> str:
    """What to say of videos that have an annotation, of which fewer than half of the frames have values; or ""."""
    parts = np.split(np.isfinite(values), np.cumsum([len(files) for files in store.files])[:-1])
    known = {sequence: part.mean() for sequence, part in zip(store.ids, parts, strict=True) if sequence in annotations}
    lacking = [sequence for sequence, fraction in known.items() if fraction < 0.5]
    if not lacking:
        return ""
    return f"{annotations[lacking[0]].name} has values for {known[lacking[0]]:.0%} of the frames of its video alone" + (
        f"; {len(lacking)} of this kind" if len(lacking) > 1 else ""
    )


@configurable()
class AffWild(ArrayDataset):
    """Videos of faces: `<data_dir>/<folder>/cropped_aligned/<video>/<frame>.jpg`, one sequence a video.

    Annotations, where there are any, are `<data_dir>/<folder>/annotations/**/<video>.txt` and become the frame labels
    `valence` and `arousal`. If they lie in `Train_Set` and `Validation_Set`, as in Aff-Wild2, videos of
    `Validation_Set` are held out and all others are trained on; otherwise videos are held out at random.
    """

    PATHS = ("data_dir", "cache_dir")

    def __init__(
        self,
        data_dir: str,
        folder: str = "aff_wild",
        size: int | tuple = 64,
        held_out_fraction: float = 0.2,
        min_frames: int = 2,
        max_bad_fraction: float = 0.05,
        cache_dir: str | None = None,
    ) -> None:
        """Decodes the frames, or finds them in the cache.

        Args:
          data_dir: Where datasets are.
          folder: Of this one, under `data_dir`.
          size: Side of the frames in pixels, a multiple of 16; or (height, width).
          held_out_fraction: Of the videos, where the annotations do not say.
          min_frames: Videos with fewer are left out.
          max_bad_fraction: If more of the images cannot be read, none is used.
          cache_dir: For the decoded frames; None: $DDR_TF_CACHE, else ~/.cache/ddr_tf/frames.

        Raises:
          UserError: If the folder is missing, or something in it is not as said.
        """
        root = local_path(data_dir) / folder
        if not (root / "cropped_aligned").is_dir():
            raise UserError(
                f"There is no folder {root / 'cropped_aligned'}; docs/datasets.md says how to get Aff-Wild2, and "
                "--data_dir and AffWild.folder where to look."
            )
        store = load_frames(
            root / "cropped_aligned",
            FrameFormat(frame_size(size)),
            min_frames=min_frames,
            max_bad_fraction=max_bad_fraction,
            cache_dir=cache_dir,
        )
        annotations = find_annotations(root / "annotations")
        if annotations and not annotations.keys() & set(store.ids):
            raise UserError(
                f"None of the {len(annotations)} annotations under {root / 'annotations'} is named as one of the "
                f"{len(store.ids)} videos (they are named like '{store.ids[0]}')."
            )
        remarks, reasons = list(store.remarks), []
        if not annotations and (root / "annotations").is_dir():
            reasons.append(f"no file in it begins with {HEADER}, so there are no labels; videos are held out at random")
        labels = frame_labels(store, annotations) if annotations else {}
        if labels and (reason := _lacking(store, annotations, labels[LABELS[0]])):
            reasons.append(reason)
        for reason in reasons:
            remarks.append(Remark(str(root / "annotations"), "noted", reason))
            print(f"{root / 'annotations'}: {reason}", flush=True)
        held_out = [HELD_OUT_FOLDER in annotations.get(video, root).relative_to(root).parts for video in store.ids]
        if all(held_out) or not any(held_out):
            splits = split_at_random(len(store.ids), held_out_fraction)
        else:
            splits = {TRAIN: np.flatnonzero(~np.array(held_out)), HELD_OUT: np.flatnonzero(held_out)}
        self.content = store.content
        super().__init__(
            store.bank,
            name=folder,
            frame_counts=np.array(list(map(len, store.files))),
            splits=splits,
            frame_labels=labels,
            ids=store.ids,
            remarks=remarks,
        )
        if folder == "aff_wild":  # other folders hold somebody's own videos
            self.licence = "Aff-Wild2: non-commercial research, by agreement with its authors"

    @staticmethod
    def frame_shape_of(**settings: Any) -> tuple[int, int, int]:
        """See `SequenceDataset.frame_shape_of`."""
        return *frame_size(settings["size"]), 3
