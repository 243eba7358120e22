import numpy as np

from ddr_tf.model.mixtures import MIN_VARIANCE, NormalMixture

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
