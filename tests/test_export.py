"""The command line, as a user runs it."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ddr_tf import export, runs
from ddr_tf.data.puppets import Puppets
from ddr_tf.errors import UserError
from ddr_tf.evaluation.metric import Metric
from ddr_tf.evaluation.settings import Settings
from ddr_tf.evaluation.summary import write_evaluation
from ddr_tf.serving import exporting
from ddr_tf.serving import saved_model as saved_models


def flags(run_dir, out):
    return ["--run_dir", str(run_dir), "--out", str(out)]


def test_each_export_is_the_next_version_also_without_what_warm_up_needs(tmp_path, run_dir, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    out = tmp_path / "saved_models/puppets"
    for version in ("1", "2"):
        assert export.main(flags(run_dir, out)) == 0
        notice, written = capsys.readouterr().out.splitlines()
        assert notice.startswith("without warm-up requests for TF Serving")
        assert written == f"written: {out / version}"
        assert not (out / version / "assets.extra/tf_serving_warmup_requests").exists()
    assert sorted(path.name for path in out.iterdir()) == ["1", "2"]
    assert [path.name for path in tmp_path.iterdir()] == ["saved_models"]
    for name in ("config.gin", "run.json", "dataset.json"):  # so that the data can be found again
        assert (out / "1/assets.extra" / name).read_text() == (run_dir / name).read_text()
    model = runs.load_model(run_dir)
    density = model.static_density.distribution()
    codes = tf.saved_model.load(str(out / "1")).signatures["sample"](
        count=tf.constant(500), frames_per_sequence=tf.constant(1), seed=tf.constant([0, 1])
    )
    drawn, prior = codes["static"], model.dynamic_prior(codes["static"])
    places = (codes["dynamic"] - prior.mean()) / prior.stddev()
    wanted = model.dynamic_density.distribution().sample(2000, seed=[4, 5])
    np.testing.assert_allclose(np.mean(places, axis=(0, 1)), np.mean(wanted, axis=0), atol=0.2)
    np.testing.assert_allclose(np.std(places, axis=(0, 1)), np.std(wanted, axis=0), atol=0.2)
    np.testing.assert_allclose(np.mean(drawn, axis=0), np.mean(density.sample(500, seed=[2, 3]), axis=0), atol=0.2)
    assert np.mean(density.log_prob(drawn)) > np.mean(density.log_prob(drawn + 1))
    frames = np.random.RandomState(0).uniform(size=(1, 2, 16, 16, 3)).astype(np.float32)
    found = tf.saved_model.load(str(out / "2")).signatures["reconstruct"](frames=tf.constant(frames))["frames"]
    wanted = keras.models.load_model(run_dir / "model.keras")(frames)["reconstruction"]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.slow
def test_an_interrupted_export_leaves_nothing(tmp_path, run_dir):
    out = tmp_path / "saved_models/puppets"
    command = [sys.executable, "-m", "ddr_tf.export", *flags(run_dir, out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.iterdir()):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert "stopped; nothing was written" in process.stderr.read()
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def exported(tmp_path_factory, run_dir):
    """An evaluated run's export with weights in float16."""
    folder = tmp_path_factory.mktemp("exported")
    shutil.copytree(run_dir, folder / "run")
    write_evaluation(folder / "run", {"swap_psnr": Metric(21.5, 0.25, 12.0)}, Settings())
    assert export.main([*flags(folder / "run", folder / "half"), "--weights", "float16"]) == 0
    return folder / "half/1"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("saved_model.pb", lambda old: old[:-9] + bytes([old[-9] ^ 1]) + old[-8:], "the checksum of saved_model.pb"),
        ("fingerprint.pb", lambda old: old[:-1], "the checksum of fingerprint.pb differs"),
        ("variables/variables.index", lambda old: None, "No such file or directory: '.*variables.index'"),
        ("assets.extra/checksums.json", lambda old: old[:100], "Unterminated string"),
        ("assets.extra/checksums.json", lambda old: b"[]", "list"),
    ],
)
def test_a_changed_file_is_told(exported, tmp_path, name, content, reason):
    version = shutil.copytree(exported, tmp_path / "1")
    content = content((version / name).read_bytes())
    (version / name).unlink()
    if content is not None:
        (version / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"/1 is damaged \(.*{reason}.*; export it again, or bring it back") as caught:
        saved_models.load_signatures(version)
    assert "\n" not in str(caught.value)


