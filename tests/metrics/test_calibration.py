"""The calibration error of probabilities that are true, too sure or certain, and the temperature that mends them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from cxrjax.errors import UserError
from cxrjax.metrics import calibration


def simulated(seed: int, n: int = 20000, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and one-hot labels drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, k))
    drawn = (special.softmax(logits, axis=1).cumsum(axis=1) < rng.uniform(size=(n, 1))).sum(axis=1)
    return logits, np.eye(k)[drawn]


@pytest.mark.parametrize("mass", [False, True])
def test_true_probabilities_have_next_to_no_error(mass):
    logits, label = simulated(0)
    stated, right = calibration.confidence(label, special.softmax(logits, axis=1))
    assert calibration.ece(stated, right, mass=mass) < 0.015
    sure, _ = calibration.confidence(label, special.softmax(3 * logits, axis=1))
    assert calibration.ece(sure, right, mass=mass) > 0.1


@pytest.mark.parametrize("mass", [False, True])
def test_a_constant_confidence_errs_by_its_gap(mass):
    right = np.r_[np.ones(70), np.zeros(30)]
    assert calibration.ece(np.full(100, 0.95), right, mass=mass) == pytest.approx(0.25, abs=1e-12)
    assert calibration.ece(np.ones(100), right, mass=mass) == pytest.approx(0.3, abs=1e-12)
    assert calibration.ece(np.zeros(100), 0 * right, mass=mass) == 0.0


def test_the_table_counts_every_known_film_once():
    rng = np.random.default_rng(1)
    stated, right = rng.uniform(size=(300, 2)), rng.integers(0, 2, (300, 2)).astype(float)
    right[::7, 0] = np.nan
    for mass in (False, True):
        rows = calibration.reliability(stated, right, bins=10, mass=mass)
        assert sum(row.count for row in rows) == (~np.isnan(right)).sum()
        assert all(row.low <= row.confidence <= row.high for row in rows)
        total = sum(row.accuracy * row.count for row in rows)
        assert total == pytest.approx(np.nansum(right))
    equal = calibration.reliability(stated[:, 1], right[:, 1], bins=10, mass=True)
    assert {row.count for row in equal} == {30}


def test_the_weighted_error_is_that_of_films_written_out():
    rng = np.random.default_rng(2)
    stated, right = rng.uniform(size=(80, 2)), rng.integers(0, 2, (80, 2)).astype(float)
    right[::7, 0] = np.nan
    weights = rng.integers(0, 3, (80, 3)).astype(float)
    found = calibration.ece_of(*calibration.ece_parts(stated, right), weights)
    for d in range(3):
        rows = np.repeat(np.arange(80), weights[:, d].astype(int))
        assert found[d] == pytest.approx(calibration.ece(stated[rows], right[rows]), abs=1e-12)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_temperature_grows_with_the_scale_of_the_logits(kind):
    logits, label = simulated(3, 4000)
    if kind == "sigmoid":
        label = (np.random.default_rng(4).uniform(size=logits.shape) < special.expit(logits)).astype(float)
    label[::50] = np.nan
    base = calibration.temperature(label, logits, kind)
    assert base == pytest.approx(1.0, abs=0.05)  # drawn from these very logits
    for c in (0.3, 2.0, 5.0):
        assert calibration.temperature(label, c * logits, kind) == pytest.approx(c * base, rel=1e-9)


def test_no_other_temperature_is_likelier():
    logits, label = simulated(5, 500)
    logits = 2.5 * logits
    best = calibration.temperature(label, logits, "softmax")

    def loss(t: float) -> float:
        return -float(np.sum(label * special.log_softmax(logits / t, axis=1)))

    assert loss(best) < min(loss(0.99 * best), loss(1.01 * best))


def test_what_has_no_best_temperature_stops_at_the_limits():
    label = np.eye(2)[[0, 1] * 5]
    assert calibration.temperature(label, label, "softmax") == calibration.LIMITS[0]
    assert calibration.temperature(label, -label, "softmax") == calibration.LIMITS[1]
    assert np.isnan(calibration.temperature(np.full((3, 2), np.nan), np.zeros((3, 2)), "sigmoid"))
    assert np.isnan(calibration.ece([0.5], [np.nan]))


def test_bad_input_is_told():
    with pytest.raises(UserError, match="one shape"):
        calibration.ece([0.5, 0.5], [1])
    with pytest.raises(UserError, match="outside"):
        calibration.ece([1.5], [1])
    with pytest.raises(UserError, match="not finite"):
        calibration.temperature([[1, 0]], [[np.inf, 0]], "softmax")
