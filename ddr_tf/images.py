"""One image file of any kind -> frames of one shape, with bounds on the memory and the time that a file may take."""

import contextlib
import errno
import hashlib
import itertools
import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ddr_tf.files import open_regular

FITS = ("crop", "resize")
SAFE_BY_CONTENT = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # formats that begin with bytes of their own
MAX_DECODING_MB = 1000  # a photograph of 100 megapixels takes 300 to 900
MAX_SIDE = 65_535  # pixels; anything longer is no picture, and its rows and tables alone would fill memory
MAX_PICTURES = 100_000  # of one file
MAX_PIXELS = 10_000_000_000  # of all pictures of a file together; they take a minute or two to decode
MAX_PIXELS_PER_BYTE = 1000  # of a file that is so large that this allows for more than `MAX_PIXELS`
MIN_LARGEST = 16_384  # in images of 16 bits; if all values are smaller, they are dark, or have fewer bits
# Marks of images that Pillow may not read, and where they are: HEIC and AVIF, JPEG XL, OpenEXR, TIFF, Radiance, DjVu.
_OTHER_IMAGES = (
    *((b"ftyp" + brand, 4) for brand in (b"heic", b"heix", b"mif1", b"msf1", b"hevc", b"avif", b"avis", b"crx ")),
    *((b"\xff\x0a", 0), (b"\0\0\0\x0cJXL ", 0), (b"\x76\x2f\x31\x01", 0), (b"#?RADIANCE", 0), (b"AT&TFORM", 0)),
    *((mark, 0) for mark in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
)
# Not EINVAL, which is also what comes of a damaged file that tells a decoder to go to a place that there is none of.
_ERRORS_OF_SYSTEMS = frozenset(
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "EIO", "ESTALE", "ETIMEDOUT", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "ENOTCONN")
    if hasattr(errno, name)  # Windows has no ESTALE
)
_OTHER_SUFFIXES = frozenset((".heic", ".heif", ".avif", ".jxl", ".svg"))  # of images that Pillow may not read
_NOT_FRAMES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}  # other programs read them, or they hold no pixels
_NO_SERIES = {"MPO", "PSD", "ICO", "ICNS", "CUR"}  # previews, layers and sizes of one picture
# What decoders take for a pixel, apart from the result.
_DECODER_BYTES = {"PNG": 0, "JPEG": 0, "BMP": 0, "PPM": 0, "WEBP": 16, "JPEG2000": 24, "AVIF": 16, "GIF": 12}
_OTHER_DECODERS_BYTES = 4
_ORIENTATION = 0x0112  # tag of EXIF
_TURNS = {  # by the value of that tag
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SUBFILE_TYPE, _REDUCED = 254, 1  # tag of TIFF, and its bit for a smaller version of another page
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # tag of TIFF, and its value where 0 is white
ONLY_SMALLER = "it holds only smaller versions of a picture"
_BLOCK = 1 << 20  # pixels that are converted at a time

Image.init()  # Pillow registers its formats on demand


class FrameFormat(NamedTuple):
    """What an image becomes.

    Attributes:
      size: Height and width in pixels.
      fit: "crop": the largest part of that shape in the middle; "resize": all of the image, squeezed.
      channels: 3, or 1 for grey.
      value_range: The values that are black and white in images of 16 or 32 bits a pixel, or white and black if a
        TIFF says so (WhiteIsZero); None: 0 and 65,535, and 32 bits are refused.
      max_decoding_mb: What decoding may take, in megabytes, of all threads together.
    """

    size: tuple[int, int]
    fit: str = "crop"
    channels: int = 3
    value_range: tuple[float, float] | None = None
    max_decoding_mb: int = MAX_DECODING_MB


class Frame(NamedTuple):
    """A frame and where it came from.

    Attributes:
      pixels: uint8 `[H, W, C]`.
      digest: Of the bytes of the file, and of the picture's number where it has several.
      note: What is worth knowing about the file, or "".
      num_pictures: How many the file holds.
      max_value: The largest value in an image of 16 bits a pixel, or a channel; None for others.
      deep_colour: Whether it has 16 bits a channel, of which Pillow drops the lower 8.
    """

    pixels: np.ndarray
    digest: bytes
    note: str
    num_pictures: int = 1
    max_value: int | None = None
    deep_colour: bool = False


class TooLargeError(ValueError):
    """An image, whole or not, that would take more memory or time than is allowed."""


class UnreadableError(ValueError):
    """A file that the system did not give; another time it may."""


class _Budget:
    """Memory that threads share: one that asks for more than is left waits until others have given theirs back."""

    def __init__(self) -> None:
        self._held = 0
        self._change = threading.Condition()

    @contextlib.contextmanager
    def reserved(self, amount: int, limit: int) -> Iterator[None]:
        with self._change:
            self._change.wait_for(lambda: not self._held or self._held + amount <= limit)
            self._held += amount
        try:
            yield
        finally:
            with self._change:
                self._held -= amount
                self._change.notify_all()


_budget = _Budget()


def is_named_as_image(path: str | os.PathLike) -> bool:
    """Whether the suffix is one of an image format, be it one that Pillow can read or not (as .heic and .svg)."""
    suffix = os.path.splitext(path)[1].lower()
    return suffix in _OTHER_SUFFIXES or Image.registered_extensions().get(suffix, "PDF") not in _NOT_FRAMES


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, Image.Image]]:
    """An image file, and the image in it, of which nothing has been decoded. The content counts, not the name.

    Raises:
      ValueError: With the reason, if it is no image of a kind that can be used; and in place of whatever Pillow raises
        while the block decodes it.
    """
    formats = [name for name in Image.OPEN if name not in _NOT_FRAMES] if is_named_as_image(path) else SAFE_BY_CONTENT
    try:
        with open_regular(path) as file, Image.open(file, formats=formats) as image:
            if max(image.size) > MAX_SIDE:
                raise TooLargeError(f"{image.width} x {image.height} pixels; no side may have more than {MAX_SIDE:,}")
            yield file, image
    except TooLargeError:
        raise
    except Image.DecompressionBombError as error:
        raise TooLargeError("more pixels than any frame has (a decompression bomb?)") from error
    except FileNotFoundError as error:
        raise ValueError("it has vanished, or is a link to nothing") from error
    except Exception as error:  # Pillow's decoders raise almost anything
        by_system = isinstance(error, OSError) and error.errno in _ERRORS_OF_SYSTEMS
        raise (UnreadableError if by_system else ValueError)(_reason(path, error)) from error


