"""Folders of other people's files: walked at any depth, in natural order, with an account of what is not used."""

import os
import re
from collections.abc import Callable, Collection, Iterator

SYSTEM_FOLDERS = frozenset(("@eaDir", "__MACOSX", "$RECYCLE.BIN"))  # thumbnails, shadows of files, what was deleted
# What this program writes, by names that are all in the folder.
OWN_FOLDERS = {
    frozenset(("run.json", "config.gin")): "a run of ddr_tf.train",
    frozenset(("saved_model.pb", "assets.extra")): "an exported model",
    frozenset(("frames.npy", "index.json")): "a cache of frames",
}
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts", ".m2ts", ".ogv")
)
ARCHIVE_SUFFIXES = frozenset((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"))
TABLE_SUFFIXES = frozenset((".csv", ".tsv", ".json", ".xls", ".xlsx", ".ods", ".parquet"))


def natural_order(text: str) -> list[tuple[bool, int, str]]:
    """Key by which "frame 10" comes after "frame 9"."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", text)]


def walk(
    root: str | os.PathLike,
    follow_links: bool = False,
    on_error: Callable[[OSError], None] | None = None,
    on_again: Callable[[str], None] | None = None,
) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk`, from the top, without the recursion that ends it at 1,000 folders within each other in Python 3.11.

    Args:
      root: Where to begin.
      follow_links: Whether to go into folders that are symbolic links.
      on_error: Is told of each folder that cannot be read.
      on_again: Is told of each path by which links lead to a folder again, which is not walked then, so that loops end;
        None: it is.

    Yields:
      A folder, the names of its folders, and those of all else in it. What is taken out of the first list is not
      walked; its order is kept.
    """
    pending, seen = [os.fspath(root)], set()
    while pending:
        folder = pending.pop()
        if on_again and (place := _place(folder)):
            if place in seen:
                on_again(folder)
                continue
            seen.add(place)
        folders: list[str] = []
        others: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    (folders if _is_folder(entry) else others).append(entry.name)
        except OSError as error:
            if on_error:
                on_error(error)
            continue
        yield folder, folders, others
        paths = (os.path.join(folder, name) for name in folders)
        pending += reversed([path for path in paths if follow_links or not os.path.islink(path)])


def _place(folder: str) -> tuple[int, int] | None:
    """What tells a folder from others, by whatever path; None if it cannot be known."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that form a circle
        return False


def escaped(text: str) -> str:
    """Text on one line, with control characters as escapes: names of files may hold what a terminal would obey."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text)


class Unused:
    """Counts what is not used of a folder, by kind, so that ten thousand files of one kind are one line."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[str, int]] = {}  # the first path and how many there are

    def add(self, path: str, kind: str) -> None:
        """Counts one file or folder; `kind` is in words, as "a hidden file"."""
        first, count = self._kinds.get(kind, (path, 0))
        self._kinds[kind] = first, count + 1

    def reasons(self) -> dict[str, str]:
        """What kind each is of, and how many there are of that kind, by the path of the first."""
        reasons: dict[str, list[str]] = {}
        for kind, (path, count) in self._kinds.items():
            reasons.setdefault(path, []).append(kind + (f"; {count} of this kind" if count > 1 else ""))
        return {path: ", ".join(kinds) for path, kinds in reasons.items()}


def no_data(folder: str, names: Collection[str]) -> str | None:
    """In words, why a folder below a root is not walked, by its path and all names in it; None: it may hold data."""
    name = os.path.basename(folder)
    if name in SYSTEM_FOLDERS:
        return f"a folder that systems leave ({name})"
    return next((kind for known, kind in OWN_FOLDERS.items() if known <= set(names)), None)


def unknown_kind(path: str) -> str:
    """In words, the kind of a file that is none of those that are used, by its suffix."""
    suffix = os.path.splitext(path)[1].lower()
    kind = f"not an image by name or content ({suffix or 'no suffix'})"
    hints = {
        TABLE_SUFFIXES: "labels are read from labels.csv in the root alone",
        VIDEO_SUFFIXES: "tools/prepare_frames.py makes frames of videos",
        ARCHIVE_SUFFIXES: "unpack it",
    }
    return "; ".join([kind, *(hint for suffixes, hint in hints.items() if suffix in suffixes)])
