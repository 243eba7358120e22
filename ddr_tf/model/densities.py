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
    return tfd.Independent(SoftBernoulli(logits=logits, dtype=tf.float32), reinterpreted_batch_ndims=3)


class SoftBernoulli(tfd.Bernoulli):
    """`tfd.Bernoulli` of finite logits, whose `log_prob` and its gradient take fewer passes over the pixels."""

    def _log_prob(self, event: tf.Tensor) -> tf.Tensor:
        logits, event = self.logits_parameter(), tf.cast(event, tf.float32)
        if logits.shape != event.shape:
            shape = tf.broadcast_dynamic_shape(tf.shape(logits), tf.shape(event))
            logits, event = tf.broadcast_to(logits, shape), tf.broadcast_to(event, shape)
        return _bernoulli_log_prob(logits, event)


@tf.custom_gradient
def _bernoulli_log_prob(
    logits: tf.Tensor, pixels: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """The sum pixels log sigmoid(logits) + (1 - pixels) log sigmoid(-logits), of tensors of one shape."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return upstream * (pixels - tf.sigmoid(logits)), upstream * logits

    return pixels * logits - tf.nn.softplus(logits), gradient
