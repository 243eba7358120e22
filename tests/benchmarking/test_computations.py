"""What is timed."""

import numpy as np
import pytest

from ddr_tf import config
from ddr_tf.benchmarking.computations import noise, training_steps
from ddr_tf.errors import UserError
from ddr_tf.training.build import build
from ddr_tf.training.devices import make_devices
from ddr_tf.training.loop import train
from ddr_tf.training.settings import Settings
from tiny import TINY


def test_noise_is_the_same_each_time():
    frames = noise(2, 3, (16, 16, 1)).numpy()
    assert (frames.dtype, frames.shape) == (np.uint8, (2, 3, 16, 16, 1))
    np.testing.assert_array_equal(frames, noise(2, 3, (16, 16, 1)))


def test_training_that_becomes_nan_is_not_timed():
    config.load([], ["train.sequences = @Puppets", "train.steps = 9", "train.learning_rate = 1e30"])
    settings = Settings(**config.settings(train) | {"model": TINY, "num_frames": 2, "batch_size": 1})
    devices = make_devices()
    execute = training_steps(build(settings, devices, (16, 16, 1)), devices, 1, 2, 2)
    with pytest.raises(UserError, match="became NaN"):
        for _ in range(5):
            execute()
