import shutil

import numpy as np
import pytest
from PIL import Image

from conftest import all_frames, draw_image
from conftest import frame_folders as of
from ddr_tf.data.frame_folders import FrameFolders
from ddr_tf.errors import UserError


def test_each_folder_of_images_is_a_sequence_in_natural_order(folder):
    sequences = of(folder)
    assert sequences.ids == ["anna", "b/deep", "ж 虫"]
    assert sequences.frame_counts.tolist() == [12, 3, 4]
    assert (sequences.name, sequences.frame_shape, sequences.remarks) == ("my frames", (16, 16, 3), ())
    frames = all_frames(sequences)
    for row, path in ((1, "anna/frame 2.png"), (9, "anna/frame 10.png"), (15, "ж 虫/frame 1.png")):
        with Image.open(folder / path) as image:
            np.testing.assert_array_equal(frames[row], np.asarray(image.resize((16, 16))))
    assert sorted([*sequences.splits["train"], *sequences.splits["held_out"]]) == [0, 1, 2]


def test_the_folder_may_vanish_while_training(folder):
    sequences = of(folder)
    expected = all_frames(sequences)
    batches = iter(sequences.batches("train", 2, 4, seed=0))
    next(batches)
    shutil.rmtree(folder)
    for _ in range(20):
        next(batches)
    np.testing.assert_array_equal(all_frames(sequences), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 40}, "size must be a multiple of 16"),
        ({"fit": "stretch"}, "fit must be one of crop, resize"),
        ({"channels": 4}, "channels must be 3"),
        ({"min_frames": 0}, "min_frames must be at least 1"),
        ({"min_frames": 13}, "no sequence of at least 13 images"),
        ({"min_frames": 4, "held_out_fraction": 0.0}, "held_out_fraction must be between 0 and 1"),
        ({"min_frames": 5}, "At least two sequences are needed"),
        ({"name_pattern": "("}, "name_pattern is not a regular expression"),
        ({"held_out": "["}, "held_out is not a regular expression"),
        ({"held_out": "nobody"}, "matches none .*named like 'anna'"),
        ({"held_out": ".*"}, "matches all"),
        ({"root": "nowhere"}, "There is no folder nowhere"),
        ({"root": ""}, "FrameFolders.root is empty"),
        ({"max_bad_fraction": -1.0}, "max_bad_fraction must be from 0 to 1"),
    ],
)
def test_settings_that_cannot_be(folder, settings, message):
    with pytest.raises(UserError, match=message):
        FrameFolders(**{"root": str(folder), "size": 16} | settings)


def test_held_out_by_name(folder):
    sequences = of(folder, held_out=r"b/.*")
    assert sequences.splits["held_out"].tolist() == [1]
    assert sequences.splits["train"].tolist() == [0, 2]


def test_a_pattern_tells_sequences_and_labels_from_names(tmp_path):
    for i, name in enumerate(("anna_left_1", "anna_right_2", "bob_left_1", "bob_left_2", "readme")):
        draw_image(tmp_path / f"{name}.png", i)
    sequences = of(tmp_path, name_pattern=r"(?P<sequence>[a-z]+)_(?P<pose>[a-z]+)_(?P<take>\d+)")
    assert sequences.ids == ["anna", "bob"]
    assert [sequences.label_names["pose"][value] for value in sequences.frame_labels["pose"]] == [
        *("left", "right", "left", "left")
    ]
    np.testing.assert_array_equal(sequences.frame_labels["take"], [1, 2, 1, 2])
    assert sequences.remarks[0].reason == "name_pattern does not match its name"


@pytest.mark.real_data
def test_real_faces_with_labels_in_their_names(real_data):
    sequences = FrameFolders(
        str(real_data / "cmu_faces"),
        size=32,
        channels=1,
        name_pattern=r".*/(?P<pose>[^_]+)_(?P<expression>[^_]+)_(?P<eyes>[^_]+)",
    )
    assert (sequences.num_sequences, sequences.frame_counts.min()) == (20, 29)
    assert sequences.label_names["pose"] == ("left", "right", "straight", "up")
    assert (sequences.frame_labels["eyes"] >= 0).all()


