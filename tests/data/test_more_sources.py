"""Four classes from folders, three from a CSV: patients known, sides kept apart, mistakes told."""

from __future__ import annotations

import csv
import os
import unicodedata

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from cxrjax.data import prepare
from cxrjax.data.labels import select
from cxrjax.data.sources import SOURCES
from cxrjax.errors import UserError

CLASSES = ("COVID-19", "Normal", "Pneumonia", "Tuberculosis")
TREE = {
    "train/COVID19": ["coh_covid-19-pneumonia-24-day7.jpg", "coh_covid-19-pneumonia-24-day12.jpg", "mlw_1.jpg"],
    "train/NORMAL": ["IM-0631-0001.jpeg", "NORMAL2-IM-0012-0001.jpeg", "._IM-0631-0001.jpeg"],
    "train/PNEUMONIA": ["person1_bacteria_1.jpeg", "person1_virus_6.jpeg", "person2_bacteria_3.jpeg"],
    "train/TURBERCULOSIS": ["tuberculosis-1.jpg", "tuberculosis-2.jpg"],
    "test/COVID19": ["mlw_2.jpg"],
    "test/NORMAL": ["IM-0700-0001.jpeg"],
    "test/PNEUMONIA": ["person2_virus_9.jpeg", "person3_virus_9.jpeg"],
    "test/TUBERCULOSIS": ["Tuberculosis-3.jpg"],
}


def touch(root, folder, *names):
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / folder / name).write_text("film")


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "archive"
    for folder, names in TREE.items():
        touch(root, folder, *names)
    return root


def source(root, name="kaggle4", **options):
    base = {"name": name, "root": str(root), "cache": str(root / "cache"), "size": 16, "seed": 0, "carve": {"val": 0.2}}
    return SOURCES[name](ConfigDict({**base, **options}))


def test_four_classes_exclude_each_other_in_either_spelling(tree):
    found = source(tree)
    records = list(found.records())
    assert len(records) == found.total == 15  # without the hidden file
    labels = select(np.stack([r.labels for r in records]), found.columns, CLASSES)
    np.testing.assert_array_equal(labels.sum(axis=1), 1)
    assert labels.sum(axis=0).tolist() == [4, 3, 5, 3]
    assert {r.split for r in records if r.key.startswith("test/")} == {"test"}
    assert {r.split for r in records if r.key.startswith("train/")} == {"train", "val"}
    assert any("confounded" in warning for warning in found.warnings)


def test_patients_by_name(tree):
    patient = {r.key.split("/")[-1]: r.patient for r in source(tree).records()}
    assert patient["coh_covid-19-pneumonia-24-day7.jpg"] == patient["coh_covid-19-pneumonia-24-day12.jpg"] != ""
    assert patient["person1_bacteria_1.jpeg"] == patient["person1_virus_6.jpeg"] == "person1"
    assert patient["person2_virus_9.jpeg"] == "test-person2"  # another germ on the other side: another child
    assert patient["mlw_1.jpg"] == patient["tuberculosis-1.jpg"] == ""


def test_patient_on_both_sides_stops_or_is_dropped_from_train(tree):
    touch(tree, "test/NORMAL", "IM-0631-0001-0002.jpeg")
    with pytest.raises(UserError, match=r"both 'train' and 'test': IM-0631;.*data\.overlap='drop'"):
        source(tree)
    found = source(tree, overlap="drop")
    assert any("1 patients are on both sides of the archive: 1 training films" in w for w in found.warnings)
    keys = {r.key for r in found.records()}
    assert "train/NORMAL/IM-0631-0001.jpeg" not in keys
    assert "test/NORMAL/IM-0631-0001-0002.jpeg" in keys
    pooled = {r.key.split("/")[-1]: r.split for r in source(tree, split="random_8_2").records()}
    assert pooled["IM-0631-0001.jpeg"] == pooled["IM-0631-0001-0002.jpeg"]


