import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.model import densities
from ddr_tf.model.densities import tfd


def test_diagonal_normal_is_the_closed_form():
    random = np.random.RandomState(0)
    mean, x = random.normal(size=(2, 5, 3)).astype(np.float32)
    stddev = random.uniform(0.5, 2, (5, 3)).astype(np.float32)
    density = densities.diagonal_normal(tf.constant(mean), tf.constant(stddev))
    expected = (-0.5 * ((x - mean) / stddev) ** 2 - np.log(stddev) - 0.5 * np.log(2 * np.pi)).sum(-1)
    np.testing.assert_allclose(density.log_prob(x), expected, rtol=1e-5)
    assert (density.batch_shape, density.event_shape) == ((5,), (3,))


def test_static_prior_is_standard_normal():
    prior = densities.static_prior(4)
    np.testing.assert_allclose(prior.log_prob(tf.zeros([4])), -2 * np.log(2 * np.pi), rtol=1e-6)
    assert (prior.batch_shape, prior.event_shape) == ((), (4,))


def test_pixel_likelihood_is_that_of_independent_bernoullis_and_so_is_its_gradient():
    random = np.random.RandomState(0)
    logits = tf.constant(random.normal(scale=8, size=(2, 3, 4, 4, 1)).astype(np.float32))
    x = tf.constant(random.uniform(size=logits.shape).round(1).astype(np.float32))
    upstream = tf.constant(random.normal(size=(2, 3)).astype(np.float32))
    values, gradients = [], []
    plain = lambda logits: tfd.Independent(tfd.Bernoulli(logits=logits, dtype=tf.float32), 3)  # noqa: E731
    for density in (plain, densities.pixel_likelihood):
        with tf.GradientTape() as tape:
            tape.watch([logits, x])
            values.append(density(logits).log_prob(x))
            total = tf.reduce_sum(upstream * values[-1])
        gradients.append(tape.gradient(total, [logits, x]))
    np.testing.assert_allclose(*values, rtol=1e-5)
    for expected, found in zip(*gradients, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_pixel_likelihood_broadcasts_and_can_be_cut():
    random = np.random.RandomState(0)
    logits = tf.constant(random.normal(size=(2, 1, 4, 4, 1)).astype(np.float32))
    x = tf.constant(random.uniform(size=(5, 2, 3, 4, 4, 1)).astype(np.float32))
    plain = lambda logits: tfd.Independent(tfd.Bernoulli(logits=logits, dtype=tf.float32), 3)  # noqa: E731
    values, gradients = [], []
    for density in (plain, densities.pixel_likelihood):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            values.append(density(logits).log_prob(x))
            total = tf.reduce_sum(values[-1])
        gradients.append(tape.gradient(total, logits))
    np.testing.assert_allclose(*values, rtol=1e-5)
    np.testing.assert_allclose(*gradients, rtol=1e-4)
    cut = densities.pixel_likelihood(logits)[1]
    np.testing.assert_allclose(cut.log_prob(x[0, 1]), values[0][0, 1], rtol=1e-5)


def test_pixel_likelihood_has_a_batch_of_frames_and_their_mean():
    likelihood = densities.pixel_likelihood(tf.zeros([2, 3, 4, 4, 1]))
    assert (likelihood.batch_shape, likelihood.event_shape) == ((2, 3), (4, 4, 1))
    np.testing.assert_allclose(likelihood.mean(), np.full((2, 3, 4, 4, 1), 0.5))


def test_pixel_likelihood_takes_soft_targets():
    random = np.random.RandomState(0)
    logits = random.normal(size=(2, 3, 4, 4, 1)).astype(np.float32)
    x = random.uniform(size=logits.shape).astype(np.float32)
    p = 1 / (1 + np.exp(-logits))
    expected = (x * np.log(p) + (1 - x) * np.log(1 - p)).sum((2, 3, 4))
    np.testing.assert_allclose(densities.pixel_likelihood(tf.constant(logits)).log_prob(x), expected, rtol=1e-5)


def test_pixel_entropy():
    frames = np.full((2, 4, 4, 1), 0.5, np.float32)
    frames[1] = np.random.RandomState(0).randint(0, 2, (4, 4, 1))
    np.testing.assert_allclose(densities.pixel_entropy(tf.constant(frames)), [16 * np.log(2), 0.0], rtol=1e-6)


def test_normal_pixels_are_the_closed_form():
    random = np.random.RandomState(0)
    logits = random.normal(size=(2, 3, 4, 4, 1)).astype(np.float32)
    x = random.uniform(size=logits.shape).astype(np.float32)
    error = (x - 1 / (1 + np.exp(-logits))) / 0.2
    expected = (-0.5 * error**2 - np.log(0.2 * np.sqrt(2 * np.pi))).sum((2, 3, 4))
    likelihood = densities.pixel_likelihood(tf.constant(logits), 0.2)
    np.testing.assert_allclose(likelihood.log_prob(x), expected, rtol=1e-5)
    assert (likelihood.batch_shape, likelihood.event_shape) == ((2, 3), (4, 4, 1))


@pytest.mark.parametrize("stddev", [None, 0.3])
def test_no_likelihood_exceeds_the_perfect_one(stddev):
    frames = tf.constant(np.random.RandomState(0).uniform(0.01, 0.99, (1, 1, 4, 4, 1)).astype(np.float32))
    logits = tf.math.log(frames) - tf.math.log1p(-frames)
    perfect = densities.perfect_log_prob(frames, stddev)
    np.testing.assert_allclose(densities.pixel_likelihood(logits, stddev).log_prob(frames), perfect, rtol=1e-5)
    other = densities.pixel_likelihood(logits + 0.5, stddev).log_prob(frames)
    assert float(other[0, 0]) < float(perfect[0, 0])
