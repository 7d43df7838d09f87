"""What a file of a film may be at most and at least, and the fault of one that is not."""

from __future__ import annotations

from pathlib import Path

from cxrjax.errors import UserError

# The largest detectors give about 20 million pixels; a header that promises far more is a bomb or no film.
MAX_PIXELS = 64_000_000
# Of a file, and of the pixels that one is decoded to.
MAX_BYTES = 256 * 1024 * 1024
MIN_SIDE = 16


class CorruptFilm(UserError):
    """A film that cannot be read; carries `file` and `reason`."""

    def __init__(self, file: str | Path, reason: str):
        super().__init__(f"{file}: {reason}")
        self.file = str(file)
        self.reason = reason


def check_file(path: Path) -> None:
    """Raises CorruptFilm where a file is empty or too large to be a film, and OSError where it is none."""
    nbytes = path.stat().st_size
    if nbytes == 0:
        raise CorruptFilm(path, "the file is empty")
    if nbytes > MAX_BYTES:
        raise CorruptFilm(path, f"the file has {nbytes:,} bytes; at most {MAX_BYTES:,} are read")


def check_header(path: Path, width: int, height: int, frames: int, pixel: int) -> None:
    """Checks what a header promises, before a pixel is decoded.

    Args:
      path: the file, for errors.
      width: pixels.
      height: pixels.
      frames: images in the file.
      pixel: bytes that a pixel is decoded to.

    Raises:
      CorruptFilm: too large, too small, or several images.
    """
    if width * height > MAX_PIXELS:
        raise CorruptFilm(path, f"the header promises {width}x{height} pixels; at most {MAX_PIXELS:,} are decoded")
    if width * height * pixel > MAX_BYTES:
        promised = f"{width}x{height} pixels of {pixel} bytes"
        raise CorruptFilm(path, f"the header promises {promised}; at most {MAX_BYTES:,} bytes are decoded")
    if min(width, height) < MIN_SIDE:
        raise CorruptFilm(path, f"{width}x{height} pixels; a film has at least {MIN_SIDE} on a side")
    if frames > 1:
        raise CorruptFilm(path, f"{frames} frames; a film has one")
