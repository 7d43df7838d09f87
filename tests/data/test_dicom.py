"""DICOM files: the film that a viewer shows, however it is stored; what is none is refused, and nobody is named."""

from __future__ import annotations

import builtins

import gdcm
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_voi_lut, apply_windowing
from pydicom.sequence import Sequence

from cxrjax import defaults
from cxrjax.data import decode, dicom, folders, patients, prepare, survey
from cxrjax.data.limits import CorruptFilm
from cxrjax.errors import UserError
from cxrjax.infer import films as door
from cxrjax.report import films as report

RAMP = np.arange(32 * 48, dtype=np.uint16).reshape(32, 48) * 2 + 500  # 12 bits
PRIVATE = {"PatientName": "Doe^Jane", "PatientID": "MRN0042", "PatientBirthDate": "19601231", "StudyDate": "20200229"}


def dataset(stored: np.ndarray, bits: int = 12, **elements) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.ComputedRadiographyImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    ds.Modality, ds.ViewPosition = "CR", "PA"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 * stored.itemsize, bits, bits - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.PixelData = stored.tobytes()
    for name, value in {**PRIVATE, **elements}.items():
        setattr(ds, name, value)
    return ds


def save(path, *args, syntax=None, **elements):
    ds = dataset(*args, **elements)
    if syntax:
        ds.compress(syntax)
    ds.save_as(path, enforce_file_format=True)
    return path


def lut(entries: np.ndarray, first: int, bits: int, vr: str = "OW") -> Sequence:
    item, words = Dataset(), entries.astype("<u2")
    item.add_new("LUTDescriptor", "US", [len(entries) % 2**16, first, bits])
    item.add_new("LUTData", vr, words.tobytes() if vr == "OW" else words.tolist())
    return Sequence([item])


def gray(path) -> np.ndarray:
    return dicom.read(path).gray


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_window_is_that_of_the_standard(tmp_path, function):
    elements = {"WindowCenter": [2000, 99], "WindowWidth": [1500, 1], "VOILUTFunction": function}
    ds = dataset(RAMP, **elements)
    ds.WindowCenter, ds.WindowWidth = 2000, 1500
    expected = apply_windowing(RAMP, ds) / 4095 * 255
    shown = dicom.read(save(tmp_path / "a.dcm", RAMP, **elements))
    np.testing.assert_allclose(shown.gray, expected, atol=0.002)
    assert (shown.by, shown.inverted) == ("window", False)


