"""One film in: a file of any common kind becomes a square 8-bit gray array, or a named fault."""

from __future__ import annotations

import contextlib
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from cxrjax.data import codestream, dicom
from cxrjax.data.limits import MAX_PIXELS, CorruptFilm, check_file, check_header

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
# A 16-bit file holds values of its detector's own depth, which it does not tell: it is one of these.
BIT_DEPTHS = (8, 10, 12, 14, 16)
# Compressed bytes that a PNG may hold beside those of its pixels: a bomb holds thousands of times as much.
SURPLUS = 1 << 16
# Pixels above which films of PNG, JPEG, TIFF and BMP are decoded one at a time, and JPEG at a smaller scale.
LARGE = 1 << 24
_one_large = threading.Lock()
_LUMA = np.array([0.114, 0.587, 0.299])  # of blue, green, red: ITU-R BT.601


class Film(NamedTuple):
    """A film from a file.

    Attributes:
      pixels: (h, w) uint8.
      shape: (height, width) of what the file holds.
      bits: of its values.
      shown: of a DICOM file, what its stored values became gray by, and whether they were inverted; else "".
    """

    pixels: np.ndarray
    shape: tuple[int, ...]
    bits: int
    shown: str = ""


def decode(path: str | Path, size: int | None, depth: int = 0) -> np.ndarray:
    """The pixels of `film`."""
    return film(path, size, depth).pixels


def film(path: str | Path, size: int | None, depth: int = 0) -> Film:
    """Reads one film file.

    The header is checked before a pixel is decoded. Then, by kind:
      gray, 1-bit: as they are.
      gray + alpha, RGBA, palette with transparency: laid over black, so an opaque alpha channel changes nothing.
      palette, RGB: luma of ITU-R BT.601.
      16-bit of one or more channels: the same, divided by the largest value of `depth` bits, never wrapped.
      DICOM: see `data.dicom`.
    EXIF orientation is applied, and a TIFF whose white is zero is inverted. The film is resized to a square with
    Pillow's bilinear filter (which averages when it shrinks); the aspect ratio is not kept. A JPEG of more than `LARGE`
    pixels is decoded at the smallest of 1, 1/2, 1/4 and 1/8 of its size that is twice as large as the result.

    Args:
      path: a PNG, JPEG, TIFF, BMP or DICOM file.
      size: side of the result in pixels; None keeps the film's own height and width.
      depth: bits of what a 16-bit file holds, one number for a data set; 0 for the smallest of 8, 10, 12, 14 and 16
        that holds this film's maximum.

    Returns:
      (size, size) uint8.

    Raises:
      CorruptFilm: missing, truncated, too large, not an image, brighter than `depth`, or of a kind with no rule above.
      UserError: a DICOM file, and what reads it is not installed.
    """
    if dicom.is_dicom(path):
        shown = dicom.read(path)
        how = f"{shown.by}, inverted" if shown.inverted else shown.by
        return Film(_whole(shown.gray, size), shown.gray.shape, shown.bits, how)
    with _opened(path) as image, _turn(image):
        if not _is_deep(image):
            width, height = image.size
            _load(path, image, size)
            gray = _to_gray(path, ImageOps.exif_transpose(image))
            own = (width, height) if _turned(image) else (height, width)
            return Film(np.asarray(_resized(gray, size), np.uint8), own, 8)
        values, white = _deep(path, image)
        depth = depth or _bits(values)
        if _bits(values) > depth:
            raise CorruptFilm(path, f"values up to {values.max():,.0f} need more than data.bit_depth, {depth} bits")
        scaled = values * (255.0 / (2**depth - 1))
        return Film(_whole((scaled if white else 255 - scaled).astype(np.float32), size), values.shape, depth)


def shape(path: str | Path) -> tuple[int, int]:
    """(height, width) of a film as `decode` gives it at its own size; only the header is read.

    Raises:
      CorruptFilm: as `decode`.
    """
    if dicom.is_dicom(path):
        return dicom.shape(path)
    with _opened(path) as image:
        width, height = image.size
        return (width, height) if _turned(image) else (height, width)


def _turned(image: Image.Image) -> bool:
    """Whether the file asks for its sides to be exchanged."""
    exif = Image.Image.getexif(image)  # a PNG's own would decode all pixels in search of it
    return exif.get(ExifTags.Base.Orientation, 1) >= 5


