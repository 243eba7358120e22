import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.model.densities import tfd
from ddr_tf.model.mixtures import MIN_VARIANCE, NormalMixture, check_shapes, independent_mixtures, likeliest_mixture


def some_mixture(random, count, dimensions):
    scales = np.tril(random.normal(0, 0.2, (count, dimensions, dimensions))) + np.eye(dimensions)
    parameters = (random.dirichlet(np.ones(count)), random.normal(0, 3, (count, dimensions)), scales)
    return NormalMixture(*map(np.float32, parameters))


def test_independent_mixtures_are_those_one_by_one():
    random = np.random.RandomState(0)
    groups = [some_mixture(random, *sizes) for sizes in ((1, 1), (3, 1), (2, 1), (2, 3))]
    alone = [
        tfd.MixtureSameFamily(tfd.Categorical(probs=weights), tfd.MultivariateNormalTriL(means, scales))
        for weights, means, scales in groups
    ]
    together = independent_mixtures(groups)
    values = random.normal(0, 3, (5, 6)).astype(np.float32)
    parts = np.split(values, [1, 2, 3], axis=1)
    expected = sum(mixture.log_prob(part).numpy() for mixture, part in zip(alone, parts, strict=True))
    np.testing.assert_allclose(together.log_prob(values), expected, rtol=1e-5)
    samples = together.sample(100_000, seed=[3, 4]).numpy()
    np.testing.assert_allclose(samples.mean(axis=0), np.concatenate([each.mean() for each in alone]), atol=0.1)
    spread = np.concatenate([np.diag(each.covariance()) for each in alone])
    np.testing.assert_allclose(samples.var(axis=0), spread, rtol=0.05)
    np.testing.assert_array_equal(together.sample(tf.constant(7), seed=[3, 4]), together.sample(7, seed=[3, 4]))


def test_held_out_draws_choose_how_many_normals():
    random = np.random.RandomState(0)
    training, held_out = (np.append(random.normal(-3, 0.1, n), random.normal(3, 0.1, n))[:, None] for n in (200, 50))
    score, mixture = likeliest_mixture(training, held_out, counts=(1, 2, 50))
    assert mixture.n_components == 2
    assert score == pytest.approx(np.log(0.5) - 0.5 * np.log(2 * np.pi * np.e) - np.log(0.1), abs=0.1)


def test_what_is_no_mixture_is_said():
    good = some_mixture(np.random.RandomState(0), 3, 2)
    check_shapes(good.shapes())
    for bad in (good._replace(weights=np.ones(2, np.float32)), good._replace(means=np.float64(good.means))):
        with pytest.raises(ValueError, match="not finite float32"):
            check_shapes(bad.shapes())


NOISE = np.array([[0.5, 0.2], [0.2, 0.3]])


def of_covariances(*covariances):
    count = len(covariances)
    scales = np.linalg.cholesky(covariances).astype(np.float32)
    return NormalMixture(np.full(count, 1 / count, np.float32), np.zeros((count, 2), np.float32), scales)


def covariances_of(mixture):
    return mixture.scales @ mixture.scales.swapaxes(1, 2)


def test_noise_is_taken_off_each_normal():
    without = np.array([[[2.0, 0.7], [0.7, 1.0]], [[0.3, -0.1], [-0.1, 0.4]]])
    clean = of_covariances(*(without + NOISE)).without_noise(NOISE)
    np.testing.assert_allclose(covariances_of(clean), without, atol=1e-5)
    assert clean.scales.dtype == np.float32
    np.testing.assert_array_equal(np.triu(clean.scales, 1), 0)


def test_what_is_noise_alone_nearly_vanishes():
    clean = of_covariances(NOISE, 0.5 * NOISE).without_noise(NOISE)
    np.testing.assert_allclose(covariances_of(clean), np.stack([MIN_VARIANCE * NOISE] * 2), rtol=1e-4)
