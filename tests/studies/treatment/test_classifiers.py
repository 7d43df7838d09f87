"""The scores of an exclusive classifier, and the paired comparison with the floor."""

from __future__ import annotations

import numpy as np
import pytest

from cxrjax.studies.treatment import classifiers

LEAF = {"value", "low", "high", "n", "unit"}


def test_score_of_right_and_of_reversed_probabilities():
    label = np.eye(2)[np.arange(20) % 2]
    good = classifiers.score(label, 0.2 + 0.6 * label, np.arange(20))
    assert set(good) == {"accuracy", "auroc"}
    assert all(set(leaf) == LEAF and leaf["n"] == 20 for leaf in good.values())
    assert (good["accuracy"]["value"], good["auroc"]["value"]) == (1, 1)
    bad = classifiers.score(label, 0.8 - 0.6 * label, np.arange(20))
    assert (bad["accuracy"]["value"], bad["auroc"]["value"]) == (0, 0)
    # The score is the column asked for: for an exclusive pair both columns tell the same.
    other = classifiers.score(label, 0.2 + 0.6 * label, np.arange(20), positive=0)
    assert other["auroc"]["value"] == 1


def test_films_of_one_patient_count_together():
    label = np.eye(2)[np.arange(40) % 2]
    patient = np.arange(40) // 10
    probability = np.where((patient < 3)[:, None], label, 1 - label)  # all ten films of the fourth are wrong
    alone = classifiers.score(label, probability, np.arange(40))["accuracy"]
    together = classifiers.score(label, probability, patient)["accuracy"]
    assert alone["value"] == together["value"] == 0.75
    assert together["high"] - together["low"] > 1.5 * (alone["high"] - alone["low"])


def test_comparison_with_itself_is_zero_and_turns_round():
    rng = np.random.default_rng(0)
    label = np.eye(2)[np.arange(60) % 2]
    sharp = np.clip(label * 0.4 + rng.uniform(0, 0.6, (60, 2)), 0, 1)
    dull = rng.uniform(0, 1, (60, 2))
    same = classifiers.compare(label, sharp, sharp, np.arange(len(label)))["auroc"]
    assert (same["value"], same["low"], same["high"]) == pytest.approx((0, 0, 0), abs=1e-9)
    assert set(same) == LEAF
    ahead, behind = (
        classifiers.compare(label, *pair, np.arange(len(label)))["auroc"] for pair in ((sharp, dull), (dull, sharp))
    )
    assert ahead["low"] > 0
    assert (behind["value"], behind["low"], behind["high"]) == pytest.approx(
        (-ahead["value"], -ahead["high"], -ahead["low"])
    )


def test_films_of_one_patient_widen_the_intervals():
    rng = np.random.default_rng(0)
    half = (rng.uniform(size=60) < 0.5).astype(int)
    probability = np.clip(0.5 + 0.25 * (half - 0.5) + 0.2 * rng.standard_normal(60), 0.01, 0.99)
    label = np.eye(2, dtype=np.float32)[np.repeat(half, 4)]
    four = np.repeat(np.stack([1 - probability, probability], 1), 4, axis=0)
    alone = classifiers.score(label, four, np.arange(240))
    grouped = classifiers.score(label, four, np.repeat(np.arange(60), 4))
    for measure in ("accuracy", "auroc"):
        assert alone[measure]["value"] == pytest.approx(grouped[measure]["value"])
        width = {k: v[measure]["high"] - v[measure]["low"] for k, v in (("a", alone), ("g", grouped))}
        assert width["g"] > 1.5 * width["a"]


def test_a_perfect_auroc_claims_no_interval():
    label = np.eye(2, dtype=np.float32)[[0, 1] * 10]
    auroc = classifiers.score(label, label * 0.8 + 0.1, np.arange(20))["auroc"]
    assert auroc["value"] == 1
    assert auroc["low"] is None
