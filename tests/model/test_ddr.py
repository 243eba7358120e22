import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import RandomDataset
from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR, relative_transfer
from ddr_tf.model.densities import diagonal_normal
from ddr_tf.model.networks import CHUNK
from model_examples import TINY, frames


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return DDR((16, 32, 3), **TINY)


@pytest.mark.parametrize("num_frames", [1, 2, 7])
def test_call_returns_a_dictionary_for_any_number_of_frames(model, num_frames):
    outputs = model(frames(num_frames=num_frames))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "static_mean": (2, 4),
        "static_stddev": (2, 4),
        "dynamic_mean": (2, num_frames, 2),
        "dynamic_stddev": (2, num_frames, 2),
        "prior_mean": (2, 2),
        "prior_stddev": (2, 2),
        "reconstruction": (2, num_frames, 16, 32, 3),
    }
    for value in outputs.values():
        assert value.dtype == tf.float32
        assert np.isfinite(value).all()
    assert outputs["reconstruction"].numpy().min() >= 0 and outputs["reconstruction"].numpy().max() <= 1


def test_many_frames_have_the_codes_and_pictures_that_they_have_at_once(model):
    many = frames(batch=1, num_frames=CHUNK + 3)
    codes, features = model.encode(many), model.features(many)
    static = model.static_posterior(features).mean()
    dynamic = model.dynamic_posterior(features, static).mean()
    np.testing.assert_allclose(codes["static_mean"], static, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(codes["dynamic_mean"], dynamic, rtol=1e-5, atol=1e-6)
    pictures = model.likelihood(static, dynamic).mean()
    np.testing.assert_allclose(model.decode(static, dynamic), pictures, rtol=1e-5, atol=1e-6)


def test_permuting_frames_permutes_z_and_leaves_f(model):
    order = [2, 0, 1]
    codes, permuted = model(frames()), model(tf.gather(frames(), order, axis=1))
    np.testing.assert_allclose(codes["static_mean"], permuted["static_mean"], rtol=1e-5, atol=1e-6)
    dynamic = tf.gather(codes["dynamic_mean"], order, axis=1)
    np.testing.assert_allclose(dynamic, permuted["dynamic_mean"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16, 1), (48, 16, 4)])
def test_any_size_and_channels(shape):
    assert DDR(shape, **TINY)(frames(shape=shape))["reconstruction"].shape == (2, 3, *shape)


def test_densities_have_the_shapes_that_broadcast_over_frames(model):
    features = model.features(frames())
    static = model.static_posterior(features)
    dynamic = model.dynamic_posterior(features, static.mean())
    assert (static.batch_shape, static.event_shape) == ((2,), (4,))
    assert (dynamic.batch_shape, dynamic.event_shape) == ((2, 3), (2,))
    assert model.dynamic_prior(static.mean()).batch_shape == (2, 1)
    likelihood = model.likelihood(static.mean(), dynamic.mean())
    assert (likelihood.batch_shape, likelihood.event_shape) == ((2, 3), (16, 32, 3))
    assert model.static_prior().event_shape == (4,)


