"""MedIAnomaly's layout: films in images/, their parts in data.json."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrjax import defaults
from cxrjax.data import prepare
from cxrjax.data.sources import SOURCES
from cxrjax.errors import UserError

LISTS = {
    "train": {"0": [f"n{i}.png" for i in range(10)], "unlabeled": {"0": ["u0.png"], "1": ["u1.png"]}},
    "test": {"0": ["t0.png", "t1.png"], "1": ["a0.png"]},
}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "RSNA"
    (folder / "images").mkdir(parents=True)
    names = [*LISTS["train"]["0"], "u0.png", "u1.png", "t0.png", "t1.png", "a0.png"]
    for i, name in enumerate(names):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (20, 20), np.uint8)).save(folder / "images" / name)
    (folder / "data.json").write_text(json.dumps(LISTS))
    return folder


def data(root, **changes: Any) -> Any:
    return defaults.data("medianomaly", ("Normal", "Abnormal"), 16, root=str(root), **changes)


def test_training_films_are_normal_and_test_films_both(root):
    found = SOURCES["medianomaly"](data(root))
    records = {record.key: record for record in found.records()}
    assert found.splits == {"train": 9, "val": 1, "test": 3}  # a tenth is carved
    assert {key for key, record in records.items() if record.labels[0] == 1} == {"a0.png"}
    assert {key for key, record in records.items() if record.split == "test"} == {"t0.png", "t1.png", "a0.png"}
    assert found.classes == ("Normal", "Abnormal")
    assert any("no patients" in warning for warning in found.warnings)


def test_the_unlabeled_part_trains_on_demand(root):
    records = {r.key: r for r in SOURCES["medianomaly"](data(root, split="with_unlabeled")).records()}
    assert {records[name].labels[0] for name in ("u0.png", "u1.png")} == {0.0, 1.0}
    assert {records[name].split for name in ("u0.png", "u1.png")} <= {"train", "val"}


def test_the_first_editions_folder_is_found_and_any_other_given(root, tmp_path):
    (root / "images").rename(root / "train_png_512")
    assert SOURCES["medianomaly"](data(root)).total == 13
    (root / "train_png_512").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"no images/ in .*data\.images"):
        SOURCES["medianomaly"](data(root))
    assert SOURCES["medianomaly"](data(root, images=str(tmp_path / "elsewhere"))).total == 13


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"train": {"0": ["n0.png"]}, "test": {"0": ["t0.png"]}}, r"is no list of films \(KeyError: '1'\)"),
        ({**LISTS, "test": {"0": "t0.png", "1": []}}, "str where a list was expected"),
        ({**LISTS, "test": {"0": ["n0.png"], "1": ["a0.png"]}}, "lists 1 films twice, the first n0.png"),
    ],
)
def test_lists_of_another_form_are_refused(root, lists, words):
    (root / "data.json").write_text(json.dumps(lists))
    with pytest.raises(UserError, match=words):
        SOURCES["medianomaly"](data(root))


def test_what_is_missing_is_told(root, tmp_path):
    (root / "images" / "a0.png").unlink()
    assert SOURCES["medianomaly"](data(root)).faults["missing"][0].startswith("a0.png")
    (root / "data.json").unlink()
    with pytest.raises(UserError, match=r"no data\.json in"):
        SOURCES["medianomaly"](data(root))


def test_films_are_prepared(root, tmp_path):
    films = prepare(data(root, cache=str(tmp_path / "cache")))
    np.testing.assert_array_equal(films.table("test")["labels"].sum(), 1)
    assert films.count("train") == 9
