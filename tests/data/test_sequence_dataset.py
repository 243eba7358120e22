import copy
import pickle

import numpy as np
import pytest
import tensorflow as tf

from conftest import RandomDataset
from ddr_tf.data.arrays import ArrayDataset
from ddr_tf.data.sequence_dataset import SequenceDataset, split_at_random
from ddr_tf.errors import UserError
from ddr_tf.evaluation.held_out import fetch


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
    with pytest.raises(UserError, match="of one whole number for each sequence"):
        Described("x", (16, 16, 1), 12, {"train": [0], "held_out": [1]})


@pytest.mark.parametrize("counts", [[2.9, 4.0], [np.nan, 4], [2**33 + 3, 4]])
def test_numbers_of_frames_are_whole(counts):
    with pytest.raises(UserError, match="of one whole number for each sequence"):
        Described("x", (16, 16, 1), counts, {"train": [0], "held_out": [1]})


def test_without_splits_or_with_labels_that_have_no_name_there_is_a_line():
    with pytest.raises(UserError, match=r"x: splits must be {'train': \[...\], 'held_out': \[...\]}, got None"):
        Described("x", (16, 16, 1), [4, 4], None)
    with pytest.raises(UserError, match="Names of labels must be text, got 0"):
        Described("x", (16, 16, 1), [4, 4], {"train": [0], "held_out": [1]}, static_labels={0: [1, 2]})


@pytest.mark.parametrize(
    ("poses", "numbers"),
    [
        (np.array([7, 0, 2**40, 7]), [1, 0, 2, 1]),
        (["left", "up", "left", "NA"], [0, 1, 0, -1]),
        ([3.0, np.nan, 5.0, 3.0], [0, -1, 1, 0]),
        ([-30.0, 0.0, 30.0, 0.0], [0, 1, 2, 1]),
        (np.ma.masked_equal([4, 9, 4, 1], 9), [1, -1, 1, 0]),
        ([-1, 1, 0, 1], [-1, 1, 0, 1]),
    ],
)
def test_poses_may_be_any_numbers_or_words(poses, numbers):
    dataset = Described("x", (16, 16, 1), [2, 2], {"train": [0], "held_out": [1]}, pose_numbers=poses)
    np.testing.assert_array_equal(dataset.pose_numbers, numbers)
    assert dataset.pose_numbers.dtype == np.int32 and not dataset.label_names


class Own(SequenceDataset):
    """What people write, with what `frames` gives as they wish."""

    def __init__(self, give, **labels):
        self.give = give
        super().__init__("own", (16, 16, 1), [4, 4], {"train": [0], "held_out": [1]}, **labels)

    def frames(self, sequence, frame):
        return self.give(sequence, frame)


BANK = np.zeros((8, 16, 16, 1), np.uint8)


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda s, f: tf.gather(BANK.astype(np.int32), 4 * s + f), r"must give uint8 .*, but gave int32"),
        (lambda s, f: tf.gather(BANK[..., 0], 4 * s + f), r"must give uint8 \[2, 3, 16, 16, 1\], but gave uint8 \(2"),
        (lambda s, f: BANK[4 * np.asarray(s) + np.asarray(f)], "must use TensorFlow operations, as tf.gather"),
    ],
)
def test_frames_of_an_own_dataset_are_checked_in_a_line(give, message):
    with pytest.raises(UserError, match=rf"^Own\.frames .*{message}"):
        Own(give).batches("train", 2, 3, 0)


def test_frames_of_an_own_dataset_are_checked_in_evaluation_too():
    sequences = Own(lambda s, f: tf.gather(BANK.astype(np.int64), 4 * s + f))
    with pytest.raises(UserError, match=r"must give uint8 .*, but gave int64"):
        fetch(sequences, np.array([0, 1]), np.zeros((2, 3), int))


def test_a_dataset_that_does_not_call_its_base_is_told_to():
    class Forgetful(Own):
        def __init__(self):
            self.frame_shape = (16, 16, 1)

    with pytest.raises(UserError, match=r"Forgetful.__init__ must call super\(\).__init__"):
        Forgetful().batches("train", 2, 3, 0)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 4, 0), "batch_size must be a whole number of at least 1, got 0"),
        ((2, 0, 0), "num_frames must be a whole number of at least 1, got 0"),
        ((2.0, 4, 0), "batch_size must be a whole number of at least 1, got 2.0"),
        ((2, 4, None), "seed must be a whole number, got None"),
    ],
)
def test_batches_need_whole_numbers(numbers, message):
    with pytest.raises(UserError, match=message):
        RandomDataset().batches("train", *numbers)


def test_numbers_of_numpy_are_numbers():
    stream = RandomDataset().batches("train", np.int64(2), tf.constant(3), np.uint8(1))
    np.testing.assert_array_equal(next(iter(stream)), next(iter(RandomDataset().batches("train", 2, 3, 1))))


class WithOptions(RandomDataset):
    def __init__(self, seed=0, **options):
        super().__init__()
        self.seed, self.options = seed, options


class WithNames(RandomDataset):
    def __init__(self, *names):
        super().__init__()
        self.names = names


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))])
def test_datasets_are_copied_and_pickled(copied):
    dataset = copied(WithOptions(3, colour="red"))
    assert (dataset.seed, dataset.options) == (3, {"colour": "red"})
    dataset.splits["train"] = dataset.splits["train"][:1]
    assert copied(dataset).splits["train"].tolist() == dataset.splits["train"].tolist()
    assert copied(WithNames("a", "b")).names == ("a", "b")
    arrays = ArrayDataset(BANK, name="x", frame_counts=[4, 4], splits={"train": [0], "held_out": [1]})
    assert copied(arrays).fingerprint() == arrays.fingerprint()


@pytest.mark.parametrize(("sequences", "held_out"), [(2, 1), (3, 1), (4, 2), (12, 2), (25, 2), (40, 4)])
def test_a_random_split_holds_out_two_where_it_can(sequences, held_out):
    split = split_at_random(sequences, 0.1)
    assert len(split["held_out"]) == held_out
    assert sorted([*split["train"], *split["held_out"]]) == list(range(sequences))


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
