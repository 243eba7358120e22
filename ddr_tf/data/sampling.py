"""N random distinct frames of random sequences, as a pure function of a seed."""

import tensorflow as tf


@tf.autograph.experimental.do_not_convert  # it has no Python to convert, and to look for some takes half a second
def sample_numbers(
    seed: tf.Tensor,
    numbers: tf.Tensor,
    frame_counts: tf.Tensor,
    batch_size: int,
    num_frames: int,
    num_neighbours: int = 0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws sequences uniformly with replacement, and frames of each as `draw_frames` does.

    Args:
      seed: int32 `[2]`; equal seeds give equal draws.
      numbers: int32 `[S]`, numbers of the sequences to draw from.
      frame_counts: int32 `[S]`, their numbers of frames.
      batch_size: B.
      num_frames: N.
      num_neighbours: As of `draw_frames`.

    Returns:
      int32 `[B, N]` numbers of sequences, the same along N, and int32 `[B, N]` numbers of frames, in random order.
    """
    sequence_seed, frame_seed = tf.unstack(tf.random.split(seed, 2))
    drawn = tf.random.stateless_uniform([batch_size], sequence_seed, maxval=tf.size(numbers), dtype=tf.int32)
    frame = draw_frames(frame_seed, tf.gather(frame_counts, drawn), num_frames, num_neighbours)
    return tf.tile(tf.gather(numbers, drawn)[:, None], [1, num_frames]), frame


def draw_frames(seed: tf.Tensor, counts: tf.Tensor, num_frames: int, num_neighbours: int = 0) -> tf.Tensor:
    """Draws frames of sequences uniformly without replacement.

    A sequence of T < N frames gives every frame N // T times, and N % T of them, at random, once more.

    Args:
      seed: int32 `[2]`.
      counts: int32 `[B]`, the numbers of frames, T.
      num_frames: N.
      num_neighbours: In half of the sequences, at random, so many frames, or all if N is less, are consecutive, and
        come first; the others are drawn from all frames.

    Returns:
      int32 `[B, N]`, numbers of frames in random order.
    """
    drawn = _draw_at_random(seed, counts, num_frames)
    num_neighbours = min(num_neighbours, num_frames)
    if not num_neighbours:
        return drawn
    start, coin = tf.unstack(tf.random.stateless_uniform([2, tf.size(counts)], tf.random.fold_in(seed, 1)))
    last_start = tf.maximum(counts - num_neighbours, 0)
    first = tf.cast(start * tf.cast(last_start + 1, tf.float32), tf.int32)
    neighbours = (first[:, None] + tf.range(num_neighbours)) % counts[:, None]
    return tf.where(coin[:, None] < 0.5, tf.concat([neighbours, drawn[:, num_neighbours:]], axis=1), drawn)


def _draw_at_random(seed: tf.Tensor, counts: tf.Tensor, num_frames: int) -> tf.Tensor:
    """`draw_frames` without neighbours."""
    most = tf.reduce_max(counts)
    keys = tf.random.stateless_uniform([tf.size(counts), most], seed)
    absent = tf.range(most) >= counts[:, None]
    # The beginning of a random permutation of 0..T-1, then what is absent.
    order = tf.math.top_k(tf.where(absent, -2.0, -keys), tf.minimum(num_frames, most)).indices
    return tf.gather(order, tf.range(num_frames) % counts[:, None], batch_dims=1)


def stream_seed(seed: int, split: str) -> tf.Tensor:
    """int32 `[2]`: the low 31 bits and a constant of the split's own, so that the splits' draws are unrelated."""
    return tf.constant([seed & 0x7FFFFFFF, sum(split.encode())], tf.int32)
