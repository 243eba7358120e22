"""The networks of the paper's Appendix C, one class a table.

Shapes: B sequences, N frames, H W C a frame; h = H / 16 and w = W / 16 a feature map, K its channels ("width"), P the
channels of pixels that follow them (none unless there are shortcuts);
F static, Z dynamic. Every network that parameterises a normal density returns (mean, stddev), float32, with
stddev = softplus(.) + `MIN_STDDEV`, so that neither the density nor its gradient is unbounded. `initializer` is the
Keras name of the initial kernels of layers with a ReLU.

One identity makes them cheaper than their tables and computes the same: a convolution or dense layer over a
concatenation is the sum of one over each part. So the convolution over pairs is one over frames, and only the sum, the
ReLU and the mean run over pairs; and what depends on f alone is computed once a sequence, not once a frame. (Initial
kernels of the convolution over pairs are those of one frame's channels, so larger by up to sqrt(2).)
"""

import math
from collections.abc import Callable

import keras
import tensorflow as tf
from keras import layers

MIN_STDDEV = 1e-3
LEAKY_SLOPE = 0.2  # ours: the paper's text lost it
DOWNSAMPLING = 16  # four layers of stride 2
SHORTCUT_DOWNSAMPLING = 2  # of the pixels that dense layers see; 4 tells aligned faces apart less well
NUM_MAPS = 4  # of the frame encoder, and of the decoder before its last layer
RANK = 64  # rank of the product that the decoder starts from
SHORTCUT_STDDEV = 1e-3  # of the first weights of dense layers that go past deeper ones
CHUNK = 32  # frames that pass the convolutions at once when there may be many
AGGREGATIONS = ("pairs", "pooled", "average", "product")  # how q(f | x_1..N) joins frames; see StaticPosterior
Activation = Callable[[tf.Tensor], tf.Tensor]


