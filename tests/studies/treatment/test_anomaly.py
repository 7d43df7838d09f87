"""The localization study: which films have a place, which lambda counts, what is said of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from cxrjax.errors import UserError
from cxrjax.metrics import entries
from cxrjax.studies.treatment import anomaly, sweep


def leaf(value: float) -> dict[str, Any]:
    return entries.entry(value, value - 0.02, value + 0.02, n=5, unit="1")


STUDY = ConfigDict({"threshold": 0.5, "against": "gaussian", "modes": ("simplex", "gaussian"), "lambdas": (100, 200)})
FOUND = {
    name: {"pixel_auroc": leaf(value), "pixel_average_precision": leaf(0.3)}
    for name, value in (
        ("simplex, lambda 100", 0.7), ("simplex, lambda 200", 0.8), ("gaussian, lambda 100", 0.75),
        ("gaussian, lambda 200", 0.6), ("map of time_gated", 0.9),
    )
}  # fmt: skip


def test_the_best_lambda_of_each_arm_is_that_of_its_highest_auroc():
    best = {mode: anomaly._best(FOUND, mode, (100, 200)) for mode in STUDY.modes}
    assert best == {"simplex": "simplex, lambda 200", "gaussian": "gaussian, lambda 100"}
    said = anomaly._headline(FOUND, best, STUDY)
    assert "0.800 [0.780, 0.820] for simplex, lambda 200" in said
    assert "gaussian, lambda 100: 0.750" in said


def test_the_table_has_every_row_and_says_what_guessing_gives():
    table = anomaly._table(FOUND, STUDY, 0.125, truth=False)
    assert [row["name"] for row in table["rows"]] == list(FOUND)
    assert all(len(row["cells"]) == len(table["columns"]) for row in table["rows"])
    assert "12.5%" in table["note"]
    assert "boxes" in table["note"]


def films(boxes: dict[int, Any]) -> Any:
    labels = np.array([[1.0], [0.0], [1.0], [1.0]])
    return SimpleNamespace(
        splits={"test": 4}, held_out="test", has_truth=False, columns=("Pneumonia",), boxes=lambda split: boxes,
        table=lambda split: {"labels": labels, "patient": np.array(["a", "b", "c", "a"])},
    )  # fmt: skip


CONFIG = ConfigDict({"data": {"classes": ("Normal", "Pneumonia"), "size": 8}, "seed": 0,
                     "study": {"num_diseased": 10, "num_controls": 5}})  # fmt: skip


def test_boxes_become_masks_of_the_films_that_have_one():
    keep, truth = anomaly.located(
        CONFIG, "inside", films({2: [("Pneumonia", 0.5, 0.0, 1.0, 0.5)], 0: [("Mass", 0.0, 0.5, 0.25, 1.0)], 3: []})
    )
    assert keep.tolist() == [0, 2]
    assert truth.shape == (2, 8, 8)
    assert truth[1, :4, 4:].all()
    assert truth[1].sum() == 16
    assert truth[0].sum() == 8


def test_too_few_located_films_are_told_and_none_are_refused():
    assert (
        "2 such films" in anomaly.check_films(CONFIG, films({0: [("Mass", 0, 0, 1, 1)], 2: [("Mass", 0, 0, 1, 1)]}))[0]
    )


def test_without_masks_and_boxes_diseased_films_are_told_from_healthy_ones_of_other_patients():
    keep, truth = anomaly.located(CONFIG, "inside", films({}))
    assert keep.tolist() == [0, 2]  # of patient a, of whom film 3 is too, one
    assert not truth.any()
    assert anomaly.controls(CONFIG, "inside", films({}), keep).tolist() == [1]
    assert "no masks and no boxes" in anomaly.check_films(CONFIG, films({}))[0]
    alone = CONFIG.copy_and_resolve_references()
    alone.study.num_controls = 0
    with pytest.raises(UserError, match="neither masks nor boxes nor, with num_controls = 0, healthy films"):
        anomaly.check_films(alone, films({}))


def test_films_are_told_apart_by_the_mean_of_their_maps():
    sick = {"a": np.full((3, 4, 4), 0.3), "b": np.full((3, 4, 4), 0.1)}
    healthy = {"a": np.full((2, 4, 4), 0.2), "b": np.full((2, 4, 4), 0.2)}
    sick["a"][0] = 0.1  # below both healthy ones
    found = anomaly._detected(sick, healthy, np.arange(5).astype(str), 0)
    assert found["a"]["film_auroc"]["value"] == pytest.approx(4 / 6)
    assert found["b"]["film_auroc"]["value"] == 0
    (table,) = anomaly._film_table(found, 3, 2)
    assert "60.0% are diseased" in table["note"]
    assert anomaly._film_table(found, 3, 0) == []


def test_healthy_films_lie_behind_all_others_in_folders_of_their_own(tmp_path):
    parts = (sweep.Part(tmp_path / "a", 0, 3), sweep.Part(tmp_path / "b", 3, 4))
    well = [{"image": np.zeros((n, 4, 4, 1))} for n in (2, 0)]
    assert anomaly._beside(parts, well) == (sweep.Part(tmp_path / "a" / "healthy", 4, 6),)