def can_be_read(path: Path) -> bool:
    """Whether the system gives a file's content, all of it."""
    try:
        with open_regular(path) as file:
            while file.read(_BLOCK):
                pass
    except (OSError, ValueError):
        return False
    return True


def _reason(path: Path, error: Exception) -> str:
    begin = b""
    with contextlib.suppress(OSError, ValueError), open_regular(path) as file:
        begin = file.read(12)
        if not begin:
            return "empty file"
    reason = " ".join(str(error).split()) or f"damaged ({type(error).__name__})"
    if not reason.startswith("cannot identify"):
        return reason
    if any(begin[place : place + len(mark)] == mark for mark, place in _OTHER_IMAGES):
        return "an image of a kind that Pillow cannot read; convert it to PNG or JPEG"
    return "not an image"


def count_pictures(image: Image.Image) -> int:
    """How many pictures, each a frame, an open image has: pages of a TIFF, pictures of an animation, else 1.

    2 if there are several, but damage keeps them from being counted.
    """
    if image.format in _NO_SERIES:
        return 1
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # of Pillow's decoders, for any damage
        image.seek(0)
        return 2


def read_frame(path: Path, frame_format: FrameFormat) -> Frame:
    """Decodes an image file to a frame.

    EXIF rotation is applied; 16 bits become 8; what is transparent becomes black; of a file of several pictures the
    first is taken. What is not named as an image and begins with a smaller version of a picture, as the raw files of
    cameras do, is none.

    Args:
      path: The file.
      frame_format: What it becomes.

    Returns:
      The frame.

    Raises:
      ValueError: With the reason, if the file is not a whole image of a kind that can be used.
    """
    with opened(path) as (file, image):
        count = count_pictures(image)
        notes = []
        if not is_named_as_image(path):
            if _is_reduced(image):
                raise ValueError(ONLY_SMALLER)
            notes.append("an image in spite of its name")
        if count > 1:
            notes.append(f"the first of its {count} pictures is used")
        pixels, *depth = _frame_of(image, frame_format)
        return Frame(pixels, _digest(file), "; ".join(notes), count, *depth)


