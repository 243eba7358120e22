"""The command line, as a user runs it."""

import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from ddr_tf import export


def flags(run_dir, out):
    return ["--run_dir", str(run_dir), "--out", str(out)]


def test_each_export_is_the_next_version(tmp_path, run_dir, capsys):
    out = tmp_path / "saved_models/puppets"
    assert export.main(flags(run_dir, out)) == 0
    assert export.main(flags(run_dir, out)) == 0
    assert capsys.readouterr().out.splitlines() == [f"written: {out / '1'}", f"written: {out / '2'}"]
    assert sorted(path.name for path in out.iterdir()) == ["1", "2"]
    assert [path.name for path in tmp_path.iterdir()] == ["saved_models"]
    for name in ("config.gin", "run.json"):
        assert (out / "1/assets.extra" / name).read_text() == (run_dir / name).read_text()
    frames = np.random.RandomState(0).uniform(size=(1, 2, 16, 16, 3)).astype(np.float32)
    found = tf.saved_model.load(str(out / "2")).signatures["reconstruct"](frames=tf.constant(frames))["frames"]
    wanted = keras.models.load_model(run_dir / "model.keras")(frames)["reconstruction"]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


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


@pytest.mark.parametrize("missing", ["model.keras", "config.gin", "run.json"])
def test_a_run_that_is_not_whole_is_refused(tmp_path, run_dir, capsys, missing):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in {"model.keras", "config.gin", "run.json"} - {missing}:
        (folder / name).write_bytes((run_dir / name).read_bytes())
    assert export.main(flags(folder, tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert missing in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


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
