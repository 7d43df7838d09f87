"""Records' age, sex, view and site reach the table, film by film, whatever the order of the predictions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxrjax.metrics import classification
from cxrjax.studies.classification import subgroups
from cxrjax.studies.classification.predictions import System

N, CLASSES = 120, ("Normal", "Pneumonia")


@pytest.fixture
def run() -> tuple[Any, System]:
    """A context of films of two sexes and unknown views, and a system that predicted them in another order."""
    rng = np.random.default_rng(0)
    key, order = np.array([f"film{i}" for i in range(N)]), rng.permutation(N)
    sex, age = np.where(np.arange(N) % 3, "M", "F"), np.where(np.arange(N) < 50, 30.0, 70.0)
    age[:7] = np.nan
    table = {"key": key, "sex": sex, "age": age, "view": np.full(N, ""), "site": np.full(N, "")}
    label = np.eye(2)[rng.integers(2, size=N)]
    logits = 2 * label + rng.normal(size=label.shape)
    e = np.exp(logits)
    said = {"label": label, "logits": logits, "probability": e / e.sum(1, keepdims=True), "key": key, "patient": key}
    found = {name: value[order] for name, value in said.items()} | {"split": np.array("test")}
    context = SimpleNamespace(films=SimpleNamespace(table=lambda split: table), classes=CLASSES)
    return context, System("net", "a network", found, said)


def test_each_group_has_a_row_with_the_figures_of_its_films(run: tuple[Any, System]) -> None:
    context, system = run
    out: dict[str, Any] = {"systems": {"net": {"auroc": {"value": 0.9}}}, "tables": []}
    subgroups.add(out, context, [system], exclusive=True)
    assert out["subgroups"]["net"].keys() == {"age", "sex"}  # of view and site nothing is known
    groups, gaps = out["tables"]
    assert [row["name"] for row in groups["rows"]] == ["age: 18-39", "age: 60-79", "sex: F", "sex: M"]
    assert groups["rows"][2]["cells"][0] == "40"
    said = system.validation
    women = np.arange(N) % 3 == 0
    expected = classification.auroc(said["label"][women, 1], said["probability"][women, 1])
    assert groups["rows"][2]["cells"][1]["value"] == pytest.approx(expected)
    assert "Not known: age of 7 films" in groups["note"]
    assert [row["name"] for row in gaps["rows"]][:4] == ["age: AUROC", "age: TPR", "age: FPR", "age: ECE"]
    assert set(gaps["rows"][4]["cells"][0].split(" minus ")) == {"F", "M"}


def test_films_of_which_nothing_is_known_add_nothing(run: tuple[Any, System]) -> None:
    context, system = run
    table = context.films.table("test")
    table |= {"sex": np.full(N, ""), "age": np.full(N, np.nan)}
    out: dict[str, Any] = {"tables": []}
    subgroups.add(out, context, [system], exclusive=True)
    assert out == {"tables": []}
