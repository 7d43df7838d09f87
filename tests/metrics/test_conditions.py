"""Figures under conditions: those of `scoring` and scikit-learn on these films, means of them, paired differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sk

from cxrjax.metrics import calibration, conditions, scoring, thresholds

PATIENTS = np.arange(240) // 2


def films(exclusive: bool, seed: int = 0, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Labels and logits, (240, k) each."""
    rng = np.random.default_rng(seed)
    label = np.eye(k)[rng.integers(0, k, 240)] if exclusive else (rng.random((240, k)) < 0.3).astype(float)
    return label, rng.normal(1.5 * label - 1, 1)


def stated(logits: np.ndarray, exclusive: bool) -> np.ndarray:
    return special.softmax(logits, axis=1) if exclusive else special.expit(logits)


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_conditions_figures_are_those_of_the_whole_table(exclusive):
    label, logits = films(exclusive)
    other = films(exclusive, seed=1)
    p = [stated(logits, exclusive), stated(0.3 * logits, exclusive)]
    found = conditions.figures(label, p, PATIENTS, exclusive=exclusive, validation=other, draws=200)
    score = scoring.exclusive if exclusive else scoring.multilabel
    table = score(label, p[0], PATIENTS, ("a", "b", "c"), validation=other, logits=logits, draws=200)
    first = found.at(0)
    assert list(first) == ["auroc", "accuracy" if exclusive else "f1", "ece"]
    for ours, theirs in (("auroc", "auroc"), (list(first)[1], list(first)[1]), ("ece", "ece_after_temperature")):
        assert list(first[ours].values())[:3] == pytest.approx(list(table[theirs].values())[:3], rel=1e-9)
        assert (first[ours]["n"], first[ours]["unit"]) == (240, table[theirs]["unit"])


def test_the_mean_over_conditions_and_the_drop_from_the_first_are_of_the_same_resamples():
    label, logits = films(True)
    rng = np.random.default_rng(2)
    p = [stated(logits + s * rng.normal(size=logits.shape), True) for s in (0, 1, 3)]
    found = conditions.figures(label, p, PATIENTS, exclusive=True, draws=300)
    area = [sk.roc_auc_score(label, q, multi_class="ovr") for q in p]
    right = [float((label.argmax(1) == q.argmax(1)).mean()) for q in p]
    mean, drop = found.at(slice(1, None)), found.difference(slice(1, None), found, 0)
    assert mean["auroc"]["value"] == pytest.approx((area[1] + area[2]) / 2)
    assert mean["accuracy"]["value"] == pytest.approx((right[1] + right[2]) / 2)
    assert drop["auroc"]["value"] == pytest.approx((area[1] + area[2]) / 2 - area[0])
    assert drop["auroc"]["low"] < drop["auroc"]["value"] < drop["auroc"]["high"] < 0
    # Paired: narrower than of two models that meet resamples of their own.
    alone = conditions.figures(label, p, PATIENTS, exclusive=True, draws=300, seed=1).difference(2, found, 2)["auroc"]
    assert alone["high"] - alone["low"] > 0
    same = found.difference(2, found, 2)["auroc"]
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)


def test_ece_is_taken_at_the_temperature_of_other_films_and_thresholds_are_theirs():
    label, logits = films(False)
    sure = stated(5 * logits, False)
    other_label, other = films(False, seed=1)
    t = calibration.temperature(other_label, 5 * other, "sigmoid")
    found = conditions.figures(label, [sure], PATIENTS, exclusive=False, validation=(other_label, 5 * other), draws=20)
    assert found.at(0)["ece"]["value"] == pytest.approx(calibration.ece(special.expit(5 * logits / t), label), abs=1e-6)
    assert found.at(0)["ece"]["value"] < calibration.ece(sure, label)
    cut = [thresholds.best_f1_threshold(other_label[:, c], special.expit(5 * other[:, c])) for c in range(3)]
    f1 = np.mean([sk.f1_score(label[:, c], sure[:, c] >= cut[c]) for c in range(3)])
    assert found.at(0)["f1"]["value"] == pytest.approx(f1)


@pytest.mark.parametrize("validated", [True, False])
def test_of_two_classes_the_second_is_called_at_a_threshold_of_other_films(validated):
    label, logits = films(True, k=2)
    other_label, other = films(True, seed=1, k=2)
    toward = np.array([0, 2])  # so that the likeliest class is nearly always the second
    shifted = logits + toward
    p, seen = stated(shifted, True), (other_label, other + toward)
    found = conditions.figures(
        label, [p, stated(logits, True)], PATIENTS, exclusive=True, validation=seen if validated else None, draws=20
    )
    measure = "accuracy_at_threshold"
    at, away = found.at(0)[measure]["value"], found.at(1)[measure]["value"]
    if validated:
        cut = thresholds.best_balanced_threshold(other_label[:, 1], stated(seen[1], True)[:, 1])
        assert at == pytest.approx(((p[:, 1] >= cut) == (label[:, 1] == 1)).mean())
    assert max(away, (p.argmax(axis=1) == label.argmax(axis=1)).mean()) < at  # chosen on the first alone


def test_what_no_film_defines_has_no_figure():
    label, logits = films(False)
    label[:, 0] = 0
    p = stated(logits, False)
    found = conditions.figures(label, [p], PATIENTS, exclusive=False, draws=20).at(0)
    assert found["auroc"]["value"] == pytest.approx(np.mean([sk.roc_auc_score(label[:, c], p[:, c]) for c in (1, 2)]))
    none = conditions.figures(np.zeros_like(label), [p], PATIENTS, exclusive=False, draws=20).at(0)
    assert none["auroc"]["value"] is None
    assert none["f1"]["value"] is None
    perfect = conditions.figures(
        np.eye(3)[[0, 1, 2] * 80], [np.eye(3)[[0, 1, 2] * 80]], PATIENTS, exclusive=True, draws=20
    )
    assert perfect.at(0)["accuracy"] == {"value": 1.0, "low": None, "high": None, "n": 240, "unit": "fraction"}
