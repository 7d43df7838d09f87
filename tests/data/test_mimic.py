"""MIMIC-CXR's tables: one frontal film a study, blanks and doubts by rule, and the merged set with NIH."""

from __future__ import annotations

import csv
import gzip

import numpy as np
import pytest
from ml_collections import ConfigDict

from cxrjax.data.labels import CHESTXRAY14
from cxrjax.data.sources import SOURCES, mimic_cxr
from cxrjax.errors import UserError

HEADER = ["subject_id", "study_id", *mimic_cxr.MAPPED, "Lung Opacity", "No Finding"]
UNMAPPED = [name for name in CHESTXRAY14 if name not in mimic_cxr.MAPPED.values()]
# One study each: a finding and blanks; only doubt; nothing at all; No Finding; a mention of what is not mapped.
STUDIES = {
    ("10000001", "50000001"): {"Pleural Effusion": "1.0", "Edema": "0.0"},
    ("10000001", "50000002"): {"Pneumonia": "-1.0"},
    ("10000002", "50000003"): {},
    ("10000003", "50000004"): {"No Finding": "1.0"},
    ("10000004", "50000005"): {"Lung Opacity": "1.0"},
}


def write(path, header, rows):
    with gzip.open(path, "wt", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def film(root, subject, study, dicom):
    path = root / f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("film")
    return path


def build(root, studies=STUDIES):
    root.mkdir(exist_ok=True)
    rows = [[*key, *(cells.get(name, "") for name in HEADER[2:])] for key, cells in studies.items()]
    write(root / "mimic-cxr-2.0.0-chexpert.csv.gz", HEADER, rows)
    films = [(f"{study}{view}", *key, view) for key in studies for study in key[1:] for view in ("PA", "AP", "LATERAL")]
    for dicom, subject, study, _ in films:
        film(root, subject, study, dicom)
    write(root / "mimic-cxr-2.0.0-metadata.csv.gz", ["dicom_id", "subject_id", "study_id", "ViewPosition"], films)
    split = [(d, s, "validate" if p == "10000002" else "test" if p == "10000003" else "train") for d, p, s, _ in films]
    write(root / "mimic-cxr-2.0.0-split.csv.gz", ["dicom_id", "study_id", "split"], split)
    return root


@pytest.fixture
def tree(tmp_path):
    return build(tmp_path / "mimic")


def source(root, **options):
    base = {"name": "mimic_cxr", "root": str(root), "size": 16, "seed": 0, "carve": {"val": 0.2, "test": 0.2}}
    return SOURCES["mimic_cxr"](ConfigDict({**base, **options}))


def labels(found, study, name):
    (record,) = (r for r in found.records() if f"/s{study}/" in r.key)
    return record.labels[CHESTXRAY14.index(name)]


def test_one_frontal_film_a_study_in_the_official_split(tree):
    found = source(tree)
    records = list(found.records())
    assert found.splits == {"train": 3, "val": 1, "test": 1}
    assert len({r.key.split("/")[1] for r in records}) == len(records) == 5
    assert not any("LATERAL" in r.key for r in records)
    assert {r.patient for r in records} == {f"mimic1000000{i}" for i in (1, 2, 3, 4)}
    choices = {tuple(sorted(r.key for r in source(tree, seed=seed).records())) for seed in range(8)}
    assert len(choices) > 1
    assert [r.key for r in source(tree).records()] == [r.key for r in records]


def test_blanks_doubts_and_what_is_not_mapped(tree):
    found = source(tree)
    assert labels(found, "50000001", "Effusion") == 1
    assert labels(found, "50000001", "Edema") == labels(found, "50000001", "Pneumonia") == 0
    assert np.isnan(labels(found, "50000002", "Pneumonia"))
    assert labels(found, "50000002", "Edema") == labels(found, "50000005", "Edema") == 0
    assert np.isnan(labels(found, "50000003", "Effusion"))
    assert labels(found, "50000004", "Pneumonia") == 0
    table = np.stack([r.labels for r in found.records()])
    assert np.isnan(table[:, [CHESTXRAY14.index(name) for name in UNMAPPED]]).all()
    for uncertain, value in (("zero", 0), ("one", 1)):
        other = source(tree, uncertain=uncertain)
        assert labels(other, "50000002", "Pneumonia") == value
        assert other.fingerprint != found.fingerprint
        assert other.label_version.endswith(uncertain)


def test_limit_takes_the_first_studies_in_seeded_order(tree):
    every = {seed: {r.key for r in source(tree, limit=3, seed=seed).records()} for seed in range(6)}
    assert {len(keys) for keys in every.values()} == {3}
    assert len({frozenset(key.split("/")[1] for key in keys) for keys in every.values()}) > 1
    assert {r.key for r in source(tree, limit=2).records()} < every[0]
    assert any("asks for 9 films and only 5" in w for w in source(tree, limit=9).warnings)


def test_mistakes_are_told(tree):
    for options, message in [
        ({"uncertain": "masked"}, "did you mean 'mask'"),
        ({"labeler": "negbio"}, r"no mimic-cxr-2\.0\.0-negbio"),
        ({"limit": -1}, r"data\.limit is -1"),
        ({"split": "ofical"}, "did you mean 'official'"),
    ]:
        with pytest.raises(UserError, match=message):
            source(tree, **options)
    for path in (tree / "files/p10/p10000002").rglob("*.jpg"):
        path.unlink()
    with pytest.raises(UserError, match=r"p10000002/s50000003/.*does not exist \(1 of 5 films.*present_only"):
        source(tree)
    assert source(tree, present_only=True).total == 4
    build(tree, {**STUDIES, ("10000009", "50000009"): {"Edema": "yes"}})
    with pytest.raises(UserError, match="study 50000009 has 'yes' in Edema"):
        source(tree)
    (tree / "mimic-cxr-2.0.0-chexpert.csv.gz").write_bytes(b"\x1f\x8bno")
    with pytest.raises(UserError, match="cannot be read"):
        source(tree)


def test_study_or_film_listed_twice_and_differently_is_refused(tree):
    cells = [[*key, *(cells.get(name, "") for name in HEADER[2:])] for key, cells in STUDIES.items()]
    write(tree / "mimic-cxr-2.0.0-chexpert.csv.gz", HEADER, [*cells, [f"{cells[0][0]}.0", *cells[0][1:]]])
    assert source(tree).total == 5  # the same once more
    write(tree / "mimic-cxr-2.0.0-chexpert.csv.gz", HEADER, [*cells, [*cells[0][:2], *cells[1][2:]]])
    with pytest.raises(UserError, match=r"lists study 50000001 twice and differently"):
        source(tree)
    write(tree / "mimic-cxr-2.0.0-chexpert.csv.gz", HEADER, cells)
    for name, row in [("metadata", "50000001PA,10000001,50000001,LL"), ("split", "50000001PA,50000001,test")]:
        path = tree / f"mimic-cxr-2.0.0-{name}.csv.gz"
        whole = gzip.decompress(path.read_bytes()).decode()
        path.write_bytes(gzip.compress(f"{whole}{row}\n".encode()))
        with pytest.raises(UserError, match=rf"{name}\.csv\.gz lists 50000001PA twice and differently"):
            source(tree)
        path.write_bytes(gzip.compress(whole.encode()))


def nih_tree(root):
    (root / "images").mkdir(parents=True)
    for number, part in enumerate(("train", "train", "val", "test", "test")):
        name = f"{number:08d}_000.png"
        (root / "images" / name).write_text("film")
        with (root / f"benchmark_{part}_list.txt").open("a") as file:
            file.write(" ".join([name, *"10000000000000"]) + "\n")
    (root / "BBox_List_2017.csv").write_text("a,b,c,,,\n00000003_000.png,Atelectasis,0,0,512,512\n")
    return root


@pytest.mark.parametrize("split", ["arnoweng", "s0_faithful"])
def test_merged_keeps_the_split_of_nih_and_carves_mimic_by_patient(tmp_path, split):
    studies = {(str(10000000 + i // 2), str(50000000 + i)): {"Edema": "1.0"} for i in range(100)}
    config = {"nih_root": str(nih_tree(tmp_path / "nih")), "mimic_root": str(build(tmp_path / "mimic", studies))}
    found = SOURCES["merged"](ConfigDict({**config, "split": split, "strict_lists": False, "seed": 0}))
    records = list(found.records())
    assert [list(found.splits).index(r.split) for r in records] == sorted(
        list(found.splits).index(r.split) for r in records
    )
    assert {name: sum(r.split == name for r in records) for name in found.splits} == found.splits
    assert found.total == 105
    held = [r for r in records if r.split != "train"]
    assert sum(r.key.startswith("nih/") for r in held) == 3
    assert abs(sum(r.key.startswith("mimic/") for r in held) / 100 - 21_205 / 67_010) < 0.03
    sides = {name: {r.patient for r in records if r.split == name} for name in found.splits}
    assert sum(map(len, sides.values())) == len(set.union(*sides.values())) == 55
    assert found.label_version == "nih-2017+mimic-cxr-jpg-2.0.0-chexpert-mask"
    assert [r.key for r in records if r.boxes] == ["nih/00000003_000.png"]
    assert dict(found.aliases) == ({"val": "test"} if split == "s0_faithful" else {})
    assert any("asks for 67,010 films" in warning for warning in found.warnings)