def test_the_card_says_what_it_is(exported, run_dir):
    card = json.loads((exported / "assets.extra/model_card.json").read_text())
    text = (exported / "assets.extra/model_card.md").read_text()
    assert (card["name"], card["model"]["weights"], card["training"]["step"]) == ("half", "float16", 2)
    assert card["dataset"]["licence"] == "Apache-2.0, as ddr_tf"
    assert card["dataset"]["splits"]["held_out"] == {"sequences": 296, "frames": 296 * 16}
    assert card["dataset"]["fingerprint"] == json.loads((run_dir / "run.json").read_text())["data"]
    assert card["evaluation"]["swap_psnr"]["value"] == 21.5
    assert (card["model"]["pixel_likelihood"], card["model"]["pixel_stddev"]) == ("bernoulli", None)
    assert card["held_out"]["step"] == 2 and "elbo" in card["held_out"]
    assert card["config"] == (run_dir / "config.gin").read_text()
    assert card["exported_with"]["tensorflow"] == tf.__version__
    for words in ("# half", "Not for identifying people", "Apache-2.0", "| swap_psnr | 21.5 | 0.25 | 12 | |"):
        assert words in re.sub(" +", " ", text)
    assert "train: 1,000 sequences, 16,000 frames; held_out: 296 sequences, 4,736 frames" in text
    assert "DDR.static_dim = 4" in text


@pytest.mark.slow
def test_the_best_checkpoint_is_exported_unless_the_last_is_asked_for(tmp_path, run_dir):
    run = shutil.copytree(run_dir, tmp_path / "run")
    last = keras.models.load_model(run / "model.keras", compile=False)
    last.set_weights([weight + 0.1 for weight in last.get_weights()])
    last.save(run / "model_last.keras")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"step": 4, "best_step": 2}))
    write_evaluation(run, {"swap_psnr": Metric(21.5)}, Settings())
    frames = tf.constant(np.random.RandomState(0).uniform(size=(1, 2, 16, 16, 3)).astype(np.float32))
    for checkpoint, file, step in (("best", "model.keras", 2), ("last", "model_last.keras", 4)):
        out = tmp_path / checkpoint
        assert export.main([*flags(run, out), "--checkpoint", checkpoint]) == 0
        densities = sorted(path.name for path in (out / "1/assets.extra").glob("*.npz"))
        assert densities == (["dynamic_density.npz", "static_density.npz"] if checkpoint == "best" else [])
        found = tf.saved_model.load(str(out / "1")).signatures["reconstruct"](frames=frames)["frames"]
        model = keras.models.load_model(run / file, compile=False)
        np.testing.assert_allclose(found, model(frames)["reconstruction"], atol=1e-5)
        card = json.loads((out / "1/assets.extra/model_card.json").read_text())
        assert card["training"]["step"] == step
        assert (card["evaluation"] is None) == (checkpoint == "last")


def test_half_the_size_and_almost_the_same_answers(exported, run_dir):
    model = keras.models.load_model(run_dir / "model.keras")
    size = (exported / "variables/variables.data-00000-of-00001").stat().st_size
    bookkeeping = 6000
    assert size < 2 * model.count_params() + bookkeeping < 4 * model.count_params()
    frames = tf.constant(np.random.RandomState(0).uniform(size=(1, 2, 16, 16, 3)).astype(np.float32))
    found = tf.saved_model.load(str(exported)).signatures["reconstruct"](frames=frames)["frames"]
    assert 0 < np.abs(found - model(frames)["reconstruction"]).max() < 2e-3


