"""What is timed."""

import numpy as np
import pytest

from ddr_tf.benchmarking.computations import noise, training_steps
from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR
from ddr_tf.training import devices, loop, optimizers


def test_noise_is_the_same_each_time():
    frames = noise(2, 3, (16, 16, 1)).numpy()
    assert (frames.dtype, frames.shape) == (np.uint8, (2, 3, 16, 16, 1))
    np.testing.assert_array_equal(frames, noise(2, 3, (16, 16, 1)))


def test_training_that_becomes_nan_is_not_timed():
    ddr = loop.compiled_model(
        devices.make_strategy(),
        DDR,
        (16, 16, 1),
        2,
        optimizers.Adam,
        steps=9,
        learning_rate=1e30,
        final_learning_rate=1e30,
        seed=0,
    )
    execute = training_steps(ddr, 1, 2, 2)
    with pytest.raises(UserError, match="became NaN"):
        for _ in range(5):
            execute()
