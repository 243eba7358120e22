"""Bounds on the log-likelihood of frames, from the densities of a model."""

from typing import NamedTuple

import tensorflow as tf

from ddr_tf.errors import UserError
from ddr_tf.model import FITTED
from ddr_tf.model.densities import perfect_log_prob, tfd
from ddr_tf.model.dynamic_density import DynamicDensity
from ddr_tf.model.elbo import ElboTerms, elbo_terms
from ddr_tf.model.static_density import StaticDensity

# What `Bounds.bound_metrics` returns, in nats a frame.
BOUND_METRICS = ("elbo", "reconstruction", "reconstruction_excess", "kl_static", "kl_dynamic")


def as_float(frames: tf.Tensor) -> tf.Tensor:
    """uint8 frames -> float32 in [0, 1]; float frames are returned as float32. Raises UserError for other types."""
    dtype = tf.as_dtype(frames.dtype)
    if not (dtype == tf.uint8 or dtype.is_floating):
        raise UserError(f"Frames must be uint8, or floats in [0, 1], got {dtype.name}; convert them to one of these.")
    return tf.cast(frames, tf.float32) / 255.0 if dtype == tf.uint8 else tf.cast(frames, tf.float32)


class PosteriorSample(NamedTuple):
    """A sample of the codes of sequences, and the densities that it was drawn from.

    Attributes:
      static: f, float32 `[B, F]`.
      dynamic: z, float32 `[B, N, Z]`.
      static_posterior: q(f | ..), batch `[B]`.
      dynamic_posterior: q(z_i | x_i, f), batch `[B, N]`.
    """

    static: tf.Tensor
    dynamic: tf.Tensor
    static_posterior: tfd.Distribution
    dynamic_posterior: tfd.Distribution


