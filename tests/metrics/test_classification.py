"""AUROC against scikit-learn and by hand, DeLong against its definition and its promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from cxrjax.errors import UserError
from cxrjax.metrics import bootstrap, thresholds, triage, weighted
from cxrjax.metrics import classification as c


def binormal(rng: np.random.Generator, m: int, n: int, gap: float) -> tuple[np.ndarray, np.ndarray]:
    return np.r_[np.ones(m), np.zeros(n)], np.r_[rng.normal(gap, 1, m), rng.normal(0, 1, n)]


def test_auroc_equals_scikit_learn_with_ties_and_masked_labels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300).astype(float)
    scores = np.round(rng.normal(labels, 1.0), 1)  # many ties
    masked = labels.copy()
    masked[::7] = np.nan
    known = ~np.isnan(masked)
    assert c.auroc(masked, scores) == pytest.approx(sk.roc_auc_score(labels[known], scores[known]), abs=1e-12)
    assert c.average_precision(masked, scores) == pytest.approx(
        sk.average_precision_score(labels[known], scores[known]), abs=1e-12
    )


def test_auroc_counts_a_tie_as_half():
    # pairs (positive, negative): .8>.5, .8>.2, .5=.5 (half), .5>.2 -> 3.5 of 4
    assert c.auroc([1, 1, 0, 0], [0.8, 0.5, 0.5, 0.2]) == 3.5 / 4
    assert c.auroc([1, 1, 0, 0], [1.0, 1.0, 1.0, 1.0]) == 0.5


def test_a_column_of_one_class_is_left_out():
    labels = np.array([[1, 0, np.nan], [0, 0, np.nan], [1, 0, 1], [0, np.nan, np.nan]])
    scores = np.array([[0.9, 0.1, 0.2], [0.1, 0.2, 0.2], [0.8, 0.3, 0.4], [0.2, 0.9, 0.3]])
    per_class = c.auroc_per_class(labels, scores)
    assert per_class[0] == 1.0
    assert np.isnan(per_class[1:]).all()
    assert c.macro(per_class) == 1.0
    assert np.isnan(c.macro(per_class[1:]))
    assert np.isnan(c.average_precision([0, 0], [0.1, 0.2]))
    assert np.isnan(c.delong_interval([1, 1, 1], [0.1, 0.2, 0.3])).all()
    assert np.isnan(c.sensitivity_at_specificity([1, 1], [0.1, 0.2])).all()


def test_delong_equals_its_quadratic_definition():
    rng = np.random.default_rng(1)
    labels, a = binormal(rng, 23, 31, 1.0)
    a = np.round(a, 1)
    b = np.round(a + rng.normal(0, 0.7, a.size), 1)
    place = rng.permutation(labels.size)  # positives need not come first
    labels, a, b = labels[place], a[place], b[place]

    def components(scores):
        x, y = scores[labels == 1], scores[labels == 0]
        psi = (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])
        return psi.mean(), psi.mean(axis=1), psi.mean(axis=0)

    (area_a, v10_a, v01_a), (area_b, v10_b, v01_b) = components(a), components(b)
    area, variance = c.delong(labels, a)
    assert area == pytest.approx(area_a, abs=1e-12)
    assert variance == pytest.approx(v10_a.var(ddof=1) / 23 + v01_a.var(ddof=1) / 31, rel=1e-12)
    deviation = np.sqrt((v10_a - v10_b).var(ddof=1) / 23 + (v01_a - v01_b).var(ddof=1) / 31)
    difference = c.delong_difference(labels, a, b)
    assert difference.value == pytest.approx(area_a - area_b, abs=1e-12)
    assert difference.high - difference.value == pytest.approx(1.959963985 * deviation, rel=1e-8)
    assert difference.p == pytest.approx(2 * stats.norm.sf(abs(area_a - area_b) / deviation), rel=1e-9)


def test_delong_covers_the_truth_at_its_stated_rate():
    rng = np.random.default_rng(2)
    truth = stats.norm.cdf(1.0 / np.sqrt(2.0))
    inside = 0
    for _ in range(400):
        _, low, high = c.delong_interval(*binormal(rng, 60, 80, 1.0), level=0.9)
        inside += low <= truth <= high
    assert 0.85 < inside / 400 < 0.95  # 0.9 +- 3.3 standard errors


def test_delong_covers_the_truth_where_few_films_are_ill():
    rng, truth = np.random.default_rng(5), stats.norm.cdf(2.2 / np.sqrt(2.0))
    found = np.array([c.delong_interval(*binormal(rng, 30, 90, 2.2)) for _ in range(600)])
    assert np.mean((found[:, 1] <= truth) & (truth <= found[:, 2])) >= 0.93
    assert ((found >= 0) & (found <= 1)).all()


def test_difference_of_a_model_with_itself_is_nothing():
    labels, scores = binormal(np.random.default_rng(3), 20, 20, 1.0)
    assert c.delong_difference(labels, scores, 2 * scores + 1) == (0.0, 0.0, 0.0, 1.0)
    flipped = c.delong_difference(labels, scores, -scores)
    assert flipped.value == pytest.approx(2 * c.auroc(labels, scores) - 1)
    assert flipped.p < 0.05


def test_confusion_and_the_accuracies_drawn_from_it():
    labels, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    counts = c.confusion(labels, predicted, 4)
    np.testing.assert_array_equal(counts, [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    assert c.accuracy(labels, predicted) == pytest.approx(np.trace(counts) / 6)
    assert c.balanced_accuracy(labels, predicted) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    with pytest.raises(UserError, match="expected 0 to 1"):
        c.confusion(labels, predicted, 2)


def test_brier_of_certainty_and_of_doubt():
    assert c.brier([1, 0, np.nan], [1.0, 0.0, 0.3]) == 0.0
    assert c.brier([[1, 0], [np.nan, 1]], [[0.5, 0.5], [0.9, 0.5]]) == 0.25
    with pytest.raises(UserError, match="outside"):
        c.brier([1, 0], [3.2, -1.0])


def test_sensitivity_at_specificity_keeps_its_promise():
    labels, scores = binormal(np.random.default_rng(4), 500, 400, 1.5)
    sensitivity, threshold = c.sensitivity_at_specificity(labels, scores, 0.9)
    assert np.mean(scores[labels == 0] < threshold) >= 0.9
    assert sensitivity == pytest.approx(np.mean(scores[labels == 1] >= threshold))
    lower = scores[scores < threshold].max()  # the next threshold down finds no more, or breaks the promise
    assert np.mean(scores[labels == 0] < lower) < 0.9 or lower in scores[labels == 0]
    assert sensitivity == pytest.approx(stats.norm.sf(stats.norm.ppf(0.9) - 1.5), abs=0.08)
    assert c.sensitivity_at_specificity([1, 1, 0], [0.1, 0.2, 0.3], 1.0) == (0.0, np.inf)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 0], [0.1], "one length"),
        ([1, -1], [0.1, 0.2], "none of 1, 0, NaN"),
        ([1, 0], [0.1, np.nan], "1 scores are NaN or infinite"),
        ([1, 0], [np.inf, -np.inf], "2 scores are NaN or infinite"),
    ],
)
def test_bad_input_is_told(labels, scores, message):
    with pytest.raises(UserError, match=message):
        c.auroc(labels, scores)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "figure",
    [c.auroc, c.average_precision, c.brier, c.delong, c.sensitivity_at_specificity, triage.threshold, thresholds.f1,
     thresholds.best_f1_threshold, c.accuracy, c.balanced_accuracy, lambda y, p: c.confusion(y, p, 2),
     lambda y, p: weighted.curve(y, p, np.ones((4, 1))), lambda y, p: bootstrap.auroc_draws(y[:, None], p[:, None])],
)  # fmt: skip
def test_scores_that_are_not_finite_are_told(figure, value):
    with pytest.raises(UserError, match="NaN or infinite; look for a diverged run"):
        figure(np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, value, 1.0, 0.0]))
