"""The command line, as a user runs it."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from conftest import GIN
from ddr_tf import export, train, visualize
from ddr_tf.pictures import gallery, selection
from tiny import SIZE_BINDINGS

TINY = [
    *("train.steps=4", "train.checkpoint_every=2", "train.log_every=2", "train.held_out_batches=1"),
    *("train.batch_size=2", "train.num_frames=2"),
    *SIZE_BINDINGS,
]
PUPPETS = ["Puppets.size=16", "Puppets.num_poses=10"]


def train_tiny(gin_file, run_dir, *settings, data_dir=None):
    flags = [part for setting in (*TINY, *settings) for part in ("--gin_param", setting)]
    flags += ["--data_dir", str(data_dir)] if data_dir else []
    assert train.main(["--gin_file", str(GIN / gin_file), "--run_dir", str(run_dir), *flags]) == 0
    return run_dir


@pytest.fixture
def few_sequences(monkeypatch):
    monkeypatch.setattr(selection, "MAX_SEQUENCES", 8)


def test_the_command_draws_every_plot(tmp_path, capsys, few_sequences, run_dir):
    capsys.readouterr()
    assert visualize.main(["--run_dir", str(run_dir), "--out", str(tmp_path / "first"), "--dpi", "60"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 18
    assert "timeline is left out: the frames of puppets are in no order that means something" in lines
    drawn = [name for name in gallery.PLOTS if name != "timeline"]
    names = {path.name for path in (tmp_path / "first").iterdir()}
    assert names == {f"{name}.{kind}" for name in drawn for kind in ("png", "pdf")} | {
        "interpolation_static.gif",
        "interpolation_dynamic.gif",
        "captions.md",
    }
    captions = (tmp_path / "first/captions.md").read_text()
    assert all(f"**{name}** " in captions for name in drawn)


@pytest.mark.slow
def test_the_same_command_draws_the_same_bytes(tmp_path, few_sequences):
    run_dir = train_tiny("quickstart.gin", tmp_path / "run", *PUPPETS)
    for out in ("first", "second"):
        assert visualize.main(["--run_dir", str(run_dir), "--out", str(tmp_path / out), "--dpi", "60"]) == 0
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


@pytest.mark.slow
def test_grey_frames_in_four_dynamic_dimensions(tmp_path, capsys, few_sequences, drawn_data):
    small = ["MovingMNIST.num_train=40", "MovingMNIST.num_held_out=10"]
    run_dir = train_tiny("moving_mnist_small.gin", tmp_path, *small, data_dir=drawn_data)
    assert visualize.main(["--run_dir", str(run_dir), "--seed", "3", "--dpi", "50"]) == 0
    assert "left out" not in capsys.readouterr().out
    with Image.open(tmp_path / "figures/swaps.png") as image:
        pixels = image.convert("RGB")
    assert all(red == green == blue for _, (red, green, blue) in pixels.getcolors(1 << 16))


@pytest.mark.slow
def test_the_pictures_of_an_exported_model_are_those_of_its_run(tmp_path, capsys, few_sequences, run_dir):
    assert export.main(["--run_dir", str(run_dir), "--out", str(tmp_path / "puppets"), "--examples", "no"]) == 0
    for model in (["--run_dir", str(run_dir)], ["--saved_model", str(tmp_path / "puppets")]):
        assert visualize.main([*model, "--out", str(tmp_path / model[0].strip("-")), "--dpi", "50"]) == 0
    assert "training is left out: an exported model does not keep" in capsys.readouterr().out
    of_run, of_export = (
        {path.name: path for path in (tmp_path / name).iterdir()} for name in ("run_dir", "saved_model")
    )
    assert of_run.keys() - of_export.keys() == {"training.png", "training.pdf"}
    for name in ("swaps.png", "scatter.png"):
        first, second = (np.asarray(Image.open(pictures[name]), np.int32) for pictures in (of_run, of_export))
        assert np.abs(first - second).mean() < 0.5  # of 255


def test_an_exported_model_has_no_folder_for_pictures(capsys):
    assert visualize.main(["--saved_model", "puppets"]) == 2
    assert capsys.readouterr().err == "error: --out must say where the pictures of an exported model go.\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "holds no finished run"),
        (["--dpi", "7"], "--dpi must be 50 to 1200, got 7"),
        (["--out", "{folder}/file/figures"], "it is not a folder; give another --out"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys, arguments, expected):
    (tmp_path / "file").write_text("")
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    assert visualize.main(["--run_dir", str(tmp_path / "run"), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and expected in error
    assert "\n" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("names", "plots", "selection", "gallery"):
        monkeypatch.delitem(sys.modules, f"ddr_tf.pictures.{name}")
        monkeypatch.delattr(f"ddr_tf.pictures.{name}")
    assert visualize.main(["--run_dir", str(tmp_path)]) == 2
    assert "Plots need matplotlib" in (error := capsys.readouterr().err)
    assert "pip install -e '.[eval]'" in error


def test_help_needs_no_tensorflow():
    code = "import sys; from ddr_tf import visualize\ntry: visualize.main(['--help'])\n"
    code += "finally: print('tensorflow' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "--run_dir DIR" in answer.stdout
    assert answer.stdout.endswith("False\n")
