"""Figures of weighted films: those of scikit-learn with sample weights, and of films written out as often."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from cxrjax.errors import UserError
from cxrjax.metrics import bootstrap, classification, triage, weighted


def films(seed: int, n: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.uniform(size=n) < 0.3).astype(float)
    scores = np.round(rng.normal(labels, 1.0), 1)  # many ties
    return labels, scores, rng.integers(0, 4, (n, 6)).astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_areas_equal_scikit_learns_with_sample_weights(seed):
    labels, scores, weights = films(seed)
    labels[::9] = np.nan
    known = ~np.isnan(labels)
    curve = weighted.curve(labels, scores, weights)
    for d in range(6):
        given = {"sample_weight": weights[known, d]}
        area = sk.roc_auc_score(labels[known], scores[known], **given)
        assert weighted.auroc(curve)[d] == pytest.approx(area, abs=1e-12)
        steps = sk.average_precision_score(labels[known], scores[known], **given)
        assert weighted.average_precision(curve)[d] == pytest.approx(steps, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_weight_is_a_film_written_out_as_often(seed):
    labels, scores, weights = films(seed)
    curve = weighted.curve(labels, scores, weights)
    found = weighted.sensitivity_at_specificity(curve, 0.9), weighted.set_aside_at_sensitivity(curve, 0.9)
    for d in range(6):
        rows = np.repeat(np.arange(len(labels)), weights[:, d].astype(int))
        sensitivity, _ = classification.sensitivity_at_specificity(labels[rows], scores[rows], 0.9)
        assert found[0][d] == pytest.approx(sensitivity, abs=1e-12)
        cut = triage.threshold(labels[rows], scores[rows], 0.9)
        assert found[1][d] == pytest.approx(np.mean(scores[rows] < cut), abs=1e-12)
        predicted = (scores > 0.5).astype(int)
        counts = weighted.confusion(labels, predicted, 2, weights)[d]
        np.testing.assert_array_equal(counts, sk.confusion_matrix(labels[rows], predicted[rows]))
        assert weighted.mean(scores, weights)[d] == pytest.approx(scores[rows].mean(), abs=1e-12)


def test_a_curve_has_a_step_a_score_of_a_positive_and_one_for_the_negatives_between():
    labels, scores = np.array([0, 0, 1, 1, 0, 1, 0, 0.0, np.nan]), np.array([9, 8, 7, 6, 6, 5, 4, 3, 6.5])
    curve = weighted.curve(labels, scores, np.arange(18.0).reshape(9, 2))
    np.testing.assert_array_equal(curve.true[:, 0], [0, 0, 4, 10, 20, 20])
    np.testing.assert_array_equal(curve.false[:, 0], [0, 2, 2, 10, 10, 36])
    np.testing.assert_array_equal(curve.true[:, 1], [0, 0, 5, 12, 23, 23])


def test_a_lost_class_has_no_figure():
    labels, scores = np.array([1.0, 0.0, 0.0]), np.array([0.9, 0.1, 0.2])
    curve = weighted.curve(labels, scores, np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
    for figure in (weighted.auroc, weighted.average_precision, weighted.sensitivity_at_specificity):
        np.testing.assert_array_equal(np.isnan(figure(curve)), [False, True, True])
    empty = weighted.curve(np.full(3, np.nan), scores, np.ones((3, 2)))
    assert np.isnan(weighted.auroc(empty)).all()
    with pytest.raises(UserError, match="one a film"):
        weighted.curve(labels, scores, np.ones((2, 1)))


def test_draws_are_the_plain_bootstraps_of_whole_patients():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), 3)
    labels = (rng.uniform(size=(90, 2)) < 0.4).astype(float)
    scores = rng.normal(labels)
    drawn = bootstrap.auroc_draws(labels, scores, patients, draws=50, seed=3)
    pieces = list(bootstrap.weights(patients, 50, 3))
    weights = np.concatenate(pieces, axis=1)
    assert weights.shape == (90, 50)
    np.testing.assert_array_equal(weights[0::3], weights[1::3])  # films of a patient come and go together
    np.testing.assert_array_equal(weights.sum(axis=0), 90)
    for d in (0, 49):
        rows = np.repeat(np.arange(90), weights[:, d].astype(int))
        for c in range(2):
            assert drawn[d, c] == pytest.approx(sk.roc_auc_score(labels[rows, c], scores[rows, c]), abs=1e-12)
    low, high = np.quantile(drawn[:, 0], [0.025, 0.975])
    assert bootstrap.percentiles(0.7, np.r_[drawn[:, 0], np.nan]) == (0.7, low, high)


def test_one_seed_gives_one_set_of_resamples_to_every_model(monkeypatch):
    labels, scores, _ = films(1)
    patients = np.arange(120) // 2
    columns = labels[:, None], scores[:, None]
    drawn = bootstrap.auroc_draws(*columns, patients, draws=40, seed=5)
    np.testing.assert_array_equal(
        drawn, bootstrap.auroc_draws(labels[:, None], 3 * scores[:, None] + 1, patients, 40, 5)
    )
    assert (drawn != bootstrap.auroc_draws(*columns, patients, draws=40, seed=6)).any()
    monkeypatch.setattr(bootstrap, "_CELLS", 120 * 8)  # eight draws at a time
    np.testing.assert_array_equal(drawn, bootstrap.auroc_draws(*columns, patients, draws=40, seed=5))
    with pytest.raises(UserError, match="one length"):
        bootstrap.auroc_draws(*columns, patients[1:])


def test_one_patient_tells_nothing_of_patients():
    labels, scores, _ = films(2)
    assert np.isnan(bootstrap.auroc_draws(labels[:, None], scores[:, None], np.zeros(120), draws=5)).all()
    assert np.isnan(bootstrap.percentiles(0.5, np.full(5, np.nan))[1:]).all()
