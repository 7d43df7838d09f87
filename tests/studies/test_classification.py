"""The floor that learns from 32x32 films, the scores' leaves, and the paired comparison."""

from __future__ import annotations

import numpy as np
import pytest

from cxrjax.studies import floor
from cxrjax.studies.treatment import classifiers

LEAF = {"value", "low", "high", "n", "unit"}


def films(n: int, seed: int, contrast: float, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Noise, with a brighter square in every second film."""
    sick = np.arange(n) % 2
    image = np.random.default_rng(seed).uniform(0.2, 0.5, (n, size, size, 1)).astype(np.float32)
    image[sick == 1, size // 4 : size // 2, size // 4 : size // 2] += contrast
    return image, np.eye(2, dtype=np.float32)[sick]


@pytest.mark.parametrize("penalties", [(0.01,), (0.001, 0.1)])
def test_the_floor_learns_a_planted_difference(penalties):
    train, test = films(60, 0, 0.1), films(40, 1, 0.1)
    probability = floor.logreg32(floor.small(train[0]), train[1], floor.small(test[0]), seed=0, penalties=penalties)
    assert probability.shape == (40, 2)
    np.testing.assert_allclose(probability.sum(axis=1), 1.0, atol=1e-9)
    assert (probability.argmax(axis=1) == test[1].argmax(axis=1)).mean() > 0.9


def test_the_floor_finds_nothing_where_there_is_nothing():
    train, test = films(60, 0, 0.0), films(200, 1, 0.0)
    probability = floor.logreg32(floor.small(train[0]), train[1], floor.small(test[0]), seed=0)
    auroc = classifiers.score(test[1], probability, np.arange(200))["auroc"]
    assert auroc["low"] < 0.5 < auroc["high"]


@pytest.mark.parametrize("size", [32, 64, 80])
def test_small_films_are_area_means(size):
    image, _ = films(3, 0, 0.2, size)
    small = floor.small(image)
    assert small.shape == (3, 1024)
    np.testing.assert_allclose(small.mean(axis=1), image.mean(axis=(1, 2, 3)), atol=1e-4)
    np.testing.assert_allclose(floor.small(np.full_like(image, 0.3)), 0.3, atol=1e-6)
    if size == 64:
        blocks = image[..., 0].reshape(3, 32, 2, 32, 2).mean(axis=(2, 4)).reshape(3, -1)
        np.testing.assert_allclose(small, blocks, atol=1e-6)


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
