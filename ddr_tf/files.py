"""Files and folders: written whole or not at all, locked against a second process, and opened only if they are files.

What is written appears under its name by a rename, so a reader finds the old content or the new, never a part. Before
the rename the content is on the disk, and after it so is the name: a power loss takes neither.
"""

import contextlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ddr_tf.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

PREFIX = ".ddr_tf_"  # of the names of temporary folders
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4095  # of Linux and of most of its file systems
_LOCK = "lock"
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def local_path(path: str | os.PathLike) -> Path:
    """A path as people type it, with `~` expanded.

    Raises:
      UserError: If it is no path, is the address of something remote, such as gs://bucket/run, holds a NUL, or is too
        long.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise UserError(f"One path is needed, as text or a pathlib.Path; got {type(path).__name__}: {path!r:.100}.")
    text = os.fsdecode(path)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):  # at least two letters: C:/ is a disk of Windows
        raise UserError(f"{text} is not a path of this machine; mount it, or copy it to a local folder first.")
    if "\0" in text:
        raise UserError(f"{text!r} is not a path: it holds a NUL character.")
    path = Path(os.path.expanduser(text))
    if len(os.fsencode(path)) > MAX_PATH_BYTES or any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in path.parts):
        raise UserError(f"{text[:100]}... is longer than the name of a file may be.")
    return path


def why_no_folder(path: Path) -> str | None:
    """In words, why a path is not that of a folder; None: it is."""
    if path.is_dir():
        return None
    if not os.path.lexists(path):
        return "there is no such folder"
    return f"it is a file; give the folder that it is in, {path.parent}"


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Opens a file for reading bytes, if it is one; what is read from a FIFO or a device may never come or never end.

    Raises:
      ValueError: If it is a folder, FIFO, socket or device.
      OSError: If it cannot be opened.
    """
    _check_regular(os.stat(path).st_mode)  # checked first, since opening a device may already do something
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check_regular(os.fstat(file.fileno()).st_mode)
    except ValueError:
        file.close()
        raise
    return file


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ValueError(f"it is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")


def check_all_regular(folder: Path) -> None:
    """Checks that TensorFlow, which opens anything, may read a folder.

    Raises:
      ValueError: If a FIFO, socket or device is in it, at any depth.
    """
    for path in folder.rglob("*"):
        if path.exists() and not path.is_dir():
            try:
                _check_regular(path.stat().st_mode)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error


def read_limited(path: str | os.PathLike, max_bytes: int) -> bytes:
    """The content of a file.

    Raises:
      ValueError: If it is no regular file, or larger than `max_bytes`.
      OSError: If it cannot be read.
    """
    with open_regular(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it is larger than {max_bytes / 1e6:g} MB")
    return content


def read_json(path: str | os.PathLike, max_bytes: int = 1_000_000_000) -> Any:
    """The content of a JSON file.

    Raises:
      ValueError: If it is no regular file, larger than `max_bytes`, or no JSON in UTF-8.
      OSError: If it cannot be read.
    """
    return parse_json(read_limited(path, max_bytes))


def parse_json(text: str | bytes) -> Any:
    """The content of JSON.

    Raises:
      ValueError: If it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_text(path: Path, text: str, sync: bool = True) -> None:
    """Writes a file of UTF-8, whole or not at all; see `replaced`."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"), sync)  # file names need not be valid text


def write_json(path: Path, content: Any, sync: bool = True) -> None:
    """Writes an object as indented JSON, whole or not at all; see `replaced`."""
    write_text(path, json.dumps(content, indent=2) + "\n", sync)


def write_bytes(path: Path, content: bytes, sync: bool = True) -> None:
    """Writes a file, whole or not at all; see `replaced`."""
    with replaced(path, sync) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def replaced(path: Path, sync: bool = True) -> Iterator[Path]:
    """A path at which to make a file or a folder, which takes the place of `path` when the block ends without an error.

    After an error, or a kill, what was at `path` is still there. A file is exchanged in one step; of a folder, the old
    one is moved away first, so a kill between the two steps leaves none.

    Args:
      path: What to write; the folder that it is in must exist.
      sync: Whether to wait until the disk has it. False: for what can be made again, such as a cache.

    Raises:
      OSError: If it cannot be written.
    """
    with temporary_folder(path.parent) as folder:
        partial = folder / path.name
        yield partial
        put_in_place(partial, path, sync)


