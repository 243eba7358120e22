import functools
import json
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import RandomDataset
from ddr_tf.data.augmentation import Augmentation
from ddr_tf.data.shards import record_places, write_shards
from ddr_tf.data.tfrecords import TFRecords
from ddr_tf.errors import UserError
from ddr_tf.training.callbacks import TrainingLog
from ddr_tf.training.loop import Training, train
from tiny import SETTINGS, TINY, Stop, metrics, weights

pytestmark = pytest.mark.usefixtures("without_pictures")


def test_an_interrupted_run_resumes_to_the_same_weights_and_metrics(finished, tmp_path, monkeypatch):
    whole, whole_dir = finished
    original = TrainingLog.after

    def interrupt(self, execution):
        original(self, execution)
        if execution.step > 5:  # the checkpoint is of step 4
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLog, "after", interrupt)
        with pytest.raises(Stop):
            train(str(tmp_path), **SETTINGS)
    assert not (tmp_path / "model.keras").exists()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "sp')  # a line that a kill cut short
    resumed = train(str(tmp_path), **SETTINGS)
    for left, right in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(left, right)

    def same(lines):
        volatile = ("minutes", "frames_per_second")
        return [{name: value for name, value in line.items() if name not in volatile} for line in lines]

    assert same(metrics(tmp_path)) == same(metrics(whole_dir))


def test_a_finished_run_can_go_on_for_longer(finished, tmp_path):
    run = shutil.copytree(finished[1], tmp_path / "run")
    model = train(str(run), **SETTINGS | {"steps": 9})
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 9
    assert json.loads((run / "run.json").read_text())["step"] == 9


def test_a_finished_run_gives_its_model_again(finished, tmp_path):
    model, folder = finished
    run = shutil.copytree(folder, tmp_path / "run")
    again = train(str(run), **SETTINGS)
    for left, right in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    for left, right in zip(model.sample_codes(2, 2, [0, 0]), again.sample_codes(2, 2, [0, 0]), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
    assert again.static_density is not None and again.dynamic_density is not None
    again.compile("sgd")
    again.fit(np.ones((2, 2, 16, 16, 1), np.uint8), verbose=0)
    assert again.static_density is again.dynamic_density is None  # those were of other codes


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_a_damaged_shard_stops_the_run_in_one_line(tmp_path, split):
    write_shards(RandomDataset(), tmp_path / "shards")
    path = next((tmp_path / "shards").glob(f"{split}-*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # its size is right, a checksum is not
    path.write_bytes(content)
    sequences = functools.partial(TFRecords, str(tmp_path / "shards"))
    with pytest.raises(
        UserError, match=r"random cannot be read any more \(.*record.*\); there was no checkpoint"
    ) as error:
        train(str(tmp_path / "run"), **SETTINGS | {"sequences": sequences})
    assert "\n" not in str(error.value)


def test_a_shard_of_something_else_stops_the_run_in_one_line(tmp_path):
    write_shards(RandomDataset(), tmp_path / "shards")
    path = next((tmp_path / "shards").glob("train-*"))
    places = list(record_places(path))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _, length in places:
            writer.write((b"\xff" * 50).ljust(length, b"\0"))
    with pytest.raises(UserError, match=r"The shard .*/train-\S+ is damaged; .*; there was no checkpoint yet") as error:
        train(str(tmp_path / "run"), **SETTINGS | {"sequences": functools.partial(TFRecords, str(tmp_path / "shards"))})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_workers_share_the_batches_of_training(augmentation):
    settings = types.SimpleNamespace(batch_size=4, num_frames=3, seed=0, num_neighbours=2)

    def batch(worker, num_workers):
        devices = types.SimpleNamespace(worker=worker, num_workers=num_workers)
        training = Training(settings, devices, RandomDataset(), augmentation, ddr=None, run=None)
        return next(iter(training.training_batches(5)))

    np.testing.assert_array_equal(np.concatenate([batch(0, 2), batch(1, 2)]), batch(0, 1))


@pytest.mark.slow
def test_augmented_runs_go_on_with_the_same_views(tmp_path):
    model = functools.partial(TINY, num_static_frames=2)
    settings = SETTINGS | dict(model=model, augmentation=Augmentation, num_neighbours=2, min_static_frames=1)
    whole = train(str(tmp_path / "whole"), **settings)
    train(str(tmp_path / "parts"), **settings | {"steps": 4})
    parts = train(str(tmp_path / "parts"), **settings)
    plain = train(str(tmp_path / "plain"), **settings | {"augmentation": None})
    for left, right, other in zip(weights(whole), weights(parts), weights(plain), strict=True):
        np.testing.assert_array_equal(left, right)
        assert (left != other).any()
