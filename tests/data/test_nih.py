"""ChestX-ray14: lists recognized, labels in their edition, boxes in place, and every mistake told in one line."""

from __future__ import annotations

import csv
import gzip
import hashlib

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from cxrjax.data import pipeline, prepare
from cxrjax.data.labels import CHESTXRAY14
from cxrjax.data.sources import SOURCES, nih_lists
from cxrjax.errors import UserError

FINDINGS = {
    "00000001_000.png": "Cardiomegaly|Emphysema",
    "00000001_001.png": "No Finding",
    "00000002_000.png": "Infiltration",
    "00000003_000.png": "No Finding",
    "00000004_000.png": "Effusion",
    "00000005_000.png": "Mass",
}
PARTS = {"train": ("00000001", "00000002"), "val": ("00000003",), "test": ("00000004", "00000005")}


def row(name: str) -> list[int]:
    return [int(finding in FINDINGS[name].split("|")) for finding in CHESTXRAY14]


def write_table(root, findings=FINDINGS, name="Data_Entry_2017_v2020.csv"):
    with (root / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Image Index", "Finding Labels", "Patient ID"])
        writer.writerows([film, labels, int(film[:8])] for film, labels in findings.items())


def write_benchmark(root, parts=PARTS):
    (root / "lists").mkdir(exist_ok=True)
    for part, patients in parts.items():
        lines = [" ".join(map(str, [name, *row(name)])) for name in FINDINGS if name[:8] in patients]
        with gzip.open(root / f"lists/benchmark_{part}_list.txt.gz", "wt") as file:
            file.write("\n".join(lines))  # without a last newline, as two of the published lists


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "nih"
    (root / "images_256").mkdir(parents=True)
    for i, name in enumerate(FINDINGS):
        film = np.random.default_rng(i).integers(0, 256, (20, 20), np.uint8)
        Image.fromarray(film).save(root / "images_256" / name)
    write_table(root)
    write_benchmark(root)
    (root / "BBox_List_2017.csv").write_text(
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
        "00000002_000.png,Infiltrate,256,512,128,256\n00000005_000.png,Mass,1000,0,100,64\n"
        "00000005_000.png,Mass,0,0,512,1024\n00099999_000.png,Nodule,1,2,3,4\n"
    )
    return root


def config(root, **options) -> ConfigDict:
    base = {"name": "nih", "root": str(root), "cache": str(root.parent / "cache"), "size": 16, "seed": 0}
    return ConfigDict({**base, "split": "arnoweng", "strict_lists": False, "quarantine_limit": 0.5, **options})


def source(root, **options):
    return SOURCES["nih"](config(root, **options))


def by_split(found) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for record in found.records():
        out.setdefault(record.split, []).append(record.key)
    return out


def test_benchmark_lists_give_splits_labels_patients_and_boxes(tree):
    data = prepare(config(tree))
    assert (data.splits, data.label_version, data.warnings) == ({"train": 3, "val": 1, "test": 2}, "nih-2017", [])
    table = data.table("train")
    assert table["patient"].tolist() == ["00000001", "00000001", "00000002"]
    np.testing.assert_array_equal(table["labels"], [row(name) for name in list(FINDINGS)[:3]])
    assert data.boxes("train") == {2: [("Infiltration", 0.25, 0.5, 0.375, 0.75)]}
    assert data.boxes("test") == {1: [("Mass", 1000 / 1024, 0.0, 1.0, 1 / 16), ("Mass", 0.0, 0.0, 0.5, 1.0)]}
    assert data.boxes("val") == {}


def test_val_and_test_are_one_under_two_names_and_flagged(tree):
    data = prepare(config(tree, split="s0_faithful"))
    assert data.splits == {"train": 3, "val": 3, "test": 3}
    assert any("selection on test" in warning for warning in data.warnings)
    np.testing.assert_array_equal(data.table("val")["key"], data.table("test")["key"])
    images = [np.stack([b.image for b in pipeline.eval_batches(data, split, classes=("Mass",), batch_size=3)])
              for split in ("val", "test")]  # fmt: skip
    np.testing.assert_array_equal(*images)
    assert data.boxes("val") == data.boxes("test") != {}
    assert pipeline.films(data, "val")["key"].tolist() == data.table("test")["key"].tolist()


def test_official_lists_hold_out_an_eighth_of_the_patients(tree):
    names = [f"{patient:08d}_{i:03d}.png" for patient in range(100, 164) for i in range(1 + patient % 3)]
    (tree / "train_val_list.txt").write_text("\n".join(names))
    (tree / "test_list.txt").write_text("00000001_000.png\n00000001_001.png")
    for name in names:
        (tree / "images_256" / name).touch()
    write_table(tree, {**FINDINGS, **dict.fromkeys(names, "No Finding")})
    found = source(tree, split="nih_official")
    assert found.label_version == "nih-2017-v2020"
    split = by_split(found)
    patients = {name: {key[:8] for key in keys} for name, keys in split.items()}
    assert [len(patients[name]) for name in ("train", "val", "test")] == [56, 8, 1]
    assert not patients["train"] & patients["val"]
    assert by_split(source(tree, split="nih_official", seed=1))["val"] != split["val"]
    write_table(tree, {**FINDINGS, **dict.fromkeys(names, "Hernia")})
    assert source(tree, split="nih_official").fingerprint != found.fingerprint


def test_a_sample_is_carved_by_patient(tree):
    names = [f"{patient:08d}_{i:03d}.png" for patient in range(100, 164) for i in range(1 + patient % 3)]
    for name in names:
        (tree / "images_256" / name).touch()
    write_table(tree, {**FINDINGS, **dict.fromkeys(names, "No Finding")})
    carve = {"val": 0.1, "test": 0.35}
    split = by_split(source(tree, split="carved", carve=carve))
    patients = {name: {key[:8] for key in keys} for name, keys in split.items()}
    assert sum(map(len, split.values())) == len(names) + len(FINDINGS)
    assert not (patients["train"] & patients["test"])
    assert not (patients["val"] & patients["test"])
    total = sum(map(len, patients.values()))
    assert len(patients["test"]) == pytest.approx(0.35 * total, abs=2)
    assert by_split(source(tree, split="carved", carve=carve, seed=1))["test"] != split["test"]


def test_column_of_patients_goes_before_the_name(tree):
    write_table(tree)
    text = (tree / "Data_Entry_2017_v2020.csv").read_text().replace("Infiltration,2", "Infiltration,1.0")
    (tree / "Data_Entry_2017_v2020.csv").write_text(text)
    for split in ("none", "arnoweng"):
        patient = {r.key: r.patient for r in source(tree, split=split).records()}
        assert patient["00000002_000.png"] == patient["00000001_000.png"] == "00000001"
        assert patient["00000003_000.png"] == "00000003"


@pytest.mark.parametrize("line", ["00000003_000.png,Effusion,3", "00000003_000.png,No Finding,4"])
def test_film_listed_twice_and_differently_is_refused(tree, line):
    table = tree / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text() + "00000003_000.png,No Finding,3.0\n")
    assert source(tree, split="none").total == 6
    table.write_text(table.read_text() + f"{line}\n")
    with pytest.raises(UserError, match=r"v2020\.csv lists 00000003_000\.png twice and differently"):
        source(tree, split="none")


