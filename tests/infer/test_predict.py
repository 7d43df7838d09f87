"""Predictions of files: what is broken stops nothing, the negative of a film is the film, validation films choose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from tiny import SIZE

from cxrjax.errors import UserError
from cxrjax.infer import films as door
from cxrjax.infer import predict
from cxrjax.infer.finished import Run
from cxrjax.metrics import calibration, triage


def stored(path: Path, values: np.ndarray, photometric: str) -> Path:
    """A DICOM film of 12 bits."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.ComputedRadiographyImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    ds.Modality, ds.SamplesPerPixel, ds.PhotometricInterpretation = "CR", 1, photometric
    ds.Rows, ds.Columns = values.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = 2048, 4096, "LINEAR_EXACT"
    ds.PixelData = values.astype(np.uint16).tobytes()
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> list[Path]:
    """A PNG, a text file, a truncated PNG, a 16-bit PNG, a JPEG and twin DICOMs, each of its own size."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 30), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.txt").write_text("no film")
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:500])
    Image.fromarray(rng.integers(0, 4096, (20, 24)).astype(np.uint16)).save(tmp_path / "d.png")
    Image.fromarray(rng.integers(0, 256, (64, 48), np.uint8)).save(tmp_path / "e.jpg")
    values = rng.integers(1, 4096, (32, 28))
    stored(tmp_path / "f.dcm", values, "MONOCHROME2")
    stored(tmp_path / "g.dcm", 4096 - values, "MONOCHROME1")
    return door.find(str(tmp_path))


def test_files_of_any_kind_are_answered_in_order_and_broken_ones_told(tiny_run: Run, mixed: list[Path]) -> None:
    predictor = tiny_run.predictor("judge")
    found = list(predictor.films(mixed, batch=4))
    assert [one.path for one in found] == mixed
    assert [one.path.name for one in found if one.fault] == ["b.txt", "c.png"]
    assert "not a readable" in found[1].fault
    whole = [one for one in found if not one.fault]
    alone = tiny_run.classifier("judge").predict([one.path for one in whole])
    said = np.stack([one.probability for one in whole])
    np.testing.assert_allclose(said, np.stack(list(alone.values()), axis=1), atol=1e-5)
    assert all(list(one.heat) == ["Pneumonia"] for one in whole)  # the most probable class but Normal
    assert [one.shown.shape for one in whole] == [(40, 30), (20, 24), (64, 48), (32, 28), (32, 28)]
    assert [one.by for one in whole] == ["", "", "", "window", "window, inverted"]
    expected = tiny_run.classifier("judge").map(whole[0].path, "Pneumonia")[0]
    np.testing.assert_allclose(whole[0].heat["Pneumonia"], expected, atol=1e-4)
    inverted = whole[4].probability
    np.testing.assert_allclose(inverted, whole[3].probability, atol=1e-6)  # MONOCHROME1, its stored values the negative


def test_the_operating_point_is_that_of_the_validation_films(tiny_run: Run, mixed: list[Path]) -> None:
    predictor = tiny_run.predictor("judge")
    with np.load(tiny_run.workdir / "predictions" / "judge.val.npz") as seen:
        t = calibration.temperature(seen["label"], seen["logits"], "softmax")
        aside = triage.threshold(1 - seen["label"][:, 0], 1 - seen["probability"][:, 0])
    assert predictor.operating.temperature == pytest.approx(t)
    assert predictor.operating.aside == pytest.approx(aside)
    (one,) = predictor.films(mixed[:1], None)
    odds = np.log(one.probability) / t
    np.testing.assert_allclose(one.calibrated, np.exp(odds) / np.exp(odds).sum(), atol=1e-9)
    assert one.called == (predictor.classes[int(one.probability.argmax())],)
    assert one.set_aside == bool(1 - one.probability[0] < aside)
    assert not one.heat
    plain = tiny_run.predictor("classifier").operating
    assert (plain.temperature, plain.aside) == (None, None)
    assert "no validation film chose" in plain.words


def test_which_classifier_is_asked_is_told_where_it_is_not_plain(tiny_run: Run) -> None:
    for ask in (tiny_run.predictor, tiny_run.classifier):
        with pytest.raises(UserError, match=r"has 2 classifiers \(classifier, judge\): name one .*--classifier"):
            ask()
    with pytest.raises(UserError, match="did you mean 'judge'"):
        tiny_run.predictor("judg")
    assert tiny_run.predictor("independent").name == "judge"
    carried = tiny_run.config.copy_and_resolve_references()
    carried.judge.carry = "classifier"  # as a fine-tuning goes on from its head
    assert tiny_run._replace(config=carried).predictor().name == "judge"
    assert tiny_run._replace(config=carried).trained() == ("judge", "judge")


def test_an_answer_that_is_not_finite_is_a_fault_and_findings_are_called_each_alone(tiny_run: Run) -> None:
    judge = tiny_run.classifier("judge")
    point = predict.Operating(None, (0.9, 0.1), None, "")

    class Said(predict.Predictor):
        @staticmethod
        def _own(member, logits):
            return {"logits": logits, "probability": np.array([[0.8, 0.2], [np.nan, 1.0], [0.95, 0.95]])}

    found = list(Said("x", (judge,), point)._said(np.zeros((3, SIZE, SIZE), np.uint8), 3, [], False))
    assert [one.called for one in found] == [("Pneumonia",), (), ("Normal", "Pneumonia")]
    assert "not finite" in found[1].fault


def test_files_are_found_by_name_folder_and_pattern(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b.png", "in/a.dcm", ".hidden"):
        (tmp_path / name).touch()
    assert [p.name for p in door.find(str(tmp_path))] == ["b.png", "a.dcm"]
    assert [p.name for p in door.find(f"{tmp_path}/*.png")] == ["b.png"]
    assert door.find(f"{tmp_path}/b.png") == [tmp_path / "b.png"]
    with pytest.raises(UserError, match=r"names no file; expected a film, a folder"):
        door.find(f"{tmp_path}/*.jpg")
