import inspect
import os

import numpy as np
import pytest

from ddr_tf.errors import UserError
from ddr_tf.training.loop import train
from ddr_tf.training.settings import Settings
from tiny import SETTINGS, TINY


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "train.steps must be at least 1, got 0"),
        ({"steps": 10**21}, "train.steps must be at most 2,147,483,647, got 1"),
        ({"initial_model": ""}, "train.initial_model is empty; name a run or an exported model"),
        ({"learning_rate": -1.0}, "train.learning_rate must be above 0"),
        ({"held_out_batches": 0}, "train.held_out_batches"),
        ({"num_neighbours": -1}, "train.num_neighbours must be 0 or more, got -1"),
        ({"min_static_frames": -1}, "train.min_static_frames must be 0 or more, got -1"),
        ({"steps": 4.0}, "train.steps must be a whole number, got 4.0"),
        ({"batch_size": "4"}, "train.batch_size must be a whole number, got '4'"),
        ({"seed": None}, "train.seed must be a whole number, got None"),
        ({"learning_rate": "a"}, "train.learning_rate must be a number, got 'a'"),
        ({"sequences": "puppets"}, "train.sequences must be a dataset, or a function that makes one, got 'puppets'"),
        ({"model": TINY(frame_shape=(16, 16, 1))}, "train.model must be a class, such as DDR, got <"),
        ({"optimizer": "adam"}, "train.optimizer must be a class, such as Muon, got 'adam'"),
        ({"augmentation": True}, "train.augmentation must be a class or None, got True"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        train(str(tmp_path / "run"), **SETTINGS | settings)
    assert not (tmp_path / "run").exists()


def settings(**changes):
    defaults = {name: parameter.default for name, parameter in inspect.signature(train).parameters.items()}
    return Settings(**{name: defaults[name] for name in Settings.__dataclass_fields__} | SETTINGS | changes)


@pytest.mark.parametrize(
    ("start", "changes", "steps"),
    [
        (0, dict(steps=100, checkpoint_every=50, log_every=25, steps_per_execution=10), 5),
        (0, dict(steps=100, checkpoint_every=50, log_every=50, steps_per_execution=50), 50),
        (40, dict(steps=100, checkpoint_every=50, log_every=50, steps_per_execution=50), 10),
        (0, dict(steps=7, checkpoint_every=50, log_every=50, steps_per_execution=50), 1),
    ],
)
def test_executions_end_where_something_is_due(start, changes, steps):
    assert settings(**changes).execution_steps(start) == steps


def test_frames_of_a_step():
    assert settings(batch_size=4, num_frames=3).frames_per_step == 12


def test_a_name_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"The name of the run directory '.*\\udcff' is no text in UTF-8; give another"):
        train(os.fsdecode(bytes(tmp_path / "run") + b"\xff"), **SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_numpy_are_those_of_python():
    made = settings(seed=np.arange(3)[1], batch_size=np.int64(4), learning_rate=np.float64(1e-3))
    assert [type(value) for value in (made.seed, made.batch_size, made.learning_rate)] == [int, int, float]
