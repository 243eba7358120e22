"""N random distinct frames of random sequences -> batches, as a pure function of (seed, step)."""

import numpy as np
import tensorflow as tf

from ddr_tf.data.sequences import Sequences


def sample_numbers(
    seed: tf.Tensor, numbers: tf.Tensor, frame_counts: tf.Tensor, batch_size: int, num_frames: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws sequences uniformly with replacement, and frames of each uniformly without.

    A sequence of T < N frames gives every frame N // T times, and N % T of them, at random, once more.

    Args:
      seed: int32 `[2]`; equal seeds give equal draws.
      numbers: int32 `[S]`, numbers of the sequences to draw from.
      frame_counts: int32 `[S]`, their numbers of frames.
      batch_size: B.
      num_frames: N.

    Returns:
      int32 `[B, N]` numbers of sequences, the same along N, and int32 `[B, N]` numbers of frames, in random order.
    """
    sequence_seed, frame_seed = tf.unstack(tf.random.split(seed, 2))
    drawn = tf.random.stateless_uniform([batch_size], sequence_seed, maxval=tf.size(numbers), dtype=tf.int32)
    counts = tf.gather(frame_counts, drawn)
    keys = tf.random.stateless_uniform([batch_size, tf.reduce_max(frame_counts)], frame_seed)
    absent = tf.range(tf.reduce_max(frame_counts)) >= counts[:, None]
    order = tf.argsort(tf.where(absent, 2.0, keys), axis=-1)  # a random permutation of 0..T-1, then what is absent
    frame = tf.gather(order, tf.range(num_frames) % counts[:, None], batch_dims=1)
    return tf.tile(tf.gather(numbers, drawn)[:, None], [1, num_frames]), frame


def sample_batches(
    sequences: Sequences, split: str, batch_size: int, num_frames: int, seed: int, start_step: int = 0
) -> tf.data.Dataset:
    """An endless stream of batches; element k depends on (seed, start_step + k) alone.

    So a stream that is started at step k continues one that was interrupted there, bit for bit.

    Args:
      sequences: The dataset.
      split: "train" or "held_out".
      batch_size: B, at least 1.
      num_frames: N, at least 1.
      seed: Any int.
      start_step: Step of the first batch.

    Returns:
      uint8 `[B, N, H, W, C]`, prefetched.
    """
    numbers = sequences.splits[split]
    frame_counts = tf.constant(sequences.frame_counts[numbers])
    numbers = tf.constant(numbers)
    # Low 32 bits and a constant of the split's own, so that the splits' draws are unrelated.
    stream_seed = tf.constant([seed & 0x7FFFFFFF, sum(split.encode())], tf.int32)

    def batch(step: tf.Tensor) -> tf.Tensor:
        step_seed = tf.random.fold_in(stream_seed, step)
        frames = sequences.frames(*sample_numbers(step_seed, numbers, frame_counts, batch_size, num_frames))
        return tf.ensure_shape(frames, (batch_size, num_frames, *sequences.frame_shape))

    steps = tf.data.Dataset.counter(np.int64(start_step))
    return steps.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)
