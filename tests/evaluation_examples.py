"""What the tests of the evaluation share: small data, a tiny model, settings that take seconds."""

import functools

import keras
import numpy as np

from conftest import RandomDataset
from ddr_tf.data.puppets import Puppets
from ddr_tf.evaluation.settings import Settings
from ddr_tf.model.ddr import DDR
from tiny import SIZES

# For speed: probes on few sequences, which is not enough for values but for the names of metrics.
FEW = Settings(max_sequences=60, num_pairs=8, classifier_frames=100, bound_samples=2, samples=4, probe_iterations=5)


@functools.cache
def puppets(num_poses=12):
    return Puppets(size=32, num_poses=num_poses)


@functools.cache
def tiny_model(frame_shape=(32, 32, 3)):
    keras.utils.set_random_seed(0)
    return DDR(frame_shape, **SIZES)


class Labelled(RandomDataset):
    """Frames that show labels: the left half is as bright as that of the sequence, the right half as the frame's."""

    def __init__(self):
        super().__init__(frame_counts=(20,) * 40, held_out=20)
        self.static_labels = {"who": np.arange(40, dtype=np.int32) % 3}
        self.frame_labels = {"what": np.arange(800, dtype=np.int32) % 4, "how much": np.arange(800) % 20 / 20}
        what = self.frame_labels["what"].reshape(40, 20)
        self.bank[..., :8, :] = 60 * self.static_labels["who"][:, None, None, None, None]
        self.bank[..., 8:, :] = 60 * what[..., None, None, None]
