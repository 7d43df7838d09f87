"""The sources: names read rightly, labels without doubt, splits that keep children whole."""

from __future__ import annotations

import os

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from cxrjax.data import pipeline, truth
from cxrjax.data.labels import FINDINGS, select
from cxrjax.data.preparation import prepare
from cxrjax.data.sources import SOURCES
from cxrjax.errors import UserError


def config(tmp_path, **options) -> ConfigDict:
    base = {"root": "", "cache": str(tmp_path / "cache"), "size": 32, "seed": 0, "carve": {"val": 0.2, "test": 0.2}}
    return ConfigDict({**base, **options})


KAGGLE = {
    "train/NORMAL": ["IM-0383-0001.jpeg", "NORMAL2-IM-0383-0001.jpeg", "NORMAL2-IM-0383-0001-0002.jpeg"],
    "train/PNEUMONIA": ["person1_bacteria_1.jpeg", "person1_virus_6.jpeg", "person447_virus_921_1.jpeg"],
    "val/NORMAL": ["NORMAL2-IM-1427-0001.jpeg"],
    "val/PNEUMONIA": ["person1946_bacteria_4874.jpeg"],
    "test/NORMAL": ["IM-0001-0001.jpeg"],
    "test/PNEUMONIA": ["person1_virus_7.jpeg"],
}


@pytest.fixture
def kaggle(tmp_path):
    for folder, names in KAGGLE.items():
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            Image.new("RGB", (40, 30), (90, 90, 90)).save(tmp_path / folder / name)
    return tmp_path


def test_kermany_names(kaggle):
    source = SOURCES["kermany"](config(kaggle, name="kermany", root=str(kaggle)))
    found = {record.key: record for record in source.records()}
    assert len(found) == source.total == 10
    patient = {key.split("/")[-1]: record.patient for key, record in found.items()}
    assert patient["person1_bacteria_1.jpeg"] == patient["person1_virus_6.jpeg"] == "person1"
    assert patient["person1_virus_7.jpeg"] == "test-person1"  # numbers begin again in test: another child
    assert patient["IM-0383-0001.jpeg"] != patient["NORMAL2-IM-0383-0001.jpeg"]
    assert patient["NORMAL2-IM-0383-0001.jpeg"] == patient["NORMAL2-IM-0383-0001-0002.jpeg"]
    labels = np.stack([record.labels for record in found.values()])
    classes = select(labels, source.columns, ("Normal", "Bacteria", "Virus"))
    np.testing.assert_array_equal(classes.sum(axis=1), 1)
    assert found["train/PNEUMONIA/person447_virus_921_1.jpeg"].labels.tolist() == [1, 0, 1]
    assert {r.split for key, r in found.items() if key.startswith("test/")} == {"test"}
    assert {r.split for key, r in found.items() if not key.startswith("test/")} <= {"train", "val"}


def test_kermany_official_val_is_kept_on_demand(kaggle):
    source = SOURCES["kermany"](config(kaggle, name="kermany", root=str(kaggle), official_val=True))
    assert source.splits == {"train": 6, "val": 2, "test": 2}
    assert all(record.key.startswith(record.split) for record in source.records())


def test_kermany_reads_what_the_decoder_reads_and_counts_the_rest(kaggle):
    gray = Image.new("L", (40, 30), 90)
    (kaggle / "train/NORMAL/more").mkdir()
    (kaggle / "val").rename(kaggle / "valid")
    for name in ("NORMAL/IM-0500-0001.tif", "PNEUMONIA/person9_virus_1.bmp", "NORMAL/more/IM-0501-0001.jpeg"):
        gray.save(kaggle / "train" / name)
    (kaggle / "train/PNEUMONIA/person10_virus_1.nii").touch()
    found = SOURCES["kermany"](config(kaggle, name="kermany", root=str(kaggle), official_val=True))
    assert found.splits == {"train": 9, "val": 2, "test": 2}
    assert found.warnings == ("1 files were left out: 1 .nii in train/PNEUMONIA/",)
    patient = {record.key: (record.patient, record.labels.tolist()) for record in found.records()}
    assert patient["train/NORMAL/more/IM-0501-0001.jpeg"] == ("IM-0501", [0, 0, 0])
    assert patient["train/PNEUMONIA/person9_virus_1.bmp"] == ("person9", [1, 0, 1])
    (kaggle / "train/COVID").mkdir()
    gray.save(kaggle / "train/COVID/c.jpeg")
    with pytest.raises(UserError, match=r"train/COVID' is no class of this set: expected NORMAL, PNEUMONIA"):
        SOURCES["kermany"](config(kaggle, name="kermany", root=str(kaggle)))


