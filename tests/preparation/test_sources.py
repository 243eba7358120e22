import os

import numpy as np
import pytest
from PIL import Image

from ddr_tf.errors import UserError
from ddr_tf.preparation.sources import Reader, Source, UnusableSourceError, find_sources


def draw(path, number=1, count=1):
    """An image file, or one of several pictures of which each is brighter than the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.new("RGB", (32, 32), (10 * (number + i),) * 3) for i in range(count)]
    pictures[0].save(path, save_all=count > 1, append_images=pictures[1:])


def frames_of(source):
    reader = Reader(source)
    return [(number, int(frame[0, 0, 0])) for number, frame in reader.frames(lambda _: True)], reader.note


@pytest.mark.parametrize("suffix", ["tif", "tiff", "gif", "webp", "png", "avif"])
def test_files_of_several_pictures_are_sequences(tmp_path, suffix):
    for i in range(6):
        draw(tmp_path / f"cells/{i}.{suffix}", 1, 15)
    draw(tmp_path / f"still/1.{suffix}")
    draw(tmp_path / f"still/2.{suffix}", 2)
    sources, unused = find_sources(tmp_path)
    assert [source.name for source in sources] == [*(f"cells/{i}" for i in range(6)), "still"]
    assert unused == {}
    frames, note = frames_of(sources[0])
    assert [number for number, _ in frames] == list(range(1, 16))
    np.testing.assert_allclose([value for _, value in frames], 10 * np.arange(1, 16), atol=3)
    assert note == ""


def test_every_cut_of_an_animation_gives_what_is_before_it(tmp_path):
    draw(tmp_path / "a.gif", 1, 8)
    content = (tmp_path / "a.gif").read_bytes()
    counts = []
    for kept in range(len(content)):
        (tmp_path / "b.gif").write_bytes(content[:kept])
        try:
            frames, _ = frames_of(Source("b", tmp_path / "b.gif", "b"))
        except UnusableSourceError as error:
            frames = []
            assert "cannot be decoded" in str(error)
        counts.append(len(frames))
    first = next(kept for kept, count in enumerate(counts) if count)
    assert counts[first:] == sorted(counts[first:])
    assert (counts[first], counts[-1]) == (1, 8)


def test_what_is_not_used_is_counted_by_kind(tmp_path):
    draw(tmp_path / "in/a/1.png")
    draw(tmp_path / "in/.hidden/1.png")
    for name in ("a/notes.txt", "a/more.txt", "b/model.obj", "LICENSE"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("text")
    os.mkfifo(tmp_path / "in/a/pipe.mp4")
    (tmp_path / "in/link").symlink_to(tmp_path / "in/a")
    _, unused = find_sources(tmp_path / "in")
    assert {os.path.relpath(path, tmp_path / "in"): reason for path, reason in unused.items()} == {
        "a/more.txt": "neither a video nor an image by its suffix (.txt); 2 of this kind",
        "b/model.obj": "neither a video nor an image by its suffix (.obj)",
        "LICENSE": "neither a video nor an image by its suffix (none)",
        "a/pipe.mp4": "a FIFO, a socket or a device",
        "link": "a folder by a link",
    }
    (tmp_path / "in/a/1.png").unlink()
    with pytest.raises(UserError, match=r"no videos .* and no images; check the folder; .*\.txt"):
        find_sources(tmp_path / "in")


@pytest.mark.parametrize("kind", ["mp4", "gif", "png"])
def test_what_is_no_file_is_not_read(tmp_path, kind):
    os.mkfifo(tmp_path / f"a.{kind}")
    images = (tmp_path / "a.png",) if kind == "png" else ()
    try:
        frames, note = frames_of(Source("a", tmp_path / f"a.{kind}", "a", images))
    except UnusableSourceError as error:
        assert kind != "png"
        assert "cannot be" in str(error)
    else:
        assert (frames, note) == ([], "1 images cannot be read, the first is a.png")


def test_a_thumbnail_makes_no_series(tmp_path):
    for number in (1, 2):
        image = Image.new("RGB", (32, 32), (number, 0, 0))
        small = image.resize((8, 8))
        small.encoderinfo = {"tiffinfo": {254: 1}}
        (tmp_path / "anna").mkdir(exist_ok=True)
        image.save(tmp_path / f"anna/{number}.tif", save_all=True, append_images=[small])
    (source,), _ = find_sources(tmp_path)
    assert (source.name, len(source.images)) == ("anna", 2)


def test_folders_that_systems_and_runs_leave_are_passed_over(tmp_path):
    for name in ("anna/1.png", "anna/2.png", "anna/@eaDir/1.png/a.jpg", "$RECYCLE.BIN/old/1.png", "runs/x/swaps.png"):
        draw(tmp_path / name)
    for name in ("run.json", "config.gin"):
        (tmp_path / "runs/x" / name).write_text("")
    sources, unused = find_sources(tmp_path)
    assert [source.name for source in sources] == ["anna"]
    assert unused == {
        str(tmp_path / "$RECYCLE.BIN"): "a folder that systems leave ($RECYCLE.BIN)",
        str(tmp_path / "anna/@eaDir"): "a folder that systems leave (@eaDir)",
        str(tmp_path / "runs/x"): "a run of ddr_tf.train",
    }
