"""Unusual frames and sizes: a finite result, or one line that says what went wrong."""

import math

import numpy as np
import pytest
import tensorflow as tf

from conftest import RandomDataset
from ddr_tf.data import ArrayDataset
from ddr_tf.errors import UserError
from ddr_tf.runs import read_metrics
from ddr_tf.training.loop import train
from tiny import TINY

SETTINGS = dict(model=TINY, steps=2, batch_size=2, num_frames=2, checkpoint_every=2, log_every=2, held_out_batches=1)


def dataset(value, shape=(16, 16, 1), frames=2):
    """Four sequences of frames of one grey value."""
    counts = np.full(4, frames)
    splits = {"train": np.array([0, 1]), "held_out": np.array([2, 3])}
    return ArrayDataset(np.full((4 * frames, *shape), value, np.uint8), name="grey", frame_counts=counts, splits=splits)


def check_finite(run_dir):
    for line in read_metrics(run_dir):
        assert all(math.isfinite(value) for name, value in line.items() if name != "split"), line


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("value", [*(pytest.param(value, marks=pytest.mark.slow) for value in (0, 128)), 255])
def test_frames_of_one_value(tmp_path, value):
    train(str(tmp_path), sequences=lambda: dataset(value), **SETTINGS)
    check_finite(tmp_path)


def test_sequences_of_one_frame(tmp_path):
    train(str(tmp_path), sequences=lambda: dataset(7, frames=1), **SETTINGS | {"num_frames": 1})
    check_finite(tmp_path)


@pytest.mark.parametrize("num_frames", [1, 2, 450])
def test_any_number_of_frames(num_frames):
    model = TINY((16, 16, 1))
    frames = tf.constant(np.random.RandomState(0).randint(0, 256, (1, num_frames, 16, 16, 1)).astype(np.uint8))
    outputs = model(frames)
    assert outputs["reconstruction"].shape == frames.shape
    assert all(np.isfinite(value).all() for value in outputs.values())
    terms = model.elbo_terms(frames, tf.zeros([1, 4]), tf.zeros([1, num_frames, 2]))
    assert np.isfinite(terms.elbo()).all()


@pytest.mark.parametrize(
    "shape",
    [
        *(pytest.param(shape, marks=pytest.mark.slow) for shape in ((16, 16, 1), (256, 16, 4), (256, 256, 3))),
        (16, 256, 3),
    ],
)
def test_any_shape(shape):
    model = TINY(shape)
    model.compile("adam")
    frames = np.random.RandomState(0).randint(0, 256, (2, 2, *shape)).astype(np.uint8)
    logs = model.fit(frames, batch_size=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in logs.values())


class WithNaN(RandomDataset):
    """Float frames of which some are NaN."""

    def frames(self, sequence, frame):
        return tf.cast(super().frames(sequence, frame), tf.float32) * math.nan


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(sequences=WithNaN), "reconstruction became nan at step 1; there was no checkpoint yet"),
        (
            dict(sequences=RandomDataset, learning_rate=1e30, steps=20, checkpoint_every=20),
            r"became (nan|-?inf) at step",
        ),
    ],
    ids=["NaN in the frames", "an exploding rate"],
)
def test_what_is_not_finite_stops_the_run(tmp_path, settings, message):
    with pytest.raises(UserError, match=message) as error:
        train(str(tmp_path / "run"), **SETTINGS | settings)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("run/checkpoints/*/*.index"))