def test_names_that_differ_in_their_form_only_are_told(tree):
    for path in (tree / "images_256").iterdir():
        path.rename(path.with_suffix(".jpg"))
    for options in ({"split": "arnoweng"}, {"split": "arnoweng", "present_only": True}, {"split": "none"}):
        with pytest.raises(UserError, match=r"'00000001_000\.(jpg|png)' is there, which differs in its suffix only"):
            source(tree, **options)
    for path in (tree / "images_256").iterdir():
        path.rename(path.with_suffix(".png"))
    text = (tree / "BBox_List_2017.csv").read_text()
    (tree / "BBox_List_2017.csv").write_text(text.replace(".png", ".PNG"))
    with pytest.raises(UserError, match=r"BBox_List_2017\.csv: 2 films with boxes are not here; .* in its case only"):
        source(tree)


def test_films_that_are_not_read_are_counted(tree):
    (tree / "images_256/sub").mkdir()
    (tree / "images_256/00000005_000.png").rename(tree / "images_256/sub/00000005_000.png")
    (tree / "images_256/a.nii").touch()
    (tree / "images_1024").mkdir()
    (tree / "images_1024/00000001_000.png").touch()
    found = source(tree)
    assert found.total == 6
    assert found.warnings == ("2 files were left out: 1 .nii in images_256/, 1 .png in images_1024/",)
    (tree / "images_256/00000009_000.png").touch()
    assert "1 films of the image folder are on no split list and were left out" in source(tree).warnings
    (tree / "images_256/00000005_000.png").touch()
    with pytest.raises(UserError, match=r"00000005_000\.png and .*00000005_000\.png have one name"):
        source(tree)


