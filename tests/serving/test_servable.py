"""Exported models as the server loads them."""

import pytest

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


def test_damaged_models_are_refused(saved_model, tmp_path):
    with pytest.raises(UserError, match="holds no SavedModel"):
        Servable(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes((saved_model / "3/saved_model.pb").read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded"):
        Servable(tmp_path)
