import functools
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import RandomDataset
from ddr_tf.data.shards import record_places, write_shards
from ddr_tf.data.tfrecords import TFRecords
from ddr_tf.errors import UserError
from ddr_tf.model.bounds import BOUND_METRICS
from ddr_tf.model.ddr import DDR
from ddr_tf.runs import load_model
from ddr_tf.training.callbacks import TrainingLog, active_units
from ddr_tf.training.loop import train
from ddr_tf.training.run_directory import Run
from ddr_tf.training.steps import Evaluation, train_function

TINY = functools.partial(DDR, static_dim=4, width=4, pair_width=4, dense_units=8, kl_warmup_steps=4)
SETTINGS = dict(
    sequences=RandomDataset,
    model=TINY,
    steps=8,
    batch_size=4,
    num_frames=3,
    checkpoint_every=4,
    log_every=2,
    steps_per_execution=2,
    held_out_batches=2,
)


def weights(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]


def metrics(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def fitted(strategy, steps=4, steps_per_execution=1, learning_rate=1e-2, sequences=None, splits=1, **arguments):
    """A model after some steps, and the metrics of each execution."""
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = TINY(frame_shape=(16, 16, 1), **arguments)
        model.compile(keras.optimizers.SGD(learning_rate), jit_compile=False)
    function = train_function(model, steps_per_execution, splits)
    batches = iter(distributed(strategy, (sequences or RandomDataset()).batches("train", 4, 3, seed=0)))
    history = [function(batches) for _ in range(steps // steps_per_execution)]
    return model, {name: [float(metrics[name]) for metrics in history] for name in history[0]}


def distributed(strategy, batches):
    return strategy.experimental_distribute_dataset(batches)


def held_out(model, num_batches, sequences=RandomDataset):
    """Held-out metrics."""
    batches = sequences().batches("held_out", 4, 3, 0)
    return Evaluation(model, distributed(model.distribute_strategy, batches), num_batches)()


def one_device():
    return tf.distribute.MirroredStrategy(["CPU:0"])


def two_devices():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run: (model, folder)."""
    run_dir = tmp_path_factory.mktemp("run") / "run"
    return train(str(run_dir), **SETTINGS), run_dir


@pytest.mark.parametrize("clip", [1000.0, 1.0])
def test_one_and_two_replicas_give_the_same_weights(clip):
    (one, history_one), (two, history_two) = (
        fitted(strategy, gradient_clip_norm=clip, learning_rate=1e-4) for strategy in (one_device(), two_devices())
    )
    for left, right in zip(weights(one), weights(two), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)
    for name in (*BOUND_METRICS, "gradient_norm"):
        np.testing.assert_allclose(history_one[name], history_two[name], rtol=1e-4)
    held_out_one, held_out_two = held_out(one, 2), held_out(two, 2)
    for name in BOUND_METRICS:
        assert held_out_one[name] == pytest.approx(held_out_two[name], rel=1e-4)


@pytest.mark.parametrize(
    ("devices", "settings"), [(one_device, {}), (one_device, dict(num_static_frames=1)), (two_devices, dict(xla=True))]
)
def test_splits_give_the_same_weights(devices, settings):
    (whole, expected), (cut, history) = (
        fitted(devices(), splits=splits, learning_rate=1e-4, **settings) for splits in (1, 2)
    )
    for left, right in zip(weights(whole), weights(cut), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)
    for name in (*BOUND_METRICS, "gradient_norm"):
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-4)


def test_replicas_see_different_noise():
    strategy = two_devices()
    with strategy.scope():
        model = TINY(frame_shape=(16, 16, 1))
    frames = tf.zeros([2, 3, 16, 16, 1])
    noise = strategy.run(lambda: model.noise(frames, tf.constant([0, 0])))
    for part in noise:
        first, second = strategy.experimental_local_results(part)
        assert np.abs(first - second).min() > 0


def test_several_steps_in_one_execution_are_the_same_steps():
    one, several = (fitted(one_device(), steps_per_execution=steps)[0] for steps in (1, 4))
    for left, right in zip(weights(one), weights(several), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)


def test_held_out_metrics_are_of_all_batches_as_those_of_keras():
    model = fitted(one_device())[0]
    batches = RandomDataset().batches("held_out", 4, 3, 0)
    of_keras = model.evaluate(batches, steps=4, return_dict=True, verbose=0)
    assert held_out(model, 4) == pytest.approx(of_keras, rel=1e-5)
    assert held_out(model, 4) == pytest.approx(of_keras, rel=1e-5)  # and not of those before
    assert held_out(model, 1)["elbo"] != pytest.approx(of_keras["elbo"], rel=1e-5)


def test_keras_fits_the_same_steps():
    expected, history = fitted(one_device())
    with one_device().scope():
        keras.utils.set_random_seed(0)
        model = TINY(frame_shape=(16, 16, 1))
        model.compile(keras.optimizers.SGD(1e-2))
    batches = RandomDataset().batches("train", 4, 3, seed=0)
    logs = model.fit(batches, steps_per_epoch=4, shuffle=False, verbose=0).history
    assert logs["elbo"][0] == pytest.approx(history["elbo"][-1], rel=1e-5)
    for left, right in zip(weights(expected), weights(model), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)


def test_keras_fits_arrays_and_a_loaded_model(tmp_path):
    model = TINY(frame_shape=(16, 16, 1))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.compile("adam")
    frames = RandomDataset().bank[:, :4]
    logs = loaded.fit(frames, batch_size=3, validation_data=(frames[:2],), verbose=0).history
    assert {"elbo", "val_elbo", "gradient_norm"} <= logs.keys()


@pytest.mark.slow
def test_it_trains_in_bfloat16_on_two_replicas():
    half, history = fitted(two_devices(), dtype="mixed_bfloat16", learning_rate=1e-4)
    full, expected = fitted(two_devices(), learning_rate=1e-4)
    assert history["elbo"][0] == pytest.approx(expected["elbo"][0], rel=0.01)
    for left, right in zip(weights(half), weights(full), strict=True):
        np.testing.assert_allclose(left, right, atol=0.01)


def test_xla_gives_the_same_weights():
    (compiled, history), (plain, expected) = (
        fitted(two_devices(), xla=xla, learning_rate=1e-4, steps_per_execution=2) for xla in (True, False)
    )
    assert history["elbo"][0] == pytest.approx(expected["elbo"][0], rel=1e-5)
    for left, right in zip(weights(compiled), weights(plain), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)


def test_the_update_is_no_longer_than_the_clip_norm():
    before = fitted(one_device(), steps=1, learning_rate=1e-30)[0]
    after, history = fitted(one_device(), steps=1, learning_rate=1.0, gradient_clip_norm=0.01)
    moved = sum(((a - b) ** 2).sum() for a, b in zip(weights(after), weights(before), strict=True)) ** 0.5
    assert moved == pytest.approx(0.01, rel=1e-3)
    assert history["gradient_norm"][0] > 0.01


class DarkSequences(RandomDataset):
    def frames(self, sequence, frame):
        return super().frames(sequence, frame) // 16


def test_it_learns():
    _, history = fitted(one_device(), steps=1, learning_rate=1e-30, sequences=DarkSequences())
    model, _ = fitted(one_device(), steps=60, learning_rate=1e-2, sequences=DarkSequences())
    after = held_out(model, 2, DarkSequences)
    assert after["reconstruction_excess"] < 0.5 * history["reconstruction_excess"][0]


def test_a_run_directory_holds_all_that_is_promised(finished):
    model, run_dir = finished
    for name in (
        "config.gin",
        "run.json",
        "metrics.jsonl",
        "model.keras",
        "static_density.npz",
        "checkpoints/last",
        "checkpoints/best",
    ):
        assert (run_dir / name).exists(), name
    for name in ("reconstructions", "swaps", "samples", "latent_plane"):
        assert (run_dir / f"{name}.png").stat().st_size > 1000
    record = json.loads((run_dir / "run.json").read_text())
    assert record["finished"] is True
    assert record["step"] == 8
    assert {"tensorflow", "keras", "python", "ddr_tf"} <= record["versions"].keys()
    loaded = keras.models.load_model(run_dir / "model.keras")
    for left, right in zip(weights(model), weights(loaded), strict=True):
        np.testing.assert_array_equal(left, right)


def test_metrics(finished):
    lines = metrics(finished[1])
    where = [(line["split"], line["step"]) for line in lines]
    assert where == [("train", 2), ("train", 4), ("held_out", 4), ("train", 6), ("train", 8), ("held_out", 8)]
    for line in lines:
        assert line["elbo"] == pytest.approx(line["reconstruction"] - line["kl_static"] - line["kl_dynamic"], rel=1e-4)
        assert line["bits_per_dim"] == pytest.approx(-line["elbo"] / 256 / math.log(2))
        assert line["reconstruction_excess"] > 0
    assert {"gradient_norm", "learning_rate", "frames_per_second", "kl_weight"} <= lines[0].keys()
    assert {"active_units_static", "active_units_dynamic"} <= lines[2].keys()


def test_tensorboard_holds_scalars_images_and_the_config(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags = {}
    for split in ("train", "held_out"):
        events = EventAccumulator(str(finished[1] / "logs" / split))
        events.Reload()
        tags[split] = {tag for name in events.Tags()["tensors"] for tag in [name]}
    bound = {f"bound/{name}" for name in (*BOUND_METRICS, "bits_per_dim")}
    training = {f"training/{name}" for name in ("gradient_norm", "learning_rate", "frames_per_second", "kl_weight")}
    codes = {"codes/active_units_static", "codes/active_units_dynamic"}
    assert bound | training | {"config"} <= tags["train"]
    assert bound | codes | {"swaps", "samples", "_hparams_/session_start_info"} <= tags["held_out"]


def test_a_run_of_another_version_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    record = {"settings": {}, "versions": {"ddr_tf": "0.1.0"}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"holds a run of ddr_tf 0\.1\.0, whose networks are not those of 0"):
        train(str(tmp_path / "run"), **SETTINGS)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_a_model_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "model.keras").write_text("no model")
    with pytest.raises(UserError, match=r"model\.keras cannot be read by ddr_tf .* run\.json beside it"):
        load_model(tmp_path)


def test_a_finished_run_says_so_and_changes_nothing(finished, capsys):
    _, run_dir = finished
    before = (run_dir / "metrics.jsonl").read_text()
    train(str(run_dir), **SETTINGS)
    assert "has already finished its 8 steps" in capsys.readouterr().out
    assert (run_dir / "metrics.jsonl").read_text() == before


class Stop(BaseException):
    pass


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


def test_a_run_stopped_before_its_final_model_is_finished_the_next_time(tmp_path, monkeypatch):
    settings = SETTINGS | {"steps": 2, "checkpoint_every": 2}

    def stop(*_):
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish", stop)
        with pytest.raises(Stop):
            train(str(tmp_path), **settings)
    assert not json.loads((tmp_path / "run.json").read_text())["finished"]
    train(str(tmp_path), **settings)
    assert (tmp_path / "model.keras").exists() and (tmp_path / "swaps.png").exists()
    assert json.loads((tmp_path / "run.json").read_text())["finished"]


def test_a_finished_run_can_go_on_for_longer(tmp_path):
    settings = SETTINGS | {"steps": 2, "checkpoint_every": 2}
    train(str(tmp_path), **settings)
    model = train(str(tmp_path), **settings | {"steps": 3})
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 3
    assert json.loads((tmp_path / "run.json").read_text())["step"] == 3


def test_the_best_checkpoint_is_that_of_the_best_held_out_elbo(tmp_path):
    train(str(tmp_path), **SETTINGS | {"learning_rate": 0.3, "final_learning_rate": 0.3, "checkpoint_every": 2})
    held_out = {line["step"]: line["elbo"] for line in metrics(tmp_path) if line["split"] == "held_out"}
    best = max(held_out, key=held_out.get)
    assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints/best")).endswith(f"ckpt-{best}")


class PoisonedSequences(RandomDataset):
    """Float frames, and NaN in the batches whose sequences are all the same training sequence."""

    def frames(self, sequence, frame):
        frames = tf.cast(super().frames(sequence, frame), tf.float32) / 255.0
        same = tf.reduce_all(sequence == sequence[0, 0]) & (sequence[0, 0] < 4)
        return tf.where(same, math.nan, frames)


def test_a_figure_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    settings = SETTINGS | {"sequences": PoisonedSequences, "batch_size": 2, "steps": 40, "seed": 3}
    with pytest.raises(UserError, match=r"reconstruction became nan at step \d+; the last good checkpoint is") as error:
        train(str(tmp_path), **settings | {"checkpoint_every": 2})
    step = int(str(error.value).split("at step ")[1].split(";")[0])
    batches = list(PoisonedSequences().batches("train", 2, 3, seed=3).take(step).as_numpy_iterator())
    assert np.isnan(batches[step - 1]).all()
    assert np.isfinite(batches[: step - 1]).all()
    saved = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path / "checkpoints/last")))
    for name in saved.get_variable_to_shape_map():
        if saved.get_variable_to_dtype_map()[name] == tf.float32:
            assert np.isfinite(saved.get_tensor(name)).all()


@pytest.mark.parametrize(
    "settings",
    [{"static_aggregation": "pooled"}, {"static_aggregation": "product", "learned_prior": False}],
    ids=lambda settings: settings["static_aggregation"],
)
def test_baselines_train_all_their_weights(tmp_path, settings):
    before = [variable.numpy() for variable in TINY(frame_shape=(16, 16, 1), **settings).trainable_variables]
    ddr = train(str(tmp_path), **SETTINGS | {"model": functools.partial(TINY, **settings)})
    assert len(before) == len(ddr.trainable_variables)
    assert all((variable.numpy() != 0).any() for variable in ddr.optimizer.variables[2:])  # Adam's moments


def test_fine_tuning_begins_at_the_bound_of_its_model(finished, tmp_path, capsys):
    _, run_dir = finished
    settings = SETTINGS | {"model": None, "learning_rate": 1e-12, "final_learning_rate": 1e-12}  # the model's is used
    tuned = train(str(tmp_path / "run"), **settings | {"initial_model": str(run_dir), "num_frames": 3})
    for left, right in zip(weights(finished[0]), weights(tuned), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)
    before, after = (
        [line for line in metrics(path) if line["split"] == "held_out"][-1] for path in (run_dir, tmp_path / "run")
    )
    assert after["elbo"] == pytest.approx(before["elbo"], rel=1e-5)
    assert {line["kl_weight"] for line in metrics(tmp_path / "run") if line["split"] == "train"} == {1.0}
    assert "4 training and 2 held-out sequences are few" in capsys.readouterr().err


def test_fine_tuning_needs_frames_of_the_same_size(finished, tmp_path):
    larger = functools.partial(RandomDataset, frame_shape=(32, 32, 1))
    settings = SETTINGS | {"sequences": larger, "initial_model": str(finished[1] / "model.keras")}
    with pytest.raises(UserError, match=r"are 16 x 16 x 1, and those of the dataset 32 x 32 x 1"):
        train(str(tmp_path / "run"), **settings)
    with pytest.raises(UserError, match="holds no finished run"):
        train(str(tmp_path / "run"), **settings | {"initial_model": str(tmp_path)})


def test_frames_for_f_alone_are_not_decoded(tmp_path):
    model = functools.partial(TINY, num_static_frames=3)
    train(str(tmp_path / "run"), **SETTINGS | {"model": model, "num_frames": 4})
    with pytest.raises(UserError, match=r"must leave frames to decode: it is 3, and train\.num_frames 3"):
        train(str(tmp_path / "other"), **SETTINGS | {"model": model, "num_frames": 3})


def test_a_run_whose_data_have_changed_is_not_resumed(tmp_path):
    train(str(tmp_path), **SETTINGS)
    more = functools.partial(RandomDataset, frame_counts=(9, 3, 8, 12, 8, 8, 5))
    with pytest.raises(UserError, match="The data have changed since"):
        train(str(tmp_path), **SETTINGS | {"sequences": more, "steps": 12})


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "train.steps must be at least 1, got 0"),
        ({"learning_rate": -1.0}, "train.learning_rate must be above 0"),
        ({"held_out_batches": 0}, "train.held_out_batches"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        train(str(tmp_path / "run"), **SETTINGS | settings)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and holds no run"):
        train(str(tmp_path), **SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_active_units_counts_those_whose_mean_varies():
    model = TINY(frame_shape=(16, 16, 1))
    constant, varying = tf.zeros([4, 3, 16, 16, 1]), next(iter(RandomDataset().batches("train", 4, 3, 0)))
    assert active_units(model, [constant]) == {"active_units_static": 0, "active_units_dynamic": 0}
    model.dynamic_posterior_net.dense[-1].kernel.assign(model.dynamic_posterior_net.dense[-1].kernel * 1000)
    assert active_units(model, [varying])["active_units_dynamic"] == 2
