import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.model import densities
from ddr_tf.model.elbo import ElboTerms, bits_per_dim, elbo_terms


def kl(mean, stddev, prior_mean, prior_stddev):
    ratio = (stddev / prior_stddev) ** 2
    return 0.5 * (ratio + ((mean - prior_mean) / prior_stddev) ** 2 - 1 - np.log(ratio)).sum(-1)


def test_terms_are_the_closed_forms():
    random = np.random.RandomState(0)

    def normal(*shape):
        return random.normal(size=shape).astype(np.float32), random.uniform(0.3, 2, shape).astype(np.float32)

    q_f, q_z, p_z = normal(2, 5), normal(2, 3, 2), normal(2, 1, 2)
    frames = random.uniform(size=(2, 3, 4, 4, 1)).astype(np.float32)
    logits = random.normal(size=frames.shape).astype(np.float32)
    terms = elbo_terms(
        frames,
        densities.pixel_likelihood(tf.constant(logits)),
        densities.diagonal_normal(*q_f),
        densities.static_prior(5),
        densities.diagonal_normal(*q_z),
        densities.diagonal_normal(*p_z),
    )
    np.testing.assert_allclose(terms.kl_static, kl(*q_f, 0.0, 1.0), rtol=1e-5)
    np.testing.assert_allclose(terms.kl_dynamic, kl(*q_z, *p_z).sum(-1), rtol=1e-5)
    log_p = -np.log1p(np.exp(-logits)) * frames - np.log1p(np.exp(logits)) * (1 - frames)
    np.testing.assert_allclose(terms.reconstruction, log_p.sum((1, 2, 3, 4)), rtol=1e-5)
    np.testing.assert_allclose(terms.elbo(), terms.reconstruction - terms.kl_static - terms.kl_dynamic, rtol=1e-6)
    np.testing.assert_allclose(terms.elbo(0.0), terms.reconstruction)


def test_kl_weight_applies_to_both_terms():
    terms = ElboTerms(tf.constant([-10.0]), tf.constant([2.0]), tf.constant([4.0]))
    assert float(terms.elbo(0.5)[0]) == -13.0
    assert float(terms.elbo(0.5, static_weight=0.25)[0]) == -12.25


def test_bits_per_dim():
    assert bits_per_dim(-np.log(2) * 4 * 4 * 3, (4, 4, 3)) == pytest.approx(1.0)
