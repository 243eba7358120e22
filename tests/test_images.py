import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from conftest import draw_image
from ddr_tf.images import FrameFormat, is_named_as_image, read_frame

FRAMES = FrameFormat((16, 16))


def noise(shape, seed=0):
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def pixels(path, size=16, fit="resize", channels=3):
    return read_frame(path, FrameFormat((size, size), fit, channels)).pixels


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".ppm", ".tga"])
def test_lossless_images_come_back_as_they_are(tmp_path, suffix):
    array = noise((16, 16, 3))
    path = tmp_path / f"a{suffix}"
    Image.fromarray(array).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    np.testing.assert_array_equal(pixels(path), array)


def test_palette_grey_and_one_bit(tmp_path):
    grey = noise((16, 16))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(pixels(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=-1))
    np.testing.assert_array_equal(pixels(tmp_path / "grey.png", channels=1)[..., 0], grey)
    palette = Image.fromarray(grey % 4).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(pixels(tmp_path / "palette.png")[..., 1], np.array([20, 50, 80, 110])[grey % 4])
    Image.fromarray(grey > 127).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(pixels(tmp_path / "bits.png")[..., 0], np.where(grey > 127, 255, 0))


def test_sixteen_bits_keep_their_range(tmp_path):
    deep = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        np.testing.assert_array_equal(pixels(tmp_path / name, channels=1).ravel(), np.arange(256))


def test_what_is_transparent_is_black(tmp_path):
    array = noise((16, 16, 4))
    Image.fromarray(array).save(tmp_path / "a.png")
    expected = array[..., :3] * (array[..., 3:] / 255)
    assert np.abs(pixels(tmp_path / "a.png") - expected).max() <= 1
    transparent = Image.new("P", (16, 16), 1)
    transparent.putpalette([255, 0, 0, 0, 255, 0])
    transparent.save(tmp_path / "b.png", transparency=1)
    assert (pixels(tmp_path / "b.png") == 0).all()


def test_cmyk_is_a_colour_image(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg")  # red
    assert np.abs(pixels(tmp_path / "a.jpg").astype(int) - (255, 0, 0)).max() < 5


def test_exif_rotation_is_applied(tmp_path):
    array = np.zeros((16, 16, 3), np.uint8)
    array[:8] = 255  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), np.rot90(array, -1))


def test_crop_takes_the_square_in_the_middle_and_resize_all(tmp_path):
    array = np.zeros((16, 48, 3), np.uint8)
    array[:, 16:32] = noise((16, 16, 3))
    Image.fromarray(array).save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png", fit="crop"), array[:, 16:32])
    squeezed = pixels(tmp_path / "a.png", fit="resize")
    assert squeezed[:, 6:10].mean() > 50
    assert squeezed[:, :4].mean() < 5


def test_a_large_jpeg_is_the_same_when_it_is_decoded_small(tmp_path):
    path = draw_image(tmp_path / "a.jpg", size=(640, 640), quality=95)
    with Image.open(path) as image:
        expected = np.asarray(image.resize((32, 32)), float)
    assert np.abs(pixels(path, size=32) - expected).mean() < 3


def test_of_an_animation_the_first_picture_is_taken(tmp_path):
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    for name in ("a.gif", "a.png", "a.webp"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        frame = read_frame(tmp_path / name, FRAMES)
        assert frame.pixels[8, 8].argmax() == 0
        assert frame.note == "the first of its 2 pictures is used"


def test_content_counts_not_the_name(tmp_path):
    array = noise((16, 16, 3))
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    for name, note in (
        ("a.jpg", ""),
        ("a.dat", "an image in spite of its name"),
        ("a", "an image in spite of its name"),
    ):
        (tmp_path / name).write_bytes(buffer.getvalue())
        frame = read_frame(tmp_path / name, FRAMES)
        np.testing.assert_array_equal(frame.pixels, array)
        assert frame.note == note
    assert is_named_as_image(tmp_path / "a.JPEG")
    assert not is_named_as_image(tmp_path / "a.txt")
    assert not is_named_as_image(tmp_path / "a.eps")


def bomb():
    """A PNG of a few hundred bytes that says it has 900 megapixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"some text", "not an image"),
        (bomb(), "more pixels than any frame has"),
        (None, "vanished"),
    ],
)
def test_what_is_no_image_has_a_reason(tmp_path, content, reason):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_frame(path, FRAMES)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".gif"])
def test_truncated_images_are_refused_wherever_they_are_cut(tmp_path, suffix):
    path = draw_image(tmp_path / f"a{suffix}", size=(64, 64))
    content = path.read_bytes()
    for kept in (4, len(content) // 3, len(content) * 3 // 4):
        path.write_bytes(content[:kept])
        with pytest.raises(ValueError, match=r"\w"):
            read_frame(path, FRAMES)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_images_of_unknown_range_are_refused(tmp_path, dtype):
    Image.fromarray(np.zeros((16, 16), dtype)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="32 bits a pixel"):
        read_frame(tmp_path / "a.tif", FRAMES)
