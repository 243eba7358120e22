"""Characters composed of four layers (body, legs, torso, hair), of which every combination in every pose exists.

6 x 6 x 6 x 6 = 1,296 identities share one set of poses, so the true frame of any swap is known. Storing all frames
would take gigabytes; instead the lower two layers are composited once (36 combinations), and the other two are laid
over them when a frame is asked for. The last is opaque or absent at each pixel.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from ddr_tf.data.sequence_dataset import HELD_OUT, SPLIT_SEED, TRAIN, SequenceDataset

VALUES = 6  # appearances of each attribute
ATTRIBUTES = 4
EIGHT_BITS = np.uint16(8)
NUM_IDENTITIES = VALUES**ATTRIBUTES
NUM_TRAIN = 1000  # with the seed, the split of Li & Mandt (2018)


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
    drawn = np.flatnonzero(layer[:, 3])  # few pixels are
    colour, alpha = np.split(layer[drawn].astype(np.uint16), [3], axis=-1)
    image[drawn] = (colour * alpha + image[drawn] * (255 - alpha) + 127) // 255
    return image.reshape(below.shape)


class Characters(SequenceDataset):
    """All 1,296 characters in all P poses; sequence number = identity, frame number = pose.

    Identity number: `((a * 6 + b) * 6 + c) * 6 + d`, for values a, b, c, d of the attributes in order.
    Memory: `72 * P * H * W * 3` bytes.
    """

    shared_poses = True

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
        )
        bottom, second, third, top = layers
        lower = np.empty((VALUES, VALUES, poses, height, width, 3), np.uint8)
        black = np.zeros((poses, height, width, 3), np.uint8)
        for first in range(VALUES):
            below = composite_over(black, bottom[first])
            for other in range(VALUES):
                lower[first, other] = composite_over(below, second[other])
        self._lower = tf.convert_to_tensor(lower.reshape(VALUES**2, poses, -1))
        # of composite_over: colour * alpha + 127, and 255 - alpha
        alpha = third[..., 3:].astype(np.uint16)
        self._third = _rows(third[..., :3] * alpha + 127)
        self._third_kept = _rows(np.broadcast_to(255 - third[..., 3:], third[..., :3].shape))
        self._top = _rows(top[..., :3] * (top[..., 3:] == 255))
        self._top_kept = _rows(np.broadcast_to(255 - top[..., 3:], top[..., :3].shape))

    def frames(self, sequence: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
        """See `SequenceDataset.frames`."""

        def rows(bank: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
            return tf.gather_nd(bank, tf.stack([number, frame], axis=-1))

        lower = tf.cast(rows(self._lower, sequence // VALUES**2), tf.uint16)
        third = sequence // VALUES % VALUES
        sums = lower * tf.cast(rows(self._third_kept, third), tf.uint16) + rows(self._third, third)
        # sums // 255, exact below 65,535, and much faster than a division
        quotients = tf.bitwise.right_shift(sums + 1 + tf.bitwise.right_shift(sums, EIGHT_BITS), EIGHT_BITS)
        kept = tf.bitwise.bitwise_and(tf.cast(quotients, tf.uint8), rows(self._top_kept, sequence % VALUES))
        pixels = tf.bitwise.bitwise_or(kept, rows(self._top, sequence % VALUES))
        return tf.reshape(pixels, tf.concat([tf.shape(frame), self.frame_shape], axis=0))

    def swap_truth(self, static_sequence: np.ndarray, dynamic_sequence: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """See `SequenceDataset.swap_truth`; poses are the same for all, so `dynamic_sequence` does not matter."""
        del dynamic_sequence
        static_sequence, frame = np.broadcast_arrays(static_sequence, frame)
        return self.frames(tf.constant(static_sequence, tf.int32), tf.constant(frame, tf.int32)).numpy()


def _rows(layer: np.ndarray) -> tf.Tensor:
    """`[6, P, H, W, 3]` -> `[6, P, H * W * 3]`."""
    return tf.convert_to_tensor(layer.reshape(*layer.shape[:2], -1))
