import os
import subprocess

import pytest

from ddr_tf.folders import Unused, escaped, natural_order, unknown_kind, walk


def test_numbers_in_names_are_numbers():
    in_order = ["\u0663", "9", "10", "Frame", "frame 09b", "frame 9", "frame 10", "\u00b2"]  # first, an Arabic 3
    assert sorted(in_order[::-1], key=natural_order) == in_order


def make(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")


def test_folders_are_walked_from_the_top_and_what_is_taken_out_is_not(tmp_path):
    make(tmp_path, "a/b/1", "a/2", "c/3", "4")
    seen = []
    for folder, folders, others in walk(tmp_path):
        folders.sort()
        seen.append((os.path.relpath(folder, tmp_path), sorted(others)))
        if "b" in folders:
            folders.remove("b")
    assert seen == [(".", ["4"]), ("a", ["2"]), ("c", ["3"])]


def test_links_to_folders_are_followed_if_asked_for(tmp_path):
    make(tmp_path, "a/1")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    _, folders, others = next(walk(tmp_path))
    assert (sorted(folders), sorted(others)) == (["a", "link"], ["dangling", "itself"])
    assert [len(list(walk(tmp_path, follow_links=follow))) for follow in (False, True)] == [2, 3]


def test_folders_that_cannot_be_read_are_told(tmp_path):
    errors = []
    assert list(walk(tmp_path / "nowhere", on_error=errors.append)) == []
    assert [type(error) for error in errors] == [FileNotFoundError]
    assert list(walk(tmp_path / "nowhere")) == []


def test_folders_may_be_deeper_than_python_is_recursive(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    assert sum(1 for _ in walk(tmp_path)) == 1201
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # pytest's own way is recursive


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain \u5b89", "plain \u5b89"), ("a\nb\x1b[31m", "a\\nb\\x1b[31m"), ("\x9b1m", "\\x9b1m")],
)
def test_control_characters_are_escaped(text, shown):
    assert escaped(text) == shown


def test_what_is_not_used_is_one_line_a_kind():
    unused = Unused()
    assert unused.reasons() == {}
    for path in ("b.txt", "a.txt", "c.txt"):
        unused.add(path, "a text")
    unused.add("b.txt", "a large file")
    unused.add("d", "a FIFO")
    assert unused.reasons() == {"b.txt": "a text; 3 of this kind, a large file", "d": "a FIFO"}


def test_kinds_are_told_by_the_suffix():
    assert unknown_kind("a/B.TXT") == "not an image by name or content (.txt)"
    assert unknown_kind("a.b/c") == "not an image by name or content (no suffix)"
