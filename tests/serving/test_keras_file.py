"""`.keras` files in exported models."""

import keras
import numpy as np
import pytest

from ddr_tf.model.ddr import DDR
from ddr_tf.serving.keras_file import write_keras_file


@pytest.mark.parametrize("weights", ["float32", "float16"])
def test_what_is_written_is_read_with_the_same_weights(tmp_path, weights):
    model = DDR((16, 16, 1), static_dim=4, width=8, pair_width=8, dense_units=32)
    write_keras_file(model, tmp_path / "model.keras", weights)
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    for wanted, read in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(read, wanted.astype(weights))
    assert {variable.dtype for variable in again.variables} == {"float32"}


def test_float16_takes_about_half_the_space(tmp_path):
    model = DDR((16, 16, 1), static_dim=4, width=64, pair_width=64, dense_units=128)
    sizes = []
    for weights in ("float32", "float16"):
        write_keras_file(model, tmp_path / "model.keras", weights)
        sizes.append((tmp_path / "model.keras").stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]
