import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from conftest import damaged
from ddr_tf.data import tfrecords
from ddr_tf.data.arrays import ArrayDataset
from ddr_tf.data.shards import record_places, write_shards
from ddr_tf.data.tfrecords import TFRecords
from ddr_tf.errors import UserError


def which(frames):
    return frames[..., 0, 0, 0], frames[..., 0, 1, 0]


def take(stream, count):
    return np.stack(list(stream.take(count).as_numpy_iterator()))


def test_shards_know_all_that_the_dataset_knew(source, shards):
    read = TFRecords(str(shards))
    for attribute in ("name", "frame_shape", "ids", "label_names"):
        assert getattr(read, attribute) == getattr(source, attribute)
    np.testing.assert_array_equal(read.frame_counts, source.frame_counts)
    for attribute in ("splits", "static_labels", "frame_labels"):
        for name, values in getattr(source, attribute).items():
            found = getattr(read, attribute)[name]
            np.testing.assert_array_equal(found, values)
            assert found.dtype == values.dtype


def test_shards_know_the_poses(tmp_path):
    poses = np.arange(12) % 3
    bank = np.random.RandomState(0).randint(0, 256, (12, 16, 16, 1)).astype(np.uint8)
    splits = {"train": [0, 1], "held_out": [2, 3]}
    source = ArrayDataset(bank, name="four", frame_counts=[3] * 4, splits=splits, pose_numbers=poses)
    write_shards(source, tmp_path)
    read = TFRecords(str(tmp_path))
    np.testing.assert_array_equal(read.pose_numbers, poses)
    assert read.shared_poses
    where = np.array([3]), np.array([0]), np.array([1])
    np.testing.assert_array_equal(read.swap_truth(*where), source.swap_truth(*where))


def test_frames_come_back_bit_for_bit(source, shards):
    sequence, frame = np.array([[3, 29], [3, 0]], np.int32), np.array([[6, 1], [0, 2]], np.int32)
    frames = TFRecords(str(shards)).frames(sequence, frame)
    np.testing.assert_array_equal(frames, source.frames(tf.constant(sequence), tf.constant(frame)))


def test_batches_have_distinct_frames_of_one_sequence_each(source, shards):
    batches = take(TFRecords(str(shards)).batches("train", 8, 3, seed=1), 36)  # 24 * 4 draws a pass: three passes
    sequence, frame = which(batches)
    assert (sequence == sequence[..., :1]).all()
    assert all(len(set(row)) == 3 for row in frame.reshape(-1, 3))
    np.testing.assert_array_equal(
        batches, source.frames(tf.constant(sequence.astype(np.int32)), tf.constant(frame.astype(np.int32)))
    )
    for one_pass in sequence[..., 0].reshape(3, 96):
        np.testing.assert_array_equal(np.bincount(one_pass), 4)  # each training sequence alike, no held-out one
    assert (sequence[:12] != sequence[12:24]).any()
    first = sequence[:12, :, 0].ravel()
    assert (first[1:] == first[:-1]).mean() < 0.2  # shuffled


def test_a_stream_continues_one_that_was_interrupted(shards):
    def stream(**where):
        return TFRecords(str(shards)).batches("train", 5, 3, seed=5, **where)

    whole = take(stream(), 50)
    np.testing.assert_array_equal(take(stream(), 50), whole)
    for step in (1, 13, 31):  # in the first and in the second pass
        np.testing.assert_array_equal(take(stream(start_step=step), 19), whole[step : step + 19])
    assert (take(TFRecords(str(shards)).batches("train", 5, 3, seed=6), 5) != whole[:5]).any()


