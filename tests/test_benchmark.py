"""The command, end to end on a tiny model; and what it is made of."""

import json
import subprocess
import sys

import pytest

from conftest import GIN
from ddr_tf import benchmark
from ddr_tf.benchmarking import computations, measure, report, timing
from ddr_tf.model import flops
from tiny import SIZE_BINDINGS

TINY = [
    *("train.batch_size=2", "train.num_frames=2", "train.steps_per_execution=2", "Puppets.size=16"),
    *("Puppets.num_poses=8", *SIZE_BINDINGS),
]


def params(*bindings):
    return [part for binding in bindings for part in ("--gin_param", binding)]


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr(computations, "MATRIX", 64)
    monkeypatch.setattr(timing, "MIN_SECONDS", 0.001)
    monkeypatch.setattr(measure, "INPUT_SECONDS", 0.05)
    monkeypatch.setattr(measure, "LATENCY_CALLS", 3)
    monkeypatch.setattr(measure, "FRAME_COUNTS", (2, 4))


@pytest.mark.slow
def test_all_figures_of_two_configurations(tmp_path, capsys, quickly):
    nowhere = params(f"AffWild.data_dir='{tmp_path}'", "AffWild.size=32", "DDR.num_static_frames=0", *TINY)
    files = [str(GIN / "quickstart.gin"), str(GIN / "aff_wild_small.gin")]
    path = tmp_path / "figures.json"
    assert benchmark.main(["--gin_file", *files, *nowhere, "--rounds", "2", "--json", str(path)]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= report.LINE_WIDTH + len(str(tmp_path))
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


def test_help_needs_no_tensorflow():
    code = "import sys; from ddr_tf import benchmark\n"
    code += "try: benchmark.main(['--help'])\nfinally: print('tensorflow' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "--max_frames FRAMES" in answer.stdout
    assert answer.stdout.endswith("False\n")
