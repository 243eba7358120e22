"""Codes of held-out sequences for TensorBoard's projector: points with their frames as pictures and their labels."""

import math
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from ddr_tf import files
from ddr_tf.data.sequence_dataset import HELD_OUT, SequenceDataset
from ddr_tf.evaluation.held_out import fetch
from ddr_tf.model.ddr import DDR

MAX_SEQUENCES = 256
FRAMES_PER_SEQUENCE = 4
MIN_DIM = 3  # the projector shows no points of fewer dimensions, so they are padded with zeros
THUMBNAIL = 32  # pixels a side; the sprite image of 1,024 of them has 1,024 x 1,024


def write_projector(folder: Path, ddr: DDR, dataset: SequenceDataset, seed: int) -> None:
    """Writes the points f and z, their pictures and labels, and what tells the projector about them.

    Args:
      folder: One that has event files, or TensorBoard does not look into it.
      ddr: A trained model.
      dataset: Its held-out sequences are shown, at most `MAX_SEQUENCES`.
      seed: Of the choice of sequences and frames.
    """
    random = np.random.RandomState(seed & 0x7FFFFFFF)
    held_out = dataset.splits[HELD_OUT]
    numbers = np.sort(random.permutation(held_out)[:MAX_SEQUENCES])
    frame = random.randint(0, dataset.frame_counts[numbers][:, None], (len(numbers), FRAMES_PER_SEQUENCE))
    frames = fetch(dataset, numbers, frame)
    codes = ddr.encode(frames)
    thumbnails = _thumbnails(frames.numpy())
    rows = dataset.rows(numbers[:, None], frame)
    of_sequence = _labels(dataset, numbers)
    of_frame = {name: np.repeat(values, FRAMES_PER_SEQUENCE) for name, values in of_sequence.items()}
    of_frame |= {name: _words(dataset, name, values[rows.ravel()]) for name, values in dataset.frame_labels.items()}
    dynamic = tf.reshape(codes["dynamic_mean"], [-1, ddr.dynamic_dim]).numpy()
    _write_points(folder, "f", codes["static_mean"].numpy(), of_sequence, thumbnails[:, 0])
    _write_points(folder, "z", dynamic, of_frame, thumbnails.reshape(-1, *thumbnails.shape[2:]))
    files.write_text(folder / "projector_config.pbtxt", "".join(map(_tensor, ("f", "z"))), sync=False)


def _thumbnails(frames: np.ndarray) -> np.ndarray:
    """Frames `[B, N, H, W, C]`, uint8 or float in [0, 1] -> uint8 `[B, N, THUMBNAIL, THUMBNAIL, 3]`."""
    scale = 1 if frames.dtype == np.uint8 else 255
    resized = tf.image.resize(frames.reshape(-1, *frames.shape[2:]) * scale, [THUMBNAIL, THUMBNAIL], antialias=True)
    pixels = np.clip(np.round(resized), 0, 255).astype(np.uint8)
    pixels = np.repeat(pixels[..., :1], 3, axis=-1) if frames.shape[-1] < 3 else pixels[..., :3]
    return pixels.reshape(*frames.shape[:2], THUMBNAIL, THUMBNAIL, 3)


def _labels(dataset: SequenceDataset, numbers: np.ndarray) -> dict[str, np.ndarray]:
    labels = {name: _words(dataset, name, values[numbers]) for name, values in dataset.static_labels.items()}
    return {"sequence": np.array([dataset.ids[number] for number in numbers])} | labels


def _words(dataset: SequenceDataset, name: str, values: np.ndarray) -> np.ndarray:
    """Values of a label as text: the words that they stand for where there are some."""
    if words := dataset.label_names.get(name):
        return np.array([words[value] if value >= 0 else "" for value in values])
    return np.array([str(value) if values.dtype.kind in "iub" else f"{value:.4g}" for value in values])


def _write_points(
    folder: Path, name: str, points: np.ndarray, labels: dict[str, np.ndarray], thumbnails: np.ndarray
) -> None:
    points = np.pad(points, [(0, 0), (0, max(0, MIN_DIM - points.shape[1]))])
    rows = ["\t".join(f"{value:.6g}" for value in point) for point in points]
    files.write_text(folder / f"{name}.tsv", "\n".join(rows) + "\n", sync=False)
    cells = zip(*labels.values(), strict=True)
    header = [tuple(labels)] if len(labels) > 1 else []  # TensorBoard takes that of a single column for a point
    lines = ["\t".join(" ".join(str(cell).split()) for cell in row) for row in [*header, *cells]]
    files.write_text(folder / f"{name}_labels.tsv", "\n".join(lines) + "\n", sync=False)
    with files.replaced(folder / f"{name}.png", sync=False) as partial:
        Image.fromarray(_sprite(thumbnails)).save(partial)


def _sprite(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails `[M, side, side, 3]` in a square of rows, as the projector wants them."""
    side = math.ceil(math.sqrt(len(thumbnails)))
    cells = np.zeros((side * side, *thumbnails.shape[1:]), np.uint8)
    cells[: len(thumbnails)] = thumbnails
    grid = cells.reshape(side, side, THUMBNAIL, THUMBNAIL, 3).swapaxes(1, 2)
    return grid.reshape(side * THUMBNAIL, side * THUMBNAIL, 3)


def _tensor(name: str) -> str:
    return (
        f'embeddings {{\n  tensor_name: "{name}"\n  tensor_path: "{name}.tsv"\n  metadata_path: "{name}_labels.tsv"\n'
        f'  sprite {{\n    image_path: "{name}.png"\n    single_image_dim: {THUMBNAIL}\n'
        f"    single_image_dim: {THUMBNAIL}\n  }}\n}}\n"
    )
