"""The model of "Disentangled Dynamic Representations from Unordered Data", as a Keras model.

    p(f) = N(0, I)                              DDR.static_prior
    p(z | f) = N(mu(f), diag sigma^2(f))        DDR.dynamic_prior
    p(x | f, z) = Bernoulli(logits(f, z))       DDR.likelihood
    q(f | x_1..N) = N(., .)                     DDR.static_posterior
    q(z_i | x_i, f) = N(., .)                   DDR.dynamic_posterior

    ELBO of N frames of a sequence              DDR.elbo_terms, and elbo.py

Shapes: B sequences, N frames, H W C a frame, F static, Z dynamic. Frames are uint8, or float in [0, 1].
Not in the paper, and marked where they are: what the decoder has before its deconvolutions, bounded scales, the warm-up
of the KL terms, gradient clipping.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from ddr_tf.config import configurable
from ddr_tf.errors import UserError
from ddr_tf.model import densities
from ddr_tf.model.densities import tfd
from ddr_tf.model.elbo import ElboTerms, elbo_terms, pixel_entropy
from ddr_tf.model.networks import (
    AGGREGATIONS,
    DOWNSAMPLING,
    MIN_STDDEV,
    Decoder,
    DynamicPosterior,
    DynamicPrior,
    FrameEncoder,
    StandardPrior,
    StaticPosterior,
    in_chunks,
    merge_frames,
    split_frames,
)

DTYPES = ("float32", "mixed_bfloat16")
# Names of the figures that `train_step` and `test_step` return, in nats a frame.
FIGURES = ("elbo", "reconstruction", "reconstruction_excess", "kl_static", "kl_dynamic")


def as_float(frames: tf.Tensor) -> tf.Tensor:
    """uint8 frames -> float32 in [0, 1]; float frames are returned as float32."""
    return tf.cast(frames, tf.float32) / (255.0 if frames.dtype == tf.uint8 else 1.0)


def relative_transfer(dynamic: tf.Tensor, source: tfd.Distribution, target: tfd.Distribution) -> tf.Tensor:
    """Moves z from where it is under one sequence's p(z | f) to the same place under another's.

    mu_target + sigma_target (z - mu_source) / sigma_source, any float `[..., Z]`.
    """
    return target.mean() + target.stddev() * (dynamic - source.mean()) / source.stddev()


class PosteriorSample(NamedTuple):
    """A sample of the codes of sequences, and the densities that it is from.

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
    """Bounds on log p(x_1..N) of whatever has the densities of the model as methods, as `DDR` has."""

    def sample_posterior(
        self,
        frames: tf.Tensor,
        static_noise: tf.Tensor,
        dynamic_noise: tf.Tensor,
        static_frames: tf.Tensor | None = None,
    ) -> PosteriorSample:
        """Reparameterised f ~ q(f | ..) and z_i ~ q(z_i | x_i, f); the arguments are those of `elbo_terms`."""
        features = self.features(frames)
        static_features = features if static_frames is None else self.features(static_frames)
        static_posterior = self.static_posterior(static_features)
        static = static_posterior.mean() + static_posterior.stddev() * static_noise
        dynamic_posterior = self.dynamic_posterior(features, static)
        dynamic = dynamic_posterior.mean() + dynamic_posterior.stddev() * dynamic_noise
        return PosteriorSample(static, dynamic, static_posterior, dynamic_posterior)

    def elbo_terms(
        self,
        frames: tf.Tensor,
        static_noise: tf.Tensor,
        dynamic_noise: tf.Tensor,
        static_frames: tf.Tensor | None = None,
    ) -> ElboTerms:
        """The bound for one reparameterised sample of f and z.

        Args:
          frames: uint8, or float in [0, 1], `[B, N, H, W, C]`.
          static_noise: float32 `[B, F]`, standard normal.
          dynamic_noise: float32 `[B, N, Z]`, standard normal.
          static_frames: Frames `[B, M, H, W, C]` that q(f | ..) is computed from; None: `frames`.
        """
        sample = self.sample_posterior(frames, static_noise, dynamic_noise, static_frames)
        return elbo_terms(
            as_float(frames),
            self.likelihood(sample.static, sample.dynamic),
            sample.static_posterior,
            self.static_prior(),
            sample.dynamic_posterior,
            self.dynamic_prior(sample.static),
        )

    def log_weights(self, frames: tf.Tensor, static_noise: tf.Tensor, dynamic_noise: tf.Tensor) -> tf.Tensor:
        """The log of p(x_1..N, f, z_1..N) / q(f, z_1..N | x_1..N) for one sample: float32 `[B]`, nats a sequence.

        Its mean over samples is the bound that `elbo_terms` has, and the log of the mean of its exponential a tighter
        one (Burda et al., "Importance Weighted Autoencoders", 2016). Arguments as of `elbo_terms`.
        """
        sample = self.sample_posterior(frames, static_noise, dynamic_noise)
        static, dynamic = sample.static, sample.dynamic
        of_frames = (
            self.likelihood(static, dynamic).log_prob(as_float(frames))
            + self.dynamic_prior(static).log_prob(dynamic)
            - sample.dynamic_posterior.log_prob(dynamic)
        )
        of_sequence = self.static_prior().log_prob(static) - sample.static_posterior.log_prob(static)
        return tf.reduce_sum(of_frames, axis=-1) + of_sequence

    def bound_metrics(self, frames: tf.Tensor, terms: ElboTerms) -> dict[str, tf.Tensor]:
        """`FIGURES`, each the mean over sequences in nats a frame, from `elbo_terms` of these frames."""
        num_frames = tf.cast(tf.shape(frames)[1], tf.float32)
        figures = {name: tf.reduce_mean(value) / num_frames for name, value in terms._asdict().items()}
        figures["elbo"] = tf.reduce_mean(terms.elbo()) / num_frames
        entropy = tf.reduce_mean(pixel_entropy(as_float(frames)))
        figures["reconstruction_excess"] = -figures["reconstruction"] - entropy
        return figures


