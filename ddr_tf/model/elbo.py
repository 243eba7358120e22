"""The variational lower bound as a record of named terms. Pure; all values in nats."""

import math
from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


class ElboTerms(NamedTuple):
    """Terms of the bound on log p(x_1..N), each float32 `[B]`, in nats a sequence of N frames.

    Attributes:
      reconstruction: sum_i log p(x_i | f, z_i), for one sample of f and z.
      kl_static: KL(q(f | x_1..N) || p(f)).
      kl_dynamic: sum_i KL(q(z_i | x_i, f) || p(z | f)), for the same sample of f.
    """

    reconstruction: tf.Tensor
    kl_static: tf.Tensor
    kl_dynamic: tf.Tensor

    def elbo(self, kl_weight: tf.Tensor | float = 1.0, static_weight: float = 1.0) -> tf.Tensor:
        """Reconstruction - kl_weight * (static_weight * kl_static + kl_dynamic), `[B]`; the bound at weights 1."""
        return self.reconstruction - kl_weight * (static_weight * self.kl_static + self.kl_dynamic)


def elbo_terms(
    frames: tf.Tensor,
    likelihood: tfd.Distribution,
    static_posterior: tfd.Distribution,
    static_prior: tfd.Distribution,
    dynamic_posterior: tfd.Distribution,
    dynamic_prior: tfd.Distribution,
) -> ElboTerms:
    """The terms of the bound, with both KL divergences in closed form.

    Args:
      frames: float32 `[B, N, H, W, C]` in [0, 1].
      likelihood: p(x_i | f, z_i), batch shape `[B, N]`.
      static_posterior: q(f | x_1..N), batch shape `[B]`.
      static_prior: p(f), batch shape `[]`.
      dynamic_posterior: q(z_i | x_i, f), batch shape `[B, N]`.
      dynamic_prior: p(z | f), batch shape `[B, 1]`.
    """
    return ElboTerms(
        reconstruction=tf.reduce_sum(likelihood.log_prob(frames), axis=-1),
        kl_static=tfd.kl_divergence(static_posterior, static_prior),
        kl_dynamic=tf.reduce_sum(tfd.kl_divergence(dynamic_posterior, dynamic_prior), axis=-1),
    )


def bits_per_dim(nats_per_frame: float, frame_shape: tuple[int, int, int]) -> float:
    """Negative log-likelihood in bits a pixel and channel, from a bound in nats a frame."""
    return -nats_per_frame / (math.prod(frame_shape) * math.log(2.0))