def test_frames_need_not_be_square(folder):
    sequences = of(folder, size=(32, 16))
    assert sequences.frame_shape == FrameFolders.frame_shape_of(size=(32, 16), channels=3) == (32, 16, 3)
    assert all_frames(sequences).shape == (19, 32, 16, 3)
    assert of(folder, size=[32, 16]).frame_shape == (32, 16, 3)  # as a run keeps it
    for size in ((32, 20), (32,), (32.0, 16)):
        with pytest.raises(UserError, match="size must be a multiple of 16"):
            of(folder, size=size)


def draw_people(root, frames=("smile", "scream", "left"), people=("anna", "bob", "eve", "zoe")):
    for i, person in enumerate(people):
        for j, name in enumerate(frames):
            draw_image(root / person / f"{name}.png", seed=10 * i + j)


def test_files_of_the_same_names_show_the_same(tmp_path):
    draw_people(tmp_path)
    sequences = of(tmp_path)
    assert sequences.shared_poses
    truth = sequences.swap_truth(np.array([2, 0]), np.array([1, 1]), np.array([0, 2]))  # in natural order: left first
    with Image.open(tmp_path / "eve/left.png") as image:
        np.testing.assert_array_equal(truth[0], np.asarray(image.resize((16, 16))))
    assert of(tmp_path, pose_label=None).pose_numbers is None
    (tmp_path / "bob/left.png").unlink()
    assert of(tmp_path).pose_numbers is None


def test_a_label_says_what_frames_show_where_some_are_missing(tmp_path):
    draw_people(tmp_path)
    (tmp_path / "bob/scream.png").unlink()
    draw_image(tmp_path / "bob/other.png", seed=99)
    pattern = r"(?P<sequence>[a-z]+)/(?P<face>[a-z]+)"
    sequences = of(tmp_path, name_pattern=pattern, pose_label="face")
    assert not sequences.shared_poses
    # The frames of bob are left, other, smile; of the others left, scream, smile.
    found = sequences.swap_frames(np.array([1, 1, 1, 0, 0]), np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 1, 2]))
    assert found.tolist() == [0, -1, 2, -1, 2]
    assert sequences.swap_truths(np.array([1]), np.array([0]), np.array([1])) == []
    with pytest.raises(UserError, match="pose_label: frames have no label 'mood'; they have face"):
        of(tmp_path, name_pattern=pattern, pose_label="mood")


def test_a_label_that_two_frames_of_a_sequence_share_does_not_say_what_they_show(tmp_path):
    draw_people(tmp_path, frames=("A_left", "B_left", "A_right"))
    sequences = of(tmp_path, name_pattern=r"(?P<sequence>[a-z]+)/[AB]_(?P<view>[a-z]+)", pose_label="view")
    found = sequences.swap_frames(np.zeros(3, int), np.ones(3, int), np.arange(3))  # A_left, A_right, B_left
    assert found.tolist() == [-1, 1, -1]
    (remark,) = [remark for remark in sequences.remarks if "have the same view" in remark.reason]
    assert "anna/A_left.png and anna/B_left.png of one sequence" in remark.reason
    assert "8 such frames have no true frames of swaps" in remark.reason


@pytest.mark.parametrize("copied", ["smile - Copy", "smile copy", "smile (1)", "smile copy 2", "smile - Kopie"])
def test_of_a_file_and_its_copy_the_file_is_kept_with_its_label(tmp_path, copied):
    draw_people(tmp_path)
    shutil.copy(tmp_path / "bob/smile.png", tmp_path / f"bob/{copied}.png")
    (tmp_path / "labels.csv").write_text("sequence,frame,teeth\nbob,smile.png,1\n")
    sequences = of(tmp_path)
    assert sequences.shared_poses and np.nansum(sequences.frame_labels["teeth"]) == 1
    (remark,) = [remark for remark in sequences.remarks if remark.kind == "left out"]
    assert remark.path.endswith(f"{copied}.png") and remark.reason.endswith("bob/smile.png")