def test_patients_of_a_csv_are_joined_with_names(tree):
    rows = [
        ("train/COVID19/mlw_1.jpg", "ann"),
        ("train/TURBERCULOSIS/tuberculosis-1.jpg", "ann"),
        ("train/PNEUMONIA/person1_virus_6.jpeg", "joe"),
        ("train/PNEUMONIA/person2_bacteria_3.jpeg", "joe"),
    ]
    with (tree / "MANIFEST.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "patient"), *rows])
    patient = {r.key: r.patient for r in source(tree).records()}
    assert patient[rows[0][0]] == patient[rows[1][0]] != ""
    assert len({patient[f"train/PNEUMONIA/{name}"] for name in TREE["train/PNEUMONIA"]}) == 1
    with pytest.raises(UserError, match=r"data\.patients_csv .* does not exist"):
        source(tree, patients_csv=str(tree / "patients.csv"))


def patients_csv(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "patient"), *rows])
    return path


@pytest.mark.parametrize(
    "written",
    [
        lambda path: path.replace("/", "\\"),
        lambda path: f" {path} ",
        lambda path: f"./test/../{path}",
        lambda path: f"archive/{path}",
        lambda path: path.upper(),
        lambda path: os.path.splitext(path)[0] + ".png",
        lambda path: unicodedata.normalize("NFD", path),
    ],
    ids=["backslashes", "blanks", "dots", "from above", "case", "suffix", "NFD"],
)
def test_a_csv_of_patients_is_matched_however_it_writes_a_path(tree, written):
    touch(tree, "train/COVID19", unicodedata.normalize("NFC", "caf\u00e9.jpg"))
    films = [f"{folder}/{name}" for folder, names in TREE.items() for name in names if not name.startswith(".")]
    films.append("train/COVID19/caf\u00e9.jpg")
    patients_csv(tree / "MANIFEST.csv", [(written(path), f"P{i}") for i, path in enumerate(films)])
    found = source(tree, overlap="drop")
    assert "MANIFEST.csv: 16 of its 16 rows are of films here, 16 of 16 films" in found.warnings
    patient = {record.key: record.patient for record in found.records()}
    assert {patient[path] for path in films} >= {f"csv P{i}" for i in (0, 1, 2, 5, 7, 8, 9, 10, 12, 13, 14, 15)}
    # One patient on both sides, told by the CSV alone.
    shared = [(written(path), path.split("/")[1][:2]) for path in films]
    patients_csv(tree / "MANIFEST.csv", shared)
    with pytest.raises(UserError, match="both 'train' and 'test'"):
        source(tree)
    with pytest.raises(UserError, match=r"no training film of Normal and COVID-19 and Pneumonia and Tuberculosis is"):
        source(tree, overlap="drop")


def test_patients_of_films_that_are_links(tree, tmp_path):
    for folder in TREE:
        (tmp_path / "links" / folder).mkdir(parents=True)
        for name in TREE[folder]:
            (tmp_path / "links" / folder / name).symlink_to(tree / folder / name)
    rows = [(f"{tree}/test/COVID19/mlw_2.jpg", "12"), ("links/test/NORMAL/IM-0700-0001.jpeg", "012.0")]
    path = patients_csv(tmp_path / "patients.csv", rows)
    patient = {r.key: r.patient for r in source(tmp_path / "links", patients_csv=str(path)).records()}
    assert patient["test/COVID19/mlw_2.jpg"] == patient["test/NORMAL/IM-0700-0001.jpeg"] != ""


def test_a_csv_of_patients_that_fits_badly_or_says_two_things_is_refused(tree, tmp_path):
    films = [f"{folder}/{name}" for folder, names in TREE.items() for name in names if not name.startswith(".")]
    rows = [(path, f"P{i}") for i, path in enumerate(films)]
    bad = [(f"elsewhere/{path}" if i > 5 else path, who) for i, (path, who) in enumerate(rows)]
    patients_csv(tree / "MANIFEST.csv", bad)
    with pytest.raises(UserError, match=r"6 of its 15 rows are of films here, 6 of 15 films; of none are 'elsewhere/"):
        source(tree)
    (tree / "MANIFEST.csv").rename(tmp_path / "MANIFEST.csv")  # above the root it may be of other sets
    assert any("6 of its 15 rows" in warning for warning in source(tree).warnings)
    with pytest.raises(UserError, match=r"patients\.csv is to tell the patients and fits the films badly"):
        source(tree, patients_csv=str(patients_csv(tmp_path / "patients.csv", bad[6:])))
    with pytest.raises(UserError, match=r"0 of its 0 rows"):
        source(tree, patients_csv=str(patients_csv(tmp_path / "patients.csv", [])))
    patients_csv(tmp_path / "MANIFEST.csv", [*rows, (films[0].upper(), "P0"), (films[0], "P0")])
    source(tree)
    patients_csv(tmp_path / "MANIFEST.csv", [*rows, (f"./{films[0]}", "another")])
    with pytest.raises(UserError, match=r"MANIFEST\.csv lists .*day7\.jpg twice and differently"):
        source(tree)