def test_keras_round_trip(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is DDR
    assert loaded.get_config() == model.get_config()
    for name, value in model(frames()).items():
        np.testing.assert_allclose(value, loaded(frames())[name], rtol=1e-5, atol=1e-6)


def test_a_standard_prior_does_not_depend_on_f():
    model = DDR((16, 16, 1), **TINY, learned_prior=False)
    prior = model.dynamic_prior(tf.random.stateless_normal([3, 4], [0, 0]))
    assert (prior.batch_shape, prior.event_shape) == ((3, 1), (2,))
    np.testing.assert_array_equal(prior.mean(), np.zeros((3, 1, 2)))
    np.testing.assert_array_equal(prior.stddev(), np.ones((3, 1, 2)))
    assert not any("prior" in variable.path for variable in model.trainable_variables)


def test_warmup_of_the_kl_terms():
    model = DDR((16, 16, 1), **TINY, kl_warmup_steps=4)
    weights = [float(model.kl_weight(tf.constant(step))) for step in (0, 1, 3, 100)]
    assert weights == [0.25, 0.5, 1.0, 1.0]
    assert float(DDR((16, 16, 1), **TINY, kl_warmup_steps=0).kl_weight(tf.constant(0))) == 1.0


def test_each_step_draws_how_many_frames_give_f():
    def drawn(**options):
        model = DDR((16, 16, 1), **TINY, **options)
        return {int(model.static_count(tf.zeros([2, 6, 16, 16, 1]), tf.constant(step))) for step in range(60)}

    assert drawn(min_static_frames=2) == {2, 3, 4, 5, 6}
    assert drawn(min_static_frames=1, num_static_frames=3) == {1, 2, 3}
    assert DDR((16, 16, 1), **TINY).static_count(tf.zeros([2, 6, 16, 16, 1]), tf.constant(0)) is None


def test_relative_transfer_keeps_the_place_under_the_prior():
    source = diagonal_normal(tf.constant([1.0, 2.0]), tf.constant([0.5, 2.0]))
    target = diagonal_normal(tf.constant([-1.0, 0.0]), tf.constant([1.0, 1.0]))
    moved = relative_transfer(tf.constant([1.5, 0.0]), source, target)
    np.testing.assert_allclose(moved, [0.0, -1.0])
    np.testing.assert_allclose(relative_transfer(moved, target, source), [1.5, 0.0])


@pytest.mark.parametrize("shortcuts", [False, True])
def test_bfloat16_computes_in_it_and_keeps_weights_and_outputs_in_float32(shortcuts):
    keras.utils.set_random_seed(0)
    half = DDR((16, 32, 3), **TINY, shortcuts=shortcuts, dtype="mixed_bfloat16")
    keras.utils.set_random_seed(0)
    full = DDR((16, 32, 3), **TINY, shortcuts=shortcuts)
    assert half.features(frames()).dtype == tf.bfloat16
    assert {variable.dtype for variable in half.trainable_variables} == {"float32"}
    for name, value in full(frames()).items():
        assert half(frames())[name].dtype == tf.float32
        np.testing.assert_allclose(half(frames())[name], value, atol=0.03)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (
            np.full((2, 2, 16, 16, 1), 200.0, np.float32),
            r"in \[0, 1\], got values from 200 to 200",
        ),
        (np.full((2, 2, 16, 16, 1), -1.0), r"must be in \[0, 1\], got values from -1 to -1"),
        (np.ones((2, 2, 16, 16, 1), np.int64), r"must be uint8, or floats in \[0, 1\], got int64"),
        (np.ones((2, 2, 16, 16, 1), bool), r"must be uint8, or floats in \[0, 1\], got bool"),
        (np.full((2, 2, 16, 16, 1), np.nan), r"must be in \[0, 1\], got NaN"),
        (np.ones((2, 16, 16, 1)), r"shape \[B, N, 16, 16, 1\].*; got \[2, 16, 16, 1\]; frames\[None\] makes one"),
        (np.ones((2, 2, 32, 32, 1)), r"got \[2, 2, 32, 32, 1\]\."),
        (np.ones((2, 2, 1, 16, 16)), r"got \[2, 2, 1, 16, 16\]\."),
        (np.ones((0, 2, 16, 16, 1)), r"B and N from 1; got \[0, 2"),
    ],
)
def test_frames_of_another_range_are_refused(frames, message):
    model = DDR((16, 16, 1), **TINY)
    model.compile("adam")
    with pytest.raises(UserError, match=message):
        model.encode(frames)
    for given in (frames, tf.data.Dataset.from_tensors(frames)):
        with pytest.raises(UserError, match=message):
            model.fit(given, verbose=0)
    good = np.ones((2, 2, 16, 16, 1), np.float32)
    for given in (frames, (frames, frames), tf.data.Dataset.from_tensors(frames)):
        with pytest.raises(UserError, match=message):
            model.fit(good, validation_data=given, verbose=0)


class Batches(keras.utils.PyDataset):
    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def test_what_fit_cannot_use_is_refused():
    model = DDR((16, 16, 1), **TINY)
    model.compile("adam")
    good = np.ones((2, 2, 16, 16, 1), np.float32)
    for call, message in (
        (lambda: model.fit(good, sample_weight=np.ones(2)), "takes no sample_weight"),
        (lambda: model.fit(good, class_weight={0: 1.0}), "takes no class_weight"),
        (lambda: model.fit([good]), "not a list; np.stack makes it one"),
        (lambda: model.fit(tf.data.Dataset.from_tensors({"x": good})), r"a dict of x; dataset.map\(.*\['x'\]\) takes"),
        (lambda: model.fit(RandomDataset()), r"fit takes batches of a dataset: fit\(sequences.batches\('train'"),
        (lambda: model.fit(RandomDataset), "fit takes batches of a dataset"),
        (lambda: model.fit(Batches(200 * good)), "got values from 200 to 200"),
        (lambda: model.fit(Batches(good, np.nan * good), verbose=0), "elbo is NaN after epoch 1"),
    ):
        with pytest.raises(UserError, match=message):
            call()
    for given in ({"loss": "mse"}, {"metrics": ["mae"]}):
        model.compile("adam", **given)
        with pytest.raises(UserError, match=f"compile takes no {min(given)}: what is maximised is the ELBO"):
            model.fit(good)