@configurable(not_in_gin=("frame_shape", "noise_seed", "name", "trainable"))
@keras.saving.register_keras_serializable(package="ddr_tf")
class DDR(Bounds, keras.Model):
    """A VAE with a static code f for a sequence and a dynamic code z_i for each of its frames."""

    def __init__(
        self,
        frame_shape: tuple[int, int, int],
        static_dim: int = 512,
        dynamic_dim: int = 2,
        width: int = 256,
        pair_width: int = 512,
        dense_units: int = 512,
        kl_warmup_steps: int = 2000,
        gradient_clip_norm: float = 1000.0,
        initializer: str = "glorot_uniform",
        initial_static_stddev: float = 0.7,
        static_aggregation: str = "pairs",
        learned_prior: bool = True,
        num_static_frames: int = 0,
        dtype: Any = "float32",
        xla: bool = False,
        noise_seed: int = 0,
        name: str = "ddr",
        trainable: bool = True,
    ) -> None:
        """Builds the networks.

        Args:
          frame_shape: (H, W, C); H and W multiples of 16.
          static_dim: F.
          dynamic_dim: Z.
          width: K, channels of the encoder's and decoder's convolutions.
          pair_width: Channels of the convolution over pairs and of the one that follows it.
          dense_units: Units of every hidden dense layer.
          kl_warmup_steps: Steps over which the weight of both KL terms rises from 0 to 1; without it z carries
            nothing for the first thousand steps. 0: no warm-up.
          gradient_clip_norm: Largest global norm of the gradient of the loss in nats a frame.
          initializer: Keras's name of the initial kernels of all layers with a ReLU.
          initial_static_stddev: Stddev of q(f | x_1..N) before training; at 0.7 the decoder sees little but noise of
            f at first, since the means are near 0.
          static_aggregation: How q(f | x_1..N) joins frames: "pairs", or "pooled", "average" or "product" to compare
            with; see `networks.StaticPosterior`.
          learned_prior: Whether p(z | f) is learned, or N(0, I) to compare with.
          num_static_frames: How many frames of each sequence q(f | ..) is computed from in training, the others being
            decoded; the paper's future work. What is maximised is then a bound on the log-likelihood of the others.
            0: the same frames for both.
          dtype: "float32", or "mixed_bfloat16" for bfloat16 arithmetic with float32 weights and densities.
          xla: Whether XLA compiles the bound and its gradient in training. For GPUs: on CPUs it is slower.
          noise_seed: Seed of the reparameterisation noise of training.
          name: As in Keras.
          trainable: As in Keras.

        Raises:
          UserError: If a size is not possible.
        """
        policy_name = dtype if isinstance(dtype, str) else keras.dtype_policies.get(dtype).name
        if policy_name not in DTYPES:
            raise UserError(f"DDR.dtype must be one of {', '.join(DTYPES)}, got {policy_name!r}.")
        super().__init__(name=name, trainable=trainable, dtype=policy_name)
        frame_shape = tuple(frame_shape)
        if any(side < DOWNSAMPLING or side % DOWNSAMPLING for side in frame_shape[:2]):
            raise UserError(f"Frames must have sides that are multiples of {DOWNSAMPLING}, got {frame_shape}.")
        sizes = dict(
            static_dim=static_dim, dynamic_dim=dynamic_dim, width=width, pair_width=pair_width, dense_units=dense_units
        )
        for name, size in sizes.items():
            if size < 1:
                raise UserError(f"DDR.{name} must be at least 1, got {size}.")
        for name, count in dict(kl_warmup_steps=kl_warmup_steps, num_static_frames=num_static_frames).items():
            if count < 0:
                raise UserError(f"DDR.{name} must be 0 or more, got {count}.")
        if static_aggregation not in AGGREGATIONS:
            raise UserError(
                f"DDR.static_aggregation must be one of {', '.join(AGGREGATIONS)}, got {static_aggregation!r}."
            )
        if not gradient_clip_norm > 0:
            raise UserError(f"DDR.gradient_clip_norm must be above 0, got {gradient_clip_norm}.")
        if not initial_static_stddev > MIN_STDDEV:
            raise UserError(f"DDR.initial_static_stddev must be above {MIN_STDDEV}, got {initial_static_stddev}.")
        try:
            keras.initializers.get(initializer)
        except ValueError as error:
            raise UserError(f"DDR.initializer: Keras knows no initializer {initializer!r}.") from error
        self._sizes = sizes
        self._initial = dict(initializer=initializer, initial_static_stddev=initial_static_stddev)
        self._compared = dict(static_aggregation=static_aggregation, learned_prior=learned_prior)
        self.frame_shape = frame_shape
        self.static_dim = static_dim
        self.dynamic_dim = dynamic_dim
        self.kl_warmup_steps = kl_warmup_steps
        self.num_static_frames = num_static_frames
        self.gradient_clip_norm = gradient_clip_norm
        self.xla = xla
        self.noise_seed = noise_seed
        self.batch_splits = 1  # of each replica's batch, computed side by side in training; changes speed and rounding

        policy = self.dtype_policy
        self.frame_encoder = FrameEncoder(width, initializer, dtype=policy)
        self.static_posterior_net = StaticPosterior(
            static_dim, pair_width, dense_units, initializer, initial_static_stddev, static_aggregation, dtype=policy
        )
        self.dynamic_posterior_net = DynamicPosterior(dynamic_dim, dense_units, initializer, dtype=policy)
        self.dynamic_prior_net = (
            DynamicPrior(dynamic_dim, dense_units, initializer, dtype=policy)
            if learned_prior
            else StandardPrior(dynamic_dim, dtype=policy)
        )
        self.decoder = Decoder(frame_shape, width, dense_units, initializer, dtype=policy)
        self._held_out_means = [keras.metrics.Mean(name=name, dtype="float32") for name in FIGURES]
        self.build((None, None, *frame_shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates all weights; the shapes follow from `frame_shape`, so `__init__` does it."""
        height, width, _ = self.frame_shape
        features = (None, None, height // DOWNSAMPLING, width // DOWNSAMPLING, self._sizes["width"])
        static, dynamic = (None, self.static_dim), (None, None, self.dynamic_dim)
        self.frame_encoder.build(input_shape)
        self.static_posterior_net.build(features)
        self.dynamic_posterior_net.build(features, static)
        self.dynamic_prior_net.build(static)
        self.decoder.build(static, dynamic)

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        return {
            **super().get_config(),
            **self._sizes,
            **self._initial,
            **self._compared,
            "frame_shape": self.frame_shape,
            "kl_warmup_steps": self.kl_warmup_steps,
            "num_static_frames": self.num_static_frames,
            "gradient_clip_norm": self.gradient_clip_norm,
            "xla": self.xla,
            "noise_seed": self.noise_seed,
        }

    # Densities.

    def static_prior(self) -> tfd.Distribution:
        """p(f): batch `[]`, event `[F]`."""
        return densities.static_prior(self.static_dim)

    def dynamic_prior(self, static: tf.Tensor) -> tfd.Distribution:
        """p(z | f) of f `[B, F]`: batch `[B, 1]`, so that it broadcasts over frames, event `[Z]`."""
        mean, stddev = self.dynamic_prior_net(static)
        return densities.diagonal_normal(mean[:, None], stddev[:, None])

    def likelihood(self, static: tf.Tensor, dynamic: tf.Tensor) -> tfd.Distribution:
        """p(x | f, z) of f `[B, F]`, z `[B, N, Z]`: batch `[B, N]`, event `[H, W, C]`."""
        return densities.pixel_likelihood(self.decoder(static, dynamic))

    def features(self, frames: tf.Tensor) -> tf.Tensor:
        """What both posteriors see of frames `[B, N, H, W, C]`: float `[B, N, h, w, K]`."""
        return self.frame_encoder(as_float(frames))

    def static_posterior(self, features: tf.Tensor) -> tfd.Distribution:
        """q(f | x_1..N) of `features` of the frames: batch `[B]`, event `[F]`."""
        return densities.diagonal_normal(*self.static_posterior_net(features))

    def dynamic_posterior(self, features: tf.Tensor, static: tf.Tensor) -> tfd.Distribution:
        """q(z_i | x_i, f) of `features` of the frames and f `[B, F]`: batch `[B, N]`, event `[Z]`."""
        return densities.diagonal_normal(*self.dynamic_posterior_net(features, static))

    # What users do with them, of however many frames, from 1: what lies between input and output never is of all.

    def features_of_many(self, frames: tf.Tensor) -> tf.Tensor:
        """`features`, some frames at a time."""
        height, width, _ = self.frame_shape
        shape = [None, height // DOWNSAMPLING, width // DOWNSAMPLING, self._sizes["width"]]
        rows = in_chunks(
            lambda rows: self.features(rows[:, None])[:, 0],
            [merge_frames(frames)],
            tf.TensorSpec(shape, self.compute_dtype),
        )
        return split_frames(rows, like=frames)

    def mean_frames(self, static: tf.Tensor, dynamic: tf.Tensor) -> tf.Tensor:
        """The mean of `likelihood`, float32 `[B, N, H, W, C]` in [0, 1], some frames at a time."""
        rows = in_chunks(
            lambda static, dynamic: self.likelihood(static, dynamic[:, None]).mean()[:, 0],
            [tf.repeat(static, tf.shape(dynamic)[1], axis=0), merge_frames(dynamic)],
            tf.TensorSpec([None, *self.frame_shape], tf.float32),
        )
        return split_frames(rows, like=dynamic)

    def call(self, frames: tf.Tensor, training: bool | None = None) -> dict[str, tf.Tensor]:
        """Encodes, and reconstructs with the posterior means.

        Args:
          frames: uint8, or float in [0, 1], `[B, N, H, W, C]`, of any N >= 1.
          training: Not used; the networks behave the same.

        Returns:
          What `encode` returns, and `reconstruction`, float32 `[B, N, H, W, C]` in [0, 1].
        """
        del training
        codes = self.encode(frames)
        return codes | {"reconstruction": self.decode(codes["static_mean"], codes["dynamic_mean"])}

    @tf.function(reduce_retracing=True)
    def encode(self, frames: tf.Tensor) -> dict[str, tf.Tensor]:
        """Parameters of the posteriors, those of z and of p(z | f) at the mean of f.

        Args:
          frames: uint8, or float in [0, 1], `[B, N, H, W, C]`, of any N >= 1.

        Returns:
          float32 `static_mean`, `static_stddev` `[B, F]`; `dynamic_mean`, `dynamic_stddev` `[B, N, Z]`;
          `prior_mean`, `prior_stddev` `[B, Z]` of p(z | f).
        """
        features = self.features_of_many(frames)
        static_mean, static_stddev = self.static_posterior_net(features)
        dynamic_mean, dynamic_stddev = self.dynamic_posterior_net(features, static_mean)
        prior_mean, prior_stddev = self.dynamic_prior_net(static_mean)
        return {
            "static_mean": static_mean,
            "static_stddev": static_stddev,
            "dynamic_mean": dynamic_mean,
            "dynamic_stddev": dynamic_stddev,
            "prior_mean": prior_mean,
            "prior_stddev": prior_stddev,
        }

    @tf.function(reduce_retracing=True)
    def decode(self, static: tf.Tensor, dynamic: tf.Tensor) -> tf.Tensor:
        """Mean frame of p(x | f, z) for f `[B, F]`, z `[B, N, Z]`: float32 `[B, N, H, W, C]` in [0, 1]."""
        return self.mean_frames(static, dynamic)

    # Training.

    def kl_weight(self, step: tf.Tensor) -> tf.Tensor:
        """Weight of the KL terms in the loss of this step (counted from 0); ours, see `kl_warmup_steps`."""
        return tf.minimum(1.0, (tf.cast(step, tf.float32) + 1.0) / max(self.kl_warmup_steps, 1))

    def _noise(self, frames: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Standard normal noise for this replica's share of the global batch.

        Drawn for the whole batch and cut, so that replicas see different noise and their number changes nothing.
        """
        replica = tf.distribute.get_replica_context()
        share, num_frames = tf.shape(frames)[0], tf.shape(frames)[1]
        total = share * replica.num_replicas_in_sync
        mine = tf.range(share) + share * replica.replica_id_in_sync_group
        static_seed, dynamic_seed = tf.unstack(tf.random.split(seed, 2))
        static = tf.random.stateless_normal([total, self.static_dim], static_seed)
        dynamic = tf.random.stateless_normal([total, num_frames, self.dynamic_dim], dynamic_seed)
        return tf.gather(static, mine), tf.gather(dynamic, mine)

    def _terms_and_gradients(
        self,
        frames: tf.Tensor,
        noise: tuple[tf.Tensor, tf.Tensor],
        static_frames: tf.Tensor | None,
        kl_weight: tf.Tensor,
    ) -> tuple[ElboTerms, list[tf.Tensor]]:
        """The bound, and the gradients of the loss in nats a frame, of the batch that is given."""
        with tf.GradientTape() as tape:
            terms = self.elbo_terms(frames, *noise, static_frames)
            loss = -tf.reduce_mean(terms.elbo(kl_weight)) / tf.cast(tf.shape(frames)[1], tf.float32)
        return terms, tape.gradient(loss, [variable.value for variable in self.trainable_variables])

    def _of_shares(
        self,
        of_loss: Callable[..., tuple[ElboTerms, list[tf.Tensor]]],
        frames: tf.Tensor,
        noise: tuple[tf.Tensor, tf.Tensor],
        static_frames: tf.Tensor | None,
        kl_weight: tf.Tensor,
    ) -> tuple[ElboTerms, list[tf.Tensor]]:
        """`of_loss` of the batch that is given, from that of each of its `batch_splits` equal shares."""

        def shares(tensor: tf.Tensor) -> list[tf.Tensor]:
            return tf.split(tensor, self.batch_splits)

        static_shares = [None] * self.batch_splits if static_frames is None else shares(static_frames)
        inputs = zip(shares(frames), zip(*map(shares, noise), strict=True), static_shares, strict=True)
        terms, gradients = zip(*(of_loss(*each, kl_weight) for each in inputs), strict=True)
        joined = ElboTerms(*(tf.concat(term, axis=0) for term in zip(*terms, strict=True)))
        return joined, [tf.add_n(each) / self.batch_splits for each in zip(*gradients, strict=True)]

    def train_step(self, frames: tf.Tensor) -> dict[str, tf.Tensor]:
        """One update on this replica's share of the batch.

        Returns:
          `FIGURES` in nats a frame, `gradient_norm` before clipping, `kl_weight` and `learning_rate`: scalars whose
          mean over replicas is the figure of the whole batch.
        """
        step = tf.convert_to_tensor(self.optimizer.iterations)
        kl_weight = self.kl_weight(step)
        learning_rate = tf.convert_to_tensor(self.optimizer.learning_rate)
        static_frames = None
        if self.num_static_frames:  # frames come in random order, so the first ones are as good as any
            static_frames, frames = frames[:, : self.num_static_frames], frames[:, self.num_static_frames :]
        noise = self._noise(frames, tf.random.fold_in([self.noise_seed & 0x7FFFFFFF, 0], step))
        of_loss = tf.function(self._terms_and_gradients, jit_compile=True) if self.xla else self._terms_and_gradients
        terms, gradients = self._of_shares(of_loss, frames, noise, static_frames, kl_weight)
        norm = self.update(gradients)
        return self.bound_metrics(frames, terms) | {
            "gradient_norm": norm,
            "kl_weight": kl_weight,
            "learning_rate": learning_rate,
        }

    def update(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        """Updates all weights.

        Args:
          gradients: Of each weight, by the loss of this replica's share.

        Returns:
          The global norm, before clipping, of their mean over replicas.
        """
        replica = tf.distribute.get_replica_context()
        gradients = replica.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        norm = tf.linalg.global_norm(gradients)
        # Clipped, and divided since the optimizer sums over replicas once more.
        scale = tf.minimum(1.0, self.gradient_clip_norm / norm) / replica.num_replicas_in_sync
        self.optimizer.apply([scale * gradient for gradient in gradients], self.trainable_variables)
        return norm

    def test_step(self, frames: tf.Tensor) -> dict[str, tf.Tensor]:
        """`FIGURES` of the batches since `evaluate` began; the same noise for every batch and every evaluation."""
        terms = self.elbo_terms(frames, *self._noise(frames, tf.constant([self.noise_seed & 0x7FFFFFFF, 1])))
        figures = self.bound_metrics(frames, terms)
        for mean in self._held_out_means:
            mean.update_state(figures[mean.name])
        return {mean.name: mean.result() for mean in self._held_out_means}

    def make_train_function(self, force: bool = False) -> None:
        """A call of Keras's train function runs `steps_per_execution` steps and returns their mean figures.

        Keras's own cannot run several steps under MirroredStrategy. This one also stops at a step whose figures are
        not finite, which `optimizer.iterations` then names.
        """
        if self.train_function is not None and not force:
            return
        steps = self.steps_per_execution
        one_step = functools.partial(self._mean_over_replicas, self.train_step)

        @tf.function
        def train_function(iterator: Any) -> dict[str, tf.Tensor]:
            def more(done: tf.Tensor, total: dict[str, tf.Tensor]) -> tf.Tensor:
                finite = tf.reduce_all(tf.math.is_finite(tf.stack(list(total.values()))))
                return finite & (done < steps)

            def add_step(done: tf.Tensor, total: dict[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
                figures = one_step(iterator)
                return done + 1, {name: value + figures[name] for name, value in total.items()}

            done, total = tf.while_loop(more, add_step, (1, one_step(iterator)))
            return {name: value / tf.cast(done, tf.float32) for name, value in total.items()}

        self.train_function = train_function

    def make_test_function(self, force: bool = False) -> None:
        """As Keras's own, of `steps_per_execution` steps, which fails where replicas are in several processes."""
        if self.test_function is not None and not force:
            return
        steps = self.steps_per_execution
        one_step = functools.partial(self._mean_over_replicas, self.test_step)

        @tf.function
        def test_function(iterator: Any) -> dict[str, tf.Tensor]:
            _, figures = tf.while_loop(
                lambda done, _: done < steps,
                lambda done, _: (done + 1, one_step(iterator)),  # the figures are of all batches so far
                (1, one_step(iterator)),
            )
            return figures

        self.test_function = test_function

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Keras's own, but without a look at the data, of which it would average a batch over processes.

        That fails for uint8, and is not needed: everything but the optimizer is built from the start.
        """
        super()._maybe_symbolic_build()

    def _mean_over_replicas(self, step: Callable[..., dict[str, tf.Tensor]], iterator: Any) -> dict[str, tf.Tensor]:
        """The figures of a step on the next batch."""
        strategy = self.distribute_strategy
        per_replica = strategy.run(step, args=(next(iterator),))
        return {name: strategy.reduce("MEAN", value, axis=None) for name, value in per_replica.items()}
