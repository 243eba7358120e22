import numpy as np
import pytest

from conftest import RandomDataset
from ddr_tf.data.sequence_dataset import SequenceDataset


class Described(SequenceDataset):
    def frames(self, sequence, frame):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": [0, 1], "held_out": [1, 2]}, "both splits"),
        ({"train": [0, 1], "held_out": []}, "no sequence"),
        ({"train": [0, 1], "held_out": [3]}, "outside"),
        ({"train": [0, 1]}, "splits must be"),
    ],
)
def test_splits_never_mix_and_exist(splits, message):
    with pytest.raises(ValueError, match=message):
        Described("x", (16, 16, 1), np.array([4, 4, 4]), splits)


def test_a_sequence_without_frames_is_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        Described("x", (16, 16, 1), np.array([4, 0]), {"train": [0], "held_out": [1]})


def test_no_swap_truth_unless_the_dataset_knows_it():
    with pytest.raises(NotImplementedError, match="no true frames"):
        RandomDataset().swap_truth(np.array(0), np.array(1), np.array(0))
