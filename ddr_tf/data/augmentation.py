"""Augmentation by sequence: a random change that is the same for all frames of a sequence makes a new identity of it.

Two changes of one sequence are two *views*, which differ in what f should hold, and not in what z should. In training z
is found from one view and decoded with f of the other, so that z does not tell of tone, place and shape; nor, where
sequences are blended, of what is the same in all frames of one.
Only training sees them. Ours, not the paper's; as all values are a function of a seed, runs resume bit for bit.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ddr_tf.config import configurable
from ddr_tf.data.sampling import stream_seed
from ddr_tf.errors import UserError

GRID = 4  # knots a side of the smooth random fields
MIN_PIXEL = 1e-3  # before a power is taken, whose slope at 0 may be infinite


def augmented(
    batches: tf.data.Dataset,
    augmentation: "Augmentation",
    seed: int,
    start_step: int,
    worker: int = 0,
    num_workers: int = 1,
) -> tf.data.Dataset:
    """The stream of two views of each batch.

    Args:
      batches: uint8 `[B / W, N, H, W, C]`, of one worker.
      augmentation: Makes the views.
      seed: Any int.
      start_step: Step of the first batch.
      worker: Which of the workers this is, from 0.
      num_workers: W.

    Returns:
      uint8 `[B / W, 2, N, H, W, C]`.

    Raises:
      UserError: If sequences are to be blended, and a worker has but one.
    """
    key = stream_seed(seed, "augmentation")
    of_worker = batches.element_spec.shape[0]
    if augmentation.settings["blend"] and of_worker < 2:
        raise UserError(
            "Augmentation.blend needs two sequences of a batch on each machine: raise train.batch_size, or set it to 0."
        )

    def of_step(step: tf.Tensor, frames: tf.Tensor) -> tf.Tensor:
        seed_of_step = tf.random.fold_in(key, step)
        return tf.stack(augmentation.views(frames, seed_of_step, of_worker * num_workers, of_worker * worker), axis=1)

    pairs = tf.data.Dataset.zip(tf.data.Dataset.counter(np.int64(start_step)), batches)
    return pairs.map(of_step, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


@configurable()
class Augmentation:
    """Random changes of sequences. Each setting but `flip` is a standard deviation; at 0, that change is left out.

    Attributes:
      settings: Name of a setting -> its value.
    """

    def __init__(
        self,
        flip: bool = True,
        shift: float = 0.02,
        scale: float = 0.04,
        rotation: float = 0.04,
        warp: float = 0.015,
        gamma: float = 0.25,
        contrast: float = 0.2,
        brightness: float = 0.08,
        tone: float = 0.15,
        blend: float = 0.0,
    ) -> None:
        """Keeps the settings.

        Args:
          flip: Whether half of the sequences are mirrored, in both views alike: left and right may matter to z.
          shift: Of the place, as a fraction of the side of a frame, in each direction.
          scale: Of the logarithm of the size, in each direction.
          rotation: In radians.
          warp: Of a smooth field of displacements, as a fraction of the side.
          gamma: Of the logarithm of the exponent of all pixels.
          contrast: Of the logarithm of the factor by which pixels differ from mid-grey.
          brightness: Of what is added to all pixels, in [0, 1].
          tone: Of the logarithm of a smooth field of such factors, one a channel: skin, hue, local light.
          blend: Of how far a sequence moves to another, 1 being all the way; see `blended`. For sequences that are
            aligned, such as faces.

        Raises:
          UserError: If a setting is negative or not finite.
        """
        self._stddevs = dict(shift=shift, scale=scale, rotation=rotation, warp=warp)
        self._stddevs |= dict(gamma=gamma, contrast=contrast, brightness=brightness, tone=tone)
        self._blend = blend
        self.settings = {"flip": flip} | self._stddevs | {"blend": blend}
        for name, stddev in (self._stddevs | {"blend": blend}).items():
            if not 0 <= stddev < math.inf:
                raise UserError(f"Augmentation.{name} must be 0 or more, got {stddev}.")

    def views(self, frames: tf.Tensor, seed: tf.Tensor, batch_size: int, first: int = 0) -> tuple[tf.Tensor, tf.Tensor]:
        """Two views of some sequences of a batch.

        Args:
          frames: uint8 `[b, N, H, W, C]`.
          seed: int32 `[2]`; of the whole batch.
          batch_size: B, sequences of the whole batch, over all workers.
          first: Which of them is the first of `frames`. Only these are blended with one another.

        Returns:
          2 x uint8 `[b, N, H, W, C]`.
        """
        mirror_seed, *view_seeds = tf.unstack(tf.random.split(seed, 3))
        frames = tf.cast(frames, tf.float32) / 255
        if self.settings["flip"]:
            mirrored = _rows(tf.random.stateless_uniform([batch_size, 1, 1, 1, 1], mirror_seed), frames, first) < 0.5
            frames = tf.where(mirrored, frames[:, :, :, ::-1], frames)
        both = (frames, frames)
        if self._blend:
            parts = self._blend * tf.random.stateless_normal([batch_size, 2], tf.random.fold_in(seed, 0))
            both = blended(frames, _rows(parts, frames, first))
        one, other = (self._view(*given, batch_size, first) for given in zip(both, view_seeds, strict=True))
        return one, other

    def _view(self, frames: tf.Tensor, seed: tf.Tensor, batch_size: int, first: int) -> tf.Tensor:
        """float32 in [0, 1] -> uint8, both `[b, N, H, W, C]`."""
        seeds = tf.unstack(tf.random.split(seed, len(self._stddevs)))

        def draw(name: str, *shape: int) -> tf.Tensor:
            """Normal numbers for each of the sequences: float32 `[b, *shape]`."""
            number = list(self._stddevs).index(name)
            normal = tf.random.stateless_normal([batch_size, *shape], seeds[number])
            return self._stddevs[name] * _rows(normal, frames, first)

        height, width, channels = frames.shape[-3:]
        y, x = _places(draw, height, width)
        frames = resampled(frames, y, x)
        frames = tf.pow(tf.maximum(frames, MIN_PIXEL), tf.exp(draw("gamma", 1, 1, 1, 1)))
        factor = draw("contrast", 1, 1, 1, 1) + smooth(draw("tone", GRID, GRID, channels), height, width)[:, None]
        frames = (frames - 0.5) * tf.exp(factor) + 0.5 + draw("brightness", 1, 1, 1, 1)
        return tf.cast(tf.round(255 * tf.clip_by_value(frames, 0.0, 1.0)), tf.uint8)


def blended(frames: tf.Tensor, parts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Sequences that move part of the way to, or away from, two others: the frames of each about another mean.

    What all frames of a sequence show is in their mean, so each becomes a new identity in the poses of the old one.

    Args:
      frames: float32 `[b, N, H, W, C]`.
      parts: float32 `[b, 2]`: how far to go to the sequence before, and to the one after, in a ring; 1: all the way.

    Returns:
      2 x float32 `[b, N, H, W, C]`.
    """
    mean = tf.reduce_mean(frames, axis=1, keepdims=True)
    steps = (tf.roll(mean, shift, axis=0) - mean for shift in (1, -1))
    before, after = (
        frames + part[:, None, None, None, None] * step
        for part, step in zip(tf.unstack(parts, axis=1), steps, strict=True)
    )
    return before, after


