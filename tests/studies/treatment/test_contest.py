"""Who is said to be ahead in what: paired differences to the best guided arm of ours, and intervals off 0 alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cxrjax.metrics import entries
from cxrjax.studies.treatment import contest, measures, ranking

ARMS = ("uniform", "gated", "gated_wide", "thor", "wolleb", "identity")
TOLD = {name: {"guided": name.startswith("gated"), "rival": not name.startswith(("gated", "uniform"))} for name in ARMS}


def leaf(value: float, half: float = 0.01) -> dict[str, Any]:
    return entries.entry(value, value - half, value + half, n=30)


def arm(change: float, against: dict[str, float]) -> dict[str, Any]:
    """An arm at a rate, with its differences to the best of ours by measure."""
    found: dict[str, Any] = {"mae": {"outside": {"value": leaf(change)}}}
    for key, gap in against.items():
        measure, where = key.split(".")
        found.setdefault(measure, {}).setdefault(where, {"value": leaf(0.5)})["minus_best"] = leaf(gap)
    return found


def results(at: dict[str, Any]) -> dict[str, Any]:
    rates = {"100": {"normal_rate": {"judge": leaf(0.6)}}}
    return {"arms": TOLD, "progress": dict.fromkeys(ARMS, rates), "equal_rate": {"judge": {"0.5": at}}}


OUT = results({
    "gated": arm(0.02, {}),
    "gated_wide": arm(0.03, {"mae.outside": 0.01, "reidentified.first": 0.005}),
    "uniform": arm(0.08, {"mae.outside": 0.06, "reidentified.first": -0.2}),
    "thor": arm(0.01, {"mae.outside": -0.02, "reidentified.first": 0.1}),
    "wolleb": arm(0.02, {"mae.outside": 0.005, "reidentified.first": -0.1}),
})  # fmt: skip


def test_each_rival_stands_on_the_side_that_its_interval_says():
    said = contest._words(OUT, ARMS, "judge", 0.5)
    assert "At normal rate 0.5, gated, which" in said
    assert "in change outside the mask ahead of uniform, behind thor, not told apart from wolleb;" in said
    assert "in re-identification ahead of wolleb and uniform, behind thor." in said  # there, more is better
    assert said.endswith("identity does not come to the rate.")
    assert "gated_wide" not in said  # ours


def test_measures_of_one_verdict_are_told_together():
    out = results({"gated": arm(0.02, {}), "thor": arm(0.1, {"mae.outside": 0.08, "twin_error.inside": 0.05})})
    said = contest._words(out, ARMS, "judge", 0.5)
    assert "off 0: in change outside the mask and error to the twin in the lesion ahead of thor." in said


def test_an_interval_that_touches_0_or_is_missing_tells_nothing():
    assert [contest._lead(gap, False) for gap in (leaf(0.01), leaf(-0.01), leaf(0.02), leaf(-0.02))] == [0, 0, 1, -1]
    assert contest._lead(leaf(0.02) | {"low": None, "high": None}, False) == 0
    assert contest._lead(leaf(0.02), True) == -1


def test_the_table_has_the_words_and_every_arm_that_arrives_and_no_column_that_nobody_has():
    (table,) = contest.tables(OUT, ARMS, "judge", (0.5, 0.8))
    assert table["title"] == "Who is ahead at normal rate 0.5"
    assert table["note"].startswith("At normal rate 0.5, gated, which of our guided arms changes least")
    assert table["columns"] == [
        "whose",
        "change outside the mask, paired, less is better",
        "re-identification, paired, more is better",
    ]
    rows = {row["name"]: row["cells"] for row in table["rows"]}
    assert list(rows) == ["thor", "wolleb", "gated_wide", "uniform"]
    assert rows["thor"] == ["rival", leaf(-0.02), leaf(0.1)]
    assert rows["gated_wide"][0] == "ours"


def test_that_none_of_ours_arrives_is_said():
    (table,) = contest.tables(results({"thor": arm(0.01, {}), "uniform": arm(0.08, {})}), ARMS, "judge", (0.5,))
    said = table["note"]
    assert said.startswith("At normal rate 0.5 no guided arm of ours arrives; of the others thor and uniform do.")
    assert said.endswith("wolleb and identity do not come to the rate.")
    assert [row["name"] for row in table["rows"]] == ["thor", "uniform"]
    assert contest.tables(results({}), ARMS, "judge", (0.5,)) == []
    assert contest._words(OUT, ("uniform", "gated"), "judge", 0.5) == ""  # no rival was run


def test_the_best_is_the_first_in_the_ranking_of_the_guided_arms_that_arrive():
    assert ranking.best(OUT, ranking.guided(OUT, ARMS), "judge", "0.5") == "gated"
    assert ranking.best(OUT, ("gated_wide", "lost"), "judge", "0.5") == "gated_wide"
    assert ranking.best(OUT, ("lost",), "judge", "0.5") == ""


def test_the_difference_to_the_best_is_paired_at_equal_rate():
    n, rng = 40, np.random.default_rng(0)
    normal = np.stack([np.zeros(n), (np.arange(n) < 30).astype(float)])
    error = np.stack([np.zeros(n), rng.uniform(0.1, 0.3, n)])
    found = measures.equal_rate(
        dict.fromkeys(("ours", "theirs"), normal), {"ours": error, "theirs": error + np.array([[0.0], [0.2]])}, 0.5,
        "gray level", best="ours",
    )  # fmt: skip
    assert found["theirs"]["minus_best"]["value"] == pytest.approx(0.2 * 0.5 / 0.75)
    assert found["theirs"]["minus_best"]["low"] > 0
    assert "minus_best" not in found["ours"]
