"""Labels of sequences and frames, from a CSV file or from names: text -> numbers, and the words that they stand for."""

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddr_tf.data.frame_store import FrameStore, without_suffix
from ddr_tf.data.sequence_dataset import Remark
from ddr_tf.errors import UserError
from ddr_tf.files import read_limited
from ddr_tf.folders import natural_order

MAX_LABELS_BYTES = 1_000_000_000  # bytes of a file; three million frames with ten labels take a third of that
SEPARATORS = ",;\t|"
# What stands for "not known": the words that pandas takes for it, and a dash.
_PANDAS = "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null"
MISSING = frozenset(("", "-", *_PANDAS.split("|")))
MAX_CLASS_NUMBERS = 10  # a label with no more values than this, all whole numbers, may well be of classes
Labels = dict[str, list[str | None]]


def as_label(
    values: Iterable[str | None], is_class: bool = False, decimal_comma: bool = False
) -> tuple[np.ndarray, list[str] | None]:
    """Text of a label -> numbers, and the words that they stand for.

    Args:
      values: A text for each thing; None, "" or another of `MISSING` where not known.
      is_class: Whether numbers are names of classes, too.
      decimal_comma: Whether "0,5" is a half.

    Returns:
      If all are numbers, float32 with NaN where not known, and None; otherwise int32 with -1 where not known, and the
      words in natural order.
    """
    values = [None if value is None or value.strip() in MISSING else value.strip() for value in values]
    if not is_class and (numbers := _numbers(values, decimal_comma)) is not None:
        return numbers, None
    words = sorted({value for value in values if value is not None}, key=natural_order if is_class else None)
    places = {word: place for place, word in enumerate(words)}
    return np.array([-1 if value is None else places[value] for value in values], np.int32), words


def _numbers(values: list[str | None], decimal_comma: bool) -> np.ndarray | None:
    """The values as float32; None: some are words, or what number they are cannot be told."""
    if decimal_comma and any(value and re.fullmatch(r"[-+]?\d*,\d+", value) for value in values):
        if any(value and "." in value for value in values):  # is 1.500 more than a thousand?
            return None
        values = [value and value.replace(",", ".") for value in values]
    try:
        numbers = np.array([_number(value) for value in values], np.float64)
    except ValueError:
        return None
    rounded = numbers.astype(np.float32)
    whole = numbers[numbers == np.round(numbers)]
    is_exact = len(np.unique(whole)) == len(np.unique(whole.astype(np.float32)))  # not so for long numbers of things
    return rounded if is_exact else None


def _number(value: str | None) -> float:
    """A number, NaN where it is not known, without end or beyond float32; raises ValueError for words."""
    if value is None:
        return np.nan
    if "_" in value:  # a number in Python, but hardly one in a table
        raise ValueError(value)
    number = float(value)
    return number if abs(number) <= np.finfo(np.float32).max else np.nan


class _Places:
    """Where the sequences and frames of a store are, by their names."""

    def __init__(self, store: FrameStore, root: Path) -> None:
        self._sequences = {sequence: number for number, sequence in enumerate(store.ids)}
        first = np.cumsum([0, *map(len, store.files)])
        self.num_sequences, self.num_frames = len(store.ids), int(first[-1])
        self._frames: dict[tuple[int, str], int] = {}
        for number, files in enumerate(store.files):
            names = {file.rpartition("/")[2]: row for row, file in enumerate(files, start=first[number])}
            stems = {without_suffix(name): row for name, row in names.items()}
            self._frames |= {(number, name): row for name, row in (stems | names).items()}
        not_used = [os.path.relpath(remark.path, root) for remark in store.remarks if remark.kind != "noted"]
        self._not_used = {name for file in not_used for name in (file, without_suffix(file))}

    def find(self, sequence: str, frame: str | None) -> int | None:
        """The number of a sequence, or the row of one of its frames; None for what is there, but not used.

        Raises:
          KeyError: If there is no such thing.
        """
        place = self._sequences.get(sequence, self._sequences.get(sequence.strip()))
        if place is not None and frame is not None:
            place = self._frames.get((place, frame))
        name = sequence if frame is None else f"{sequence}/{frame}"
        file = re.sub(r"#\d+$", "", name)  # x.tif#3 is the third picture of x.tif
        if place is None and not {sequence, name, file} & self._not_used:
            raise KeyError(name)
        return place


class LabelTable(NamedTuple):
    """What a CSV file of labels says.

    Attributes:
      sequences: Label -> a text or None for each sequence.
      frames: Label -> a text or None for each frame.
      decimal_comma: Whether numbers may have a comma in place of a point.
    """

    sequences: Labels
    frames: Labels
    decimal_comma: bool = False


def read_labels(path: Path, store: FrameStore) -> LabelTable:
    """Labels from a CSV file with a header line.

    A column `sequence` names the sequence; a column `frame`, if there is one, names the frame, by the name of its file
    with or without suffix. Any other column is a label: of frames if there is a column `frame`, else of sequences; but
    a first column without a name is the index that pandas writes, and is passed over.
    Columns are separated by what separates `sequence` from the next one: a comma, a semicolon, a tab or a bar.

    Args:
      path: The file.
      store: What it describes.

    Returns:
      The labels.

    Raises:
      UserError: If a column is missing, or a line names what does not exist, or names something twice (with the line's
        number).
    """
    try:
        text = read_limited(path, MAX_LABELS_BYTES).decode("utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds NUL characters")
        header, rows, separator = _table(text)
        first = 1 if header[:1] == [""] else 0
        columns = [column for column in header[first:] if column not in ("sequence", "frame")]
        if "sequence" not in header or not columns or not all(columns) or len(set(header)) < len(header):
            raise UserError(f"{path} needs a header line with 'sequence', perhaps 'frame', and the names of labels.")
        of_frames = "frame" in header
        places = _Places(store, path.parent)
        labels: Labels = {
            column: [None] * (places.num_frames if of_frames else places.num_sequences) for column in columns
        }
        _fill(labels, header, rows, places, path)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as UTF-8 CSV ({error}); save it so.") from error
    return LabelTable({}, labels, separator == ";") if of_frames else LabelTable(labels, {}, separator == ";")


