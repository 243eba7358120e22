"""Signatures: what an exported model answers, and the SavedModel that holds them.

    encode          frames [B, N, H, W, C] -> static_mean, static_stddev [B, F], dynamic_mean, dynamic_stddev [B, N, Z]
    encode_bytes    encoded_frames, PNG or JPEG [B, N] -> as encode
    encode_dynamic  frames [B, N, H, W, C], static [B, F] -> dynamic_mean, dynamic_stddev [B, N, Z] of q(z | x, f)
    decode          static [B, F], dynamic [B, N, Z] -> frames [B, N, H, W, C]
    reconstruct     frames [B, N, H, W, C] -> frames [B, N, H, W, C]
    swap            static_frames [B, N, H, W, C], dynamic_frames [B, M, H, W, C] -> frames [B, M, H, W, C]
    prior           static [B, F] -> mean, stddev [B, Z] of p(z | f)
    sample          count, frames_per_sequence [], seed [2] -> static [B, F], dynamic [B, N, Z], frames [B, N, H, W, C]
    sample_standard the same, with f ~ p(f) and z_i ~ p(z | f) in place of densities that were fitted after training

B, N and M are any numbers from 1. Frames are float32 in [0, 1], codes float32, counts and seed int32. `serving_default`
is `encode`. Input of the wrong rank, size or range, and NaN, gets an error that names the input, in every loader.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from ddr_tf import startup
from ddr_tf.model import FITTED, STANDARD
from ddr_tf.model.ddr import DDR
from ddr_tf.model.networks import split_frames
from ddr_tf.serving.weights import KeptWeight

tfd = tfp.distributions

PNG, JPEG = b"\x89PN", b"\xff\xd8\xff"  # the first bytes of such files


# Checks that are part of the graph, so that every loader makes them.


def _hidden_shape(tensor: tf.Tensor) -> tf.Tensor:
    """The same tensor without its static shape.

    A loader need not check what it is fed with against the signature, and a check of a shape that is known when the
    graph is built would not become part of it.
    """
    return tf.compat.v1.placeholder_with_default(tensor, shape=None)


def _require(condition: tf.Tensor, message: str, values: Sequence[tf.Tensor], tensor: tf.Tensor) -> tf.Tensor:
    """The tensor, which nothing can use before the condition is known to hold."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message, *values], summarize=8)]):
        return tf.identity(tensor)


def checked_shape(tensor: tf.Tensor, name: str, shape: Mapping[str, int | None]) -> tf.Tensor:
    """Refuses a tensor of another rank or other sizes.

    Args:
      tensor: Anything.
      name: What to call it.
      shape: Name of a dimension -> its size, or None for any from 1.

    Returns:
      The tensor, of that static shape.
    """
    tensor = _hidden_shape(tensor)
    sizes = list(shape.values())
    rank = len(sizes)
    values = tf.concat([tf.shape(tensor), tf.zeros([rank], tf.int32)], axis=0)[:rank]  # exactly `rank` sizes
    least = tf.constant([1 if size is None else size for size in sizes], tf.int32)
    most = tf.constant([tf.int32.max if size is None else size for size in sizes], tf.int32)
    right = (tf.rank(tensor) == rank) & tf.reduce_all((values >= least) & (values <= most))
    words = ", ".join(f"{letter} >= 1" if size is None else f"{letter} = {size}" for letter, size in shape.items())
    tensor = _require(right, f"{name} must have the shape [{words}]; got", [tf.shape(tensor)], tensor)
    tensor.set_shape(sizes)  # not by `ensure_shape`, whose error could come first
    return tensor


def checked_range(tensor: tf.Tensor, name: str, least: float, most: float, words: str) -> tf.Tensor:
    """Refuses a float tensor with values outside of a range, or NaN."""
    outside = tf.logical_not((tensor >= least) & (tensor <= most))
    message = f"{name} must be {words}, without NaN; its smallest and largest value, and how many are wrong:"
    values = [tf.reduce_min(tensor), tf.reduce_max(tensor), tf.math.count_nonzero(outside)]
    return _require(tf.logical_not(tf.reduce_any(outside)), message, values, tensor)


