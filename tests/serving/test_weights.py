import keras
import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.errors import UserError
from ddr_tf.evaluation.image_quality import psnr
from ddr_tf.model.ddr import DDR
from ddr_tf.serving.exporting import write_saved_model
from ddr_tf.serving.weights import KeptWeight
from tiny import TINY


@pytest.mark.parametrize(("precision", "error"), [("float32", 0), ("float16", 2**-11), ("int8", 0.5 / 127)])
def test_kept_weights_are_close_by_the_largest_of_their_column(precision, error):
    weight = np.random.RandomState(0).normal(size=(3, 4, 5)).astype(np.float32) * np.arange(5, dtype=np.float32)
    value = KeptWeight(tf.constant(weight), precision).value(tf.float32).numpy()
    assert (np.abs(value - weight).max((0, 1)) <= error * 1.001 * np.abs(weight).max((0, 1))).all()


def test_biases_and_single_numbers_are_exact_in_int8():
    for weight in (np.float32(0.1), np.linspace(-1, 1, 7).astype(np.float32)):
        np.testing.assert_array_equal(KeptWeight(tf.constant(weight), "int8").value(tf.float32), weight)


def test_a_model_in_int8_takes_a_quarter_of_the_space_and_draws_the_same(tmp_path):
    keras.utils.set_random_seed(0)
    model = DDR((16, 16, 3), static_dim=8, width=64, pair_width=32, dense_units=64, initializer="he_normal")
    frames = tf.constant(np.random.RandomState(0).uniform(size=(2, 4, 16, 16, 3)).astype(np.float32))
    sizes, drawn = [], []
    for precision in ("float32", "int8"):
        write_saved_model(model, tmp_path / precision, precision)
        sizes.append((tmp_path / precision / "variables/variables.data-00000-of-00001").stat().st_size)
        signatures = tf.saved_model.load(str(tmp_path / precision)).signatures
        drawn.append(signatures["reconstruct"](frames=frames)["frames"].numpy())
    assert sizes[1] < 0.3 * sizes[0]
    assert psnr(drawn[1], drawn[0]).min() > 35


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "saved_model.pb.tmp; No space left on device\nand more")

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(UserError, match=r"could not be written: saved_model\.pb\.tmp; No space left on device$"):
        write_saved_model(TINY((16, 16, 1)), tmp_path)
