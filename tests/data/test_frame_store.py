"""Folders of images as one array of frames: what is decoded, what is not used, and what is said of it."""

import errno
import os
import re
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import all_frames, draw_image
from conftest import frame_folders as of
from ddr_tf.data import frame_store
from ddr_tf.errors import UserError
from ddr_tf.files import open_regular
from ddr_tf.images import FrameFormat


def everything_in(root):
    """Path, content and times of all that is under a folder."""
    paths = sorted(os.path.join(folder, name) for folder, *both in os.walk(root) for names in both for name in names)
    return [
        (path, os.lstat(path).st_mtime_ns, Path(path).read_bytes() if os.path.isfile(path) else None) for path in paths
    ]


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
    report = said.split("reasons in ")[1].split(")\n")[0]
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


def test_kinds_that_cannot_be_read_are_told(folder):
    for name in ("anna/a.heic", "anna/b.svg"):
        (folder / name).write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "anna/c.pdf").write_bytes(b"%PDF-1.4")
    remarks = of(folder, max_bad_fraction=0.5).remarks
    assert [(Path(remark.path).name, remark.kind) for remark in remarks] == [
        *(("a.heic", "bad"), ("b.svg", "bad"), ("c.pdf", "left out"))
    ]


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


def test_folders_that_systems_leave_are_passed_over_and_told(folder):
    for name in ("@eaDir", "__MACOSX/anna"):
        draw_image(folder / name / "1.png", 1)
    sequences = of(folder)
    assert not any("@eaDir" in name or "__MACOSX" in name for name in sequences.ids)
    reasons = {Path(remark.path).name: remark.reason for remark in sequences.remarks}
    assert reasons == {name: f"a folder that systems leave ({name})" for name in ("@eaDir", "__MACOSX")}


def test_the_report_holds_nothing_that_a_terminal_would_obey(folder, capsys):
    (folder / "anna/\x1b[31mred\n.png").write_bytes(b"")
    of(folder, max_bad_fraction=0.1)
    report = Path(capsys.readouterr().out.split("reasons in ")[1].split(")\n")[0])
    assert "\\x1b[31mred\\n.png\tbad\tempty file" in report.read_text()


def test_the_range_of_values_is_a_setting(folder):
    Image.fromarray(np.full((16, 16), 4095, np.uint16)).save(folder / "anna/deep.png")
    Image.fromarray(np.full((16, 16), 7, np.uint16)).save(folder / "anna/deeper.png")
    (remark,) = of(folder).remarks
    assert remark.reason.startswith("2 image(s) of 16 bits a pixel with no value above 4,095 of 65,535")
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


