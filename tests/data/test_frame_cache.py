import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import all_frames, draw_image
from conftest import frame_folders as of
from ddr_tf import files
from ddr_tf.data import frame_cache, frame_store
from ddr_tf.errors import UserError


def test_the_second_time_nothing_is_decoded(folder, monkeypatch):
    first = all_frames(of(folder))
    with monkeypatch.context() as patch:
        patch.setattr(frame_store, "read_frame", None)
        np.testing.assert_array_equal(all_frames(of(folder)), first)
    draw_image(folder / "anna/frame 3.png", 999)
    changed = all_frames(of(folder))
    assert [i for i in range(len(first)) if (changed[i] != first[i]).any()] == [2]
    assert of(folder, channels=1).frame_shape == (16, 16, 1)


@pytest.mark.parametrize(
    "harm",
    [
        lambda cache: (cache / "index.json").write_text("{"),
        lambda cache: (cache / "index.json").write_text("[]"),
        lambda cache: (cache / "frames.npy").unlink(),
        lambda cache: os.truncate(cache / "frames.npy", 5000),
    ],
)
def test_a_cache_that_is_not_whole_is_made_again(folder, tmp_path, harm):
    first = all_frames(of(folder, cache_dir=str(tmp_path / "cache")))
    (cache,) = (tmp_path / "cache").iterdir()
    harm(cache)
    np.testing.assert_array_equal(all_frames(of(folder, cache_dir=str(tmp_path / "cache"))), first)
    assert list((tmp_path / "cache").iterdir()) == [cache]


def test_two_runs_may_make_the_same_cache(folder, tmp_path, monkeypatch):
    decode = frame_store.decode

    def overtaken(*arguments):
        monkeypatch.setattr(frame_store, "decode", decode)
        of(folder, cache_dir=str(tmp_path / "cache"))  # the other run is faster
        return decode(*arguments)

    monkeypatch.setattr(frame_store, "decode", overtaken)
    monkeypatch.setattr(files, "_lock", lambda _: True)  # a file system without locks
    sequences = of(folder, cache_dir=str(tmp_path / "cache"))
    assert all_frames(sequences).any()


def test_no_space_for_the_frames_is_told_before(folder, monkeypatch):
    usage = shutil.disk_usage(folder)._replace(free=10)
    monkeypatch.setattr(frame_store.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"set cache_dir to another place"):
        of(folder)


def test_a_cache_that_cannot_be_written_is_told(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        of(folder, cache_dir=str(tmp_path / "file"))


def test_changed_labels_decode_nothing(folder, monkeypatch):
    of(folder)
    monkeypatch.setattr(frame_store, "read_frame", None)
    (folder / "labels.csv").write_text("sequence,age\nanna,3\n")
    assert of(folder).static_labels["age"][0] == 3


def test_a_cache_that_cannot_be_written_can_be_read(folder, tmp_path, monkeypatch):
    draw_image(folder / "anna/copy.png", 0)
    first = all_frames(of(folder, cache_dir=str(tmp_path / "cache")))

    def refuse(*_, **__):
        raise PermissionError("Read-only file system")

    for name in ("mkdir", "write_text", "rename"):
        monkeypatch.setattr(Path, name, refuse)
    np.testing.assert_array_equal(all_frames(of(folder, cache_dir=str(tmp_path / "cache"))), first)


def test_what_a_killed_run_left_is_removed(folder, tmp_path):
    of(folder, cache_dir=str(tmp_path / "cache"))
    (cache,) = (tmp_path / "cache").iterdir()
    abandoned, of_others = (cache.with_name(name) for name in (".ddr_tf_abandoned", ".x.part"))
    abandoned.mkdir()
    of_others.mkdir()
    draw_image(folder / "anna/new.png", 5)
    of(folder, cache_dir=str(tmp_path / "cache"))
    assert sorted((tmp_path / "cache").iterdir()) == sorted([cache, of_others])


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["frames.npy", "index.json"])
def test_a_damaged_cache_is_made_again(folder, tmp_path, file):
    first = all_frames(of(folder, cache_dir=str(tmp_path / "cache")))
    (cache,) = (tmp_path / "cache").iterdir()
    size = (cache / file).stat().st_size
    for place in np.random.RandomState(0).randint(0, size, 30):
        flip(cache / file, place)
        np.testing.assert_array_equal(all_frames(of(folder, cache_dir=str(tmp_path / "cache"))), first)
    os.truncate(cache / file, 0)
    np.testing.assert_array_equal(all_frames(of(folder, cache_dir=str(tmp_path / "cache"))), first)


def test_of_a_large_cache_a_part_is_checked(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(frame_cache, "CHUNK_BYTES", 100)
    monkeypatch.setattr(frame_cache, "MAX_CHUNKS", 3)
    first = all_frames(of(folder, cache_dir=str(tmp_path / "cache")))
    (cache,) = (tmp_path / "cache").iterdir()
    (cache / "remarks.tsv").unlink()  # tells whether it is made again
    flip(cache / "frames.npy", 150)  # not among the first, the middle and the last hundred bytes
    of(folder, cache_dir=str(tmp_path / "cache"))
    assert not (cache / "remarks.tsv").exists()
    flip(cache / "frames.npy", -1)
    np.testing.assert_array_equal(all_frames(of(folder, cache_dir=str(tmp_path / "cache"))), first)
    assert (cache / "remarks.tsv").exists()


def test_processes_that_want_the_same_frames_wait_for_one_that_makes_them(folder, tmp_path):
    """Three at once: every one has whole frames, and one has decoded them."""
    code = (
        "import sys, time; from ddr_tf.data import frame_store, FrameFolders\n"
        "decode = frame_store.decode\n"
        "def slow(*arguments):\n"
        "    print('decodes'); time.sleep(1); return decode(*arguments)\n"
        "frame_store.decode = slow\n"
        "data = FrameFolders(sys.argv[1], size=16, held_out_fraction=0.4, cache_dir=sys.argv[2])\n"
        "print(int(data._bank.numpy().astype(int).sum()))\n"
    )
    command = [sys.executable, "-c", code, folder, tmp_path / "cache"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [process.communicate(timeout=300)[0].split("\n") for process in processes]
    assert all(process.returncode == 0 for process in processes)
    expected = str(all_frames(of(folder, cache_dir=str(tmp_path / "cache"))).astype(int).sum())
    assert [answer[-2] for answer in answers] == [expected] * 3
    assert sum("decodes" in answer for answer in answers) == 1
    assert [path.name[0] for path in (tmp_path / "cache").iterdir()] == ["m"]