def own_depth(path: str | Path) -> int:
    """The smallest of `BIT_DEPTHS` that holds a 16-bit film; 0 for one of 8 bits, or whose header tells its range.

    Raises:
      CorruptFilm: as `decode`.
    """
    if dicom.is_dicom(path):
        return 0
    with _opened(path) as image:
        return _bits(_deep(path, image)[0]) if _is_deep(image) else 0


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """The image with its header checked and no pixel read; what goes wrong inside becomes a fault of this film."""
    path = Path(path)
    try:
        check_file(path)
        with warnings.catch_warnings():
            # Pillow only warns between its limit and twice it; here the limit below decides.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                check_header(
                    path,
                    *image.size,
                    getattr(image, "n_frames", 1),
                    len(image.getbands()) * (8 if _is_deep(image) else 1),
                )
                yield image
    except UnidentifiedImageError:
        raise CorruptFilm(path, f"not a readable {', '.join(FORMATS)} or DICOM image") from None
    except Image.DecompressionBombError:
        raise CorruptFilm(path, f"the header promises more than the {MAX_PIXELS:,} pixels allowed") from None
    except OSError as error:
        raise CorruptFilm(path, error.strerror or str(error)) from None
    except (SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error, cv2.error) as error:
        # Pillow's parsers raise all of these on damaged files.
        raise CorruptFilm(path, f"damaged image data ({error})") from None


@contextlib.contextmanager
def _turn(image: Image.Image) -> Iterator[None]:
    """Large films wait for one another: threads that decode them together would take gigabytes."""
    with _one_large if image.width * image.height > LARGE else contextlib.nullcontext():
        yield


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


def _load(path: str | Path, image: Image.Image, size: int | None = None) -> None:
    """Decodes the pixels, where the file holds as many as its header says; of a large JPEG no more than a result of
    `size` asks for."""
    if image.format == "JPEG":
        data, promised, height = Path(path).read_bytes(), _by(image), image.height
        if len(data) < codestream.least_bytes(*image.size):
            raise CorruptFilm(path, f"its {len(data):,} bytes are too few for the {promised} of its header")
        side = 2 * size if size and image.width * height > LARGE else 0
        if side:
            codestream.shrink(image, side)
        image.load()
        rows = -(-codestream.last_rows(height) * image.height // height)
        last = image.crop((0, image.height - rows, image.width, image.height))
        if image.mode in ("L", "RGB") and codestream.ends_early(data, np.asarray(last), side):
            raise CorruptFilm(path, f"its data end before the last of the {promised} of its header")
    elif isinstance(image, PngImagePlugin.PngImageFile):
        compressed, read = _idat(Path(path)), image.load_read
        taken = 0

        def counted(count: int) -> bytes:
            nonlocal taken
            data = read(count)
            taken += len(data)
            return data

        image.load_read = counted  # type: ignore[assignment,method-assign]
        image.load()
        if compressed - taken > SURPLUS:
            raise CorruptFilm(path, f"it holds more than the {_by(image)} of its header")
    else:
        image.load()


def _by(image: Image.Image) -> str:
    return f"{image.width}x{image.height} pixels"


def _idat(path: Path) -> int:
    """Compressed bytes of pixels in a PNG file."""
    total, at = 0, 8
    with path.open("rb") as file:
        while len(head := (file.seek(at), file.read(8))[1]) == 8:
            length = int.from_bytes(head[:4], "big")
            total += length if head[4:] == b"IDAT" else 0
            at += 12 + length
    return total


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


def _whole(gray: np.ndarray, size: int | None) -> np.ndarray:
    """(h, w) float32 in [0, 255] -> whole grays of the size."""
    return np.clip(np.rint(np.asarray(_resized(Image.fromarray(gray), size))), 0, 255).astype(np.uint8)


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
        _load(path, image)
        values = np.asarray(ImageOps.exif_transpose(image)).astype(np.int64)
        if values.min() < 0 or values.max() > 65_535:
            raise CorruptFilm(path, f"values from {values.min()} to {values.max()}; 16-bit gray has 0 to 65,535")
        return values, tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) != 0
    if image.mode not in ("RGB", "RGBA") or tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2:
        raise _no_rule(path, "16-bit images in separate planes or of other colors than RGB")
    _load(path, image)  # OpenCV gives what it has of a truncated file; Pillow tells
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
