"""The command, end to end on a tiny model; and what it is made of."""

import json
import subprocess
import sys

import pytest

from conftest import GIN
from ddr_tf import benchmark, config
from ddr_tf.benchmarking import measure
from ddr_tf.data import AffWild, FrameFolders, MovingMNIST, PublishedMovingMNIST, Puppets, Sprites
from ddr_tf.model import flops
from ddr_tf.training import devices, loop, optimizers

TINY = [
    *("train.batch_size=2", "train.num_frames=2", "train.steps_per_execution=2", "Puppets.size=16"),
    *("Puppets.num_poses=8", "DDR.static_dim=4", "DDR.width=4", "DDR.pair_width=4", "DDR.dense_units=8"),
]


def params(*bindings):
    return [part for binding in bindings for part in ("--gin_param", binding)]


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr(measure, "MATRIX", 64)
    monkeypatch.setattr(measure, "MIN_SECONDS", 0.001)
    monkeypatch.setattr(measure, "INPUT_SECONDS", 0.05)
    monkeypatch.setattr(measure, "LATENCY_CALLS", 3)
    monkeypatch.setattr(measure, "FRAME_COUNTS", (2, 4))


def test_all_figures_of_two_configurations(tmp_path, capsys, quickly):
    nowhere = params(f"AffWild.data_dir='{tmp_path}'", "AffWild.size=32", *TINY)
    files = [str(GIN / "quickstart.gin"), str(GIN / "aff_wild_small.gin")]
    path = tmp_path / "figures.json"
    assert benchmark.main(["--gin_file", *files, *nowhere, "--rounds", "2", "--json", str(path)]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= measure.WIDTH + len(str(tmp_path))
    found = json.loads(path.read_text())
    assert found["sgemm_gflops"] > 0
    assert found["sgemm"]["readings"] == 6  # before each of two configurations and after them, twice
    for name, side in (("quickstart", 16), ("aff_wild_small", 32)):
        figures = found["train"][name]
        assert (figures["frame_shape"], figures["batch_size"], figures["num_frames"]) == ([side, side, 3], 2, 2)
        assert figures["gflops"] == pytest.approx(figures["frames_per_second"] * figures["gflop_per_frame"])
        assert figures["share_of_sgemm"] == pytest.approx(figures["gflops"] / found["sgemm_gflops"])
        parts = found["parts"][name]
        assert {*flops.PARTS, "optimizer", "step", "rest"} <= parts.keys()
        assert all(parts[part]["forward_and_backward_gflops"] > 0 for part in flops.PARTS)
        calls = {f"{verb}_{count}_frames" for verb in ("encode", "decode") for count in (1, 8)}
        assert found["latency"][name].keys() == calls
        assert all(0 < each["median_ms"] <= each["p90_ms"] for each in found["latency"][name].values())
    assert found["train"]["quickstart"]["input"]["frames_per_second"] > 0
    assert "There is no folder" in found["train"]["aff_wild_small"]["input"]["not_at_hand"]
    assert "The data of aff_wild_small are not at hand: There is no folder" in said.replace("\n", " ")
    assert {count: each["batch_size"] for count, each in found["num_frames"]["quickstart"].items()} == {"2": 2, "4": 1}
    assert found["start_up"]["quickstart"]["first_step_seconds"] > 1
    assert list(tmp_path.iterdir()) == [path]


def test_shipped_configurations_are_found():
    found = measure.Benchmark([], [], None, max_frames=128, rounds=1)
    names = {path.split("/")[-1].removesuffix(".gin") for path in found._gin_files}
    assert {"quickstart", "sprites", "sprites_small", "moving_mnist", "aff_wild"} <= names
    assert names.isdisjoint({"base", "shards", "frame_folders"})
    assert set(measure.DETAILED) <= names
    with_root = measure.Benchmark([], ["FrameFolders.root='x'"], None, max_frames=128, rounds=1)
    assert {path.split("/")[-1] for path in with_root._gin_files} - {f"{name}.gin" for name in names} == {
        "frame_folders.gin"
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gin_file", "nowhere.gin"], "There is no gin file nowhere.gin"),
        (["--gin_file", str(GIN / "base.gin")], "train.sequences is not set"),
        (["--gin_file", str(GIN / "quickstart.gin"), "--json", "/nowhere/x.json"], "--json: /nowhere/x.json cannot"),
        (["--gin_file", str(GIN / "quickstart.gin"), "--json", "/"], "--json: / cannot be written (Is a directory)"),
        (["--gin_file", str(GIN / "quickstart.gin"), "--max_frames", "3"], "--max_frames must be at least the frames"),
        (["--gin_file", str(GIN / "quickstart.gin"), "--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--gin_file", str(GIN / "quickstart.gin")] * 2, "Two gin files have the same name"),
        (["--gin_file", str(GIN / "quickstart.gin"), *params("DDR.width=0", "Puppets.num_poses=2")], "DDR.width must"),
        (params("DDR.widht=1"), "did you mean width?"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert benchmark.main(arguments) == 2
    error = capsys.readouterr().err.strip().split("\r")[-1].strip()
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error


@pytest.mark.parametrize("kind", [AffWild, FrameFolders, MovingMNIST, PublishedMovingMNIST, Puppets, Sprites])
def test_shapes_of_frames_are_told_without_data(kind, drawn_data, tmp_path):
    bindings = ["FrameFolders.channels=1", "FrameFolders.size=32", "AffWild.size=48", "AffWild.folder='faces'"]
    bindings += ["FrameFolders.root=%data_dir", "MovingMNIST.num_train=4", "MovingMNIST.num_held_out=2"]
    bindings += [f"{name}.data_dir=%data_dir" for name in ("AffWild", "MovingMNIST", "PublishedMovingMNIST", "Sprites")]
    config.load([], bindings, str(drawn_data))
    given = config.settings(kind)
    if kind is FrameFolders:
        given["root"] = f"{drawn_data}/faces/cropped_aligned"
    told = kind.frame_shape_of(**given)
    quick = {Puppets: None, Sprites: (64, 64, 3)}  # the first needs no data, the second takes seconds
    assert told == (quick[kind] if kind in quick else kind(**given).frame_shape)


def test_training_that_becomes_nan_is_not_timed():
    ddr = loop.compiled_model(
        devices.make_strategy(),
        measure.DDR,
        (16, 16, 1),
        2,
        optimizers.Adam,
        steps=9,
        learning_rate=1e30,
        final_learning_rate=1e30,
        seed=0,
    )
    execute = measure.training_steps(ddr, 1, 2, 2)
    with pytest.raises(measure.UserError, match="became NaN"):
        for _ in range(5):
            execute()


def test_help_needs_no_tensorflow():
    code = "import sys; from ddr_tf import benchmark\n"
    code += "try: benchmark.main(['--help'])\nfinally: print('tensorflow' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "--max_frames FRAMES" in answer.stdout
    assert answer.stdout.endswith("False\n")
