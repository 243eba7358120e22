"""Checkpoints: whole or passed over, and never a run that starts again by accident."""

import inspect
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import tiny
from ddr_tf import runs
from ddr_tf.errors import UserError
from ddr_tf.training.build import build
from ddr_tf.training.checkpoints import Checkpoints, steps_done
from ddr_tf.training.devices import Devices
from ddr_tf.training.loop import train
from ddr_tf.training.settings import Settings

SETTINGS = tiny.SETTINGS | dict(steps=3, checkpoint_every=1, log_every=1)


@pytest.fixture(scope="module")
def run_of_three_steps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(str(folder), **SETTINGS)
    return folder


@pytest.fixture
def run(run_of_three_steps, tmp_path):
    """A copy of a run of three steps."""
    return shutil.copytree(run_of_three_steps, tmp_path / "run")


@pytest.fixture(scope="module")
def ddr():
    """A model that checkpoints of that run can be restored into."""
    defaults = {name: each.default for name, each in inspect.signature(train).parameters.items()}
    settings = {name: value for name, value in defaults.items() if name in Settings.__dataclass_fields__}
    return build(Settings(**settings | SETTINGS), Devices(tf.distribute.MirroredStrategy(["CPU:0"])), (16, 16, 1))


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_two_and_the_best_are_kept(run):
    ends = ("data-00000-of-00001", "index", "json")
    last = [f"ckpt-{step}.{end}" for step in (2, 3) for end in ends]
    assert names(run / "checkpoints/last") == ["checkpoint", *last]
    assert [each.step for each in runs.checkpoints(run, "last")] == [3, 2]
    (best,) = runs.checkpoints(run, "best")
    assert names(run / "checkpoints/best") == ["checkpoint", *(f"ckpt-{best.step}.{end}" for end in ends)]
    assert best.manifest["held_out_elbo"] == max(
        line["elbo"] for line in runs.read_metrics(run) if line["split"] == "held_out"
    )


@pytest.mark.parametrize("end", ["data-00000-of-00001", "index", "json"])
@pytest.mark.parametrize("how", ["damaged", "emptied", "removed"])
def test_a_damaged_checkpoint_is_passed_over(run, ddr, end, how, capsys):
    path = run / f"checkpoints/last/ckpt-3.{end}"
    {"damaged": damage, "emptied": lambda path: path.write_bytes(b""), "removed": lambda path: path.unlink()}[how](path)
    shutil.rmtree(run / "checkpoints/best")
    newest = runs.newest_checkpoint(run)
    restored = Checkpoints(run, run, ddr).restore()
    if end == "json" and how == "damaged":
        return  # a flip in JSON may change nothing
    assert restored.step == steps_done(ddr) == 2
    assert newest.name == "ckpt-2"
    error = capsys.readouterr().err
    assert end == "json" or f"warning: The checkpoint {run}/checkpoints/last/ckpt-3 cannot be read" in error


def test_the_best_is_used_where_nothing_else_is_left(run, ddr):
    for path in (run / "checkpoints/last").glob("*.data*"):
        damage(path)
    (best,) = runs.checkpoints(run, "best")
    assert Checkpoints(run, run, ddr).restore().path == best.path


def test_files_that_tensorflow_looks_at_may_be_lost(run, ddr):
    paths = list(run.glob("checkpoints/*/checkpoint"))
    before = [path.read_text() for path in paths]
    for path in paths:
        path.unlink()
    checkpoints = Checkpoints(run, run, ddr)
    restored = checkpoints.restore()
    assert restored.step == 3
    checkpoints.tidy(restored)
    assert len(paths) == 2 and [path.read_text() for path in paths] == before


@pytest.mark.parametrize("name", ["run [1]", "a\\b", "run*?", "r\u00fcn \U0001f600", "{a,b}"])
def test_names_of_run_directories_are_not_patterns(run, ddr, name):
    moved = run.rename(run.with_name(name))
    checkpoints = Checkpoints(moved, moved, ddr)
    assert checkpoints.restore().step == 3
    checkpoints.save(4, None, {})
    assert runs.newest_checkpoint(moved).name == "ckpt-4"


def test_a_run_without_checkpoints_does_not_start_again(run):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"finished": False}))
    shutil.rmtree(run / "checkpoints")
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"run\.json says that .* had reached step 3, but there is no checkpoint"):
        train(str(run), **SETTINGS | {"steps": 4})
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_again(run):
    for path in run.glob("checkpoints/*/*.data*"):
        path.write_bytes(path.read_bytes()[:100])
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="ckpt-3 cannot be read") as error:
        train(str(run), **SETTINGS | {"steps": 4})
    assert "\n" not in str(error.value)
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_finished_run_needs_no_checkpoints(run, capsys):
    shutil.rmtree(run / "checkpoints")
    model = train(str(run), **SETTINGS)
    assert "has already finished its 3 steps" in capsys.readouterr().out
    for left, right in zip(model.get_weights(), runs.load_model(run).get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_kill_between_the_newest_and_the_best_is_mended(run, ddr):
    (best,) = runs.checkpoints(run, "best")
    newest = runs.checkpoints(run, "last")[0]
    if best.step != newest.step:
        pytest.skip("the last step is not the best")
    shutil.rmtree(run / "checkpoints/best")
    checkpoints = Checkpoints(run, run, ddr)
    checkpoints.tidy(checkpoints.restore())
    assert [each.step for each in runs.checkpoints(run, "best")] == [newest.step]


def test_an_incomplete_checkpoint_is_no_checkpoint_and_goes_with_the_next(run, ddr):
    for name in ("ckpt-9.index", "ckpt-9.data-00000-of-00001", "ckpt-8.index"):
        (run / "checkpoints/last" / name).write_bytes(b"x")
    (run / "checkpoints/last/ckpt-9_temp").mkdir()
    checkpoints = Checkpoints(run, run, ddr)
    assert checkpoints.restore().step == 3
    checkpoints.save(4, None, {})
    kept = {path.name.partition(".")[0] for path in (run / "checkpoints/last").iterdir()}
    assert kept == {"checkpoint", "ckpt-3", "ckpt-4"}


def test_what_was_gathered_for_the_log_is_kept(run, ddr):
    log = {"sums": {"elbo": -0.1 - 0.2}, "steps": 2, "seconds": 1 / 3}
    Checkpoints(run, run, ddr).save(7, None, log)
    assert runs.checkpoints(run, "last")[0].manifest["log"] == log


def test_tensorflow_finds_the_newest(run):
    assert tf.train.latest_checkpoint(str(run / "checkpoints/last")).endswith("ckpt-3")


def test_a_full_disk_is_said_without_the_words_of_tensorflow(run, ddr, monkeypatch):
    def write(*_):
        message = "{{function_node __wrapped__SaveV2}} /a/.tempstate15; No space left on device [Op:SaveV2]"
        raise tf.errors.ResourceExhaustedError(None, None, message)

    checkpoints = Checkpoints(run, run, ddr)
    checkpoints.restore()
    monkeypatch.setattr(tf.train.Checkpoint, "write", write)
    expected = rf"written to .* \(No space left on device\); the last good checkpoint is {run}/.*/ckpt-3\. The same"
    with pytest.raises(UserError, match=expected):
        checkpoints.save(4, None, {})
