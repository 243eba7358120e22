import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.data.arrays import ArrayDataset, aligned_array, map_npy, shared_tensor
from ddr_tf.errors import UserError

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


def test_batches_of_a_mapped_file_do_not_read_it_into_memory(tmp_path):
    """TensorFlow's optimizations of the pipeline would copy it."""
    np.save(tmp_path / "a.npy", np.zeros((5000, 64, 64, 3), np.uint8))  # 61 MB
    numbers = np.arange(100)
    splits = {"train": numbers[:90], "held_out": numbers[90:]}
    data = ArrayDataset(map_npy(tmp_path / "a.npy"), name="x", frame_counts=np.full(100, 50), splits=splits)

    def megabytes():
        return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1000

    before = megabytes()
    batches = iter(data.batches("train", 2, 2, seed=0))
    next(batches)
    assert megabytes() - before < 30


def test_a_shared_tensor_is_the_same_memory():
    array = aligned_array((3, 5, 7))
    array[:] = 1
    tensor = shared_tensor(array)
    array[2, 4, 6] = 9
    assert tensor.numpy()[2, 4, 6] == 9


def test_a_generator_is_no_array():
    with pytest.raises(UserError, match=r"takes an array of frames .*, not a generator"):
        ArrayDataset((frame for frame in ()), name="x", frame_counts=[1, 1], splits={"train": [0], "held_out": [1]})


def test_lists_of_frames_are_refused_as_other_arrays_are():
    frames = np.zeros((9, 16, 16, 1), np.uint8).tolist()
    with pytest.raises(ValueError, match=r"frames must be uint8 .* got int64"):
        ArrayDataset(frames, name="x", frame_counts=[2, 4, 3], splits=SPLITS)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems reserve memory otherwise")
def test_a_mapped_file_may_be_larger_than_the_memory(tmp_path):
    count = 2 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    with (tmp_path / "a.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, 1024, 1024, 1)}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.truncate(start + count * 2**20)  # a hole, which takes no place on the disk
        file.seek(-1, os.SEEK_END)
        file.write(b"\7")
    tensor = map_npy(tmp_path / "a.npy")
    assert tensor.shape == (count, 1024, 1024, 1)
    assert tf.gather(tensor, [count - 1])[0, -1, -1, 0] == 7


def test_arrays_of_other_pixels_are_other_data():
    bank = np.zeros((9, 16, 16, 1), np.uint8)
    given = dict(name="x", frame_counts=[2, 4, 3], splits=SPLITS)
    content = ArrayDataset(bank, **given).content
    assert ArrayDataset(bank.copy(), **given).content == content
    bank[4, 3, 3, 0] = 1
    assert ArrayDataset(bank, **given).content != content
    assert ArrayDataset(tf.constant(bank), **given).content is None  # perhaps mapped, and not to be read now
