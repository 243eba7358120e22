"""The model of "Disentangled Dynamic Representations from Unordered Data", as a Keras model.

    p(f) = N(0, I)                              DDR.static_prior
    p(z | f) = N(mu(f), diag sigma^2(f))        DDR.dynamic_prior
    p(x | f, z) = Bernoulli(logits(f, z))       DDR.likelihood, or N(sigmoid(logits(f, z)), sigma^2), sigma learned
    q(f | x_1..N) = N(., .)                     DDR.static_posterior
    q(z_i | x_i, f) = N(., .)                   DDR.dynamic_posterior

    ELBO of N frames of a sequence              Bounds.elbo_terms, and elbo.py

Shapes: B sequences, N frames, H W C a frame, F static, Z dynamic. Frames are uint8, or float in [0, 1].
Not in the paper, and marked where they are: the layers before the decoder's deconvolutions, bounded scales, the warm-up
of the KL terms, gradient clipping, and the options of a normal likelihood, of shortcuts and of views.
"""

import dataclasses
import functools
import inspect
import math
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ddr_tf.config import configurable
from ddr_tf.errors import UserError
from ddr_tf.model import densities
from ddr_tf.model.architecture import Architecture, TrainingOptions
from ddr_tf.model.bounds import BOUND_METRICS, Bounds, as_float
from ddr_tf.model.densities import tfd
from ddr_tf.model.elbo import ElboTerms
from ddr_tf.model.networks import (
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
STEP_METRICS = (*BOUND_METRICS, "gradient_norm", "kl_weight", "learning_rate")  # what `DDR.train_step` returns
INITIAL_PIXEL_STDDEV = 0.1  # of a normal p(x | f, z); about what is left after some hundred steps on faces


def relative_transfer(dynamic: tf.Tensor, source: tfd.Distribution, target: tfd.Distribution) -> tf.Tensor:
    """Moves z from where it is under one sequence's p(z | f) to the same place under another's.

    mu_target + sigma_target (z - mu_source) / sigma_source, any float `[..., Z]`.
    """
    return target.mean() + target.stddev() * (dynamic - source.mean()) / source.stddev()


@configurable(not_in_gin=("frame_shape", "noise_seed", "min_static_frames", "name", "trainable"))
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
        pixel_likelihood: str = "bernoulli",
        shortcuts: bool = False,
        num_static_frames: int = 0,
        narrowing: int = 1,
        kl_static_weight: float = 1.0,
        min_static_frames: int = 0,
        leaky: bool = False,
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
          initial_static_stddev: Stddev of q(f | x_1..N) before training (of the factor of each frame, if
            `static_aggregation` is "product"); at 0.7 the decoder sees little but noise of
            f at first, since the means are near 0.
          static_aggregation: How q(f | x_1..N) joins frames: "pairs", or "pooled", "average" or "product" to compare
            with; see `networks.StaticPosterior`.
          learned_prior: Whether p(z | f) is learned, or N(0, I) to compare with.
          pixel_likelihood: "bernoulli", the paper's, for frames near black and white; "normal", of one learned stddev,
            for photographs. Bounds under one are not comparable with those under the other.
          shortcuts: Whether dense layers go past the deep ones, from pixels to f and from codes to pixels; see
            `networks.StaticPosterior` and `networks.Decoder`. For aligned photographs of few sequences.
          num_static_frames: How many frames of each sequence q(f | ..) is computed from in training, the others being
            decoded; the paper's future work. They are drawn at random, but of a `tf.data.Dataset` they are the first.
            What is maximised is then a bound on the log-likelihood of the others. 0: the same frames for both.
          min_static_frames: If above 0, each step of training computes q(f | ..) from a random number of those frames,
            from this one to all of them, so that f is right from few frames, too. What is maximised is still a bound.
          narrowing: How many times fewer channels a feature map has than the next coarser one, whose channels are
            `width` at the coarsest; 1: all have `width`, as in the paper. See `networks.channels_of_maps`.
          kl_static_weight: Weight of KL(q(f | ..) || p(f)) in the loss after the warm-up; 1 for the bound itself. Below
            1 more of f is used, so that small differences between identities are learnt sooner. All metrics are those
            of the bound, at weight 1.
          leaky: Whether hidden layers that z goes through are leaky, so that none of their units is off for good. For
            clips; see `networks.hidden_activation`.
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
        self.supports_jit = False  # XLA compiles the bound alone, if `xla` says so
        self.architecture = Architecture(
            tuple(np.atleast_1d(frame_shape).tolist()),
            static_dim,
            dynamic_dim,
            width,
            pair_width,
            dense_units,
            initializer,
            initial_static_stddev,
            static_aggregation,
            learned_prior,
            narrowing,
            pixel_likelihood,
            shortcuts,
            leaky,
        )
        self.options = TrainingOptions(
            kl_warmup_steps,
            gradient_clip_norm,
            num_static_frames,
            xla,
            noise_seed,
            kl_static_weight,
            min_static_frames,
        )
        sizes = self.architecture
        self.frame_shape, self.static_dim, self.dynamic_dim = sizes.frame_shape, sizes.static_dim, sizes.dynamic_dim
        self._make_networks(self.architecture)
        self._shuffle_frames = False  # whether `train_step` does; see `fit`
        self._held_out_means = [keras.metrics.Mean(name=name, dtype="float32") for name in BOUND_METRICS]
        self.build((None, None, *self.frame_shape))

    def _make_networks(self, sizes: Architecture) -> None:
        policy, units, initializer = self.dtype_policy, sizes.dense_units, sizes.initializer
        self.frame_encoder = FrameEncoder(sizes.width, initializer, sizes.narrowing, sizes.shortcuts, dtype=policy)
        self.static_posterior_net = StaticPosterior(
            sizes.static_dim,
            sizes.pair_width,
            units,
            initializer,
            sizes.initial_static_stddev,
            sizes.static_aggregation,
            sizes.pixel_channels,
            dtype=policy,
        )
        self.dynamic_posterior_net = DynamicPosterior(
            sizes.dynamic_dim, units, initializer, sizes.pixel_channels, sizes.leaky, dtype=policy
        )
        self.dynamic_prior_net = (
            DynamicPrior(sizes.dynamic_dim, units, initializer, dtype=policy)
            if sizes.learned_prior
            else StandardPrior(sizes.dynamic_dim, dtype=policy)
        )
        self.decoder = Decoder(
            sizes.frame_shape,
            sizes.width,
            units,
            initializer,
            sizes.narrowing,
            sizes.shortcuts,
            sizes.leaky,
            dtype=policy,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates all weights; the shapes follow from `frame_shape`, so `__init__` does it."""
        static, dynamic = (None, self.static_dim), (None, None, self.dynamic_dim)
        features = (None, None, *self.architecture.feature_shape)
        self.frame_encoder.build(input_shape)
        self.static_posterior_net.build(features)
        self.dynamic_posterior_net.build(features, static)
        self.dynamic_prior_net.build(static)
        self.decoder.build(static, dynamic)
        if self.architecture.pixel_likelihood == "normal":
            self.log_pixel_stddev = self.add_weight(
                name="log_pixel_stddev",
                shape=(),
                initializer=keras.initializers.Constant(math.log(INITIAL_PIXEL_STDDEV)),
                dtype="float32",
            )

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        return {
            **super().get_config(),
            **dataclasses.asdict(self.architecture),
            **dataclasses.asdict(self.options),
        }

    def in_float32(self) -> "DDR":
        """The model itself, or a copy with arithmetic in float32 if its own is in bfloat16."""
        if self.compute_dtype == "float32":
            return self
        copy = DDR(**self.get_config() | {"dtype": "float32"})
        copy.set_weights(self.get_weights())
        copy.static_density, copy.dynamic_density = self.static_density, self.dynamic_density
        return copy

    # Densities.

    def static_prior(self) -> tfd.Distribution:
        """p(f): batch `[]`, event `[F]`."""
        return densities.static_prior(self.static_dim)

    def dynamic_prior(self, static: tf.Tensor) -> tfd.Distribution:
        """p(z | f) of f `[B, F]`: batch `[B, 1]`, so that it broadcasts over frames, event `[Z]`."""
        mean, stddev = self.dynamic_prior_net(static)
        return densities.diagonal_normal(mean[:, None], stddev[:, None])

    @property
    def pixel_stddev(self) -> tf.Tensor | None:
        """Of a normal p(x | f, z): float32 `[]`; None: it is a Bernoulli."""
        if self.architecture.pixel_likelihood == "bernoulli":
            return None
        return tf.exp(tf.convert_to_tensor(self.log_pixel_stddev))

    def likelihood(self, static: tf.Tensor, dynamic: tf.Tensor) -> tfd.Distribution:
        """p(x | f, z) of f `[B, F]`, z `[B, N, Z]`: batch `[B, N]`, event `[H, W, C]`."""
        return densities.pixel_likelihood(self.decoder(static, dynamic), self.pixel_stddev)

    def features(self, frames: tf.Tensor) -> tf.Tensor:
        """What both posteriors see of frames `[B, N, H, W, C]`: float `[B, N, h, w, K + P]`."""
        return self.frame_encoder(as_float(frames))

    def static_posterior(self, features: tf.Tensor) -> tfd.Distribution:
        """q(f | x_1..N) of `features` of the frames: batch `[B]`, event `[F]`."""
        return densities.diagonal_normal(*self.static_posterior_net(features))

    def dynamic_posterior(self, features: tf.Tensor, static: tf.Tensor) -> tfd.Distribution:
        """q(z_i | x_i, f) of `features` of the frames and f `[B, F]`: batch `[B, N]`, event `[Z]`."""
        return densities.diagonal_normal(*self.dynamic_posterior_net(features, static))

    # For users: any number of frames from 1 on. Intermediate results are never held for all frames at once.

    def features_of_many(self, frames: tf.Tensor) -> tf.Tensor:
        """`features`, some frames at a time."""
        rows = in_chunks(
            lambda rows: self.features(rows[:, None])[:, 0],
            [merge_frames(frames)],
            tf.TensorSpec([None, *self.architecture.feature_shape], self.compute_dtype),
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

    def encode(self, frames: tf.Tensor) -> dict[str, tf.Tensor]:
        """Parameters of the posteriors, those of z and of p(z | f) at the mean of f.

        Args:
          frames: uint8, or float in [0, 1], `[B, N, H, W, C]`, of any N >= 1.

        Returns:
          float32 `static_mean`, `static_stddev` `[B, F]`; `dynamic_mean`, `dynamic_stddev` `[B, N, Z]`;
          `prior_mean`, `prior_stddev` `[B, Z]` of p(z | f).

        Raises:
          UserError: If frames are neither uint8 nor floats in [0, 1], or of another shape.
        """
        if isinstance(frames, (list, tuple)) and frames and not isinstance(frames[0], tf.Tensor):
            frames = np.asarray(frames)  # which keeps uint8
        _check_not_masked(frames)
        frames = tf.convert_to_tensor(frames)
        if tf.executing_eagerly():
            self._check_frames(frames)
        # Traced once for any B and N, and not for those of the first call as well.
        self._encode.get_concrete_function(tf.TensorSpec([None, None, *self.frame_shape], frames.dtype))
        return self._encode(frames)

    @tf.function(autograph=False)
    def _encode(self, frames: tf.Tensor) -> dict[str, tf.Tensor]:
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

    def decode(self, static: tf.Tensor, dynamic: tf.Tensor) -> tf.Tensor:
        """Mean frame of p(x | f, z) for f `[B, F]`, z `[B, N, Z]`: float32 `[B, N, H, W, C]` in [0, 1].

        Raises:
          UserError: If f or z is of another shape.
        """
        static, dynamic = (tf.cast(tf.convert_to_tensor(code), tf.float32) for code in (static, dynamic))
        shapes = static.shape, dynamic.shape
        ranks = static.shape.rank == 2 and dynamic.shape.rank == 3
        if tf.executing_eagerly() and not (
            ranks and shapes == ((len(dynamic), self.static_dim), (len(static), dynamic.shape[1], self.dynamic_dim))
        ):
            raise UserError(
                f"decode takes f [B, F = {self.static_dim}] and z [B, N, Z = {self.dynamic_dim}], of the same B; got "
                f"{list(shapes[0])} and {list(shapes[1])}."
            )
        return self._decode(static, dynamic)

    def save(self, filepath: Any, *args, **kwargs) -> None:
        """As in `keras.Model`.

        Raises:
          UserError: For HDF5, which Keras would write but could not read again.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise UserError(f"{filepath}: Keras could not read the model from HDF5 again; save it as a .keras file.")
        super().save(filepath, *args, **kwargs)

    @functools.cached_property
    def _decode(self) -> tf.types.experimental.PolymorphicFunction:
        static, dynamic = tf.TensorSpec([None, self.static_dim]), tf.TensorSpec([None, None, self.dynamic_dim])
        return tf.function(self.mean_frames, input_signature=(static, dynamic), autograph=False)

    # Training. Keras calls `train_step` in `fit` and `test_step` in `evaluate`; `training.steps` calls them, too.

    def fit(self, x: Any = None, *args, **kwargs) -> keras.callbacks.History:
        """As in `keras.Model`, without its warning that a `tf.data.Dataset` cannot be shuffled.

        Densities that were fitted to the codes of before are dropped, so samples are drawn from p(f) and p(z | f).

        Raises:
          UserError: If frames to train on or to validate with, of a `tf.data.Dataset`, a `keras.utils.PyDataset` or a
            generator those of the first batch, are not uint8 or floats in [0, 1], or of another shape; if there are
            weights of samples or classes, or `compile` was given a loss, metrics or an optimizer that scales losses; if
            batches never end, and no number of steps is given; or if the bound is NaN at the end of an epoch.
        """
        compiled = self._compile_config.config if self.compiled else {}
        for name in ("loss", "metrics", "weighted_metrics"):
            if compiled.get(name):
                raise UserError(
                    f"compile takes no {name}: what is maximised is the ELBO, and it and its terms are logged; "
                    "model.compile(optimizer) is all."
                )
        given = inspect.signature(super().fit).bind(x, *args, **kwargs).arguments
        for name in ("sample_weight", "class_weight"):
            if given.get(name) is not None:
                raise UserError(
                    f"fit takes no {name}: all sequences count alike. Leave some out, or draw some oftener."
                )
        if isinstance(getattr(self, "optimizer", None), keras.optimizers.LossScaleOptimizer):
            raise UserError("The loss is not scaled, so compile takes no LossScaleOptimizer; give its inner optimizer.")
        for name, steps in (("x", "steps_per_epoch"), ("validation_data", "validation_steps")):
            _check_end("fit", given.get(name), steps, given)
            given[name], num_frames = self._checked(given.get(name), "fit")
            if num_frames and name == "x":
                self.options.check_num_frames(num_frames)
        if isinstance(x, tf.data.Dataset | types.GeneratorType):
            given.setdefault("shuffle", False)
        # Of an array the same frames would be the first ones each time; `SequenceDataset.batches` shuffles, and knows
        # which of them are neighbours.
        needs_order = self.options.num_static_frames or self.options.min_static_frames
        shuffle_frames = bool(needs_order) and not isinstance(x, tf.data.Dataset)
        if shuffle_frames != self._shuffle_frames:
            self._shuffle_frames, self.train_function = shuffle_frames, None
        given["callbacks"] = [*keras.tree.flatten(given.get("callbacks") or []), _StopAtNaN()]
        self.static_density = self.dynamic_density = None
        return super().fit(**given)

    def evaluate(self, x: Any = None, *args, **kwargs) -> Any:
        """As in `keras.Model`: the bound and its terms, in nats a frame.

        Raises:
          UserError: As `fit`, but for NaN.
        """
        given = inspect.signature(super().evaluate).bind(x, *args, **kwargs).arguments
        if not given.get("kwargs"):  # `fit` has checked what it validates with
            if given.get("sample_weight") is not None:
                raise UserError("evaluate takes no sample_weight: all sequences count alike.")
            _check_end("evaluate", x, "steps", given)
            x, _ = self._checked(x, "evaluate")
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x: Any, *args, **kwargs) -> Any:
        """As in `keras.Model`: what `call` gives, of all batches.

        Raises:
          UserError: As `fit`, but for NaN.
        """
        _check_end("predict", x, "steps", inspect.signature(super().predict).bind(x, *args, **kwargs).arguments)
        x, _ = self._checked(x, "predict")
        return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x: Any, *args, **kwargs) -> Any:
        """As in `keras.Model`. Raises UserError as `fit`, but for NaN."""
        self._check_first(x, "train_on_batch", is_batch=True)
        return super().train_on_batch(x, *args, **kwargs)

    def test_on_batch(self, x: Any, *args, **kwargs) -> Any:
        """As in `keras.Model`. Raises UserError as `fit`, but for NaN."""
        self._check_first(x, "test_on_batch", is_batch=True)
        return super().test_on_batch(x, *args, **kwargs)

    def _checked(self, data: Any, method: str) -> tuple[Any, int | None]:
        """The data, and what `_check_first` returns; of a generator the first batch is seen and put back."""
        if not isinstance(data, types.GeneratorType):
            return data, self._check_first(data, method)
        first = next(data, None)
        if first is None:
            raise UserError(f"{method} was given a generator that is at its end; make a new one.")

        def again() -> Iterator[Any]:
            yield first
            yield from data

        return again(), self._check_first(first, method, is_batch=True)

    def _check_first(self, data: Any, method: str, is_batch: bool = False) -> int | None:
        """Raises UserError for what `fit`, or another method, cannot use, as far as the first batch shows it.

        Args:
          data: What the method was given.
          method: Its name.
          is_batch: Whether it is one batch, and not all sequences.

        Returns:
          N of the first batch, if there is one that can be seen.
        """
        if callable(getattr(data, "batches", None)):  # a `SequenceDataset`, or the class of one
            raise UserError(
                f"{method} takes batches of a dataset: "
                "fit(sequences.batches('train', batch_size=16, num_frames=8, seed=0), steps_per_epoch=100)."
            )
        if isinstance(data, tf.data.Dataset):
            for batch in data.take(1):
                return self._check_first(_without_targets(batch), method, is_batch=True)
        elif isinstance(data, keras.utils.PyDataset):
            return self._check_first(_without_targets(data[0]), method, is_batch=True)
        elif isinstance(data, tuple):  # with targets, which are not used
            return self._check_first(data[0], method, is_batch)
        elif isinstance(data, list):
            raise UserError(
                f"{method} takes an array [S, N, H, W, C] of all sequences, not a list; np.stack makes it one."
            )
        elif isinstance(data, (np.ndarray, tf.Tensor)) or is_batch:
            self._check_frames(data, views=is_batch and method in ("fit", "train_on_batch"))
            return data.shape[-4]
        return None

    def _check_frames(self, frames: tf.Tensor | np.ndarray, views: bool = False) -> None:
        """Raises UserError unless frames are uint8, or floats in [0, 1], `[B, N, H, W, C]`.

        Args:
          frames: Whatever they are.
          views: Whether they may be `[B, 2, N, H, W, C]`, too.
        """
        _check_not_masked(frames)
        if isinstance(frames, dict):
            advice = f"; dataset.map(lambda batch: batch[{min(frames, default='')!r}]) takes one out"
            raise UserError(f"Frames must be an array, got a dict of {', '.join(frames) or 'nothing'}{advice}.")
        dtype, shape = tf.as_dtype(frames.dtype), tuple(frames.shape)
        if len(shape) not in ((5, 6) if views else (5,)) or shape[-3:] != self.frame_shape or 0 in shape:
            sizes = ", ".join(map(str, self.frame_shape))
            advice = "; frames[None] makes one sequence a batch" if shape[1:] == self.frame_shape else ""
            raise UserError(f"Frames must have the shape [B, N, {sizes}], B and N from 1; got {list(shape)}{advice}.")
        if dtype == tf.uint8:
            return
        if not dtype.is_floating:
            raise UserError(
                f"Frames must be uint8, or floats in [0, 1], got {dtype.name}; convert them to one of these."
            )
        frames = tf.convert_to_tensor(frames)
        if tf.reduce_any(tf.math.is_nan(frames)):
            raise UserError("Float frames must be in [0, 1], got NaN.")
        least, most = (float(end(frames)) for end in (tf.reduce_min, tf.reduce_max))
        if least < 0 or most > 1:
            raise UserError(f"Float frames must be in [0, 1], got values from {least:g} to {most:g}.")

    def kl_weight(self, step: tf.Tensor) -> tf.Tensor:
        """Weight of the KL terms in the loss of this step (counted from 0); ours, see `kl_warmup_steps`."""
        return tf.minimum(1.0, (tf.cast(step, tf.float32) + 1.0) / max(self.options.kl_warmup_steps, 1))

    def noise(self, frames: tf.Tensor, seed: tf.Tensor, part: "_Part | None" = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Standard normal noise for this replica's part of the batch, `[B, F]` and `[B, N, Z]`.

        It is drawn for the whole batch and cut, so that replicas see different noise and their number changes nothing.
        """
        part, num_frames = part or _part_of_replica(frames), tf.shape(frames)[1]
        rows = part.first + tf.range(part.size)
        static_seed, dynamic_seed = tf.unstack(tf.random.split(seed, 2))
        static = tf.random.stateless_normal([part.total, self.static_dim], static_seed)
        dynamic = tf.random.stateless_normal([part.total, num_frames, self.dynamic_dim], dynamic_seed)
        return tf.gather(static, rows), tf.gather(dynamic, rows)

    def static_count(self, frames: tf.Tensor, step: tf.Tensor) -> tf.Tensor | None:
        """How many of the frames of each sequence q(f | ..) is computed from in this step: int32 `[]`; None: all."""
        least, most = self.options.min_static_frames, self.options.num_static_frames or tf.shape(frames)[1]
        if not least:
            return None
        seed = tf.random.fold_in([self.options.noise_seed & 0x7FFFFFFF, 2], step)
        return tf.random.stateless_uniform([], seed, least, most + 1, tf.int32)

    def terms_and_gradients(
        self,
        frames: tf.Tensor,
        static_noise: tf.Tensor,
        dynamic_noise: tf.Tensor,
        static_frames: tf.Tensor | None,
        dynamic_frames: tf.Tensor | None,
        kl_weight: tf.Tensor,
        static_count: tf.Tensor | None,
    ) -> tuple[ElboTerms, list[tf.Tensor]]:
        """The bound, as `elbo_terms` has it, and the gradients of the loss in nats a frame by all weights."""
        with tf.GradientTape() as tape:
            terms = self.elbo_terms(frames, static_noise, dynamic_noise, static_frames, dynamic_frames, static_count)
            bound = terms.elbo(kl_weight, self.options.kl_static_weight)
            loss = -tf.reduce_mean(bound) / tf.cast(tf.shape(frames)[1], tf.float32)
        return terms, tape.gradient(loss, [variable.value for variable in self.trainable_variables])

    def train_step(self, frames: tf.Tensor, batch_splits: int = 1) -> dict[str, tf.Tensor]:
        """One update.

        Args:
          frames: This replica's part of the batch, `[B, N, H, W, C]`, uint8, or float in [0, 1]. Or `[B, 2, N, ..]`,
            two views of them: the first is decoded, and says what f is; the second says what z is, see `elbo_terms`.
          batch_splits: Into how many equal parts to split it; they are computed side by side. It changes the speed, and
            the result by rounding; with two views also which f is given to q(z | ..), as it is from the same part.

        Returns:
          `STEP_METRICS`, scalars of the whole batch, the same on all replicas: `BOUND_METRICS` in nats a frame,
          `gradient_norm` before clipping, `kl_weight` and `learning_rate`.
        """
        frames, dynamic_frames = _views(as_float(_without_targets(frames)))
        step = tf.convert_to_tensor(self.optimizer.iterations)
        kl_weight, learning_rate = self.kl_weight(step), tf.convert_to_tensor(self.optimizer.learning_rate)
        static_frames, static_count = None, self.static_count(frames, step)
        if self._shuffle_frames:
            order = tf.random.experimental.stateless_shuffle(
                tf.range(tf.shape(frames)[1]), tf.random.fold_in([self.options.noise_seed & 0x7FFFFFFF, 3], step)
            )
            frames = tf.gather(frames, order, axis=1)
            dynamic_frames = None if dynamic_frames is None else tf.gather(dynamic_frames, order, axis=1)
        if count := self.options.num_static_frames:  # frames come in random order, so the first ones will do
            static_frames, frames = frames[:, :count], frames[:, count:]
            dynamic_frames = None if dynamic_frames is None else dynamic_frames[:, count:]
        part = _part_of_replica(frames)
        noise = self.noise(frames, tf.random.fold_in([self.options.noise_seed & 0x7FFFFFFF, 0], step), part)
        # As a function of its own, so that the networks are traced once for all splits.
        function = tf.function(self.terms_and_gradients, autograph=False, jit_compile=self.options.xla or None)
        inputs = [_never_empty(rows) for rows in (frames, *noise, static_frames, dynamic_frames)]
        terms, gradients = _split_and_join(function, batch_splits, inputs, [kl_weight, static_count])
        norm = self.update(gradients, part.share)
        schedule = {"gradient_norm": norm, "kl_weight": kl_weight, "learning_rate": learning_rate}
        return _means_over_replicas(self.bound_metrics(inputs[0], terms), part.share) | schedule

    def update(self, gradients: list[tf.Tensor], share: tf.Tensor | float) -> tf.Tensor:
        """Updates all weights.

        Args:
          gradients: Of each weight, by the loss of this replica's part of the batch.
          share: Which share of the batch that is.

        Returns:
          The global norm, before clipping, of those of the whole batch.
        """
        replica = tf.distribute.get_replica_context()
        gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, [share * gradient for gradient in gradients])
        norm = tf.linalg.global_norm(gradients)
        # Clipped, and divided because the optimizer sums over replicas once more.
        scale = tf.minimum(1.0, self.options.gradient_clip_norm / norm) / replica.num_replicas_in_sync
        self.optimizer.apply([scale * gradient for gradient in gradients], self.trainable_variables)
        return norm

    def test_step(self, frames: tf.Tensor) -> dict[str, tf.Tensor]:
        """`BOUND_METRICS`, means over the sequences since the last `reset_metrics`; the same noise for every batch."""
        frames = as_float(_without_targets(frames))
        part = _part_of_replica(frames)
        noise = self.noise(frames, tf.constant([self.options.noise_seed & 0x7FFFFFFF, 1]), part)
        inputs = [_never_empty(rows) for rows in (frames, *noise)]
        metrics = _means_over_replicas(self.bound_metrics(inputs[0], self.elbo_terms(*inputs)), part.share)
        for mean in self._held_out_means:
            mean.update_state(metrics[mean.name], sample_weight=tf.cast(part.total, tf.float32))
        return {mean.name: mean.result() for mean in self._held_out_means}

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Does what Keras's own does, but without a look at the data, of which it would average a batch over replicas.

        That fails for uint8, and is not needed: everything but the optimizer is built from the start.
        """
        super()._maybe_symbolic_build()


def _check_end(method: str, data: Any, steps: str, given: dict[str, Any]) -> None:
    """Raises UserError if a dataset never ends, and no number of steps is given."""
    endless = isinstance(data, tf.data.Dataset) and data.cardinality() == tf.data.INFINITE_CARDINALITY
    if endless and given.get(steps) is None:
        raise UserError(f"The batches never end, so {method} needs to know how many to take: {steps}=100, for example.")


class _StopAtNaN(keras.callbacks.Callback):
    """Ends `fit` with an error after an epoch in which the bound became NaN."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Raises UserError."""
        nan = [name for name, value in (logs or {}).items() if np.isnan(value)]
        if nan:
            raise UserError(
                f"{nan[0]} is NaN after epoch {epoch + 1}: frames are not all in [0, 1], or the learning rate is too "
                "high."
            )


def _check_not_masked(frames: Any) -> None:
    if np.ma.is_masked(frames):
        raise UserError("Frames are an array of which a part is masked; say what is there with .filled(value).")


def _without_targets(data: Any) -> tf.Tensor:
    """The frames of a batch, which Keras gives as a tuple if they were an array."""
    return keras.utils.unpack_x_y_sample_weight(data)[0]


def _views(frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
    """What is decoded, and what q(z | ..) sees in its place; None: the same."""
    return (frames[:, 0], frames[:, 1]) if frames.shape.rank == 6 else (frames, None)


def _split_and_join(
    function: Callable[..., tuple[ElboTerms, list[tf.Tensor]]],
    splits: int,
    inputs: list[tf.Tensor | None],
    shared: list[tf.Tensor | None],
) -> tuple[ElboTerms, list[tf.Tensor]]:
    """`terms_and_gradients` of a batch, from those of its equal parts; `shared` is the same for all of them."""
    parts = zip(*([None] * splits if tensor is None else tf.split(tensor, splits) for tensor in inputs), strict=True)
    terms, gradients = zip(*(function(*part, *shared) for part in parts), strict=True)
    joined = ElboTerms(*(tf.concat(term, axis=0) for term in zip(*terms, strict=True)))
    return joined, [tf.add_n(of_parts) / splits for of_parts in zip(*gradients, strict=True)]


class _Part(NamedTuple):
    """Which of the sequences of a batch a replica has.

    Attributes:
      first: int32 `[]`, how many come before.
      size: int32 `[]`, how many it has; of the last batch of an epoch it may have fewer than others, or none.
      total: int32 `[]`, how many the batch has.
    """

    first: tf.Tensor
    size: tf.Tensor
    total: tf.Tensor

    @property
    def share(self) -> tf.Tensor:
        """Which share of the batch that is: float32 `[]`."""
        return tf.cast(self.size, tf.float32) / tf.cast(self.total, tf.float32)


def _part_of_replica(frames: tf.Tensor) -> _Part:
    """Which part of the batch these frames `[B, ..]` are. All are equal where B is known when a step is traced."""
    replica, size = tf.distribute.get_replica_context(), tf.shape(frames)[0]
    place, count = replica.replica_id_in_sync_group, replica.num_replicas_in_sync
    if count == 1 or (frames.shape[0] is not None and not tf.executing_eagerly()):
        return _Part(tf.convert_to_tensor(place) * size, size, count * size)
    own = tf.one_hot(place, count) * tf.cast(size, tf.float32)
    sizes = tf.cast(replica.all_reduce(tf.distribute.ReduceOp.SUM, own), tf.int32)
    return _Part(tf.reduce_sum(sizes[:place]), size, tf.reduce_sum(sizes))


def _never_empty(rows: tf.Tensor | None) -> tf.Tensor | None:
    """Some rows of a batch `[B, ..]`; one of zeros where a replica has none, whose share is then 0.

    TensorFlow's convolutions fail for no frames at all.
    """
    if rows is None or rows.shape[0] or tf.distribute.get_replica_context().num_replicas_in_sync == 1:
        return rows
    missing = tf.cast(tf.shape(rows)[0] == 0, tf.int32)
    return tf.concat([rows, tf.zeros(tf.concat([[missing], tf.shape(rows)[1:]], axis=0), rows.dtype)], axis=0)


def _means_over_replicas(metrics: dict[str, tf.Tensor], share: tf.Tensor) -> dict[str, tf.Tensor]:
    """Means over this replica's share of a batch -> those over the whole batch."""
    replica = tf.distribute.get_replica_context()
    means = replica.all_reduce(tf.distribute.ReduceOp.SUM, share * tf.stack(list(metrics.values())))
    return dict(zip(metrics, tf.unstack(means), strict=True))