def test_links_to_nowhere_and_folder_in_the_home(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree.parent))
    assert source(tree, images="~/nih/images_256").total == 6
    (tree / "images_256/00000003_000.png").unlink()
    (tree / "images_256/00000003_000.png").symlink_to("gone.png")
    with pytest.raises(UserError, match=r"1 of 6 films cannot be opened: .*00000003_000\.png \(a link to gone\.png"):
        source(tree)


def test_all_films_present_without_lists(tree):
    (tree / "images_256/00000003_000.png").unlink()
    found = source(tree, split="none")
    assert found.splits == {"train": 5}
    (tree / "images_256/00000007_000.png").touch()
    with pytest.raises(UserError, match=r"v2020\.csv has no row for the film 00000007_000\.png"):
        source(tree, split="none")


def test_image_folders_in_parts_or_by_name(tree):
    for i, name in enumerate(FINDINGS):
        (tree / f"images_{1 + i % 2:03d}/images").mkdir(parents=True, exist_ok=True)
        (tree / f"images_{1 + i % 2:03d}/images" / name).touch()
    paths = {record.film.parent.parent.name for record in source(tree).records()}
    assert paths == {"images_001", "images_002"}
    assert {record.film.parent.name for record in source(tree, images="images_256").records()} == {"images_256"}
    with pytest.raises(UserError, match=r"data\.images '.*films' does not exist"):
        source(tree, images="films")


def test_missing_film_is_named_or_left_out_on_demand(tree):
    (tree / "images_256/00000003_000.png").unlink()
    (tree / "images_256/00000002_000.png").unlink()
    with pytest.raises(UserError, match=r"00000002_000\.png is on the split lists.*2 of 6.*present_only"):
        source(tree)
    found = source(tree, present_only=True)
    assert found.splits == {"train": 2, "test": 2}
    assert "a sample of the set: 4 of the 6 films listed are here" in found.warnings
    assert "no film of val is here" in found.warnings


def test_altered_lists_are_refused(tree, monkeypatch):
    with pytest.raises(UserError, match=r"benchmark_train_list.* was altered: it has 3 films.*data\.strict_lists"):
        source(tree, strict_lists=True)
    monkeypatch.setattr(nih_lists, "BENCHMARK_COUNTS", {"train": 3, "val": 1, "test": 2})
    with pytest.raises(UserError, match="its names are not those"):
        source(tree, strict_lists=True)
    names = {part: "".join(f"{n}\n" for n in FINDINGS if n[:8] in patients) for part, patients in PARTS.items()}
    digests = {part: hashlib.sha256(text.encode()).hexdigest() for part, text in names.items()}
    monkeypatch.setattr(nih_lists, "BENCHMARK_SHA256", digests)
    with pytest.raises(UserError, match="its labels are not those"):
        source(tree, strict_lists=True)
    sums = {part: tuple(np.sum([row(n) for n in text.split()], axis=0).tolist()) for part, text in names.items()}
    monkeypatch.setattr(nih_lists, "BENCHMARK_POSITIVES", sums)
    assert source(tree, strict_lists=True).total == 6


def test_line_that_is_no_label_is_named(tree):
    (tree / "lists/benchmark_val_list.txt.gz").unlink()
    good = " ".join(map(str, ["00000003_000.png", *row("00000003_000.png")]))
    for line in (f"{good[:-1]}2", good[:-2], f"{good} 1"):
        (tree / "val_list.txt").write_text(f"{good.replace('3_', '6_')}\n{line}")
        with pytest.raises(UserError, match=r"val_list\.txt: '00000003_000\.png .* is not a file name and 14 times"):
            source(tree)


def test_real_lists_are_the_published_ones(films_root):
    lists = nih_lists.benchmark([films_root / "nih/lists"], strict=True)
    assert len(set(lists.names)) == 112_120
    parts = {part: {n[:8] for n, g in zip(lists.names, lists.given, strict=True) if g == part} for part in PARTS}
    assert [len(parts[part]) for part in ("train", "val", "test")] == [21_528, 3_090, 6_187]
    assert len(set.union(*parts.values())) == 30_805
    assert set(nih_lists.official([films_root / "nih/lists"], strict=True).names) == set(lists.names)


