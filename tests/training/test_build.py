import functools

import keras
import numpy as np
import pytest

from conftest import RandomDataset
from ddr_tf.errors import UserError
from ddr_tf.training.loop import train
from tiny import SETTINGS, TINY, metrics, weights

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.mark.parametrize(
    "settings",
    [{"static_aggregation": "pooled"}, {"static_aggregation": "product", "learned_prior": False}],
    ids=lambda settings: settings["static_aggregation"],
)
def test_baselines_train_all_their_weights(tmp_path, settings):
    before = [variable.numpy() for variable in TINY(frame_shape=(16, 16, 1), **settings).trainable_variables]
    ddr = train(str(tmp_path), **SETTINGS | {"model": functools.partial(TINY, **settings)})
    assert len(before) == len(ddr.trainable_variables)
    assert all((variable.numpy() != 0).any() for variable in ddr.optimizer.variables[2:])  # Adam's moments


def test_fine_tuning_begins_at_the_bound_of_its_model(finished, tmp_path, capsys):
    _, run_dir = finished
    settings = SETTINGS | {"model": None, "learning_rate": 1e-12, "final_learning_rate": 1e-12}  # the model's is used
    settings |= {"initial_model": str(run_dir), "num_frames": 3, "min_static_frames": 2}
    tuned = train(str(tmp_path / "run"), **settings)
    assert (tuned.options.min_static_frames, finished[0].options.min_static_frames) == (2, 0)
    for left, right in zip(weights(finished[0]), weights(tuned), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)
    before, after = (
        [line for line in metrics(path) if line["split"] == "held_out"][-1] for path in (run_dir, tmp_path / "run")
    )
    assert after["elbo"] == pytest.approx(before["elbo"], rel=1e-5)
    assert {line["kl_weight"] for line in metrics(tmp_path / "run") if line["split"] == "train"} == {1.0}
    assert "4 training and 2 held-out sequences are few" in capsys.readouterr().err


def test_fine_tuning_needs_frames_of_the_same_size(finished, tmp_path):
    larger = functools.partial(RandomDataset, frame_shape=(32, 32, 1))
    settings = SETTINGS | {"sequences": larger, "initial_model": str(finished[1] / "model.keras")}
    with pytest.raises(UserError, match=r"are 16 x 16 x 1, and those of the dataset 32 x 32 x 1"):
        train(str(tmp_path / "run"), **settings)
    with pytest.raises(UserError, match="holds no finished run"):
        train(str(tmp_path / "run"), **settings | {"initial_model": str(tmp_path)})


@pytest.mark.slow
def test_frames_for_f_alone_are_not_decoded(tmp_path):
    model = functools.partial(TINY, num_static_frames=3)
    train(str(tmp_path / "run"), **SETTINGS | {"model": model, "num_frames": 4})
    with pytest.raises(UserError, match=r"must leave frames to decode: it is 3, and train\.num_frames 3"):
        train(str(tmp_path / "other"), **SETTINGS | {"model": model, "num_frames": 3})
    with pytest.raises(UserError, match=r"min_static_frames must be at most train\.num_frames, 3, got 4"):
        train(str(tmp_path / "few"), **SETTINGS | {"min_static_frames": 4, "num_frames": 3})


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (functools.partial(keras.optimizers.Adam, gradient_accumulation_steps=4), "gradient_accumulation_steps is not"),
        (functools.partial(keras.optimizers.Adam, use_ema=True), "use_ema is not possible here; leave it out"),
        (lambda rate: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(rate)), "the loss is not scaled"),
    ],
)
def test_what_only_the_loop_of_keras_does_is_refused(tmp_path, optimizer, message):
    with pytest.raises(UserError, match=f"train.optimizer: {message}"):
        train(str(tmp_path / "run"), **SETTINGS | {"optimizer": optimizer})
    assert not (tmp_path / "run").exists()
