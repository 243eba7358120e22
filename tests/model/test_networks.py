import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.model import networks
from ddr_tf.model.networks import (
    AGGREGATIONS,
    CHUNK,
    MIN_STDDEV,
    RANK,
    Decoder,
    DenseOfFrameAndStatic,
    DynamicPosterior,
    DynamicPrior,
    FrameEncoder,
    StaticPosterior,
    channels_of_maps,
    in_chunks,
    num_pixel_channels,
)


def normal(*shape, seed=0):
    return tf.constant(np.random.RandomState(seed).normal(size=shape).astype(np.float32))


def relu_over_pairs(left, right):
    num_frames = left.shape[1]
    pairs = [(i, j) for i in range(num_frames) for j in range(num_frames) if i != j] or [(0, 0)]
    return np.mean([np.maximum(left[:, i] + right[:, j], 0) for i, j in pairs], axis=0)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 8])
def test_mean_over_pairs_is_that_of_all_ordered_pairs(num_frames):
    left, right = normal(2, num_frames, 3, 3, 4), normal(2, num_frames, 3, 3, 4, seed=1)
    expected = relu_over_pairs(left.numpy(), right.numpy())
    np.testing.assert_allclose(networks.mean_over_pairs(left, right), expected, rtol=1e-5, atol=1e-6)


