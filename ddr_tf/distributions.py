"""Parameters -> densities: every distribution of the model, as a TFP object. Pure."""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def static_prior(static_dim: int) -> tfd.Distribution:
    """p(f) = N(0, I). Batch shape [], event shape [F]."""
    return diagonal_normal(tf.zeros([static_dim]), tf.ones([static_dim]))


def diagonal_normal(mean: tf.Tensor, stddev: tf.Tensor) -> tfd.Distribution:
    """N(mean, diag stddev^2), the form of p(z | f), q(f | x_1..N) and q(z_i | x_i, f).

    Args:
      mean: float32 `[..., D]`.
      stddev: float32 `[..., D]`, positive.

    Returns:
      Distribution of batch shape `[...]` and event shape `[D]`.
    """
    return tfd.Independent(tfd.Normal(mean, stddev), reinterpreted_batch_ndims=1)


def pixel_likelihood(logits: tf.Tensor) -> tfd.Distribution:
    """p(x | f, z): one Bernoulli a pixel and channel. Its `log_prob` takes soft targets in [0, 1].

    Args:
      logits: float32 `[..., H, W, C]`.

    Returns:
      Distribution of batch shape `[...]` and event shape `[H, W, C]`.
    """
    return tfd.Independent(tfd.Bernoulli(logits=logits, dtype=tf.float32), reinterpreted_batch_ndims=3)
