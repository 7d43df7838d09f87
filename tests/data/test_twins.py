"""The same film twice is found by what it shows, and a changed copy of it by its perceptual hash."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from PIL import Image

from cxrjax.data import twins
from cxrjax.data.preparation import materialize
from cxrjax.errors import UserError


def _smooth(seed: int, size: int = 64) -> np.ndarray:
    small = Image.fromarray(np.random.default_rng(seed).integers(20, 235, (20, 20), np.uint8))
    return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))


def _films(fake, tmp_path, same=()):
    """Eight films in train, three in val and test as files; `same` are pairs (a, b) of which b shows what a shows."""
    records = fake.records({"train": 8, "val": 3, "test": 3})
    shows = {record.key: i for i, record in enumerate(records)}
    for a, b in same:
        shows[b] = shows[a]
    out = []
    for i, record in enumerate(records):
        path = tmp_path / f"{record.key}{('.png', '.bmp')[i % 2]}"  # copies may be of another kind
        Image.fromarray(_smooth(shows[record.key])).save(path)
        out.append(record._replace(film=path))
    return fake.source(out)


def _listed(data) -> set[tuple[str, ...]]:
    with (data.directory / "twins.csv").open() as file:
        return {tuple(row.values()) for row in csv.DictReader(file)}


def test_twins_across_parts_stop_and_are_listed(fake, tmp_path):
    source = _films(fake, tmp_path, [("train1", "test2"), ("val0", "train6")])
    with pytest.raises(UserError, match=r"2 films are in two parts.*train1 and test/test2.*overlap='drop'") as error:
        materialize(source, tmp_path / "cache", size=64, limit=0.0)
    assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    (listing,) = (tmp_path / "cache").glob("*.twins.csv")
    assert str(listing) in str(error.value)
    assert "same,train,train6,val,val0" in listing.read_text()


def test_dropped_twins_are_those_of_the_part_that_is_learned_from(fake, tmp_path):
    source = _films(fake, tmp_path, [("train1", "test2"), ("val0", "train6"), ("train3", "val1"), ("val2", "test0")])
    data = materialize(source, tmp_path / "cache", size=64, limit=0.0, overlap="drop")
    assert data.splits == {"train": 5, "val": 2, "test": 3}
    assert list(data.splits) == ["train", "val", "test"]
    assert data.table("train")["key"].tolist() == ["train0", "train2", "train4", "train5", "train7"]
    assert data.table("val")["key"].tolist() == ["val0", "val1"]
    assert any("1 of val, 3 of train" in warning for warning in data.warnings)
    assert ("same", "val", "val2", "test", "test0") in _listed(data)


def test_a_part_of_copies_alone_is_told(fake, tmp_path):
    source = _films(fake, tmp_path, [(f"test{i}", f"val{i}") for i in range(3)])
    with pytest.raises(UserError, match="no film of split 'val' can be used; all are in another part too"):
        materialize(source, tmp_path / "cache", size=64, limit=0.0, overlap="drop")


def test_twins_within_a_part_are_counted_with_patients_and_labels(fake, tmp_path):
    # train0 and train1 are of one patient and labeled differently, train2 and train5 are of two and labeled alike
    data = materialize(_films(fake, tmp_path, [("train0", "train1"), ("train2", "train5")]), tmp_path / "cache",
                       size=64, limit=0.0)  # fmt: skip
    assert data.splits["train"] == 8
    (warning,) = data.warnings
    assert warning.startswith("2 films show the same as another of their part")
    assert "1 are not known to be of their twin's patient" in warning
    assert "1 have other labels" in warning


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("change", ["rescaled", "recompressed", "darker"])
def test_changed_copies_are_warned_of(fake, tmp_path, part, change):
    source = _films(fake, tmp_path)
    film = Image.fromarray(_smooth(0))  # that of train0
    if change == "rescaled":
        film = film.resize((100, 80))
    if change == "darker":
        film = film.point([int(0.7 * value) for value in range(256)])
    buffer = io.BytesIO()
    film.save(buffer, "JPEG", quality=40 if change == "recompressed" else 90)
    records = [
        r._replace(film=tmp_path / "changed.jpg") if r.key == f"{part}2" else r for r in source.records()
    ]  # fmt: skip
    (tmp_path / "changed.jpg").write_bytes(buffer.getvalue())
    data = materialize(fake.source(records), tmp_path / "cache", size=64, limit=0.0)
    (warning,) = data.warnings
    assert warning.startswith("1 films look like another")
    assert ("in another part" in warning) == (part == "test")
    expected = ("near", "train", "train0", "test", "test2") if part == "test" else (
        "near", "train", "train2", "train", "train0")  # fmt: skip
    assert _listed(data) == {expected}


def test_copies_of_one_patient_within_a_part_need_no_warning(fake, tmp_path):
    source = _films(fake, tmp_path)
    records = list(source.records())
    Image.fromarray(_smooth(0)).save(tmp_path / "changed.jpg", quality=60)
    records[1] = records[1]._replace(film=tmp_path / "changed.jpg")
    assert records[0].patient == records[1].patient
    assert materialize(fake.source(records), tmp_path / "cache", size=64, limit=0.0).warnings == []


@pytest.mark.parametrize(
    ("width", "most", "share"), [(2, 3, 0.2), (2, 0, 0.05), (3, 9, 0.3), (32, 28, 0.058), (5, 14, 0.5)]
)
def test_close_pairs_are_those_of_the_definition(monkeypatch, width, most, share):
    """Against every pair looked at, of rows that are near one another; bands, buckets and parts hide none."""
    monkeypatch.setattr(twins, "_AT_ONCE", 50)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        seen = np.repeat(rng.random((12, 8 * width)) < 0.5, 5, axis=0) ^ (rng.random((60, 8 * width)) < share)
        packed, groups = np.packbits(rng.permutation(seen), axis=1), rng.integers(0, 6, 60)
        apart = np.unpackbits(packed[:, None] ^ packed[None], axis=-1).sum(-1)
        expected = {}
        for j in range(60):
            before = [i for i in range(j) if apart[i, j] <= most and groups[i] != groups[j]]
            if before:
                expected[j] = before[0]
        assert 5 < len(expected) < 60
        assert {most, most + 1} <= set(apart.ravel())  # on both sides of the limit
        assert twins.close_pairs(packed, groups, most) == expected


def test_the_hash_sees_neither_brightness_nor_contrast_and_tells_films_apart():
    film = _smooth(1)
    assert (twins.signs(film) != twins.signs(film // 3 + 40)).sum() < twins.NEAR
    assert all((twins.signs(film) != twins.signs(_smooth(seed))).sum() > 60 for seed in range(2, 12))