def test_names_with_numbers_in_brackets_stay_in_order(tmp_path):
    draw_people(tmp_path, frames=("smile (1)", "smile (2)", "smile (10)"))
    order = np.stack([all_frames(of(tmp_path))[:3]])[0]
    for row, number in enumerate((1, 2, 10)):
        with Image.open(tmp_path / f"anna/smile ({number}).png") as image:
            np.testing.assert_array_equal(order[row], np.asarray(image.resize((16, 16))))


def test_the_one_sequence_with_another_name_of_a_file_is_named(tmp_path):
    draw_people(tmp_path)
    draw_image(tmp_path / "eve/nobody else.png", seed=77)
    sequences = of(tmp_path)
    assert sequences.pose_numbers is None
    assert any("only eve has eve/nobody else.png" in remark.reason for remark in sequences.remarks)
    draw_image(tmp_path / "eve/nor this.png", seed=78)
    assert of(tmp_path).remarks == ()


def test_pages_of_a_file_without_a_suffix_have_labels_in_their_names(tmp_path):
    for folder, shade in (("a", 10), ("b", 90)):
        (tmp_path / folder).mkdir()
        pages = [Image.new("L", (16, 16), shade + page) for page in range(3)]
        pages[0].save(tmp_path / folder / "stack", "TIFF", save_all=True, append_images=pages[1:])
    sequences = of(tmp_path, name_pattern=r"(?P<sequence>[a-z])/(?P<kind>[a-z]+)")
    assert sequences.frame_counts.tolist() == [3, 3]
    assert sequences.label_names["kind"] == ("stack",)


def test_a_table_in_capitals_is_told(tmp_path):
    draw_people(tmp_path)
    (tmp_path / "Labels.csv").write_text("sequence,age\nanna,3\n")
    (remark,) = [remark for remark in of(tmp_path).remarks if "Labels" in remark.path]
    assert "its name must be labels.csv, in small letters" in remark.reason


def test_frames_of_unknown_labels_show_what_nothing_else_does(tmp_path):
    draw_people(tmp_path, people=("anna", "bob", "eve"))
    rows = [f"{person},{name},{mood}" for person in ("anna", "bob") for name, mood in (("left", 3.5), ("smile", 1.0))]
    (tmp_path / "labels.csv").write_text("\n".join(["sequence,frame,mood", *rows]) + "\n")
    poses = of(tmp_path, pose_label="mood").pose_numbers.tolist()
    assert poses == [poses[0], -1, poses[2], poses[0], -1, poses[2], -1, -1, -1]
    assert poses[0] != poses[2]


def test_names_that_occur_twice_in_a_sequence_say_nothing(tmp_path, capsys):
    for person in ("anna", "bob"):
        for j, name in enumerate(("left/a", "left/b", "right/a", "right/b")):
            draw_image(tmp_path / person / f"{name}.png", seed=j + 10 * (person == "bob"))
    sequences = of(tmp_path, name_pattern=r"(?P<sequence>[^/]+)/(?P<view>\w+)/\w+")
    assert sequences.pose_numbers is None
    (remark,) = sequences.remarks
    assert "anna/left/a.png and anna/right/a.png of one sequence, anna, have the same name" in remark.reason
    assert "pose_label" in remark.reason
    assert remark.reason in capsys.readouterr().out
    assert of(tmp_path, name_pattern=r"(?P<sequence>[^/]+)/.*", pose_label=None).remarks == ()


