"""What signatures refuse, in one line."""

import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.errors import UserError
from ddr_tf.serving.calls import call, in_plain_words

PLACE = "\n\t [[{{node Assert/Assert}}]]"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "assertion failed: [frames must have the shape [B >= 1]; got] [1 2]" + PLACE,
            "frames must have the shape [B >= 1]; got 1 2.",
        ),
        (
            "Graph execution error:\n\nDetected at node a:\n<stack traces unavailable>\n"
            "assertion failed: [frames must be in [0, 1]; they have] [0] [255]" + PLACE + " [Op:__inference_1]",
            "frames must be in [0, 1]; they have 0, 255.",
        ),
        (
            "Graph execution error:\n<stack traces unavailable>\nInvalid PNG data, size 60" + PLACE,
            "Invalid PNG data, size 60",
        ),
        ("OOM when allocating [Op:Conv2D]", "OOM when allocating"),
        ("another", "another"),
    ],
)
def test_words_of_failed_checks(message, words):
    assert in_plain_words(message) == words


def test_arrays_in_and_out(servable):
    signature = servable._loaded.signatures["prior"]
    outputs = call(signature, {"static": np.zeros((1, 4), np.float32)})
    assert {name: (type(value), value.shape) for name, value in outputs.items()} == {
        "mean": (np.ndarray, (1, 2)),
        "stddev": (np.ndarray, (1, 2)),
    }
    with pytest.raises(UserError, match=r"static must have the shape \[B >= 1, F = 4\]; got 1 2\.$"):
        call(signature, {"static": np.zeros((1, 2), np.float32)})


def test_messages_that_are_not_text():
    def signature(a):
        raise UnicodeDecodeError("utf-8", b"assertion failed: [a must be text; it begins with] [\xff]", 0, 1, "no")

    with pytest.raises(UserError, match="a must be text; it begins with \N{REPLACEMENT CHARACTER}"):
        call(signature, {"a": 1})


def test_too_little_memory_is_one_line():
    def signature(a):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\n\t [[{{node a}}]]")

    with pytest.raises(UserError, match=r"^OOM when allocating tensor$"):
        call(signature, {"a": 1})
