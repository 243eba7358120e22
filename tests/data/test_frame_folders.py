import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import all_frames, draw_image
from conftest import frame_folders as of
from ddr_tf.data.frame_folders import FrameFolders
from ddr_tf.errors import UserError


def everything_in(root):
    """Path, content and times of all that is under a folder."""
    paths = sorted(os.path.join(folder, name) for folder, *both in os.walk(root) for names in both for name in names)
    return [
        (path, os.lstat(path).st_mtime_ns, Path(path).read_bytes() if os.path.isfile(path) else None) for path in paths
    ]


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


def spoil(folder):
    """Adds everything that is wrong with users' folders; returns reason -> paths."""
    good = (folder / "anna/frame 1.png").read_bytes()
    files = {
        "anna/truncated.png": good[: len(good) // 2],
        "anna/empty.jpg": b"",
        "anna/text.png": b"not an image",
        "anna/copy of 1.png": good,
        "anna/notes.txt": b"hello",
        "anna/.hidden.png": b"",
        "Thumbs.db": b"\0\1",
        "b/other.png": good,
        "anna/renamed.dat": (folder / "ж 虫/frame 1.png").read_bytes(),
        "one/only.png": (folder / "anna/frame 2.png").read_bytes(),
    }
    for path, content in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / "empty folder").mkdir()
    (folder / "b/loop").symlink_to(folder)
    (folder / "anna/dangling.png").symlink_to(folder / "nowhere.png")
    (folder / "anna/folder.png").mkdir()
    os.mkfifo(folder / "anna/pipe.png")
    name = os.fsencode(folder / "anna") + b"/not \xff utf-8.png"
    with open(name, "wb") as file:
        file.write((folder / "b/deep/frame 3.png").read_bytes() + b" ")


def test_bad_files_are_left_out_with_reasons_and_nothing_is_changed(folder, cache_of_frames, capsys):
    spoil(folder)
    before = everything_in(folder)
    sequences = of(folder, max_bad_fraction=0.3)
    assert everything_in(folder) == before
    assert sequences.ids == ["anna", "b/deep", "ж 虫"]
    assert sequences.frame_counts.tolist() == [14, 3, 4]  # anna's: one by another name, one with an odd one
    found = {(os.path.relpath(remark.path, folder), remark.kind): remark.reason for remark in sequences.remarks}
    expected = {
        ("anna/truncated.png", "bad"): "truncated",
        ("anna/empty.jpg", "bad"): "empty file",
        ("anna/text.png", "bad"): "not an image",
        ("anna/dangling.png", "bad"): "cannot be opened",
        ("anna/frame 1.png", "left out"): "the same file as",
        ("anna/renamed.dat", "noted"): "in spite of its name",
        ("ж 虫/frame 1.png", "noted"): "of another sequence",
        ("one/only.png", "noted"): "of another sequence",
        ("b/other.png", "noted"): "of another sequence",
        ("b", "left out"): "only 1 usable frame",
        ("one", "left out"): "only 1 usable frame",
        ("empty folder", "left out"): "empty folder",
        ("anna/folder.png", "left out"): "empty folder",
        ("b/loop", "left out"): "by a link",
        ("anna/notes.txt", "left out"): "not an image by name or content (.txt)",
        ("Thumbs.db", "left out"): "not an image by name or content (.db)",
        ("anna/pipe.png", "left out"): "a FIFO",
    }
    assert found.keys() == expected.keys()
    for key, reason in expected.items():
        assert reason in found[key], key
    said = capsys.readouterr().out
    assert "4 bad, 9 left out, 4 noted" in said
    report = (said.split("reasons in ")[1]).strip().rstrip(")")
    lines = Path(report).read_text("utf-8").splitlines()
    assert len(lines) == 1 + len(expected)
    assert lines[0].split("\t") == ["path", "kind", "reason"]


def test_many_bad_files_are_refused_with_the_report(folder):
    spoil(folder)
    with pytest.raises(UserError) as error:
        of(folder)
    assert "4 of the 25 images" in str(error.value)
    assert "max_bad_fraction = 0.05" in str(error.value)
    assert "\n" not in str(error.value)
    assert "dangling" in Path(str(error.value).rpartition("listed in ")[2].rstrip(".")).read_text("utf-8")


def test_a_bomb_is_refused_without_decoding_it(folder):
    from test_images import bomb

    (folder / "anna/bomb.png").write_bytes(bomb())
    assert "bomb" in of(folder, max_bad_fraction=0.5).remarks[0].reason


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


def test_kinds_that_cannot_be_read_are_told(folder):
    for name in ("anna/a.heic", "anna/b.svg"):
        (folder / name).write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "anna/c.pdf").write_bytes(b"%PDF-1.4")
    remarks = of(folder, max_bad_fraction=0.5).remarks
    assert [(Path(remark.path).name, remark.kind) for remark in remarks] == [
        *(("a.heic", "bad"), ("b.svg", "bad"), ("c.pdf", "left out"))
    ]


@pytest.mark.shared_data
def test_real_faces_with_labels_in_their_names(shared_data):
    sequences = FrameFolders(
        str(shared_data / "cmu_faces"),
        size=32,
        channels=1,
        name_pattern=r".*/(?P<pose>[^_]+)_(?P<expression>[^_]+)_(?P<eyes>[^_]+)",
    )
    assert (sequences.num_sequences, sequences.frame_counts.min()) == (20, 29)
    assert sequences.label_names["pose"] == ("left", "right", "straight", "up")
    assert (sequences.frame_labels["eyes"] >= 0).all()