def test_workers_share_the_files(shards):
    read = TFRecords(str(shards))
    seen = []
    for worker in range(3):
        frames = take(read.batches("train", 6, 2, seed=0, worker=worker, num_workers=3), 60)
        assert frames.shape[1] == 2
        seen.append(set(which(frames)[0].ravel()))
    assert set.union(*seen) == set(range(24))
    assert sum(map(len, seen)) == 24
    with pytest.raises(UserError, match="fewer 'held_out' shards than there are workers"):
        read.batches("held_out", 100, 2, seed=0, worker=99, num_workers=100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: min(folder.glob("train-*")).unlink(), r"train-00000-of-\d+.tfrecord is missing"),
        (lambda folder: min(folder.glob("train-*")).write_bytes(b"x" * 50), "has another size than when"),
        (lambda folder: (folder / "dataset.json").unlink(), "not a folder of shards"),
        (lambda folder: (folder / "dataset.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "dataset.json").write_text("[]"), "cannot be read"),
        (lambda folder: (folder / "dataset.json").write_text('{"format": 0}'), "of format 0"),
        (lambda folder: (folder / "labels.npz").unlink(), "labels.npz cannot be read"),
        (lambda folder: (folder / "labels.npz").write_bytes(b""), "labels.npz cannot be read"),
        (lambda folder: (folder / "labels.npz").write_bytes(b"PK"), "labels.npz cannot be read"),
    ],
)
def test_damage_is_found_before_training(shards, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        TFRecords(damaged(shards, tmp_path, change))


def test_a_damaged_record_is_told_when_it_is_read(shards, tmp_path):
    def harm(folder):
        for path in folder.glob("*.tfrecord"):
            content = bytearray(path.read_bytes())
            for offset, length in record_places(path):
                content[offset + 2 : offset + length] = b"\xff" * (length - 2)
            path.write_bytes(content)

    with pytest.raises(UserError, match=r"The shard .* is damaged"):
        TFRecords(damaged(shards, tmp_path, harm)).frames(np.array([3]), np.array([0]))


@pytest.mark.parametrize("setting", ["memory_mb", "draws_per_record"])
def test_settings_of_the_reader_are_at_least_one(shards, setting):
    with pytest.raises(UserError, match="must be at least 1"):
        TFRecords(str(shards), **{setting: 0})


def test_workers_share_a_batch_evenly(source, shards):
    for sequences in (source, TFRecords(str(shards))):
        with pytest.raises(ValueError, match="cannot be shared evenly by 3 workers"):
            sequences.batches("train", 8, 2, seed=0, num_workers=3)


def test_memory_must_hold_the_largest_record(shards, monkeypatch):
    monkeypatch.setattr(tfrecords, "MEGABYTE", 100)
    with pytest.raises(UserError, match=r"memory_mb must be at least .*, four times the largest record"):
        TFRecords(str(shards), memory_mb=1)


@pytest.mark.slow
def test_memory_stays_bounded_by_the_limit_and_not_by_the_set(tmp_path):
    """150 MB of noise, which PNG cannot compress, read with a limit of 16 MB."""
    counts = np.full(120, 100)
    bank = np.random.RandomState(0).randint(0, 256, (12000, 64, 64, 3)).astype(np.uint8)
    numbers = np.arange(120)
    splits = {"train": numbers[:110], "held_out": numbers[110:]}
    write_shards(ArrayDataset(bank, name="noise", frame_counts=counts, splits=splits), tmp_path, shard_mb=16)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 140e6
    code = (
        "import sys, psutil; from ddr_tf.data import TFRecords\n"
        "memory = lambda: psutil.Process().memory_info().rss\n"
        "stream = iter(TFRecords(sys.argv[1], memory_mb=16).batches('train', 8, 8, seed=0))\n"
        "before, most = memory(), 0\n"
        "for _ in range(110):\n"  # two passes
        "    next(stream)\n"
        "    most = max(most, memory() - before)\n"
        "print(most)"
    )
    answer = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert int(answer.stdout) < 90e6, answer.stderr  # TensorFlow's own buffers and code pages are part of it


def rewrite(folder, split, change):
    """Changes every record of a split, and writes it with the right checksums."""
    for path in sorted(folder.glob(f"{split}-*.tfrecord")):
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(change(record))


def other_number(record):
    example = tf.train.Example.FromString(record)
    example.features.feature["number"].int64_list.value[:] = [
        (example.features.feature["number"].int64_list.value[0] + 1) % 30
    ]
    return example.SerializeToString()


def other_png(record):
    example = tf.train.Example.FromString(record)
    frames = example.features.feature["frames"].bytes_list.value
    small = tf.io.encode_png(tf.zeros([8, 8, 3], tf.uint8)).numpy()
    if len(small) > len(frames[0]):
        raise AssertionError
    frames[0] = small + b"\0" * (len(frames[0]) - len(small))  # as long as before
    return example.SerializeToString()


@pytest.mark.parametrize(
    "change", [lambda record: b"\xff" * len(record), lambda record: bytes(len(record)), other_number, other_png]
)
def test_wrong_content_with_right_checksums_is_told_with_its_file(shards, tmp_path, change):
    read = TFRecords(damaged(shards, tmp_path, lambda folder: rewrite(folder, "train", change)))
    with pytest.raises((tf.errors.OpError, UnicodeDecodeError)):
        take(read.batches("train", 8, 3, seed=0), 24 * 4)
    assert "/train-00000-of-" in read.damage()
    assert read.damage().endswith(" is damaged; write the shards again.")
    with pytest.raises(UserError, match=r"The shard .*/train-\d+-of-\d+\.tfrecord is damaged"):
        for number in read.splits["train"]:
            read.frames(np.array([number]), np.array([0]))
    assert TFRecords(str(shards)).damage() is None
