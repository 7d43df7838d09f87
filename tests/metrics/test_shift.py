"""Drops from one set of films to another: closed forms, coverage, pairing, and thresholds that stay where they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from cxrjax.metrics import classification, shift, thresholds

CLASSES = ("Normal", "Pneumonia")


def said(label: np.ndarray, *scores: np.ndarray, patients: np.ndarray | None = None) -> shift.Said:
    """Two exclusive classes; `scores` are logits of the second, of each network."""
    z = np.stack([np.stack([np.zeros_like(score), score], axis=1) for score in scores])
    names = np.arange(len(label)).astype(str) if patients is None else patients
    return shift.Said(np.eye(2)[label], special.softmax(z, axis=2), z, names)


def drawn(rng: np.random.Generator, n: int, apart: float, move: float = 0.0) -> shift.Said:
    label = (np.arange(n) % 2).astype(int)
    return said(label, apart * (label - 0.5) + move + rng.normal(size=n))


def frame(a: shift.Said, b: shift.Said) -> shift.Frame:
    return shift.frame(CLASSES, a.label, b.label, True)


AT_HALF = shift.Point(np.array([0.5]), None)


def drop(inside: shift.Said, outside: shift.Said, draws: int = 400) -> shift.Scored:
    each = [
        shift.score(frame(inside, outside), one, AT_HALF, seed, draws) for seed, one in enumerate((inside, outside))
    ]
    return shift.minus(*each)


def test_figures_are_those_of_the_library_at_the_point_that_was_chosen_elsewhere():
    rng = np.random.default_rng(0)
    one = drawn(rng, 80, 1.5)
    at = shift.Point(np.array([0.3]), 2.0)
    values = shift.score(frame(one, one), one, at, 0, 2).values
    truth, probability = one.label[:, 1], one.probability[0, :, 1]
    called = probability >= 0.3
    assert values["auroc"] == pytest.approx(classification.auroc(truth, probability))
    assert values["sensitivity"] == pytest.approx(called[truth == 1].mean())
    assert values["specificity"] == pytest.approx((~called)[truth == 0].mean())
    assert values["accuracy_at_threshold"] == pytest.approx((called == truth).mean())
    assert values["accuracy"] == pytest.approx(((probability >= 0.5) == truth).mean())
    assert values["ece"] != pytest.approx(values["ece_after_temperature"])


def test_the_drops_interval_is_that_of_two_independent_samples():
    """Of accuracy the normal interval of two shares; of AUROC DeLong's two variances added."""
    rng = np.random.default_rng(1)
    inside, outside = drawn(rng, 400, 2.0), drawn(rng, 200, 1.0)
    entry = shift.difference(drop(inside, outside, 1500))
    shares = [(one.probability[0].argmax(1) == one.label.argmax(1)).mean() for one in (inside, outside)]
    half = 1.96 * np.sqrt(sum(p * (1 - p) / n for p, n in zip(shares, (400, 200), strict=True)))
    assert entry["accuracy"]["value"] == pytest.approx(shares[0] - shares[1])
    assert (entry["accuracy"]["high"] - entry["accuracy"]["low"]) / 2 == pytest.approx(half, rel=0.1)
    areas = [classification.delong(one.label[:, 1], one.probability[0, :, 1]) for one in (inside, outside)]
    half = 1.96 * np.sqrt(areas[0][1] + areas[1][1])
    assert entry["auroc"]["value"] == pytest.approx(areas[0][0] - areas[1][0])
    assert (entry["auroc"]["high"] - entry["auroc"]["low"]) / 2 == pytest.approx(half, rel=0.1)


def test_the_interval_holds_the_true_drop_at_its_rate():
    rng = np.random.default_rng(2)
    true = {"auroc": stats.norm.cdf(2.0 / np.sqrt(2)) - stats.norm.cdf(1.0 / np.sqrt(2)),
            "sensitivity": stats.norm.cdf(1.0) - stats.norm.cdf(0.5 - 0.7)}  # fmt: skip
    held = dict.fromkeys(true, 0)
    for _ in range(100):
        found = shift.difference(drop(drawn(rng, 150, 2.0), drawn(rng, 80, 1.0, move=-0.7), 120))
        for name, value in true.items():
            held[name] += found[name]["low"] <= value <= found[name]["high"]
    assert all(0.87 <= count / 100 <= 0.99 for count in held.values()), held


def test_a_threshold_and_a_temperature_are_not_chosen_outside():
    """Scores that move as a whole keep their ranks: what a threshold of inside finds there is another share."""
    rng = np.random.default_rng(3)
    label = np.tile([0, 1], 300)
    z = 3.0 * (label - 0.5) + rng.normal(size=600)
    inside, outside = said(label, z), said(label, z - 2.0)
    both = frame(inside, outside)
    point = shift.choose(both, inside.label, inside.probability[0], inside.logits[0])
    here, there = (shift.score(both, one, point, 0, 2).values for one in (inside, outside))
    assert there["auroc"] == here["auroc"]
    cut = special.logit(point.cut[0])
    assert there["sensitivity"] == pytest.approx((z[label == 1] - 2.0 >= cut).mean())
    assert there["specificity"] == pytest.approx((z[label == 0] - 2.0 < cut).mean())
    assert there["sensitivity"] < here["sensitivity"] - 0.5
    assert there["ece_after_temperature"] > here["ece_after_temperature"] + 0.1
    anew = shift.choose(both, outside.label, outside.probability[0], outside.logits[0])
    assert shift.score(both, outside, anew, 0, 2).values["sensitivity"] == pytest.approx(here["sensitivity"])


