"""The field's judge protocol: a classifier of real frames looks at generated ones.

There are two kinds of them (Li & Mandt, 2018): with the dynamic code of a real frame and f ~ N(0, I), the labels of
frames should survive; with the static code of a real sequence and z ~ p(z | f), the labels of sequences should.
Reported since others report it; swaps against true frames say more.
"""

import keras
import numpy as np
import tensorflow as tf

from ddr_tf.data.sequence_dataset import TRAIN, SequenceDataset
from ddr_tf.evaluation import metrics

NUM_FRAMES = 10_000  # real frames that it is trained on
EPOCHS = 6
WIDTHS = (16, 32, 64, 64)  # channels of its convolutions


class FrameClassifier:
    """A small convolutional network that reads all labels of a frame at once."""

    def __init__(self, sequences: SequenceDataset, seed: int) -> None:
        """Trains it on real frames of training identities.

        Args:
          sequences: A dataset. Its labels that are classes (see `metrics.as_classes`), all known, are learnt.
          seed: Of frames, weights and the order of training.
        """
        self._static, self._frame = (
            {name: values for name, values in metrics.as_classes(labels).items() if values.min() >= 0}
            for labels in (sequences.static_labels, sequences.frame_labels)
        )
        self._sequences = sequences
        if not self.labels:
            return
        random = np.random.RandomState(seed)
        numbers = np.sort(random.choice(sequences.splits[TRAIN], NUM_FRAMES))  # those of a file one after another
        chosen = (random.uniform(size=NUM_FRAMES) * sequences.frame_counts[numbers]).astype(int)
        frames = np.concatenate(
            [
                sequences.frames(
                    tf.constant(numbers[i : i + 100, None]), tf.constant(chosen[i : i + 100, None], tf.int32)
                )
                for i in range(0, NUM_FRAMES, 100)
            ]
        )[:, 0]
        keras.utils.set_random_seed(seed)
        image = keras.Input(sequences.frame_shape, dtype="uint8")
        hidden = keras.layers.Rescaling(1 / 255)(image)
        for width in WIDTHS:
            hidden = keras.layers.Conv2D(width, 4, strides=2, padding="same", activation="relu")(hidden)
        hidden = keras.layers.Dense(128, activation="relu")(keras.layers.Flatten()(hidden))
        classes = [int(values.max()) + 1 for values in {**self._static, **self._frame}.values()]
        outputs = [keras.layers.Dense(count, activation="softmax")(hidden) for count in classes]
        self._network = keras.Model(image, outputs)
        self._network.compile(keras.optimizers.Adam(1e-3), ["sparse_categorical_crossentropy"] * len(outputs))
        truth = list(self.truth(numbers, chosen).values())
        self._network.fit(frames, truth, batch_size=64, epochs=EPOCHS, verbose=0)

    @property
    def labels(self) -> list[str]:
        """What it knows; empty if the dataset has no labels that are classes."""
        return [*self._static, *self._frame]

    @property
    def static_labels(self) -> list[str]:
        """Labels of sequences."""
        return list(self._static)

    @property
    def frame_labels(self) -> list[str]:
        """Labels of frames."""
        return list(self._frame)

    def truth(self, sequence: np.ndarray, frame: np.ndarray) -> dict[str, np.ndarray]:
        """The labels of frames int `[n]` of sequences int `[n]`: name -> int `[n]`."""
        rows = self._sequences.rows(sequence, frame)
        return {name: values[sequence] for name, values in self._static.items()} | {
            name: values[rows] for name, values in self._frame.items()
        }

    def __call__(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """What it sees in frames, float `[n, H, W, C]` in [0, 1]: name of a label -> probabilities, float `[n, K]`."""
        seen = np.round(frames * 255).astype(np.uint8)
        found = keras.tree.flatten(self._network.predict(seen, batch_size=256, verbose=0))
        return dict(zip(self.labels, found, strict=True))
