"""Labels of sequences and frames, from a CSV file or from names: text -> numbers, and the words that they stand for."""

import csv
import difflib
import io
import itertools
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from ddr_tf.data.frame_store import FrameStore, matched, without_suffix
from ddr_tf.data.label_names import name_in_metrics
from ddr_tf.data.label_values import as_label, as_number
from ddr_tf.data.sequence_dataset import Remark
from ddr_tf.errors import UserError
from ddr_tf.files import read_limited
from ddr_tf.images import is_named_as_image

MAX_LABELS_BYTES = 1_000_000_000  # bytes of a file; three million frames with ten labels take a third of that
SEPARATORS = ",;\t|"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # the first bytes of what Excel calls Unicode text
FILE = "file"
FILE_COLUMNS = (FILE, "frame", "filename", "file_name", "filepath", "file_path", "path", "image", "image_path")
SENTINELS = (-1, -9, -99, -999, -9999)  # numbers that often stand for "not known" where no other is below 0
MIN_DIFFERENT = 10  # values of a label, all different, that are classes by mistake
MAX_CLASS_NUMBERS = 10  # a label with no more values than this, all whole numbers, may well be of classes
Labels = dict[str, list[str | None]]


def _plain(name: str) -> str:
    """The same name in one form of Unicode: folders from a Mac have another than tables."""
    return unicodedata.normalize("NFC", name)


