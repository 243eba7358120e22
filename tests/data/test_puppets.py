import numpy as np
import pytest

from ddr_tf.data.puppets import ARMS_RANGE, LEAN_RANGE, Puppets
from ddr_tf.errors import UserError


@pytest.fixture(scope="module")
def puppets():
    return Puppets(size=32, num_poses=5)


def test_render_is_the_true_frame_of_every_sequence(puppets):
    for identity, number in ((0, 0), (77, 3), (1295, 4)):
        frame = puppets.swap_truth(np.array(identity), np.array(0), np.array(number))
        np.testing.assert_array_equal(puppets.render(identity, puppets.poses[number]), frame)


def test_poses_are_known_angles(puppets):
    assert ((puppets.poses >= [ARMS_RANGE[0], LEAN_RANGE[0]]) & (puppets.poses <= [ARMS_RANGE[1], LEAN_RANGE[1]])).all()
    np.testing.assert_array_equal(puppets.frame_labels["lean"][: len(puppets.poses)], puppets.poses[:, 1])


def test_each_angle_moves_the_puppet_and_continuously(puppets):
    still = puppets.render(100, np.array([70.0, 0.0])).astype(int)
    for step in ([20.0, 0.0], [0.0, 10.0]):
        assert np.abs(puppets.render(100, np.array([70.0, 0.0]) + step) - still).sum() > 5000
    assert np.abs(puppets.render(100, np.array([70.5, 0.0])) - still).mean() < 2


def test_leaning_the_other_way_is_the_mirror_image(puppets):
    left, right = (puppets.render(0, np.array([40.0, lean])).astype(int) for lean in (-20.0, 20.0))
    assert np.abs(left[:, ::-1] - right).mean() < 6


def test_every_attribute_value_looks_different(puppets):
    pose = puppets.poses[0]
    frames = [puppets.render(value * place, pose) for place in (1, 6, 36, 216) for value in range(6)]
    assert len({frame.tobytes() for frame in frames}) == 24 - 3  # value 0 of all attributes is identity 0


def test_any_size_and_deterministic():
    frames = [Puppets(size=64, num_poses=2).render(5, np.array([30.0, 5.0])) for _ in range(2)]
    assert frames[0].shape == (64, 64, 3)
    np.testing.assert_array_equal(*frames)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 40}, "Puppets.size"),
        ({"size": "32"}, "Puppets.size must be .* got '32'"),
        ({"num_poses": 1}, "num_poses"),
        ({"num_poses": 2.5}, "num_poses must be a whole number"),
    ],
)
def test_impossible_sizes_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Puppets(**arguments)