def test_gradient_of_the_mean_over_pairs_is_that_of_the_plain_form():
    left, right, upstream = normal(2, 4, 5), normal(2, 4, 5, seed=1), normal(2, 5, seed=2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([left, right])
        fast = tf.reduce_sum(networks.mean_over_pairs(left, right) * upstream)
        pairs = tf.nn.relu(left[:, :, None] + right[:, None]) * (1 - tf.eye(4))[None, :, :, None]
        plain = tf.reduce_sum(tf.reduce_sum(pairs, axis=(1, 2)) / 12 * upstream)
    for tensor in (left, right):
        np.testing.assert_allclose(tape.gradient(fast, tensor), tape.gradient(plain, tensor), rtol=1e-5, atol=1e-6)


def test_the_factored_pair_convolution_is_that_of_concatenated_features():
    features = normal(2, 3, 2, 2, 5)
    posterior = StaticPosterior(
        static_dim=4, pair_width=6, dense_units=7, initializer="glorot_uniform", initial_stddev=0.7
    )
    posterior.build(features.shape)
    kernel, bias = posterior.pair.kernel, posterior.pair.bias
    bias.assign(normal(12))
    over_both = tf.concat([kernel[..., :6], kernel[..., 6:]], axis=2)  # 3 x 3 x 2K x P
    pairs = []
    for i in range(3):
        for j in range(3):
            if i != j:
                both = tf.concat([features[:, i], features[:, j]], axis=-1)
                pairs.append(tf.nn.relu(tf.nn.conv2d(both, over_both, 1, "SAME") + bias[:6] + bias[6:]))
    expected = tf.reduce_mean(tf.stack(pairs), axis=0)
    for layer in posterior.head:
        expected = layer(expected)
    mean, stddev = posterior(features)
    np.testing.assert_allclose(mean, expected[:, :4], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stddev, tf.nn.softplus(expected[:, 4:]) + MIN_STDDEV, rtol=1e-4)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("num_frames", [2, 5, 16])
def test_static_posterior_does_not_depend_on_the_order_of_frames(num_frames, aggregation):
    features = normal(2, num_frames, 2, 2, 5)
    posterior = StaticPosterior(4, 6, 7, "glorot_uniform", initial_stddev=0.7, aggregation=aggregation)
    posterior.build(features.shape)
    permuted = tf.gather(features, np.random.RandomState(0).permutation(num_frames), axis=1)
    for one, other in zip(posterior(features), posterior(permuted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_normals_are_joined_as_gvae_and_ml_vae_do():
    mean, stddev = tf.constant([[[1.0], [4.0], [-2.0]]]), tf.constant([[[1.0], [0.5], [2.0]]])
    average = networks.average_of_normals(mean, stddev)
    np.testing.assert_allclose(average, [[[1.0]], [[(5.25 / 3) ** 0.5]]], rtol=1e-6)
    # The density that the product of three is proportional to, by numbers.
    points = np.linspace(-20, 20, 400_001)
    density = np.exp(-0.5 * sum(((points - m) / s) ** 2 for m, s in ((1, 1), (4, 0.5), (-2, 2))))
    density /= density.sum()
    first = (points * density).sum()
    product = networks.product_of_normals(mean, stddev)
    np.testing.assert_allclose(product[0], [[first]], rtol=1e-5)
    np.testing.assert_allclose(product[1], [[np.sqrt(((points - first) ** 2 * density).sum())]], rtol=1e-5)


@pytest.mark.parametrize("aggregation", ["pooled", "average", "product"])
def test_without_pairs_two_equal_frames_are_as_one(aggregation):
    frame = normal(2, 1, 2, 2, 5)
    posterior = StaticPosterior(4, 6, 7, "glorot_uniform", initial_stddev=0.7, aggregation=aggregation)
    posterior.build(frame.shape)
    (mean, stddev), (mean_of_two, stddev_of_two) = posterior(frame), posterior(tf.repeat(frame, 2, axis=1))
    np.testing.assert_allclose(mean, mean_of_two, rtol=1e-5, atol=1e-6)
    narrower = np.sqrt(2) if aggregation == "product" else 1
    np.testing.assert_allclose(stddev, stddev_of_two * narrower, rtol=1e-5)


def test_pooled_features_are_the_mean_over_frames_of_a_layer_of_each():
    features = normal(2, 3, 2, 2, 5)
    posterior = StaticPosterior(4, 6, 7, "glorot_uniform", initial_stddev=0.7, aggregation="pooled")
    posterior.build(features.shape)
    assert posterior.pair.kernel.shape == (3, 3, 5, 6)
    expected = tf.reduce_mean(tf.stack([tf.nn.relu(posterior.pair(features[:, i])) for i in range(3)]), axis=0)
    for layer in posterior.head:
        expected = layer(expected)
    np.testing.assert_allclose(posterior(features)[0], expected[:, :4], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("aggregation", ["pairs", "pooled", "average"])
def test_the_shortcut_to_f_is_a_dense_layer_over_the_mean_of_the_pixels(aggregation):
    features = normal(2, 3, 2, 2, 5 + 3)
    posterior = StaticPosterior(4, 6, 7, "glorot_uniform", 0.7, aggregation, pixel_channels=3)
    posterior.build(features.shape)
    assert posterior.pair.kernel.shape[2] == 5
    kernel = posterior.pixel_shortcut.kernel
    kernel.assign(normal(*kernel.shape))
    mean, _ = posterior(features)
    added = (tf.reshape(tf.reduce_mean(features[..., 5:], axis=1), [2, 12]) @ kernel)[:, :4]
    kernel.assign(tf.zeros(kernel.shape))
    np.testing.assert_allclose(mean, posterior(features)[0] + added, rtol=1e-4, atol=1e-5)


def test_pixels_follow_the_features_of_convolutions_and_tell_z_nothing():
    frames = normal(2, 3, 32, 16, 3)
    encoder = FrameEncoder(5, "glorot_uniform", pixels=True)
    encoder.build(frames.shape)
    features = encoder(frames)
    pixels = num_pixel_channels(3)
    assert features.shape == (2, 3, 2, 1, 5 + pixels) and pixels == 3 * 8 * 8
    blocks = tf.reshape(features[..., 5:], [2, 3, 2, 1, 8, 8, 3])  # of 8 x 8 means of 2 x 2 pixels
    means = tf.reduce_mean(tf.reshape(frames, [2, 3, 2, 8, 2, 1, 8, 2, 3]), axis=(4, 7))
    np.testing.assert_allclose(blocks, tf.transpose(means, [0, 1, 2, 4, 3, 5, 6]) - 0.5, rtol=1e-5, atol=1e-6)
    posterior = DynamicPosterior(2, 6, "glorot_uniform", pixel_channels=pixels)
    posterior.build(features.shape, (2, 4))
    other = tf.concat([features[..., :5], 1 + features[..., 5:]], axis=-1)
    np.testing.assert_array_equal(posterior(features, normal(2, 4))[0], posterior(other, normal(2, 4))[0])


def test_dense_of_frame_and_static_is_dense_of_their_concatenation():
    frame, static = normal(2, 3, 4), normal(2, 5, seed=1)
    layer = DenseOfFrameAndStatic(6, "glorot_uniform", tf.nn.relu)
    layer.build(frame.shape, static.shape)
    kernel = tf.concat([layer.of_frame.kernel, layer.of_static.kernel], axis=0)
    both = tf.concat([frame, tf.repeat(static[:, None], 3, axis=1)], axis=-1)
    np.testing.assert_allclose(layer(frame, static), tf.nn.relu(both @ kernel), rtol=1e-5, atol=1e-6)


def test_shapes_of_the_papers_tables():
    assert channels_of_maps(64, 1) == [64] * 4 and channels_of_maps(64, 2) == [64, 32, 16, 8]
    encoder = FrameEncoder(8, "glorot_uniform")
    encoder.build((None, None, 64, 32, 3))
    features = encoder(normal(2, 3, 64, 32, 3))
    assert features.shape == (2, 3, 4, 2, 8)
    posterior = DynamicPosterior(dynamic_dim=2, dense_units=16, initializer="glorot_uniform")
    posterior.build(features.shape, (2, 5))
    mean, stddev = posterior(features, normal(2, 5))
    assert mean.shape == stddev.shape == (2, 3, 2)
    prior = DynamicPrior(dynamic_dim=2, dense_units=16, initializer="glorot_uniform")
    prior.build((2, 5))
    assert prior(normal(2, 5))[0].shape == (2, 2)
    decoder = Decoder((64, 32, 3), width=8, dense_units=16, initializer="glorot_uniform")
    decoder.build((2, 5), (2, 3, 2))
    assert decoder(normal(2, 5), mean).shape == (2, 3, 64, 32, 3)


def test_the_decoder_starts_from_the_product_of_where_and_what():
    decoder = Decoder((32, 16, 1), width=5, dense_units=6, initializer="glorot_uniform")
    decoder.build((2, 4), (2, 3, 2))
    static, dynamic = normal(2, 4), normal(2, 3, 2, seed=1)
    where = decoder.where[1](decoder.where[0](decoder.first(dynamic, static))).numpy().reshape(2, 3, 2, RANK)
    what = decoder.what(static).numpy().reshape(2, RANK, 5)
    start = np.einsum("bnpr,brk->bnpk", where, what).reshape(6, 2, 1, 5)
    logits = tf.constant(np.where(start > 0, start, 0.2 * start))
    for deconv in decoder.deconvs:
        logits = deconv(logits)
    found = decoder(static, dynamic)
    np.testing.assert_allclose(found, tf.reshape(logits, found.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("leaky", [False, True])
def test_leaky_hidden_layers_that_are_off_still_hear_of_z(leaky):
    decoder = Decoder((16, 16, 3), width=5, dense_units=6, initializer="glorot_uniform", leaky=leaky)
    decoder.build((None, 4), (None, None, 2))
    decoder.first.of_frame.bias.assign(tf.fill([6], -100.0))
    dynamic = tf.ones([1, 3, 2])
    with tf.GradientTape() as tape:
        tape.watch(dynamic)
        logits = decoder(tf.ones([1, 4]), dynamic)
    assert (tf.reduce_max(tf.abs(tape.gradient(logits, dynamic))) > 0) == leaky


def test_shortcuts_add_dense_layers_of_f_and_of_the_hidden_layer_to_the_logits():
    decoder = Decoder((16, 16, 3), width=5, dense_units=6, initializer="glorot_uniform", shortcuts=True)
    decoder.build((2, 4), (2, 3, 2))
    static, dynamic = normal(2, 4), normal(2, 3, 2, seed=1)
    kernels = [shortcut.kernel for shortcut in decoder.shortcuts]
    for kernel in kernels:
        kernel.assign(normal(*kernel.shape))
    hidden = decoder.where[0](decoder.first(dynamic, static))
    added = tf.reshape((static @ kernels[0])[:, None] + hidden @ kernels[1], [2, 3, 16, 16, 3])
    found = decoder(static, dynamic)
    for kernel in kernels:
        kernel.assign(tf.zeros(kernel.shape))
    np.testing.assert_allclose(found, decoder(static, dynamic) + added, rtol=1e-4, atol=1e-5)


def test_scales_are_bounded_away_from_zero_and_grow_slowly():
    _, stddev = networks.mean_and_stddev(tf.constant([[0.0, -100.0], [0.0, 100.0]]))
    assert float(stddev[0, 0]) == pytest.approx(MIN_STDDEV, rel=1e-3)
    assert float(stddev[1, 0]) == pytest.approx(100.0, rel=1e-3)


@pytest.mark.parametrize("initial_stddev", [0.1, 0.7])
def test_the_static_posterior_starts_as_wide_as_asked(initial_stddev):
    posterior = StaticPosterior(4, pair_width=6, dense_units=7, initializer="he_normal", initial_stddev=initial_stddev)
    posterior.build((2, 3, 2, 2, 5))
    mean, stddev = posterior(tf.zeros([2, 3, 2, 2, 5]))
    np.testing.assert_allclose(mean, np.zeros((2, 4)), atol=1e-6)
    np.testing.assert_allclose(stddev, np.full((2, 4), initial_stddev), rtol=1e-5)


def test_leaky_relu_and_its_gradient():
    inputs = tf.constant([-2.0, -0.5, 0.5, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = networks.leaky_relu(inputs)
    np.testing.assert_allclose(outputs, [-0.4, -0.1, 0.5, 2.0])
    np.testing.assert_allclose(tape.gradient(outputs, inputs), [0.2, 0.2, 1.0, 1.0])


@pytest.mark.parametrize("num_rows", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_chunks_are_the_whole(num_rows):
    left, right = (tf.random.stateless_normal([num_rows, 3], [seed, 0]) for seed in range(2))
    sizes = []

    def product(left, right):
        sizes.append(len(left))
        return left * right

    np.testing.assert_array_equal(in_chunks(product, [left, right], tf.TensorSpec([None, 3])), left * right)
    assert max(sizes) <= CHUNK
    assert sum(sizes) == num_rows
