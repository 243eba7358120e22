"""The programs in tools/, as a user runs them."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import GIN, draw_image
from ddr_tf import train
from ddr_tf.data import TFRecords
from tiny import SIZE_BINDINGS

TOOLS = Path(__file__).parents[1] / "tools"
TINY = [
    *("train.steps=4", "train.checkpoint_every=2", "train.log_every=2", "train.held_out_batches=1"),
    *("train.batch_size=2", "train.num_frames=2", "DDR.num_static_frames=1"),
    *SIZE_BINDINGS,
]


def run(tool, *arguments):
    command = [sys.executable, TOOLS / tool, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.fixture
def called(monkeypatch, capsys):
    """A tool within this process: its exit status, and what it prints and warns of."""
    monkeypatch.syspath_prepend(str(TOOLS.parent))

    def call(tool, *arguments):
        monkeypatch.setattr(sys, "argv", [tool, *map(str, arguments)])
        status = importlib.import_module(f"tools.{tool.removesuffix('.py')}").main()
        return status, *capsys.readouterr()

    return call


def params(*bindings):
    return [part for binding in bindings for part in ("--gin_param", binding)]


@pytest.fixture
def folder(tmp_path):
    for sequence in ("anna", "bob", "cleo"):
        for frame in range(4):
            draw_image(
                tmp_path / "faces" / sequence / f"{frame}.png", hash((len(sequence), sequence[0], frame)) % 2**32
            )
    (tmp_path / "faces/labels.csv").write_text("sequence,age,town\nanna,31,Ulm\nbob,50,Bonn\n")
    (tmp_path / "faces/bob/9.png").write_bytes(b"")
    return tmp_path / "faces"


def settings(folder):
    root = f"FrameFolders.root='{folder}'"
    few = params(root, "FrameFolders.size=16", "FrameFolders.max_bad_fraction=0.2")
    return ["--gin_file", str(GIN / "frame_folders.gin"), *few]


@pytest.mark.parametrize("path", sorted(TOOLS.glob("*.py")), ids=lambda path: path.name)
def test_help_answers_without_tensorflow(path):
    code = "import runpy, sys\ntry: runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
    code += "finally: print('tensorflow' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code, path, "--help"], capture_output=True, text=True)
    assert answer.stdout.startswith("usage:")
    assert answer.stdout.endswith("False\n")


def test_inspect_tells_what_is_there_and_what_is_not_used(folder, tmp_path):
    answer = run("inspect_dataset.py", *settings(folder), "--sheet", tmp_path / "sheet.png")
    assert answer.returncode == 0, answer.stderr
    for line in (
        "faces: frames of 16 x 16 x 3",
        "train                2           8    frames a sequence: least, median, most",
        "label of sequences: age, known of 67%: 31 to 50",
        "label of sequences: town, known of 67%: Ulm 1, Bonn 1",
        f"1  bad       empty file; for example {folder / 'bob/9.png'}",
    ):
        assert line.split("    frames")[0] in answer.stdout
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape[0] > 3 * 64
    assert 50 < pixels[40:, 200:].mean() < 220


@pytest.mark.usefixtures("without_pictures")
def test_shards_are_written_and_trained_from(folder, tmp_path, called, capsys):
    answer = run("write_shards.py", *settings(folder), "--out", tmp_path / "shards")
    assert answer.returncode == 0, answer.stderr
    assert f"{tmp_path / 'shards'}: 3 sequences of faces; 2 shards written now" in answer.stdout
    _, said, _ = called("write_shards.py", *settings(folder), "--out", tmp_path / "shards")
    assert "0 shards written now" in said
    files = ["--gin_file", str(GIN / "frame_folders.gin"), "--gin_file", str(GIN / "shards.gin")]
    shards = params(*TINY, f"TFRecords.folder='{tmp_path / 'shards'}'")
    assert train.main([*files, *shards, "--run_dir", str(tmp_path / "run")]) == 0
    assert "faces: 2 train and 1 held-out sequences" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
def test_frame_folders_are_trained_from(folder, tmp_path, capsys):
    assert train.main([*settings(folder), *params(*TINY), "--run_dir", str(tmp_path / "run")]) == 0
    assert "faces: 2 train and 1 held-out sequences" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tool", "extra", "message"),
    [
        ("inspect_dataset.py", params("FrameFolders.root='nowhere'"), "error: There is no folder nowhere."),
        ("inspect_dataset.py", params("FrameFolders.rot='x'"), "did you mean root?"),
        ("inspect_dataset.py", ["--sheet", "/nowhere/sheet.png"], "error: The contact sheet /nowhere/sheet.png"),
        ("inspect_dataset.py", ["--sheet", "sheet.pdf"], "error: --sheet: sheet.pdf must end with one of .png, .jpg"),
        ("write_shards.py", ["--shard_mb", "0", "--out", "x"], "error: --shard_mb must be above 0, got 0.0."),
        ("write_shards.py", ["--out", "/dev/null/x"], "error: --out /dev/null/x cannot be used: /dev/null: it is not"),
        ("write_shards.py", ["--workers", "0", "--out", "x"], "error: --workers must be at least 1, got 0."),
    ],
)
def test_mistakes_are_one_line(folder, called, tool, extra, message):
    status, _, error = called(tool, *settings(folder), *extra)
    assert status == 2
    assert message in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_prepared_frames_become_shards(folder, tmp_path, called):
    where = (folder, "--out", tmp_path / "frames", "--shards", tmp_path / "shards")
    status, _, error = called("prepare_frames.py", *where)
    assert (status, "--shards needs --size" in error) == (2, True)
    answer = run("prepare_frames.py", *where, "--size", "32")
    assert answer.returncode == 0, answer.stderr
    read = TFRecords(str(tmp_path / "shards"))
    assert (read.ids, read.frame_shape, read.frame_counts.sum()) == (["anna", "bob", "cleo"], (32, 32, 3), 12)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--value_range", "5", "1"], "error: --value_range is 5 1, but must be"),
        (["--shards", "shards", "--size", "30"], "error: --shards needs --size, a multiple of 16"),
        (["--shards", "/dev/null/x", "--size", "32"], "error: --shards /dev/null/x cannot be used"),
    ],
)
def test_mistakes_are_told_before_frames_are_prepared(folder, tmp_path, called, extra, message):
    status, _, error = called("prepare_frames.py", folder, "--out", tmp_path / "frames", *extra)
    assert (status, error.count("\n")) == (2, 1)
    assert message in error
    assert not (tmp_path / "frames").exists()


def test_prepared_frames_have_a_range(tmp_path, called):
    (tmp_path / "in").mkdir()
    for number in (1, 2):
        Image.fromarray(np.full((16, 16), number / 2, np.float32)).save(tmp_path / f"in/{number}.tif")
    where = (tmp_path / "in", "--out", tmp_path / "out", "--value_range", "-1", "1")
    status, said, _ = called("prepare_frames.py", *where)
    assert (status, said) == (0, f"{tmp_path / 'out'}: 1 sequences, 2 frames\n")


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "JPEG"), ("webp", "WEBP")])
def test_the_sheet_is_what_its_suffix_says(folder, tmp_path, called, suffix, kind):
    path = tmp_path / f"sheet.{suffix}"
    assert called("inspect_dataset.py", *settings(folder), "--sheet", path)[0] == 0
    with Image.open(path) as sheet:
        assert sheet.format == kind


def test_the_diagram_needs_a_folder(called):
    status, _, error = called("draw_model.py", "--out", "/nowhere")
    assert status == 2
    assert error == "error: --out: /nowhere/model_light.svg cannot be written (No such file or directory).\n"


@pytest.mark.slow
def test_a_server_is_measured(server_url):
    few = ("--seconds", "0.1", "--frames", "2", "--clients", "1", "2")
    answer = run("benchmark_serving.py", "--model", "puppets", "--url", server_url, *few)
    assert answer.returncode == 0, answer.stderr
    lines = [line.strip("| ").split(" | ") for line in answer.stdout.splitlines()]
    names = ["decode, 1 frame", "decode, 2 frames", "encode, 2 frames", "encode_bytes, 2 frames"]
    assert [line[:2] for line in lines[2:]] == [[name, count] for name in names for count in "12"]
    assert all(0 < float(p50) <= float(p99) and float(speed) > 0 for *_, speed, p50, p99 in lines[2:])
    answer = run("benchmark_serving.py", "--model", "faces", "--url", server_url)
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert "Servable not found" in answer.stderr
