import os
import socket
import subprocess
import sys
import tempfile

import pytest

from ddr_tf import files
from ddr_tf.errors import UserError


def test_what_is_written_is_there_whole_and_nothing_else(tmp_path):
    files.write_text(tmp_path / "a.txt", "one")
    files.write_text(tmp_path / "a.txt", "two \udcff")
    files.write_json(tmp_path / "b.json", {"x": 1})
    assert (tmp_path / "a.txt").read_bytes() == b"two \xff"
    assert files.read_json(tmp_path / "b.json") == {"x": 1}
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.json"]


def test_after_an_error_the_old_content_is_there(tmp_path):
    path = tmp_path / "a"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.replaced(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_folders_are_replaced(tmp_path):
    for text in ("old", "new"):
        with files.replaced(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / text).write_text(text)
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(tmp_path / "folder") == ["new"]


def test_a_folder_takes_a_free_name_and_no_other(tmp_path):
    for name in ("new", "full", "empty"):
        (tmp_path / name).mkdir()
    for name in ("new/a", "full/b", "file"):
        (tmp_path / name).write_text(name)
    assert not files.put_where_free(tmp_path / "new", tmp_path / "full")
    assert not files.put_where_free(tmp_path / "new", tmp_path / "file")
    assert sorted(os.listdir(tmp_path)) == ["empty", "file", "full", "new"]
    assert files.put_where_free(tmp_path / "new", tmp_path / "empty")
    assert files.put_where_free(tmp_path / "empty", tmp_path / "free")
    assert (tmp_path / "free/a").read_text() == "new/a" and (tmp_path / "full/b").read_text() == "full/b"
    with pytest.raises(FileNotFoundError):
        files.put_where_free(tmp_path / "free", tmp_path / "no folder/free")


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(tmp_path):
    code = (
        "import pathlib, sys, time; from ddr_tf import files\n"
        "with files.temporary_folder(pathlib.Path(sys.argv[1])) as folder: print(folder, flush=True); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        left = process.stdout.readline().strip()
        files.remove_abandoned(tmp_path)
        assert os.path.isdir(left)
        process.kill()
    files.remove_abandoned(tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_other_path_of_a_folder_is_not_removed_while_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / "[a]"
    folder.mkdir()
    with files.without_patterns(folder) as other:
        files.remove_abandoned(tmp_path)
        assert other.is_dir()
    assert list(tmp_path.iterdir()) == [folder]


def test_where_there_are_no_locks_nothing_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_lock", lambda _: True)
    with files.temporary_folder(tmp_path) as folder:
        files.remove_abandoned(tmp_path)
        assert folder.is_dir()


def test_one_process_has_a_lock(tmp_path):
    one, two = files.Lock(tmp_path / "lock"), files.Lock(tmp_path / "lock")
    assert one.acquire() and not two.acquire()
    one.release()
    assert two.acquire()
    two.release()


@pytest.fixture
def fifo(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def test_only_files_are_opened(tmp_path, fifo):
    server = socket.socket(socket.AF_UNIX)
    place = os.open(tmp_path, os.O_RDONLY)
    try:
        server.bind(f"/proc/self/fd/{place}/socket")  # its name may be no longer than 107 bytes
        for path, kind in [(fifo, "a FIFO"), (tmp_path / "socket", "a socket"), ("/dev/zero", "a device")]:
            with pytest.raises(ValueError, match=f"it is {kind}, not a file"):
                files.open_regular(path)
    finally:
        server.close()
        os.close(place)
    with pytest.raises(ValueError, match="it is a folder"):
        files.open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.open_regular(tmp_path / "nothing")


def test_a_lock_is_a_file(tmp_path, fifo):
    for path in (fifo, tmp_path):
        with pytest.raises(OSError, match="is no file; remove it"):
            files.Lock(path).acquire()


def test_folders_of_files_alone_are_told(tmp_path, fifo):
    (tmp_path / "a/b").mkdir(parents=True)
    files.check_all_regular(tmp_path / "a")
    os.rename(fifo, tmp_path / "a/b/fifo")
    with pytest.raises(ValueError, match="fifo: it is a FIFO"):
        files.check_all_regular(tmp_path / "a")


def test_a_link_to_a_device_is_not_opened(tmp_path):
    (tmp_path / "labels.csv").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="a device"):
        files.read_limited(tmp_path / "labels.csv", 10)


def test_large_files_are_not_read(tmp_path):
    (tmp_path / "a").write_bytes(bytes(11))
    assert files.read_limited(tmp_path / "a", 11) == bytes(11)
    with pytest.raises(ValueError, match="larger than 1e-05 MB"):
        files.read_limited(tmp_path / "a", 10)


def test_json_that_is_nested_deeply_is_refused(tmp_path):
    (tmp_path / "a").write_text("[" * 1_000_000)
    with pytest.raises(ValueError):
        files.read_json(tmp_path / "a")


@pytest.mark.parametrize("path", ["gs://bucket/run", "ram://run", "s3://x", "file:/tmp/x", "a\0b"])
def test_what_is_no_path_of_this_machine_is_refused(path):
    with pytest.raises(UserError):
        files.local_path(path)


@pytest.mark.parametrize("given", [None, 5, ["a"], b"a"])
def test_what_is_no_path_at_all_is_refused(given):
    with pytest.raises(UserError, match=f"One path is needed, .* got {type(given).__name__}"):
        files.local_path(given)


def test_why_a_path_is_no_folder(tmp_path):
    (tmp_path / "a").write_text("")
    assert files.why_no_folder(tmp_path) is None
    assert files.why_no_folder(tmp_path / "b") == "there is no such folder"
    assert files.why_no_folder(tmp_path / "a") == f"it is a file; give the folder that it is in, {tmp_path}"


@pytest.mark.parametrize("path", ["x" * 5000, "a/" + "x" * 256, "a/" * 3000])
def test_names_that_are_too_long_are_refused(path):
    with pytest.raises(UserError, match="longer than the name of a file may be") as error:
        files.local_path(path)
    assert len(str(error.value)) < 200


def test_the_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(files.local_path("~/x")) == "/home/someone/x"
    assert str(files.local_path("a/~b:c")) == "a/~b:c"
