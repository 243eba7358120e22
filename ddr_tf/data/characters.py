"""Characters composed of four layers (body, legs, torso, hair), of which every combination in every pose exists.

6 x 6 x 6 x 6 = 1,296 identities share one set of poses, so the true frame of any swap is known. Storing all frames
would take gigabytes; instead the lower three layers are composited once (216 combinations), and the fourth, which is
opaque or absent at each pixel, is laid over them when a frame is asked for.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from ddr_tf.data.sequence_dataset import HELD_OUT, SPLIT_SEED, TRAIN, SequenceDataset

VALUES = 6  # appearances of each attribute
ATTRIBUTES = 4
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
    Memory: `216 * P * H * W * 3` bytes.
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
        """Composites the lower three layers.

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
        *layers_below, top = layers
        lower = np.zeros((1, poses, height, width, 3), np.uint8)
        for layer in layers_below:  # 1 -> 6 -> 36 -> 216 combinations
            combined = np.empty((len(lower) * VALUES, *lower.shape[1:]), np.uint8)
            for number in range(len(combined)):
                combined[number] = composite_over(lower[number // VALUES], layer[number % VALUES])
            lower = combined
        self._lower = tf.convert_to_tensor(lower.reshape(len(lower), poses, -1))
        kept = np.broadcast_to(255 - top[..., 3:], (*top.shape[:-1], 3))
        self._kept = tf.constant(kept.reshape(VALUES, poses, -1))
        self._top = tf.constant((top[..., :3] * (top[..., 3:] == 255)).reshape(VALUES, poses, -1))

    def frames(self, sequence: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
        """See `SequenceDataset.frames`."""

        def rows(bank: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
            return tf.gather_nd(bank, tf.stack([number, frame], axis=-1))

        lower = rows(self._lower, sequence // VALUES)
        kept, top = rows(self._kept, sequence % VALUES), rows(self._top, sequence % VALUES)
        pixels = tf.bitwise.bitwise_or(tf.bitwise.bitwise_and(lower, kept), top)
        return tf.reshape(pixels, tf.concat([tf.shape(frame), self.frame_shape], axis=0))

    def swap_truth(self, static_sequence: np.ndarray, dynamic_sequence: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """See `SequenceDataset.swap_truth`; poses are the same for all, so `dynamic_sequence` does not matter."""
        del dynamic_sequence
        static_sequence, frame = np.broadcast_arrays(static_sequence, frame)
        return self.frames(tf.constant(static_sequence, tf.int32), tf.constant(frame, tf.int32)).numpy()