def test_a_row_is_of_the_film_that_it_names_before_one_that_is_like_it(tree):
    touch(tree, "train/COVID19", "x.jpg", "x.png")
    patients_csv(tree / "MANIFEST.csv", [("train/COVID19/x.jpg", "ann"), ("train/COVID19/x.png", "bob")])
    patient = {r.key: r.patient for r in source(tree).records()}
    assert [patient[f"train/COVID19/x.{suffix}"] for suffix in ("jpg", "png")] == ["csv ann", "csv bob"]


def test_random_split_keeps_shares_and_patients(tmp_path):
    for folder, kind in [("COVID19", "c"), ("NORMAL", "n"), ("TUBERCULOSIS", "t")]:
        touch(tmp_path, f"train/{folder}", *(f"{kind}{i}.jpg" for i in range(40)))
    touch(tmp_path, "train/PNEUMONIA", *(f"person{i // 2}_virus_{i}.jpeg" for i in range(80)))
    found = source(tmp_path, split="random_8_2")
    assert found.splits == {"train": 128, "val": 32, "test": 40}
    records = list(found.records())
    for name in found.splits:
        labels = select(np.stack([r.labels for r in records if r.split == name]), found.columns, CLASSES)
        np.testing.assert_allclose(labels.mean(axis=0), [0.2, 0.2, 0.4, 0.2], atol=0.05)
    with pytest.raises(UserError, match="has no folder test/"):
        source(tmp_path)


def test_class_folders_unknown_or_empty_are_told(tree):
    touch(tree, "train/TUBERCULOSES", "a.jpg")
    with pytest.raises(UserError, match=r"TUBERCULOSES' is no class.*did you mean 'TUBERCULOSIS'"):
        source(tree)
    (tree / "train/TUBERCULOSES/a.jpg").unlink()
    (tree / "train/TUBERCULOSES").rmdir()
    (tree / "test/COVID19/mlw_2.jpg").unlink()
    with pytest.raises(UserError, match=r"test/COVID19' holds no film"):
        source(tree)


def test_kermany_skips_hidden_files(tree):
    touch(tree / "k", "train/NORMAL", "._IM-0001-0001.jpeg")
    touch(tree / "k", "train/PNEUMONIA", "person1_virus_1.jpeg")
    with pytest.raises(UserError, match="holds no"):
        source(tree / "k", "kermany", carve={"val": 0.2, "test": 0.2})


LISTED = [("a/0.png", "normal", "ann"), ("a/1.png", "No Finding", "ann"), ("a/2.png", "PNEUMONIA", "bob"),
          ("b/3.png", "covid19", "eve"), ("b/4.png", "COVID-19", "")]  # fmt: skip


