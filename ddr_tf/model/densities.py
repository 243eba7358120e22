"""Parameters -> densities: every distribution of the model, as a TFP object. Pure."""

from collections.abc import Callable

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

PIXEL_LIKELIHOODS = ("bernoulli", "normal")  # the forms that p(x | f, z) may have


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


def bernoulli_pixels(logits: tf.Tensor) -> tfd.Distribution:
    """One Bernoulli a pixel and channel, the paper's p(x | f, z). Its `log_prob` takes soft targets in [0, 1].

    Args:
      logits: float32 `[..., H, W, C]`.

    Returns:
      Distribution of batch shape `[...]` and event shape `[H, W, C]`.
    """
    return tfd.Independent(SoftBernoulli(logits=logits, dtype=tf.float32), reinterpreted_batch_ndims=3)


def normal_pixels(logits: tf.Tensor, stddev: tf.Tensor | float) -> tfd.Distribution:
    """N(sigmoid(logits), stddev^2), one a pixel and channel, of one stddev for all (Rybkin et al., 2021).

    Mid-grey pixels of a Bernoulli are as flat as a normal of stddev 0.5, so on photographs it hardly pays to tell
    one face from another. A learned stddev is as small as the errors are.

    Args:
      logits: float32 `[..., H, W, C]`.
      stddev: Positive, in units of a pixel in [0, 1].

    Returns:
      Distribution of batch shape `[...]` and event shape `[H, W, C]`.
    """
    return tfd.Independent(tfd.Normal(tf.sigmoid(logits), stddev), reinterpreted_batch_ndims=3)


def pixel_likelihood(logits: tf.Tensor, stddev: tf.Tensor | float | None = None) -> tfd.Distribution:
    """p(x | f, z): `normal_pixels` of this stddev; None: `bernoulli_pixels`."""
    return bernoulli_pixels(logits) if stddev is None else normal_pixels(logits, stddev)


def perfect_log_prob(frames: tf.Tensor, stddev: tf.Tensor | float | None = None) -> tf.Tensor:
    """What the `log_prob` of these frames cannot exceed: that of a `pixel_likelihood` whose means they are.

    Args:
      frames: float32 `[..., H, W, C]` in [0, 1].
      stddev: As of `pixel_likelihood`.

    Returns:
      float32 `[...]`, nats a frame.
    """
    if stddev is None:
        return -pixel_entropy(frames)
    return tfd.Independent(tfd.Normal(frames, stddev), reinterpreted_batch_ndims=3).log_prob(frames)


def pixel_entropy(frames: tf.Tensor) -> tf.Tensor:
    """Entropy of Bernoulli pixels with these means.

    Args:
      frames: float32 `[..., H, W, C]` in [0, 1].

    Returns:
      float32 `[...]`, nats a frame.
    """
    return -tf.reduce_sum(tf.math.xlogy(frames, frames) + tf.math.xlog1py(1.0 - frames, -frames), axis=(-3, -2, -1))


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
