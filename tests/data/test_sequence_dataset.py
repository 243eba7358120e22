import numpy as np
import pytest

from conftest import RandomDataset
from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.errors import UserError


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


def test_frames_are_grey_or_colour():
    with pytest.raises(UserError, match="x: frames have 1 or 3 channels, not 2"):
        Described("x", (16, 16, 2), np.array([4, 4]), {"train": [0], "held_out": [1]})


def test_values_of_labels_have_words():
    splits = {"train": [0], "held_out": [1]}
    with pytest.raises(ValueError, match="town has values for which there is no word"):
        Described(
            "x", (16, 16, 1), np.array([4, 4]), splits, {"town": np.array([0, 2])}, label_names={"town": ["a", "b"]}
        )
