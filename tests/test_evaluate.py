import dataclasses
import json
import shutil

import pytest

from ddr_tf import compare, evaluate, export
from ddr_tf.errors import UserError
from ddr_tf.evaluation import protocol, summary
from ddr_tf.evaluation.metric import Metric


@pytest.fixture
def few(monkeypatch):
    """For speed: probes on few sequences, which is not enough for values but for the names of metrics."""
    sizes = dict(max_sequences=60, num_pairs=8, classifier_frames=100, bound_samples=2, probe_iterations=5, samples=8)
    settings_of = evaluate.settings_of
    monkeypatch.setattr(evaluate, "settings_of", lambda *given: dataclasses.replace(settings_of(*given), **sizes))


def test_the_commands_write_evaluation_json_and_a_comparison(tmp_path, run_dir, capsys, few):
    runs = [str(shutil.copytree(run_dir, tmp_path / name)) for name in ("first", "second")]
    assert evaluate.main(["--run_dir", runs[0], "--seeds", "2", "--num_frames", "8", "2"]) == 0
    written = json.loads((tmp_path / "first/evaluation.json").read_text())
    assert all(set(figure) == {"value", "standard_error", "chance", "ceiling"} for figure in written.values())
    assert {"swap_psnr", "swap_psnr_with_2_frames", "parameters", "training_peak_memory_mb"} <= written.keys()
    assert {"probe_dynamic_to_arms", "probe_static_to_hair_with_2_frames"} <= written.keys()
    assert not [name for name in written if "dynamic_to" in name and name.endswith("_frames")]  # z is of one frame
    assert written["training_minutes"]["standard_error"] is None
    assert "swap_pose_accuracy" in capsys.readouterr().out
    assert list((tmp_path / "first/logs/evaluation").iterdir())

    out = tmp_path / "comparison"
    asked = [*runs, "--seeds", "2", "--num_frames", "8", "2"]
    assert compare.main([*asked, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "first: was evaluated before" in printed.err and "second: is evaluated" in printed.err
    assert out.with_suffix(".md").read_text() == printed.out
    assert printed.out.splitlines()[0].replace("|", "").split() == ["metric", "first", "second", "chance", "ceiling"]
    of_first = json.loads(out.with_suffix(".json").read_text())["first"]
    assert of_first == written
    assert compare.main(asked) == 0
    assert capsys.readouterr().err == "first: was evaluated before\nsecond: was evaluated before\n"

    record = json.loads((tmp_path / "first/run.json").read_text())
    (tmp_path / "first/run.json").write_text(json.dumps(record | {"data": "of another set"}))
    assert evaluate.main(["--run_dir", runs[0], "--seeds", "2"]) == 2
    assert "The data have changed since" in capsys.readouterr().err
    (tmp_path / "first/evaluation.json").write_text("[]")
    assert compare.main(asked) == 2
    assert "first/evaluation.json cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_an_exported_model_is_measured_as_its_run(tmp_path, run_dir, few):
    run_dir, exported = shutil.copytree(run_dir, tmp_path / "run"), tmp_path / "exported"
    assert export.main(["--run_dir", str(run_dir), "--out", str(exported)]) == 0
    for what in (["--run_dir", str(run_dir)], ["--saved_model", str(exported)]):
        assert evaluate.main([*what, "--seeds", "2", "--num_frames", "8"]) == 0
    of_run, of_exported = (
        json.loads((folder / "evaluation.json").read_text()) for folder in (run_dir, exported / "1/assets.extra")
    )
    for name in (
        "elbo_nats_per_frame",
        "importance_weighted_bound_nats_per_frame",
        "swap_conditioned_psnr",
        "swap_psnr",
    ):
        assert of_exported[name]["value"] == pytest.approx(of_run[name]["value"], rel=1e-4), name


def test_metrics_that_cannot_be_kept_are_printed(tmp_path, run_dir, capsys, monkeypatch):
    metrics = dict.fromkeys(("swap_psnr", "reconstruction_psnr"), Metric(20.0))
    monkeypatch.setattr(protocol, "evaluate", lambda *_, **__: metrics)
    run_dir = shutil.copytree(run_dir, tmp_path / "run")
    command = ["--run_dir", str(run_dir), "--seeds", "2", "--num_frames", "8"]
    with monkeypatch.context() as patched:
        patched.setattr(evaluate.os, "access", lambda *_: False)
        assert evaluate.main(command) == 2
    said = capsys.readouterr()
    assert "run cannot be written, so the metrics will only be printed" in said.err and "swap_psnr" in said.out
    assert "error: The metrics are printed above, but not kept" in said.err
    assert "are in evaluation.json" not in said.out
    assert not (run_dir / "evaluation.json").exists()

    def full(*_):
        raise UserError("evaluation.json cannot be written (No space left on device)")

    monkeypatch.setattr(summary, "write_evaluation", full)
    assert evaluate.main(command) == 2
    said = capsys.readouterr()
    assert "evaluation.json cannot be written" in said.err and "swap_psnr" in said.out


def test_more_frames_than_there_are_is_refused(run_dir, capsys):
    assert evaluate.main(["--run_dir", str(run_dir), "--num_frames", "500"]) == 2
    assert "N = 500 is more than the frames of any held-out sequence; the longest has" in capsys.readouterr().err


def test_a_folder_without_a_finished_run_is_refused(tmp_path, capsys):
    assert evaluate.main(["--run_dir", str(tmp_path)]) == 2
    assert "holds no finished run" in capsys.readouterr().err


def test_what_is_no_folder_is_told(tmp_path, capsys):
    assert evaluate.main(["--run_dir", str(tmp_path / "nope")]) == 2
    assert "nope holds no finished run (there is no such folder)" in capsys.readouterr().err
    (tmp_path / "model.keras").write_text("")
    assert evaluate.main(["--run_dir", str(tmp_path / "model.keras")]) == 2
    assert f"(it is a file; give the folder that it is in, {tmp_path})" in capsys.readouterr().err


def test_exported_models_are_found_by_their_names(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved_models/mine/1").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.gin").write_text("")
    for given, words in (
        ("mine", "saved_models/mine holds no SavedModel"),  # it is looked for there
        ("nope", "There is no folder nope, and no exported model of that name; there are: "),
        ("run", "run is a run; give it as --run_dir"),
    ):
        assert evaluate.main(["--saved_model", given]) == 2
        assert words in capsys.readouterr().err
