"""Moving MNIST: two handwritten digits that move at constant speed and bounce off the borders (the paper, Appendix A).

`MovingMNIST` generates sequences by the procedure of Srivastava, Mansimov & Salakhutdinov, "Unsupervised Learning of
Video Representations using LSTMs" (2015), from their published code: two digits of 28 x 28 in 64 x 64, a step of a
tenth of the 36 pixels in which a digit's corner can move, and the brighter of the two where they overlap.
`PublishedMovingMNIST` reads the file that they published, which the paper uses. Both have 20 frames a sequence.
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import keras
import numpy as np
import tensorflow as tf

from ddr_tf.config import configurable
from ddr_tf.data.arrays import map_npy
from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, SequenceDataset, split_at_random
from ddr_tf.errors import UserError
from ddr_tf.files import local_path, open_regular

SIDE = 64  # pixels
DIGIT = 28  # pixels
MAX_CORNER = SIDE - DIGIT  # pixels that the upper left corner of a digit can reach
STEP = 0.1  # of MAX_CORNER, a frame
NUM_DIGITS = 2
MAX_LABEL = 9
MAX_IDX_BYTES = 1_000_000_000  # of one file; EMNIST, in the same format, has half of that
STRIP = (DIGIT - 1) * SIDE + DIGIT  # bytes from the first to the last pixel of a digit in a flattened frame
LENGTH = 20  # frames
PUBLISHED_URL = "http://www.cs.toronto.edu/~nitish/unsupervised_video/mnist_test_seq.npy"
PUBLISHED_SHAPE = (LENGTH, 10000, SIDE, SIDE)

_IDX_FILES = {
    TRAIN: ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    HELD_OUT: ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def read_idx(path: Path) -> np.ndarray:
    """The array in a file of the idx format, gzipped or not.

    Args:
      path: An idx file of unsigned bytes.

    Returns:
      uint8, of the shape that the file says.

    Raises:
      UserError: If it cannot be read, is not such a file, or holds more than `MAX_IDX_BYTES`.
    """
    try:
        with open_regular(path) as file:
            content = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
            return _idx_array(content)
    except (OSError, EOFError, ValueError, zlib.error) as error:  # most of these come from gzip
        raise UserError(
            f"The MNIST file {path} cannot be read ({error}); delete the folder to download MNIST again."
        ) from error


def _idx_array(file: BinaryIO) -> np.ndarray:
    """What `read_idx` returns; raises ValueError if the content is not that of a whole idx file of bytes."""
    start = file.read(4)
    dimensions = start[3] if start[:3] == b"\0\0\x08" and len(start) == 4 else 0
    sizes = file.read(4 * dimensions)
    shape = np.frombuffer(sizes[: len(sizes) // 4 * 4], ">i4").tolist()
    if not dimensions or len(shape) != dimensions or min(shape) < 1:
        raise ValueError("it is not an idx file of bytes")
    count = math.prod(shape)
    if count > MAX_IDX_BYTES:
        raise ValueError(f"it says that it holds {count:,} bytes, more than {MAX_IDX_BYTES:,}")
    content = file.read(count + 1)
    if len(content) != count:
        raise ValueError("it is not a whole idx file of bytes")
    return np.frombuffer(content, np.uint8).reshape(shape)


def load_mnist(data_dir: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """MNIST from `<data_dir>/mnist/` (idx or idx.gz), else from the cache of Keras, else downloaded into that cache.

    Args:
      data_dir: Folder that may hold `mnist/`.

    Returns:
      "train" (60,000 digits) and "held_out" (10,000): (uint8 `[D, 28, 28]`, labels uint8 `[D]`).

    Raises:
      UserError: If files there are damaged, or MNIST is nowhere and cannot be downloaded.
    """
    folder = local_path(data_dir) / "mnist"
    names = [name for pair in _IDX_FILES.values() for name in pair]
    paths = {name: path for name in names for path in (folder / name, folder / f"{name}.gz") if path.is_file()}
    if paths and len(paths) < len(names):
        missing = sorted(set(names) - set(paths))
        raise UserError(f"{folder} holds a part of MNIST only; {missing[0]} (or .gz) is missing.")
    if paths:
        print(f"MNIST: {folder}", flush=True)
        digits = {split: tuple(read_idx(paths[name]) for name in pair) for split, pair in _IDX_FILES.items()}
    else:
        digits = _downloaded_mnist(folder)
    for images, labels in digits.values():
        if images.shape != (len(labels), DIGIT, DIGIT):
            raise UserError(f"MNIST: there are {len(labels)} labels for images of shape {images.shape}.")
        if labels.ndim != 1 or labels.max() > MAX_LABEL:
            raise UserError(
                f"MNIST: the labels in {folder} must be digits from 0 to {MAX_LABEL}, but are of shape {labels.shape} "
                f"and up to {labels.max()}; delete the folder to download MNIST again."
            )
    return digits


def _downloaded_mnist(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """MNIST from the cache of Keras, or downloaded into it; raises UserError, which names `folder`, if it cannot be."""
    try:
        # Looks into ~/.keras/datasets first, and checks what it downloads.
        digits = dict(zip((TRAIN, HELD_OUT), keras.datasets.mnist.load_data(), strict=True))
    except Exception as error:  # Keras raises a bare Exception
        raise UserError(
            f"MNIST is not in {folder} and could not be downloaded ({str(error).splitlines()[0]}); put its four "
            "idx files there, or name the folder that holds mnist/ with --data_dir."
        ) from error
    print("MNIST: the cache of Keras, ~/.keras/datasets/mnist.npz", flush=True)
    return digits


def trajectories(random: np.random.RandomState, count: int) -> np.ndarray:
    """Paths of the upper left corners of digits, as Srivastava et al. draw them.

    The start is uniform, the direction is uniform, and at a border the position is set to it and the speed turned.

    Args:
      random: Where the numbers come from.
      count: How many.

    Returns:
      int32 `[count, 20, 2]`, y and x in pixels, 0..36.
    """
    position = random.uniform(size=(count, 2))
    direction = random.uniform(0, 2 * np.pi, count)
    velocity = STEP * np.stack([np.sin(direction), np.cos(direction)], axis=-1)
    path = np.empty((count, LENGTH, 2))
    for frame in range(LENGTH):
        position = position + velocity
        velocity = np.where((position <= 0) | (position >= 1), -velocity, velocity)
        position = np.clip(position, 0, 1)
        path[:, frame] = position
    return (MAX_CORNER * path).astype(np.int32)


def flat_strips(digits: np.ndarray) -> tf.Tensor:
    """Digits as `draw` wants them.

    A digit in a frame is one run of bytes of the flattened frame: from its upper left to its lower right corner,
    with what is left and right of it. So a digit moves by putting more zeros before the run and fewer behind it.

    Args:
      digits: uint8 `[D, 28, 28]`.

    Returns:
      string `[D]`, of 27 * 64 + 28 bytes each.
    """
    rows = np.zeros((len(digits), DIGIT, SIDE), np.uint8)
    rows[..., :DIGIT] = digits
    return tf.constant([strip[:STRIP].tobytes() for strip in rows.reshape(len(digits), -1)])


def draw(strips: tf.Tensor, corners: tf.Tensor) -> tf.Tensor:
    """Frames with digits at given places.

    Args:
      strips: string `[..., 2]`; see `flat_strips`.
      corners: int32 `[..., 2, 2]`, y and x of their upper left corners, 0..36 pixels.

    Returns:
      uint8 `[..., 64, 64, 1]`; the brighter of the two where they overlap.
    """
    before = SIDE * corners[..., 0] + corners[..., 1]
    zeros = tf.fill(tf.shape(before), b"\0" * (SIDE * SIDE - STRIP))
    start = tf.zeros_like(before)
    flat = tf.strings.join(
        [
            tf.strings.substr(zeros, start, before),
            strips,
            tf.strings.substr(zeros, before, SIDE * SIDE - STRIP - before),
        ]
    )
    pixels = tf.io.decode_raw(flat, tf.uint8)
    frames = tf.maximum(pixels[..., 0, :], pixels[..., 1, :])
    return tf.reshape(frames, tf.concat([tf.shape(before)[:-1], (SIDE, SIDE, 1)], axis=0))


@configurable()
class MovingMNIST(SequenceDataset):
    """Generated sequences; the held-out ones show digits of MNIST's test set, so identities are never shared.

    The first digit follows the first trajectory, so the digits of one sequence on the trajectories of another are a
    true frame. Which of two digits is the first cannot be told from frames: a model may transfer them the other way
    round. `static_labels`: digit_1, digit_2; `frame_labels`: y_1, x_1, y_2, x_2, in pixels.
    """

    PATHS = ("data_dir",)
    licence = "CC-BY-SA 3.0 (MNIST, of which it is made)"
    open_licence = True

    def __init__(self, data_dir: str, num_train: int = 10000, num_held_out: int = 1000, seed: int = 0) -> None:
        """Draws digits and trajectories; frames are drawn when they are asked for.

        Args:
          data_dir: Folder that may hold `mnist/`; see `load_mnist`.
          num_train: Training sequences.
          num_held_out: Held-out sequences.
          seed: Of both; equal seeds give equal data.

        Raises:
          UserError: If a number is below 1, or MNIST cannot be had.
        """
        for name, count in (("num_train", num_train), ("num_held_out", num_held_out)):
            if count < 1:
                raise UserError(f"MovingMNIST.{name} must be at least 1, got {count}.")
        mnist = load_mnist(data_dir)
        images, labels = (np.concatenate([mnist[split][i] for split in (TRAIN, HELD_OUT)]) for i in range(2))
        self._strips = flat_strips(images)
        total, num_train_digits = num_train + num_held_out, len(mnist[TRAIN][0])
        random = np.random.RandomState(seed & 0x7FFFFFFF)
        self.digits = np.concatenate(
            [
                random.randint(num_train_digits, size=(num_train, NUM_DIGITS)),
                random.randint(num_train_digits, len(labels), size=(num_held_out, NUM_DIGITS)),
            ]
        )
        paths = trajectories(random, total * NUM_DIGITS)
        self.corners = paths.reshape(total, NUM_DIGITS, LENGTH, 2).swapaxes(1, 2)
        places = self.corners.reshape(total * LENGTH, -1).T
        numbers = np.arange(total)
        super().__init__(
            "moving_mnist",
            frame_shape=(SIDE, SIDE, 1),
            frame_counts=np.full(total, LENGTH),
            splits={TRAIN: numbers[:num_train], HELD_OUT: numbers[num_train:]},
            static_labels={f"digit_{i + 1}": labels[self.digits[:, i]].astype(np.int32) for i in range(NUM_DIGITS)},
            frame_labels=dict(zip(("y_1", "x_1", "y_2", "x_2"), places, strict=True)),
            label_names={f"digit_{i + 1}": [str(digit) for digit in range(10)] for i in range(NUM_DIGITS)},
        )

    @staticmethod
    def frame_shape_of(**settings: Any) -> tuple[int, int, int]:
        """See `SequenceDataset.frame_shape_of`."""
        del settings
        return SIDE, SIDE, 1

    def render(self, digits: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """True frames: any two digits at any two places.

        Args:
          digits: int `[..., 2]`, numbers of images of MNIST: the training set from 0, the test set from 60000.
          corners: int `[..., 2, 2]`, y and x of their upper left corners, 0..36 pixels.

        Returns:
          uint8 `[..., 64, 64, 1]`.
        """
        return self._draw(digits, corners).numpy()

    def frames(self, sequence: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
        """See `SequenceDataset.frames`."""
        corners = tf.gather_nd(self.corners, tf.stack([sequence, frame], axis=-1))
        return self._draw(tf.gather(self.digits, sequence), corners)

    def _draw(self, digits: tf.Tensor, corners: tf.Tensor) -> tf.Tensor:
        return draw(tf.gather(self._strips, digits), tf.cast(corners, tf.int32))

    def swap_truth(self, static_sequence: np.ndarray, dynamic_sequence: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """See `SequenceDataset.swap_truth`: the digits of one on the trajectories of the other, first on first."""
        return self.swap_truths(static_sequence, dynamic_sequence, frame)[0]

    def swap_truths(
        self, static_sequence: np.ndarray, dynamic_sequence: np.ndarray, frame: np.ndarray
    ) -> list[np.ndarray]:
        """See `SequenceDataset.swap_truths`: either digit on either trajectory."""
        static_sequence, dynamic_sequence, frame = np.broadcast_arrays(static_sequence, dynamic_sequence, frame)
        corners = self.corners[dynamic_sequence, frame]
        return [self.render(self.digits[static_sequence], order) for order in (corners, corners[..., ::-1, :])]


@configurable()
class PublishedMovingMNIST(SequenceDataset):
    """The file `mnist_test_seq.npy`: 10,000 sequences without labels, memory-mapped; a tenth of them held out."""

    PATHS = ("data_dir",)
    licence = "not stated by its authors"

    def __init__(self, data_dir: str, held_out_fraction: float = 0.1) -> None:
        """Opens the file.

        Args:
          data_dir: Folder that holds `moving_mnist/mnist_test_seq.npy`.
          held_out_fraction: Of the sequences.

        Raises:
          UserError: If the file is missing, damaged or something else.
        """
        path = local_path(data_dir) / "moving_mnist" / "mnist_test_seq.npy"
        try:
            self._bank = map_npy(path)
        except FileNotFoundError as error:
            raise UserError(f"There is no {path}; download it from {PUBLISHED_URL} (819 MB).") from error
        except (OSError, ValueError) as error:  # truncated, or no array at all
            raise UserError(f"{path} cannot be read ({error}); download it again from {PUBLISHED_URL}.") from error
        shape = tuple(self._bank.shape)
        if len(shape) != 4 or (shape[0], *shape[2:]) != (LENGTH, SIDE, SIDE):
            raise UserError(f"{path} is of shape {list(shape)}, not {list(PUBLISHED_SHAPE)} (time first).")
        super().__init__(
            "published_moving_mnist",
            frame_shape=(SIDE, SIDE, 1),
            frame_counts=np.full(shape[1], LENGTH),
            splits=split_at_random(shape[1], held_out_fraction),
        )

    @staticmethod
    def frame_shape_of(**settings: Any) -> tuple[int, int, int]:
        """See `SequenceDataset.frame_shape_of`."""
        del settings
        return SIDE, SIDE, 1

    def frames(self, sequence: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
        """See `SequenceDataset.frames`."""
        return tf.gather_nd(self._bank, tf.stack([frame, sequence], axis=-1))[..., None]