def test_what_the_file_system_refuses_is_a_message(kaggle, tmp_path, monkeypatch):
    for name in ("NORMAL/IM-0383-0001.jpeg", "PNEUMONIA/person1_virus_6.jpeg"):
        (kaggle / "train" / name).unlink()
        (kaggle / "train" / name).symlink_to("nowhere.jpeg")
    with pytest.raises(UserError, match=r"2 of 10 films cannot be opened: .*IM-0383-0001\.jpeg \(a link to nowhere"):
        SOURCES["kermany"](config(kaggle, name="kermany", root=str(kaggle)))

    def locked(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(kaggle), "iterdir", locked)
    with pytest.raises(UserError, match=f"films of kermany: {kaggle}: Permission denied"):
        SOURCES["kermany"](config(kaggle, name="kermany", root=str(kaggle)))


def test_root_in_the_home_folder_or_of_nobody(kaggle, monkeypatch):
    monkeypatch.setenv("HOME", str(kaggle.parent))
    found = SOURCES["kermany"](config(kaggle, name="kermany", root=f"~/{kaggle.name}"))
    assert found.total == 10
    with pytest.raises(UserError, match=r"data\.root '~no-such-person/films' does not exist"):
        SOURCES["kermany"](config(kaggle, name="kermany", root="~no-such-person/films"))


def test_kermany_class_folder_without_films(kaggle):
    for path in (kaggle / "val/NORMAL").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"val/NORMAL' holds no"):
        SOURCES["kermany"](config(kaggle, name="kermany", root=str(kaggle)))


def test_fingerprint_follows_files_and_options(kaggle):
    def fingerprint(**options):
        return SOURCES["kermany"](config(kaggle, name="kermany", root=str(kaggle), **options)).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint(seed=1) != first
    film = kaggle / "train/NORMAL/IM-0383-0001.jpeg"
    os.utime(film, ns=(0, film.stat().st_mtime_ns + 1_000_000))  # written anew, as many bytes
    edited = fingerprint()
    assert edited != first
    with film.open("ab") as file:
        file.write(b"\0")
    assert fingerprint() not in (first, edited)


def test_kermany_real_films(films_root, tmp_path):
    for part, name, every in [("train", "NORMAL", 40), ("train", "PNEUMONIA", 80), ("val", "NORMAL", 1)]:
        (tmp_path / part / name).mkdir(parents=True, exist_ok=True)
        for film in sorted((films_root / "kermany/chest_xray" / part / name).iterdir())[::every]:
            (tmp_path / part / name / film.name).symlink_to(film)
    (tmp_path / "val/PNEUMONIA").symlink_to(films_root / "kermany/chest_xray/val/PNEUMONIA")
    data = prepare(config(tmp_path, name="kermany", root=str(tmp_path)))
    assert data.quarantined == 0
    assert data.warnings == []
    total = sum(data.splits.values())
    assert total == 34 + 49 + 16
    assert abs(data.splits["val"] / total - 0.2) < 0.05
    for split in ("train", "val", "test"):
        assert 0.4 < data.table(split)["labels"][:, 0].mean() < 0.75
        image = pipeline.films(data, split)["image"]
        assert 0.2 < image.mean() < 0.8  # a chest is neither black nor white
        assert (image.std(axis=(1, 2)) > 0.05).all()


@pytest.fixture
def npz(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in [("train", 40), ("val", 6)]:
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{part}_labels"] = rng.integers(0, 2, (count, 1), np.uint8)
    path = tmp_path / "pneumoniamnist.npz"
    np.savez(path, **arrays)
    return path, arrays


def test_medmnist_keeps_its_splits_and_carves_a_missing_test(npz, tmp_path):
    path, arrays = npz
    data = prepare(config(tmp_path, name="medmnist", flavor="pneumoniamnist", root=str(path), size=28))
    assert data.splits == {"train": 32, "val": 6, "test": 8}
    np.testing.assert_array_equal(data.table("val")["labels"], arrays["val_labels"])
    np.testing.assert_allclose(pipeline.films(data, "val")["image"][..., 0], arrays["val_images"] / 255, atol=1e-6)
    for split in ("train", "test"):
        rows = [int(key.split("-")[1]) for key in data.table(split)["key"]]
        np.testing.assert_array_equal(data.table(split)["labels"], arrays["train_labels"][rows])
    assert any("46 of 46 films have no patient id" in warning for warning in data.warnings)


def test_medmnist_wrong_files_are_told(npz, tmp_path):
    path, arrays = npz
    with pytest.raises(UserError, match=r"expected \(n, 14\)"):
        SOURCES["medmnist"](config(tmp_path, flavor="chestmnist", root=str(path)))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match="download it again"):
        SOURCES["medmnist"](config(tmp_path, flavor="pneumoniamnist", root=str(path)))
    np.savez(
        path, **{**arrays, "train_images": arrays["train_images"][:39], "val_images": np.zeros((7, 28, 28), np.uint8)}
    )
    with pytest.raises(UserError, match="39 train images and 40 train labels"):
        list(SOURCES["medmnist"](config(tmp_path, flavor="pneumoniamnist", root=str(path))).records())
    np.savez(path, **{**arrays, "train_images": arrays["train_images"].astype(np.float32)})
    with pytest.raises(UserError, match="train_images is"):
        list(SOURCES["medmnist"](config(tmp_path, flavor="pneumoniamnist", root=str(path))).records())


