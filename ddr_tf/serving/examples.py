"""Example frames of an exported model: two held-out sequences as PNG files, for the explorer to open on.

`assets.extra/examples/` holds `A-1.png`, `A-2.png`, ..., `B-1.png`, ..., and their names in `examples.json`:
{"A": ["A-1.png", ...], "B": [...]}.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from ddr_tf import files
from ddr_tf.data.sequence_dataset import HELD_OUT, SequenceDataset

FOLDER, INDEX = "examples", "examples.json"
LETTERS = "AB"
NUM_FRAMES = 6


def example_frames(dataset: SequenceDataset) -> dict[str, np.ndarray]:
    """Frames of two held-out sequences, spread over each: "A" and "B" -> uint8 `[N, H, W, C]`."""
    held_out = dataset.splits[HELD_OUT]
    examples = {}
    for letter, sequence in zip(LETTERS, (held_out[0], held_out[len(held_out) // 2]), strict=True):
        count = int(dataset.frame_counts[sequence])
        numbers = np.unique(np.linspace(0, count - 1, min(NUM_FRAMES, count)).round().astype(np.int32))
        sequences = tf.fill([len(numbers)], tf.cast(sequence, tf.int32))
        examples[letter] = dataset.frames(sequences, tf.constant(numbers)).numpy()
    return examples


def write_examples(dataset: SequenceDataset, folder: Path) -> None:
    """Writes them into a folder, which is made.

    Raises:
      OSError: If that is not possible.
    """
    folder.mkdir()
    index = {}
    for letter, frames in example_frames(dataset).items():
        index[letter] = [f"{letter}-{number}.png" for number in range(1, len(frames) + 1)]
        for name, frame in zip(index[letter], frames, strict=True):
            Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame).save(folder / name)
    files.write_json(folder / INDEX, index)
