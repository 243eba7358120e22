import keras
import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.errors import UserError
from ddr_tf.training.optimizers import Adam, Muon

SHAPES = ((3, 4), (4, 4, 9, 16))


def updated(kind, replicas):
    """Weights and moments after 20 updates with a rate that changes, the same for every number of devices."""
    random = np.random.RandomState(0)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{device}" for device in range(replicas)])
    with strategy.scope():
        weights = [keras.Variable(random.normal(size=shape).astype(np.float32)) for shape in SHAPES]
        optimizer = kind(keras.optimizers.schedules.CosineDecay(0.1, 20, 0.01))
        optimizer.build(weights)

    @tf.function
    def update(gradients):
        strategy.run(lambda: optimizer.apply([gradient / replicas for gradient in gradients], weights))

    for _ in range(20):
        update([tf.constant(random.normal(size=shape).astype(np.float32)) for shape in SHAPES])
    for weight in weights:
        for copy in strategy.experimental_local_results(weight.value):
            np.testing.assert_array_equal(copy, weight.numpy())
    return [variable.numpy() for variable in (*weights, *optimizer.variables)]


@pytest.mark.parametrize(
    ("plain", "other"),
    [((keras.optimizers.Adam, 1), (Adam, 1)), ((Adam, 1), (Adam, 2)), ((Muon, 1), (Muon, 2))],
    ids=["Keras's Adam", "Adam on two devices", "Muon on two devices"],
)
def test_updates_are_the_same(plain, other):
    for expected, found in zip(updated(*plain), updated(*other), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 4, 9, 16), (144, 16)])
def test_muon_gives_kernels_an_orthogonal_update_and_the_rest_adams(shape):
    random = np.random.RandomState(0)
    shapes = (shape, (4, 4, 3, 16), (2, 16), (16,))  # the others: of frames, of z, a bias
    weights = [keras.Variable(random.normal(size=shape).astype(np.float32)) for shape in shapes]
    gradients = [tf.constant(random.normal(size=shape).astype(np.float32)) for shape in shapes]
    before = [weight.numpy() for weight in weights]
    optimizer = Muon(1e-2)
    optimizer.build(weights)
    optimizer.apply(gradients, weights)
    change = [(weight.numpy() - start) / 1e-2 for weight, start in zip(weights, before, strict=True)]

    update = change[0].reshape(144, 16)
    left, _, right = np.linalg.svd(gradients[0].numpy().reshape(144, 16), full_matrices=False)
    nearest = left @ right
    scale = 0.2 * np.sqrt(144)
    singular_values = np.linalg.svd(update / scale, compute_uv=False)
    assert singular_values.min() > 0.6 and singular_values.max() < 1.3  # what a few iterations come to
    assert np.sum(-update / scale * nearest) / np.linalg.norm(update / scale) / np.linalg.norm(nearest) > 0.97
    assert 0.1 < np.sqrt(np.mean(update**2)) < 0.25  # Adam's usual size
    for first, gradient in zip(change[1:], gradients[1:], strict=True):
        np.testing.assert_allclose(first, -np.sign(gradient), rtol=1e-2)  # Adam's first update


@pytest.mark.parametrize("shape", [(4, 4, 9, 16), (300, 20), (20, 300), (24, 24)])
@pytest.mark.parametrize("rank", [1, 5, 24])
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_muon_s_iterations_give_what_keras_s_give(shape, rank, steps):
    random = np.random.RandomState(0)
    rows, columns = np.prod(shape[:-1]), shape[-1]
    matrix = random.normal(size=(rows, rank)) @ random.normal(size=(rank, columns))
    matrix = (matrix + 1e-4 * random.normal(size=(rows, columns))).astype(np.float32)
    plain = keras.optimizers.Muon().zeropower_via_newtonschulz5(tf.constant(matrix), steps)
    found = Muon(1e-3).zeropower_via_newtonschulz5(tf.reshape(matrix, shape), steps)
    np.testing.assert_allclose(found, 0.2 * max(rows, columns) ** 0.5 * tf.reshape(plain, shape), atol=1e-4)


def test_muon_leaves_what_has_no_gradient():
    np.testing.assert_array_equal(Muon(1e-3).zeropower_via_newtonschulz5(tf.zeros([9, 12]), 3), np.zeros((9, 12)))


@pytest.mark.parametrize("shape", [(4, 4, 9, 16), (20, 300)])
def test_muon_s_iterations_in_bfloat16_are_nearly_those_in_float32(shape):
    matrix = tf.constant(np.random.RandomState(0).normal(size=shape).astype(np.float32))
    exact, rounded = (
        Muon(1e-3, ns_dtype=dtype).zeropower_via_newtonschulz5(matrix, 3).numpy() for dtype in ("float32", "bfloat16")
    )
    assert rounded.dtype == np.float32
    # A bfloat16 keeps 8 bits, and the iterations amplify what rounding changes.
    assert np.linalg.norm(rounded - exact) < 0.08 * np.linalg.norm(exact)


def test_muon_s_iterations_have_a_dtype():
    with pytest.raises(UserError, match=r"Muon\.ns_dtype must be float32 or bfloat16, got 'float16'"):
        Muon(1e-3, ns_dtype="float16")


@pytest.mark.parametrize("steps", [0, 6])
def test_muon_takes_a_few_iterations(steps):
    with pytest.raises(UserError, match=rf"Muon\.ns_steps must be 1 to 5, got {steps}"):
        Muon(1e-3, ns_steps=steps)


@pytest.mark.parametrize("kind", [Adam, Muon])
def test_optimizers_are_saved_and_loaded_as_themselves(kind):
    optimizer = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(kind(1e-3, epsilon=1e-4)))
    assert isinstance(optimizer, kind) and optimizer.epsilon == 1e-4 and optimizer.weight_decay is None
