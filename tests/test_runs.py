import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from conftest import draw_image
from ddr_tf import runs
from ddr_tf.data import recipe as recipes
from ddr_tf.data.frame_folders import FrameFolders
from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR


@pytest.fixture
def run(run_dir, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(run_dir, tmp_path / "run")


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_run_is_read(run_dir):
    model, sequences = runs.load_run(run_dir)
    assert model.frame_shape == sequences.frame_shape == (16, 16, 3)
    costs = runs.cost(run_dir, model)
    assert costs["parameters"] == model.count_params()
    assert costs["training_frames_per_second"] > 0
    assert runs.read_dataset(run_dir)["recipe"]["class"] == "Puppets"


def test_other_data_are_refused(run):
    change(run / "run.json", data="0" * 32)
    with pytest.raises(UserError, match="The data have changed since"):
        runs.load_sequences(run)


DAMAGES = {
    "emptied": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "zeroed": lambda content: bytes(len(content)),
    "no text": lambda content: b"\xff" + content,
    "a list": lambda content: b"[]",
    "a number": lambda content: b"1",
    "deep": lambda content: b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize(
    "name", ["run.json", "dataset.json", "metrics.jsonl", "model.keras", "static_density.npz", "dynamic_density.npz"]
)
def test_damaged_files_are_named_in_one_line(run, name, damage):
    path = run / name
    path.write_bytes(damage(path.read_bytes()))
    readers = {
        "run.json": runs.load_run,
        "dataset.json": runs.load_sequences,
        "metrics.jsonl": runs.read_metrics,
    }
    of_archive = name.endswith((".keras", ".npz")) and damage == DAMAGES["no text"]
    if (name, path.read_bytes()) == ("metrics.jsonl", b"") or of_archive:
        return  # of a run that has just begun; and an archive may have something before it
    with pytest.raises(UserError, match=name) as error:
        readers.get(name, runs.load_model)(run)
    assert "\n" not in str(error.value)


def test_flips_in_a_model_are_one_line_or_harmless(run):
    content = (run / "model.keras").read_bytes()
    for place in range(0, len(content), len(content) // 15):
        flipped = bytearray(content)
        flipped[place] ^= 255
        (run / "model.keras").write_bytes(flipped)
        try:
            runs.load_model(run)
        except UserError as error:
            assert "model.keras cannot be read" in str(error)


def test_files_that_are_none_are_not_read(run):
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")
    with pytest.raises(UserError, match="a FIFO"):
        runs.read_metrics(run)


@pytest.mark.parametrize(
    "change_", [{"step": "4"}, {"finished": None}, {"data": 4}, {"training_minutes": "1"}], ids=str
)
def test_records_of_other_types_are_refused(run, change_):
    change(run / "run.json", **change_)
    with pytest.raises(UserError, match=rf"run\.json cannot be read \(it holds no {next(iter(change_))}"):
        runs.load_run(run)


@pytest.mark.parametrize(
    "recipe", [[], {"class": "Puppets"}, {"class": 3, "module": "ddr_tf", "arguments": {}}, {"arguments": []}], ids=str
)
def test_recipes_that_are_none_are_refused(run, recipe):
    change(run / "dataset.json", recipe=recipe)
    for read in (runs.load_sequences, runs.image_settings):
        with pytest.raises(UserError, match=r"dataset\.json cannot be read \(its recipe is none"):
            read(run)


def test_a_density_of_another_model_is_refused(run):
    density = runs.load_model(run).static_density
    dataclasses.replace(density, offset=np.zeros(5, np.float32)).save(run / "static_density.npz")
    with pytest.raises(UserError, match=r"static_density\.npz cannot be read"):
        runs.load_model(run)
    density.save(run / "static_density.npz")
    for code, sizes in (("f of 4 numbers, not 6", {"static_dim": 6}), ("z of 2 numbers, not 3", {"dynamic_dim": 3})):
        with pytest.raises(UserError, match=code):
            runs.read_densities(run, DDR((16, 16, 1), **{"static_dim": 4} | sizes))


def test_an_extended_run_has_no_final_model(run):
    change(run / "run.json", finished=False)
    with pytest.raises(UserError, match="is being trained for longer and has not finished"):
        runs.load_model(run)


def test_modules_of_other_users_are_not_executed(run, monkeypatch):
    recipe = runs.read_dataset(run)["recipe"] | {"module": "their_module"}
    change(run / "dataset.json", recipe=recipe)
    monkeypatch.setattr(os, "getuid", lambda: (run / "run.json").stat().st_uid + 1)
    with pytest.raises(UserError, match="the module their_module would be executed"):
        runs.load_sequences(run)
    monkeypatch.setenv(runs.TRUST, "1")
    with pytest.raises(UserError, match="their_module is not there any more"):
        runs.load_sequences(run)


def test_macros_in_the_settings_of_old_runs_are_resolved(run):
    (run / "dataset.json").unlink()
    settings = json.loads((run / "run.json").read_text())["settings"]
    change(run / "run.json", settings=settings | {"Puppets.size": "%side", "side": "16"})
    assert runs.load_sequences(run).frame_shape == (16, 16, 3)
    change(run / "run.json", settings=settings | {"train.sequences": "@Nothing"})
    with pytest.raises(UserError, match="does not tell which dataset"):
        runs.load_sequences(run)


def test_a_model_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "model.keras").write_text("no model")
    with pytest.raises(UserError, match=r"model\.keras cannot be read by ddr_tf .* run\.json beside it"):
        runs.load_model(tmp_path)


def test_files_that_were_replaced_are_seen_wherever_they_are_now(tmp_path):
    for sequence in "ab":
        for number in range(2):
            draw_image(tmp_path / f"frames/{sequence}/{number}.png", seed=number)
    begun = FrameFolders(str(tmp_path / "frames"), 16)
    record = {"data": begun.fingerprint(), "content": begun.content}
    shutil.move(tmp_path / "frames", tmp_path / "moved")
    runs.check_same_data(tmp_path, record, FrameFolders(str(tmp_path / "moved"), 16))
    draw_image(tmp_path / "moved/b/1.png", seed=7)
    changed = FrameFolders(str(tmp_path / "moved"), 16)
    assert changed.fingerprint() == record["data"]
    with pytest.raises(UserError, match=r"The data have changed since .*: files have other sizes now"):
        runs.check_same_data(tmp_path, record, changed)
    for earlier in (record | {"content": None}, {"data": record["data"]}):  # another dataset's, an earlier version's
        runs.check_same_data(tmp_path, earlier, changed)


def test_another_data_dir_is_the_new_root_of_folders(tmp_path):
    for place in ("here", "there"):
        for sequence in "ab":
            draw_image(tmp_path / place / sequence / "0.png", seed=len(place))
    made = recipes.recipe(FrameFolders(str(tmp_path / "here"), 16, min_frames=1))
    there = FrameFolders(str(tmp_path / "there"), 16, min_frames=1)
    assert recipes.make(made, str(tmp_path / "there")).content == there.content
    with pytest.raises(UserError, match=r"There is no folder .*nope"):
        recipes.make(made, str(tmp_path / "nope"))