def _checked_as_many(tensor: tf.Tensor, name: str, like: tf.Tensor, like_name: str) -> tf.Tensor:
    """Refuses a tensor whose B differs from that of another."""
    values = [tf.shape(tensor)[0], tf.shape(like)[0]]
    message = f"{name} and {like_name} must be of equally many sequences B; got"
    return _require(values[0] == values[1], message, values, tensor)


def png_size(file: tf.Tensor) -> tf.Tensor:
    """What the header of a PNG file, string `[]`, says of its height and width: int32 `[2]`."""
    header = tf.strings.join([file, b"\0" * 24])  # a file may be shorter than that
    numbers = tf.reshape(tf.io.decode_raw(tf.strings.substr(header, 16, 8), tf.uint8), [2, 4])
    return tf.reduce_sum(tf.cast(numbers, tf.int32) * [1 << 24, 1 << 16, 1 << 8, 1], axis=1)[::-1]


class Signatures:
    """A model as a set of functions, a method a signature; see the module for what each takes and returns."""

    def __init__(self, model: DDR, weights: str = "float32") -> None:
        """Copies the weights.

        Args:
          model: A trained model.
          weights: In which of `weights.PRECISIONS` they are kept; arithmetic is the model's own.
        """
        self._model = model
        with startup.without_onednn_notes():
            self.weights = [KeptWeight(tf.convert_to_tensor(weight.value), weights) for weight in model.weights]
        self._kept_weights = {id(weight): kept for weight, kept in zip(model.weights, self.weights, strict=True)}
        height, width, channels = model.frame_shape
        self._sizes = dict(H=height, W=width, C=channels, F=model.static_dim, Z=model.dynamic_dim)
        # Each network is traced once, and is one function of the SavedModel, which all signatures call.
        self._frames, self._static, self._dynamic = (
            tf.TensorSpec([None, None, *model.frame_shape], tf.float32),
            tf.TensorSpec([None, model.static_dim], tf.float32),
            tf.TensorSpec([None, None, model.dynamic_dim], tf.float32),
        )
        features = tf.TensorSpec([None, None, *model.architecture.feature_shape], model.compute_dtype)
        self._features = self._shared(model.features_of_many, model.frame_encoder.weights, self._frames)
        self._static_posterior = self._shared(
            lambda features: _mean_and_stddev(model.static_posterior(features)),
            model.static_posterior_net.weights,
            features,
        )
        self._dynamic_posterior = self._shared(
            lambda features, static: _mean_and_stddev(model.dynamic_posterior(features, static)),
            model.dynamic_posterior_net.weights,
            features,
            self._static,
        )
        self._dynamic_prior = self._shared(
            lambda static: _mean_and_stddev(model.dynamic_prior(static)), model.dynamic_prior_net.weights, self._static
        )
        stddev = [] if model.pixel_stddev is None else [model.log_pixel_stddev]
        self._mean_frames = self._shared(
            model.mean_frames, [*model.decoder.weights, *stddev], self._static, self._dynamic
        )

    def functions(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Signature -> function of keyword arguments that returns a dictionary."""
        frames, static, dynamic, number = self._frames, self._static, self._dynamic, tf.TensorSpec([], tf.int32)
        encode = self._traced(self.encode, frames=frames)
        return {
            "serving_default": encode,
            "encode": encode,
            "encode_bytes": self._traced(self.encode_bytes, encoded_frames=tf.TensorSpec([None, None], tf.string)),
            "encode_dynamic": self._traced(self.encode_dynamic, frames=frames, static=static),
            "decode": self._traced(self.decode, static=static, dynamic=dynamic),
            "reconstruct": self._traced(self.reconstruct, frames=frames),
            "swap": self._traced(self.swap, static_frames=frames, dynamic_frames=frames),
            "prior": self._traced(self.prior, static=static),
            **{
                name: self._traced(method, count=number, frames_per_sequence=number, seed=tf.TensorSpec([2], tf.int32))
                for name, method in (("sample", self.sample), ("sample_standard", self.sample_standard))
            },
        }

    def encode(self, frames: tf.Tensor) -> dict[str, tf.Tensor]:
        """Parameters of q(f | x_1..N), and of q(z_i | x_i, f) at the mean of f."""
        return self._posteriors(self._checked_frames(frames, "frames"))

    def encode_bytes(self, encoded_frames: tf.Tensor) -> dict[str, tf.Tensor]:
        """`encode` of PNG or JPEG files of exactly H x W pixels, as they are: turned by no EXIF, alpha dropped."""
        files = checked_shape(encoded_frames, "encoded_frames", dict(B=None, N=None))
        frames = tf.map_fn(
            self._decoded, tf.reshape(files, [-1]), fn_output_signature=tf.TensorSpec(self._model.frame_shape, tf.uint8)
        )
        return self.encode(split_frames(tf.cast(frames, tf.float32) / 255, like=files))

    def encode_dynamic(self, frames: tf.Tensor, static: tf.Tensor) -> dict[str, tf.Tensor]:
        """Parameters of q(z_i | x_i, f) for any f."""
        frames = self._checked_frames(frames, "frames")
        static = self._checked_codes(static, "static", dict(B=None, F=self._sizes["F"]))
        static = _checked_as_many(static, "static", frames, "frames")
        mean, stddev = self._dynamic_posterior(self._features(frames), static)
        return {"dynamic_mean": mean, "dynamic_stddev": stddev}

    def decode(self, static: tf.Tensor, dynamic: tf.Tensor) -> dict[str, tf.Tensor]:
        """The mean of p(x_i | f, z_i)."""
        static = self._checked_codes(static, "static", dict(B=None, F=self._sizes["F"]))
        dynamic = self._checked_codes(dynamic, "dynamic", dict(B=None, N=None, Z=self._sizes["Z"]))
        return {"frames": self._mean_frames(_checked_as_many(static, "static", dynamic, "dynamic"), dynamic)}

    def reconstruct(self, frames: tf.Tensor) -> dict[str, tf.Tensor]:
        """The mean of p(x_i | f, z_i) at the posterior means of f and z_i."""
        codes = self._posteriors(self._checked_frames(frames, "frames"))
        return {"frames": self._mean_frames(codes["static_mean"], codes["dynamic_mean"])}

    def swap(self, static_frames: tf.Tensor, dynamic_frames: tf.Tensor) -> dict[str, tf.Tensor]:
        """The identity of `static_frames` in the pose of each of `dynamic_frames`.

        f is the mean of q(f | static_frames), z_i the mean of q(z_i | x_i, f) for x_i of `dynamic_frames` and that same
        f: of the three transfers of `evaluation` the `conditioned` one, which asks the model itself for the z that
        shows this pose with this f. It is close to the best of the three on every dataset of the README, and the
        others fall behind on one or another. For those, use `encode`, `prior` and `decode`.
        """
        static_frames = self._checked_frames(static_frames, "static_frames")
        dynamic_frames = self._checked_frames(dynamic_frames, "dynamic_frames")
        static_frames = _checked_as_many(static_frames, "static_frames", dynamic_frames, "dynamic_frames")
        static, _ = self._static_posterior(self._features(static_frames))
        dynamic, _ = self._dynamic_posterior(self._features(dynamic_frames), static)
        return {"frames": self._mean_frames(static, dynamic)}

    def prior(self, static: tf.Tensor) -> dict[str, tf.Tensor]:
        """Parameters of p(z | f)."""
        mean, stddev = self._dynamic_prior(self._checked_codes(static, "static", dict(B=None, F=self._sizes["F"])))
        return {"mean": mean[:, 0], "stddev": stddev[:, 0]}

    def sample(self, count: tf.Tensor, frames_per_sequence: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """New sequences: f, z_i, and the mean of p(x_i | f, z_i). A function of the seed.

        f and z are drawn from the densities that were fitted after training; see `model.static_density` and
        `model.dynamic_density`.
        """
        return self._sample(count, frames_per_sequence, seed, FITTED)

    def sample_standard(
        self, count: tf.Tensor, frames_per_sequence: tf.Tensor, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """`sample` with f ~ p(f) = N(0, I) and z_i ~ p(z | f), as in the paper."""
        return self._sample(count, frames_per_sequence, seed, STANDARD)

    def _sample(
        self, count: tf.Tensor, frames_per_sequence: tf.Tensor, seed: tf.Tensor, density: str
    ) -> dict[str, tf.Tensor]:
        count = self._checked_count(count, "count")
        frames_per_sequence = self._checked_count(frames_per_sequence, "frames_per_sequence")
        seed = checked_shape(seed, "seed", {"seed": 2})
        with self._kept(self._model.dynamic_prior_net.weights):
            static, dynamic = self._model.sample_codes(count, frames_per_sequence, seed, density)
        return {"static": static, "dynamic": dynamic, "frames": self._mean_frames(static, dynamic)}

    def _kept(self, weights: Sequence[keras.Variable]) -> keras.StatelessScope:
        """In this scope these weights of the model have the values that are kept."""
        return keras.StatelessScope(
            [(weight, self._kept_weights[id(weight)].value(weight.dtype)) for weight in weights]
        )

    def _shared(
        self, function: Callable[..., Any], weights: Sequence[keras.Variable], *inputs: tf.TensorSpec
    ) -> tf.types.experimental.PolymorphicFunction:
        """A function of the model, which uses only these of its weights."""

        def with_weights(*tensors: tf.Tensor) -> Any:
            with self._kept(weights):
                return function(*tensors)

        return tf.function(with_weights, input_signature=inputs, autograph=False)

    def _traced(
        self, method: Callable[..., dict[str, tf.Tensor]], **inputs: tf.TensorSpec
    ) -> tf.types.experimental.ConcreteFunction:
        """A method as a function of tensors by these names, and by nothing else."""

        def of_names(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
            return method(**tensors)

        specs = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in inputs.items()}
        return tf.function(of_names, autograph=False).get_concrete_function(**specs)

    def _checked_frames(self, frames: tf.Tensor, name: str) -> tf.Tensor:
        frames = checked_shape(frames, name, dict(B=None, N=None) | {side: self._sizes[side] for side in "HWC"})
        return checked_range(frames, name, 0.0, 1.0, "in [0, 1]")

    def _checked_codes(self, codes: tf.Tensor, name: str, shape: Mapping[str, int | None]) -> tf.Tensor:
        return checked_range(checked_shape(codes, name, shape), name, tf.float32.min, tf.float32.max, "finite")

    def _checked_count(self, count: tf.Tensor, name: str) -> tf.Tensor:
        count = checked_shape(count, name, {})
        return _require(count >= 1, f"{name} must be at least 1; got", [count], count)

    def _decoded(self, file: tf.Tensor) -> tf.Tensor:
        """A PNG or JPEG file, string `[]` -> uint8 `[H, W, C]`."""
        begin = tf.strings.substr(file, 0, len(PNG))
        known = (begin == PNG) | (begin == JPEG)
        # TensorFlow finds what is cut short or damaged further on; its message names this scope.
        with tf.name_scope("encoded_frames"):
            text = tf.strings.unicode_transcode(begin, "UTF-8", "UTF-8", replace_control_characters=True)
            file = _require(known, "encoded_frames must be PNG or JPEG files; one begins with", [text], file)
            # Before it is decoded, since a small file can be a huge image.
            size = tf.cond(begin == PNG, lambda: png_size(file), lambda: tf.image.extract_jpeg_shape(file)[:2])
            right = tf.reduce_all(size == [self._sizes["H"], self._sizes["W"]])
            words = f"[H = {self._sizes['H']}, W = {self._sizes['W']}]"
            file = _require(right, f"every image of encoded_frames must have the shape {words}; got", [size], file)
            image = tf.io.decode_image(file, channels=self._sizes["C"], expand_animations=False)
        return tf.ensure_shape(image, [self._sizes[side] for side in "HWC"])

    def _posteriors(self, frames: tf.Tensor) -> dict[str, tf.Tensor]:
        """Parameters of q(f | x_1..N), and of q(z_i | x_i, f) at the mean of f."""
        features = self._features(frames)
        static_mean, static_stddev = self._static_posterior(features)
        dynamic_mean, dynamic_stddev = self._dynamic_posterior(features, static_mean)
        return {
            "static_mean": static_mean,
            "static_stddev": static_stddev,
            "dynamic_mean": dynamic_mean,
            "dynamic_stddev": dynamic_stddev,
        }


def _mean_and_stddev(distribution: tfd.Distribution) -> tuple[tf.Tensor, tf.Tensor]:
    return distribution.mean(), distribution.stddev()
