"""Models by the names of their folders."""

import pytest

from ddr_tf import shipped
from ddr_tf.errors import UserError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a model a, and a package with models a and b."""
    for name in ("here/saved_models/a", "here/runs/c", "package/saved_models/a", "package/saved_models/b"):
        (tmp_path / name / "1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(shipped, "PLACES", (tmp_path / "package/saved_models",))
    return tmp_path / "here"


def test_a_path_comes_first_then_what_is_here_then_what_came_along(here):
    assert shipped.resolve("a").resolve() == here / "saved_models/a"
    assert shipped.resolve("b") == here.parent / "package/saved_models/b"
    (here / "b").mkdir()
    assert shipped.resolve("b").resolve() == here / "b"
    assert shipped.resolve(here / "runs/c") == here / "runs/c"
    assert shipped.resolve("b/1").resolve() == here.parent / "package/saved_models/b/1"
    with pytest.raises(UserError, match="There is no folder b/3"):
        shipped.resolve("b/3")
    assert shipped.model_names() == ["a", "b"]


def test_a_folder_that_holds_no_model_hides_none(here):
    (here / "b/2").mkdir(parents=True)  # sequences of images may have such names
    assert shipped.resolve("b").resolve() == here / "b"
    (here.parent / "package/saved_models/b/1/saved_model.pb").write_text("")
    assert shipped.resolve("b") == here.parent / "package/saved_models/b"
    (here / "b/config.gin").write_text("")
    assert shipped.resolve("b").resolve() == here / "b"
    (here / "a").write_text("")  # a file, as train.initial_model takes it
    assert shipped.resolve("a").resolve() == here / "a"


def test_what_is_not_there_is_told_with_what_is(here):
    with pytest.raises(UserError, match="There is no folder d, and no exported model of that name; there are: a, b"):
        shipped.resolve("d")
    with pytest.raises(UserError, match="There is no folder runs/d; in runs there are: c"):
        shipped.resolve("runs/d")
    with pytest.raises(UserError, match="There is no folder nowhere/d"):
        shipped.resolve("nowhere/d")


def test_runs_and_exported_models(here):
    assert not shipped.is_run(here / "saved_models/a")
    (here / "runs/c/config.gin").write_text("")
    assert shipped.is_run(here / "runs/c")
