import keras
import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.optimizers import FusedAdam


@pytest.mark.parametrize("replicas", [1, 2])
def test_updates_are_those_of_adam(replicas):
    """On every device, with a rate that changes, over steps enough for the corrections of the moments to matter."""
    random = np.random.RandomState(0)
    start, gradients = random.normal(size=(3, 4)).astype(np.float32), random.normal(size=(20, 3, 4)).astype(np.float32)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{device}" for device in range(replicas)])

    def updated(kind):
        with strategy.scope():
            weight = keras.Variable(start)
            optimizer = kind(keras.optimizers.schedules.CosineDecay(0.1, 20, 0.01))
            optimizer.build([weight])

        @tf.function
        def update(gradient):
            strategy.run(lambda: optimizer.apply([gradient / replicas], [weight]))

        for gradient in gradients:
            update(tf.constant(gradient))
        for copy in strategy.experimental_local_results(weight.value):
            np.testing.assert_array_equal(copy, weight.numpy())
        return [variable.numpy() for variable in (weight, *optimizer.variables)]

    found = updated(keras.optimizers.Adam), updated(FusedAdam)
    for expected, fused in zip(*found, strict=True):
        np.testing.assert_allclose(fused, expected, rtol=1e-5, atol=1e-7)


def test_it_is_saved_and_loaded_as_itself():
    optimizer = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(FusedAdam(1e-3, beta_2=0.9)))
    assert isinstance(optimizer, FusedAdam) and optimizer.beta_2 == 0.9