def test_medmnist_labels_of_more_classes_are_refused(npz, tmp_path):
    path, arrays = npz
    for labels, said in [
        (np.arange(40)[:, None] % 4, r"train_labels holds 2, 3 besides 0 and 1"),
        (np.where(np.arange(40)[:, None] % 2, 1.0, np.nan), "train_labels holds nan besides"),
    ]:
        np.savez(path, **{**arrays, "train_labels": labels})
        with pytest.raises(UserError, match=said):
            SOURCES["medmnist"](config(tmp_path, flavor="pneumoniamnist", root=str(path)))


def test_medmnist_without_network_is_told(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def offline(self, url):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", offline)
    with pytest.raises(UserError, match=r"cannot download https://zenodo\.org/.*pneumoniamnist\.npz.*data\.root"):
        SOURCES["medmnist"](config(tmp_path, flavor="pneumoniamnist"))


def phantoms(tmp_path, **options) -> ConfigDict:
    base = {"num": {"train": 8, "val": 4, "test": 4}, "findings": ("Effusion", "Mass"), "severity": (0.6, 0.9)}
    return config(tmp_path, **{"name": "phantom", "normal_share": 0.5, **base, **options})


def test_phantoms_are_dealt_evenly_and_know_the_truth(tmp_path):
    data = prepare(phantoms(tmp_path))
    assert data.splits == {"train": 8, "val": 4, "test": 4}
    assert data.has_truth
    table = data.table("train")
    assert table["labels"].sum(axis=0).tolist() == [2, 2]
    normal = table["labels"].sum(axis=1) == 0
    assert np.isnan(table["severity"][normal]).all()
    assert ((table["severity"][~normal] >= 0.6) & (table["severity"][~normal] <= 0.9)).all()
    patients = [set(data.table(split)["patient"]) for split in data.splits]
    assert len(set.union(*patients)) == 16
    films = pipeline.films(data, "train")
    shown = np.stack([films["masks"][name].any(axis=(1, 2)) for name in data.columns], axis=1)
    np.testing.assert_array_equal(shown, table["labels"] == 1)
    np.testing.assert_array_equal(films["image"][normal], films["twin"][normal])
    assert (films["image"][~normal] != films["twin"][~normal]).any(axis=(1, 2, 3)).all()
    assert films["lungs"].any(axis=(1, 2)).all()
    assert films["heart"].any(axis=(1, 2)).all()


def test_phantom_options_change_the_films(tmp_path):
    def source(**options):
        return SOURCES["phantom"](phantoms(tmp_path, num={"train": 2}, normal_share=0.0, **options))

    first, again, other = (next(s.records()) for s in (source(), source(), source(seed=1)))
    np.testing.assert_array_equal(first.film, again.film)
    assert (first.film != other.film).any()
    assert source().fingerprint != source(severity=(0.5, 0.9)).fingerprint
    both = next(source(findings_per_film=2).records())
    assert both.labels.tolist() == [1, 1]
    with pytest.raises(UserError, match="findings_per_film"):
        source(findings_per_film=3)


def test_truth_packs_and_unpacks():
    rng = np.random.default_rng(0)
    masks = {name: rng.random((8, 8)) < 0.5 for name in FINDINGS}
    lungs, heart = rng.random((2, 8, 8)) < 0.5
    packed = truth.pack(masks, lungs, heart)
    assert (packed.shape, packed.dtype) == ((8, 8, 3), np.uint8)
    for name, mask in truth.masks(packed, FINDINGS).items():
        np.testing.assert_array_equal(mask, masks[name])
    np.testing.assert_array_equal(truth.organs(packed), (lungs, heart))
