"""Wilson's closed form, and the bootstrap against the normal theory."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from cxrjax.errors import UserError
from cxrjax.metrics import bootstrap, entries
from cxrjax.metrics.classification import auroc


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (606, 624), (3, 7)])
def test_wilson_closed_form(k, n):
    z = 1.959963984540054
    p = k / n
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert bootstrap.wilson(k, n) == pytest.approx((p, max(center - half, 0), min(center + half, 1)), abs=1e-9)


def test_wilson_known_value_and_edges():
    assert bootstrap.wilson(0, 10)[1:] == pytest.approx((0.0, 0.2775328), abs=1e-6)
    assert np.isnan(bootstrap.wilson(0, 0)).all()
    with pytest.raises(UserError, match="11 successes of 10"):
        bootstrap.wilson(11, 10)


def test_interval_of_a_mean_is_close_to_the_normal_theory():
    x = np.random.default_rng(0).normal(2.0, 3.0, 400)
    value, low, high = bootstrap.interval(np.mean, (x,), draws=2000)
    half = 1.96 * x.std(ddof=1) / 20
    assert value == x.mean()
    assert low == pytest.approx(value - half, abs=0.12 * half)
    assert high == pytest.approx(value + half, abs=0.12 * half)
    assert bootstrap.interval(np.mean, (x,), draws=50, seed=3) == bootstrap.interval(np.mean, (x,), draws=50, seed=3)
    assert bootstrap.interval(np.mean, (x,), draws=50, seed=3) != bootstrap.interval(np.mean, (x,), draws=50, seed=4)


def test_patients_with_like_films_widen_the_interval():
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(40), 10)
    x = rng.normal(0, 1, 40)[patients] + rng.normal(0, 0.1, 400)
    shuffled = rng.permutation(400)  # films of a patient need not lie together
    x, patients = x[shuffled], patients[shuffled]

    def width(found):
        return found.high - found.low

    alone, together = bootstrap.interval(np.mean, (x,)), bootstrap.interval(np.mean, (x,), patients)
    assert 2.2 < width(together) / width(alone) < 4.5  # sqrt(10) in theory
    zero = np.zeros(400)
    paired = bootstrap.paired_difference(x, zero, patients)
    assert width(paired) == pytest.approx(width(together), rel=0.1)
    assert width(bootstrap.paired_difference(x, zero)) == pytest.approx(width(alone), rel=0.1)


def test_rows_stay_together_and_lost_classes_are_left_out():
    labels = np.r_[np.ones(2), np.zeros(10)]
    found = bootstrap.interval(auroc, (labels, labels), draws=200)  # some resamples hold no positive
    assert found == (1.0, 1.0, 1.0)
    assert np.isnan(bootstrap.interval(auroc, (np.zeros(9), np.zeros(9)), draws=20)).all()


def _sample(rng, prevalence, distance):
    """120 patients of one to four films, alike within a patient in label and score."""
    patient = np.repeat(np.arange(120), rng.integers(1, 5, 120))
    ill, score = (rng.normal(size=(2, 120))[:, patient] + rng.normal(size=(2, len(patient)))) / np.sqrt(2)
    label = (ill > stats.norm.ppf(1 - prevalence)).astype(float)
    return label, score + distance * label, patient


@pytest.mark.parametrize(("prevalence", "distance"), [(0.3, 1.2), (0.1, 1.2), (0.3, 2.2)])
def test_the_patient_bootstrap_of_an_auroc_covers_the_truth_at_120_patients(prevalence, distance):
    truth, rng = stats.norm.cdf(distance / np.sqrt(2)), np.random.default_rng(0)
    below, above, samples = 0, 0, 600
    for i in range(samples):
        label, score, patient = _sample(rng, prevalence, distance)
        drawn = bootstrap.auroc_draws(label[:, None], score[:, None], patient, draws=200, seed=i)[:, 0]
        value, low, high = bootstrap.area(auroc(label, score), drawn)
        assert low < value < high
        below, above = below + (truth < low), above + (truth > high)
    assert 1 - (below + above) / samples >= 0.93
    assert max(below, above) / samples <= 0.045  # and it misses on either side, not on one


def test_an_area_without_spread_or_draws_has_no_interval_to_show():
    assert bootstrap.area(1.0, np.ones(9)) == (1.0, 1.0, 1.0)
    assert np.isnan(bootstrap.area(0.7, np.full(9, np.nan))[1:]).all()
    value, low, high = bootstrap.area(0.99, np.array([np.nan, 0.97, 1.0, 0.99, 1.0]))
    assert 0 < low < value < high < 1


def test_pairing_removes_what_the_films_share():
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 10, 200)
    a, b = shared + 0.5 + rng.normal(0, 0.1, 200), shared + rng.normal(0, 0.1, 200)
    a[3] = np.nan
    value, low, high = bootstrap.paired_difference(a, b)
    assert value == pytest.approx(np.nanmean(a - b))
    assert 0.4 < low < 0.5 < high < 0.6
    assert bootstrap.paired_difference(b, b) == (0.0, 0.0, 0.0)


def test_one_patient_has_no_interval():
    value, low, high = bootstrap.interval(np.mean, (np.arange(4.0),), groups=["p"] * 4)
    assert value == 1.5
    assert np.isnan([low, high]).all()
    with pytest.raises(UserError, match="one length"):
        bootstrap.interval(np.mean, (np.arange(4.0),), groups=["p"] * 3)


def test_leaf_survives_json():
    leaf = entries.entry(np.float64(0.5), float("nan"), np.inf, np.int64(7), "dB")
    assert json.loads(json.dumps(leaf, allow_nan=False)) == {
        "value": 0.5,
        "low": None,
        "high": None,
        "n": 7,
        "unit": "dB",
    }
