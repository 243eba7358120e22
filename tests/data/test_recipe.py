import functools
import os
import sys

import numpy as np
import pytest

from conftest import RandomDataset, draw_image
from ddr_tf import config
from ddr_tf.data import ArrayDataset, FrameFolders, Puppets, recipe
from ddr_tf.errors import UserError


def test_a_dataset_is_made_again():
    made = recipe.recipe(Puppets(16, num_poses=4))
    assert made == {
        "class": "Puppets",
        "module": "ddr_tf.data.puppets",
        "module_folder": None,
        "arguments": {"size": 16, "num_poses": 4},
    }
    assert not recipe.is_foreign(made)
    again = recipe.make(made)
    assert again.fingerprint() == Puppets(16, 4).fingerprint()


def test_arguments_from_gin_are_kept():
    config.load([], ["Puppets.size = 16", "Puppets.num_poses = 3"])
    dataset = config.call(Puppets)
    assert dataset.arguments == {"size": 16, "num_poses": 3}


def frames_in(root):
    for sequence in "ab":
        for frame in range(3):
            draw_image(root / sequence / f"{frame}.png", seed=frame)
    return root


def test_paths_are_absolute_and_data_may_move(tmp_path, monkeypatch):
    frames_in(tmp_path / "frames")
    monkeypatch.chdir(tmp_path)
    dataset = FrameFolders("frames", size=16)
    made = recipe.recipe(dataset)
    assert made["arguments"]["root"] == str(tmp_path / "frames")
    os.rename(tmp_path / "frames", tmp_path / "moved")
    assert recipe.make(made, str(tmp_path / "moved")).fingerprint() == dataset.fingerprint()
    with pytest.raises(UserError):
        recipe.make(made)
    frames_in(tmp_path / "frames")
    with pytest.raises(UserError, match=r"There is no folder .*elsewhere"):  # though the data are where they were
        recipe.make(made, str(tmp_path / "elsewhere"))


def test_a_cache_on_a_machine_that_is_gone_is_not_used(tmp_path):
    made = recipe.recipe(FrameFolders(str(frames_in(tmp_path / "frames")), size=16))
    made["arguments"]["cache_dir"] = "/nowhere/cache"
    assert recipe.make(made).num_sequences == 2


def test_arrays_have_no_recipe():
    splits = {"train": np.array([0]), "held_out": np.array([1])}
    bank = np.zeros((2, 16, 16, 1), np.uint8)
    assert recipe.recipe(ArrayDataset(bank, name="x", frame_counts=np.array([1, 1]), splits=splits)) is None


def test_a_dataset_of_the_user_is_found_in_its_folder(tmp_path):
    (tmp_path / "my_data.py").write_text("from ddr_tf.data import Puppets\nclass Mine(Puppets): pass\n")
    sys.path.append(str(tmp_path))
    import my_data

    made = recipe.recipe(my_data.Mine(16, 2))
    assert (made["module"], made["module_folder"]) == ("my_data", str(tmp_path))
    assert recipe.is_foreign(made)
    sys.path.remove(str(tmp_path))
    del sys.modules["my_data"]
    assert type(recipe.make(made)).__name__ == "Mine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"module": "os", "class": "system", "arguments": {"command": "true"}}, "which is no dataset"),
        ({"module": "no_such_module"}, "is not there any more"),
        ({"class": "Nothing"}, "is not there any more"),
        ({"arguments": {"side": 16}}, "cannot be made again"),
    ],
)
def test_what_is_no_dataset_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        recipe.make(recipe.recipe(Puppets(16, 2)) | changes)


def test_sequences_of_numbers_are_tuples_again():
    dataset = functools.partial(RandomDataset, frame_counts=(3, 3, 3))()
    assert dataset.arguments["frame_counts"] == (3, 3, 3)
    assert recipe.recipe(dataset)["arguments"]["frame_shape"] == (16, 16, 1)
