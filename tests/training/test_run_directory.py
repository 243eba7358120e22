import ast
import functools
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import RandomDataset
from ddr_tf import config
from ddr_tf.data.augmentation import Augmentation
from ddr_tf.errors import UserError
from ddr_tf.model.bounds import BOUND_METRICS
from ddr_tf.pictures import contact_sheets
from ddr_tf.runs import load_model
from ddr_tf.training.loop import train
from ddr_tf.training.optimizers import Adam, Muon
from ddr_tf.training.run_directory import Run
from tiny import SETTINGS, TINY, Stop, metrics, weights


def test_a_run_directory_holds_all_that_is_promised(finished):
    model, run_dir = finished
    names = ("config.gin", "run.json", "metrics.jsonl", "model.keras", "static_density.npz", "dynamic_density.npz")
    for name in (*names, "checkpoints/last", "checkpoints/best"):
        assert (run_dir / name).exists(), name
    for name in ("reconstructions", "swaps", "samples", "latent_plane"):
        assert (run_dir / f"{name}.png").stat().st_size > 1000
    record = json.loads((run_dir / "run.json").read_text())
    assert record["finished"] is True
    assert record["step"] == 8
    assert {"tensorflow", "keras", "python", "ddr_tf"} <= record["versions"].keys()
    loaded = keras.models.load_model(run_dir / "model.keras")
    for left, right in zip(weights(model), weights(loaded), strict=True):
        np.testing.assert_array_equal(left, right)


def test_tensorboard_holds_scalars_images_and_the_config(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags = {}
    for split in ("train", "held_out"):
        events = EventAccumulator(str(finished[1] / "logs" / split))
        events.Reload()
        tags[split] = {tag for name in events.Tags()["tensors"] for tag in [name]}
    bound = {f"bound/{name}" for name in (*BOUND_METRICS, "bits_per_dim")}
    training = {f"training/{name}" for name in ("gradient_norm", "learning_rate", "frames_per_second", "kl_weight")}
    codes = {"codes/active_units_static", "codes/active_units_dynamic"}
    assert bound | training | {"config"} <= tags["train"]
    assert bound | codes | {"swaps", "samples", "_hparams_/session_start_info"} <= tags["held_out"]


def test_a_run_of_another_version_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    # The settings are the same: other tests in this process may have left some in gin.
    record = {"settings": config.operative(), "versions": {"ddr_tf": "0.1.0"}, "data": "", "seed": 0}
    record |= {"step": 8, "finished": False, "training_minutes": 0.0}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"holds a run of ddr_tf 0\.1\.0, whose networks are not those of 0"):
        train(str(tmp_path / "run"), **SETTINGS)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_a_run_that_ended_before_its_first_checkpoint_takes_other_settings(tmp_path):
    class EndsAtOnce(RandomDataset):
        def frames(self, sequence, frame):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(str(tmp_path / "run"), **SETTINGS | {"sequences": EndsAtOnce, "batch_size": 2})
    assert (tmp_path / "run/run.json").exists()
    train(str(tmp_path / "run"), **SETTINGS)
    assert json.loads((tmp_path / "run/run.json").read_text())["settings"]["train.batch_size"] == "4"


@pytest.mark.parametrize("content", [None, b"", b"\0" * 500])
def test_metrics_that_are_lost_are_told(finished, tmp_path, capsys, content):
    run = shutil.copytree(finished[1], tmp_path / "run")
    (run / "metrics.jsonl").unlink()
    if content is not None:
        (run / "metrics.jsonl").write_bytes(content)
    train(str(run), **SETTINGS)
    assert "metrics.jsonl lacks the metrics of step 8: it was removed or damaged" in capsys.readouterr().err