def test_real_films(films_root):
    found = source(films_root / "nih", split="none")
    assert found.splits == {"train": 1056}
    assert found.label_version == "nih-2017-v2020"
    records = list(found.records())
    assert sum(len(record.boxes) for record in records) == 50
    for record in records:  # whoever drew a box agrees with the label
        assert {box[0] for box in record.boxes} <= {c for c, v in zip(CHESTXRAY14, record.labels, strict=True) if v}


def test_unknown_finding_has_a_suggestion(tree):
    write_table(tree, {**FINDINGS, "00000004_000.png": "Efusion"})
    with pytest.raises(UserError, match=r"v2020\.csv: 00000004_000\.png has the finding 'Efusion'.*mean 'Effusion'"):
        source(tree, split="none")
    write_table(tree)
    (tree / "BBox_List_2017.csv").write_text("Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,Massive,1,2,3,4\n")
    with pytest.raises(UserError, match=r"'Massive'.*did you mean 'Mass'"):
        source(tree)


def test_patient_in_two_lists_stops_before_a_film_is_read(tree):
    write_benchmark(tree, {**PARTS, "val": ("00000003",), "test": ("00000004", "00000005")})
    with gzip.open(tree / "lists/benchmark_val_list.txt.gz", "wt") as file:
        file.write(" ".join(map(str, ["00000001_002.png", *row("00000003_000.png")])))
    (tree / "images_256/00000001_002.png").write_text("no film")
    with pytest.raises(UserError, match=r"1 patient\(s\) are in both 'train' and 'val': 00000001"):
        prepare(config(tree))
    write_benchmark(tree, {**PARTS, "val": ("00000001",)})
    with pytest.raises(UserError, match=r"00000001_000\.png is on the split lists twice"):
        source(tree)


def write_columns(tree, unknown: str, cell: str = ""):
    (tree / "Data_Entry_2017_v2020.csv").unlink()
    with (tree / "labels_14.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Image Index", *CHESTXRAY14])
        for name in FINDINGS:
            cells = dict(zip(CHESTXRAY14, row(name), strict=True))
            writer.writerow([name, *{**cells, unknown: cell}.values()])


def test_column_without_a_known_label_is_warned_of_and_cannot_be_trained(tree):
    write_columns(tree, "Mass")
    data = prepare(config(tree, split="none", label_version="mine"))
    assert data.label_version == "mine"
    assert data.warnings == ["no film has a known label for Mass"]
    with pytest.raises(UserError, match=r"class Mass is unknown on every film of split 'train'.*data\.classes"):
        pipeline.batches(data, "train", classes=("Effusion", "Mass"), batch_size=2, seed=0)
    (batch,) = pipeline.eval_batches(data, "train", classes=("Effusion", "Mass"), batch_size=6)
    assert np.isnan(batch.label[:, 1]).all()
    assert np.isfinite(batch.label[:, 0]).all()


def test_cell_that_is_no_label_is_named(tree):
    write_columns(tree, "Mass", "maybe")
    with pytest.raises(UserError, match=r"labels_14\.csv: 00000001_000\.png has 'maybe' in Mass"):
        source(tree, split="none")


def test_truncated_rgba_and_16_bit_films(tree):
    folder = tree / "images_256"
    gray = np.arange(400, dtype=np.uint8).reshape(20, 20) // 2 * 2
    Image.fromarray(gray).resize((16, 16), Image.Resampling.BILINEAR).save(folder / "00000001_000.png")
    expected = np.asarray(Image.open(folder / "00000001_000.png"))
    Image.fromarray(expected).convert("RGBA").save(folder / "00000001_001.png")
    Image.fromarray(expected.astype(np.uint16) * 257).save(folder / "00000002_000.png")
    whole = (folder / "00000004_000.png").read_bytes()
    (folder / "00000004_000.png").write_bytes(whole[: len(whole) // 2])
    data = prepare(config(tree))
    assert data.quarantined == 1
    assert "truncated" in (data.directory / "quarantine.csv").read_text()
    images = pipeline.films(data, "train")["image"][..., 0] * 255
    for image in images:
        np.testing.assert_allclose(image, expected, atol=0.51)
    assert data.boxes("test") == {0: [("Mass", 1000 / 1024, 0.0, 1.0, 1 / 16), ("Mass", 0.0, 0.0, 0.5, 1.0)]}
