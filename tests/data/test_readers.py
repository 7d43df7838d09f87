"""CheXpert, RSNA and VinDr-CXR in trees of their real layout: labels, parts, boxes of several readers, and patients."""

from __future__ import annotations

import csv
import json

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset

from cxrjax import defaults
from cxrjax.data import prepare
from cxrjax.data.labels import select
from cxrjax.data.sources import SOURCES
from cxrjax.errors import UserError

ALL_TRAIN = {"val": 0.0, "test": 0.0}


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def film(path, seed=0, side=32, **elements):
    """Noise, as a DICOM file where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)
    if path.suffix not in (".dcm", ".dicom"):
        Image.fromarray(noise).save(path)
        return
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.Rows = ds.Columns = side
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelData = 8, 8, 7, noise.tobytes()
    for name, value in elements.items():
        setattr(ds, name, value)
    ds.save_as(path, enforce_file_format=True)


def source(name, root, **changes):
    return SOURCES[name](defaults.data(name, (), 16, root=str(root), **{"carve": ALL_TRAIN, **changes}))


def by_key(found):
    return {record.key: record for record in found.records()}


FINDINGS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip


def chexpert_row(path, who, **cells):
    return [path, *who, *(cells.get(name.replace(" ", "_"), "") for name in FINDINGS)]


@pytest.fixture
def chexpert(tmp_path):
    root = tmp_path / "CheXpert-v1.0-small"
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS]
    rows = [
        chexpert_row("train/patient00001/study1/view1_frontal.jpg", ("Female", 68, "Frontal", "AP"), No_Finding="1.0",
                     Support_Devices="1.0"),
        chexpert_row("train/patient00002/study1/view1_frontal.jpg", ("Male", 87, "Frontal", "PA"), Edema="-1.0",
                     Pleural_Effusion="1.0", Pneumothorax="0.0"),
        chexpert_row("train/patient00002/study1/view2_lateral.jpg", ("Male", 87, "Lateral", ""), Edema="-1.0"),
        chexpert_row("train/patient00003/study2/view1_frontal.jpg", ("Unknown", 0, "Frontal", "AP")),
    ]  # fmt: skip
    write(root / "train.csv", header, *([f"CheXpert-v1.0-small/{row[0]}", *row[1:]] for row in rows))
    cells = {name.replace(" ", "_"): "0.0" for name in FINDINGS} | {"Edema": "1.0"}
    place = "CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg"
    valid = chexpert_row(place, ("Male", 73, "Frontal", "AP"), **cells)
    write(root / "valid.csv", header, valid)
    for i, row in enumerate([*rows, valid]):
        film(root / row[0].removeprefix("CheXpert-v1.0-small/"), i)
    return root


@pytest.mark.parametrize(
    ("policy", "name", "value"), [("mask", "U-ignore", np.nan), ("zero", "U-zero", 0), ("one", "U-one", 1)]
)
def test_chexpert_by_policy(chexpert, policy, name, value):
    found = source("chexpert", chexpert, uncertain=policy)
    records = by_key(found)
    assert found.label_version == f"CheXpert-v1.0-small-{name}"
    assert found.warnings == ("1 lateral films were left out",)
    ill = records["train/patient00002/study1/view1_frontal.jpg"]
    columns = dict(zip(found.columns, ill.labels.tolist(), strict=True))
    np.testing.assert_equal(columns.pop("Edema"), value)
    assert columns.pop("Effusion") == 1
    assert set(columns.values()) == {0}  # what is not mentioned beside others is absent
    assert (ill.patient, ill.split, ill.age, ill.sex, ill.view) == ("patient00002", "train", 87, "M", "PA")
    normal = records["train/patient00001/study1/view1_frontal.jpg"]  # with a device, and still No Finding
    assert select(normal.labels[None], found.columns, ("Normal", "Support Devices")).tolist() == [[1, 1]]
    assert np.isnan(records["train/patient00003/study2/view1_frontal.jpg"].labels).all()
    assert records["valid/patient64541/study1/view1_frontal.jpg"].split == "test"
    assert "Normal" not in found.classes


def test_chexpert_parts_that_are_there(chexpert):
    found = source("chexpert", chexpert, split="carve", carve={"val": 0.3, "test": 0.3})
    assert found.total == 4
    assert set(found.splits) == {"train", "val", "test"}
    (chexpert / "valid.csv").rename(chexpert / "keep")
    valid = (chexpert / "keep").read_text()
    (chexpert / "train.csv").unlink()
    # The test part: no prefix, and no columns but the labels.
    rows = list(csv.reader(valid.splitlines()))
    for name, part in (("valid.csv", "test"), ("test_labels.csv", "test")):
        path = rows[1][0] if name == "valid.csv" else "test/patient64741/study1/view1_frontal.jpg"
        film(chexpert / path.removeprefix("CheXpert-v1.0-small/"), 9)
        write(chexpert / name, [rows[0][0], *rows[0][5:]], [path, *rows[1][5:]])
        assert set(source("chexpert", chexpert).splits) == {part}
        (chexpert / name).unlink()
    with pytest.raises(UserError, match=r"no train\.csv, valid\.csv or test\.csv"):
        source("chexpert", chexpert)


@pytest.fixture
def rsna(tmp_path):
    root = tmp_path / "rsna"
    names = ("0004cfab", "00313ee0", "00322d4d", "00436515")
    write(
        root / "stage_2_train_labels.csv", ("patientId", "x", "y", "width", "height", "Target"),
        (names[0], "", "", "", "", 0), (names[1], "", "", "", "", 0),
        (names[2], "256.0", "128.0", "512.0", "1024.0", 1), (names[2], "0.0", "0.0", "102.4", "51.2", 1),
        (names[3], "1.0", "1.0", "2.0", "2.0", 1),
    )  # fmt: skip
    write(
        root / "stage_2_detailed_class_info.csv", ("patientId", "class"), (names[0], "Normal"),
        (names[1], "No Lung Opacity / Not Normal"), *[(names[2], "Lung Opacity")] * 2, (names[3], "Lung Opacity"),
    )  # fmt: skip
    for i, name in enumerate(names):
        who = {"Modality": "CR", "PatientID": name, "PatientAge": "062Y", "PatientSex": "M", "ViewPosition": "PA"}
        film(root / f"stage_2_train_images/{name}.dcm", i, **who)
    return root


def test_rsna(rsna, tmp_path):
    found = source("rsna", rsna)
    records = by_key(found)
    classes = ("Normal", "Pneumonia", "Other abnormality")
    label = select(np.stack([r.labels for r in records.values()]), found.columns, classes)
    assert label.argmax(axis=1).tolist() == [0, 2, 1, 1]
    assert (label.sum(axis=1) == 1).all()
    assert records["00322d4d"].boxes == (("Pneumonia", 0.25, 0.125, 0.75, 1.0), ("Pneumonia", 0, 0, 0.1, 0.05))
    assert (records["0004cfab"].age, records["0004cfab"].sex, records["0004cfab"].view) == (62, "M", "PA")
    assert "person may be in two parts" in found.warnings[0]
    mapping = [{"img_id": f"0000001{i // 2}_00{i}.png", "subset_img_id": key} for i, key in enumerate(records)]
    (rsna / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(mapping))
    assert sorted(r.patient for r in source("rsna", rsna).records()) == ["nih00000010"] * 2 + ["nih00000011"] * 2
    (rsna / "stage_2_detailed_class_info.csv").unlink()
    found = source("rsna", rsna)
    assert np.isnan(select(by_key(found)["0004cfab"].labels[None], found.columns, ("Normal",))).all()
    assert found.label_version.endswith("without-classes")


def test_films_of_other_classes_are_left_out_on_demand(rsna, tmp_path):
    data = defaults.data("rsna", ("Normal", "Pneumonia"), 16, root=str(rsna), cache=str(tmp_path), carve=ALL_TRAIN)
    assert prepare(data).splits == {"train": 4}
    data.others = "drop"
    found = prepare(data)
    assert found.splits == {"train": 3}
    assert "1 of 4 films have not exactly one of Normal, Pneumonia and were left out" in found.warnings
    data.classes = ("Mass",)
    with pytest.raises(UserError, match="class 'Mass' is not a label"):
        prepare(data)
    data.classes = ()
    with pytest.raises(UserError, match=r"data\.others = 'drop' asks .*data\.classes, which is empty"):
        prepare(data)


def test_rsna_that_is_not_whole(rsna):
    (rsna / "stage_2_train_images/00436515.dcm").unlink()
    assert source("rsna", rsna).faults["missing"] == ("00436515",)
    assert source("rsna", rsna, present_only=True).total == 3
    write(rsna / "stage_2_train_labels.csv", ("patientId", "x", "y", "width", "height", "Target"), ("a", 1, 1, 1, 1, 2))
    with pytest.raises(UserError, match=r"stage_2_train_labels\.csv: Target is '2': expected one of 0, 1"):
        source("rsna", rsna)


# Film a: two of three readers see an effusion, one a mass; film b: no finding for two, fibrosis for one.
READS = {
    "a": {"R1": {"Pleural effusion"}, "R2": {"Pleural effusion", "Nodule/Mass"}, "R3": {"No finding"}},
    "b": {"R1": {"No finding"}, "R2": {"No finding"}, "R3": {"Pulmonary fibrosis"}},
}
BOXES = [("a", "R1", "Pleural effusion", 8, 4, 16, 32), ("a", "R2", "Pleural effusion", 8, 8, 16, 24),
         ("a", "R2", "Nodule/Mass", 1, 1, 2, 2), ("b", "R3", "Pulmonary fibrosis", 1, 1, 2, 2)]  # fmt: skip
NAMES = ("Nodule/Mass", "Pleural effusion", "Pulmonary fibrosis", "No finding")


@pytest.fixture(params=["physionet", "challenge", "png"])
def vindr(tmp_path, request):
    root, corners = tmp_path / "vindr", ("x_min", "y_min", "x_max", "y_max")
    for i, key in enumerate(READS):
        if request.param == "png":  # half the original's size
            film(root / f"train/{key}.png", i, 16)
        else:
            film(root / f"train/{key}.dicom", i, PatientSex="F", PatientAge="051Y")
    if request.param == "physionet":
        rows = [
            (key, rad, *(int(name in said) for name in NAMES)) for key, r in READS.items() for rad, said in r.items()
        ]
        write(root / "annotations/image_labels_train.csv", ("image_id", "rad_id", *NAMES), *rows)
        nothing = [
            (key, rad, "No finding", "", "", "", "") for key, r in READS.items() for rad in r if "No finding" in r[rad]
        ]
        write(
            root / "annotations/annotations_train.csv", ("image_id", "rad_id", "class_name", *corners), *BOXES, *nothing
        )
        film(root / "test/t.dicom", 7)
        write(root / "annotations/image_labels_test.csv", ("image_id", *NAMES), ("t", 1, 0, 0, 0))
        write(
            root / "annotations/annotations_test.csv",
            ("image_id", "class_name", *corners),
            ("t", NAMES[0], 0, 0, 16, 16),
        )
        return root
    rows = [(key, name, 9, rad, *box) for key, rad, name, *box in BOXES]
    rows += [
        (k, "No finding", 14, rad, "", "", "", "") for k, r in READS.items() for rad in r if "No finding" in r[rad]
    ]
    write(root / "train.csv", ("image_id", "class_name", "class_id", "rad_id", *corners), *rows)
    if request.param == "png":
        write(root / "train_meta.csv", ("image_id", "dim0", "dim1"), ("a", 32, 32), ("b", 32, 32))
    return root


def test_vindr_by_majority_with_the_boxes_of_all_readers(vindr):
    found = source("vindr", vindr)
    records = by_key(found)
    assert found.columns == ("Effusion", "Fibrosis", "Nodule/Mass", "Normal")
    assert found.label_version == "vindr-cxr-1.0.0-majority"
    assert {key: r.labels.tolist() for key, r in records.items() if r.split == "train"} == {
        "train/a": [1, 0, 0, 0], "train/b": [0, 0, 0, 1],
    }  # fmt: skip
    assert records["train/a"].boxes == (("Effusion", 0.25, 0.125, 0.5, 1.0), ("Effusion", 0.25, 0.25, 0.5, 0.75))
    assert records["train/b"].boxes == ()
    if "test/t" in records:
        assert (records["test/t"].split, records["test/t"].boxes) == ("test", (("Nodule/Mass", 0, 0, 0.5, 0.5),))
        assert (records["train/a"].age, records["train/a"].sex) == (51, "F")
    some = by_key(source("vindr", vindr, agree="any"))
    assert some["train/a"].labels.tolist() == [1, 0, 1, 1]
    assert len(some["train/a"].boxes) == 3
    assert by_key(source("vindr", vindr, agree="all"))["train/a"].labels.tolist() == [0, 0, 0, 0]


def test_vindr_is_prepared_with_its_boxes(vindr, tmp_path):
    found = prepare(defaults.data("vindr", (), 16, root=str(vindr), cache=str(tmp_path), carve=ALL_TRAIN))
    assert [box[0] for box in found.boxes("train")[0]] == ["Effusion", "Effusion"]