def test_films_of_recalibration_give_back_what_the_move_took_and_are_not_scored():
    rng = np.random.default_rng(4)
    label = np.tile([0, 1], 100)
    z = 3.0 * (label - 0.5) + rng.normal(size=200)
    patients = np.repeat(np.arange(100), 2).astype(str)
    inside, outside = said(label, z), said(label, z - 3.0, patients=patients)
    both = frame(inside, outside)
    point = shift.choose(both, inside.label, inside.probability[0], inside.logits[0])
    few, many = (shift.recalibrated(both, outside, point, k, draws=60) for k in (9, 100))
    assert (few["films"]["value"], few["patients"]["value"]) == (10, 5)  # whole patients, of two films each
    assert many["before"]["balanced_accuracy"]["n"] == 100
    gains = [found["gain"]["balanced_accuracy"] for found in (few, many)]
    assert gains[0]["value"] < gains[1]["value"]
    assert gains[1]["low"] > 0.15
    assert many["after"]["balanced_accuracy"]["value"] > 0.88
    assert shift.recalibrated(both, outside, point, 101) == {}  # fewer would be left than chosen on


def test_drawn_films_of_one_class_leave_the_choice_of_inside():
    label = np.array([0] * 599 + [1])
    outside = said(label, np.linspace(-2, 2, 600))
    found = shift.recalibrated(frame(outside, outside), outside, shift.Point(np.array([0.4]), 3.0), 3, draws=10)
    for measure in ("ece_after_temperature", "accuracy_at_threshold"):
        assert found["before"][measure] == found["after"][measure]
        assert found["gain"][measure]["high"] == found["gain"][measure]["low"] == 0


def test_two_systems_meet_the_same_resamples_and_networks_are_scored_one_by_one():
    rng = np.random.default_rng(5)
    a = drawn(rng, 120, 1.5)
    z = a.logits[0, :, 1]
    b = said(a.label.argmax(1), z + 1e-9 * rng.normal(size=120))
    both = frame(a, a)
    each = [shift.score(both, one, AT_HALF, 1, 200) for one in (a, b)]
    gap = shift.difference(shift.minus(*each))["auroc"]
    assert abs(gap["low"]) < 0.01 > abs(gap["high"])  # unpaired it would be ten times as wide
    label = a.label.argmax(1)
    noise = rng.normal(size=120)
    two = shift.score(both, said(label, z + 2 * noise, z - 2 * noise), AT_HALF, 0, 2).values["auroc"]
    alone = [classification.auroc(label, z + sign * 2 * noise) for sign in (1, -1)]
    assert two == pytest.approx(np.mean(alone))
    assert two < classification.auroc(label, z) - 0.05  # which the mean of the two would reach


def test_findings_that_one_set_lacks_take_no_part():
    rng = np.random.default_rng(6)
    label = rng.integers(0, 2, (90, 3)).astype(float)
    there = label.copy()
    there[:, 1] = np.nan
    z = 2 * (label - 0.5) + rng.normal(size=label.shape)
    z[:, 1] = -z[:, 1]
    inside, outside = (shift.Said(each, special.expit(z)[None], z[None], np.arange(90)) for each in (label, there))
    both = shift.frame(("a", "b", "c"), inside.label, outside.label, False)
    assert both.shared == (0, 2)
    point = shift.choose(both, label, special.expit(z), z)
    assert point.cut.shape == (2,)
    values = shift.score(both, inside, point, 0, 2).values
    assert values["auroc"] == pytest.approx(np.mean([classification.auroc(label[:, c], z[:, c]) for c in (0, 2)]))
    assert "accuracy" not in values


def test_without_a_validation_part_a_films_threshold_is_of_other_patients():
    rng = np.random.default_rng(7)
    noise = said(np.tile([0, 1], 100), rng.normal(size=200))
    both = frame(noise, noise)
    own = shift.choose(both, noise.label, noise.probability[0], None)
    honest = shift.choose_folded(both, noise)
    flattered, fair = (shift.score(both, noise, at, 0, 2).values["balanced_accuracy"] for at in (own, honest))
    assert flattered > 0.53 > 0.52 > fair
    assert honest.cut.shape == (200, 1)


def test_the_balanced_threshold_is_halfway_and_of_the_greatest_sum():
    assert thresholds.best_balanced_threshold([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == pytest.approx(0.5)
    label, score = np.array([0, 0, 0, 1, 0, 1]), np.array([1.0, 2, 3, 4, 5, 6])
    assert thresholds.best_balanced_threshold(label, score) == 3.5  # 1 + 3/4; above 5 it is 1/2 + 1
    assert np.isnan(thresholds.best_balanced_threshold([1, 1], [0.1, 0.2]))
    assert thresholds.best_balanced_threshold([0, np.nan, 1], [0.2, 0.3, 0.4]) == pytest.approx(0.3)
