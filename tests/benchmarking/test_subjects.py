"""Configurations that are measured."""

import pytest

from ddr_tf import config
from ddr_tf.benchmarking.subjects import DETAILED, Configurations
from ddr_tf.data import AffWild, FrameFolders, MovingMNIST, PublishedMovingMNIST, Puppets, Sprites


def test_shipped_configurations_are_found():
    configurations = Configurations([], [], None, max_frames=128)
    names = {path.split("/")[-1].removesuffix(".gin") for path in configurations.gin_files}
    assert {"quickstart", "sprites", "sprites_small", "moving_mnist", "aff_wild"} <= names
    assert names.isdisjoint({"base", "shards", "frame_folders"})
    assert set(DETAILED) <= names
    with_root = Configurations([], ["FrameFolders.root='x'"], None, max_frames=128)
    of_folders = {"frame_folders.gin", "ar_faces.gin", "cmu_faces.gin"}
    assert {path.split("/")[-1] for path in with_root.gin_files} - {f"{name}.gin" for name in names} == of_folders


@pytest.mark.parametrize("kind", [AffWild, FrameFolders, MovingMNIST, PublishedMovingMNIST, Puppets, Sprites])
def test_shapes_of_frames_are_told_without_data(kind, drawn_data, tmp_path):
    bindings = ["FrameFolders.channels=1", "FrameFolders.size=32", "AffWild.size=48", "AffWild.folder='faces'"]
    bindings += ["FrameFolders.root=%data_dir", "MovingMNIST.num_train=4", "MovingMNIST.num_held_out=2"]
    bindings += [f"{name}.data_dir=%data_dir" for name in ("AffWild", "MovingMNIST", "PublishedMovingMNIST", "Sprites")]
    config.load([], bindings, str(drawn_data))
    given = config.settings(kind)
    if kind is FrameFolders:
        given["root"] = f"{drawn_data}/faces/cropped_aligned"
    told = kind.frame_shape_of(**given)
    quick = {Puppets: None, Sprites: (64, 64, 3)}  # the first needs no data, the second takes seconds
    assert told == (quick[kind] if kind in quick else kind(**given).frame_shape)
