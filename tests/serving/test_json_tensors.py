"""JSON to tensors and back."""

import json

import numpy as np
import orjson
import tensorflow as tf

from ddr_tf.serving.json_tensors import answer

random = np.random.RandomState(0)


def test_float32_comes_back_as_it_was():
    values = random.randint(0, 2**32, 100_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    values = values[np.isfinite(values)]
    text = b"".join(answer({"a": values}, rows=False))
    np.testing.assert_array_equal(np.array(json.loads(text)["outputs"]).astype(np.float32), values)
    assert b"".join(answer({"a": np.array([0.1, np.nan], np.float32)}, rows=False)) == b'{"outputs":[0.1,null]}\n'


def test_all_signatures_are_of_numbers(servable):
    """Strings never come out, so `answer` need not know them."""
    dtypes = {info.dtype for each in servable.signature_def.values() for info in each.outputs.values()}
    assert dtypes <= {tf.float32.as_datatype_enum, tf.bfloat16.as_datatype_enum, 0}
    assert orjson.loads(b"".join(answer({"a": np.float32([[1, 2]]), "b": np.float32([3])}, rows=True))) == {
        "predictions": [{"a": [1, 2], "b": 3}]
    }
