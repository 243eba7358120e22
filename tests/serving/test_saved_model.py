"""Versions of an exported model: each whole, or not there."""

import pytest

from ddr_tf import files
from ddr_tf.errors import UserError
from ddr_tf.serving.saved_model import find_saved_model, write_version


def put(text):
    return lambda folder: (folder / "saved_model.pb").write_text(text)


def test_versions_follow_one_another(tmp_path):
    name = tmp_path / "saved_models" / "name"
    with pytest.raises(UserError, match="holds no SavedModel"):
        find_saved_model(name)
    assert write_version(put("a"), name) == name / "1"
    for other in ("9.partial", "notes"):
        (name / other).mkdir()
    (name / "99").write_text("no folder")
    for number in range(2, 11):
        assert write_version(put("b"), name) == name / str(number)
    assert (name / "1/saved_model.pb").read_text() == "a"
    assert find_saved_model(name) == name / "10"  # and not 9, which is last in the alphabet
    assert find_saved_model(name / "3") == name / "3"


def test_of_two_at_once_both_are_written(tmp_path):
    def write(folder):
        write_version(put("first"), tmp_path)
        put("second")(folder)

    assert write_version(write, tmp_path) == tmp_path / "2"
    assert (tmp_path / "1/saved_model.pb").read_text() == "first"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_what_is_interrupted_leaves_nothing(tmp_path, error):
    def write(folder):
        (folder / "variables").mkdir()
        put("half")(folder / "variables")
        raise error

    with pytest.raises((error, UserError)):
        write_version(write, tmp_path / "saved_models/name")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_is_removed(tmp_path):
    (tmp_path / f"{files.PREFIX}killed" / "version").mkdir(parents=True)
    write_version(put("a"), tmp_path / "name")
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_numbers_may_begin_with_zeros(tmp_path):
    for name in ("009", "10"):
        (tmp_path / name).mkdir()
        put(name)(tmp_path / name)
    assert find_saved_model(tmp_path) == tmp_path / "10"
    (tmp_path / "011").mkdir()
    put("a")(tmp_path / "011")
    assert find_saved_model(tmp_path) == tmp_path / "011"
