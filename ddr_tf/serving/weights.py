"""Weights of an exported model in as little space as they need; arithmetic stays float32."""

import tensorflow as tf

PRECISIONS = ("float32", "float16", "int8")
INT8_MAX = 127


class KeptWeight(tf.Module):
    """One weight of a model, as it is kept in a SavedModel.

    "float16" halves the space. "int8" takes a quarter of it: each kernel is kept as whole numbers from -127 to 127 and
    one float32 factor for each index of its last axis, so that no value moves by more than half of its factor. Biases
    and single numbers, which take next to no space, stay float32 with "int8".
    """

    def __init__(self, weight: tf.Tensor, precision: str) -> None:
        """Args: weight: float32 of any shape; precision: One of `PRECISIONS`."""
        super().__init__()
        self._factor = None
        if precision != "int8":
            self._kept = tf.Variable(tf.cast(weight, precision), trainable=False)
        elif weight.shape.rank < 2:
            self._kept = tf.Variable(weight, trainable=False)
        else:
            largest = tf.reduce_max(tf.abs(weight), axis=list(range(weight.shape.rank - 1)))
            factor = tf.where(largest > 0, largest / INT8_MAX, 1.0)
            self._factor = tf.Variable(factor, trainable=False)
            self._kept = tf.Variable(tf.cast(tf.round(weight / factor), tf.int8), trainable=False)

    def value(self, dtype: tf.DType) -> tf.Tensor:
        """The weight, of this dtype."""
        kept = tf.cast(self._kept, dtype)
        return kept if self._factor is None else kept * tf.cast(self._factor, dtype)