def manifest(tmp_path, rows=LISTED, header=("path", "label", "patient")):
    for path, *_ in LISTED:
        touch(tmp_path, path.split("/")[0], path.split("/")[1])
    with (tmp_path / "films.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return tmp_path


def test_three_classes_from_a_csv(tmp_path):
    found = source(manifest(tmp_path), "covid3", manifest="films.csv")
    records = {r.key: r for r in found.records()}
    labels = np.stack([records[path].labels for path, *_ in LISTED])
    assert select(labels, found.columns, ("Normal", "Pneumonia", "COVID-19")).argmax(1).tolist() == [0, 0, 1, 2, 2]
    assert records["a/0.png"].split == records["a/1.png"].split
    assert records["b/4.png"].patient == ""
    (warning,) = found.warnings
    assert warning.startswith("films of COVID-19 lie in folders of their own")
    given = [(*row, split) for row, split in zip(LISTED, ("val", "validation", "train", "test", "Test"), strict=True)]
    rows = [*given, given[0]]
    again = source(manifest(tmp_path, rows, ("path", "label", "patient", "split")), "covid3", manifest="films.csv")
    assert again.splits == {"train": 1, "val": 2, "test": 2}
    assert "films.csv lists 1 films a second time; each counts once" in again.warnings
    assert again.fingerprint != found.fingerprint


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([("a/0.png", "pnuemonia", "x")], ("path", "label", "patient"), r"of a/0\.png is 'pnuemonia'.*'pneumonia'"),
        ([("a/9.png", "normal", "x")], ("path", "label", "patient"), r"a/9\.png, which does not exist"),
        ([("a/0.png", "normal")], ("path", "label"), "has no column 'patient'"),
        ([("a/0.png", "normal", "x", "tset")], ("path", "label", "patient", "split"), "is 'tset'.*'test'"),
        ([LISTED[0], ("a/0.png", "covid", "ann")], ("path", "label", "patient"), "twice and differently"),
        ([LISTED[0], ("./a/0.png", "normal", "bob")], ("path", "label", "patient"), r"a/0\.png twice and differently"),
        ([("a/0.png", "normal", "x", "train"), ("b\\..\\a\\0.png", "normal", "x", "test")],
         ("path", "label", "patient", "split"), r"a/0\.png twice and differently"),
        ([("a/link.png", "normal", "x"), ("a/0.png", "normal", "y")], ("path", "label", "patient"), "twice and differ"),
        ([("a/0.jpg", "normal", "x")], ("path", "label", "patient"), r"a/0\.jpg, which does .*'0\.png' is.* suffix"),
        ([("A/0.png", "normal", "x")], ("path", "label", "patient"), r"A/0\.png, which does not .*'a' is.* case"),
        ([("a/lost.png", "normal", "x")], ("path", "label", "patient"), r"lost\.png, which .*a link to 'gone\.png'"),
        ([], ("path", "label", "patient"), "lists no film"),
    ],
)  # fmt: skip
def test_mistakes_of_the_csv_are_told(tmp_path, rows, header, message):
    root = manifest(tmp_path, rows, header)
    (root / "a/link.png").symlink_to("0.png")
    (root / "a/lost.png").symlink_to("gone.png")
    with pytest.raises(UserError, match=message):
        source(root, "covid3", manifest="films.csv")


def test_one_film_and_one_patient_however_they_are_written(tmp_path):
    rows = [("a/0.png", "normal", "12"), ("./a/0.png", "Normal", "12.0"), ("a\\1.png", "normal", "012"),
            ("a/2.png", "pneumonia", "nan")]  # fmt: skip
    found = source(manifest(tmp_path, rows), "covid3", manifest="films.csv")
    assert "films.csv lists 1 films a second time; each counts once" in found.warnings
    assert {r.key: r.patient for r in found.records()} == {"a/0.png": "12", "a/1.png": "12", "a/2.png": ""}


def test_open_quote_of_the_manifest_is_told(tmp_path):
    root = manifest(tmp_path)
    text = (root / "films.csv").read_text().replace("ann", '"ann', 1)
    (root / "films.csv").write_text(text)
    with pytest.raises(UserError, match=r"films\.csv, line 2: .*quote"):
        source(root, "covid3", manifest="films.csv")


def test_split_column_with_a_patient_on_two_sides(tmp_path):
    rows = [(*row, split) for row, split in zip(LISTED, ("train", "test", "train", "test", "test"), strict=True)]
    root = manifest(tmp_path, rows, ("path", "label", "patient", "split"))
    for path, *_ in LISTED:
        Image.new("L", (20, 20)).save(root / path)
    base = {
        "name": "covid3",
        "root": str(root),
        "manifest": "films.csv",
        "cache": str(root / "c"),
        "size": 16,
        "seed": 0,
    }
    with pytest.raises(UserError, match="both 'train' and 'test': ann"):
        prepare(ConfigDict(base))


def test_real_sets_are_counted(films_root):
    dropped, pooled = (source(films_root / "cxr4", **o) for o in ({"overlap": "drop"}, {"split": "random_8_2"}))
    assert (dropped.splits["test"], pooled.total) == (572, 2743)
    for found in (dropped, pooled):
        sides = {name: {r.patient for r in found.records() if r.split == name} - {""} for name in found.splits}
        assert sum(map(len, sides.values())) == len(set.union(*sides.values())) > 1000
    three = source(films_root, "covid3", manifest="cxr3_manifest.csv")
    shares = np.array(list(three.splits.values())) / three.total
    np.testing.assert_allclose(shares, [0.49, 0.21, 0.3], atol=0.02)
