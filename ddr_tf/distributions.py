"""Parameters -> densities: every distribution of the model, as a TFP object. Pure."""

from collections.abc import Callable

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
    return IndependentPixels(logits)


class IndependentPixels(tfd.Independent):
    """`tfd.Independent(tfd.Bernoulli(logits), 3)`, with fewer passes for `log_prob` and its gradient."""

    def __init__(self, logits: tf.Tensor) -> None:
        super().__init__(tfd.Bernoulli(logits=logits, dtype=tf.float32), reinterpreted_batch_ndims=3)

    def _log_prob(self, value: tf.Tensor) -> tf.Tensor:
        return _sum_of_bernoulli_log_prob(self.distribution.logits, tf.cast(value, tf.float32))


@tf.custom_gradient
def _sum_of_bernoulli_log_prob(
    logits: tf.Tensor, pixels: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """Sum over `[H, W, C]` of pixels log sigmoid(logits) + (1 - pixels) log sigmoid(-logits)."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        upstream = upstream[..., None, None, None]
        return upstream * (pixels - tf.sigmoid(logits)), upstream * logits

    return tf.reduce_sum(pixels * logits - tf.nn.softplus(logits), axis=(-3, -2, -1)), gradient