def put_in_place(partial: Path, path: Path, sync: bool = True) -> None:
    """Renames a whole file or folder to `path`, which it replaces; both must be on one disk.

    Raises:
      OSError: If that is not possible.
    """
    if sync:
        sync_all(partial)
    if path.is_dir() and not path.is_symlink():
        os.rename(path, partial.with_name(f"{partial.name}.old"))
    os.replace(partial, path)
    if sync:
        _sync_one(path.parent)


def put_where_free(partial: Path, path: Path) -> bool:
    """Renames a whole folder to `path`, unless a file, or a folder that is not empty, has this name.

    Both must be on one disk.

    Returns:
      Whether it was renamed.

    Raises:
      OSError: If that is not possible for another reason.
    """
    sync_all(partial)
    try:
        os.rename(partial, path)
    except OSError:
        if not path.exists():
            raise
        return False
    _sync_one(path.parent)
    return True


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """An empty folder in `parent`, on the same disk therefore, which is removed with all that is still in it.

    It is locked while it is used, so that `remove_abandoned` knows what a killed process has left.

    Raises:
      OSError: If it cannot be made.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = Lock(folder / _LOCK)
        if lock.acquire():
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def remove_abandoned(parent: Path) -> None:
    """Removes the temporary folders in `parent` whose processes were killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            lock, second = Lock(folder / _LOCK), Lock(folder / _LOCK)
            if lock.acquire():
                if not second.acquire():  # else there are no locks here, and the folder may be in use
                    shutil.rmtree(folder, ignore_errors=True)
                second.release()
                lock.release()


@contextlib.contextmanager
def without_patterns(folder: Path) -> Iterator[Path]:
    """Another path of a folder, without what TensorFlow takes for a pattern when it reads variables, and in UTF-8.

    Yields:
      The folder itself if there is nothing of that in it; else a link to it, which is removed afterwards.
    """
    if os.name != "posix" or not re.search(r"[][*?{}\\\udc80-\udcff]", str(folder)):
        yield folder
        return
    with temporary_folder(Path(tempfile.gettempdir())) as place:
        link = place / "folder"
        link.symlink_to(folder.absolute())
        yield link


def sync_all(path: Path) -> None:
    """Waits until a file, or a folder with all in it, is on the disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            _sync_one(Path(folder) / name)
        _sync_one(Path(folder))
    if not path.is_dir():
        _sync_one(path)


def _sync_one(path: Path) -> None:
    if os.name != "posix" and path.is_dir():
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems have no fsync for folders
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


class Lock:
    """A lock of the kernel's on a file: one process has it, and it is free when that process ends, however it ends.

    Over NFS it holds between machines if the server grants locks (NFS 4, or 3 with lockd). Where the file system has no
    locks at all, everybody gets it.
    """

    def __init__(self, path: Path) -> None:
        """Args: path: A file for the lock alone; made if it does not exist."""
        self._path = path
        self._file: BinaryIO | None = None

    def acquire(self) -> bool:
        """Takes the lock if it is free; returns whether it was.

        Raises:
          OSError: If the file cannot be made.
        """
        try:
            file = _open_for_lock(self._path)
        except FileNotFoundError:
            return False  # its folder has just been removed
        if not _lock(file.fileno()) or not self._is_still_there(file.fileno()):
            file.close()
            return False
        self._file = file
        return True

    def _is_still_there(self, descriptor: int) -> bool:
        """Whether the file that is locked is the one of this name, and not one that was removed meanwhile."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Frees the lock."""
        if self._file:
            self._file.close()
            self._file = None


def _open_for_lock(path: Path) -> BinaryIO:
    """Opens a file for appending; made if it does not exist. To open a FIFO could take for ever."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file; remove it")
    return open(path, "ab")


def _lock(descriptor: int) -> bool:
    """Whether the lock was free, and is now held."""
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except BlockingIOError:
        return False
    except OSError:
        return fcntl is not None  # no locks on this file system; Windows says so if another has it
    return True