class Bounds:
    """Bounds on log p(x_1..N), and samples, for any class that has the densities of the model as methods, as `DDR` has.

    Attributes:
      pixel_stddev: Of a normal p(x | f, z); None: it is a Bernoulli.
      static_density, dynamic_density: What was fitted to f, and to z given f, after training; None for a model that is
        not trained to its end, or was trained by a version that did not fit it.
    """

    static_density: StaticDensity | None = None
    dynamic_density: DynamicDensity | None = None

    def sampling_density(self, name: str = FITTED) -> tfd.Distribution:
        """What f of samples is drawn from: `static_density` of means if that is wanted and there is one, else p(f)."""
        if name == FITTED and self.static_density is not None:
            return self.static_density.of_means.distribution()
        return self.static_prior()

    def sample_codes(
        self, count: int | tf.Tensor, num_frames: int | tf.Tensor, seed: tf.Tensor, density: str = FITTED
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Codes of sequences that do not exist, the same for the same seed.

        Args:
          count: B.
          num_frames: N.
          seed: int32 `[2]`.
          density: `FITTED`: the densities that were fitted after training, as far as there are any; `STANDARD`: p(f)
            and p(z | f), as in the paper.

        Returns:
          f `[B, F]` and z `[B, N, Z]`.
        """
        static_seed, dynamic_seed = tf.unstack(tf.random.split(seed, 2))
        static = self.sampling_density(density).sample(count, seed=static_seed)
        prior = self.dynamic_prior(static)
        if density == FITTED and self.dynamic_density is not None:
            places = self.dynamic_density.of_means.sample([count, num_frames], dynamic_seed)
            return static, prior.mean() + prior.stddev() * places
        dynamic = prior.sample(num_frames, seed=dynamic_seed)  # [N, B, 1, Z]
        return static, tf.transpose(dynamic[:, :, 0], [1, 0, 2])

    def sample_posterior(
        self,
        frames: tf.Tensor,
        static_noise: tf.Tensor,
        dynamic_noise: tf.Tensor,
        static_frames: tf.Tensor | None = None,
        features: tf.Tensor | None = None,
        dynamic_frames: tf.Tensor | None = None,
        static_count: tf.Tensor | None = None,
        static_posterior: tfd.Distribution | None = None,
    ) -> PosteriorSample:
        """Reparameterised f ~ q(f | ..) and z_i ~ q(z_i | x_i, f); the arguments are those of `elbo_terms`.

        Args:
          features, static_posterior: `features` of the frames and q(f | ..), where they are known already.
        """
        if features is None:
            features = self.features(frames if dynamic_frames is None else dynamic_frames)
        if static_posterior is None:
            same = static_frames is None and dynamic_frames is None
            static_features = features if same else self.features(frames if static_frames is None else static_frames)
            static_posterior = self.static_posterior(static_features[:, :static_count])
        static = static_posterior.mean() + static_posterior.stddev() * static_noise
        given = static if dynamic_frames is None else tf.roll(static, 1, axis=0)
        dynamic_posterior = self.dynamic_posterior(features, given)
        dynamic = dynamic_posterior.mean() + dynamic_posterior.stddev() * dynamic_noise
        return PosteriorSample(static, dynamic, static_posterior, dynamic_posterior)

    def elbo_terms(
        self,
        frames: tf.Tensor,
        static_noise: tf.Tensor,
        dynamic_noise: tf.Tensor,
        static_frames: tf.Tensor | None = None,
        dynamic_frames: tf.Tensor | None = None,
        static_count: tf.Tensor | None = None,
    ) -> ElboTerms:
        """The bound for one reparameterised sample of f and z.

        Args:
          frames: uint8, or float in [0, 1], `[B, N, H, W, C]`.
          static_noise: float32 `[B, F]`, standard normal.
          dynamic_noise: float32 `[B, N, Z]`, standard normal.
          static_frames: Frames `[B, M, H, W, C]` that q(f | ..) is computed from; None: `frames`.
          dynamic_frames: Other views of `frames`, of the same shape, that q(z_i | ..) sees in their place; and what it
            is given with them is f of another sequence of these, as in swaps. None: `frames`, and their own f.
          static_count: int32 `[]`; q(f | ..) is computed from the first so many frames. None: from all.
        """
        frames = as_float(frames)
        sample = self.sample_posterior(
            frames,
            static_noise,
            dynamic_noise,
            static_frames,
            dynamic_frames=dynamic_frames,
            static_count=static_count,
        )
        return self.terms_of(frames, sample)

    def terms_of(self, frames: tf.Tensor, sample: PosteriorSample) -> ElboTerms:
        """The bound of frames uint8, or float in [0, 1], `[B, N, H, W, C]` for a sample of their codes."""
        return elbo_terms(
            as_float(frames),
            self.likelihood(sample.static, sample.dynamic),
            sample.static_posterior,
            self.static_prior(),
            sample.dynamic_posterior,
            self.dynamic_prior(sample.static),
        )

    def log_weights(
        self,
        frames: tf.Tensor,
        static_noise: tf.Tensor,
        dynamic_noise: tf.Tensor,
        features: tf.Tensor | None = None,
        static_posterior: tfd.Distribution | None = None,
    ) -> tf.Tensor:
        """Log of p(x_1..N, f, z_1..N) / q(f, z_1..N | x_1..N) for one sample: float32 `[B]`, nats a sequence.

        Its mean over samples is the bound of `elbo_terms`; the log of the mean of its exponential is a tighter bound
        (Burda et al., "Importance Weighted Autoencoders", 2016). The arguments are those of `sample_posterior`.
        """
        frames = as_float(frames)
        sample = self.sample_posterior(
            frames, static_noise, dynamic_noise, features=features, static_posterior=static_posterior
        )
        static, dynamic = sample.static, sample.dynamic
        log_weight_of_frames = (
            self.likelihood(static, dynamic).log_prob(frames)
            + self.dynamic_prior(static).log_prob(dynamic)
            - sample.dynamic_posterior.log_prob(dynamic)
        )
        log_weight_of_sequence = self.static_prior().log_prob(static) - sample.static_posterior.log_prob(static)
        return tf.reduce_sum(log_weight_of_frames, axis=-1) + log_weight_of_sequence

    def bound_metrics(self, frames: tf.Tensor, terms: ElboTerms) -> dict[str, tf.Tensor]:
        """`BOUND_METRICS`, each the mean over sequences in nats a frame, from `elbo_terms` of these frames."""
        num_frames = tf.cast(tf.shape(frames)[1], tf.float32)
        metrics = {name: tf.reduce_mean(value) / num_frames for name, value in terms._asdict().items()}
        metrics["elbo"] = tf.reduce_mean(terms.elbo()) / num_frames
        perfect = tf.reduce_mean(perfect_log_prob(as_float(frames), self.pixel_stddev))
        metrics["reconstruction_excess"] = perfect - metrics["reconstruction"]
        return metrics
