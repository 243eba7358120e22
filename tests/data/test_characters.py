import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ddr_tf.data.characters import Characters, attribute_values, composite_over, split_identities


@pytest.fixture
def layers():
    layers = np.random.RandomState(0).randint(0, 256, (4, 6, 3, 16, 16, 4)).astype(np.uint8)
    layers[..., 3] = np.where(layers[..., 3] < 100, 0, layers[..., 3])
    layers[-1, ..., 3] = np.where(layers[-1, ..., 3] < 128, 0, 255)
    return layers


@pytest.fixture
def characters(layers):
    return Characters("test", ("a", "b", "c", "d"), layers, {"pose": np.arange(3)})


def test_composite_agrees_with_pillow(layers):
    below = np.random.RandomState(1).randint(0, 256, (16, 16, 3)).astype(np.uint8)
    expected = Image.alpha_composite(Image.fromarray(below).convert("RGBA"), Image.fromarray(layers[0, 0, 0]))
    np.testing.assert_array_equal(composite_over(below, layers[0, 0, 0]), np.array(expected)[..., :3])


def test_frames_are_the_composite_of_the_four_layers_in_order(characters, layers):
    identity = np.array([[0, 1295], [433, 7]])
    pose = np.array([[0, 2], [1, 1]])
    frames = characters.frames(tf.constant(identity, tf.int32), tf.constant(pose, tf.int32)).numpy()
    for index in np.ndindex(2, 2):
        expected = np.zeros((16, 16, 3), np.uint8)
        for layer, value in zip(layers, attribute_values(identity[index]), strict=True):
            expected = composite_over(expected, layer[value, pose[index]])
        np.testing.assert_array_equal(frames[index], expected)


def test_a_swap_is_the_other_identity_in_the_same_pose(characters):
    truth = characters.swap_truth(np.array([3, 4]), np.array([8, 9]), np.array([1, 2]))
    expected = characters.frames(tf.constant([3, 4]), tf.constant([1, 2]))
    np.testing.assert_array_equal(truth, expected)


def test_identity_numbers_and_labels(characters):
    assert attribute_values(np.array(((1 * 6 + 2) * 6 + 3) * 6 + 4)).tolist() == [1, 2, 3, 4]
    assert characters.static_labels["a"][1295] == 5
    assert characters.static_labels["d"][8] == 2
    assert characters.num_sequences == 1296


def test_the_split_is_that_of_the_evaluation():
    splits = split_identities()
    order = np.random.RandomState(423).permutation(1296)
    np.testing.assert_array_equal(splits["train"], order[:1000])
    np.testing.assert_array_equal(splits["held_out"], order[1000:])


def test_a_translucent_top_layer_is_refused(layers):
    layers[-1, 0, 0, 0, 0, 3] = 100
    with pytest.raises(ValueError, match="opaque or absent"):
        Characters("test", ("a", "b", "c", "d"), layers, {})
