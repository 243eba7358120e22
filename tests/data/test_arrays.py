import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.data.arrays import ArrayDataset, map_npy

SPLITS = {"train": [0, 2], "held_out": [1]}


def test_frames_lie_one_sequence_after_the_other():
    bank = np.arange(9 * 16 * 16, dtype=np.uint8).reshape(9, 16, 16, 1)
    sequences = ArrayDataset(bank, name="x", frame_counts=[2, 4, 3], splits=SPLITS)
    assert sequences.frame_shape == (16, 16, 1)
    frames = sequences.frames(tf.constant([[0, 1], [2, 1]]), tf.constant([[1, 0], [2, 3]]))
    np.testing.assert_array_equal(frames, bank[[[1, 2], [8, 5]]])
    np.testing.assert_array_equal(sequences.rows(np.array([0, 2]), np.array([1, 2])), [1, 8])


@pytest.mark.parametrize(
    "bank", [np.zeros((8, 16, 16, 1), np.uint8), np.zeros((9, 16, 16), np.uint8), np.zeros((9, 16, 16, 1), np.float32)]
)
def test_what_does_not_fit_is_refused(bank):
    with pytest.raises(ValueError, match="frames must be uint8"):
        ArrayDataset(bank, name="x", frame_counts=[2, 4, 3], splits=SPLITS)


def test_a_mapped_file_is_never_written(tmp_path):
    array = np.random.RandomState(0).randint(0, 256, (50, 16, 16, 3)).astype(np.uint8)
    np.save(tmp_path / "a.npy", array)
    (tmp_path / "a.npy").chmod(0o444)
    tensor = map_npy(tmp_path / "a.npy")
    np.testing.assert_array_equal(tensor, array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)