@tf.custom_gradient
def leaky_relu(inputs: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """The activation of all convolutions that change the resolution; see `hidden_activation` for others.

    Its gradient is taken from its output, whose sign is that of its input: TensorFlow's own refers to the input, which
    is gone once bias and activation are fused into the convolution, so the graph optimiser logs an error and gives up.
    """
    outputs = tf.nn.leaky_relu(inputs, LEAKY_SLOPE)
    return outputs, lambda upstream: tf.raw_ops.LeakyReluGrad(gradients=upstream, features=outputs, alpha=LEAKY_SLOPE)


def mean_and_stddev(parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Any float `[..., 2D]` -> float32 mean and stddev, each `[..., D]`."""
    mean, raw = tf.split(tf.cast(parameters, tf.float32), 2, axis=-1)
    return mean, tf.nn.softplus(raw) + MIN_STDDEV


def _stddev_bias(stddev: float) -> Callable[[tuple[int, ...], str], tf.Tensor]:
    """Initial bias of a layer whose output `mean_and_stddev` splits: mean 0 and this stddev."""
    raw = math.log(math.expm1(stddev - MIN_STDDEV))
    return lambda shape, dtype: tf.cast(tf.repeat([0.0, raw], shape[0] // 2), dtype)


def _rows_of_kernel(initializer: str, inputs: int) -> Callable[[tuple[int, ...], str], tf.Tensor]:
    """Initial values of some rows of a dense kernel with this many."""
    return lambda shape, dtype: keras.initializers.get(initializer)((inputs, shape[1]), dtype)[: shape[0]]


def _build_chain(chain: list[layers.Layer], shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Builds layers that follow one another; returns the shape of the last one's output."""
    for layer in chain:
        layer.build(shape)
        shape = layer.compute_output_shape(shape)
    return shape


def _apply_chain(chain: list[layers.Layer], tensor: tf.Tensor) -> tf.Tensor:
    for layer in chain:
        tensor = layer(tensor)
    return tensor


def _shortcut(units: int, policy: keras.DTypePolicy) -> layers.Dense:
    """A dense layer whose output is added to that of deeper ones, and almost nothing at first."""
    initializer = keras.initializers.RandomNormal(stddev=SHORTCUT_STDDEV)
    return layers.Dense(units, use_bias=False, kernel_initializer=initializer, dtype=policy)


def merge_frames(frames: tf.Tensor) -> tf.Tensor:
    """`[B, N, ...]` -> `[B N, ...]`."""
    shape = tf.shape(frames)
    return tf.reshape(frames, tf.concat([shape[:1] * shape[1:2], shape[2:]], axis=0))


def split_frames(merged: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """`[B N, ...]` -> `[B, N, ...]`, with B and N those of `like`."""
    split = tf.reshape(merged, tf.concat([tf.shape(like)[:2], tf.shape(merged)[1:]], axis=0))
    return tf.ensure_shape(split, like.shape[:2] + merged.shape[1:])


def in_chunks(function: Callable[..., tf.Tensor], rows: list[tf.Tensor], returns: tf.TensorSpec) -> tf.Tensor:
    """Applies a function of each row by itself to `CHUNK` rows at a time, so that memory does not grow with all rows.

    Args:
      function: `[m, ...]` of each of `rows` -> `[m, ...]`.
      rows: Each any `[M, ...]`, M at least 1.
      returns: Shape `[None, ...]` and dtype of what it returns.

    Returns:
      `[M, ...]`.
    """
    num_rows = tf.shape(rows[0])[0]
    num_chunks = (num_rows + CHUNK - 1) // CHUNK
    done = tf.TensorArray(returns.dtype, num_chunks, element_shape=returns.shape, infer_shape=False)

    def add_chunk(chunk: tf.Tensor, done: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        part = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        return chunk + 1, done.write(chunk, function(*(tensor[part] for tensor in rows)))

    _, done = tf.while_loop(lambda chunk, _: chunk < num_chunks, add_chunk, (0, done), parallel_iterations=1)
    return tf.ensure_shape(done.concat(), returns.shape)


def channels_of_maps(width: int, narrowing: int) -> list[int]:
    """Channels of the four feature maps, the coarsest first; each map has `narrowing` times fewer than the one before.

    The paper's are all alike, which is `narrowing` 1. Halving them wherever the resolution doubles takes the same
    arithmetic as a quarter of the width at all maps, and leaves most of the weights where a map says most of a frame.
    """
    return [max(1, width // narrowing**level) for level in range(NUM_MAPS)]


def num_pixel_channels(channels: int) -> int:
    """P: pixels at half the resolution, of a frame with C channels, that each place of a feature map stands for."""
    return channels * (DOWNSAMPLING // SHORTCUT_DOWNSAMPLING) ** 2


class FrameEncoder(layers.Layer):
    """Features of each frame by itself: `[B, N, H, W, C]` -> `[B, N, h, w, K + P]`.

    With `pixels`, the last P channels are the frame itself at half its resolution, less 0.5; otherwise P is 0.
    """

    def __init__(self, width: int, initializer: str, narrowing: int = 1, pixels: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.pixels = pixels
        self.convs = [
            layers.Conv2D(
                channels,
                4,
                strides=2,
                padding="same",
                activation=leaky_relu,
                kernel_initializer=initializer,
                dtype=self.dtype_policy,
            )
            for channels in reversed(channels_of_maps(width, narrowing))
        ]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _build_chain(self.convs, (None, *input_shape[2:]))

    def call(self, frames: tf.Tensor) -> tf.Tensor:
        merged = merge_frames(frames)
        features = _apply_chain(self.convs, merged)
        if self.pixels:
            halved = tf.nn.avg_pool2d(merged, SHORTCUT_DOWNSAMPLING, SHORTCUT_DOWNSAMPLING, "VALID")
            blocks = tf.nn.space_to_depth(halved, DOWNSAMPLING // SHORTCUT_DOWNSAMPLING)
            features = tf.concat([features, tf.cast(blocks - 0.5, features.dtype)], axis=-1)
        return split_frames(features, like=frames)


def _sum_over_frames(term: Callable[[tf.Tensor], tf.Tensor], frames: tf.Tensor) -> tf.Tensor:
    """Sum of term(j) over all frames j, one after the other: float32, of the shape of `frames`, `[B, N, ...]`."""
    _, total = tf.while_loop(
        lambda j, _: j < tf.shape(frames)[1],
        lambda j, total: (j + 1, total + tf.cast(term(j), tf.float32)),
        (0, tf.zeros_like(frames, tf.float32)),
    )
    return total


@tf.custom_gradient
def mean_over_pairs(
    left: tf.Tensor, right: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """Mean over i != j of ReLU(left_i + right_j); a single frame is paired with itself.

    All frames meet one at a time, so memory is that of N frames and not of N^2 pairs. The gradient from above is the
    same for all pairs of a sequence, so that of a frame is it times the number of its pairs above 0: nothing of the
    pairs is kept for it.

    Args:
      left, right: float `[B, N, ...]`.

    Returns:
      float `[B, ...]`.
    """
    num_frames = tf.cast(tf.shape(left)[1], tf.float32)
    self_pairs = tf.cast(num_frames > 1, tf.float32)  # how many pairs of each frame to leave out
    num_pairs = num_frames * (num_frames - self_pairs)

    def over_others(
        of_pairs: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], frames: tf.Tensor, others: tf.Tensor
    ) -> tf.Tensor:
        with_all = _sum_over_frames(lambda j: of_pairs(frames, others[:, j, None]), frames)
        return with_all - self_pairs * tf.cast(of_pairs(frames, others), tf.float32)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        of_pair = (tf.cast(upstream, tf.float32) / num_pairs)[:, None]
        counts = over_others(tf.greater, left, -right), over_others(tf.greater, right, -left)
        return tuple(tf.cast(of_pair * count, left.dtype) for count in counts)

    total = tf.reduce_sum(over_others(lambda frames, other: tf.nn.relu(frames + other), left, right), axis=1)
    return tf.cast(total / num_pairs, left.dtype), gradient


def average_of_normals(mean: tf.Tensor, stddev: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The normal with the average mean and variance of several: 2 x `[B, N, D]` -> 2 x `[B, D]`.

    How GVAE joins per-frame posteriors (Hosoya, "Group-based Learning of Disentangled Representations with
    Generalizability for Novel Contents", 2019).
    """
    return tf.reduce_mean(mean, axis=1), tf.sqrt(tf.reduce_mean(tf.square(stddev), axis=1))


def product_of_normals(mean: tf.Tensor, stddev: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The normal proportional to the product of several densities: 2 x `[B, N, D]` -> 2 x `[B, D]`.

    How ML-VAE joins per-frame posteriors (Bouchacourt et al., "Multi-Level Variational Autoencoder", 2018).
    """
    precision = 1 / tf.square(stddev)
    total = tf.reduce_sum(precision, axis=1)
    return tf.reduce_sum(mean * precision, axis=1) / total, tf.math.rsqrt(total)


def split_pixels(features: tf.Tensor, pixel_channels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """`[.., K + P]` -> `[.., K]` and `[.., P]`, by which there is nothing to differentiate."""
    width = features.shape[-1] - pixel_channels
    maps = features[..., :width] if pixel_channels else features  # without pixels nothing is copied
    return maps, tf.stop_gradient(features[..., width:])


class StaticPosterior(layers.Layer):
    """Parameters of q(f | x_1..N) from the features of all frames: `[B, N, h, w, K + P]` -> 2 x `[B, F]`.

    The paper's, "pairs" (Section 2 and Appendix B): the same 3x3 convolution with ReLU for every ordered pair of
    frames, the mean over pairs, another convolution, and two dense layers. To compare with, of the same layers:
    "pooled", where the first convolution is over each frame by itself and the mean over frames, as in the neural
    statistician (Edwards & Storkey, 2016); "average" and "product", where all layers are over each frame by itself,
    and the resulting normals are joined. All are invariant to the order of the frames. Ours, where P is above 0: a
    dense layer over the pixels, joined by their mean over frames, adds to the parameters. As eigenfaces do, it tells
    apart people it has never seen; convolutions that have learnt a few people by heart do not.
    """

    def __init__(
        self,
        static_dim: int,
        pair_width: int,
        dense_units: int,
        initializer: str,
        initial_stddev: float,
        aggregation: str = "pairs",
        pixel_channels: int = 0,
        **kwargs,
    ) -> None:
        """Args: pixel_channels: P; 0: there is no shortcut. The others are named as in `Architecture`."""
        super().__init__(**kwargs)
        self.aggregation, self.pixel_channels = aggregation, pixel_channels
        self.pixel_shortcut = _shortcut(2 * static_dim, self.dtype_policy) if pixel_channels else None
        # For pairs, one convolution computes both halves: first the channels of the left frame, then the right's.
        self.pair = layers.Conv2D(
            2 * pair_width if aggregation == "pairs" else pair_width,
            3,
            padding="same",
            kernel_initializer=initializer,
            dtype=self.dtype_policy,
        )
        self.head = [
            layers.Conv2D(
                pair_width,
                3,
                padding="same",
                activation="relu",
                kernel_initializer=initializer,
                dtype=self.dtype_policy,
            ),
            layers.Flatten(dtype=self.dtype_policy),
            layers.Dense(dense_units, activation="relu", kernel_initializer=initializer, dtype=self.dtype_policy),
            layers.Dense(2 * static_dim, bias_initializer=_stddev_bias(initial_stddev), dtype=self.dtype_policy),
        ]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _, _, height, width, channels = input_shape
        self.pair.build((None, height, width, channels - self.pixel_channels))
        _build_chain(self.head, (None, height, width, self.head[0].filters))
        if self.pixel_shortcut:
            self.pixel_shortcut.build((None, height * width * self.pixel_channels))

    def call(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        maps, pixels = split_pixels(features, self.pixel_channels)
        first = split_frames(self.pair(merge_frames(maps)), like=maps)
        if self.aggregation == "pairs":
            joined = mean_over_pairs(*tf.split(first, 2, axis=-1))
            return mean_and_stddev(self._parameters(joined, tf.reduce_mean(pixels, axis=1)))
        first = tf.nn.relu(first)
        if self.aggregation == "pooled":
            joined = tf.reduce_mean(first, axis=1)
            return mean_and_stddev(self._parameters(joined, tf.reduce_mean(pixels, axis=1)))
        of_frames = self._parameters(merge_frames(first), merge_frames(pixels))
        of_frames = mean_and_stddev(split_frames(of_frames, like=features))
        return average_of_normals(*of_frames) if self.aggregation == "average" else product_of_normals(*of_frames)

    def _parameters(self, hidden: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
        """What the head makes of `[b, h, w, pair_width]`, and the shortcut of pixels `[b, h, w, P]`: `[b, 2F]`."""
        parameters = _apply_chain(self.head, hidden)
        if not self.pixel_shortcut:
            return parameters
        return parameters + self.pixel_shortcut(tf.reshape(pixels, [-1, self.pixel_shortcut.kernel.shape[0]]))


class DynamicPrior(layers.Layer):
    """Parameters of p(z | f): `[B, F]` -> 2 x `[B, Z]`."""

    def __init__(self, dynamic_dim: int, dense_units: int, initializer: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.dense = [
            layers.Dense(dense_units, activation="relu", kernel_initializer=initializer, dtype=self.dtype_policy),
            layers.Dense(dense_units, activation="relu", kernel_initializer=initializer, dtype=self.dtype_policy),
            layers.Dense(2 * dynamic_dim, dtype=self.dtype_policy),
        ]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _build_chain(self.dense, input_shape)

    def call(self, static: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return mean_and_stddev(_apply_chain(self.dense, static))


class StandardPrior(layers.Layer):
    """Parameters of p(z) = N(0, I), which f does not change: `[B, F]` -> 2 x `[B, Z]`. To compare with."""

    def __init__(self, dynamic_dim: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.dynamic_dim = dynamic_dim

    def call(self, static: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shape = [tf.shape(static)[0], self.dynamic_dim]
        return tf.zeros(shape), tf.ones(shape)


def hidden_activation(leaky: bool) -> Activation:
    """Of the layers that z goes through: a ReLU, or a leaky one.

    While f explains nearly all that is explained, the gradient of z may be noise for hundreds of steps. In clips of
    three dozen people z drifted so far meanwhile that all of these units were off for every frame, and a ReLU stays so.
    """
    return leaky_relu if leaky else tf.nn.relu


class DenseOfFrameAndStatic(layers.Layer):
    """A dense layer over [y_i ; f] for each frame i, with an activation: `[B, N, D]`, `[B, F]` -> `[B, N, units]`."""

    def __init__(self, units: int, initializer: str, activation: Activation, **kwargs) -> None:
        super().__init__(**kwargs)
        self.activation = activation
        self.of_frame = layers.Dense(units, dtype=self.dtype_policy)
        self.of_static = layers.Dense(units, use_bias=False, dtype=self.dtype_policy)
        self.initializer = initializer

    def build(self, frame_shape: tuple[int | None, ...], static_shape: tuple[int | None, ...]) -> None:
        # Initialised as one kernel over both; otherwise the two inputs of z would outweigh the hundreds of f.
        inputs = frame_shape[-1] + static_shape[-1]
        self.of_frame.kernel_initializer = _rows_of_kernel(self.initializer, inputs)
        self.of_static.kernel_initializer = _rows_of_kernel(self.initializer, inputs)
        self.of_frame.build(frame_shape)
        self.of_static.build(static_shape)

    def call(self, frame: tf.Tensor, static: tf.Tensor) -> tf.Tensor:
        return self.activation(self.of_frame(frame) + self.of_static(static)[:, None])


class DynamicPosterior(layers.Layer):
    """Parameters of q(z_i | x_i, f): features `[B, N, h, w, K + P]` and f `[B, F]` -> 2 x `[B, N, Z]`.

    The P channels of pixels are not used: with them, swaps of faces showed the right expression less often.
    """

    def __init__(
        self,
        dynamic_dim: int,
        dense_units: int,
        initializer: str,
        pixel_channels: int = 0,
        leaky: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.pixel_channels = pixel_channels
        self.first = DenseOfFrameAndStatic(dense_units, initializer, hidden_activation(leaky), dtype=self.dtype_policy)
        self.dense = [
            layers.Dense(dense_units, activation="relu", kernel_initializer=initializer, dtype=self.dtype_policy),
            layers.Dense(2 * dynamic_dim, dtype=self.dtype_policy),
        ]

    def build(self, features_shape: tuple[int | None, ...], static_shape: tuple[int | None, ...]) -> None:
        _, _, height, width, channels = features_shape
        self.first.build((None, None, height * width * (channels - self.pixel_channels)), static_shape)
        _build_chain(self.dense, (None, None, self.first.of_frame.units))

    def call(self, features: tf.Tensor, static: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        maps, _ = split_pixels(features, self.pixel_channels)
        shape = tf.shape(maps)
        flat = tf.reshape(maps, [shape[0], shape[1], self.first.of_frame.kernel.shape[0]])
        return mean_and_stddev(_apply_chain(self.dense, self.first(flat, static)))


class Decoder(layers.Layer):
    """Logits of p(x_i | f, z_i): f `[B, F]` and z `[B, N, Z]` -> float32 `[B, N, H, W, C]`.

    The paper's table starts at the first deconvolution, whose input is a feature map. Before it, ours:

        map[p] = leaky_relu(sum_r where[p, r](f, z_i) what[r](f))    of each place p of h w; `RANK` r

    f alone says *what* there is, R vectors of K features, and two hidden dense layers over f and z say how much of each
    is *where*. So what z does to one f it can do to another. With a dense layer to the map in place of the product,
    the map of every f at every z must be learnt by itself; without the hidden layers, two numbers must unfold into
    every pose through the deconvolutions alone.

    With `shortcuts`, dense layers from f and from the second hidden layer straight to the logits add to them. What
    aligned pictures have in common, as eigenfaces have it, takes hundreds of steps that way, and thousands without.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int, int],
        width: int,
        dense_units: int,
        initializer: str,
        narrowing: int = 1,
        shortcuts: bool = False,
        leaky: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        height, frame_width, channels = frame_shape
        pixels = height * frame_width * channels
        self.shortcuts = [_shortcut(pixels, self.dtype_policy) for _ in range(2)] if shortcuts else []
        self.start = (height // DOWNSAMPLING, frame_width // DOWNSAMPLING, width)
        activation = hidden_activation(leaky)
        self.first = DenseOfFrameAndStatic(dense_units, initializer, activation, dtype=self.dtype_policy)
        self.where = [
            layers.Dense(dense_units, activation=activation, kernel_initializer=initializer, dtype=self.dtype_policy),
            layers.Dense(
                self.start[0] * self.start[1] * RANK,
                kernel_initializer=keras.initializers.VarianceScaling(1 / RANK),  # so that the sum over r is of order 1
                dtype=self.dtype_policy,
            ),
        ]
        # The bias is the part that does not depend on f.
        self.what = layers.Dense(
            RANK * width, bias_initializer=keras.initializers.RandomNormal(stddev=1.0), dtype=self.dtype_policy
        )
        self.deconvs = [
            layers.Conv2DTranspose(
                filters,
                4,
                strides=2,
                padding="same",
                activation=activation,
                kernel_initializer=initializer if activation else "glorot_uniform",
                dtype=self.dtype_policy,
            )
            for filters, activation in [
                *((filters, leaky_relu) for filters in channels_of_maps(width, narrowing)[1:]),
                (channels, None),
            ]
        ]

    def build(self, static_shape: tuple[int | None, ...], dynamic_shape: tuple[int | None, ...]) -> None:
        self.first.build(dynamic_shape, static_shape)
        _build_chain(self.where, (None, None, self.first.of_frame.units))
        self.what.build(static_shape)
        for shortcut, shape in zip(self.shortcuts, (static_shape, (None, None, self.where[0].units)), strict=False):
            shortcut.build(shape)
        _build_chain(self.deconvs, (None, *self.start))

    def call(self, static: tf.Tensor, dynamic: tf.Tensor) -> tf.Tensor:
        sequences, frames = tf.unstack(tf.shape(dynamic)[:2])
        height, width, channels = self.start
        hidden = self.where[0](self.first(dynamic, static))
        where = tf.reshape(self.where[1](hidden), [sequences, frames * height * width, RANK])
        what = tf.reshape(self.what(static), [sequences, RANK, channels])
        start = tf.reshape(leaky_relu(where @ what), [sequences * frames, height, width, channels])
        logits = split_frames(_apply_chain(self.deconvs, start), like=dynamic)
        if self.shortcuts:
            of_static, of_both = self.shortcuts
            logits += tf.reshape(of_static(static)[:, None] + of_both(hidden), tf.shape(logits))
        return tf.cast(logits, tf.float32)
