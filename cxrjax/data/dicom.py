"""A DICOM file as the film that a viewer shows: stored values to gray, by what its header says, and nothing of whom.

Only the elements named here are read, none of which names a patient or a date; an id leaves as a salted hash.
"""

from __future__ import annotations

import functools
import io
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxrjax.data import codestream
from cxrjax.data.limits import CorruptFilm, check_file, check_header
from cxrjax.data.patients import pseudonym, sex, years
from cxrjax.errors import UserError

MODALITIES = ("CR", "DX", "RG")
LATERAL = ("LL", "RL", "LLD", "RLD", "LLO", "RLO", "LAT", "LATERAL")
# Of films of more than 8 bits with neither a VOI LUT nor a window: what is below and above is black and white.
PERCENTILES = (0.5, 99.5)
EXTRA = "pip install 'cxrjax[dicom]'"
_HEADER = (
    "Modality", "ViewPosition", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "RescaleSlope",
    "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "PresentationLUTShape", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData",
)  # fmt: skip
_WHO = ("PatientID", "PatientAge", "PatientSex", "ViewPosition")
_DEFERRED = 1 << 16  # elements of more bytes are read when they are asked for
_HEAD = 1 << 20  # inflated bytes in which a deflated file's header has to end
_DICM = 128  # where the four letters stand


class Shown(NamedTuple):
    """A film as it is shown.

    Attributes:
      gray: (h, w) float32 in [0, 255], white is dense.
      by: what stored values became gray by.
      inverted: whether low values were white.
      bits: stored.
    """

    gray: np.ndarray
    by: str
    inverted: bool
    bits: int


class Who(NamedTuple):
    """What a header tells of patient and film; see `Record`. `patient` is a hash."""

    patient: str
    age: float
    sex: str
    view: str


def is_dicom(path: str | Path) -> bool:
    """Whether a file has the letters DICM where a DICOM file has them."""
    try:
        with open(path, "rb") as file:
            file.seek(_DICM)
            return file.read(4) == b"DICM"
    except OSError:
        return False


def read(path: str | Path) -> Shown:
    """The film in a DICOM file.

    Stored values go through the modality LUT or rescaling; then through the VOI LUT, or the window (the first of
    several), or, where neither is there, the whole range of 8 bits, or `PERCENTILES` of the film's own values but
    padding; and last they are inverted where MONOCHROME1 or the presentation LUT's shape says that low is white.

    Raises:
      CorruptFilm: no frontal film of one frame, of 8 to 16 bits gray: said of the header, before a pixel is decoded;
        damaged, or stored in a way that nothing here decodes.
      UserError: pydicom is not installed.
    """
    path = Path(path)
    with _faults(path):
        ds = _dataset(path, _HEADER)
        _check(path, ds)
        stored = _pixels(path, ds)
        low = min(0, int(stored.min()))
        at = stored.astype(np.int32) - low if low else stored
        levels = np.arange(low, int(stored.max()) + 1)
        light, by = _light(ds, levels, at)
        inverted = ds.PhotometricInterpretation == "MONOCHROME1" or ds.get("PresentationLUTShape", "") == "INVERSE"
        # Rounded, so that a film and its negative round alike to whole grays.
        table = np.round(255 * (1 - light if inverted else light), 3).astype(np.float32)
        return Shown(table[at], by, inverted, _bits(ds))


def shape(path: str | Path) -> tuple[int, int]:
    """(height, width) of the film in a DICOM file, of which only the header is read; raises as `read`."""
    path = Path(path)
    with _faults(path):
        ds = _dataset(path, _HEADER)
        _check(path, ds)
        return int(ds.Rows), int(ds.Columns)


def who(path: str | Path, salt: bytes) -> Who:
    """What a header tells of the patient, whose id becomes a hash with `salt`; raises as `read`."""
    path = Path(path)
    with _faults(path):
        return _who(path, path.stat().st_mtime_ns, salt)