def _loosely(name: str) -> str:
    """A name without what tables often get wrong: capitals and zeros at the beginning of numbers."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", name).casefold()


def _spellings(name: str) -> list[str]:
    """A name as it is written, without spaces around it, and with the slashes of a path that Windows wrote."""
    return [name, name.strip(), name.strip().replace("\\", "/")]


class _Rows:
    """Rows by names, of which several rows may have the same."""

    def __init__(self, named: Iterable[tuple[str, int]]) -> None:
        self._row: dict[str, int] = {}
        self._others: dict[str, list[int]] = defaultdict(list)
        for name, row in named:
            if self._row.setdefault(_plain(name), row) != row:
                self._others[_plain(name)].append(row)

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def find(self, name: str) -> list[int]:
        """All rows of that name."""
        name = _plain(name)
        return [self._row[name], *self._others.get(name, ())] if name in self._row else []


class _Places:
    """Where the sequences and frames of a store are, by their names."""

    def __init__(self, store: FrameStore, root: Path) -> None:
        self._sequences = _Rows((sequence, number) for number, sequence in enumerate(store.ids))
        self._files = [file for files in store.files for file in files]
        self._known: dict[tuple[int, str], _Rows] = {}
        self._first = np.cumsum([0, *map(len, store.files)]).tolist()
        self.num_sequences, self.num_frames = len(store.ids), len(self._files)
        self._rows_of_files: _Rows | None = None
        root = root.resolve()
        self._root_name = _plain(root.name)
        not_used = [os.path.relpath(remark.path, root) for remark in store.remarks if remark.kind != "noted"]
        self._not_used = {_plain(name) for file in not_used for name in (file, without_suffix(file))}

    def find(self, sequence: str, frame: str | None) -> int | None:
        """The number of a sequence, or the row of one of its frames; None for what is there, but not used.

        Raises:
          LookupError: With the reason, if there is no such thing, or more than one.
        """
        found = self._find_sequence(sequence)
        name = sequence if frame is None else f"{sequence}/{frame}"
        file = re.sub(r"#\d+$", "", name)  # x.tif#3 is the third picture of x.tif
        is_used = not {_plain(sequence), _plain(name), _plain(file)} & self._not_used
        if len(found) == 1 and frame is not None:
            number, found = found[0], self._find_frame(found[0], frame)
            if not found and is_used and is_named_as_image(frame):  # as which it may have been written since
                found = self._find_frame(number, without_suffix(frame))
        if len(found) > 1:
            several = " and ".join(self._files[row] for row in found[:2]) if frame is not None else "several folders"
            raise LookupError(f"{name} may be {several}; write the path of the file, or rename one.")
        if found:
            return found[0]
        if is_used:
            raise LookupError(f"there is no {name}{self._hint(sequence, frame)}")
        return None

    def has_frame(self, sequence: str, frame: str) -> bool:
        """Whether `find` finds one, or what is not used."""
        try:
            self.find(sequence, frame)
        except LookupError:
            return False
        return True

    def _find_sequence(self, sequence: str) -> list[int]:
        """Numbers of the sequences that a name, or the path of a folder, may mean."""
        names = [*_spellings(sequence), self._under_root(sequence)]
        return next(filter(None, map(self._sequences.find, names)), [])

    def _under_root(self, path: str) -> str:
        """A path as it is under the root, whose own name it may begin with, or that of a folder of another machine."""
        parts = [part for part in _spellings(path)[-1].split("/") if part not in ("", ".")]
        roots = [place for place, part in enumerate(parts[:-1]) if _plain(part) == self._root_name]
        return "/".join(parts[roots[-1] + 1 if roots else 0 :])

    def find_file(self, path: str) -> int | None:
        """The row of the frame with this path under the root; None for what is there, but not used.

        Raises:
          LookupError: As of `find`.
        """
        if self._rows_of_files is None:
            rows = list(zip(self._files, range(self.num_frames), strict=True))
            self._rows_of_files = _Rows([*rows, *((without_suffix(file), row) for file, row in rows)])
        names = [*_spellings(path), self._under_root(path)]
        if re.match(r"/|\\|[A-Za-z]:[/\\]", path.strip()):  # a whole path
            names += [*self._ends(names[-1]), names[-1].rpartition("/")[2]]
        found = next(filter(None, map(self._rows_of_files.find, names)), [])
        is_used = not {_plain(name) for name in names} & self._not_used
        if not found and is_used and is_named_as_image(path):  # as which it may have been written since
            found = next(filter(None, map(self._rows_of_files.find, map(without_suffix, names))), [])
        if len(found) > 1:
            raise LookupError(f"{path} may be {' and '.join(self._files[row] for row in found[:2])}; write the suffix.")
        if found:
            return found[0]
        if is_used:
            alike = difflib.get_close_matches(names[-1], self._files, n=1)
            raise LookupError(f"there is no {path}" + (f"; did you mean {alike[0]}?" if alike else "."))
        return None

    def _find_frame(self, sequence: int, frame: str) -> list[int]:
        """Rows of the frames that a name may mean: a file's own name before one without its suffix, then its path."""
        for spelling in _spellings(frame):
            for kind in ("name", "stem", "path"):
                if found := self._frames(sequence, kind).find(spelling):
                    return found
        return next(filter(None, map(self._frames(sequence, "path").find, self._ends(_spellings(frame)[-1]))), [])

    @staticmethod
    def _ends(path: str) -> list[str]:
        """The last folders of a path of another machine, perhaps, with its name: they may end as those here do."""
        folders = path.split("/")
        return ["/".join(folders[start:]) for start in range(1, len(folders) - 1)]

    def _frames(self, sequence: int, kind: str) -> _Rows:
        """The frames of a sequence by the names of their files, without suffixes ("stem"), or by their paths."""
        if (sequence, kind) not in self._known:
            first, end = self._first[sequence : sequence + 2]
            paths = list(zip(self._files[first:end], range(first, end), strict=True))
            names = paths if kind == "path" else [(path.rpartition("/")[2], row) for path, row in paths]
            stems = [] if kind == "name" else [(without_suffix(name), row) for name, row in names]
            self._known[sequence, kind] = _Rows(stems if kind == "stem" else names + stems)
        return self._known[sequence, kind]

    def _hint(self, sequence: str, frame: str | None) -> str:
        """How the sentence about a name goes on: with the one that may have been meant, where there is one like it."""
        found = self._find_sequence(sequence)
        wanted, names = sequence, list(self._sequences)
        if not found and self.num_sequences == 1:
            return "; sequences are folders, or what FrameFolders.name_pattern says, and a table cannot make them."
        if found and frame is not None:
            wanted, names = frame, list(itertools.chain(*(self._frames(found[0], kind) for kind in ("name", "stem"))))
        alike = [name for name in names if _loosely(name) == _loosely(wanted)]
        alike = alike or difflib.get_close_matches(wanted, names, n=1)
        return f"; did you mean {alike[0]}?" if alike else "."


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
    or its path under the root, with or without suffix, which may be that of another type of image. In its place one of
    `FILE_COLUMNS` may do so. Instead of both, one of `FILE_COLUMNS` may hold paths of files
    under the root. Any other column is a label: of frames if there is a column
    `frame`, else of sequences; but a first column without a name is the index that pandas writes, and is passed over.
    Columns are separated by what separates `sequence` from the next one: a comma, a semicolon, a tab or a bar.

    Args:
      path: The file.
      store: What it describes.

    Returns:
      The labels.

    Raises:
      UserError: If a column is missing, or a line names what does not exist or what may be several files, or names
        something twice (with the line's number).
    """
    try:
        content = read_limited(path, MAX_LABELS_BYTES)
        text = content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds NUL characters")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 CSV ({error}); save it so.") from error
    try:
        header, rows, separator = _table(text)
        places = _Places(store, path.parent)
        header, rows = _with_frames(header, rows, places)
        columns = _columns(header, path)
        of_frames = "frame" in header or FILE in header
        labels: Labels = {
            column: [None] * (places.num_frames if of_frames else places.num_sequences) for column in columns
        }
        _fill(labels, header, rows, places, path)
    except csv.Error as error:
        raise UserError(
            f"{path} cannot be read as UTF-8 CSV ({error}); a quote that is opened there may not be closed, or columns "
            "are separated by something else than a comma, a semicolon, a tab or a bar."
        ) from error
    return LabelTable({}, labels, separator == ";") if of_frames else LabelTable(labels, {}, separator == ";")


def _table(text: str) -> tuple[list[str], Iterator[tuple[int, list[str]]], str]:
    """The header of a CSV text, its other lines with their numbers, and what separates columns.

    Comments before the header, and Excel's line `sep=;`, are passed over.
    """
    file = io.StringIO(text, newline="")
    number, place, marks = 0, 0, SEPARATORS
    while line := file.readline():
        if declared := re.fullmatch(f'"?sep=([{SEPARATORS}])"?', line.strip()):
            marks = declared[1]
        elif line.strip() and not (line.startswith("#") and _separator(line, marks) is None):
            break
        number, place = number + 1, file.tell()
    file.seek(place)
    separator = _separator(line, marks) or marks[0]
    rows = _numbered(file, separator, number)
    _, header = next(rows, (0, []))
    header = _header(header)
    while header and not header[-1]:  # columns of Excel that hold nothing
        header.pop()
    return header, rows, separator


def _separator(line: str, marks: str) -> str | None:
    """Which of some marks separates `sequence` from another column in a line."""
    headers = {mark: _header(next(csv.reader([line.strip("\r\n")], delimiter=mark), [])) for mark in marks}
    return next((mark for mark, names in headers.items() if {"sequence", FILE} & {*names} and len(names) > 1), None)


def _header(cells: list[str]) -> list[str]:
    """The names of columns; those of the columns that are no labels in lower case."""
    names = [cell.strip() for cell in cells]
    names = [name.lower() if name.lower() in ("sequence", "frame") else name for name in names]
    files = [name for name in names if name.lower() in FILE_COLUMNS]
    return [FILE if name in files else name for name in names] if "sequence" not in names and len(files) == 1 else names


def _with_frames(
    header: list[str], rows: Iterator[tuple[int, list[str]]], places: _Places
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The same table; a column of `FILE_COLUMNS` beside `sequence` is called `frame` if its first cell names one."""
    files = [number for number, name in enumerate(header) if name.lower() in FILE_COLUMNS]
    first = next(rows, None)
    rows = rows if first is None else itertools.chain([first], rows)
    if "sequence" not in header or "frame" in header or len(files) != 1 or first is None:
        return header, rows
    cells = dict(zip(header, first[1], strict=False))
    frame = cells.get(header[files[0]], "").strip()
    if places.has_frame(cells.get("sequence", ""), frame) or (is_named_as_image(frame) and "/" not in frame):
        header = ["frame" if number == files[0] else name for number, name in enumerate(header)]
    return header, rows


def _numbered(file: TextIO, separator: str, lines_before: int) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file, each with the number of the line that it begins in.

    Raises:
      csv.Error: With that number.
    """
    lines = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
    while True:
        number = lines_before + lines.line_num + 1
        try:
            row = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            raise csv.Error(f"from line {number} on: {error}") from error
        if any(cell.strip() for cell in row):
            yield number, row


def _columns(header: list[str], path: Path) -> list[str]:
    """The names of the labels in a header.

    Raises:
      UserError: If it is no header, with the reason.
    """
    first = 1 if header[:1] == [""] else 0
    # As pandas calls an index that it reads without being told so.
    columns = [column for column in header[first:] if not re.fullmatch(r"Unnamed: \d+(\.\d+)*", column)]
    columns = [column for column in columns if column not in ("sequence", "frame", FILE)]
    twice = [column for column in header if header.count(column) > 1]
    if not {"sequence", FILE} & {*header}:
        reason = f"it begins with '{', '.join(header)[:80]}'" if header else "it is empty"
    elif not columns:
        reason = "there is no label"
    elif not all(columns):
        reason = f"column {header.index('', first) + 1} has no name, so remove it or name it"
    elif twice:
        reason = f"'{twice[0]}' is there twice, so rename one"
    else:
        return columns
    raise UserError(f"{path} needs a header line with 'sequence', perhaps 'frame', and the names of labels; {reason}.")


def _fill(
    labels: Labels, header: list[str], rows: Iterable[tuple[int, list[str]]], places: _Places, path: Path
) -> None:
    """Puts the cells of a table into the lists of its labels."""
    lines: dict[int, int] = {}  # for each thing, the line that names it
    for line, row in rows:
        if any(cell.strip() for cell in row[len(header) :]):
            raise UserError(f"{path}, line {line}: there are {len(row)} cells, but {len(header)} columns.")
        cells = dict(zip(header, row, strict=False))
        try:
            if FILE in header:
                place = places.find_file(cells.get(FILE, ""))
            else:
                place = places.find(cells.get("sequence", ""), cells.get("frame", "") if "frame" in header else None)
        except LookupError as error:
            raise UserError(f"{path}, line {line}: {error}") from error
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
    matches = [matched(pattern, file) for files in store.files for file in files]
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


def label_remarks(
    table: LabelTable,
    values: Mapping[str, np.ndarray],
    label_names: Mapping[str, Sequence[str]],
    class_labels: Collection[str],
    path: Path,
) -> list[Remark]:
    """Remarks about labels that may be something else than they are taken for.

    Args:
      table: The labels as text.
      values: Their values as numbers.
      label_names: The words of those that are classes.
      class_labels: Names of those that were said to be classes.
      path: Of the table.
    """
    texts = table.sequences | table.frames
    reasons = []
    for name, numbers in values.items():
        is_class = name in label_names
        if not ((numbers >= 0) if is_class else np.isfinite(numbers)).any():
            reasons.append(f"the label {name} has no value that is known")
        elif name not in class_labels and (
            reason := _like_a_quantity(label_names[name]) if is_class else _like_classes(numbers)
        ):
            reasons.append(f"the label {name} is {reason}")
        elif name not in class_labels and (
            reason := _not_meant(label_names[name], texts[name]) or _with_units(label_names[name])
            if is_class
            else _with_sentinel(numbers)
        ):
            reasons.append(f"the label {name} {reason}")
        if is_class and (pair := _alike(label_names[name])):
            reasons.append(f"the label {name} has the classes '{pair[0]}' and '{pair[1]}', which are two")
        for mark, called in ((",", "a comma"), (".", "a point")):
            if table.decimal_comma and not is_class and (example := _like_thousands(texts[name], mark)):
                reasons.append(
                    f"the label {name} has numbers like {example}, read as {example.replace(',', '.')}; if those are "
                    f"thousands, write them without {called}"
                )
        if name_in_metrics(name) != name:
            reasons.append(
                f"the label {name} is called {name_in_metrics(name)} in the names of metrics, where {name} is "
                "something else"
            )
    return [Remark(str(path), "noted", reason) for reason in reasons]


def _like_thousands(texts: Iterable[str | None], mark: str) -> str | None:
    """One of the numbers with this mark, if all of these could be thousands: three digits follow, and no zero leads."""
    marked = [text.strip() for text in texts if text and mark in text]
    could_be = all(re.fullmatch(rf"[-+]?[1-9]\d{{0,2}}(\{mark}\d{{3}})+", text) for text in marked)
    return marked[0] if marked and could_be else None


def _alike(words: Sequence[str]) -> tuple[str, str] | None:
    """Two words that differ in capitals alone."""
    seen: dict[str, str] = {}
    return next(((seen[key], word) for word in words if seen.setdefault(key := word.casefold(), word) != word), None)


def _not_meant(words: Sequence[str], texts: Iterable[str | None]) -> str | None:
    """What to say of classes each of which occurs once."""
    known = set(words)
    if len(words) < MIN_DIFFERENT or len(words) < sum(text is not None and text.strip() in known for text in texts):
        return None
    return f"has {len(words)} classes, each of one value (as '{words[0]}'); dates and numbers with units are words"


def _with_sentinel(values: np.ndarray) -> str | None:
    """What to say of a quantity that is below 0 at one value alone, which may mean something else."""
    negative = np.unique(values[values < 0])
    if {*values[np.isfinite(values)]} == {-1, 1}:  # no and yes, as in CelebA
        return None
    if len(negative) != 1 or negative[0] not in SENTINELS or not (values > 0).any():
        return None
    return f"has the value {negative[0]:g} and no other below 0; if that stands for not known, write NA"


def _like_classes(values: np.ndarray) -> str | None:
    """What to say of a quantity that has few values, all whole numbers."""
    known = values[np.isfinite(values)]
    distinct = np.unique(known)
    if not (2 <= len(distinct) <= min(MAX_CLASS_NUMBERS, len(known) / 2) and (distinct == np.round(distinct)).all()):
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


def _with_units(words: Sequence[str]) -> str | None:
    """What to say of classes all of whose words are numbers with a sign, or with a unit: a short one, or the same."""
    found = [re.fullmatch(r"[^\w\s]?\s?\d[\d\s.,:/'-]*(.*)", word) for word in words]
    if len(words) < 2 or not all(found):
        return None
    units = {match[1] for match in found} - {""}
    if len(units) > 1 and not all(re.fullmatch(r"[^\d_]{1,3}", unit) for unit in units):
        return None
    return (
        f"is of classes, since its numbers have units, signs or spaces (as '{words[0]}'); if it is a quantity, write "
        "plain numbers; if not, name it in FrameFolders.class_labels"
    )


def _what_is_unclear(words: Sequence[str]) -> str:
    """Why words that are all numbers were not taken for a quantity."""
    if percent := [word for word in words if word.endswith("%")]:
        return f"its numbers have signs of percent (as '{percent[0]}'); write them without"
    if not any("," in word for word in words):
        return f"float32 cannot tell its numbers apart (as '{words[-1]}'); name it in FrameFolders.class_labels"
    if any("." in word for word in words):
        return f"its numbers have points as well as commas (as '{words[0]}'); write points only"
    return f"its numbers have commas (as '{words[0]}'); write points, or separate columns by ;"


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(as_number(word.removesuffix("%").replace(",", "."))))
    except ValueError:
        return False
