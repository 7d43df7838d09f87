"""One film in: a file of any common kind becomes a square 8-bit gray array, or a named fault."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cxrjax.types import UserError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
# The largest detectors give about 20 million pixels; a header that promises far more is a bomb or no film.
MAX_PIXELS = 64_000_000
MAX_BYTES = 256 * 1024 * 1024
MIN_SIDE = 16
# A 16-bit file holds values of a detector's own depth; the smallest of these that holds the film's maximum is taken.
BIT_DEPTHS = (8, 10, 12, 14, 16)


class CorruptFilm(UserError):
    """A film that cannot be read; carries `file` and `reason`."""

    def __init__(self, file: str | Path, reason: str):
        super().__init__(f"{file}: {reason}")
        self.file = str(file)
        self.reason = reason


def decode(path: str | Path, size: int | None) -> np.ndarray:
    """Reads one film file.

    The header is checked before a pixel is decoded. Then, by kind:
      gray, 1-bit: as they are.
      gray + alpha, RGBA, palette with transparency: laid over black, so an opaque alpha channel changes nothing.
      palette, RGB: luma of ITU-R BT.601.
      16-bit: divided by the largest value of the smallest depth of 8, 10, 12, 14 or 16 bits that holds the film's
        maximum; values are scaled and never wrap.
    EXIF orientation is applied. The film is resized to a square with Pillow's bilinear filter (which averages when it
    shrinks); the aspect ratio is not kept.

    Args:
      path: a PNG, JPEG, TIFF or BMP file.
      size: side of the result in pixels; None keeps the film's own height and width.

    Returns:
      (size, size) uint8.

    Raises:
      CorruptFilm: missing, truncated, too large, not an image, or of a kind with no rule above.
    """
    path = Path(path)
    try:
        nbytes = path.stat().st_size
        if nbytes == 0:
            raise CorruptFilm(path, "the file is empty")
        if nbytes > MAX_BYTES:
            raise CorruptFilm(path, f"the file has {nbytes:,} bytes; at most {MAX_BYTES:,} are read")
        with warnings.catch_warnings():
            # Pillow only warns between its limit and twice it; here the limit below decides.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                _check_header(path, image)
                image.load()
                return _to_gray(path, ImageOps.exif_transpose(image), size)
    except UnidentifiedImageError:
        raise CorruptFilm(path, f"not a readable {', '.join(FORMATS)} image") from None
    except Image.DecompressionBombError:
        raise CorruptFilm(path, f"the header promises more than the {MAX_PIXELS:,} pixels allowed") from None
    except OSError as error:
        raise CorruptFilm(path, error.strerror or str(error)) from None
    except (SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error) as error:
        # Pillow's parsers raise all of these on damaged files.
        raise CorruptFilm(path, f"damaged image data ({error})") from None


def from_array(name: str, array: np.ndarray, size: int) -> np.ndarray:
    """Checks and resizes a film that is already in memory.

    Args:
      name: what to call the film in an error.
      array: (h, w) uint8.
      size: side of the result in pixels.

    Returns:
      (size, size) uint8.

    Raises:
      CorruptFilm: another type or rank.
    """
    if array.dtype != np.uint8 or array.ndim != 2:
        raise CorruptFilm(name, f"expected a 2-D uint8 array, got {array.ndim}-D {array.dtype}")
    if array.shape == (size, size):
        return array
    return np.asarray(Image.fromarray(array).resize((size, size), Image.Resampling.BILINEAR))


def _check_header(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise CorruptFilm(path, f"the header promises {width}x{height} pixels; at most {MAX_PIXELS:,} are decoded")
    if min(width, height) < MIN_SIDE:
        raise CorruptFilm(path, f"{width}x{height} pixels; a film has at least {MIN_SIDE} on a side")
    if getattr(image, "n_frames", 1) > 1:
        raise CorruptFilm(path, f"{image.n_frames} frames; a film has one")  # type: ignore[attr-defined]


def _to_gray(path: Path, image: Image.Image, size: int | None) -> np.ndarray:
    if image.mode.startswith("I"):
        return _from_deep(path, image, size)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    elif image.mode in ("RGB", "L") and "transparency" in image.info:
        image = image.convert("RGBA" if image.mode == "RGB" else "LA")
    if image.mode in ("RGBA", "LA"):
        alpha = image.getchannel("A")
        gray = image.convert("RGB" if image.mode == "RGBA" else "L").convert("L")
        image = Image.composite(gray, Image.new("L", gray.size, 0), alpha)
    elif image.mode in ("1", "RGB", "YCbCr"):
        image = image.convert("L")
    elif image.mode != "L":
        raise CorruptFilm(path, f"images of mode {image.mode} have no conversion rule; save it as 8- or 16-bit gray")
    return np.asarray(_fitted(image, size), np.uint8)


def _from_deep(path: Path, image: Image.Image, size: int | None) -> np.ndarray:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65_535:
        raise CorruptFilm(path, f"values from {values.min()} to {values.max()}; 16-bit gray has 0 to 65,535")
    depth = next(bits for bits in BIT_DEPTHS if values.max() < 2**bits)
    scaled = Image.fromarray((values * (255.0 / (2**depth - 1))).astype(np.float32))
    return np.clip(np.rint(np.asarray(_fitted(scaled, size))), 0, 255).astype(np.uint8)


def _fitted(image: Image.Image, size: int | None) -> Image.Image:
    if size is None or image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BILINEAR)
