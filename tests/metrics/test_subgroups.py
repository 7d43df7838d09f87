"""Figures by group: the library's on that group's films alone, gaps paired where patients are in both groups."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from cxrjax.metrics import classification, shift, subgroups

CLASSES = ("Normal", "Pneumonia")


def said(rng: np.random.Generator, n: int, move: np.ndarray | float = 0.0) -> shift.Said:
    label = np.arange(n) % 2
    z = np.stack([np.zeros(n), 2.0 * (label - 0.5) + move + rng.normal(size=n)], axis=1)[None]
    return shift.Said(np.eye(2)[label], special.softmax(z, axis=2), z, np.arange(n).astype(str))


def at(frame: shift.Frame) -> shift.Point:
    return shift.Point(np.full(1 if frame.exclusive else len(frame.shared), 0.4), None)


def test_bands_begin_where_they_say_and_an_unknown_age_has_none() -> None:
    found = subgroups.bands(np.array([0, 17.9, 18, 39, 40, 79, 80, 95, np.nan]))
    expected = ["0-17"] * 2 + ["18-39"] * 2 + ["40-59", "60-79"] + ["80 and over"] * 2 + [""]
    assert found.tolist() == expected


def test_a_groups_figures_are_those_of_its_films_alone() -> None:
    one = said(np.random.default_rng(0), 90)
    sex = np.array(["F", "M", "M"] * 30)
    found = subgroups.score(one, at, CLASSES, True, {"sex": sex}, draws=50)["sex"]
    for group in ("F", "M"):
        mine = sex == group
        truth, p = one.label[mine, 1], one.probability[0, mine, 1]
        entry = found["groups"][group]
        assert entry["auroc"]["value"] == pytest.approx(classification.auroc(truth, p))
        assert entry["tpr"]["value"] == pytest.approx((p >= 0.4)[truth == 1].mean())
        assert entry["fpr"]["value"] == pytest.approx((p >= 0.4)[truth == 0].mean())
        assert entry["auroc"]["n"] == mine.sum()
    gap = found["gaps"]["tpr"]
    high, low = (found["groups"][name]["tpr"]["value"] for name in gap["between"])
    assert gap["value"] == pytest.approx(high - low)
    assert high >= low


def test_a_gap_that_is_there_is_told_beyond_its_interval_and_one_of_the_same_films_is_nothing() -> None:
    rng = np.random.default_rng(1)
    view = np.array(["AP", "PA"] * 300).repeat(2)
    moved = said(rng, 1200, move=np.where(view == "AP", 2.0, 0.0))
    gap = subgroups.score(moved, at, CLASSES, True, {"view": view}, draws=200)["view"]["gaps"]["fpr"]
    assert gap["between"] == ["AP", "PA"]
    assert gap["low"] > 0.2
    # Each patient has the same film in both views: the paired gap has no width at all.
    half = said(rng, 200)
    twice = shift.Said(*(np.concatenate([a, a], axis=axis) for a, axis in zip(half, (0, 1, 1, 0), strict=True)))
    found = subgroups.score(twice, at, CLASSES, True, {"view": np.repeat(["AP", "PA"], 200)}, draws=50)
    assert [found["view"]["gaps"]["auroc"][end] for end in ("value", "low", "high")] == [0, 0, 0]


def test_small_groups_unknown_ones_and_lone_ones_have_no_figures() -> None:
    one = said(np.random.default_rng(2), 100)
    site = np.array(["a"] * 50 + ["b"] * 40 + ["c"] * 6 + [""] * 4)
    found = subgroups.score(one, at, CLASSES, True, {"site": site, "sex": np.full(100, "F")}, draws=20)
    assert found.keys() == {"site"}
    assert found["site"]["groups"].keys() == {"a", "b"}


def test_findings_are_averaged_over_those_that_every_group_has_with_and_without() -> None:
    rng = np.random.default_rng(3)
    label = (rng.random((80, 2)) < 0.5).astype(float)
    sex = np.repeat(["F", "M"], 40)
    label[:40, 1] = 0  # no woman has the second
    logits = (2 * label + rng.normal(size=label.shape))[None]
    one = shift.Said(label, special.expit(logits), logits, np.arange(80).astype(str))
    found = subgroups.score(one, at, ("Mass", "Hernia"), False, {"sex": sex}, draws=20)["sex"]["groups"]
    assert found["M"]["auroc"]["value"] == pytest.approx(classification.auroc(label[40:, 0], logits[0, 40:, 0]))
