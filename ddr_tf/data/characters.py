"""Characters composed of four layers (body, legs, torso, hair), of which every combination in every pose exists.

6 x 6 x 6 x 6 = 1,296 identities share one set of poses, so the true frame of any swap is known. Storing all frames
would take gigabytes; instead the lower two layers are composited once (36 combinations), and the third where it is
translucent (216); the others are laid over them when a frame is asked for. The last is opaque or absent at each pixel.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from ddr_tf.data.arrays import aligned_array, shared_tensor
from ddr_tf.data.sequence_dataset import HELD_OUT, SPLIT_SEED, TRAIN, SequenceDataset

VALUES = 6  # appearances of each attribute
ATTRIBUTES = 4
NUM_IDENTITIES = VALUES**ATTRIBUTES
NUM_TRAIN = 1000  # the size, and the seed, of the split of Li & Mandt (2018)


def split_identities() -> dict[str, np.ndarray]:
    """1,000 identities to train on and 296 held out, always the same."""
    order = np.random.RandomState(SPLIT_SEED).permutation(NUM_IDENTITIES)
    return {TRAIN: order[:NUM_TRAIN], HELD_OUT: order[NUM_TRAIN:]}


def attribute_values(identity: np.ndarray) -> np.ndarray:
    """Identity numbers `[...]` -> values of the attributes, int `[..., 4]`, 0..5, most significant first."""
    return np.stack(np.unravel_index(identity, (VALUES,) * ATTRIBUTES), axis=-1)


def composite_over(below: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Alpha compositing over an opaque image, rounded to the nearest.

    Args:
      below: uint8 `[..., 3]`.
      layer: uint8 `[..., 4]`, RGB and alpha, not premultiplied.

    Returns:
      uint8 `[..., 3]`.
    """
    image = below.reshape(-1, 3).copy()
    layer = layer.reshape(-1, 4)
    drawn = np.flatnonzero(layer[:, 3])  # few pixels are drawn
    colour, alpha = np.split(layer[drawn].astype(np.uint16), [3], axis=-1)
    image[drawn] = (colour * alpha + image[drawn] * (255 - alpha) + 127) // 255
    return image.reshape(below.shape)


class Characters(SequenceDataset):
    """All 1,296 characters in all P poses; sequence number = identity, frame number = pose.

    Identity number: `((a * 6 + b) * 6 + c) * 6 + d`, for values a, b, c, d of the attributes in order.
    Memory: `60 * P * H * W * 3` bytes, and up to 216 in place of 24 for poses in which the third layer is translucent.
    """

    def __init__(
        self,
        name: str,
        attributes: Sequence[str],
        layers: np.ndarray,
        pose_labels: Mapping[str, np.ndarray],
        label_names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Composites the lower two layers.

        Args:
          name: Short name.
          attributes: The four attributes' names, in painting order.
          layers: uint8 `[4, 6, P, H, W, 4]`: attribute, value, pose, pixels as RGBA. The alpha of the last
            attribute must be 0 or 255.
          pose_labels: name -> array `[P]`; they become `frame_labels`.
          label_names: As of `SequenceDataset`.

        Raises:
          ValueError: If the last layer is translucent anywhere.
        """
        _, _, poses, height, width, _ = layers.shape
        if not np.isin(layers[-1, ..., 3], (0, 255)).all():
            raise ValueError(f"{name}: the {attributes[-1]} layer must be opaque or absent at every pixel.")
        super().__init__(
            name,
            frame_shape=(height, width, 3),
            frame_counts=np.full(NUM_IDENTITIES, poses),
            splits=split_identities(),
            static_labels=dict(zip(attributes, attribute_values(np.arange(NUM_IDENTITIES)).T, strict=True)),
            frame_labels={label: np.tile(values, NUM_IDENTITIES) for label, values in pose_labels.items()},
            label_names=label_names,
            pose_numbers=np.tile(np.arange(poses), NUM_IDENTITIES),
        )
        bottom, second, third, top = layers
        # Where the third layer is translucent, its composites are kept as well, after those of the two layers below.
        translucent = ((third[..., 3] > 0) & (third[..., 3] < 255)).any(axis=(2, 3))  # [6, P]
        values, numbers = np.nonzero(translucent)
        bank = aligned_array((VALUES**2, poses + len(numbers), height, width, 3))
        for first in range(VALUES):
            below = composite_over(np.zeros_like(bank[0, :poses]), bottom[first])
            for other in range(VALUES):
                pair = bank[first * VALUES + other]
                pair[:poses] = composite_over(below, second[other])
                pair[poses:] = composite_over(pair[numbers], third[values, numbers])
        self._bank = shared_tensor(bank.reshape(VALUES**2, len(bank[0]), -1))
        rows = np.tile(np.arange(poses, dtype=np.int32), (VALUES, 1))
        rows[translucent] = poses + np.arange(len(numbers))
        self._rows = tf.constant(rows)  # [6, P], of `bank`
        opaque = np.where(translucent[..., None, None], 0, third[..., 3])
        self._third, self._third_kept = _masks(third, opaque)
        self._top, self._top_kept = _masks(top, top[..., 3])

    def frames(self, sequence: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
        """See `SequenceDataset.frames`."""

        def over(pixels: tf.Tensor, colour: tf.Tensor, kept: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
            place = tf.stack([value % VALUES, frame], axis=-1)
            pixels = tf.bitwise.bitwise_and(pixels, tf.gather_nd(kept, place))
            return tf.bitwise.bitwise_or(pixels, tf.gather_nd(colour, place))

        third = sequence // VALUES
        row = tf.gather_nd(self._rows, tf.stack([third % VALUES, frame], axis=-1))
        pixels = tf.gather_nd(self._bank, tf.stack([third // VALUES, row], axis=-1))
        pixels = over(pixels, self._third, self._third_kept, third)
        pixels = over(pixels, self._top, self._top_kept, sequence)
        return tf.reshape(pixels, tf.concat([tf.shape(frame), self.frame_shape], axis=0))


def _masks(layer: np.ndarray, alpha: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """The colours of a layer, 0 where it is not opaque; 255 where what is below shows: uint8 `[6, P, H * W * 3]`."""
    opaque = np.where(alpha == 255, 255, 0).astype(np.uint8)[..., None]
    colour, kept = layer[..., :3] & opaque, np.broadcast_to(255 - opaque, layer[..., :3].shape)
    return tuple(tf.convert_to_tensor(values.reshape(*layer.shape[:2], -1)) for values in (colour, kept))
