"""DICOM out: films as Secondary Capture, and masks and maps as Segmentation that a viewer lays over them.

Nothing of the patient or the study is copied from a DICOM input, and every UID is new, unless it is asked for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cxrjax import __version__
from cxrjax.errors import UserError
from cxrjax.report.draw.png import NOTICE

EXTRA = "pip install 'cxrjax[dicom-out]'"
MAKER = "cxrjax"
HALF = 0.5  # of a mask's or map's range, from which a pixel is of the segment
# What highdicom names an object's place by, and the elements that say it.
_PLACE = {
    "patient_id": "PatientID", "patient_name": "PatientName", "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex", "accession_number": "AccessionNumber", "study_id": "StudyID",
    "study_date": "StudyDate", "study_time": "StudyTime", "study_instance_uid": "StudyInstanceUID",
    "referring_physician_name": "ReferringPhysicianName",
}  # fmt: skip
_REFERRED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")  # what a reference is made of
UNICODE = "ISO_IR 192"  # classes, and patients that are kept, are called in any script
FIRST = 901  # number of a film's first series, beyond those of the study that it may stand in


class Study(NamedTuple):
    """Where the objects of one film belong.

    Attributes:
      place: patient and study, by highdicom's names.
      source: the header of the film's own DICOM file, where the objects stand beside it; else None.
    """

    place: dict[str, Any]
    source: Any = None


def check() -> None:
    """Raises UserError where highdicom is not installed."""
    if importlib.util.find_spec("highdicom") is None:
        raise UserError(f"DICOM files are written by highdicom, which is not installed: {EXTRA}")


def writer(keep_patient: bool) -> Callable[..., None]:
    """`write_film` with or without the patient; raises as `check`."""
    check()
    return partial(write_film, keep_patient=keep_patient)


def write_film(
    folder: Path, path: Path, film: np.ndarray, description: str, *, masks: dict[str, np.ndarray] | None = None,
    treated: dict[str, np.ndarray] | None = None, keep_patient: bool = False,
) -> None:  # fmt: skip
    """The objects of one film: itself, unless they stand beside its own file; films made of it; what lies over it.

    Args:
      folder: made if absent.
      path: the film's file.
      film: (h, w) float in [0, 1].
      description: of the series.
      masks, treated: see `write_segmentation` and `write_captures`.
      keep_patient: whether patient and study of a DICOM file are copied.
    """
    study = study_of(path, keep_patient)
    over = study.source
    if over is None:
        (over,) = write_captures(folder, {"film": film}, study, "film as shown", FIRST, synthetic=False)
    if treated:
        write_captures(folder, treated, study, description, FIRST + 1)
    if masks:
        write_segmentation(folder / "segmentation.dcm", masks, over, description, FIRST + 2)


def study_of(path: Path | None = None, keep_patient: bool = False) -> Study:
    """A study of its own, without a patient; with `keep_patient` that of the film's file, where it is a DICOM file."""
    import pydicom
    from highdicom import UID

    alone = {"study_instance_uid": UID()}
    if path is None or not keep_patient or not pydicom.misc.is_dicom(path):
        return Study(alone)
    source = pydicom.dcmread(path, stop_before_pixels=True)
    source.decode()
    source.SpecificCharacterSet = UNICODE  # highdicom would write in the file's own, and refuses several at once
    place = {name: source[key].value for name, key in _PLACE.items() if source.get(key)}
    for key in _PLACE.values():  # which may be empty, but not absent, where another object is referred to
        if key not in source and key not in _REFERRED:
            setattr(source, key, "")
    # A projection has no slices, but highdicom does not read back what it writes of a spacing without a thickness.
    if "PixelSpacing" in source and "SliceThickness" not in source:
        source.SliceThickness = 1
    return Study({**alone, **place}, source if all(key in source for key in _REFERRED) else None)


def write_captures(
    folder: Path, films: dict[str, np.ndarray], study: Study, description: str, number: int, synthetic: bool = True
) -> list[Any]:
    """Films as one series of Secondary Capture, a file each.

    Args:
      folder: made if absent.
      films: by the file's name, (h, w) float in [0, 1], the patient's left at their right.
      study: theirs.
      description: of the series; a synthetic one's says so.
      number: of the series.
      synthetic: whether a model generated them.

    Returns:
      The datasets.
    """
    import highdicom

    folder.mkdir(parents=True, exist_ok=True)
    series, words, out = highdicom.UID(), f"Synthetic: {description}" if synthetic else description, []
    for i, (name, film) in enumerate(films.items()):
        gray = np.round(np.clip(film, 0, 1) * 255).astype(np.uint8)
        ds = highdicom.sc.SCImage(
            gray, "MONOCHROME2", 8, "PATIENT", series_instance_uid=series, series_number=number,
            sop_instance_uid=highdicom.UID(), instance_number=i + 1, manufacturer=MAKER,
            patient_orientation=("L", "F"), series_description=_long_string(words), manufacturer_model_name=MAKER,
            software_versions=__version__, **study.place,
        )  # fmt: skip
        ds.SpecificCharacterSet = UNICODE
        ds.ImageType = ["DERIVED", "SECONDARY"]
        ds.ConversionType = "SYN" if synthetic else "WSD"
        ds.DerivationDescription = NOTICE if synthetic else "Shown as a network was given it; not for diagnosis"
        ds.BurnedInAnnotation = "NO"
        ds.save_as(folder / f"{name}.dcm", enforce_file_format=True)
        out.append(ds)
    return out


def write_segmentation(path: Path, masks: dict[str, np.ndarray], over: Any, description: str, number: int) -> Any:
    """Masks as one Segmentation, a segment each, from half of their range up.

    Args:
      path: of the file; its folder is made.
      masks: by the segment's label, (h, w) float in [0, 1] of any size.
      over: the dataset of the image that they lie over; patient and study are its.
      description: of the series.
      number: of the series.

    Returns:
      The dataset.
    """
    import highdicom
    from pydicom.sr.codedict import codes

    method = highdicom.AlgorithmIdentificationSequence(
        MAKER, codes.DCM.ArtificialIntelligence, __version__, source="cxrjax"
    )
    what = codes.SCT.MorphologicallyAbnormalStructure
    segments = [
        highdicom.seg.SegmentDescription(
            i + 1, _long_string(label), what, what,
            highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC, method,
        )
        for i, label in enumerate(masks)
    ]  # fmt: skip
    size = (int(over.Columns), int(over.Rows))
    large = [np.asarray(Image.fromarray(np.asarray(m, np.float32)).resize(size)) >= HALF for m in masks.values()]
    ds = highdicom.seg.Segmentation(
        [over], np.stack(large, axis=-1)[None].astype(np.uint8), "BINARY", segments, highdicom.UID(), number,
        highdicom.UID(), 1, MAKER, MAKER, __version__, "0", omit_empty_frames=False,
        series_description=_long_string(description), content_label="NETWORK",
        content_description="By a network; not for diagnosis",
    )  # fmt: skip
    ds.SpecificCharacterSet = UNICODE
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return ds


def _long_string(text: str) -> str:
    """A text as DICOM's short lines take it: 64 characters, and no backslash, which would part two values."""
    return text.replace("\\", "/")[:64]
