"""The settings of the model: what its networks are, and how training uses it."""

import dataclasses
import functools
import math
from numbers import Integral, Real
from typing import Any

import keras
import numpy as np

from ddr_tf.errors import UserError
from ddr_tf.model.densities import PIXEL_LIKELIHOODS
from ddr_tf.model.networks import AGGREGATIONS, DOWNSAMPLING, MIN_STDDEV, num_pixel_channels

MAX_INITIAL_STDDEV = 100.0  # of q(f | ..) before training
_KINDS = {bool: (bool, "True or False"), int: (Integral, "a whole number"), float: (Real, "a number")}


def _check_kinds(settings: Any) -> None:
    """Makes Python's numbers of NumPy's. Raises UserError for a setting of another kind than its field says."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, np.generic):
            value = value.item()
            object.__setattr__(settings, field.name, value)
        if field.type not in _KINDS:
            continue
        kind, words = _KINDS[field.type]
        if not isinstance(value, kind) or (isinstance(value, bool) and field.type is not bool):
            raise UserError(f"DDR.{field.name} must be {words}, got {value!r}.")


def _at_least(minimum: int, **counts: int) -> None:
    for name, count in counts.items():
        if count < minimum:
            wanted = "0 or more" if minimum == 0 else f"at least {minimum}"
            raise UserError(f"DDR.{name} must be {wanted}, got {count}.")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What the networks are.

    Attributes:
      frame_shape: (H, W, C); H and W multiples of 16.
      static_dim: F.
      dynamic_dim: Z.
      width: K, channels of the encoder's and decoder's convolutions.
      narrowing: How many times fewer channels a feature map has than the next coarser one; see
        `networks.channels_of_maps`.
      pair_width: Channels of the convolution over pairs and of the one that follows it.
      dense_units: Units of every hidden dense layer.
      initializer: Keras's name of the initial kernels of all layers with a ReLU.
      initial_static_stddev: Stddev of q(f | x_1..N) before training; of the factor of each frame, for "product".
      static_aggregation: How q(f | x_1..N) joins frames, one of `AGGREGATIONS`; see `networks.StaticPosterior`.
      learned_prior: Whether p(z | f) is learned, or N(0, I).
      pixel_likelihood: The form of p(x | f, z), one of `PIXEL_LIKELIHOODS`.
      shortcuts: Whether dense layers go past the deep ones; see `networks.StaticPosterior` and `networks.Decoder`.
      leaky: Whether hidden layers that z goes through are leaky; see `networks.hidden_activation`.
    """

    frame_shape: tuple[int, int, int]
    static_dim: int
    dynamic_dim: int
    width: int
    pair_width: int
    dense_units: int
    initializer: str
    initial_static_stddev: float
    static_aggregation: str
    learned_prior: bool
    narrowing: int = 1
    pixel_likelihood: str = "bernoulli"
    shortcuts: bool = False
    leaky: bool = False

    def __post_init__(self) -> None:
        """Makes Python's numbers of NumPy's, and raises UserError if a setting is not possible."""
        _check_kinds(self)
        if len(self.frame_shape) != 3 or not all(isinstance(side, int) for side in self.frame_shape):
            raise UserError(f"DDR.frame_shape must be (height, width, channels), got {self.frame_shape}.")
        sides = self.frame_shape[:2]
        if any(side < DOWNSAMPLING or side % DOWNSAMPLING for side in sides):
            raise UserError(f"Frames must have sides that are multiples of {DOWNSAMPLING}, got {self.frame_shape}.")
        if self.frame_shape[-1] < 1:
            raise UserError(f"Frames must have at least one channel, got {self.frame_shape}.")
        sizes = ("static_dim", "dynamic_dim", "width", "pair_width", "dense_units", "narrowing")
        _at_least(1, **{name: getattr(self, name) for name in sizes})
        if self.static_aggregation not in AGGREGATIONS:
            raise UserError(
                f"DDR.static_aggregation must be one of {', '.join(AGGREGATIONS)}, got {self.static_aggregation!r}."
            )
        if self.pixel_likelihood not in PIXEL_LIKELIHOODS:
            raise UserError(
                f"DDR.pixel_likelihood must be one of {', '.join(PIXEL_LIKELIHOODS)}, got {self.pixel_likelihood!r}."
            )
        if not MIN_STDDEV < self.initial_static_stddev <= MAX_INITIAL_STDDEV:
            raise UserError(
                f"DDR.initial_static_stddev must be above {MIN_STDDEV} and at most {MAX_INITIAL_STDDEV}, got "
                f"{self.initial_static_stddev}."
            )
        try:
            initializer = keras.initializers.get(self.initializer)
        except ValueError as error:
            raise UserError(f"DDR.initializer: Keras knows no initializer {self.initializer!r}.") from error
        if initializer is None:
            raise UserError("DDR.initializer must be the name of one of Keras's initializers, got None.")

    @functools.cached_property
    def feature_shape(self) -> tuple[int, int, int]:
        """(h, w, K + P), of the features of a frame."""
        height, width, _ = self.frame_shape
        return height // DOWNSAMPLING, width // DOWNSAMPLING, self.width + self.pixel_channels

    @property
    def pixel_channels(self) -> int:
        """P, of the features of a frame that are its pixels."""
        return num_pixel_channels(self.frame_shape[-1]) if self.shortcuts else 0


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How the model is trained; its networks do not depend on it.

    Attributes:
      kl_warmup_steps: Steps over which the weight of both KL terms rises to its final value; 0: no warm-up.
      kl_static_weight: Final weight of KL(q(f | ..) || p(f)); that of z is 1.
      gradient_clip_norm: Largest global norm of the gradient of the loss in nats a frame.
      num_static_frames: Frames of each sequence that q(f | ..) is computed from, the others being decoded; 0: all
        frames are used for both.
      min_static_frames: Fewest frames that q(f | ..) is computed from; see `DDR`.
      xla: Whether XLA compiles the bound and its gradient.
      noise_seed: Seed of the reparameterisation noise.
    """

    kl_warmup_steps: int
    gradient_clip_norm: float
    num_static_frames: int
    xla: bool
    noise_seed: int
    kl_static_weight: float = 1.0
    min_static_frames: int = 0

    def __post_init__(self) -> None:
        """Makes Python's numbers of NumPy's, and raises UserError if a setting is not possible."""
        _check_kinds(self)
        counts = ("kl_warmup_steps", "num_static_frames", "min_static_frames")
        _at_least(0, **{name: getattr(self, name) for name in counts})
        if self.num_static_frames and self.min_static_frames > self.num_static_frames:
            raise UserError(
                f"min_static_frames must be at most DDR.num_static_frames, {self.num_static_frames}, got "
                f"{self.min_static_frames}."
            )
        if not 0 <= self.kl_static_weight < math.inf:
            raise UserError(f"DDR.kl_static_weight must be 0 or more, and finite, got {self.kl_static_weight}.")
        if not self.gradient_clip_norm > 0:
            raise UserError(f"DDR.gradient_clip_norm must be above 0, got {self.gradient_clip_norm}.")

    def check_num_frames(self, num_frames: int) -> None:
        """Raises UserError if sequences of N frames are too short for these options."""
        if self.num_static_frames >= num_frames:
            raise UserError(
                f"DDR.num_static_frames must leave frames to decode: it is {self.num_static_frames}, and "
                f"train.num_frames {num_frames}."
            )
        if self.min_static_frames > num_frames:
            raise UserError(
                f"min_static_frames must be at most train.num_frames, {num_frames}, got {self.min_static_frames}."
            )
