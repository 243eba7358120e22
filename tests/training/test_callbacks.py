import math

import numpy as np
import pytest
import tensorflow as tf

from conftest import RandomDataset
from ddr_tf.errors import UserError
from ddr_tf.training.callbacks import active_units
from ddr_tf.training.loop import train
from tiny import SETTINGS, TINY, metrics


def test_metrics(finished):
    lines = metrics(finished[1])
    where = [(line["split"], line["step"]) for line in lines]
    assert where == [("train", 2), ("train", 4), ("held_out", 4), ("train", 6), ("train", 8), ("held_out", 8)]
    for line in lines:
        assert line["elbo"] == pytest.approx(line["reconstruction"] - line["kl_static"] - line["kl_dynamic"], rel=1e-4)
        assert line["bits_per_dim"] == pytest.approx(-line["elbo"] / 256 / math.log(2))
        assert line["reconstruction_excess"] > 0
    assert {"gradient_norm", "learning_rate", "frames_per_second", "kl_weight"} <= lines[0].keys()
    assert {"active_units_static", "active_units_dynamic"} <= lines[2].keys()


class PoisonedSequences(RandomDataset):
    """Float frames, and NaN in the batches whose sequences are all the same training sequence."""

    def frames(self, sequence, frame):
        frames = tf.cast(super().frames(sequence, frame), tf.float32) / 255.0
        same = tf.reduce_all(sequence == sequence[0, 0]) & (sequence[0, 0] < 4)
        return tf.where(same, math.nan, frames)


@pytest.mark.usefixtures("without_pictures")
def test_a_figure_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    settings = SETTINGS | {"sequences": PoisonedSequences, "batch_size": 2, "steps": 40, "seed": 3}
    with pytest.raises(UserError, match=r"reconstruction became nan at step \d+; the last good checkpoint is") as error:
        train(str(tmp_path), **settings | {"checkpoint_every": 2})
    step = int(str(error.value).split("at step ")[1].split(";")[0])
    batches = list(PoisonedSequences().batches("train", 2, 3, seed=3).take(step).as_numpy_iterator())
    assert np.isnan(batches[step - 1]).all()
    assert np.isfinite(batches[: step - 1]).all()
    saved = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path / "checkpoints/last")))
    for name in saved.get_variable_to_shape_map():
        if saved.get_variable_to_dtype_map()[name] == tf.float32:
            assert np.isfinite(saved.get_tensor(name)).all()


def test_active_units_counts_those_whose_mean_varies():
    model = TINY(frame_shape=(16, 16, 1))
    constant, varying = tf.zeros([4, 3, 16, 16, 1]), next(iter(RandomDataset().batches("train", 4, 3, 0)))
    assert active_units(model, [constant]) == {"active_units_static": 0, "active_units_dynamic": 0}
    model.dynamic_posterior_net.dense[-1].kernel.assign(model.dynamic_posterior_net.dense[-1].kernel * 1000)
    assert active_units(model, [varying])["active_units_dynamic"] == 2
