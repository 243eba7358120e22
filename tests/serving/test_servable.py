"""Exported models as the server loads them."""

import os
import shutil

import pytest
import tensorflow as tf

from ddr_tf.errors import UserError
from ddr_tf.serving.servable import Servable


def test_names_and_versions_come_from_the_folder(saved_model, tmp_path):
    (tmp_path / "a name").symlink_to(saved_model / "3")
    for folder, found in (
        (saved_model, ("puppets", 3)),
        (saved_model / "3", ("puppets", 3)),
        (tmp_path / "a name", ("a name", 1)),
    ):
        servable = Servable(folder)
        assert (servable.name, servable.version) == found


@pytest.mark.parametrize("name", ["a [1]\n", "b\\c", "d\udcff"])
def test_names_may_hold_what_patterns_are_made_of(saved_model, tmp_path, name):
    shutil.copytree(saved_model, tmp_path / name)
    assert Servable(tmp_path / name).name == name


def test_damaged_models_are_refused(saved_model, tmp_path):
    with pytest.raises(UserError, match="holds no SavedModel"):
        Servable(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes((saved_model / "3/saved_model.pb").read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded"):
        Servable(tmp_path)


def test_what_is_no_file_in_a_model_is_not_opened(saved_model, tmp_path):
    version = shutil.copytree(saved_model / "3", tmp_path / "3")
    (version / "variables/variables.index").unlink()
    os.mkfifo(version / "variables/variables.index")
    with pytest.raises(UserError, match=r"variables\.index: it is a FIFO"):
        Servable(version)


def test_models_of_others_are_refused(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(UserError, match="is no exported model of ddr_tf"):
        Servable(tmp_path)
