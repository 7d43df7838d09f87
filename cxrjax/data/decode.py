"""One film in: a file of any common kind becomes a square 8-bit gray array, or a named fault."""

from __future__ import annotations

import contextlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from cxrjax.errors import UserError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
# The largest detectors give about 20 million pixels; a header that promises far more is a bomb or no film.
MAX_PIXELS = 64_000_000
MAX_BYTES = 256 * 1024 * 1024
MIN_SIDE = 16
# A 16-bit file holds values of its detector's own depth, which it does not tell: it is one of these.
BIT_DEPTHS = (8, 10, 12, 14, 16)
_LUMA = np.array([0.114, 0.587, 0.299])  # of blue, green, red: ITU-R BT.601


class CorruptFilm(UserError):
    """A film that cannot be read; carries `file` and `reason`."""

    def __init__(self, file: str | Path, reason: str):
        super().__init__(f"{file}: {reason}")
        self.file = str(file)
        self.reason = reason


def decode(path: str | Path, size: int | None, depth: int = 0) -> np.ndarray:
    """Reads one film file.

    The header is checked before a pixel is decoded. Then, by kind:
      gray, 1-bit: as they are.
      gray + alpha, RGBA, palette with transparency: laid over black, so an opaque alpha channel changes nothing.
      palette, RGB: luma of ITU-R BT.601.
      16-bit of one or more channels: the same, divided by the largest value of `depth` bits, never wrapped.
    EXIF orientation is applied, and a TIFF whose white is zero is inverted. The film is resized to a square with
    Pillow's bilinear filter (which averages when it shrinks); the aspect ratio is not kept.

    Args:
      path: a PNG, JPEG, TIFF or BMP file.
      size: side of the result in pixels; None keeps the film's own height and width.
      depth: bits of what a 16-bit file holds, one number for a data set; 0 for the smallest of 8, 10, 12, 14 and 16
        that holds this film's maximum.

    Returns:
      (size, size) uint8.

    Raises:
      CorruptFilm: missing, truncated, too large, not an image, brighter than `depth`, or of a kind with no rule above.
    """
    with _opened(path) as image:
        if not _is_deep(image):
            image.load()
            return np.asarray(_resized(_to_gray(path, ImageOps.exif_transpose(image)), size), np.uint8)
        values, white = _deep(path, image)
        depth = depth or _bits(values)
        if _bits(values) > depth:
            raise CorruptFilm(path, f"values up to {values.max():,.0f} need more than data.bit_depth, {depth} bits")
        scaled = values * (255.0 / (2**depth - 1))
        gray = Image.fromarray((scaled if white else 255 - scaled).astype(np.float32))
        return np.clip(np.rint(np.asarray(_resized(gray, size))), 0, 255).astype(np.uint8)


def shape(path: str | Path) -> tuple[int, int]:
    """(height, width) of a film as `decode` gives it at its own size; only the header is read.

    Raises:
      CorruptFilm: as `decode`.
    """
    with _opened(path) as image:
        width, height = image.size
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return (width, height) if turned else (height, width)


def own_depth(path: str | Path) -> int:
    """The smallest of `BIT_DEPTHS` that holds a 16-bit film; 0 for a film of 8 bits, of which only the header is read.

    Raises:
      CorruptFilm: as `decode`.
    """
    with _opened(path) as image:
        return _bits(_deep(path, image)[0]) if _is_deep(image) else 0


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """The image with its header checked and no pixel read; what goes wrong inside becomes a fault of this film."""
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
                yield image
    except UnidentifiedImageError:
        raise CorruptFilm(path, f"not a readable {', '.join(FORMATS)} image") from None
    except Image.DecompressionBombError:
        raise CorruptFilm(path, f"the header promises more than the {MAX_PIXELS:,} pixels allowed") from None
    except OSError as error:
        raise CorruptFilm(path, error.strerror or str(error)) from None
    except (SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error, cv2.error) as error:
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


def _is_deep(image: Image.Image) -> bool:
    """Whether the file stores more than 8 bits a channel, which Pillow cuts to 8 where there are several channels."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8 and image.mode != "F"
    return image.mode.startswith("I") or any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))


def _bits(values: np.ndarray) -> int:
    return next(bits for bits in BIT_DEPTHS if values.max() < 2**bits)


def _resized(image: Image.Image, size: int | None) -> Image.Image:
    return (
        image if size is None or image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)
    )


def _to_gray(path: str | Path, image: Image.Image) -> Image.Image:
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    elif image.mode in ("RGB", "L") and "transparency" in image.info:
        image = image.convert("RGBA" if image.mode == "RGB" else "LA")
    if image.mode in ("RGBA", "LA"):
        alpha = image.getchannel("A")
        gray = image.convert("RGB" if image.mode == "RGBA" else "L").convert("L")
        return Image.composite(gray, Image.new("L", gray.size, 0), alpha)
    if image.mode in ("1", "RGB", "YCbCr"):
        return image.convert("L")
    if image.mode != "L":
        raise _no_rule(path, f"images of mode {image.mode}")
    return image


def _deep(path: str | Path, image: Image.Image) -> tuple[np.ndarray, bool]:
    """(h, w) values of a 16-bit file at their full depth, and whether the largest is white."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if image.mode.startswith("I"):
        image.load()
        values = np.asarray(ImageOps.exif_transpose(image)).astype(np.int64)
        if values.min() < 0 or values.max() > 65_535:
            raise CorruptFilm(path, f"values from {values.min()} to {values.max()}; 16-bit gray has 0 to 65,535")
        return values, tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) != 0
    if image.mode not in ("RGB", "RGBA") or tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2:
        raise _no_rule(path, "16-bit images in separate planes or of other colors than RGB")
    image.load()  # OpenCV gives what it has of a truncated file; Pillow tells
    pixels = cv2.imdecode(np.frombuffer(Path(path).read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise CorruptFilm(path, "damaged image data")
    values = pixels[..., :3] @ _LUMA
    if pixels.shape[-1] == 4:
        values = values * (pixels[..., 3] / (2 ** _bits(pixels[..., 3]) - 1))
    gray = Image.fromarray(values.astype(np.float32))
    gray.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    return np.rint(np.asarray(ImageOps.exif_transpose(gray))).astype(np.int64), True


def _no_rule(path: str | Path, what: str) -> CorruptFilm:
    return CorruptFilm(path, f"{what} have no conversion rule; save it as 8- or 16-bit gray")