def read_pictures(path: Path, frame_format: FrameFormat) -> Iterator[tuple[int, Frame]]:
    """Decodes all pictures of a file, one after the other, as `read_frame` the first.

    Smaller versions of a page in the same TIFF are passed over.

    Yields:
      The number of the picture in the file, from 1, and the frame.

    Raises:
      ValueError: With the reason, when a picture cannot be decoded, and at once if there are too many; those before
        have been yielded.
    """
    with opened(path) as (file, image):
        digest, count = _digest(file), count_pictures(image)
        for number, page in each_picture(image, os.fstat(file.fileno()).st_size):
            pixels, *depth = _frame_of(page, frame_format)
            yield number, Frame(pixels, digest + number.to_bytes(4, "big"), "", count, *depth)


def each_picture(image: Image.Image, file_bytes: int) -> Iterator[tuple[int, Image.Image]]:
    """The same open image, at each of its pictures in turn, with the picture's number from 1.

    Raises:
      TooLargeError: If it says that it holds more than `MAX_PICTURES`, or more pixels than are allowed.
    """
    pixels = 0
    for number in itertools.count(1):
        if number > MAX_PICTURES:
            raise TooLargeError(f"more than {MAX_PICTURES:,} pictures in one file")
        if number > 1 and not _next_picture(image, number):
            return
        if max(image.size) > MAX_SIDE:
            raise TooLargeError(f"picture {number} has a side of more than {MAX_SIDE:,} pixels")
        if _is_reduced(image):
            continue
        pixels += image.width * image.height
        if pixels > max(MAX_PIXELS, MAX_PIXELS_PER_BYTE * file_bytes):
            raise TooLargeError(f"its pictures have more than {MAX_PIXELS:,} pixels together (a decompression bomb?)")
        yield number, image


def _is_reduced(image: Image.Image) -> bool:
    """Whether an open image is at a page of a TIFF that is a smaller version of another."""
    return bool(getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE, 0) & _REDUCED)


def _next_picture(image: Image.Image, number: int) -> bool:
    """Goes on to a picture of an open image; returns whether there is one."""
    if image.format in _NO_SERIES:
        return False
    try:
        image.seek(number - 1)
    except EOFError:
        return False
    return True


def _digest(file: BinaryIO) -> bytes:
    file.seek(0)
    return hashlib.file_digest(file, "blake2b").digest()


def _frame_of(image: Image.Image, frame_format: FrameFormat) -> tuple[np.ndarray, int | None, bool]:
    """The picture at which an open image is as uint8 `[H, W, C]`; `max_value` and `deep_colour` of `Frame`."""
    height, width = frame_format.size
    deep_colour = has_deep_colour(image)  # it can be told only before anything is decoded
    with decoding(image, frame_format.max_decoding_mb, (width, height)):
        max_value = max_of_16_bits(image, deep_colour)
        plain = upright(image, frame_format.channels, frame_format.value_range)
        return to_frame(plain, frame_format.size, frame_format.fit), max_value, deep_colour


@contextlib.contextmanager
def decoding(
    image: Image.Image, max_mb: int = MAX_DECODING_MB, wanted: tuple[int, int] | None = None
) -> Iterator[None]:
    """A block in which an open image may be decoded and made `upright`; waits until enough memory is free.

    Args:
      image: The image.
      max_mb: What all threads together may take, in megabytes.
      wanted: Width and height that are enough: a large JPEG is decoded at a fraction of its size. None: all of it.

    Raises:
      TooLargeError: If the image alone takes more.
    """
    coefficients = 0
    if image.format in ("JPEG", "MPO"):  # the decoder may hold all pixels, even of an image that it reduces
        coefficients = 2 * image.width * image.height * len(image.getbands())
    if wanted:
        image.draft(None, wanted)
    needed = coefficients + decoding_bytes(image)
    if needed > max_mb * 1_000_000:
        raise TooLargeError(
            f"{image.width} x {image.height} pixels take {needed / 1e6:,.0f} MB to decode, more than max_decoding_mb = "
            f"{max_mb}"
        )
    with _budget.reserved(needed, max_mb * 1_000_000):
        yield


def decoding_bytes(image: Image.Image) -> int:
    """What decoding an open image and making it `upright` takes at most, in bytes; a careful estimate."""
    stored = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    pixel = stored + _DECODER_BYTES.get(image.format, _OTHER_DECODERS_BYTES)
    if image.format == "PNG" and count_pictures(image) > 1:
        pixel += 8  # the one before, and what is put in its place
    if _turn(image) is not None:
        pixel += stored
    if image.mode != "RGB":
        pixel += 4
    if _is_deep(image):
        pixel += stored + 1
    return image.width * image.height * pixel + 64 * image.height


