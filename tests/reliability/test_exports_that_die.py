"""An export that dies at any file operation leaves no half of a version, and the next one removes what it left."""

import pytest
from deaths import dies

from ddr_tf import files
from ddr_tf.serving.saved_model import versions, write_version

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files of the dead


def put(folder):
    (folder / "variables").mkdir()
    for name in ("saved_model.pb", "variables/weights"):
        (folder / name).write_text("all of it")


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("name", ["name", "new/folders/name"])
def test_a_version_is_whole_or_not_there(tmp_path, name, before):
    fatal, died = -1, True
    while died:
        fatal += 1
        place = tmp_path / str(fatal)
        place.mkdir()
        for _ in range(before):
            write_version(put, place / name)
        died = dies(place, fatal, lambda place=place: write_version(put, place / name))
        assert all((folder / "variables/weights").exists() for folder in versions(place / name).values())
        assert write_version(put, place / name).name == str(len(versions(place / name)))
        assert not list(place.rglob(f"{files.PREFIX}*")), fatal
    assert fatal > 8
