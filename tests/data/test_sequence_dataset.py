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


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": [0.0, 0.5], "held_out": [1]}, "must be a list or an array of numbers of sequences, or a mask"),
        ({"train": [0, 0, 1], "held_out": [2]}, "split 'train' names sequence 0 more than once"),
        ({"train": {0, 1}, "held_out": [2]}, "split 'train' must be a list or an array"),
    ],
)
def test_splits_are_different_numbers(splits, message):
    with pytest.raises(UserError, match=message):
        Described("x", (16, 16, 1), np.array([4, 4, 4]), splits)


def test_one_number_of_frames_for_all_is_refused():
    with pytest.raises(UserError, match="of one number for each sequence"):
        Described("x", (16, 16, 1), 12, {"train": [0], "held_out": [1]})


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


def described(**settings):
    splits = {"train": [0, 1], "held_out": [2, 3]}
    return Described("x", (16, 16, 1), np.array([2, 2, 2, 2]), **{"splits": splits} | settings)


def test_labels_may_be_lists_text_and_booleans():
    labels = {"age": [31, 20, 4, 5], "town": ["Ulm", "Bonn", None, "Ulm"], "glasses": np.array([True, False] * 2)}
    data = described(static_labels=labels, frame_labels={"smile": [0.5] * 8})
    assert {name: values.tolist() for name, values in data.static_labels.items()} == {
        "age": [31, 20, 4, 5],
        "town": [1, 0, -1, 1],
        "glasses": [1, 0, 1, 0],
    }
    assert data.label_names == {"town": ("Bonn", "Ulm"), "glasses": ("False", "True")}
    assert data.frame_labels["smile"].dtype == np.float64
    with pytest.raises(UserError, match=r"x: the label one_hot is of the shape \[4, 3\], not one value for each"):
        described(static_labels={"one_hot": np.eye(4, 3)})
    with pytest.raises(UserError, match="'age' is of sequences as well as of frames"):
        described(static_labels={"age": [1] * 4}, frame_labels={"age": [1] * 8})


def test_splits_may_be_masks():
    mask = np.array([True, True, False, False])
    data = described(splits={"train": mask, "held_out": (~mask).tolist()})
    assert {split: numbers.tolist() for split, numbers in data.splits.items()} == {"train": [0, 1], "held_out": [2, 3]}
    with pytest.raises(UserError, match=r"the mask of split 'held_out' is of the shape \[2\], but there are 4"):
        described(splits={"train": mask, "held_out": [True, True]})


def test_a_split_that_does_not_exist_is_told():
    with pytest.raises(UserError, match="random: there is no split 'test'; there are 'train' and 'held_out'"):
        RandomDataset().batches("test", 2, 2, seed=0)


def test_numbers_of_numpy_are_kept_as_plain_arguments():
    data = RandomDataset(held_out=np.int64(3))
    assert type(data.arguments["held_out"]) is int
