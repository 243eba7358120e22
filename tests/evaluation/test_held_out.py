import numpy as np

from conftest import RandomDataset
from ddr_tf.evaluation.held_out import density_transfers, direct_transfer, draw_codes, draw_neighbours, draw_swaps
from evaluation_examples import puppets, tiny_model


def test_swaps_are_of_held_out_sequences_with_the_truth_beside_them():
    swaps = draw_swaps(tiny_model(), puppets(), 0, num_frames=8, num_pairs=64, transfers=direct_transfer)
    assert {*swaps.static_sequence, *swaps.dynamic_sequence} <= set(puppets().splits["held_out"])
    assert (swaps.static_sequence != swaps.dynamic_sequence).all()
    a, pose = swaps.static_sequence[3], swaps.frame[3, 2]
    np.testing.assert_allclose(swaps.truths[0][3, 2], puppets().render(a, puppets().poses[pose]) / 255, atol=1e-6)
    assert all(len(set(row)) == len(row) for row in swaps.frame)


def test_codes_of_a_model_are_of_disjoint_sets_of_the_same_poses():
    model, twenty = tiny_model(), puppets(num_poses=20)
    codes = draw_codes(model, twenty, seed=0, num_frames=8, max_sequences=300)
    assert codes.static.shape == (296, 2, 4)
    assert codes.dynamic.shape == (296, 2, 8, 2)
    assert all(len(set(row)) == 16 for row in codes.frame.reshape(296, 16))
    assert len(np.unique(codes.frame)) == 16
    for number in range(16):
        assert len(np.unique(codes.frame[codes.pose == number])) == 1
    encoded = model.encode(twenty.swap_truth(codes.sequence[5], 0, codes.frame[5, 1])[None])
    np.testing.assert_allclose(codes.static[5, 1], encoded["static_mean"][0], atol=1e-5)
    np.testing.assert_allclose(codes.dynamic[5, 1], encoded["dynamic_mean"][0], atol=1e-5)


def test_each_transfer_is_decoded_with_f_of_a():
    model = tiny_model()
    swaps = draw_swaps(model, puppets(), 0, num_frames=8, num_pairs=4, transfers=density_transfers(model))
    assert set(swaps.swapped) == {"direct", "relative", "conditioned", "neighbours"}
    alone = draw_swaps(model, puppets(), 0, num_frames=8, num_pairs=4, transfers=direct_transfer)
    np.testing.assert_array_equal(alone.swapped["direct"], swaps.swapped["direct"])


def test_neighbours_are_consecutive_frames():
    sequences = RandomDataset(frame_counts=(3, 8, 20), held_out=1)
    frames = draw_neighbours(np.random.RandomState(0), sequences, np.array([0, 1, 2] * 20), 8)
    assert (frames[1::3] == np.arange(8)).all()
    assert (np.diff(frames[2::3], axis=1) == 1).all() and len(set(frames[2::3, 0])) > 5
    assert (frames[::3] == np.arange(8) % 3).all()
