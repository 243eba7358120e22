"""What evaluation and pictures ask of a model. `DDR` and `serving.exported_model.ExportedModel` have all of it."""

from typing import Protocol

import tensorflow as tf

from ddr_tf.model import FITTED
from ddr_tf.model.bounds import PosteriorSample
from ddr_tf.model.densities import tfd
from ddr_tf.model.dynamic_density import DynamicDensity
from ddr_tf.model.elbo import ElboTerms
from ddr_tf.model.static_density import StaticDensity


class Autoencoder(Protocol):
    """Something that encodes frames of a sequence as f and z, and decodes them."""

    def encode(self, frames: tf.Tensor) -> dict[str, tf.Tensor]:
        """Codes of frames uint8, or float in [0, 1], `[B, N, H, W, C]`.

        Returns:
          At least `static_mean`, float32 `[B, F]`, and `dynamic_mean`, float32 `[B, N, Z]`.
        """

    def decode(self, static: tf.Tensor, dynamic: tf.Tensor) -> tf.Tensor:
        """Frames of f `[B, F]` and z `[B, N, Z]`: float32 `[B, N, H, W, C]` in [0, 1]."""


class DensityModel(Autoencoder, Protocol):
    """Something with the densities of the model; the methods are those of `model.ddr.DDR`.

    `encode` also returns `prior_mean` and `prior_stddev`, float32 `[B, Z]`, of p(z | f).
    """

    frame_shape: tuple[int, int, int]
    static_dim: int
    dynamic_dim: int
    pixel_stddev: tf.Tensor | float | None
    static_density: StaticDensity | None
    dynamic_density: DynamicDensity | None

    def sample_codes(
        self, count: int, num_frames: int, seed: tf.Tensor, density: str = FITTED
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Samples of f and z."""

    def static_posterior(self, features: tf.Tensor) -> tfd.Distribution:
        """q(f | x_1..N)."""

    def features(self, frames: tf.Tensor) -> tf.Tensor:
        """What both posteriors see of the frames."""

    def dynamic_posterior(self, features: tf.Tensor, static: tf.Tensor) -> tfd.Distribution:
        """q(z_i | x_i, f)."""

    def sample_posterior(self, frames: tf.Tensor, static_noise: tf.Tensor, dynamic_noise: tf.Tensor) -> PosteriorSample:
        """A sample of the codes of frames, and the densities that it was drawn from."""

    def terms_of(self, frames: tf.Tensor, sample: PosteriorSample) -> ElboTerms:
        """The bound for one sample of f and z."""

    def log_weights(
        self,
        frames: tf.Tensor,
        static_noise: tf.Tensor,
        dynamic_noise: tf.Tensor,
        features: tf.Tensor | None = None,
        static_posterior: tfd.Distribution | None = None,
    ) -> tf.Tensor:
        """The log of p(x_1..N, f, z_1..N) / q(f, z_1..N | x_1..N) for one sample."""

    def bound_metrics(self, frames: tf.Tensor, terms: ElboTerms) -> dict[str, tf.Tensor]:
        """The bound and its parts, means in nats a frame."""
