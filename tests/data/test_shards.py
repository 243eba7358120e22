import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from conftest import Labelled, RandomDataset, damaged
from ddr_tf.data import shards as shards_module
from ddr_tf.data.shards import record_places, write_shards
from ddr_tf.data.tfrecords import TFRecords
from ddr_tf.errors import UserError


def test_a_record_stands_by_itself(source, shards):
    path = min(shards.glob("held_out-*"))
    record = next(iter(tf.data.TFRecordDataset(str(path)))).numpy()
    offset, length = next(record_places(path))
    assert path.read_bytes()[offset : offset + length] == record
    features = tf.train.Example.FromString(record).features.feature
    number = features["number"].int64_list.value[0]
    assert features["id"].bytes_list.value[0].decode() == f"ß/{number}"
    assert list(features["static/age"].float_list.value) == [number]
    assert len(features["frame/smile"].float_list.value) == source.frame_counts[number]
    first = tf.io.decode_png(features["frames"].bytes_list.value[0]).numpy()
    np.testing.assert_array_equal(first, source.frames(tf.constant([number]), tf.constant([0]))[0])


def test_writing_goes_on_where_it_was_interrupted(source, tmp_path, monkeypatch):
    example, calls = shards_module._example, []

    def failing(sequences, number):
        calls.append(number)
        if len(calls) == 10:
            raise OSError("No space left on device")
        return example(sequences, number)

    monkeypatch.setattr(shards_module, "_example", failing)
    with pytest.raises(UserError, match="No space left on device"):
        write_shards(source, tmp_path / "a", shard_mb=0.02, workers=1)
    there = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a").glob("*.tfrecord")}
    assert there
    with pytest.raises(UserError, match="not complete"):
        TFRecords(str(tmp_path / "a"))
    monkeypatch.setattr(shards_module, "_example", example)
    written = write_shards(source, tmp_path / "a", shard_mb=0.02)
    assert 0 < written == len(list((tmp_path / "a").glob("*.tfrecord"))) - len(there)
    for name, time in there.items():
        assert (tmp_path / "a" / name).stat().st_mtime_ns == time
    write_shards(source, tmp_path / "b", shard_mb=0.02)
    for path in (tmp_path / "b").glob("*.tfrecord"):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    assert TFRecords(str(tmp_path / "a")).num_sequences == 30
    assert write_shards(source, tmp_path / "a", shard_mb=0.02) == 0


def test_other_shards_and_other_files_are_not_overwritten(source, tmp_path):
    write_shards(source, tmp_path / "a")
    with pytest.raises(UserError, match="shards of another dataset"):
        write_shards(source, tmp_path / "a", shard_mb=0.02)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(UserError, match="not empty and holds no shards"):
        write_shards(source, tmp_path / "mine")


def test_other_frames_or_labels_of_the_same_shape_are_not_taken_for_these(source, tmp_path):
    write_shards(source, tmp_path / "a")
    for change in ("frames", "labels"):
        other = Labelled()
        if change == "frames":
            other._bank = 255 - other._bank
        else:
            other.static_labels["age"] = other.static_labels["age"] + 1
        with pytest.raises(UserError, match="another dataset, other frames or size"):
            write_shards(other, tmp_path / "a")


def test_a_disk_that_fills_up_is_told(source, tmp_path, monkeypatch):
    def full(self, record):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.io.TFRecordWriter, "write", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_shards(source, tmp_path / "a")


def test_frames_of_other_channels_are_refused(tmp_path):
    with pytest.raises(UserError, match="1 or 3 channels, not 2"):
        write_shards(RandomDataset(frame_shape=(16, 16, 2)), tmp_path / "a")


@pytest.mark.parametrize("kept", [-5, 0])
def test_a_shard_cut_short_is_found_when_writing_goes_on(source, shards, tmp_path, kept):
    def cut(folder):
        path = min(folder.glob("train-*"))
        path.write_bytes(path.read_bytes()[:kept])
        description = json.loads((folder / "dataset.json").read_text())
        del description["places"]
        (folder / "dataset.json").write_text(json.dumps(description))

    with pytest.raises(UserError, match=r"train-00000-of-\d+.tfrecord is cut short; delete it"):
        write_shards(source, Path(damaged(shards, tmp_path, cut)), shard_mb=0.02)


def test_labels_that_unpack_to_more_than_there_can_be_are_refused(shards, tmp_path):
    def bomb(folder):
        with zipfile.ZipFile(folder / "labels.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("static/age.npy", bytes(50_000_000))

    with pytest.raises(UserError, match=r"labels\.npz cannot be read .*static/age\.npy is larger than 30 values"):
        TFRecords(damaged(shards, tmp_path, bomb))


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.pop("ids"),
        lambda fields: fields.update(frame_counts=[0] * 30),
        lambda fields: fields.update(frame_counts=[1 << 40] * 30),
        lambda fields: fields.update(frame_shape=[16, 16, 2]),
        lambda fields: fields.update(frame_shape=None),
        lambda fields: fields.update(splits={"train": [0]}),
        lambda fields: fields["splits"]["train"].append(0),
        lambda fields: fields.update(label_names={"town": 5}),
        lambda fields: fields.update(label_names={"town": ["only one"]}),
        lambda fields: fields.update(shards={"../x": [0]}),
        lambda fields: fields.update(places={}),
        lambda fields: fields.update(places=[]),
        lambda fields: fields.update(name=None),
    ],
)
def test_descriptions_that_describe_nothing_are_refused(shards, tmp_path, change):
    def harm(folder):
        fields = json.loads((folder / "dataset.json").read_text())
        change(fields)
        (folder / "dataset.json").write_text(json.dumps(fields))

    with pytest.raises(
        UserError, match=r"dataset\.json (cannot be read|describes no dataset)|1 or 3 channels"
    ) as error:
        TFRecords(damaged(shards, tmp_path, harm))
    assert "\n" not in str(error.value)


def test_one_process_writes_at_a_time(source, tmp_path):
    with shards_module._alone_in(tmp_path), pytest.raises(UserError, match="Another process writes shards to"):
        write_shards(source, tmp_path)
    assert write_shards(source, tmp_path) == 2
    assert not list(tmp_path.glob(".*"))


def test_names_need_not_be_text(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    data = RandomDataset()
    data.ids[0] = "\udcff"
    assert write_shards(data, folder) == 2
    read = TFRecords(str(folder))
    assert read.ids == data.ids
    assert next(iter(read.batches("train", 2, 2, seed=0))).shape == (2, 2, 16, 16, 1)
    assert read.damage() is None


def test_labels_in_lists_of_text_and_of_booleans_are_written(tmp_path):
    from ddr_tf.data.arrays import ArrayDataset

    data = ArrayDataset(
        np.zeros((8, 16, 16, 1), np.uint8),
        name="x",
        frame_counts=[2] * 4,
        splits={"train": [0, 1], "held_out": [2, 3]},
        static_labels={"list": [3, 2, 1, 0], "text": np.array(list("baab")), "truth": np.arange(4) > 1},
    )
    write_shards(data, tmp_path)
    read = TFRecords(str(tmp_path))
    assert [values.tolist() for values in read.static_labels.values()] == [[3, 2, 1, 0], [1, 0, 0, 1], [0, 0, 1, 1]]
    assert read.label_names == {"text": ("a", "b"), "truth": ("False", "True")}
