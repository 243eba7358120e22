"""Selections of frames and codes that the tests of pictures share, of tiny models that were not trained."""

import functools

import keras
import pytest

from conftest import RandomDataset
from ddr_tf.data.puppets import Puppets
from ddr_tf.model.ddr import DDR
from ddr_tf.pictures import selection
from tiny import SIZES


def _model(frame_shape, **sizes):
    keras.utils.set_random_seed(0)
    return DDR(frame_shape, **SIZES, **sizes)


@functools.cache
def selection_of_puppets():
    """Puppets in 12 poses, and the codes of 5 of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "MAX_SEQUENCES", 5)
        selected = selection.Selection(_model((16, 16, 3)), Puppets(size=16, num_poses=12), [], seed=0)
        assert len(selected.codes) == 5
    return selected


def selection_of_noise(dynamic_dim=2, **sizes):
    return selection.Selection(_model((16, 16, 1), dynamic_dim=dynamic_dim), RandomDataset(**sizes), [], seed=0)