def test_the_model_answers_its_warm_up_requests(exported):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    signatures = tf.saved_model.load(str(exported)).signatures
    asked = []
    for record in tf.data.TFRecordDataset(str(exported / "assets.extra/tf_serving_warmup_requests")):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "half"
        asked.append(request.model_spec.signature_name)
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        assert all(np.isfinite(value).all() for value in signatures[asked[-1]](**inputs).values())
    assert set(asked) == set(signatures) - {"encode_bytes"}


@pytest.mark.parametrize("missing", ["model.keras", "config.gin", "run.json", "metrics.jsonl"])
def test_a_run_that_is_not_whole_is_refused(tmp_path, run_dir, capsys, missing):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in {"model.keras", "config.gin", "run.json", "metrics.jsonl"} - {missing}:
        (folder / name).write_bytes((run_dir / name).read_bytes())
    assert export.main(flags(folder, tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert missing in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture
def any_signatures(saved_model, monkeypatch):
    """Exports have the signatures of another model, for tests of what lies beside them: to trace them takes long."""

    def copy(model, directory, weights):
        shutil.copytree(saved_model / "3", directory, dirs_exist_ok=True)

    monkeypatch.setattr(exporting, "write_saved_model", copy)


@pytest.mark.usefixtures("any_signatures")
def test_examples_of_held_out_sequences(tmp_path, run_dir, capsys):
    extra = tmp_path / "puppets/1/assets.extra"
    assert export.main(flags(run_dir, tmp_path / "puppets")) == 0
    index = json.loads((extra / "examples/examples.json").read_text())
    assert index == {letter: [f"{letter}-{number}.png" for number in range(1, 7)] for letter in "AB"}
    dataset = runs.load_sequences(run_dir)
    first = dataset.splits["held_out"][0]
    with Image.open(extra / "examples/A-1.png") as image:
        np.testing.assert_array_equal(image, dataset.frames(tf.constant([first]), tf.constant([0]))[0])
    assert json.loads((extra / "dataset.json").read_text()) == json.loads((run_dir / "dataset.json").read_text())
    assert not (extra / "model.keras").exists()
    assert export.main([*flags(run_dir, tmp_path / "puppets"), "--examples", "no", "--keep_keras"]) == 0
    assert not (tmp_path / "puppets/2/assets.extra/examples").exists()
    assert runs.load_keras_model(tmp_path / "puppets").static_dim == 4


@pytest.mark.usefixtures("any_signatures")
def test_examples_only_if_they_may_be_passed_on(tmp_path, run_dir, capsys, monkeypatch):
    monkeypatch.setattr(Puppets, "open_licence", False)
    assert export.main(flags(run_dir, tmp_path / "puppets")) == 0
    assert "without example frames for the explorer (licence: Apache-2.0, as ddr_tf)" in capsys.readouterr().out
    assert not (tmp_path / "puppets/1/assets.extra/examples").exists()
    assert export.main([*flags(run_dir, tmp_path / "puppets"), "--examples", "yes"]) == 0
    assert (tmp_path / "puppets/2/assets.extra/examples/B-6.png").exists()


def test_a_forgotten_name_is_asked_for(tmp_path, run_dir, capsys):
    (tmp_path / "models/puppets/1").mkdir(parents=True)
    for out in (tmp_path / "saved_models", tmp_path / "models"):
        assert export.main(flags(run_dir, out)) == 2
        assert f"--out {out} lacks the name of the model; give one, as {out}/puppets" in capsys.readouterr().err


def test_what_cannot_be_written_is_one_line(tmp_path, run_dir, capsys):
    (tmp_path / "file").write_text("no folder")
    assert export.main(flags(run_dir, tmp_path / "file")) == 2
    assert f"{tmp_path / 'file'} cannot be written" in capsys.readouterr().err


def test_help_needs_no_tensorflow():
    code = (
        "import sys; from ddr_tf import export\n"
        "try: export.main(['--help'])\nfinally: print('tensorflow' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "saved_models/NAME" in answer.stdout
    assert answer.stdout.endswith("False\n")
