"""Steps of training: the same on any number of replicas and splits, and as Keras takes them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import RandomDataset
from ddr_tf.errors import UserError
from ddr_tf.model.bounds import BOUND_METRICS
from ddr_tf.model.ddr import DDR
from ddr_tf.training.steps import Evaluation, replica_parts
from tiny import TINY, fitted, held_out, one_device, two_devices, weights


@pytest.mark.parametrize("clip", [pytest.param(1000.0, marks=pytest.mark.slow), 1.0])
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
    ("devices", "settings"),
    [
        (one_device, dict(num_static_frames=1)),
        *(
            pytest.param(devices, settings, marks=pytest.mark.slow)
            for devices, settings in (
                (one_device, {}),
                (one_device, dict(min_static_frames=1)),
                (two_devices, {}),
                (two_devices, dict(xla=True)),
            )
        ),
    ],
)
def test_splits_give_the_same_weights(devices, settings):
    (whole, expected), (cut, history) = (
        fitted(devices(), splits=splits, learning_rate=1e-4, **settings) for splits in (1, 2)
    )
    for left, right in zip(weights(whole), weights(cut), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)
    for name in (*BOUND_METRICS, "gradient_norm"):
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-4)


def test_replicas_get_the_batch_in_its_order():
    frames = tf.reshape(tf.range(4 * 3), [4, 3])
    for strategy in (one_device(), two_devices()):
        parts = strategy.experimental_local_results(tf.function(replica_parts)(strategy, frames))
        assert len({len(part) for part in parts}) == 1
        np.testing.assert_array_equal(np.concatenate(parts), frames)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [one_device, two_devices])
def test_streams_may_be_dropped_while_they_are_read(devices):
    """Where TensorFlow distributed the streams, one of some hundred evaluations ended in a segmentation fault."""
    model = fitted(devices(), steps=1)[0]
    evaluation = Evaluation(model, RandomDataset().batches("held_out", 4, 3, 0), num_batches=2)
    first = evaluation()
    assert all(evaluation() == first for _ in range(2000))


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


@pytest.mark.parametrize("count", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_a_last_batch_that_replicas_share_unevenly_counts_by_its_sequences(count):
    frames = RandomDataset().bank[:, :4][:count]
    results = []
    for strategy in (one_device(), two_devices()):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            model = TINY(frame_shape=(16, 16, 1))
            model.compile(keras.optimizers.SGD(1e-4), jit_compile=False)
        before = model.evaluate(frames, batch_size=2, return_dict=True, verbose=0)
        model.fit(frames, batch_size=2, epochs=1, shuffle=False, verbose=0)
        results.append((before, weights(model)))
    (bounds_one, weights_one), (bounds_two, weights_two) = results
    assert bounds_two == pytest.approx(bounds_one, rel=1e-4)
    for left, right in zip(weights_one, weights_two, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)


def test_noise_of_uneven_parts_is_cut_from_the_same():
    strategy = two_devices()
    with strategy.scope():
        model = TINY(frame_shape=(16, 16, 1))
    whole = model.noise(tf.zeros([3, 2, 16, 16, 1]), tf.constant([0, 0]))
    parts = strategy.experimental_distribute_values_from_function(
        lambda context: tf.zeros([2 - context.replica_id_in_sync_group, 2, 16, 16, 1])
    )
    for of_whole, of_parts in zip(whole, strategy.run(model.noise, args=(parts, tf.constant([0, 0]))), strict=True):
        np.testing.assert_array_equal(of_whole, np.concatenate(strategy.experimental_local_results(of_parts)))


def test_which_frames_of_an_array_say_what_f_is_is_drawn_at_random(monkeypatch):
    model, seen = TINY(frame_shape=(16, 16, 1), num_static_frames=2), []
    frames = np.broadcast_to(np.arange(6, dtype=np.uint8)[None, :, None, None, None], (2, 6, 16, 16, 1))
    elbo_terms = DDR.elbo_terms

    def recorded(self, frames, static_noise, dynamic_noise, static_frames=None, *args):
        values = static_frames[0, :, 0, 0, 0]
        tf.numpy_function(lambda x: seen.append(np.rint(255 * x).astype(int).tolist()), [values], [])
        return elbo_terms(self, frames, static_noise, dynamic_noise, static_frames, *args)

    monkeypatch.setattr(DDR, "elbo_terms", recorded)
    model.compile("sgd")
    model.fit(frames, batch_size=2, epochs=6, verbose=0)
    assert len(seen) == 6 and len({tuple(sorted(drawn)) for drawn in seen}) > 2
    seen.clear()
    model.fit(tf.data.Dataset.from_tensors(frames), epochs=3, verbose=0)
    assert seen == [[0, 1]] * 3


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_frames_of_a_generator_are_checked_and_all_are_used(method):
    frames = RandomDataset().bank[:3, :4]
    model = TINY(frame_shape=(16, 16, 1), pixel_likelihood="normal")
    model.compile("sgd")
    steps = {"fit": "steps_per_epoch", "evaluate": "steps"}[method]

    def batches(dtype):
        yield from ((frames.astype(dtype),) for _ in range(2))

    with pytest.raises(UserError, match="Frames must be uint8, or floats in"):
        getattr(model, method)(batches("int64"), **{steps: 2}, verbose=0)
    getattr(model, method)(batches("uint8"), **{steps: 2}, verbose=0)
    over = batches("uint8")
    list(over)
    with pytest.raises(UserError, match="a generator that is at its end"):
        getattr(model, method)(over, **{steps: 2}, verbose=0)


def test_two_views_come_from_generators_too():
    model = TINY(frame_shape=(16, 16, 1))
    model.compile("sgd")
    frames = RandomDataset().bank[:3, :4]
    views = np.stack([frames, frames[::-1]], axis=1)
    model.fit(((each,) for each in (views, views)), steps_per_epoch=2, verbose=0)
    assert np.isfinite(model.train_on_batch(views, return_dict=True)["elbo"])


def test_single_batches_are_checked():
    model = TINY(frame_shape=(16, 16, 1), pixel_likelihood="normal")
    model.compile("sgd")
    frames = RandomDataset().bank[:3, :4]
    for method in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(UserError, match="Float frames must be in"):
            method(frames.astype("float32"))
    assert np.isfinite(model.train_on_batch(frames, return_dict=True)["elbo"])


def test_a_loss_that_is_scaled_is_refused():
    model = TINY(frame_shape=(16, 16, 1))
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-2)))
    with pytest.raises(UserError, match="compile takes no LossScaleOptimizer; give its inner optimizer"):
        model.fit(RandomDataset().bank[:3, :4], verbose=0)


def test_masked_frames_are_refused():
    frames = RandomDataset().bank[:3, :4]
    with pytest.raises(UserError, match="a part is masked"):
        TINY(frame_shape=(16, 16, 1)).encode(np.ma.array(frames, mask=frames > 9))


@pytest.mark.slow
def test_it_trains_in_bfloat16_on_two_replicas():
    half, history = fitted(two_devices(), dtype="mixed_bfloat16", learning_rate=1e-4)
    full, expected = fitted(two_devices(), learning_rate=1e-4)
    assert history["elbo"][0] == pytest.approx(expected["elbo"][0], rel=0.01)
    for left, right in zip(weights(half), weights(full), strict=True):
        np.testing.assert_allclose(left, right, atol=0.01)


@pytest.mark.slow
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
