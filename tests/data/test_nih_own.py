"""One's own films read as NIH's: patients come from the column, however it writes them, or are asked for."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from ml_collections import ConfigDict

from cxrjax.data.sources import SOURCES
from cxrjax.errors import UserError


def source(root, **options):
    return SOURCES["nih"](ConfigDict({"name": "nih", "root": str(root), "seed": 0, **options}))


def own_films(root, count=24, patient=lambda i: f"P{i // 2}", header="Patient ID"):
    (root / "images").mkdir(parents=True)
    names = [f"scan_{i:04d}.png" for i in range(count)]
    for name in names:
        (root / "images" / name).touch()
    with (root / "Data_Entry_2017.csv").open("w", newline="") as file:
        rows = [(name, "Mass" if i % 2 else "No Finding", patient(i)) for i, name in enumerate(names)]
        csv.writer(file).writerows([("Image Index", "Finding Labels", header), *rows])
    return root


@pytest.mark.parametrize("forms", [("P{}", "P{}"), ("{}", "{}.0"), ("{:03d}", " {}")])
def test_patients_of_own_films_are_those_of_the_column(tmp_path, forms):
    root = own_films(tmp_path / "own", patient=lambda i: forms[i % 2].format(i // 2))
    found = source(root, split="carved", carve={"val": 0.2, "test": 0.2})
    patients: dict[str, set[str]] = {}
    for record in found.records():
        patients.setdefault(record.split, set()).add(record.patient)
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 12
    assert len(patients) == 3


def test_films_whose_patients_nothing_tells(tmp_path):
    root = own_films(tmp_path / "a", header="Name")
    with pytest.raises(
        UserError, match=r"nothing tells the patient of scan_0000\.png.*column 'Patient ID' in .*2017\.csv"
    ):
        source(root, split="none")
    found = source(
        own_films(tmp_path / "b", patient=lambda i: "7" if i < 2 else ""), split="carved", carve={"val": 0.5}
    )
    assert sorted(r.patient for r in found.records()) == [""] * 22 + ["00000007"] * 2
    assert found.splits == {"train": 12, "val": 12}  # each of unknown patient on its own


@pytest.mark.parametrize("names", [("Patient Age", "Patient Gender", "View Position"), ("Age", "Sex", "View")])
def test_age_sex_and_view_are_those_of_the_table(tmp_path, names):
    root = own_films(tmp_path / "a")
    path = next(root.rglob("*.csv"))
    header, *rows = path.read_text().splitlines()
    said = ["058Y,M,PA", "006M,F,AP", "412,,"]  # NIH's table has ages that nobody reaches
    lines = [f"{row},{said[i % 3]}" for i, row in enumerate(rows)]
    path.write_text("\n".join([f"{header},{','.join(names)}", *lines]))
    records = sorted(source(root, split="none").records(), key=lambda record: record.key)
    np.testing.assert_array_equal([record.age for record in records[:3]], [58, 0.5, np.nan])
    assert [(record.sex, record.view) for record in records[:3]] == [("M", "PA"), ("F", "AP"), ("", "")]