def _rows(values: tf.Tensor, frames: tf.Tensor, first: int) -> tf.Tensor:
    """What is drawn for a whole batch -> for those of its sequences that `frames` has."""
    return values[first : first + tf.shape(frames)[0]]


def smooth(knots: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """A field through the values at a few knots: float32 `[b, G, G, D]` -> `[b, H, W, D]`."""
    return tf.image.resize(knots, [height, width], "bicubic")


def _places(draw: Callable[..., tf.Tensor], height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Where each pixel of a view comes from: rows and columns, float32 `[b, H, W]`, pixels."""
    angle = draw("rotation", 1, 1)
    zoom = tf.exp(draw("scale", 2, 1, 1))
    moved = 2 * (
        draw("shift", 2, 1, 1) + tf.transpose(smooth(draw("warp", GRID, GRID, 2), height, width), [0, 3, 1, 2])
    )
    y, x = tf.meshgrid(tf.linspace(-1.0, 1.0, height), tf.linspace(-1.0, 1.0, width), indexing="ij")
    ratio = (width - 1) / (height - 1)  # coordinates are parts of each side, and pixels are what turns
    rows = zoom[:, 0] * (tf.cos(angle) * y - ratio * tf.sin(angle) * x) + moved[:, 0]
    columns = zoom[:, 1] * (tf.sin(angle) / ratio * y + tf.cos(angle) * x) + moved[:, 1]
    return (rows + 1) / 2 * (height - 1), (columns + 1) / 2 * (width - 1)


def resampled(frames: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Frames at other places, bilinearly; beyond an edge they are mirrored.

    Args:
      frames: float32 `[b, N, H, W, C]`.
      y: float32 `[b, H, W]`, rows in pixels.
      x: The same of columns.

    Returns:
      float32 `[b, N, H, W, C]`.
    """
    num_frames, height, width, channels = frames.shape[1:]
    pixels = tf.reshape(tf.transpose(frames, [0, 2, 3, 1, 4]), [-1, height * width, num_frames * channels])
    top, left = _inside(y, height), _inside(x, width)
    row, column = tf.minimum(tf.floor(top), height - 2), tf.minimum(tf.floor(left), width - 2)
    down, right = (top - row)[..., None], (left - column)[..., None]
    place = tf.cast(row * width + column, tf.int32)

    def at(offset: int) -> tf.Tensor:
        return tf.gather(pixels, place + offset, batch_dims=1)

    upper = (1 - right) * at(0) + right * at(1)
    lower = (1 - right) * at(width) + right * at(width + 1)
    mixed = (1 - down) * upper + down * lower
    return tf.transpose(tf.reshape(mixed, [-1, height, width, num_frames, channels]), [0, 3, 1, 2, 4])


def _inside(place: tf.Tensor, size: int) -> tf.Tensor:
    """Places in pixels, mirrored at the first and the last pixel."""
    last = size - 1.0
    return tf.clip_by_value(last - tf.abs(last - tf.abs(place)), 0.0, last)
