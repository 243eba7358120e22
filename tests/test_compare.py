import json
import re
import sys

import pytest
from matplotlib.figure import Figure

from ddr_tf import compare, runs
from ddr_tf.evaluation.metric import Metric
from ddr_tf.evaluation.settings import Settings
from ddr_tf.evaluation.summary import write_evaluation
from ddr_tf.pictures import plots


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere holds no finished run (there is no such folder)"),
        (["nowhere", "--seeds", "1"], "--seeds must be at least 2"),
        (["nowhere", "--seeds", "0", "--over_training_seeds"], "--seeds must be at least 1, got 0"),
        (["nowhere", "--num_frames", "0"], "--num_frames must be at least 1, got 0"),
        (["nowhere", "--out", "no/such/folder"], "there is no folder no/such"),
    ],
)
def test_wrong_flags_of_a_comparison_are_refused(arguments, message, capsys):
    assert compare.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--metrics", "--figures"])
def test_metrics_are_chosen_by_either_name_of_the_flag(flag):
    assert compare.parser().parse_args(["run", flag, "swap_*"]).metrics == ["swap_*"]


def an_evaluated_run(folder, seed, width, **metrics):
    """A run directory with as much as a comparison reads."""
    folder.mkdir()
    (folder / runs.MODEL).write_text("")
    settings = {"train.seed": str(seed), "DDR.width": str(width), "Sprites.data_dir": f"'machine {seed}'"}
    record = {"settings": settings, "versions": {}, "step": 4, "finished": True, "data": "d", "seed": seed}
    record |= {"training_minutes": 1.0}
    (folder / runs.RECORD).write_text(json.dumps(record))
    values = {name: Metric(value, 0.1, 0.0, 30.0 + value) for name, value in metrics.items()}
    write_evaluation(folder, values, Settings(num_seeds=1, frame_counts=(8,)))
    return str(folder)


def test_runs_that_differ_in_their_seed_become_one_column(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    an_evaluated_run(tmp_path / "wide-0", 0, 8, swap_psnr=20.0, sample_psnr=18.0)
    an_evaluated_run(tmp_path / "narrow-0", 0, 4, swap_psnr=10.0)
    an_evaluated_run(tmp_path / "wide-1", 1, 8, swap_psnr=23.0)
    flags = ["--over_training_seeds", "--seeds", "1", "--num_frames", "8", "--metrics", "s*", "--out", "table"]
    assert compare.main(["wide-0", "narrow-0", "wide-1", *flags]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    cells = [re.split(r"\s*\|\s*", row)[1:-1] for row in (header, *rows)]
    # The standard error of 20 and 23 is 3 / 2, their ceilings are 50 and 53; sample_psnr is of one of them alone.
    assert cells == [
        ["metric", "wide (2)", "narrow-0 (1)", "chance", "ceiling"],
        ["swap_psnr", "21.500 ± 1.500", "10.000", "0.000", "40.000 to 51.500"],
    ]
    assert json.loads((tmp_path / "table.json").read_text())["wide (2)"]["swap_psnr"]["value"] == 21.5
    assert not (tmp_path / "table.png").exists()  # no run has a log


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["swap_*", "swap_psrn"], "no metric matches 'swap_psrn'; did you mean swap_psnr?"),
        (["nothing*"], "no metric matches 'nothing*'; evaluation.json of a run has all of them."),
    ],
)
def test_a_pattern_that_matches_no_metric_is_refused(tmp_path, capsys, patterns, message):
    run = an_evaluated_run(tmp_path / "run", 0, 8, swap_psnr=20.0)
    flags = ["--over_training_seeds", "--seeds", "1", "--num_frames", "8", "--out", str(tmp_path / "table")]
    assert compare.main([run, *flags, "--metrics", *patterns]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: --metrics: {message}"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert compare.main([run, *flags]) == 0  # the default may match nothing


def test_a_run_that_is_given_twice_is_refused(tmp_path, capsys):
    run = an_evaluated_run(tmp_path / "run", 0, 8, swap_psnr=20.0)
    assert compare.main([run, f"{run}/../run"]) == 2
    assert f"The run {run} is given twice" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_told_at_once(tmp_path, capsys):
    run = an_evaluated_run(tmp_path / "run", 0, 8, swap_psnr=20.0)
    (tmp_path / "table.json").mkdir()
    assert compare.main([run, "--out", str(tmp_path / "table")]) == 2
    assert capsys.readouterr().err == f"error: --out: {tmp_path / 'table.json'} cannot be written (Is a directory).\n"


def test_a_suffix_of_out_is_not_doubled(tmp_path, capsys):
    run = an_evaluated_run(tmp_path / "run", 0, 8, swap_psnr=20.0)
    (tmp_path / "table.json").mkdir()
    assert compare.main([run, "--out", str(tmp_path / "table.md")]) == 2
    assert capsys.readouterr().err == f"error: --out: {tmp_path / 'table.json'} cannot be written (Is a directory).\n"


def test_a_group_of_runs_without_a_common_name_has_that_of_the_first(tmp_path):
    assert compare._common_name(["left", "right"]) == "left"
    assert compare._common_name(["a_seed0", "a_seed1"]) == "a"
    assert compare._common_name(["alone-0"]) == "alone-0"


def test_learning_curves_of_the_runs_that_have_held_out_metrics(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, width in (("wide", 8), ("narrow", 4), ("short", 2)):
        an_evaluated_run(tmp_path / name, 0, width, swap_psnr=20.0)
        splits = ["train", "held_out"] if name != "short" else ["train"]
        lines = [
            {"step": step, "split": split, "minutes": step / 60, "elbo": -900.0 + step, "reconstruction_excess": 90.0}
            for step in (100, 200)
            for split in splits
        ]
        lines.append({"step": 300, "split": "held_out"})  # of another version, perhaps
        (tmp_path / name / runs.METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawn = {}
    monkeypatch.setattr(plots, "draw_learning_curves", lambda curves: drawn.update(curves) or Figure())
    assert (
        compare.main(
            ["wide", "narrow", "short", "--num_frames", "8", "--seeds", "1", "--over_training_seeds", "--out", "a.b"]
        )
        == 0
    )
    assert {name: [len(log) for log in logs] for name, logs in drawn.items()} == {"wide (1)": [2], "narrow (1)": [2]}
    assert {path.name for path in tmp_path.glob("a.b.*")} == {"a.b.md", "a.b.json", "a.b.png", "a.b.pdf"}
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert compare.main(["wide", "--num_frames", "8", "--seeds", "1", "--over_training_seeds", "--out", "c"]) == 0
    assert "without learning curves, which need matplotlib" in capsys.readouterr().err
    assert {path.name for path in tmp_path.glob("c.*")} == {"c.md", "c.json"}
