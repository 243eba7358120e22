"""Calls of signatures: NumPy arrays in and out, and one line for what a signature refuses."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ddr_tf.errors import UserError

Signature = Callable[..., dict[str, tf.Tensor]]

# "assertion failed: [static must have ...; got] [1 2]", then where in the graph.
_ASSERTION = re.compile(r"assertion failed: \[(.*?)\] \[(.*?)\](?=\s*(?:\[\[\{|\[Op:|$))", re.DOTALL)


def call(signature: Signature, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Runs a signature.

    Args:
      signature: One of `Signatures.functions()`, or of a loaded SavedModel.
      inputs: Name of an input -> array, or what TensorFlow makes a tensor of.

    Returns:
      Name of an output -> array.

    Raises:
      UserError: With what the signature's own checks say, or that there is not enough memory.
    """
    try:
        outputs = signature(**{name: tf.constant(value) for name, value in inputs.items()})
    except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError) as error:
        raise UserError(in_plain_words(error.message)) from error
    except UnicodeDecodeError as error:  # TensorFlow's message may quote bytes of the input
        raise UserError(in_plain_words(error.object.decode(errors="replace"))) from error
    return {name: value.numpy() for name, value in outputs.items()}


def in_plain_words(message: str) -> str:
    """A message of TensorFlow's without what it says of its graph."""
    text = message.rpartition("<stack traces unavailable>\n")[2].partition("\n\t [[")[0].partition(" [Op:")[0]
    if failed := _ASSERTION.search(text):
        return f"{failed[1]} {failed[2].replace('] [', ', ')}."
    return text.strip()