def test_logs_that_are_no_folder_are_named(finished, tmp_path):
    run = shutil.copytree(finished[1], tmp_path / "run", ignore=shutil.ignore_patterns("logs"))
    (run / "logs").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot be used \(.*logs.*last good checkpoint is"):
        train(str(run), **SETTINGS)


def test_a_finished_run_says_so_and_changes_nothing(finished, capsys):
    _, run_dir = finished
    before = (run_dir / "metrics.jsonl").read_text()
    train(str(run_dir), **SETTINGS)
    assert "has already finished its 8 steps" in capsys.readouterr().out
    assert (run_dir / "metrics.jsonl").read_text() == before


@pytest.mark.slow
def test_a_run_stopped_before_its_final_model_is_finished_the_next_time(tmp_path, monkeypatch):
    settings = SETTINGS | {"steps": 2, "checkpoint_every": 2}

    def stop(*_):
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish", stop)
        with pytest.raises(Stop):
            train(str(tmp_path), **settings)
    assert not json.loads((tmp_path / "run.json").read_text())["finished"]
    train(str(tmp_path), **settings)
    assert (tmp_path / "model.keras").exists() and (tmp_path / "swaps.png").exists()
    assert json.loads((tmp_path / "run.json").read_text())["finished"]


@pytest.mark.usefixtures("without_pictures")
def test_the_best_checkpoint_is_that_of_the_best_held_out_elbo(tmp_path):
    settings = SETTINGS | {"learning_rate": 0.3, "final_learning_rate": 0.3, "checkpoint_every": 2}
    model = train(str(tmp_path), **settings)
    held_out = {line["step"]: line["elbo"] for line in metrics(tmp_path) if line["split"] == "held_out"}
    best = max(held_out, key=held_out.get)
    assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints/best")).endswith(f"ckpt-{best}")
    assert best < SETTINGS["steps"]  # at such a rate
    assert json.loads((tmp_path / "run.json").read_text())["best_step"] == best
    of_best = keras.models.load_model(tmp_path / "model.keras", compile=False)
    for left, right in zip(weights(model), weights(of_best), strict=True):
        np.testing.assert_array_equal(left, right)
    of_last = load_model(tmp_path, "last")
    assert (weights(of_last)[0] != weights(of_best)[0]).any()
    longer = train(str(tmp_path), **settings | {"steps": 10})  # goes on from the last, not from the best
    assert metrics(tmp_path)[-1]["step"] == 10
    assert json.loads((tmp_path / "run.json").read_text())["step"] == 10
    assert longer.count_params() == model.count_params()


def test_a_run_whose_data_have_changed_is_not_resumed(finished, tmp_path):
    run = shutil.copytree(finished[1], tmp_path / "run")
    more = RandomDataset(frame_counts=(9, 3, 8, 12, 8, 8, 5))
    more.arguments = RandomDataset().arguments  # the same folder, say, in which something has changed
    with pytest.raises(UserError, match="The data have changed since"):
        train(str(run), **SETTINGS | {"sequences": more, "steps": 12})


class Named(RandomDataset):
    """With an argument that says nothing of what sequences there are."""

    def __init__(self, brightness=1.0):
        super().__init__()


@pytest.fixture(scope="module")
def from_python(tmp_path_factory):
    """A run that was started from Python, of a step: its settings, and its folder, to be copied."""
    folder = tmp_path_factory.mktemp("python") / "run"
    settings = SETTINGS | {"sequences": Named(brightness=0.5), "steps": 1, "optimizer": Muon}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contact_sheets, "contact_sheets", lambda *_: {"swaps": np.zeros((4, 4, 3), np.uint8)})
        train(str(folder), **settings)
    return settings, folder


def test_a_run_that_was_started_from_python_keeps_its_settings(from_python):
    settings = json.loads((from_python[1] / "run.json").read_text())["settings"]
    assert (
        settings.items()
        >= {
            "train.sequences": "@Named",
            "Named.brightness": "0.5",
            "train.model": "@DDR",
            "DDR.static_dim": "4",
            "DDR.dtype": "'float32'",
            "train.optimizer": "@Muon",
            "Muon.momentum": "0.95",
            "train.batch_size": "4",
            "train.learning_rate": "0.001",
            "train.augmentation": "None",
        }.items()
    )
    for text in settings.values():
        assert text.startswith("@") or repr(ast.literal_eval(text)) == text
    assert not settings.keys() & {"DDR.noise_seed", "DDR.min_static_frames"}  # train.seed and .min_static_frames
    lines = (from_python[1] / "config.gin").read_text().splitlines()
    assert lines == [f"{name} = {value}" for name, value in settings.items()]


def test_settings_from_python_are_not_those_that_gin_was_told_before(tmp_path):
    config.load([], ["Augmentation.blend = 0.25"])
    config.call(Augmentation)
    train(str(tmp_path), **SETTINGS | {"steps": 1})
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["train.steps"] == "1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.1}, r"train.learning_rate was 0.001, now 0.1\)"),
        ({"batch_size": 2}, "train.batch_size was 4, now 2"),
        ({"model": functools.partial(TINY, static_dim=8)}, "DDR.static_dim was 4, now 8"),
        ({"optimizer": Adam}, "was .*, and .* more"),
        ({"sequences": Named(brightness=0.7)}, r"Named.brightness was 0.5, now 0.7\)"),
        ({"augmentation": Augmentation}, "train.augmentation was None, now @Augmentation"),
    ],
)
def test_a_run_that_was_started_from_python_is_not_resumed_with_other_settings(from_python, change, message):
    with pytest.raises(UserError, match=f"holds a run with other settings.*{message}"):
        train(str(from_python[1]), **from_python[0] | change)


def test_a_run_without_settings_as_those_of_before_can_go_on(from_python, tmp_path, capsys):
    settings, folder = from_python
    run = shutil.copytree(folder, tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"settings": {}}))
    train(str(run), **settings)
    assert "has already finished its 1 steps" in capsys.readouterr().out


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and holds no run"):
        train(str(tmp_path), **SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
