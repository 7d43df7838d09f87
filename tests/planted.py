"""DICOM films of a patient who is not to be found in anything that a command writes or prints."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset

PATIENT = {"PatientName": "Doe^Jane", "PatientID": "MRN0042", "PatientBirthDate": "19601231", "StudyDate": "20200229",
           "AccessionNumber": "ACC777", "ReferringPhysicianName": "Roe^Richard",
           "OtherPatientIDs": "ALIAS9", "InstitutionName": "St. Elsewhere"}  # fmt: skip
UID = "1.2.3.4.555000111"  # the beginning of every identifier
DATES = ("1960-12-31", "2020-02-29")


def write(path: Path, pixels: np.ndarray, patient: int = 0) -> None:
    """A film (h, w) uint8 as DICOM, of a patient by number."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.ComputedRadiographyImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{UID}{222 + patient}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{UID}333", f"{UID}444"
    ds.Modality, ds.SamplesPerPixel, ds.PhotometricInterpretation = "CR", 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.PixelRepresentation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 0, 8, 8, 7
    ds.PixelData = pixels.tobytes()
    for name, value in PATIENT.items():
        setattr(ds, name, value)
    ds.PatientID = f"{PATIENT['PatientID']}-{patient}"
    ds.save_as(path, enforce_file_format=True)


def found(folders: Iterable[Path], said: str = "") -> list[str]:
    """Where something of the patient stands: in a file's name, its bytes, what it has packed, or in what was `said`."""
    words = [*PATIENT.values(), UID, *DATES]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    out = [f"{word} was said" for word in words if word in said]
    for path in files:
        held = str(path.name).encode() + b"\n" + _unpacked(path)
        out += [f"{path}: {word}" for word in words if word.encode() in held]
    return out


def _unpacked(path: Path) -> bytes:
    """A file's bytes, with what is packed in it; records are read by their own library."""
    raw = path.read_bytes()
    if zipfile.is_zipfile(io.BytesIO(raw)):
        with zipfile.ZipFile(path) as archive:
            return b"\n".join([raw, *(archive.read(name) for name in archive.namelist())])
    if path.suffix == ".png":
        return raw + _words(raw)
    if path.suffix == ".html":
        pictures = re.findall(rb"data:image/png;base64,([\w+/=]+)", raw)
        return b"\n".join([raw, *(_words(base64.b64decode(picture)) for picture in pictures)])
    if "array_record" in path.name:
        from array_record.python.array_record_module import ArrayRecordReader

        return b"\n".join([raw, *ArrayRecordReader(str(path)).read_all()])
    return raw


def _words(png: bytes) -> bytes:
    """What a PNG's text chunks say."""
    return repr(Image.open(io.BytesIO(png)).info).encode()
