"""Runs and exported models of version 0.2.0, which was made with puppets of 32 x 32 and 4 steps."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import ddr_tf
from ddr_tf import export, runs, train
from ddr_tf.errors import UserError
from ddr_tf.serving.client import Client
from ddr_tf.serving.exported_model import ExportedModel
from test_serve import served

OLD = Path(__file__).parent / "old"
FRAMES = np.random.RandomState(0).randint(0, 256, (3, 32, 32, 3)).astype(np.uint8)


def unpacked(name, folder):
    with zipfile.ZipFile(OLD / f"{name}_0_2_0.zip") as archive:
        archive.extractall(folder)
    return folder / f"old_{name}"


@pytest.fixture
def old_run(tmp_path):
    return unpacked("run", tmp_path)


@pytest.fixture
def old_model(tmp_path):
    return unpacked("model", tmp_path)


def train_old(run_dir, steps):
    """Trains with the settings that the run itself has kept, since the gin files that come with ddr_tf change."""
    settings = ["--gin_file", str(run_dir / "config.gin"), "--gin_param", f"train.steps={steps}"]
    return train.main([*settings, "--run_dir", str(run_dir)])


def test_the_dataset_of_an_old_run_is_found_in_its_settings_without_gin(old_run):
    sequences = runs.load_sequences(old_run)
    assert (sequences.name, sequences.frame_shape) == ("puppets", (32, 32, 3))
    assert sequences.arguments == {"size": 32, "num_poses": 8}
    assert runs.image_settings(old_run) == {"fit": "crop", "value_range": None}


def test_reading_a_run_imports_no_trainer(old_run):
    code = (
        "import sys, pathlib; from ddr_tf import runs; run = pathlib.Path(sys.argv[1])\n"
        "model, sequences = runs.load_run(run); print(runs.cost(run, model)['parameters'], sequences.name)\n"
        "assert not [name for name in sys.modules if name.startswith('ddr_tf.training')]"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(old_run)], capture_output=True, text=True, env=os.environ)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split()[-1] == "puppets"


@pytest.mark.usefixtures("without_pictures")
def test_an_old_run_is_resumed_and_gives_the_model_that_it_had(old_run, capsys):
    before = runs.load_model(old_run).get_weights()
    (old_run / "model.keras").unlink()
    assert train_old(old_run, 4) == 0, capsys.readouterr().err
    for left, right in zip(before, runs.load_model(old_run).get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert train_old(old_run, 6) == 0
    assert [line["step"] for line in runs.read_metrics(old_run) if line["split"] == "held_out"] == [2, 4, 6]


def test_an_old_run_is_exported_and_used(old_run, tmp_path, capsys):
    assert export.main(["--run_dir", str(old_run), "--out", str(tmp_path / "models/puppets")]) == 0, (
        capsys.readouterr().err
    )
    codes = ddr_tf.load(tmp_path / "models/puppets").encode(FRAMES)
    np.testing.assert_allclose(codes.static_mean, ddr_tf.load(old_run).encode(FRAMES).static_mean, atol=1e-4)


def test_an_old_exported_model_is_used_and_has_its_densities(old_model):
    model = ddr_tf.load(old_model)
    assert model.encode(FRAMES).static_mean.shape == (4,)
    assert model.reconstruct(FRAMES).shape == FRAMES.shape
    assert ExportedModel(old_model / "1").static_dim == 4
    assert runs.load_sequences(old_model / "1/assets.extra").name == "puppets"


@pytest.mark.slow
def test_a_model_of_an_old_run_can_be_trained_by_keras(old_run):
    import ddr_tf.training  # noqa: F401

    model = keras.models.load_model(old_run / "model.keras")
    model.compile("adam")
    assert np.isfinite(model.fit(FRAMES[None], verbose=0).history["elbo"]).all()


@pytest.mark.slow
def test_an_old_exported_model_is_served_but_for_what_it_lacks(old_model):
    frames = (FRAMES[None] / 255).astype(np.float32)
    with served(old_model) as (_, url):
        client = Client(old_model.name, url)
        assert client.versions() == {1: "AVAILABLE"}
        codes = client.predict("encode", frames=frames)
        decoded = client.predict("decode", static=codes["static_mean"], dynamic=codes["dynamic_mean"])["frames"]
        np.testing.assert_allclose(decoded, client.predict("reconstruct", frames=frames)["frames"], atol=1e-5)
        swapped = client.predict("swap", static_frames=frames, dynamic_frames=frames)["frames"]
        np.testing.assert_allclose(swapped, decoded, atol=1e-5)
        drawn = client.predict("sample", count=2, frames_per_sequence=3, seed=[0, 1])
        assert drawn["frames"].shape == (2, 3, 32, 32, 3)
        with pytest.raises(UserError, match=r"no signature sample_standard; it has: .*sample") as error:
            client.predict("sample_standard", count=1, frames_per_sequence=1, seed=[0, 1])
        assert "\n" not in str(error.value)
