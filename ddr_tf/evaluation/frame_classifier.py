"""A classifier of real frames, the field's "judge", looks at generated frames.

There are two kinds of them (Li & Mandt, 2018): with the dynamic code of a real frame and f ~ N(0, I), the labels of
frames should survive; with the static code of a real sequence and z ~ p(z | f), the labels of sequences should.
These metrics are here because others report them; swaps compared with true frames say more.
"""

import keras
import numpy as np
import tensorflow as tf

from ddr_tf.data.label_names import name_in_metrics
from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, SequenceDataset
from ddr_tf.evaluation.held_out import draw_frame_numbers, fetch, in_parts
from ddr_tf.evaluation.interfaces import DensityModel
from ddr_tf.evaluation.metric import Measurement
from ddr_tf.evaluation.probes import as_classes

EPOCHS = 6
CHANNELS = (16, 32, 64, 64)  # channels of its convolutions
DENSE_UNITS = 128
SEQUENCES_AT_ONCE = 100  # that real frames are read of


class FrameClassifier:
    """A small convolutional network that reads all labels of a frame at once.

    Attributes:
      static_labels: Names of the labels of sequences that it knows.
      frame_labels: Names of the labels of frames.
    """

    def __init__(self, sequences: SequenceDataset, seed: int, num_frames: int = 5_000) -> None:
        """Trains it on real frames of training identities.

        Args:
          sequences: A dataset. Its labels that are classes (see `probes.as_classes`), all known, are learnt.
          seed: Of frames, weights and the order of training.
          num_frames: How many frames.
        """
        self._sequences = sequences
        self._static, self._frame = (_known(labels) for labels in (sequences.static_labels, sequences.frame_labels))
        self.static_labels, self.frame_labels = list(self._static), list(self._frame)
        if self.labels:
            self._train(seed, num_frames)

    @property
    def labels(self) -> list[str]:
        """What it knows; empty if the dataset has no labels that are classes."""
        return [*self.static_labels, *self.frame_labels]

    def _train(self, seed: int, num_frames: int) -> None:
        sequences, random = self._sequences, np.random.RandomState(seed)
        numbers = np.sort(random.choice(sequences.splits[TRAIN], num_frames))  # those of a file one after another
        frame = (random.uniform(size=num_frames) * sequences.frame_counts[numbers]).astype(int)
        frames = np.empty((num_frames, *sequences.frame_shape), np.uint8)
        for start in range(0, num_frames, SEQUENCES_AT_ONCE):
            part = slice(start, start + SEQUENCES_AT_ONCE)
            frames[part] = fetch(sequences, numbers[part], frame[part, None])[:, 0]
        keras.utils.set_random_seed(seed)
        self._network = _network(
            sequences.frame_shape, [int(values.max()) + 1 for values in (self._static | self._frame).values()]
        )
        truth = list(self.truth(numbers, frame).values())
        self._network.fit(frames, truth, batch_size=64, epochs=EPOCHS, verbose=0)

    def truth(self, sequence: np.ndarray, frame: np.ndarray) -> dict[str, np.ndarray]:
        """The labels of frames int `[n]` of sequences int `[n]`: name -> int `[n]`."""
        rows = self._sequences.rows(sequence, frame)
        return {name: values[sequence] for name, values in self._static.items()} | {
            name: values[rows] for name, values in self._frame.items()
        }

    def __call__(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """What it sees in frames uint8, or float in [0, 1], `[..., H, W, C]`.

        Returns:
          Name of a label -> probabilities, float `[n, K]`, n being the product of the leading dimensions.
        """
        pixels = np.reshape(frames, (-1, *self._sequences.frame_shape))
        pixels = pixels if pixels.dtype == np.uint8 else np.round(pixels * 255).astype(np.uint8)
        return dict(zip(self.labels, keras.tree.flatten(self._network.predict_on_batch(pixels)), strict=True))


def _known(labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The labels that are classes, and known everywhere."""
    return {name: values for name, values in as_classes(labels).items() if values.min() >= 0}


def _network(frame_shape: tuple[int, int, int], num_classes: list[int]) -> keras.Model:
    """A compiled network from uint8 frames to probabilities, one output for each label."""
    image = keras.Input(frame_shape, dtype="uint8")
    hidden = keras.layers.Rescaling(1 / 255)(image)
    for channels in CHANNELS:
        hidden = keras.layers.Conv2D(channels, 4, strides=2, padding="same", activation="relu")(hidden)
    hidden = keras.layers.Dense(DENSE_UNITS, activation="relu")(keras.layers.Flatten()(hidden))
    outputs = [keras.layers.Dense(count, activation="softmax")(hidden) for count in num_classes]
    network = keras.Model(image, outputs)
    network.compile(keras.optimizers.Adam(1e-3), ["sparse_categorical_crossentropy"] * len(outputs))
    return network


def classification_scores(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The field's metrics of a classifier's view of generated frames (Li & Mandt, 2018; Bai et al., 2021).

    Args:
      probabilities: float `[n, K]`, p(y | x) of each frame.
      truth: int `[n]`, the right class of each.

    Returns:
      `accuracy`; `entropy` H(y) of the mean prediction, and `conditional_entropy` H(y | x), the mean over frames, in
      nats; `inception_score`, exp(H(y) - H(y | x)), 1 to K.
    """
    from scipy.stats import entropy

    marginal = float(entropy(probabilities.mean(axis=0)))
    conditional = float(entropy(probabilities, axis=-1).mean())
    return {
        "accuracy": float((probabilities.argmax(axis=1) == truth).mean()),
        "entropy": marginal,
        "conditional_entropy": conditional,
        "inception_score": float(np.exp(marginal - conditional)),
    }


def measure_frame_classifier(
    classifier: FrameClassifier,
    model: DensityModel,
    sequences: SequenceDataset,
    seed: int,
    num_frames: int,
    num_sequences: int = 128,
) -> dict[str, Measurement]:
    """The field's protocol; see `classification_scores`.

    Args:
      classifier: Knows at least one label.
      model: A model.
      sequences: A dataset.
      seed: Of sequences, frames and codes.
      num_frames: N.
      num_sequences: Held-out sequences whose codes are used.

    Returns:
      For each label of frames `judge_fixed_dynamic_*` and for each label of sequences `judge_fixed_static_*`, with
      `_accuracy`, `_entropy`, `_conditional_entropy` (nats) and `_inception_score`, whose ceilings are those of the
      real held-out frames; `judge_real_*_accuracy` of each. Chance is always the most frequent class.
    """
    random = np.random.RandomState(seed)
    numbers = random.choice(sequences.splits[HELD_OUT], num_sequences)
    frame = draw_frame_numbers(random, sequences, numbers, num_frames)
    frames = fetch(sequences, numbers, frame)
    codes = in_parts(model.encode, frames)
    static, dynamic = codes["static_mean"], codes["dynamic_mean"]
    other_static = tf.random.stateless_normal(tf.shape(static), [seed, 0])
    noise = tf.random.stateless_normal(tf.shape(dynamic), [seed, 1])
    other_dynamic = codes["prior_mean"][:, None] + codes["prior_stddev"][:, None] * noise

    def seen(static: tf.Tensor, dynamic: tf.Tensor) -> dict[str, np.ndarray]:
        return classifier(np.asarray(model.decode(static, dynamic)))

    probabilities = {
        "real": in_parts(lambda part: classifier(part.numpy()), frames),
        "fixed_dynamic": in_parts(seen, other_static, dynamic),
        "fixed_static": in_parts(seen, static, other_dynamic),
    }
    truth = classifier.truth(np.repeat(numbers, num_frames), frame.ravel())
    measurements = {}
    for kind, labels in (("fixed_dynamic", classifier.frame_labels), ("fixed_static", classifier.static_labels)):
        for label in labels:
            real, generated = (
                classification_scores(probabilities[frames_of][label], truth[label]) for frames_of in ("real", kind)
            )
            chance = float(np.bincount(truth[label]).max() / len(truth[label]))
            named = name_in_metrics(label)
            measurements[f"judge_real_{named}_accuracy"] = Measurement(real["accuracy"], chance, 1.0)
            levels = {"accuracy": chance, "entropy": 0.0, "conditional_entropy": 0.0, "inception_score": 1.0}
            for name, value in generated.items():
                measurements[f"judge_{kind}_{named}_{name}"] = Measurement(value, levels[name], real[name])
    return measurements
