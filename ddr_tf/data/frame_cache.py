"""Decoded frames on disk: one memory-mapped array and what is known about it, made once and checked when it is read.

Several processes, on several machines too, may want the same frames at once: one makes them and the others wait. What
is read is whole, since a folder of frames appears by a rename, and is the folder's own, since it carries checksums.
"""

import contextlib
import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ddr_tf.config import cache_dir
from ddr_tf.data.arrays import map_npy
from ddr_tf.errors import UserError
from ddr_tf.files import Lock, put_in_place, read_json, remove_abandoned, temporary_folder, write_json

FRAMES, INDEX = "frames.npy", "index.json"
CHUNK_BYTES = 16_000_000  # bytes that one checksum covers
MAX_CHUNKS = 250  # chunks that are checked, evenly spaced: 4 GB, which takes a few seconds
WAIT_SECONDS = 0.2


def default_cache_dir() -> Path:
    """The environment variable DDR_TF_CACHE, else ~/.cache/ddr_tf/frames, as `config.cache_dir` has it."""
    return Path(os.path.expanduser(os.environ.get("DDR_TF_CACHE") or cache_dir() / "frames"))


class FrameCache:
    """One folder of the cache.

    Attributes:
      folder: Where it is.
    """

    def __init__(
        self, folder: Path, fingerprint: str, is_current: Callable[[dict[str, Any]], bool] = lambda known: True
    ) -> None:
        """Reads and writes nothing.

        Args:
          folder: Its place.
          fingerprint: Of the files that the frames are made of; frames with another one are of no use.
          is_current: Whether frames of which this is known are still what would be made.
        """
        self.folder, self._fingerprint, self._is_current = folder, fingerprint, is_current

    def get(self, make: Callable[[Path], dict[str, Any]]) -> tuple[tf.Tensor, dict[str, Any]]:
        """The frames and what is known about them; made where they are missing, damaged, or of other files.

        Args:
          make: Writes what belongs into the folder that it is given, `FRAMES` above all, and returns what is to be
            known.

        Returns:
          uint8 `[frames, H, W, C]`, memory-mapped, and what `make` returned.

        Raises:
          UserError: If the cache cannot be written.
        """
        cached = self.read()
        if cached is None:
            try:
                self.folder.parent.mkdir(parents=True, exist_ok=True)
                with self._alone():
                    cached = self.read() or self._fill(make)
            except OSError as error:
                raise UserError(
                    f"The cache {self.folder.parent} cannot be written ({error}); set cache_dir to another place."
                ) from error
        return cached

    def read(self) -> tuple[tf.Tensor, dict[str, Any]] | None:
        """What `get` returns; None if it is not there, not whole, or not of these files."""
        try:
            index = read_json(self.folder / INDEX)
            known = index["known"]
            if index["fingerprint"] != self._fingerprint or index["digest"] != _digest(known):
                return None
            if not self._is_current(known):
                return None
            path = self.folder / FRAMES
            if not _is_whole(path, index["bytes"], index["checksums"]):
                return None
            bank = map_npy(path)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return bank, known

    def _fill(self, make: Callable[[Path], dict[str, Any]]) -> tuple[tf.Tensor, dict[str, Any]]:
        remove_abandoned(self.folder.parent)
        with temporary_folder(self.folder.parent) as temporary:
            partial = temporary / "frames"
            partial.mkdir()
            known = json.loads(json.dumps(make(partial)))  # in the form in which it will be read
            path = partial / FRAMES
            index = {
                "fingerprint": self._fingerprint,
                "digest": _digest(known),
                "bytes": path.stat().st_size,
                "checksums": [_checksum(path, number) for number in range(_num_chunks(path.stat().st_size))],
                "known": known,
            }
            write_json(partial / INDEX, index, sync=False)
            bank = map_npy(path)  # before it is moved, so that these frames are ours whatever others put in its place
            with contextlib.suppress(FileExistsError):  # another process made it on a file system without locks
                put_in_place(partial, self.folder, sync=False)
        return bank, known

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """A block in which no other process fills this folder of the cache."""
        path = self.folder.with_name(f".{self.folder.name}.lock")
        lock = Lock(path)
        if not lock.acquire():
            print(f"Another process decodes the same frames into {self.folder}; waiting for it.", flush=True)
            while not lock.acquire():
                time.sleep(WAIT_SECONDS)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            lock.release()


def _digest(known: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(known, sort_keys=True).encode(), digest_size=16).hexdigest()


def _num_chunks(size: int) -> int:
    return -(-size // CHUNK_BYTES)


def _checksum(path: Path, number: int) -> int:
    with path.open("rb") as file:
        file.seek(number * CHUNK_BYTES)
        return zlib.crc32(file.read(CHUNK_BYTES))


def _is_whole(path: Path, size: int, checksums: list[int]) -> bool:
    """Whether a file has its size and, in all its chunks or in `MAX_CHUNKS` of them, its checksums."""
    if path.stat().st_size != size or len(checksums) != _num_chunks(size):
        return False
    numbers = np.unique(
        np.linspace(0, len(checksums) - 1, min(MAX_CHUNKS, len(checksums))).round().astype(int)
    ).tolist()
    with ThreadPoolExecutor() as pool:
        present = pool.map(lambda number: _checksum(path, number), numbers)
        return all(one == checksums[number] for number, one in zip(numbers, present, strict=True))