def test_a_voi_lut_goes_before_a_window_and_after_rescaling(tmp_path):
    table = np.linspace(0, 1023, 1000) ** 2 / 1023
    elements = {"VOILUTSequence": lut(table, 100, 10), "WindowCenter": 1, "WindowWidth": 2}
    ds = dataset(RAMP // 2, **elements)
    expected = apply_voi_lut(RAMP // 2, ds) / 1023 * 255
    path = save(tmp_path / "a.dcm", RAMP, RescaleSlope=0.5, RescaleIntercept=0, **elements)
    np.testing.assert_allclose(gray(path), expected, atol=0.3)  # halves of odd values
    assert dicom.read(path).by == "VOI LUT"


def test_a_long_table_of_8_bits_does_not_wrap(tmp_path):
    path = save(tmp_path / "a.dcm", RAMP, VOILUTSequence=lut(np.arange(4096) // 16, 0, 8, "US"))
    np.testing.assert_allclose(gray(path), RAMP // 16, atol=0.01)


def test_a_modality_lut_and_a_falling_line_turn_the_film_round(tmp_path):
    window = {"WindowCenter": 2048, "WindowWidth": 4096, "VOILUTFunction": "LINEAR_EXACT"}
    plain = gray(save(tmp_path / "a.dcm", RAMP, **window))
    falling = gray(save(tmp_path / "b.dcm", RAMP, RescaleSlope=-1, RescaleIntercept=4096, **window))
    np.testing.assert_allclose(falling, 255 - plain, atol=0.002)
    table = gray(save(tmp_path / "c.dcm", RAMP, ModalityLUTSequence=lut(4096 - np.arange(4096), 0, 16), **window))
    np.testing.assert_allclose(table, falling, atol=0.002)


def test_without_a_window_8_bits_are_as_they_are_and_more_lie_between_percentiles(tmp_path):
    eight = (RAMP // 16).astype(np.uint8)
    shown = dicom.read(save(tmp_path / "a.dcm", eight, 8))
    np.testing.assert_allclose(shown.gray, eight)
    assert shown.by == "range of 8 bits"
    padded = RAMP.copy()
    padded[:8] = 4000  # which would be the brightest fifth
    shown = dicom.read(save(tmp_path / "b.dcm", padded, PixelPaddingValue=4000))
    known = padded[8:]
    low, high = np.percentile(known, (0.5, 99.5))
    np.testing.assert_allclose(shown.gray[8:], np.clip((known - low) / (high - low), 0, 1) * 255, atol=0.5)
    assert shown.by == "percentiles 0.5 to 99.5"


@pytest.mark.parametrize(
    "window", [{}, {"WindowCenter": 2000, "WindowWidth": 511}, {"WindowCenter": 1999.5, "WindowWidth": 1021}]
)
@pytest.mark.parametrize(
    "low_is_white",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ],
)
def test_inverted_values_whose_low_is_white_are_the_same_film(tmp_path, window, low_is_white):
    mirror = {**window, "WindowCenter": 4096 - window["WindowCenter"]} if window else {}
    save(tmp_path / "a.dcm", RAMP, **window)
    save(tmp_path / "b.dcm", 4095 - RAMP, **mirror, **low_is_white)
    for size in (None, 16):
        np.testing.assert_array_equal(*(decode.decode(tmp_path / name, size) for name in ("a.dcm", "b.dcm")))
    save(tmp_path / "c.dcm", RAMP, **window, **low_is_white)
    sums = decode.decode(tmp_path / "a.dcm", None).astype(int) + decode.decode(tmp_path / "c.dcm", None)
    assert np.isin(sums, (255, 254, 256)).all()  # grays round up or down
    np.testing.assert_array_equal(door.read([tmp_path / "a.dcm"], 16), door.read([tmp_path / "b.dcm"], 16))


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_signed_and_unsigned_of_every_depth(tmp_path, bits):
    values = np.linspace(0, 2**bits - 1, 32 * 48).astype(np.uint16).reshape(32, 48)
    full = {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits, "VOILUTFunction": "LINEAR_EXACT"}
    expected = values / 2**bits * 255
    np.testing.assert_allclose(gray(save(tmp_path / "a.dcm", values, bits, **full)), expected, atol=0.002)
    signed = (values.astype(np.int32) - 2 ** (bits - 1)).astype(np.int16)
    centered = {**full, "WindowCenter": 0}
    np.testing.assert_allclose(gray(save(tmp_path / "b.dcm", signed, bits, **centered)), expected, atol=0.002)


@pytest.mark.parametrize("syntax", [pydicom.uid.RLELossless, pydicom.uid.JPEG2000Lossless])
def test_compressed_pixels(tmp_path, syntax):
    plain, packed = save(tmp_path / "a.dcm", RAMP), save(tmp_path / "b.dcm", RAMP, syntax=syntax)
    np.testing.assert_array_equal(gray(packed), gray(plain))
    assert decode.shape(packed) == (32, 48)


@pytest.mark.parametrize("syntax", ["JPEGLosslessProcess14_1", "JPEGLSLossless"])
def test_pixels_compressed_as_detectors_do(tmp_path, syntax):
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(save(tmp_path / "a.dcm", RAMP)))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(tmp_path / "b.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    np.testing.assert_array_equal(gray(tmp_path / "b.dcm"), gray(tmp_path / "a.dcm"))


def test_jpeg_and_deflated_pixels(tmp_path):
    noise = np.kron(np.random.default_rng(0).integers(40, 200, (4, 6), np.uint8), np.ones((8, 8), np.uint8))
    Image.fromarray(noise).save(tmp_path / "a.jpg", quality=95)
    ds = dataset(noise, 8)
    ds.PixelData = pydicom.encaps.encapsulate([(tmp_path / "a.jpg").read_bytes()])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(gray(tmp_path / "a.dcm"), np.asarray(Image.open(tmp_path / "a.jpg")))
    ds = dataset(RAMP)
    ds.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    ds.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(gray(tmp_path / "b.dcm"), gray(save(tmp_path / "c.dcm", RAMP)))
    assert dicom.who(tmp_path / "b.dcm", b"s").patient


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"Modality": "CT"}, "modality CT; films are of CR, DX, RG"),
        ({"ViewPosition": "LL"}, "a lateral view"),
        ({"NumberOfFrames": 3}, "3 frames; a film has one"),
        ({"Rows": 60_000, "Columns": 60_000}, "header promises 60000x60000"),
        ({"Rows": 8}, "at least 16 on a side"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "photometric interpretation RGB"),
        ({"BitsStored": 4}, "4 bits stored in 16"),
        ({"BitsAllocated": 32}, "12 bits stored in 32"),
        ({"PixelData": None}, "no pixel data"),
        ({"Rows": 33}, "damaged DICOM data"),
        ({"WindowCenter": 1, "WindowWidth": 2, "VOILUTFunction": "CUBIC"}, "damaged DICOM data"),
    ],
)
def test_what_is_no_frontal_film_is_refused_and_nobody_is_named(tmp_path, elements, message):
    ds = dataset(RAMP, **elements)
    if elements.get("PixelData", b"") is None:
        del ds.PixelData
    path = tmp_path / "a.dcm"
    ds.save_as(path, enforce_file_format=True)
    with pytest.raises(CorruptFilm, match=message) as fault:
        decode.decode(path, 16)
    assert not any(value in str(fault.value) for value in PRIVATE.values())


def test_folders_hold_dicom_films_of_any_name(tmp_path):
    names = ("a.dcm", "IM0001", "1.2.840.113", "b.DICOM", "DICOMDIR", "notes", "a.nii")
    for name in names:
        save(tmp_path / name, RAMP)
    (tmp_path / "notes").write_text("no film")
    assert [folders.is_film(tmp_path / name) for name in names] == [True] * 4 + [False] * 3


def test_damaged_files_are_films_or_faults_that_name_nobody(tmp_path):
    whole = bytearray(save(tmp_path / "a.dcm", RAMP, WindowCenter=2000, WindowWidth=1500).read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = whole.copy()
        damaged[rng.integers(132, 700)] ^= 1 << rng.integers(8)
        (tmp_path / "b.dcm").write_bytes(damaged[: rng.integers(1, len(whole) + 1)])
        said = ""
        try:
            film = decode.decode(tmp_path / "b.dcm", 16)
        except CorruptFilm as fault:
            said = str(fault)
        assert said or film.shape == (16, 16)
        assert not any(value in said for value in PRIVATE.values())


def test_what_is_needed_is_named(tmp_path, monkeypatch):
    path = save(tmp_path / "a.dcm", RAMP)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pydicom"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        with pytest.raises(UserError, match=r"a\.dcm is a DICOM file, .*pip install 'cxrjax\[dicom\]'"):
            decode.decode(path, 16)
    packed = save(tmp_path / "b.dcm", RAMP, syntax=pydicom.uid.JPEG2000Lossless)
    monkeypatch.setattr(pydicom.pixels.decoders.base.Decoder, "is_available", property(lambda self: False))
    with pytest.raises(UserError, match=r"nothing here decodes 'JPEG 2000.*cxrjax\[dicom\]"):
        decode.decode(packed, 16)


def test_a_table_of_dicom_films_tells_patients_apart_and_names_none_anywhere(tmp_path, capfd):
    rows = ["path,label"]
    for i in range(6):
        name = f"{i}.dcm" if i % 2 else f"1.2.840.{i}"
        noise = np.random.default_rng(i).integers(0, 4096, (32, 32)).astype(np.uint16)
        who = {"PatientID": f"MRN004{i // 2}", "PatientAge": "062Y", "PatientSex": "F", "StudyDate": "20200229"}
        save(tmp_path / name, noise, **who, **({"ViewPosition": "RL"} if i == 5 else {}))
        rows.append(f"{name},{'Mass' if i % 4 < 2 else 'Normal'}")
    (tmp_path / "films.csv").write_text("\n".join(rows))
    cache = tmp_path / "cache"
    data = defaults.data("csv", (), 16, table=str(tmp_path / "films.csv"), cache=str(cache), quarantine_limit=0.5,
                         carve={"val": 0.0, "test": 0.0})  # fmt: skip
    found = prepare(data)
    table = found.table("train")
    assert found.quarantined == 1
    assert "lateral view (ViewPosition RL)" in (found.directory / "quarantine.csv").read_text()
    assert len(set(table["patient"])) == 3
    assert table["patient"][0] == patients.pseudonym("MRN0040", patients.salt(str(cache)))
    assert (table["age"].tolist(), set(table["sex"]), set(table["view"])) == ([62.0] * 5, {"F"}, {"PA"})
    assert "stored values of DICOM films became gray: 5 by percentiles 0.5 to 99.5" in found.warnings
    looked = survey.survey(data)
    assert looked.shown == {"percentiles 0.5 to 99.5": 5}
    page = report.write(tmp_path / "page", looked, "prepare.py --check")
    print(*report.lines(looked), sep="\n")
    places = (*cache.rglob("*"), *page.parent.rglob("*"))
    written = b"".join(path.read_bytes() for path in places if path.is_file())
    out, err = capfd.readouterr()
    for value in (*PRIVATE.values(), "MRN0040", "MRN0041", "Doe"):
        assert value.encode() not in written
        assert value.encode("utf-32-le") not in written  # as numpy stores text
        assert value not in out + err
    assert patients.salt(str(cache)) == patients.salt(str(cache))
    assert patients.salt(str(tmp_path / "other")) != patients.salt(str(cache))
