"""DICOM out: what is read back is what was written, synthetic films say so, and no patient is copied unasked."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset

from cxrjax.errors import UserError
from cxrjax.report import dicom

PRIVATE = {"PatientName": "Doe^Jane", "PatientID": "MRN0042", "PatientBirthDate": "19601231", "StudyDate": "20200229"}
FILM = np.random.default_rng(0).random((40, 30))
MASK = np.zeros((8, 6))
MASK[2:4, 1:3] = 1


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A film of a patient."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.ComputedRadiographyImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    ds.StudyID, ds.AccessionNumber, ds.StudyTime, ds.PatientSex, ds.ReferringPhysicianName = "7", "A1", "", "F", "Roe^R"
    ds.Modality, ds.SamplesPerPixel, ds.PhotometricInterpretation = "CR", 1, "MONOCHROME2"
    ds.Rows, ds.Columns, ds.PixelRepresentation = 20, 15, 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelSpacing = 8, 8, 7, [0.14, 0.14]
    ds.PixelData = bytes(300)
    for name, value in PRIVATE.items():
        setattr(ds, name, value)
    ds.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    return tmp_path / "film.dcm"


def write(folder: Path, path: Path, keep: bool = False) -> list[Dataset]:
    dicom.writer(keep)(
        folder, path, FILM, "treatment progress", masks={"mask": MASK}, treated={"0100": FILM, "0200": 1 - FILM}
    )
    return [pydicom.dcmread(file) for file in sorted(folder.glob("*.dcm"))]


def test_films_and_mask_come_back(tmp_path: Path, source: Path) -> None:
    one, two, film, segments = write(tmp_path / "out", source)
    np.testing.assert_array_equal(film.pixel_array, np.round(FILM * 255))
    np.testing.assert_array_equal(two.pixel_array, np.round((1 - FILM) * 255))
    for ds in (one, two):
        assert ds.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
        assert list(ds.ImageType) == ["DERIVED", "SECONDARY"]
        assert ds.SeriesDescription == "Synthetic: treatment progress"
        assert "not a real patient" in ds.DerivationDescription
    assert one.SeriesInstanceUID == two.SeriesInstanceUID != film.SeriesInstanceUID
    assert "ynthetic" not in film.SeriesDescription
    assert len({ds.StudyInstanceUID for ds in (one, two, film, segments)}) == 1
    read = highdicom.seg.segread(tmp_path / "out" / "segmentation.dcm")
    lies = read.get_pixels_by_source_instance([film.SOPInstanceUID])[0, ..., 0]
    assert lies.shape == FILM.shape
    np.testing.assert_array_equal(lies[12:18, 7:13], 1)  # the mask, five times as large
    assert lies[:8].sum() == lies[23:].sum() == 0
    assert read.get_segment_description(1).segment_label == "mask"


def test_no_patient_is_copied_unless_asked_for(tmp_path: Path, source: Path) -> None:
    own = pydicom.dcmread(source)
    for ds in write(tmp_path / "without", source):
        assert {str(ds[name].value) for name in (*PRIVATE, "PatientSex")} == {""}
        assert ds.StudyInstanceUID != own.StudyInstanceUID
    text = b"".join(file.read_bytes() for file in (tmp_path / "without").iterdir())
    hidden = [*PRIVATE.values(), own.StudyInstanceUID, own.SOPInstanceUID, "Roe^R", "A1\0", "film.dcm"]
    assert not [value for value in hidden if value.encode() in text]
    *treated, segments = write(tmp_path / "with", source, keep=True)
    assert len(treated) == 2  # the film itself is there already
    for ds in (*treated, segments):
        assert {name: str(ds[name].value) for name in PRIVATE} == PRIVATE
        assert ds.StudyInstanceUID == own.StudyInstanceUID
        assert ds.SeriesInstanceUID != own.SeriesInstanceUID
    assert segments.SourceImageSequence[0].ReferencedSOPInstanceUID == own.SOPInstanceUID
    read = highdicom.seg.segread(tmp_path / "with" / "segmentation.dcm")
    assert read.get_pixels_by_source_instance([own.SOPInstanceUID]).shape == (1, 20, 15, 1)
    (measures,) = read.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert measures.PixelSpacing == own.PixelSpacing  # so that it lies as the film does


def test_a_film_that_is_no_dicom_file_has_no_patient_to_keep(tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(b"png")
    film = write(tmp_path / "out", tmp_path / "film.png", keep=True)[2]
    assert not film.PatientID


def test_a_missing_package_is_named_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'cxrjax\[dicom-out\]'"):
        dicom.writer(False)


def test_names_of_any_script_come_back(tmp_path: Path, source: Path) -> None:
    own = pydicom.dcmread(source)
    own.SpecificCharacterSet, own.PatientName = ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"
    own.save_as(source, enforce_file_format=True)
    label = "肺炎 a\\b, aiguë"
    dicom.writer(True)(tmp_path / "out", source, FILM, label, masks={label: MASK}, treated={"0100": FILM})
    treated, segments = (pydicom.dcmread(file) for file in sorted((tmp_path / "out").glob("*.dcm")))
    assert treated.PatientName == segments.PatientName == own.PatientName
    assert treated.SeriesDescription == "Synthetic: 肺炎 a/b, aiguë"
    assert segments.SegmentSequence[0].SegmentLabel == segments.SeriesDescription == "肺炎 a/b, aiguë"
