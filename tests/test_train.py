"""The command line, as a user runs it."""

import json
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from conftest import GIN
from ddr_tf import train
from tiny import SIZE_BINDINGS

TINY = [
    *("train.steps=6", "train.checkpoint_every=3", "train.log_every=3", "train.held_out_batches=1"),
    *("train.batch_size=2", "train.num_frames=2", "Puppets.size=16", "Puppets.num_poses=8"),
    *SIZE_BINDINGS,
]


def flags(run_dir, *bindings):
    settings = [part for binding in (*TINY, *bindings) for part in ("--gin_param", binding)]
    return ["--gin_file", str(GIN / "quickstart.gin"), *settings, "--seed", "5", "--run_dir", str(run_dir)]


def run(*arguments, **kwargs):
    command = [sys.executable, "-m", "ddr_tf.train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **kwargs)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run of a process of its own, to be read only, and what that said."""
    folder = tmp_path_factory.mktemp("ended") / "run"
    return folder, run(*flags(folder))


def test_a_run_from_start_to_end(ended):
    folder, answer = ended
    assert answer.returncode == 0, answer.stderr
    assert f"finished; the pictures, the model and metrics.jsonl are in {folder}" in answer.stdout
    assert "the held-out ELBO was best at" in answer.stdout.splitlines()[-1]
    assert "6/6 steps" in answer.stderr
    assert "nats/frame" in answer.stderr
    assert "Traceback" not in answer.stderr
    record = json.loads((folder / "run.json").read_text())
    assert (record["finished"], record["seed"], record["settings"]["train.seed"]) == (True, 5, "5")
    assert "DDR.kl_warmup_steps = 500" in (folder / "config.gin").read_text()  # not given above


@pytest.mark.parametrize("augmentation", ["None", "@Augmentation"])
def test_augmentation_is_advised_where_there_is_none(tmp_path, augmentation):
    record = {
        "settings": {"train.augmentation": augmentation},
        "versions": {},
        "step": 4,
        "finished": True,
        "data": "d",
    }
    record |= {"seed": 0, "training_minutes": 1.0, "best_step": 2}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert ("train.augmentation" in train._advice(tmp_path)) == (augmentation == "None")


def test_other_settings_in_the_same_folder_are_refused(ended, tmp_path, capsys):
    folder = shutil.copytree(ended[0], tmp_path / "run")
    assert train.main(flags(folder, "DDR.static_dim=5")) == 2
    assert "DDR.static_dim was 4, now 5" in capsys.readouterr().err
    assert train.main(flags(folder)) == 0
    assert "already finished" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
def test_an_augmented_run_goes_on(tmp_path, capsys):
    augmented = ("train.augmentation=@Augmentation", "Augmentation.tone=0.3", "train.num_neighbours=2")
    assert train.main(flags(tmp_path / "run", *augmented, "train.steps=3")) == 0
    assert train.main(flags(tmp_path / "run", *augmented)) == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "run/run.json").read_text())["settings"]["Augmentation.tone"] == "0.3"
    assert train.main(flags(tmp_path / "run", *augmented[:2])) == 2
    assert "train.num_neighbours was 2, now 0" in capsys.readouterr().err


def test_a_run_from_before_a_setting_existed_is_known_again(ended, tmp_path, capsys):
    folder = shutil.copytree(ended[0], tmp_path / "run")
    path = folder / "run.json"
    record = json.loads(path.read_text())
    assert record["settings"].pop("DDR.xla") == "False"
    path.write_text(json.dumps(record))
    assert train.main(flags(folder)) == 0
    assert "already finished" in capsys.readouterr().out
    assert train.main(flags(folder, "DDR.xla=True")) == 2
    assert "DDR.xla was False, now True" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--gin_file", "nowhere.gin"], "There is no gin file nowhere.gin"),
        (["--gin_file", str(GIN / "quickstart.gin"), "--gin_param", "train.stepz=1"], "did you mean steps?"),
        (["--gin_file", str(GIN / "quickstart.gin"), "--gin_param", "train.steps=0"], "must be at least 1, got 0"),
        (
            ["--gin_file", str(GIN / "quickstart.gin"), "--gin_param", "DDR.width=0"],
            "[DDR.width: --gin_param 'DDR.width=0', line 1]",
        ),
        (["--gin_file", str(GIN / "base.gin")], "train.sequences is not set"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    assert train.main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert expected in error
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []


def test_help_needs_no_tensorflow():
    code = (
        "import sys; from ddr_tf import train\ntry: train.main(['--help'])\nfinally: print('tensorflow' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "--gin_param BINDING" in answer.stdout
    assert answer.stdout.endswith("False\n")


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(tmp_path):
    longer = ("train.steps=400", "train.checkpoint_every=100")
    assert run(*flags(tmp_path / "whole", *longer)).returncode == 0
    command = [sys.executable, "-m", "ddr_tf.train", *flags(tmp_path / "killed", *longer)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "killed/checkpoints/last/checkpoint").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed/model.keras").exists()
    assert run(*flags(tmp_path / "killed", *longer)).returncode == 0
    whole, killed = (keras.models.load_model(tmp_path / name / "model.keras") for name in ("whole", "killed"))
    for left, right in zip(whole.get_weights(), killed.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