def test_what_decode_and_save_cannot_take_is_refused(tmp_path):
    model = DDR((16, 16, 1), **TINY)
    static, dynamic = np.zeros((2, 4)), np.zeros((2, 3, 2))
    assert model.decode(static, dynamic).shape == (2, 3, 16, 16, 1)
    for f, z in ((static[0], dynamic[0]), (static[:1], dynamic), (static[:, :3], dynamic), (static, dynamic[..., :1])):
        with pytest.raises(UserError, match=r"decode takes f \[B, F = 4\] and z \[B, N, Z = 2\], of the same B; got"):
            model.decode(f, z)
    with pytest.raises(UserError, match="could not read the model from HDF5 again"):
        model.save(tmp_path / "model.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_callbacks_and_positional_arguments_of_fit_count():
    model = DDR((16, 16, 1), **TINY)
    model.compile("adam")
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    frames_in = np.ones((4, 2, 16, 16, 1), np.uint8)
    model.fit(frames_in, None, 2, 3, 0, callback)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize(
    ("shape", "sizes", "message"),
    [
        ((32, 32), {}, r"frame_shape must be \(height, width, channels\), got \(32, 32\)"),
        (32, {}, r"frame_shape must be .*, got \(32,\)"),
        ((16, 16, 1), {"static_dim": "8"}, "DDR.static_dim must be a whole number, got '8'"),
        ((16, 16, 1), {"width": 8.0}, r"DDR.width must be a whole number, got 8\.0"),
    ],
)
def test_sizes_of_another_kind_are_refused(shape, sizes, message):
    with pytest.raises(UserError, match=message):
        DDR(shape, **TINY | sizes)


def test_what_evaluate_and_predict_cannot_use_is_refused():
    model = DDR((16, 16, 1), **TINY)
    model.compile("adam")
    good = np.ones((2, 2, 16, 16, 1), np.float32)
    endless = tf.data.Dataset.from_tensors(good).repeat()
    for call, message in (
        (lambda: model.evaluate(200 * good), "got values from 200 to 200"),
        (lambda: model.evaluate(good.astype(bool)), "must be uint8, or floats in .*, got bool"),
        (lambda: model.predict(good.astype(np.int32)), "must be uint8, or floats in .*, got int32"),
        (lambda: model.evaluate(good, sample_weight=np.ones(2)), "evaluate takes no sample_weight"),
        (lambda: model.evaluate(endless), "The batches never end, so evaluate needs to know .*: steps=100"),
        (lambda: model.predict(endless), "The batches never end, so predict needs to know .*: steps=100"),
        (lambda: model.predict([good]), "predict takes an array"),
        (lambda: model.fit(endless), "The batches never end, so fit needs to know .*: steps_per_epoch=100"),
        (lambda: model.fit(good, validation_data=endless), "validation_steps=100"),
    ):
        with pytest.raises(UserError, match=message):
            call()
    assert set(model.evaluate(endless, steps=2, verbose=0, return_dict=True)) >= {"elbo", "kl_static"}
    assert model.predict(good, verbose=0)["static_mean"].shape == (2, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_static_frames": 2}, "must leave frames to decode"), ({"min_static_frames": 3}, "must be at most")],
)
def test_sequences_too_short_for_the_options_are_refused(options, message):
    model = DDR((16, 16, 1), **TINY | options)
    model.compile("adam")
    good = np.ones((2, 2, 16, 16, 1), np.float32)
    for given in (good, tf.data.Dataset.from_tensors(good), tf.data.Dataset.from_tensors(good[:, None].repeat(2, 1))):
        with pytest.raises(UserError, match=message):
            model.fit(given, verbose=0)
    enough = np.ones((2, 3, 16, 16, 1), np.float32)
    assert "val_elbo" in model.fit(enough, validation_data=(good, None), verbose=0).history  # all frames for both


def test_a_last_batch_of_fewer_sequences_counts_for_less():
    model = DDR((16, 16, 1), **TINY)
    model.compile("adam")
    frames_in = np.random.RandomState(0).uniform(size=(3, 2, 16, 16, 1)).astype(np.float32)

    def elbo(given):
        return model.evaluate(given, batch_size=2, verbose=0, return_dict=True)["elbo"]

    assert elbo(frames_in) == pytest.approx((2 * elbo(frames_in[:2]) + elbo(frames_in[2:])) / 3, rel=1e-5)