def test_pages_are_frames_with_names_of_their_own(folder):
    pages = [Image.new("L", (16, 16), 40 * number) for number in range(1, 6)]
    pages[0].save(folder / "anna/stack.tif", save_all=True, append_images=pages[1:])
    (folder / "labels.csv").write_text("sequence,frame,depth\nanna,stack.tif#2,7\nanna,stack#5,8\n")
    sequences = of(folder)
    assert sequences.frame_counts.tolist() == [17, 3, 4]
    assert all_frames(sequences)[12:17, 0, 0, 0].tolist() == [40, 80, 120, 160, 200]
    np.testing.assert_array_equal(sequences.frame_labels["depth"][12:17], [np.nan, 7, np.nan, np.nan, 8])
    (remark,) = sequences.remarks
    assert (remark.kind, remark.reason) == ("noted", "5 pictures in one file, each a frame")
    draw_image(folder / "anna/whole.gif", 3)
    content = (folder / "anna/stack.tif").read_bytes()
    (folder / "anna/stack.tif").write_bytes(content[: len(content) * 2 // 3])
    assert any(remark.kind == "bad" and "tif" in remark.path for remark in of(folder, max_bad_fraction=0.3).remarks)


def test_what_is_not_used_is_counted_by_kind(folder):
    for name in ("anna/a.txt", "b/b.txt", "c/notes", "anna/labels.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("text")
    reasons = {Path(remark.path).name: remark.reason for remark in of(folder).remarks}
    assert reasons == {
        "a.txt": "not an image by name or content (.txt); 2 of this kind",
        "notes": "not an image by name or content (no suffix)",
        "labels.csv": "labels.csv is read in the root only",
    }


def test_the_report_holds_nothing_that_a_terminal_would_obey(folder, capsys):
    (folder / "anna/\x1b[31mred\n.png").write_bytes(b"")
    of(folder, max_bad_fraction=0.1)
    report = Path(capsys.readouterr().out.split("reasons in ")[1].strip().rstrip(")"))
    assert "\\x1b[31mred\\n.png\tbad\tempty file" in report.read_text()


def test_frames_need_not_be_square(folder):
    sequences = of(folder, size=(32, 16))
    assert sequences.frame_shape == FrameFolders.frame_shape_of(size=(32, 16), channels=3) == (32, 16, 3)
    assert all_frames(sequences).shape == (19, 32, 16, 3)
    assert of(folder, size=[32, 16]).frame_shape == (32, 16, 3)  # as a run keeps it
    for size in ((32, 20), (32,), (32.0, 16)):
        with pytest.raises(UserError, match="size must be a multiple of 16"):
            of(folder, size=size)


def test_the_range_of_values_is_a_setting(folder):
    Image.fromarray(np.full((16, 16), 4095, np.uint16)).save(folder / "anna/deep.png")
    Image.fromarray(np.full((16, 16), 7, np.uint16)).save(folder / "anna/deeper.png")
    (remark,) = of(folder).remarks
    assert remark.reason.startswith("2 images of 16 bits a pixel with no value above 4,095 of 65,535")
    assert "value_range = (0, 4095)" in remark.reason
    Image.fromarray(np.full((16, 16), 65535, np.uint16)).save(folder / "anna/full.png")
    assert of(folder).remarks == ()
    (folder / "anna/full.png").unlink()
    sequences = of(folder, value_range=(0, 4095))
    assert sequences.remarks == ()
    assert (all_frames(sequences)[0] == 255).all()
    for values in ((1, 1), (0, np.inf), (0,), ("a", "b")):
        with pytest.raises(UserError, match="value_range must be two numbers"):
            of(folder, value_range=values)


def test_folders_may_be_1200_deep_and_names_need_not_be_text(tmp_path):
    root = tmp_path / "root"
    os.makedirs(os.fsencode(root) + b"/\xff")
    for i in range(3):
        draw_image(Path(os.fsdecode(os.fsencode(root) + b"/\xff")) / f"{i}.png", i)
        draw_image(root / "shallow" / f"{i}.png", 10 + i)
    descriptor = os.open(root, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    for i in range(3):
        with open(os.open(f"{i}.png", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor), "wb") as file:
            file.write((root / "shallow" / f"{i}.png").read_bytes() + b"\0")
    os.close(descriptor)
    sequences = of(root)
    assert sequences.frame_counts.tolist() == [3, 3, 3]
    assert sequences.ids[0] == "/".join("d" * 1200)
    subprocess.run(["rm", "-rf", root], check=True)  # pytest's own way is recursive


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


def test_frames_of_unknown_labels_show_what_nothing_else_does(tmp_path):
    draw_people(tmp_path, people=("anna", "bob", "eve"))
    rows = [f"{person},{name},{mood}" for person in ("anna", "bob") for name, mood in (("left", 3.5), ("smile", 1.0))]
    (tmp_path / "labels.csv").write_text("\n".join(["sequence,frame,mood", *rows]) + "\n")
    poses = of(tmp_path, pose_label="mood").pose_numbers.tolist()
    assert poses == [poses[0], -1, poses[2], poses[0], -1, poses[2], -1, -1, -1]
    assert poses[0] != poses[2]
