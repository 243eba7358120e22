"""Sizes and frames that the tests of the model share."""

import numpy as np
import tensorflow as tf

TINY = dict(static_dim=4, width=4, pair_width=6, dense_units=8)


def frames(batch=2, num_frames=3, shape=(16, 32, 3), seed=0):
    return tf.constant(np.random.RandomState(seed).randint(0, 256, (batch, num_frames, *shape)).astype(np.uint8))
