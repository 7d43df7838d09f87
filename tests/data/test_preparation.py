"""Preparing is checked, counted, and all or nothing."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import sys
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from PIL import Image

from cxrjax.data import Prepared, builder, pipeline
from cxrjax.data.preparation import materialize, prepare
from cxrjax.errors import UserError


def test_index_and_films_are_what_was_given(fake, tmp_path):
    given = fake.records({"train": 7, "test": 4})
    data = materialize(fake.source(given), tmp_path, size=16, limit=0.0)
    assert data.splits == {"train": 7, "test": 4}
    assert (data.columns, data.quarantined, data.warnings) == (fake.COLUMNS, 0, [])
    table = data.table("test")
    np.testing.assert_array_equal(table["key"], [r.key for r in given[7:]])
    np.testing.assert_array_equal(table["patient"], [r.patient for r in given[7:]])
    np.testing.assert_array_equal(table["labels"], [r.labels for r in given[7:]])  # NaN where NaN was
    assert np.isnan(table["labels"]).any()
    read = pipeline.films(data, "train", keep=np.array([5, 2]))
    expected = np.stack([given[5].film, given[2].film])[..., None] / 255
    np.testing.assert_allclose(read["image"], expected, atol=1e-6)
    assert read["image"].dtype == np.float32
    assert read["key"].tolist() == ["train5", "train2"]
    assert read["twin"] is None
    assert "tensorflow" not in sys.modules


def test_truth_comes_back(fake, tmp_path):
    (given,) = fake.records({"train": 1}, truth=True)
    data = materialize(fake.source([given], has_truth=True), tmp_path, size=16, limit=0.0)
    read = pipeline.films(data, "train")
    np.testing.assert_allclose(read["twin"][0, ..., 0], given.twin / 255, atol=1e-6)
    np.testing.assert_array_equal(read["masks"]["Effusion"][0], given.truth[..., 0] & 4 > 0)  # third of the findings
    np.testing.assert_array_equal(read["masks"]["Mass"][0], given.truth[..., 0] & 16 > 0)
    np.testing.assert_array_equal(read["heart"][0], given.truth[..., 2] & 2 > 0)
    assert set(read["masks"]) == set(fake.COLUMNS)


def test_second_call_reads_no_record(fake, tmp_path):
    given = fake.source(fake.records({"train": 4}))
    first = materialize(given, tmp_path, size=16, limit=0.0)

    def never():
        raise AssertionError("records were asked for again")

    again = materialize(given._replace(records=never), tmp_path, size=16, limit=0.0)
    assert again == first
    assert materialize(given, tmp_path, size=20, limit=0.0).directory != first.directory


def _with_bad_files(fake, tmp_path, good: int):
    out = []
    for i, record in enumerate(fake.records({"train": good + 1, "val": 2})):
        path = tmp_path / f"{record.key}.png"
        Image.fromarray(record.film).save(path)
        if i == 1:
            path.write_bytes(path.read_bytes()[:100])
        out.append(record._replace(film=path))
    return fake.source(out)


def test_truncated_film_is_quarantined_with_its_reason(fake, tmp_path):
    data = materialize(_with_bad_files(fake, tmp_path, good=9), tmp_path / "cache", size=16, limit=0.1)
    assert data.quarantined == 1
    assert data.splits == {"train": 9, "val": 2}
    assert "train1" not in data.table("train")["key"]
    with (data.directory / "quarantine.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["file"].endswith("train1.png")
    assert "truncated" in row["reason"]
    assert any("1 films could not be read" in warning for warning in data.warnings)


def test_too_many_corrupt_films_are_an_error_also_when_prepared_before(fake, tmp_path):
    bad = _with_bad_files(fake, tmp_path, good=3)
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match=r"1 of 6 films .*quarantine_limit 0.1.*train1.png.*quarantine.csv"):
        materialize(bad, cache, size=16, limit=0.1)
    assert [p.name for p in cache.iterdir() if p.is_dir()] == []
    (listing,) = cache.glob("*.quarantine.csv")
    assert "train1.png" in listing.read_text()
    materialize(bad, cache, size=16, limit=0.5)
    with pytest.raises(UserError, match="quarantine_limit"):
        materialize(bad, cache, size=16, limit=0.1)


def test_patient_in_two_splits_is_an_error_that_names_them(fake, tmp_path):
    films = fake.records({"train": 4, "test": 2})
    films[-1] = films[-1]._replace(patient="train-p1")
    with pytest.raises(UserError, match=r"both 'train' and 'test': train-p1"):
        materialize(fake.source(films), tmp_path, size=16, limit=0.0)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_unknown_patients_are_counted_and_their_own(fake, tmp_path):
    films = [r._replace(patient="") if i < 3 else r for i, r in enumerate(fake.records({"train": 6}))]
    data = materialize(fake.source(films), tmp_path, size=16, limit=0.0)
    assert any(w.startswith("3 of 6 films have no patient id") for w in data.warnings)
    assert len(set(data.table("train")["patient"][:3])) == 3


def test_failure_in_the_middle_leaves_nothing_and_the_next_call_builds(fake, tmp_path):
    given = fake.source(fake.records({"train": 30}, truth=True), has_truth=True)

    def fails():
        yield from list(given.records())[:20]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        materialize(given._replace(records=fails), tmp_path, size=16, limit=0.0)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]
    assert materialize(given, tmp_path, size=16, limit=0.0).splits == {"train": 30}


def _hang(fake, cache: str) -> None:
    given = fake.source(fake.records({"train": 30}, truth=True), has_truth=True)

    def hangs():
        yield from list(given.records())[:25]
        time.sleep(60)

    materialize(given._replace(records=hangs), cache, size=16, limit=0.0)


def test_a_killed_build_is_swept_away_by_the_next(fake, tmp_path):
    killed = multiprocessing.get_context("fork").Process(target=_hang, args=(fake, str(tmp_path)))
    killed.start()
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob(".partial-*/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert list(tmp_path.glob(".partial-*")), "the build had not begun"
    given = fake.source(fake.records({"train": 30}, truth=True), has_truth=True)
    data = materialize(given, tmp_path, size=16, limit=0.0)
    assert data.splits == {"train": 30}
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [data.directory.name]


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["prepared.json", "index.npz", "boxes.json", "*train.array_record*", "features.json"])
@pytest.mark.parametrize("damage", [_cut, Path.unlink])
def test_damaged_folders_are_told_on_opening_with_what_to_do(fake, tmp_path, name, damage):
    films = [r._replace(boxes=(("Mass", 0.0, 0.0, 0.5, 0.5),)) for r in fake.records({"train": 4})]
    data = materialize(fake.source(films), tmp_path, size=16, limit=0.0)
    (path,) = data.directory.rglob(name)
    damage(path)
    with pytest.raises(UserError, match=rf"{data.directory} is damaged.*delete this folder"):
        materialize(fake.source(films), tmp_path, size=16, limit=0.0)


@pytest.mark.parametrize("share", [0, 0.5])
def test_records_that_are_cut_under_a_run_are_told_with_what_to_do(fake, tmp_path, share):
    data = fake.prepared(tmp_path, train=30, val=4)
    (path,) = data.directory.rglob("*train.array_record*")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    _cut(data.directory / "index.npz")
    message = "is damaged.*delete this folder"
    with pytest.raises(UserError, match=message):
        data.table("train")
    with pytest.raises(UserError, match=message):
        builder.read_images(data.directory, "train")[3]
    with pytest.raises(UserError, match=message):
        builder.read(data.directory, "train")[3]


def test_unwritable_folders_are_told(fake, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"data\.cache"):
        fake.prepared(tmp_path / "file" / "cache", train=4)


def test_full_disk_is_told_with_the_space_needed(fake, tmp_path, monkeypatch):
    def full(self, split_examples):
        raise RuntimeError("write() failed: No space left on device; writing films-train.array_record")

    monkeypatch.setattr(tfds.core.SequentialWriter, "add_examples", full)
    films = [film._replace(film=np.zeros((500, 500), np.uint8)) for film in fake.records({"train": 4})]
    with pytest.raises(UserError, match=r"data\.cache.*No space left.*about 1 MB"):
        materialize(fake.source(films), tmp_path, size=500, limit=0.0)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "phantoms"}, r"data\.name is 'phantoms'.*phantom"),
        ({"size": 4}, r"data\.size"),
        ({"bit_depth": 7}, r"data\.bit_depth is 7: expected 8 to 16"),
        ({"overlap": "keep"}, r"data\.overlap is 'keep': expected one of stop, drop"),
        ({"blank": "drop"}, r"data\.blank is 'drop'"),
        ({"name": "kermany", "root": ""}, r"data\.root is empty"),
        ({"name": "kermany", "root": "{tmp}/chest_xry"}, r"nearest folder.*chest_xray"),
        ({"name": "kermany", "root": "{tmp}"}, r"did you mean '.*chest_xray'"),
        ({"name": "medmnist", "flavor": "chestnist"}, r"data\.flavor"),
        ({"name": "phantom", "findings": ("Efusion",)}, "did you mean 'Effusion'"),
    ],
)
def test_config_mistakes_are_told(tmp_path, change, message):
    (tmp_path / "chest_xray" / "train").mkdir(parents=True)
    change = {name: value.format(tmp=tmp_path) if name == "root" else value for name, value in change.items()}
    config = {
        "name": "phantom",
        "root": "",
        "cache": str(tmp_path / "cache"),
        "size": 32,
        "seed": 0,
        "num": {"train": 2},
    }
    with pytest.raises(UserError, match=message):
        prepare(ConfigDict({**config, "findings": ("Mass",), "carve": {"val": 0.1, "test": 0.1}, **change}))


@pytest.mark.parametrize(("kept", "message"), [(3, "announced 4 .*'train' and gave 3"), (0, "announced 4 .*gave 0")])
def test_source_that_gives_fewer_records_than_announced_is_told(fake, tmp_path, kept, message):
    films = fake.records({"train": 4})
    with pytest.raises(UserError, match=message):
        materialize(fake.source(films)._replace(records=lambda: iter(films[:kept])), tmp_path, size=16, limit=0.0)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_warnings_of_the_source_and_unknown_columns_are_kept(fake, tmp_path):
    films = [r._replace(labels=np.array([1, np.nan], np.float32)) for r in fake.records({"train": 4})]
    data = materialize(fake.source(films)._replace(warnings=("mind this",)), tmp_path, size=16, limit=0.0)
    assert data.warnings == ["mind this", "no film has a known label for Mass"]
    assert data.boxes("train") == {}
    with pytest.raises(UserError, match="no split"):
        data.boxes("test")


def test_films_are_not_held_in_memory(fake, tmp_path):
    given = fake.source(fake.records({"train": 200}, truth=True), has_truth=True)
    alive: list[weakref.ref] = []
    most = 0

    def records():
        nonlocal most
        for record in given.records():
            fresh = record._replace(film=record.film.copy(), truth=record.truth.copy())
            alive.extend((weakref.ref(fresh.film), weakref.ref(fresh.truth)))
            yield fresh
            del fresh
            most = max(most, sum(ref() is not None for ref in alive))

    materialize(given._replace(records=records), tmp_path, size=16, limit=0.0)
    assert 0 < most < 80  # those that are being decoded, and no more


@pytest.mark.parametrize(
    ("splits", "part"),
    [({"train": 9, "val": 3, "test": 3}, "test"), ({"train": 9, "val": 3}, "val"), ({"val": 3, "test": 0}, "val")],
)
def test_the_held_out_part_is_the_test_part_where_there_is_one(splits, part):
    films: Any = SimpleNamespace(splits=splits)
    assert Prepared.held_out.fget(films) == part
