import contextlib
import errno
import io
import mimetypes
import os
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from conftest import draw_image
from ddr_tf import images as images_module
from ddr_tf.images import (
    FrameFormat,
    TooLargeError,
    UnreadableError,
    can_be_read,
    decoding,
    is_named_as_image,
    read_frame,
    read_pictures,
)

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


def header_only(kind, width, height):
    """A file of a few bytes that says that it holds a large image."""
    if kind == "webp":
        bits = struct.pack("<I", (width - 1) | (height - 1) << 14)
        chunk = b"VP8L" + struct.pack("<I", 5 + 8) + b"\x2f" + bits + b"\0" * 9
        return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    depth, colour = {"png16": (16, 0), "png": (8, 2)}[kind]
    data = zlib.compress(bytes((width * depth * (3 if colour else 1) // 8 + 1) * height), 1)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "size", "reason"),
    [
        ("webp", (16383, 5400), "MB to decode, more than max_decoding_mb = 1000"),
        ("png", (80_000_000, 1), "no side may have more than 65,535"),
        ("png", (1, 80_000), "no side may have more than 65,535"),
    ],
)
def test_what_would_take_gigabytes_is_refused_before_it_is_decoded(tmp_path, kind, size, reason):
    (tmp_path / f"a.{kind}").write_bytes(header_only(kind, *size))
    with pytest.raises(TooLargeError, match=reason):
        read_frame(tmp_path / f"a.{kind}", FRAMES)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_photographs_of_100_megapixels_pass(tmp_path):
    """Those that are decoded; what the decoder needs was measured for all kinds."""
    Image.new("RGB", (12000, 8400), "red").save(tmp_path / "a.jpg")
    assert (pixels(tmp_path / "a.jpg")[..., 0] > 250).all()
    for mode in ("RGB", "RGBA", "L", "I;16"):
        image = Image.new(mode, (12000, 8400))
        image.format = "PNG"
        with decoding(image):
            pass
    with pytest.raises(TooLargeError, match="max_decoding_mb = 300"), decoding(Image.new("RGB", (12000, 8400)), 300):
        pass


def test_threads_share_the_memory_for_decoding():
    image, most, now, lock = Image.new("RGB", (1000, 1000)), [], [0], threading.Lock()

    def decode():
        with decoding(image, 18):  # two of 8 MB fit
            with lock:
                now[0] += 1
                most.append(now[0])
            time.sleep(0.02)
            with lock:
                now[0] -= 1

    threads = [threading.Thread(target=decode) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 8
    assert max(most) == 2


def test_only_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ValueError, match="it is a FIFO, not a file"):
        read_frame(tmp_path / "a.png", FRAMES)


@pytest.mark.parametrize("kind", ["webp", "bmp", "gif", "tiff", "mpo"])
def test_images_under_other_names_are_found(tmp_path, kind):
    image = Image.fromarray(noise((16, 16, 3)))
    image.save(tmp_path / "a.bin", kind, **({"save_all": True, "append_images": [image]} if kind == "mpo" else {}))
    assert read_frame(tmp_path / "a.bin", FRAMES).note == "an image in spite of its name"


def test_pages_are_pictures_but_not_their_smaller_versions(tmp_path):
    images = [Image.new("L", (32, 32), 10 * number) for number in range(1, 6)]
    images[2].encoderinfo = {"tiffinfo": {254: 1}}
    images[0].save(tmp_path / "a.tif", save_all=True, append_images=images[1:])
    frames = dict(read_pictures(tmp_path / "a.tif", FRAMES))
    assert {number: frame.pixels[0, 0, 0] for number, frame in frames.items()} == {1: 10, 2: 20, 4: 40, 5: 50}
    assert len({frame.digest for frame in frames.values()}) == 4
    assert frames[1].num_pictures == 5


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tif"])
def test_pictures_before_the_damage_are_read(tmp_path, kind):
    images = [Image.fromarray(noise((64, 64, 3), seed)) for seed in range(6)]
    images[0].save(tmp_path / "a", kind.replace("tif", "tiff"), save_all=True, append_images=images[1:])
    content = (tmp_path / "a").read_bytes()
    for kept in (len(content) * 9 // 10, len(content) // 2, 20):
        (tmp_path / f"b.{kind}").write_bytes(content[:kept])
        read = []
        with contextlib.suppress(ValueError):
            for number, _ in read_pictures(tmp_path / f"b.{kind}", FRAMES):
                read.append(number)
        assert read == list(range(1, len(read) + 1))
        assert len(read) < 6


def test_a_file_of_too_many_pictures_is_refused(tmp_path, monkeypatch):
    images = [Image.new("L", (16, 16), number) for number in range(4)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:])
    with monkeypatch.context() as patch:
        patch.setattr(images_module, "MAX_PICTURES", 3)
        with pytest.raises(TooLargeError, match="more than 3 pictures in one file"):
            list(read_pictures(tmp_path / "a.gif", FRAMES))
    monkeypatch.setattr(images_module, "MAX_PIXELS", 600)
    monkeypatch.setattr(images_module, "MAX_PIXELS_PER_BYTE", 0)
    with pytest.raises(TooLargeError, match="decompression bomb"):
        list(read_pictures(tmp_path / "a.gif", FRAMES))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_twelve_bits_in_sixteen_are_noted_and_their_range_can_be_given(tmp_path, suffix):
    deep = np.linspace(0, 4095, 256).round().astype(np.uint16).reshape(16, 16)
    Image.fromarray(deep).save(tmp_path / f"a{suffix}")
    frame = read_frame(tmp_path / f"a{suffix}", FRAMES)
    assert frame.max_value == 4095
    assert frame.pixels.max() == 16
    frame = read_frame(tmp_path / f"a{suffix}", FRAMES._replace(channels=1, value_range=(0, 4095)))
    np.testing.assert_array_equal(frame.pixels.ravel(), np.arange(256))


def test_floats_need_a_range(tmp_path):
    values = np.linspace(-1, 1, 256, dtype=np.float32).reshape(16, 16)
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    frame = read_frame(tmp_path / "a.tif", FRAMES._replace(channels=1, value_range=(-1, 1)))
    np.testing.assert_array_equal(frame.pixels.ravel(), np.arange(256))
    frame = read_frame(tmp_path / "a.tif", FRAMES._replace(channels=1, value_range=(0, 0.5)))
    assert frame.pixels.ravel()[[0, 100, 200, 255]].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("fit", ["crop", "resize"])
def test_frames_need_not_be_square(tmp_path, fit):
    array = noise((48, 32, 3))
    Image.fromarray(array).save(tmp_path / "a.png")
    frame = read_frame(tmp_path / "a.png", FrameFormat((48, 32), fit))
    np.testing.assert_array_equal(frame.pixels, array)
    assert read_frame(tmp_path / "a.png", FrameFormat((16, 64), fit)).pixels.shape == (16, 64, 3)


def test_the_order_of_bytes_in_a_file_does_not_matter(tmp_path):
    values = np.array([[0, 4095]], np.uint16).repeat(16, axis=0).repeat(8, axis=1)
    frames = {}
    for name, order in (("little", "<"), ("big", ">")):
        tags = [(256, 16), (257, 16), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 16), (279, 512)]
        header = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8 + 512)
        # In a big-endian file a short value lies in the first bytes of its place of four.
        entries = [struct.pack(order + "HHI", tag, 3, 1) + struct.pack(order + "HH", value, 0) for tag, value in tags]
        directory = struct.pack(order + "H", len(tags)) + b"".join(entries) + struct.pack(order + "I", 0)
        (tmp_path / f"{name}.tif").write_bytes(header + values.astype(f"{order}u2").tobytes() + directory)
        frames[name] = read_frame(tmp_path / f"{name}.tif", FrameFormat((16, 16), channels=1))
        assert frames[name].max_value == 4095
    assert 0 < frames["little"].pixels.max() < 20
    np.testing.assert_array_equal(frames["big"].pixels, frames["little"].pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_where_zero_is_white_it_becomes_white(tmp_path, dtype):
    most = 1 if dtype is np.float32 else np.iinfo(dtype).max
    values = (np.arange(256).reshape(16, 16) * (most / 255)).astype(dtype)
    # Pillow writes 8 bits upside down if it is told that 0 is white, and others as they are.
    Image.fromarray(most - values if dtype is np.uint8 else values).save(tmp_path / "a.tif", tiffinfo={262: 0})
    frame_format = FRAMES._replace(channels=1, value_range=(0, 1) if dtype is np.float32 else None)
    found = read_frame(tmp_path / "a.tif", frame_format).pixels.ravel()
    np.testing.assert_array_equal(found, np.arange(256)[::-1])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # as folders are read
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage-garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01"])
def test_damaged_exif_spoils_no_image(tmp_path, suffix, exif):
    image = Image.fromarray(noise((16, 16, 3)))
    image.save(tmp_path / f"a.{suffix}")
    image.save(tmp_path / f"b.{suffix}", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / f"a.{suffix}"), pixels(tmp_path / f"b.{suffix}"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_are_those_of_pillow(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise((16, 16, 3))).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(pixels(tmp_path / "a.png"), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize(
    ("name", "begin"),
    [("a.heic", b"\0\0\0\x18ftypheic"), ("a.jpg", b"\0\0\0\x18ftypheic"), ("a.jxl", b"\xff\x0a"), ("a.tif", b"II+\0")],
)
def test_images_that_pillow_cannot_read_are_told_from_what_is_none(tmp_path, name, begin):
    (tmp_path / name).write_bytes(begin + bytes(100))
    assert is_named_as_image(tmp_path / name)
    with pytest.raises(ValueError, match="of a kind that Pillow cannot read; convert it to PNG or JPEG"):
        read_frame(tmp_path / name, FRAMES)


def test_what_is_named_as_an_image_does_not_depend_on_the_system():
    mimetypes.add_type("image/x-of-this-system", ".strange")
    assert not is_named_as_image("a.strange")
    assert not is_named_as_image("a.hdr")
    assert is_named_as_image("a.svg")


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, UnreadableError), (errno.EINVAL, ValueError)])
def test_what_a_system_does_not_give_is_told_from_what_is_damaged(tmp_path, monkeypatch, number, kind):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    draw_image(tmp_path / "a.png")
    assert can_be_read(tmp_path / "a.png") and not can_be_read(tmp_path / "b.png")
    monkeypatch.setattr(Image, "open", refused)
    with pytest.raises(ValueError, match=os.strerror(number)) as raised:
        read_frame(tmp_path / "a.png", FRAMES)
    assert type(raised.value) is kind
