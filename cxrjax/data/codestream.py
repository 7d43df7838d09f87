"""JPEG streams that are not what their header says: another size, or data that end before the film does."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

_SOI, _EOI, _J2K = b"\xff\xd8", b"\xff\xd9", b"\xff\x4f\xff\x51"
# Frame headers: of every JPEG process (C4, C8 and CC are none), and of JPEG-LS.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_GRAY = 128  # of a block of which nothing is known
_MORE = bytes(range(1, 255)) * 4


def size(data: bytes) -> tuple[int, int] | None:
    """(width, height) by the header of a JPEG, JPEG-LS or JPEG 2000 stream; None where it is none of these."""
    if data[:2] == _SOI:
        at = 2
        while at + 9 <= len(data) and data[at] == 0xFF:
            if data[at + 1] in _FRAMES:
                height, width = struct.unpack(">HH", data[at + 5 : at + 9])
                return width, height
            at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        return None
    at = data[:1024].find(_J2K)
    if at < 0 or len(data) < at + 24:
        return None
    right, bottom, left, top = struct.unpack(">4I", data[at + 8 : at + 24])
    return right - left, bottom - top


def least_bytes(width: int, height: int) -> int:
    """What a JPEG of this size has at least: a bit for each block of 8x8 pixels."""
    return (width // 8) * (height // 8) // 8


def last_rows(height: int) -> int:
    """Rows of the last blocks of a JPEG."""
    return height % 8 or 8


def shrink(image: Image.Image, side: int) -> None:
    """Has a JPEG that is not loaded yet decoded as gray, at the smallest of 1, 1/2, 1/4, 1/8 of its size that holds a
    square of `side` pixels."""
    image.draft("L", (side, side))


def ends_early(data: bytes, last: np.ndarray, side: int = 0) -> bool:
    """Whether the data of a JPEG end before its last row.

    What is missing is decoded as one gray, and so is a gray border. Where the last rows are of it, data are put behind
    those that are there: they change a film that waited for more, and no other.

    Args:
      data: the whole stream.
      last: (rows, w) or (rows, w, c) uint8, decoded of it: its `last_rows`.
      side: what it is decoded by, see `shrink`; 0 for its own size.
    """
    end = data.rfind(_EOI)
    if (last != _GRAY).any() or end < 0:
        return False
    films = []
    for stream in (data, data[:end] + _MORE + data[end:]):
        with Image.open(io.BytesIO(stream), formats=("JPEG",)) as image:
            if side:
                shrink(image, side)
            films.append(np.asarray(image))
    return bool((films[0] != films[1]).any())
