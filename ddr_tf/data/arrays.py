"""Sequences whose frames lie one after the other in one array, in memory or in a memory-mapped file."""

import hashlib
import math
import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.files import open_regular

ALIGNMENT = 64  # bytes
MAX_DIGESTED = 1000  # frames
# So that a file may be larger than the memory; Python names it from 3.13 on.
NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


def map_npy(path: Path) -> tf.Tensor:
    """The array in a `.npy` file as a tensor that is memory-mapped: nothing is read until it is used, or kept.

    For `tf.gather` and its kind. A change of the file while it is used changes the tensor.

    Raises:
      OSError, ValueError: If the file cannot be read, or is no `.npy` file of bytes in C order.
    """
    open_regular(path).close()
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        raise
    except EOFError as error:
        raise ValueError("it is empty") from error
    except Exception as error:  # NumPy reads the header as Python
        raise ValueError(f"it is no whole .npy file ({type(error).__name__})") from error
    if not isinstance(array, np.memmap) or array.dtype != np.uint8:
        raise ValueError(f"it holds no uint8 array in C order, but {getattr(array, 'dtype', 'several arrays')}")
    if not array.flags.c_contiguous:
        raise ValueError("it holds no uint8 array in C order, but one in Fortran order")
    return shared_tensor(_writable(path, array))


def _writable(path: Path, array: np.memmap) -> np.ndarray:
    """The same array, copied on write, since DLPack refuses what is read-only; nobody writes."""
    private = (
        dict(flags=mmap.MAP_PRIVATE | NO_RESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        if hasattr(mmap, "MAP_PRIVATE")
        else dict(access=mmap.ACCESS_COPY)  # Windows
    )
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, **private)
    return np.frombuffer(memory, np.uint8, array.size, array.offset).reshape(array.shape)


def aligned_array(shape: tuple[int, ...]) -> np.ndarray:
    """An uninitialised array of bytes at an address at which TensorFlow takes it as it is; see `shared_tensor`."""
    size = math.prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].reshape(shape)


def shared_tensor(array: np.ndarray) -> tf.Tensor:
    """The same memory as a tensor, without a copy.

    Args:
      array: Writable, in C order and aligned to 64 bytes, as the data of `.npy` files and of `aligned_array` are.
    """
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def _content(bank: np.ndarray) -> str:
    """A digest of `MAX_DIGESTED` frames, evenly spaced, or of all."""
    digest = hashlib.blake2b(digest_size=16)
    for row in np.unique(np.linspace(0, len(bank) - 1, min(len(bank), MAX_DIGESTED)).astype(int)):
        digest.update(np.ascontiguousarray(bank[row]))
    return digest.hexdigest()


class ArrayDataset(SequenceDataset):
    """Sequences in one array: all frames of sequence 0, then all of sequence 1, and so on."""

    def __init__(self, bank: tf.Tensor | np.ndarray, **description: Any) -> None:
        """Keeps the array.

        Args:
          bank: uint8 `[sum of frame_counts, H, W, C]`.
          **description: The arguments of `SequenceDataset`, but for `frame_shape`.

        Raises:
          ValueError: If the array does not fit the description.
        """
        if isinstance(bank, list | tuple):
            bank = np.asarray(bank)
        if not hasattr(bank, "shape"):
            raise UserError(f"ArrayDataset takes an array of frames [n, H, W, C], not a {type(bank).__name__}.")
        super().__init__(frame_shape=tuple(bank.shape[1:]), **description)
        if bank.dtype != np.uint8 or len(bank.shape) != 4 or len(bank) != self.frame_counts.sum():
            raise ValueError(
                f"{self.name}: frames must be uint8 [{self.frame_counts.sum()}, H, W, C], got {bank.dtype} "
                f"{list(bank.shape)}."
            )
        if isinstance(bank, np.ndarray) and self.content is None:
            self.content = _content(bank)
        self._bank = tf.convert_to_tensor(bank)
        self._first = tf.constant(np.cumsum(self.frame_counts, dtype=np.int64) - self.frame_counts)

    def frames(self, sequence: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
        """See `SequenceDataset.frames`."""
        return tf.gather(self._bank, tf.gather(self._first, sequence) + tf.cast(frame, tf.int64))
