import keras
import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.model import STANDARD
from ddr_tf.model.ddr import DDR, as_float
from ddr_tf.model.densities import tfd
from ddr_tf.model.dynamic_density import DynamicDensity
from ddr_tf.model.mixtures import NormalMixture
from model_examples import TINY, frames


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return DDR((16, 32, 3), **TINY)


def test_elbo_without_noise_uses_the_posterior_means(model):
    terms = model.elbo_terms(frames(), tf.zeros([2, 4]), tf.zeros([2, 3, 2]))
    outputs = model(frames())
    x, p = as_float(frames()).numpy(), outputs["reconstruction"].numpy()
    expected = (x * np.log(p) + (1 - x) * np.log(1 - p)).sum((1, 2, 3, 4))
    np.testing.assert_allclose(terms.reconstruction, expected, rtol=1e-4)
    assert (terms.kl_static.numpy() > 0).all()
    assert (terms.kl_dynamic.numpy() > 0).all()


def test_f_may_come_from_other_frames_than_those_decoded(model):
    static_noise, dynamic_noise = tf.ones([2, 4]), tf.ones([2, 3, 2])
    others = frames(seed=1, num_frames=5)
    same = model.elbo_terms(frames(), static_noise, dynamic_noise, frames())
    plain = model.elbo_terms(frames(), static_noise, dynamic_noise)
    apart = model.elbo_terms(frames(), static_noise, dynamic_noise, others)
    np.testing.assert_allclose(same.elbo(), plain.elbo(), rtol=1e-5)
    of_others = model.elbo_terms(others, static_noise, tf.zeros([2, 5, 2]))
    np.testing.assert_allclose(apart.kl_static, of_others.kl_static, rtol=1e-5)
    assert not np.allclose(apart.kl_static, plain.kl_static)


def test_f_may_come_from_the_first_of_the_frames_that_are_decoded(model):
    noise = tf.ones([2, 4]), tf.ones([2, 3, 2])
    counted = model.elbo_terms(frames(), *noise, static_count=tf.constant(2))
    expected = model.elbo_terms(frames(), *noise, frames()[:, :2])
    for left, right in zip(counted, expected, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5)


def test_the_mean_of_log_weights_is_the_bound_and_more_samples_tighten_it(model):
    samples = 400
    noise = [tf.random.stateless_normal([samples, 2, *shape], [i, 0]) for i, shape in enumerate(((4,), (3, 2)))]
    both = tf.function(lambda *each: (model.elbo_terms(frames(), *each).elbo(), model.log_weights(frames(), *each)))
    bounds, weights = map(np.array, zip(*(both(*each) for each in zip(*noise, strict=True)), strict=True))
    error = np.std(weights - bounds, axis=0) / samples**0.5
    np.testing.assert_array_less(np.abs((weights - bounds).mean(axis=0)), 4 * error)
    tighter = np.log(np.exp(weights - weights.max()).reshape(-1, 8, 2).mean(axis=1)).mean(axis=0) + weights.max()
    assert (tighter > weights.mean(axis=0)).all()


def test_uint8_and_float_frames_are_the_same(model):
    for name, value in model(frames()).items():
        np.testing.assert_allclose(value, model(as_float(frames()))[name], rtol=1e-5, atol=1e-6)


def test_a_normal_likelihood_learns_its_stddev_and_keeps_it(tmp_path):
    model = DDR((16, 16, 1), **TINY, pixel_likelihood="normal")
    x = frames(shape=(16, 16, 1))
    terms = model.elbo_terms(x, tf.zeros([2, 4]), tf.zeros([2, 3, 2]))
    error = (as_float(x) - model(x)["reconstruction"]).numpy() / 0.1
    excess = 0.5 * np.square(error).sum((2, 3, 4)).mean()
    np.testing.assert_allclose(model.bound_metrics(x, terms)["reconstruction_excess"], excess, rtol=1e-4)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model.elbo_terms(x, tf.zeros([2, 4]), tf.zeros([2, 3, 2])).reconstruction)
    assert float(tape.gradient(loss, model.log_pixel_stddev.value)) < 0  # noise is far from 0.1: sigma must grow
    model.log_pixel_stddev.assign(-1.0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.pixel_stddev, np.exp(-1.0), rtol=1e-6)


def test_z_may_come_from_other_views_than_those_decoded(model):
    noise = tf.ones([2, 4]), tf.ones([2, 3, 2])
    views = frames(seed=1)
    plain = model.elbo_terms(frames(), *noise)
    apart = model.elbo_terms(frames(), *noise, dynamic_frames=views)
    np.testing.assert_allclose(apart.kl_static, plain.kl_static, rtol=1e-5)
    static = model.sample_posterior(frames(), *noise).static
    posterior = model.dynamic_posterior(model.features(views), static[::-1])  # f of the other one of the two
    expected = tfd.kl_divergence(posterior, model.dynamic_prior(static))
    np.testing.assert_allclose(apart.kl_dynamic, tf.reduce_sum(expected, axis=1), rtol=1e-4)
    assert not np.allclose(apart.kl_dynamic, plain.kl_dynamic)


def test_samples_of_z_are_at_the_places_of_the_fitted_density(model):
    seed = tf.constant([1, 2])
    plain = model.sample_codes(50, 4, seed)
    islands = np.float32([[-2, 1], [1, 3]])
    scales = np.broadcast_to(0.01 * np.eye(2, dtype=np.float32), (2, 2, 2))
    mixture = NormalMixture(np.float32([0.25, 0.75]), islands, scales)
    model.dynamic_density = DynamicDensity(mixture)
    try:
        static, dynamic = model.sample_codes(50, 4, seed)
        standard = model.sample_codes(50, 4, seed, STANDARD)
        model.dynamic_density = DynamicDensity(mixture, np.float32([0.01, 0.01]))
        _, of_means = model.sample_codes(50, 4, seed)
    finally:
        model.dynamic_density = None
    for left, right in zip(standard, plain, strict=True):
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(static, plain[0])
    prior = model.dynamic_prior(static)
    places, places_of_means = (((z - prior.mean()) / prior.stddev()).numpy() for z in (dynamic, of_means))
    assert places.shape == (50, 4, 2)
    distances = np.linalg.norm(places[:, :, None] - islands, axis=-1)
    assert (distances.min(axis=-1) < 0.06).all()
    assert (np.linalg.norm(places_of_means[:, :, None] - islands, axis=-1).min(axis=-1) < 0.02).all()
    assert np.mean(distances.argmin(axis=-1)) == pytest.approx(0.75, abs=0.12)