def test_numbers_are_names_too_which_a_remark_says(tmp_path):
    draw_people(tmp_path, frames=("frame_000", "frame_090", "frame_180"))
    sequences = of(tmp_path)
    assert sequences.shared_poses
    (remark,) = sequences.remarks
    assert remark.reason.startswith("files of the same number (as frame_000) count as showing the same")
    assert remark.reason.endswith("set FrameFolders.pose_label = None")
    clips = of(tmp_path, pose_label=None)
    assert clips.pose_numbers is None and clips.remarks == ()
    turned = of(tmp_path, name_pattern=r"(?P<sequence>[^/]+)/frame_(?P<angle>\d+)", pose_label="angle")
    assert turned.shared_poses


def test_a_frame_that_is_not_used_leaves_the_poses_of_others(tmp_path):
    draw_people(tmp_path)
    shutil.copy(tmp_path / "bob/left.png", tmp_path / "bob/smile.png")
    (tmp_path / "eve/notes.txt").write_text("of one folder alone")
    sequences = of(tmp_path)
    assert sequences.swap_frames(np.array([0, 1, 1]), np.array([1, 0, 0]), np.array([0, 1, 2])).tolist() == [0, 1, -1]
    assert not sequences.shared_poses
    assert sequences.remarks[-1].reason.startswith(
        "not all true frames of swaps are known, since bob has no usable smile; metrics that need all poses"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"value_range": 4095}, "value_range must be two numbers"),
        ({"held_out": ["anna"]}, r"held_out must be one regular expression, as 'anna\|bob'; got \['anna'\]"),
        ({"size": "16"}, "size must be a multiple of 16 .* got '16'"),
        ({"class_labels": "age"}, "class_labels names 'age', which is no label"),
    ],
)
def test_settings_of_other_types_are_told(folder, settings, message):
    with pytest.raises(UserError, match=message):
        of(folder, **settings)


def test_numbers_of_numpy_and_one_class_label_are_taken(folder):
    (folder / "labels.csv").write_text("sequence,kind\nanna,1\n")
    sequences = of(folder, size=np.int64(16), class_labels="kind")
    assert sequences.frame_shape == (16, 16, 3)
    assert sequences.label_names == {"kind": ("1",)}


def test_folders_that_are_called_as_splits_are_remarked_on(tmp_path, capsys):
    for split in ("train", "val", "Test"):
        for name in ("a", "b"):
            for number in (1, 2):
                draw_image(tmp_path / "root" / split / name / f"{number}.png", number)
    of(tmp_path / "root", min_frames=2)
    said = capsys.readouterr().out
    assert "the folders Test and train and val are called as splits are" in said
    assert "FrameFolders.held_out = 'Test/.*' holds out those of one" in said
    sequences = of(tmp_path / "root", min_frames=2, held_out="Test/.*")
    assert "called as splits" not in capsys.readouterr().out
    assert [sequences.ids[number] for number in sequences.splits["held_out"]] == ["Test/a", "Test/b"]


def test_a_pattern_that_tells_no_sequences_is_remarked_on(tmp_path):
    for name in ("s1", "s2"):
        for number in (1, 2):
            draw_image(tmp_path / name / f"{number}.png", number)
    pattern = r"(?P<seq>s\d)/(?P<what>\d)"
    (reason,) = [
        one.reason for one in of(tmp_path, min_frames=2, name_pattern=pattern).remarks if "group" in one.reason
    ]
    assert reason.startswith("the group seq of name_pattern never changes within a sequence; if it should tell")
    right = of(tmp_path, min_frames=2, name_pattern=pattern.replace("seq", "sequence"))
    assert not [one for one in right.remarks if "group" in one.reason]
    with pytest.raises(UserError, match=r"name_pattern does not match 4 of 4 names, as 's1/1'"):
        of(tmp_path, min_frames=2, name_pattern=r"x\d/.*")


def test_tables_of_other_names_are_told(tmp_path):
    for name in ("a", "b"):
        for number in (1, 2):
            draw_image(tmp_path / name / f"{number}.png", number)
    (tmp_path / "labels.tsv").write_text("sequence\tage\n")
    (remark,) = [one for one in of(tmp_path, min_frames=2).remarks if one.path.endswith(".tsv")]
    assert "labels are read from labels.csv in the root alone" in remark.reason
