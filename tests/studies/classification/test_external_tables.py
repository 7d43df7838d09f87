"""What the words over films from elsewhere say is what the entries below them are."""

from __future__ import annotations

from typing import Any

from cxrjax.studies.classification import external_tables

TITLES = {"a": "A", "b": "B", "logreg32": "floor"}


def entry(value: float, half: float) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": 9, "unit": "1"}


def system(inside: float, outside: float, half: float) -> dict[str, Any]:
    sides = {"inside": inside, "outside": outside, "drop": inside - outside}
    return {side: {"auroc": entry(value, half)} for side, value in sides.items()}


def said(**systems: dict[str, Any]) -> str:
    for one in systems.values():
        one["minus_logreg32"] = {"outside": {"auroc": entry(one["outside"]["auroc"]["value"] - 0.6, 0.01)}}
    return external_tables.sentence(systems | {"logreg32": system(0.9, 0.6, 0.05)}, TITLES, "logreg32")


def test_the_sentence_counts_drops_beyond_their_interval_and_names_the_best():
    words = said(a=system(0.95, 0.9, 0.1), b=system(0.99, 0.7, 0.1))
    drops, best = words.split(". Outside ")
    assert drops.startswith("AUROC drops beyond its interval for 1 of 2 systems, by 0.050 (A) to 0.290 (B), ")
    assert drops.endswith(", for the floor by 0.300")
    assert best == "A ranks highest: AUROC 0.900 [0.800, 1.000], minus the floor +0.300 [+0.290, +0.310]."


def test_a_system_whose_ranks_are_turned_round_there_is_named():
    assert said(a=system(0.95, 0.4, 0.05), b=system(0.99, 0.45, 0.1)).endswith(
        "Worse than chance there, beyond the interval: A."
    )
    unmeasured = {"drop": {"auroc": {"value": None}}}
    assert external_tables.sentence({"a": unmeasured}, TITLES, "logreg32") == "No AUROC can be told on these films."
