import pytest

from ddr_tf.errors import UserError
from ddr_tf.training.loop import train
from tiny import SETTINGS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "train.steps must be at least 1, got 0"),
        ({"learning_rate": -1.0}, "train.learning_rate must be above 0"),
        ({"held_out_batches": 0}, "train.held_out_batches"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        train(str(tmp_path / "run"), **SETTINGS | settings)
    assert not (tmp_path / "run").exists()
