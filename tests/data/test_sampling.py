import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.data.sampling import draw_frames, sample_numbers


def which(frames):
    """Numbers of sequences and of frames, from the first pixel of frames of `RandomDataset`."""
    tag = frames[:, :, 0, 0, 0]
    return tag // 16, tag % 16


def take(stream, count):
    return np.stack(list(stream.take(count).as_numpy_iterator()))


def test_batches_have_distinct_frames_of_one_sequence_each(random_sequences):
    batches = take(random_sequences.batches("train", 4, 3, seed=1), 30)
    assert batches.dtype == np.uint8
    assert batches.shape == (30, 4, 3, 16, 16, 1)
    for batch in batches:
        sequence, frame = which(batch)
        assert (sequence == sequence[:, :1]).all()
        for row in frame:
            assert len(set(row)) == 3
        np.testing.assert_array_equal(batch, random_sequences.bank[sequence, frame])


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_splits_never_mix_in_batches(random_sequences, split):
    batches = take(random_sequences.batches(split, 8, 3, seed=0), 50)
    seen = {int(number) for batch in batches for number in which(batch)[0].ravel()}
    assert seen == set(random_sequences.splits[split])


def test_every_frame_and_every_order_is_as_likely():
    counts = tf.constant([4, 4])
    draws = [sample_numbers(tf.constant([0, i]), tf.constant([7, 9]), counts, 100, 2) for i in range(40)]
    sequence = np.concatenate([draw[0][:, 0] for draw in draws])
    assert abs((sequence == 7).mean() - 0.5) < 0.03
    pairs = np.concatenate([draw[1] for draw in draws])
    numbers, counts = np.unique(pairs @ [4, 1], return_counts=True)
    assert len(numbers) == 12  # ordered pairs of distinct frames
    np.testing.assert_allclose(counts / counts.sum(), 1 / 12, atol=0.02)


def test_a_stream_restarted_at_a_step_is_bit_identical(random_sequences):
    whole = take(random_sequences.batches("train", 4, 3, seed=5), 12)
    rest = take(random_sequences.batches("train", 4, 3, seed=5, start_step=7), 5)
    np.testing.assert_array_equal(whole[7:], rest)


def test_seeds_and_steps_differ(random_sequences):
    first, other = (take(random_sequences.batches("train", 4, 3, seed=seed), 2) for seed in (0, 1))
    assert (first[0] != other[0]).any()
    assert (first[0] != first[1]).any()


def test_fewer_frames_than_asked_for_are_repeated_as_evenly_as_can_be():
    _, frame = sample_numbers(tf.constant([0, 0]), tf.constant([0]), tf.constant([3]), 16, 8)
    for row in frame.numpy():
        assert sorted(np.bincount(row)) == [2, 3, 3]


def test_a_sequence_of_one_frame_is_that_frame_repeated():
    _, frame = sample_numbers(tf.constant([0, 0]), tf.constant([0, 1]), tf.constant([1, 5]), 32, 2)
    assert any((row == 0).all() for row in frame.numpy())
    assert any(row[0] != row[1] for row in frame.numpy())


def test_workers_get_parts_of_the_same_batches(random_sequences):
    whole = take(random_sequences.batches("train", 6, 3, seed=5), 4)
    parts = [take(random_sequences.batches("train", 6, 3, seed=5, worker=i, num_workers=3), 4) for i in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_half_of_the_sequences_begin_with_neighbours():
    counts = tf.constant([20] * 400 + [2] * 10)
    frame = draw_frames(tf.constant([0, 3]), counts, 6, num_neighbours=3).numpy()
    long, short = frame[:400], frame[400:]
    clips = (np.diff(long[:, :3]) == 1).all(axis=1)
    assert 0.4 < clips.mean() < 0.6
    assert long[clips, 0].min() == 0 and long[clips, 2].max() == 19
    assert (np.diff(long[:, 3:]) == 1).all(axis=1).mean() < 0.1
    assert all(len(set(row)) == 6 for row in long[~clips])
    assert ((short >= 0) & (short < 2)).all()


def test_all_frames_may_be_neighbours():
    frame = draw_frames(tf.constant([0, 3]), tf.fill([40], 20), 3, num_neighbours=9).numpy()
    assert frame.shape == (40, 3)
    assert 0.2 < (np.diff(frame) == 1).all(axis=1).mean() < 0.8


def test_without_neighbours_frames_are_drawn_as_before():
    counts = tf.constant([5, 9])
    draws = [draw_frames(tf.constant([0, 3]), counts, 4, *more).numpy() for more in ((), (0,))]
    np.testing.assert_array_equal(*draws)