@functools.cache  # a table's headers are read more than once
def _who(path: Path, changed: int, salt: bytes) -> Who:
    with _faults(path):
        ds = _dataset(path, _WHO)
        name = pseudonym(str(ds.get("PatientID", "") or ""), salt)
        try:
            age = years(str(ds.get("PatientAge", "") or ""))
        except ValueError:
            age = math.nan
        view = str(ds.get("ViewPosition", "") or "").strip().upper()
        return Who(name, age, sex(str(ds.get("PatientSex", "") or "")), view)


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """What goes wrong inside becomes a fault of this film, whose words hold none of the file's."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values
            yield
    except (UserError, MemoryError):
        raise
    except OSError as error:
        raise CorruptFilm(path, error.strerror or "cannot be read") from None
    except Exception as error:  # pydicom and its decoders raise nearly everything on damaged files
        raise CorruptFilm(path, f"damaged DICOM data ({type(error).__name__})") from None


def _pydicom(path: Path) -> Any:
    try:
        import pydicom
    except ImportError:
        raise UserError(f"{path} is a DICOM file, for which pydicom is needed: {EXTRA}") from None
    return pydicom


def _dataset(path: Path, names: tuple[str, ...]) -> Any:
    """Some elements of a file; long ones, as the pixels, are not read yet."""
    pydicom = _pydicom(path)
    check_file(path)
    if not is_dicom(path):
        raise CorruptFilm(path, "no DICOM file: the letters DICM are not at byte 128")
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID", "") != pydicom.uid.DeflatedExplicitVRLittleEndian:
        return pydicom.dcmread(path, defer_size=_DEFERRED, specific_tags=list(names))
    start = _DICM + 4 + 12 + int(meta.FileMetaInformationGroupLength)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflater.decompress(path.read_bytes()[start:], _HEAD)
    ds = _parsed(pydicom, data, names, to_pixels=True)
    if "PixelData" not in names:
        return ds
    _check(path, ds, pixels=False)
    most = ds.Rows * ds.Columns * ds.BitsAllocated // 8 + _HEAD
    data += inflater.decompress(inflater.unconsumed_tail, most)
    if inflater.unconsumed_tail:
        raise CorruptFilm(path, f"inflates to more than the {most:,} bytes that its header promises")
    ds = _parsed(pydicom, data, names, to_pixels=False)
    ds.file_meta = meta
    return ds


def _parsed(pydicom: Any, data: bytes, names: tuple[str, ...], to_pixels: bool) -> Any:
    def at_pixels(tag: Any, vr: Any, length: int) -> bool:
        return to_pixels and tag == 0x7FE00010

    return pydicom.filereader.read_dataset(
        io.BytesIO(data), is_implicit_VR=False, is_little_endian=True, stop_when=at_pixels,
        specific_tags=[pydicom.datadict.tag_for_keyword(name) for name in names],
    )  # fmt: skip


def _check(path: Path, ds: Any, pixels: bool = True) -> None:
    """Refuses by the header what is no frontal film."""
    kind, view = str(ds.get("Modality", "") or ""), str(ds.get("ViewPosition", "") or "").strip().upper()
    if kind and kind not in MODALITIES:
        raise CorruptFilm(path, f"modality {kind}; films are of {', '.join(MODALITIES)}")
    if view in LATERAL:
        raise CorruptFilm(path, f"a lateral view (ViewPosition {view}); films are frontal")
    if (pixels and "PixelData" not in ds) or not (ds.get("Rows", 0) and ds.get("Columns", 0)):
        raise CorruptFilm(path, "no pixel data")
    allocated, stored = int(ds.BitsAllocated), _bits(ds)
    check_header(path, int(ds.Columns), int(ds.Rows), int(ds.get("NumberOfFrames", 1) or 1), 4)
    photometric = str(ds.get("PhotometricInterpretation", ""))
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise CorruptFilm(path, f"photometric interpretation {photometric[:16]}; films are MONOCHROME1 or MONOCHROME2")
    if allocated not in (8, 16) or not 8 <= stored <= allocated:
        raise CorruptFilm(path, f"{stored} bits stored in {allocated}; films have 8 to 16 in 8 or 16")


def _pixels(path: Path, ds: Any) -> np.ndarray:
    """(h, w) stored values."""
    from pydicom import encaps, pixels, uid

    syntax = ds.file_meta.TransferSyntaxUID
    try:
        decoder = pixels.get_decoder(syntax)
    except NotImplementedError:
        raise CorruptFilm(path, f"pixels stored as {syntax.name[:64]!r}, which is no still image") from None
    if not decoder.is_available:
        raise UserError(f"{path}: nothing here decodes {syntax.name!r}: {EXTRA}")
    frame = b""
    if syntax.is_encapsulated:
        frame = encaps.get_frame(ds.PixelData, 0, number_of_frames=1)
        found = codestream.size(frame) or (ds.Columns, ds.Rows)
        if found != (ds.Columns, ds.Rows):
            raise CorruptFilm(path, f"{found[0]}x{found[1]} pixels under a header of {ds.Columns}x{ds.Rows}")
        if len(frame) > 1.1 * ds.Columns * ds.Rows * ds.BitsAllocated // 8 + _DEFERRED:  # nothing grows by packing
            raise CorruptFilm(path, f"{len(frame):,} compressed bytes, more than {ds.Columns}x{ds.Rows} pixels take")
    stored = pixels.pixel_array(ds, raw=True)
    if stored.shape != (int(ds.Rows), int(ds.Columns)):
        raise CorruptFilm(path, f"pixels of shape {stored.shape} under a header of {ds.Rows}x{ds.Columns}")
    last = stored[-codestream.last_rows(len(stored)) :]
    if syntax == uid.JPEGBaseline8Bit and codestream.ends_early(frame, last):
        raise CorruptFilm(path, "its compressed pixels end before the last row")
    return stored


def _light(ds: Any, levels: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, str]:
    """How bright each stored value is, in [0, 1], and by what; `at` is each pixel's place in `levels`."""
    values = _modality(ds, levels)
    if ds.get("VOILUTSequence"):
        table, bits = _lut(ds, ds.VOILUTSequence[0], values)
        return np.clip(table / (2**bits - 1), 0, 1), "VOI LUT"
    center, width = (_first(ds.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is not None and width is not None:
        return _window(values, center, width, str(ds.get("VOILUTFunction", "") or "LINEAR").upper()), "window"
    if _bits(ds) == 8:
        ends = _modality(ds, np.array([-128, 127] if ds.get("PixelRepresentation", 0) else [0, 255]))
        return np.clip((values - ends.min()) / max(np.ptp(ends), 1e-9), 0, 1), "range of 8 bits"
    count = np.bincount(at.ravel(), minlength=len(levels))
    if (known := np.where(levels == ds.get("PixelPaddingValue", None), 0, count)).any():
        count = known
    order = np.argsort(values, kind="stable")  # a modality may turn them round
    low = _beyond(values[order], count[order], PERCENTILES[0])
    high = _beyond(values[order][::-1], count[order][::-1], 100 - PERCENTILES[1])
    return np.clip((values - low) / max(high - low, 1e-9), 0, 1), f"percentiles {PERCENTILES[0]} to {PERCENTILES[1]}"


def _beyond(values: np.ndarray, count: np.ndarray, percent: float) -> float:
    """The first value by which so many percent of the pixels are reached."""
    reached = np.cumsum(count)
    return float(values[np.searchsorted(reached, max(1, percent / 100 * reached[-1]))])


def _modality(ds: Any, stored: np.ndarray) -> np.ndarray:
    """Stored values as the detector's: by a table, or a straight line."""
    if ds.get("ModalityLUTSequence"):
        return _lut(ds, ds.ModalityLUTSequence[0], stored)[0]
    slope, intercept = _first(ds.get("RescaleSlope")), _first(ds.get("RescaleIntercept"))
    return stored * (1.0 if slope is None else slope) + (0.0 if intercept is None else intercept)


def _lut(ds: Any, item: Any, values: np.ndarray) -> tuple[np.ndarray, int]:
    """Values through a table, those beyond its ends as its ends, and the bits of what it holds."""
    entries, first, bits = (int(value) for value in item.LUTDescriptor)
    entries = entries % 2**16 or 2**16  # as the standard writes 65,536; a signed reading makes large ones negative
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if ds.file_meta.TransferSyntaxUID.is_little_endian else ">"
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * entries else f"{order}u2")
    table = np.asarray(data, np.float64)[:entries]
    at = np.clip(np.rint(values) - first, 0, entries - 1).astype(np.int64)
    return table[at], bits


def _window(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """PS3.3 C.11.2.1.2 and .3, to [0, 1]."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    elif function != "LINEAR_EXACT":
        raise ValueError
    return np.clip((values - center) / max(width, 1e-9) + 0.5, 0, 1)


def _bits(ds: Any) -> int:
    return int(ds.get("BitsStored", ds.BitsAllocated))


def _first(value: Any) -> float | None:
    """The first of several numbers; None where there is none."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, int | float) else next(iter(value)) if np.ndim(value) else value)
