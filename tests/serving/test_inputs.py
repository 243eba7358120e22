"""Frames as people have them."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from conftest import draw_image, frame_folders
from ddr_tf.errors import UserError
from ddr_tf.serving.inputs import FrameReader, Frames

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
        "whole numbers of two bytes": (FRAMES[0].astype(np.uint16), FLOATS[:1], True),
        "whole numbers that are all black": (np.zeros((2, 16, 16, 3), int), np.zeros((1, 2, 16, 16, 3)), True),
        "an array of images": (np.array([*IMAGES, None], object)[:-1], FLOATS[:1], True),
        "batches": (tf.data.Dataset.from_tensor_slices(FRAMES).batch(2), FLOATS, False),
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


class Column:
    """As pandas.Series: iterates, and becomes an array of objects."""

    def __init__(self, values):
        self.values = values

    def __iter__(self):
        return iter(self.values)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype or object)


def test_paths(read, folder):
    anna = read(folder / "anna")
    assert (anna.array.shape, anna.single) == ((1, 3, 16, 16, 3), True)
    for given in ("anna", "~/anna", "anna/*.png", "ann?/*", ["anna/8.png", "anna/9.png", "anna/10.png"]):
        np.testing.assert_array_equal(read(given).array, anna.array)
    np.testing.assert_array_equal(read(folder / "anna/9.png").array, anna.array[:, 1:2])
    names = ["anna/8.png", "anna/9.png", "anna/10.png"]
    for given in (np.array(names), np.array(names, object), Column(names)):
        np.testing.assert_array_equal(read(given).array, anna.array)
    np.testing.assert_array_equal(read(np.array([names, names])).array, anna.array[[0, 0]])
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
        (np.array([b"a"]), r"got \|S1"),
        (np.array(["a", "b"]), "There is no folder a, nor a file of that name"),
        (np.array([10**30], object), "got object"),
        ((FRAMES[0] > 100).astype(int), "yours, int64, are 0 and 1 alone. Give floats if 1 is white"),
        (tf.data.Dataset.from_tensor_slices((FRAMES[0], [0, 1, 2, 3, 4])), "The frames have different shapes"),
        (FRAMES[0].astype(np.uint16) * 16, "Divide them by the number that is white"),
        (tf.data.Dataset.from_tensor_slices(FRAMES).repeat(), r"never ends; give a part of it, as its \.take\(n\)"),
        (Frames(FRAMES, False), "frames must be an array; got Frames, a record of several: it holds array, single"),
        (".", "There are no images in .; encode_folder reads the folders in it, each as a sequence"),
        ("*a*", r"There are no files \*a\*, only folders; encode_folder reads the folder that they are in"),
        (None, "got NoneType"),
        (b"abc", r"got bytes. Pillow opens them: Image\.open\(io\.BytesIO\(data\)\)"),
        (io.BytesIO(b"abc"), "got BytesIO. Pillow opens them"),
        ({"a", "b"}, "have no order"),
        (np.ma.masked_array(FRAMES[0] / 255, FRAMES[0] > 100), r"a part is masked; say what is there with \.filled"),
        (Image.new("F", (9, 9), 1e9), "A Pillow image of mode F cannot be used"),
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


@pytest.fixture
def stacks(tmp_path):
    """A TIFF of 5 pages, a GIF of 3 pictures, and a PNG."""
    folder = tmp_path / "stacks"
    folder.mkdir()
    IMAGES[0].save(folder / "a.tif", save_all=True, append_images=IMAGES[1:])
    IMAGES[0].save(folder / "b.gif", save_all=True, append_images=IMAGES[1:3])
    IMAGES[4].save(folder / "c.png")
    return folder


def test_all_pictures_of_a_file_are_frames_wherever_it_is_a_path(read, stacks):
    tif, gif, png = (stacks / name for name in ("a.tif", "b.gif", "c.png"))
    all_frames = read(stacks)
    assert (all_frames.array.shape, all_frames.single) == ((1, 9, 16, 16, 3), True)
    np.testing.assert_array_equal(all_frames.array[0, :5], FLOATS[0])
    for given, numbers in (
        (tif, range(5)),
        (str(gif), range(5, 8)),
        ([gif], range(5, 8)),
        ([tif, gif, png], range(9)),
        (np.array([str(tif), str(png)]), [*range(5), 8]),
        (stacks / "*", range(9)),
        (stacks / "*.[tg]if", range(8)),
        ([Image.open(png), tif], [8, *range(5)]),
    ):
        frames = read(given)
        assert frames.single
        np.testing.assert_array_equal(frames.array[0], all_frames.array[0, numbers])
    np.testing.assert_array_equal(read([[tif], [tif]]).array, all_frames.array[[0, 0], :5])


def test_what_a_folder_holds_besides_images_is_told(read, folder):
    anna = folder / "anna"
    with_suffix = read(anna).array
    (anna / "10.png").rename(anna / "10")  # its content tells
    for name in ("notes.txt", "more.txt", "labels.csv"):
        (anna / name).write_text("no image")
    (anna / "left").mkdir()
    with pytest.warns(UserWarning) as warned:
        np.testing.assert_array_equal(read(anna).array[0], with_suffix[0])
    (warning,) = warned
    assert "anna/more.txt (not an image by name or content (.txt); 2 of this kind)" in str(warning.message)
    assert "anna/left (a folder in the folder; encode_folder reads both)" in str(warning.message)
    with pytest.warns(UserWarning, match=r"anna/left \(a folder that fits the pattern\)"):
        assert read("anna/[8l]*[gt]").array.shape[1] == 1


def test_pages_in_a_folder_are_frames_and_the_range_is_that_of_training(tmp_path):
    pages = [Image.fromarray(np.full((16, 16), value, np.uint16)) for value in (0, 2048, 4095)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    frames = FrameReader((16, 16, 1), "crop", (0, 4095))(tmp_path)
    np.testing.assert_allclose(frames.array[0, :, 0, 0, 0], [0, 0.5, 1], atol=0.003)


def save_deep(path, largest, pages=1):
    """Images of 16 bits a pixel, of which the lower half is `largest`."""
    pixels = np.zeros((16, 16), np.uint16)
    pixels[8:] = largest
    images = [Image.fromarray(pixels)] * pages
    path.parent.mkdir(parents=True, exist_ok=True)
    images[0].save(path, **(dict(save_all=True, append_images=images[1:]) if pages > 1 else {}))


def test_dark_images_of_16_bits_are_told(tmp_path):
    save_deep(tmp_path / "12/a.tif", 4095, pages=3)
    save_deep(tmp_path / "12/b.png", 4000)
    read, read_12_bits = FrameReader((16, 16, 1), "crop"), FrameReader((16, 16, 1), "crop", (0, 4095))
    paths = [tmp_path / "12/a.tif", tmp_path / "12/b.png"]
    swapped = Image.frombytes("I;16B", (16, 16), np.full((16, 16), 4095, ">u2").tobytes())
    for given, count, example in (
        (swapped, 1, "a Pillow image"),
        (tmp_path / "12", 4, r".*a\.tif"),
        (paths, 4, r".*a\.tif"),
        (tmp_path / "12/*.png", 1, r".*b\.png"),
        (Image.open(paths[1]), 1, "a Pillow image"),
    ):
        beginning = rf"^{example}: {count} image\(s\) of 16 bits a pixel with no value above 4,0"
        with pytest.warns(UserWarning, match=beginning) as warned:
            assert read(given).array.max() < 0.07
        (warning,) = warned
        assert "if they have 12 bits, load the model with value_range=(0, 4095)" in str(warning.message)
        assert read_12_bits(given).array.max() > 0.95
    save_deep(tmp_path / "12/c.png", 65535)  # one bright image shows that all 16 bits are meant
    assert read(tmp_path / "12").array.max() == 1


@pytest.mark.parametrize("value_range", [4095, (0,), (0, 0), (5, 1), ("a", 2), (0, float("inf")), (float("nan"), 1)])
def test_a_range_is_two_numbers(value_range):
    with pytest.raises(UserError, match="value_range must be two numbers"):
        FrameReader((16, 16, 1), "crop", value_range)


def test_sequences_are_those_of_frame_folders(read, tmp_path):
    root = tmp_path / "root"
    for name in ("a.png", "b.png", "root/c.png", "root/d.png", "z/e.png", ".thumbnails/f.png", "z/.f.png"):
        draw_image(root / name, len(name))
    (root / "z/e.png").rename(root / "z/e")
    draw_image(tmp_path / "elsewhere/g.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "z/again").symlink_to(root / "root")
    (root / "z/notes.txt").write_text("no image")
    (root / "labels.csv").write_text("sequence,age")
    with pytest.warns(UserWarning) as warned:
        found = {name: names for name, names, _ in read.sequences(root)}
    assert found == {".": ["a.png", "b.png"], "linked": ["g.png"], "root": ["c.png", "d.png"], "z": ["e"]}
    (warning,) = warned
    told = str(warning.message)
    assert "z/notes.txt (not an image by name or content (.txt))" in told
    assert "z/again (the same folder as one before, by a link)" in told
    assert "thumbnails" not in told and "labels.csv" not in told  # passed over, as in training
    known = frame_folders(root, min_frames=1)
    assert [name or "." for name in known.ids] == list(found)


def test_few_bad_images_are_left_out_and_many_are_refused(read, tmp_path):
    for number in range(38):
        draw_image(tmp_path / f"a/{number}.png", number)
    (tmp_path / "a/38.png").write_bytes(b"\x89PNG")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/39.png").symlink_to("nothing")
    with pytest.warns(UserWarning, match=r"Not used: 1 image\(s\) that cannot be used, such as .*38\.png: "):
        (sequence,) = read.sequences(tmp_path / "a")
    assert sequence[2].shape == (38, 16, 16, 3)
    with pytest.raises(UserError, match=r"38\.png cannot be used: .*2 images cannot, which is too many"):
        list(read.sequences(tmp_path))
    with pytest.raises(UserError, match=r"38\.png cannot be used"):
        read(tmp_path / "a")
    with pytest.raises(UserError, match=r"38\.png is a file, not a folder of folders; encode takes files"):
        list(read.sequences(tmp_path / "a/38.png"))
