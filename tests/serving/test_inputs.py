"""Frames as people have them."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from conftest import draw_image
from ddr_tf.errors import UserError
from ddr_tf.serving.inputs import FrameReader

FRAMES = np.random.RandomState(0).randint(0, 256, (3, 5, 16, 16, 3)).astype(np.uint8)
FLOATS = FRAMES / np.float32(255)
IMAGES = [Image.fromarray(frame) for frame in FRAMES[0]]


@pytest.fixture
def read():
    return FrameReader((16, 16, 3), "crop")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, count in (("anna", 3), ("bob", 3), ("carl", 2)):
        for number in range(count):
            draw_image(tmp_path / f"{name}/{number + 8}.png", number, size=(30, 20))
    (tmp_path / "anna/.hidden.png").write_bytes(b"")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "array", "single"),
    {
        "one frame": (FRAMES[0, 0], FLOATS[:1, :1], True),
        "a sequence": (FRAMES[0], FLOATS[:1], True),
        "several": (FRAMES, FLOATS, False),
        "int64": (FRAMES[0].astype(int), FLOATS[:1], True),
        "float64": (FLOATS[0].astype(float), FLOATS[:1], True),
        "a tensor": (tf.constant(FRAMES[0]), FLOATS[:1], True),
        "numbers of Python": (FRAMES[0].tolist(), FLOATS[:1], True),
        "fractions of Python": (FLOATS[0].tolist(), FLOATS[:1], True),
        "a list of arrays": (list(FRAMES[0]), FLOATS[:1], True),
        "a list of sequences": (list(FRAMES), FLOATS, False),
        "an image": (IMAGES[0], FLOATS[:1, :1], True),
        "images": (IMAGES, FLOATS[:1], True),
        "images and arrays": ([IMAGES[0], FLOATS[0, 1], *FRAMES[0, 2:]], FLOATS[:1], True),
        "lists of images": ([IMAGES, IMAGES], FLOATS[[0, 0]], False),
        "a dataset of frames": (tf.data.Dataset.from_tensor_slices(FRAMES[0]), FLOATS[:1], True),
        "a dataset of sequences": (tf.data.Dataset.from_tensor_slices(FRAMES), FLOATS, False),
    }.values(),
)
def test_arrays_and_images(read, given, array, single):
    frames = read(given)
    assert (frames.single, frames.array.dtype) == (single, np.float32)
    np.testing.assert_allclose(frames.array, array, atol=1e-6)


def test_generators(read):
    np.testing.assert_array_equal(read(frame for frame in FRAMES[0]).array, FLOATS[:1])
    np.testing.assert_array_equal(read(iter(IMAGES)).array, FLOATS[:1])


def test_paths(read, folder):
    anna = read(folder / "anna")
    assert (anna.array.shape, anna.single) == ((1, 3, 16, 16, 3), True)
    for given in ("anna", "~/anna", "anna/*.png", "ann?/*", ["anna/8.png", "anna/9.png", "anna/10.png"]):
        np.testing.assert_array_equal(read(given).array, anna.array)
    np.testing.assert_array_equal(read(folder / "anna/9.png").array, anna.array[:, 1:2])
    both = read(["anna", folder / "bob"])
    assert (both.array.shape, both.single) == ((2, 3, 16, 16, 3), False)
    np.testing.assert_array_equal(both.array[:1], anna.array)


def test_brackets_in_names_are_no_pattern_where_the_name_is_there(read, folder):
    (folder / "anna").rename(folder / "[anna]")
    assert read("[anna]").array.shape == (1, 3, 16, 16, 3)
    assert read("[anna]/8.png").array.shape == (1, 1, 16, 16, 3)


def test_grey_frames_need_no_axis_of_channels():
    read = FrameReader((16, 24, 1), "crop")
    for shape in ((16, 24), (5, 16, 24), (2, 5, 16, 24), (5, 16, 24, 1)):
        frames = read(np.zeros(shape))
        assert frames.array.shape[2:] == (16, 24, 1)
        assert frames.single == (shape[0] != 2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "There are no frames"),
        (iter([]), "There are no frames"),
        (FRAMES[0].astype(int) + 1, "must be from 0 to 255; yours, int64, are from 1 to 256"),
        (FRAMES[0] > 3, "got bool"),
        (np.array(["a"]), "got <U1"),
        (None, "got NoneType"),
        (b"abc", "got bytes"),
        ({"frames": FRAMES}, "got dict"),
        ([FRAMES[0, :2], FRAMES[1]], r"different numbers of frames \(2, 5\); give them one at a time"),
        ([FRAMES[0, 0], FRAMES[1]], r"The frames have different shapes: \[5, 16, 16, 3\], \[16, 16, 3\]"),
        (["anna", "carl"], r"different numbers of frames \(2, 3\)"),
        ("nobody", "There is no folder nobody, nor a file of that name"),
        ("nobody/*.png", r"There are no files nobody/\*\.png"),
        ("gs://bucket/frames", "not a path of this machine"),
        (np.zeros((100, 120, 3)), "Images of other sizes can be given as Pillow images or files"),
    ],
)
def test_what_cannot_be_used_is_one_line(read, folder, given, words):
    with pytest.raises(UserError, match=words):
        read(given)


def test_pages_in_a_folder_are_frames_and_the_range_is_that_of_training(tmp_path):
    pages = [Image.fromarray(np.full((16, 16), value, np.uint16)) for value in (0, 2048, 4095)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    frames = FrameReader((16, 16, 1), "crop", (0, 4095))(tmp_path)
    np.testing.assert_allclose(frames.array[0, :, 0, 0, 0], [0, 0.5, 1], atol=0.003)
