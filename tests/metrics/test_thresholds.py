"""Precision, recall and F1 against scikit-learn, the printed figures of a paper, and the threshold that is best."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn import metrics as sk

from cxrjax.errors import UserError
from cxrjax.metrics import thresholds
from cxrjax.metrics.classification import confusion

ROWS, DIAGONAL, COLUMNS = (106, 234, 390, 41), (74, 101, 384, 41), (75, 113, 518, 65)


def matrices() -> list[np.ndarray]:
    """Matrices of those margins: off the diagonal, rows want 32, 133, 6, 0 and columns 1, 12, 134, 24."""
    rows, columns = np.subtract(ROWS, DIAGONAL), np.subtract(COLUMNS, DIAGONAL)
    found = []
    for a, b, c in itertools.product(range(13), range(25), (0, 1)):  # [0, 1], [0, 3], [1, 0]
        m = np.diag(DIAGONAL)
        m[0, 1], m[0, 3], m[1, 0] = a, b, c
        m[0, 2] = rows[0] - a - b
        m[1, 2] = columns[2] - m[0, 2]
        m[1, 3] = rows[1] - c - m[1, 2]
        m[2, 0], m[2, 1], m[2, 3] = columns[0] - c, columns[1] - a, columns[3] - b - m[1, 3]
        if (m >= 0).all() and (m.sum(axis=1) == ROWS).all() and (m.sum(axis=0) == COLUMNS).all():
            found.append(m)
    return found


def test_margins_alone_give_the_printed_figures_of_the_four_classes():
    found = matrices()
    assert len(found) > 20
    for m in found:
        scores = thresholds.macro(thresholds.from_confusion(m))
        assert abs(np.trace(m) / m.sum() - 0.7782101167315175) <= 1e-15
        assert abs(scores.precision - 0.813138487120788) <= 1e-15
        assert abs(scores.recall - 0.7785881309466215) <= 1e-15
        assert abs(scores.f1 - 0.7548030016216235) <= 1e-15


def test_exclusive_figures_equal_scikit_learns():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, (2, 200))
    predicted[predicted == 3] = 0  # a class that is there and never called
    found = thresholds.scores(thresholds.from_confusion(confusion(truth, predicted, 4)))
    expected = sk.precision_recall_fscore_support(truth, predicted, zero_division=0)
    for mine, theirs in zip(found, expected[:3], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
    assert found.precision[3] == found.f1[3] == 0


def test_findings_equal_scikit_learns_column_by_column_and_together():
    rng = np.random.default_rng(1)
    labels, predicted = rng.integers(0, 2, (2, 150, 3))
    counts = thresholds.counts(labels, predicted)
    for average, found in (("macro", thresholds.macro(counts)), ("micro", thresholds.micro(counts))):
        expected = sk.precision_recall_fscore_support(labels, predicted, average=average)[:3]
        np.testing.assert_allclose(found, expected, atol=1e-12)
    weights = rng.integers(0, 3, (150, 2)).astype(float)
    for d in range(2):
        rows = np.repeat(np.arange(150), weights[:, d].astype(int))
        expected = thresholds.counts(labels[rows], predicted[rows])
        np.testing.assert_array_equal(np.stack(thresholds.counts(labels, predicted, weights))[:, d], expected)


def test_a_finding_without_films_is_left_out_and_unknowns_take_no_part():
    labels = np.array([[1, 0, np.nan], [0, 0, 1], [1, 0, 0], [np.nan, 0, 0]])
    predicted = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0], [1, 0, 0]])
    counts = thresholds.counts(labels, predicted)
    each = thresholds.scores(counts)
    np.testing.assert_allclose(np.stack(each)[:, [0, 2]], [[0.5, 1], [0.5, 1], [0.5, 1]])
    assert np.isnan(np.stack(each)[:, 1]).all()
    assert thresholds.macro(counts).f1 == 0.75
    assert thresholds.micro(counts).precision == pytest.approx(2 / 3)  # the second finding's false call is not in it
    assert np.isnan(thresholds.macro(thresholds.counts(labels[:, 1:2], predicted[:, 1:2])).f1)


@pytest.mark.parametrize("seed", range(6))
def test_no_threshold_has_a_greater_f1(seed):
    rng = np.random.default_rng(seed)
    labels = (rng.uniform(size=60) < 0.3).astype(float)
    scores = np.round(rng.normal(labels, 1.0), 1)
    labels[::11] = np.nan
    best = thresholds.best_f1_threshold(labels, scores)
    found = thresholds.f1(labels, scores, best)
    known = ~np.isnan(labels)
    assert found == pytest.approx(sk.f1_score(labels[known], scores[known] >= best), abs=1e-12)
    others = {t: thresholds.f1(labels, scores, t) for t in scores}
    assert found == max(others.values())
    assert best == max(t for t, value in others.items() if value == found)


def test_one_class_has_no_threshold():
    assert np.isnan(thresholds.best_f1_threshold([0, 0], [0.1, 0.2]))
    assert np.isnan(thresholds.f1([1, np.nan], [0.1, 0.2]))
    with pytest.raises(UserError, match="one length"):
        thresholds.best_f1_threshold([0, 1], [0.1])


@pytest.mark.parametrize("count", [1, 2, 9, 10, 20, 30, 101])
@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_a_threshold_at_a_share_is_halfway_below_the_least_that_must_lie_above(count, share):
    scored = np.random.default_rng(count).permutation(np.arange(1, count + 1)) / count
    cut = thresholds.at_share(scored, share)
    called = int((scored > cut).sum())
    assert called >= share * count > called - 1  # as few as do
    if called < count:
        assert cut == pytest.approx((np.sort(scored)[::-1][called - 1] + np.sort(scored)[::-1][called]) / 2)


def test_a_threshold_at_a_share_of_equal_scores_lets_all_of_them_lie_above():
    assert (np.full(5, 0.3) > thresholds.at_share(np.full(5, 0.3), 0.9)).all()
    tied = np.array([0.9, 0.4, 0.4, 0.4, 0.1])
    assert thresholds.at_share(tied, 0.4) == pytest.approx(0.25)  # two of five are asked for, four tie