def _is_deep(image: Image.Image) -> bool:
    """Whether a pixel is one number of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def max_of_16_bits(image: Image.Image, deep_colour: bool = False) -> int | None:
    """The largest value in an image of 16 bits a pixel, or a channel, as far as Pillow reads it; None for others."""
    if deep_colour:
        colours = image.getextrema()[: 1 if image.mode == "LA" else 3]
        return 256 * max(high for _, high in colours) + 255
    # By NumPy, since Pillow's own knows no order of bytes but one.
    return int(np.asarray(image).max()) if image.mode == "I" or image.mode.startswith("I;16") else None


def remark_on_range(largest: Collection[int], in_colour: bool, has_range: bool, setting: str) -> str | None:
    """What to say of images of 16 bits if no value in any of them needs more than 14; None: nothing.

    Args:
      largest: The largest value of each image, as of `max_of_16_bits`.
      in_colour: Whether they have 16 bits a channel, and not a pixel.
      has_range: Whether a range was given for those with 16 bits a pixel.
      setting: How to give one, with {} for the value that is white.
    """
    most = max(largest, default=MIN_LARGEST)
    if most >= MIN_LARGEST or (has_range and not in_colour):
        return None
    bits = max(8, most.bit_length())
    remedy = f"if they have {bits} bits, {setting.format((1 << bits) - 1)}"
    if in_colour:
        remedy = "value_range is for grey ones, so convert them to 8 bits a channel"
    return (
        f"{len(largest)} image(s) of 16 bits a {'channel' if in_colour else 'pixel'} with no value above {most:,} of "
        f"65,535, so they are dark; {remedy}"
    )


def has_deep_colour(image: Image.Image) -> bool:
    """Whether an image that has not been decoded has 16 bits a channel in its file, and 8 in Pillow."""
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile) for tile in image.tile)


def to_frame(image: Image.Image, size: tuple[int, int], fit: str) -> np.ndarray:
    """An image of mode RGB or L -> uint8 `[H, W, C]`; see `FrameFormat`."""
    height, width = size
    if fit == "crop":
        image = ImageOps.fit(image, (width, height))
    elif image.size != (width, height):
        image = image.resize((width, height))
    return np.asarray(image).reshape(height, width, -1)


def upright(image: Image.Image, channels: int, value_range: tuple[float, float] | None = None) -> Image.Image:
    """An image of any mode as plain colour or grey: 8 bits a channel, upright by its EXIF data, black behind.

    Args:
      image: Any image.
      channels: 3, or 1 for grey.
      value_range: As of `FrameFormat`.

    Returns:
      An image of mode RGB or L.

    Raises:
      ValueError: If its values are of unknown range.
    """
    # Pillow opens what has 16 bits in these formats as 32.
    deep = image.mode == "I" and image.format in ("PNG", "PPM")
    # It inverts those of 8 bits itself.
    is_inverted = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if 0 in image.size:  # as Pillow makes them; no file is read as one
        raise ValueError("it has no pixels")
    image.load()
    if (turn := _turn(image)) is not None:
        image = image.transpose(turn)
    if _is_deep(image):
        if not (value_range or deep or image.mode.startswith("I;16")):
            raise ValueError("32 bits a pixel; what is black and what is white is not known; value_range can say so")
        low, high = value_range or (0, 65_535)
        image = _eight_bits(image, (high, low) if is_inverted else (low, high))
    if image.has_transparency_data:
        image = _on_black(image)
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes an image upright, by its EXIF data; None: nothing, or the data are damaged."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION))
    except Exception:  # Pillow raises almost anything; the picture may be sound, and every viewer shows it
        return None


def _on_black(image: Image.Image) -> Image.Image:
    """A transparent image laid over black, of mode RGB."""
    result = Image.new("RGB", image.size)
    rows = max(1, _BLOCK // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        result.paste(Image.alpha_composite(Image.new("RGBA", strip.size, "black"), strip).convert("RGB"), (0, top))
    return result


def _eight_bits(image: Image.Image, value_range: tuple[float, float]) -> Image.Image:
    """A grey image whose values from `value_range`, up or down, became 0 to 255; what is no number is black."""
    black, white = value_range
    values = np.asarray(image)
    result = np.empty(values.shape, np.uint8)
    rows = max(1, _BLOCK // image.width)
    for top in range(0, image.height, rows):
        scaled = (values[top : top + rows].astype(np.float64) - black) * (255 / (white - black))
        result[top : top + rows] = np.round(np.clip(np.nan_to_num(scaled), 0, 255))
    return Image.fromarray(result)
