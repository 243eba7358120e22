"""One image file of any kind -> one frame."""

import hashlib
import mimetypes
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

FITS = ("crop", "resize")
SAFE_BY_CONTENT = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "GIF", "TIFF")  # begin with bytes that nothing else begins with
_NOT_FRAMES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}  # need other programs, or hold no pixels

Image.init()  # Pillow learns its formats late


class Frame(NamedTuple):
    """A frame and where it came from.

    Attributes:
      pixels: uint8 `[size, size, C]`.
      digest: Of the bytes of the file.
      note: What is worth knowing about the file, or "".
    """

    pixels: np.ndarray
    digest: bytes
    note: str


def is_named_as_image(path: Path) -> bool:
    """Whether the suffix is one of an image format, be it one that Pillow can read or not (as .heic and .svg)."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None:
        return (mimetypes.guess_type(path.name)[0] or "").startswith("image/")
    return kind not in _NOT_FRAMES


def read_frame(path: Path, size: int, fit: str, channels: int) -> Frame:
    """Decodes one image to a square frame.

    The content counts, not the name. EXIF rotation is applied; 16 bits become 8; what is transparent becomes black; of
    an animation or a multi-page file the first picture is taken.

    Args:
      path: The file.
      size: Side of the frame in pixels.
      fit: "crop": the largest square in the middle; "resize": all of it, whatever its shape. Both scale to `size`.
      channels: 3, or 1 for grey.

    Returns:
      The frame.

    Raises:
      ValueError: With the reason, if the file is not a whole image of a kind that can be used.
    """
    by_name = is_named_as_image(path)
    formats = [name for name in Image.OPEN if name not in _NOT_FRAMES] if by_name else SAFE_BY_CONTENT
    try:
        with path.open("rb") as file:
            with Image.open(file, formats=formats) as image:
                if image.width * image.height > Image.MAX_IMAGE_PIXELS:  # Pillow only warns up to twice as many
                    raise Image.DecompressionBombError
                note = "" if by_name else "an image in spite of its name"
                if image.format in ("GIF", "PNG", "WEBP", "TIFF", "AVIF") and getattr(image, "n_frames", 1) > 1:
                    note = f"the first of its {image.n_frames} pictures is used"
                image.draft(None, (size, size))  # decodes a large JPEG at a fraction of its size
                image = upright(image, channels)
            file.seek(0)
            digest = hashlib.file_digest(file, "blake2b").digest()
    except Image.DecompressionBombError as error:
        raise ValueError("more pixels than any frame has (a decompression bomb?)") from error
    except FileNotFoundError as error:
        raise ValueError("it has vanished, or is a link to nothing") from error
    except Exception as error:  # Pillow's decoders raise almost anything
        if path.exists() and path.stat().st_size == 0:
            raise ValueError("empty file") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError("not an image" if reason.startswith("cannot identify") else reason) from error
    return Frame(to_square(image, size, fit), digest, note)


def to_square(image: Image.Image, size: int, fit: str) -> np.ndarray:
    """An image of mode RGB or L -> uint8 `[size, size, C]`; see `read_frame`."""
    if fit == "crop":
        image = ImageOps.fit(image, (size, size))
    elif image.size != (size, size):
        image = image.resize((size, size))
    return np.asarray(image).reshape(size, size, -1)


def upright(image: Image.Image, channels: int) -> Image.Image:
    """An image of any mode as plain colour or grey: 8 bits a channel, upright by its EXIF data, black behind.

    Args:
      image: Any image.
      channels: 3, or 1 for grey.

    Returns:
      An image of mode RGB or L.

    Raises:
      ValueError: If its values are of unknown range.
    """
    # Pillow opens what has 16 bits in these formats as 32.
    deep = image.mode == "I" and image.format in ("PNG", "PPM")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if not (deep or image.mode.startswith("I;16")):
            raise ValueError("32 bits a pixel; what is black and what is white is not known")
        image = Image.fromarray(np.round(values / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("L" if channels == 1 else "RGB")