def test_dark_colour_of_16_bits_is_remarked_on(folder, capsys):
    values = np.full((16, 16, 3), 4095, ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)  # a PNG of 16 bits a channel, which Pillow does not write
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    (folder / "anna/deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    (remark,) = of(folder).remarks
    assert remark.reason.startswith("1 image(s) of 16 bits a channel with no value above 4,095 of 65,535, so they are")
    assert "convert them to 8 bits a channel" in remark.reason
    assert remark.reason in capsys.readouterr().out


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


def test_what_load_frames_returns(folder, tmp_path):
    cache = tmp_path / "cache"
    store = frame_store.load_frames(folder, FrameFormat((16, 32)), min_frames=4, cache_dir=str(cache))
    assert store.bank.shape == (16, 16, 32, 3)
    assert store.ids == ["anna", "ж 虫"]
    assert store.files[0][8:10] == ["anna/frame 9.png", "anna/frame 10.png"]
    assert [(remark.kind, remark.reason) for remark in store.remarks] == [
        ("left out", "only 3 usable frame(s), fewer than min_frames = 4")
    ]
    (report,) = cache.glob("*/" + frame_store.REPORT)
    assert "only 3 usable frame(s)" in report.read_text()


def test_names_without_suffixes_keep_the_number_of_a_picture():
    names = {"stack.tif": "stack", "stack.tif#3": "stack#3", "a/b.c.png": "a/b.c", "no#3": "no#3", "a.b#c": "a"}
    assert {name: frame_store.without_suffix(name) for name in names} == names
    assert frame_store.without_suffix(frame_store.picture_name("a/stack.tif", 12)) == "a/stack#12"


def test_a_sequence_is_a_folder_or_what_the_pattern_says():
    assert frame_store.sequence_of("b/deep/1.png", None) == "b/deep"
    assert frame_store.sequence_of("1.png", None) == ""
    pattern = re.compile(r"(?P<sequence>[a-z]+)_\d+")
    assert frame_store.sequence_of("anna_12.png", pattern) == "anna"
    assert frame_store.sequence_of("b/anna_12.png", pattern) is None
    assert frame_store.sequence_of("b/12.png", re.compile(r".*/\d+")) == "b"


def test_sizes_are_multiples_of_16():
    assert frame_store.frame_size(32) == (32, 32)
    assert frame_store.frame_size([16, 64]) == (16, 64)
    for size in (0, 8, True, 16.0, (16, 16, 3)):
        with pytest.raises(UserError, match="size must be a multiple of 16"):
            frame_store.frame_size(size)


def test_files_are_listed_in_natural_order_and_hidden_ones_are_not(folder):
    (folder / "anna/.hidden").write_text("")
    listed, remarks, unused = frame_store.list_files(folder)
    paths = [path for path, _ in listed]
    assert len(paths) == 19 and paths[8:10] == ["anna/frame 9.png", "anna/frame 10.png"]
    assert listed[0][1].st_size == (folder / paths[0]).stat().st_size
    assert remarks == unused == []


def test_what_could_not_be_read_is_read_when_it_can(folder, monkeypatch):
    def refused(path):
        if path.name == "frame 2.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_regular(path)

    monkeypatch.setattr("ddr_tf.images.open_regular", refused)
    for _ in range(2):  # from the cache, too
        sequences = of(folder, max_bad_fraction=0.2)
        assert sequences.frame_counts.tolist() == [11, 2, 3]
        assert {remark.reason for remark in sequences.remarks} >= {"[Errno 13] Permission denied"}
    monkeypatch.undo()
    assert of(folder).frame_counts.tolist() == [12, 3, 4]


def test_runs_models_and_caches_below_the_root_are_no_data(folder, capfd):
    expected = of(folder).ids
    for place, names in {
        "runs/faces": ("run.json", "config.gin", "swaps.png", "samples.png", "logs/a.png", "logs/b.png"),
        "saved_models/faces/1": ("saved_model.pb", "assets.extra/examples/0.png", "assets.extra/examples/1.png"),
    }.items():
        for number, name in enumerate(names):
            draw_image(folder / place / name, number, format="PNG")
    for _ in range(2):
        capfd.readouterr()
        sequences = of(folder, cache_dir=str(folder / "cache"))
        assert sequences.ids == expected
        reasons = {remark.path: remark.reason for remark in sequences.remarks}
        assert reasons[str(folder / "runs/faces")] == "a run of ddr_tf.train"
        assert reasons[str(folder / "saved_models/faces/1")] == "an exported model"
    assert "decoding" not in capfd.readouterr().err  # the cache does not change what it is made of


def test_copies_are_found_in_their_sequence_and_in_others(folder):
    blank = (folder / "anna/frame 1.png").read_bytes()
    for name in ("x", "y", "z"):
        (folder / "b/deep" / f"{name}.png").write_bytes(blank)
    sequences = of(folder)
    assert sequences.frame_counts.tolist() == [12, 4, 4]
    kinds = [(remark.kind, Path(remark.path).name) for remark in sequences.remarks]
    assert sorted(kinds) == [("left out", "y.png"), ("left out", "z.png"), ("noted", "x.png")]


@pytest.mark.parametrize(
    ("name", "hint"), [("clip.mp4", "tools/prepare_frames.py makes frames of videos"), ("anna.zip", "unpack it")]
)
def test_where_there_are_no_images_the_way_to_them_is_told(tmp_path, name, hint):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(b"content")
    with pytest.raises(UserError, match=rf"There is no sequence .*; {name}: not an image .*; {hint}"):
        of(tmp_path / "in")
    with pytest.raises(UserError, match=f"{name} is a file; name a folder of images"):
        of(tmp_path / "in" / name)


def test_a_raw_file_beside_its_photograph_is_no_second_frame(folder):
    for path in list((folder / "anna").iterdir()):
        with Image.open(path) as image:
            image.save(path.with_suffix(".dng"), "TIFF", tiffinfo={254: 1})
    (folder / "anna/small.tif").write_bytes((folder / "anna/frame 1.dng").read_bytes())
    with Image.open(folder / "anna/small.tif") as image:
        image.encoderinfo = {"tiffinfo": {254: 1}}
        image.save(folder / "b/deep/both.tif", save_all=True, append_images=[image], tiffinfo={254: 1})
    sequences = of(folder, max_bad_fraction=0.1)
    assert sequences.frame_counts.tolist() == [13, 3, 4]  # of an image that is named so, the smaller version is used
    reasons = {Path(remark.path).name: remark.reason for remark in sequences.remarks}
    assert reasons["both.tif"] == "it holds only smaller versions of a picture"
    assert reasons["frame 1.dng"] == "not an image by name or content (.dng); 12 of this kind"