def _table(text: str) -> tuple[list[str], Iterator[tuple[int, list[str]]], str]:
    """The header of a CSV text, its other lines with their numbers, and what separates columns."""
    first_line = text.lstrip("\r\n").split("\n", 1)[0]
    headers = {
        mark: [name.strip() for name in next(csv.reader([first_line], delimiter=mark), [])] for mark in SEPARATORS
    }
    separator = next((mark for mark, names in headers.items() if "sequence" in names and len(names) > 1), SEPARATORS[0])
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    rows = ((lines.line_num, row) for row in lines if row)
    _, header = next(rows, (0, []))
    return [name.strip() for name in header], rows, separator


def _fill(
    labels: Labels, header: list[str], rows: Iterable[tuple[int, list[str]]], places: _Places, path: Path
) -> None:
    """Puts the cells of a table into the lists of its labels."""
    lines: dict[int, int] = {}  # for each thing, the line that names it
    for line, row in rows:
        if len(row) > len(header):
            raise UserError(f"{path}, line {line}: there are {len(row)} cells, but {len(header)} columns.")
        cells = dict(zip(header, row, strict=False))
        try:
            place = places.find(cells.get("sequence", ""), cells.get("frame", "") if "frame" in header else None)
        except KeyError as error:
            raise UserError(f"{path}, line {line}: there is no {error.args[0]}.") from error
        if place is None:
            continue
        if place in lines:
            raise UserError(f"{path}, line {line}: line {lines[place]} is about the same; remove one.")
        lines[place] = line
        for column, values in labels.items():
            values[place] = cells.get(column)


def labels_in_names(name_pattern: str, store: FrameStore) -> Labels:
    """The named groups of a pattern, but for `sequence`, as labels of frames."""
    pattern = re.compile(name_pattern)
    matches = [pattern.fullmatch(os.path.splitext(file)[0]) for files in store.files for file in files]
    return {name: [match[name] for match in matches] for name in pattern.groupindex if name != "sequence"}


def described(
    table: LabelTable, class_labels: Collection[str] = ()
) -> dict[str, dict[str, np.ndarray] | dict[str, list[str]]]:
    """Labels as text -> the arguments `static_labels`, `frame_labels` and `label_names` of `SequenceDataset`.

    Args:
      table: The labels.
      class_labels: Names of those whose values are classes, even if they are numbers.

    Raises:
      UserError: If `class_labels` names one that does not exist.
    """
    if unknown := set(class_labels) - table.sequences.keys() - table.frames.keys():
        known = ", ".join([*table.sequences, *table.frames]) or "none"
        raise UserError(f"FrameFolders.class_labels names '{min(unknown)}', which is no label; there are: {known}.")
    names: dict[str, list[str]] = {}
    labels: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for kind, texts in (("static_labels", table.sequences), ("frame_labels", table.frames)):
        for name, values in texts.items():
            labels[kind][name], words = as_label(values, name in class_labels, table.decimal_comma)
            if words is not None:
                names[name] = words
    return {**labels, "label_names": names}


def class_remarks(
    labels: Mapping[str, np.ndarray],
    label_names: Mapping[str, Sequence[str]],
    class_labels: Collection[str],
    path: Path,
) -> list[Remark]:
    """Remarks about quantities that look like numbers of classes, and classes that look like quantities."""
    remarks = []
    for name, values in labels.items():
        if name not in label_names:
            reason = _like_classes(values)
        else:
            reason = None if name in class_labels else _like_a_quantity(label_names[name])
        if reason:
            remarks.append(Remark(str(path), "noted", f"the label {name} is {reason}"))
    return remarks


def _like_classes(values: np.ndarray) -> str | None:
    """What to say of a quantity that has few values, all whole numbers."""
    known = values[np.isfinite(values)]
    distinct = np.unique(known)
    if not (2 < len(distinct) <= min(MAX_CLASS_NUMBERS, len(known) / 2) and (distinct == np.round(distinct)).all()):
        return None
    shown = ", ".join(f"{value:g}" for value in distinct)
    return f"a quantity (of the values {shown}); if these are classes, name it in FrameFolders.class_labels"


def _like_a_quantity(words: Sequence[str]) -> str | None:
    """What to say of classes most of whose words are numbers."""
    others = [word for word in words if not _is_number(word)]
    if len(others) > len(words) / 2 or len(words) < 2:
        return None
    if not others:
        return f"of classes, since {_what_is_unclear(words)}"
    shown = ", ".join(f"'{word}'" for word in others[:3])
    return (
        f"of classes, since {len(others)} of its {len(words)} values are no numbers (as {shown}); if it is a quantity, "
        "leave those cells empty; if not, name it in FrameFolders.class_labels"
    )


def _what_is_unclear(words: Sequence[str]) -> str:
    """Why words that are all numbers were not taken for a quantity."""
    if not any("," in word for word in words):
        return f"float32 cannot tell its numbers apart (as '{words[-1]}'); name it in FrameFolders.class_labels"
    if any("." in word for word in words):
        return f"its numbers have points as well as commas (as '{words[0]}'); write points only"
    return f"its numbers have commas (as '{words[0]}'); write points, or separate columns by ;"


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(_number(word.replace(",", "."))))
    except ValueError:
        return False
