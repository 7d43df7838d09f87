"""Anomaly maps against lesions: by hand, against scikit-learn, and where a published evaluation goes wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from skimage.metrics import structural_similarity
from sklearn import metrics as sk

from cxrjax.errors import UserError
from cxrjax.metrics import anomaly, bootstrap, localization, similarity

# One film of ten pixels: TP 2, FN 4, FP 1, TN 3, all different, so that no two rates coincide.
TRUTH = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0], bool).reshape(1, 2, 5)
CALLED = np.array([1, 1, 0, 0, 0, 0, 1, 0, 0, 0], bool).reshape(1, 2, 5)
TP, FN, FP, TN = 2, 4, 1, 3


def films(seed: int, n: int = 24, side: int = 16, gain: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Squared noise, larger in a square that three films in four have; coarse, so that many scores tie."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((n, side, side), bool)
    for i in range(n):
        if i % 4:
            y, x = rng.integers(0, side - 4, 2)
            truth[i, y : y + 4, x : x + 3] = True
    loud = rng.uniform(0.5, 1.5, (n, 1, 1))
    return np.round((loud * rng.standard_normal(truth.shape) + gain * truth) ** 2, 2), truth


def ranking(scores: np.ndarray, truth: np.ndarray, measure: str = "pixel_auroc") -> float | None:
    return anomaly.score(scores, truth, threshold=1.0, draws=2)[measure]["value"]


def test_overlap_and_rates_by_hand():
    found = anomaly.at_threshold(CALLED.astype(float), TRUTH, 0.5)
    expected = {"dice": 4 / 9, "iou": 2 / 7, "precision": 2 / 3, "recall": 2 / 6, "fpr": 1 / 4}
    assert {name: float(value[0]) for name, value in found.items()} == pytest.approx(expected, abs=1e-15)


def test_a_film_is_scored_only_where_a_figure_is_defined():
    none, all_ = np.zeros((1, 3, 3), bool), np.ones((1, 3, 3), bool)
    one = none.copy()
    one[0, 1, 1] = True
    truth = np.concatenate([none, none, one, all_, one])
    found = anomaly.at_threshold(0.6 * np.concatenate([none, one, none, all_, one]), truth, 0.5)
    nan = np.nan
    np.testing.assert_array_equal(found["dice"], [nan, nan, 0, 1, 1])
    np.testing.assert_array_equal(found["iou"], [nan, nan, 0, 1, 1])
    np.testing.assert_array_equal(found["precision"], [nan, 0, nan, 1, 1])
    np.testing.assert_array_equal(found["recall"], [nan, nan, 0, 1, 1])
    np.testing.assert_array_equal(found["fpr"], [0, 1 / 9, 0, nan, 0])
    assert not np.any(anomaly.at_threshold(0.5 * one, one, 0.5)["recall"])  # of just the threshold: not called


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rankings_of_pixels_equal_scikit_learn(dtype):
    scores, truth = films(0)
    scores = scores.astype(dtype)
    assert len(np.unique(scores)) < scores.size / 2  # ties
    flat = truth.ravel(), scores.ravel()
    assert ranking(scores, truth) == pytest.approx(sk.roc_auc_score(*flat), abs=1e-12)
    precision = "pixel_average_precision"
    assert ranking(scores, truth, precision) == pytest.approx(sk.average_precision_score(*flat), abs=1e-12)
    assert ranking(0 * scores, truth) == 0.5
    assert ranking(0 * scores, truth, precision) == pytest.approx(truth.mean(), abs=1e-15)
    assert ranking(scores, truth | True) is None
    assert ranking(scores, truth & False, precision) is None


def resampled(scores: np.ndarray, truth: np.ndarray, patients: np.ndarray, seed: int, draws: int) -> np.ndarray:
    """AUROC and average precision (draws, 2) of the resamples, each with all its pixels sorted anew."""
    out = []
    for weight in np.concatenate(list(bootstrap.weights(patients, draws, seed)), axis=1).T:
        rows = np.repeat(np.arange(len(truth)), weight.astype(int))
        flat = truth[rows].ravel(), scores[rows].ravel()
        out.append([sk.roc_auc_score(*flat), sk.average_precision_score(*flat)])
    return np.array(out)


def test_binned_resamples_are_as_good_as_sorted_ones():
    scores, truth = films(1, n=60)  # 540 pixels in lesions: more than there are bins for
    scores += np.random.default_rng(1).uniform(0, 1e-3, scores.shape)  # no ties: nothing that bins get for free
    patients = np.arange(60) // 2
    found = anomaly.score(scores, truth, patients, threshold=2.0, seed=3, draws=60)
    exact = resampled(scores, truth, patients, 3, 60)
    for name, draws in zip(("pixel_auroc", "pixel_average_precision"), exact.T, strict=True):
        ends = np.quantile(draws, [0.025, 0.975])
        assert [found[name]["low"], found[name]["high"]] == pytest.approx(ends, abs=0.02 * np.ptp(ends))
    gap = anomaly.difference(scores, scores[:, ::-1], truth, patients, seed=3, draws=60)
    exact_gap = exact[:, 0] - resampled(scores[:, ::-1], truth, patients, 3, 60)[:, 0]
    ends = np.quantile(exact_gap, [0.025, 0.975])
    assert [gap["low"], gap["high"]] == pytest.approx(ends, abs=0.02 * np.ptp(ends))


def test_leaves_hold_the_means_the_films_they_count_and_the_exact_ranking():
    scores, truth = films(2)
    found = anomaly.score(scores, truth, threshold=2.0, draws=50)
    by_film = anomaly.at_threshold(scores, truth, 2.0)
    for name, values in by_film.items():
        assert found[name]["value"] == pytest.approx(np.nanmean(values))
        assert found[name]["n"] == np.isfinite(values).sum()
    assert found["dice"]["n"] == found["dice_oracle"]["n"] == 18
    assert found["pixel_auroc"]["value"] == pytest.approx(sk.roc_auc_score(truth.ravel(), scores.ravel()), abs=1e-12)
    assert all(leaf["low"] < leaf["value"] < leaf["high"] for leaf in found.values())
    json.dumps(found, allow_nan=False)
    assert found == anomaly.score(scores, truth, threshold=2.0, draws=50)
    assert found["dice"] != anomaly.score(scores, truth, threshold=2.0, draws=50, seed=1)["dice"]


def test_films_of_one_patient_widen_the_interval():
    rng = np.random.default_rng(3)
    truth = np.zeros((60, 8, 8), bool)
    truth[:, :4] = True
    gain = np.repeat(rng.uniform(0, 3, 12), 5)[:, None, None]
    scores = (gain * truth + rng.standard_normal(truth.shape)) ** 2
    alone, together = (
        anomaly.score(scores, truth, groups, threshold=1.0, draws=200)["pixel_auroc"]
        for groups in (None, np.arange(60) // 5)
    )
    assert together["high"] - together["low"] > 1.5 * (alone["high"] - alone["low"])
    one = anomaly.score(scores, truth, ["p"] * 60, threshold=1.0, draws=20)["pixel_auroc"]
    assert one == {"value": alone["value"], "low": None, "high": None, "n": 60, "unit": "1"}


def test_the_oracle_finds_the_threshold_that_fits():
    scores, truth = films(4)
    levels = np.unique(scores)
    best = max(np.nanmean(anomaly.at_threshold(scores, truth, level)["dice"]) for level in levels)
    found = anomaly.score(scores, truth, threshold=float(levels[40]), draws=20)
    assert found["dice"]["value"] < found["dice_oracle"]["value"] <= best + 1e-12
    assert found["dice_oracle"]["value"] == pytest.approx(best, abs=1e-3)
    perfect = anomaly.score(7.0 * truth, truth, threshold=9.0, draws=20)
    assert perfect["dice"]["value"] == 0.0
    assert perfect["dice_oracle"]["value"] == perfect["pixel_auroc"]["low"] == 1.0


def test_a_difference_is_paired_and_knows_its_sign():
    (better, truth), (worse, again) = films(5, gain=3.0), films(5, gain=0.5)
    np.testing.assert_array_equal(truth, again)
    found = anomaly.difference(better, worse, truth, np.arange(24) // 2, draws=100)
    assert found["value"] == ranking(better, truth) - ranking(worse, truth)
    assert 0 < found["low"] < found["value"] < found["high"]
    back = anomaly.difference(worse, better, truth, np.arange(24) // 2, draws=100)
    assert [back["low"], back["high"]] == pytest.approx([-found["high"], -found["low"]])
    same = anomaly.difference(better, 100 * better, truth, draws=20)  # AUROC does not know the unit
    assert [same[key] for key in ("value", "low", "high")] == [0.0, 0.0, 0.0]


def test_boxes_make_a_truth():
    truth = localization.masks([[2, 2, 4, 5], [9, 9, 3, 3]], 16, 16).any(axis=0)[None]  # two findings of one film
    assert truth.sum() == 29
    assert anomaly.at_threshold(1.0 * truth, truth, 0.5)["dice"] == 1.0


def test_reference_bug_precision_counts_what_was_missed():
    """AnoDDPM's evaluation.py names `real & ~found` false positives: its precision is the recall."""
    theirs = (TRUTH & CALLED).sum() / ((TRUTH & CALLED).sum() + (TRUTH & ~CALLED).sum())
    found = anomaly.at_threshold(CALLED.astype(float), TRUTH, 0.5)
    assert found["precision"][0] == TP / (TP + FP) == sk.precision_score(TRUTH.ravel(), CALLED.ravel())
    assert found["precision"][0] != pytest.approx(theirs)
    assert theirs == TP / (TP + FN) == found["recall"][0]


def test_reference_bug_recall_counts_false_alarms():
    """Its recall has `~real & found` in the denominator: it is the precision."""
    theirs = (TRUTH & CALLED).sum() / ((TRUTH & CALLED).sum() + (~TRUTH & CALLED).sum())
    found = anomaly.at_threshold(CALLED.astype(float), TRUTH, 0.5)
    assert found["recall"][0] == TP / (TP + FN) == sk.recall_score(TRUTH.ravel(), CALLED.ravel())
    assert found["recall"][0] != pytest.approx(theirs)
    assert theirs == TP / (TP + FP) == found["precision"][0]


def test_reference_bug_fpr_is_a_false_omission_rate():
    """Its FPR is FN / (FN + TN): the lesions' share of what is left, not the called share of what is healthy."""
    theirs = (TRUTH & ~CALLED).sum() / ((TRUTH & ~CALLED).sum() + (~TRUTH & ~CALLED).sum())
    tn, fp, _, _ = sk.confusion_matrix(TRUTH.ravel(), CALLED.ravel()).ravel()
    found = anomaly.at_threshold(CALLED.astype(float), TRUTH, 0.5)["fpr"][0]
    assert found == FP / (FP + TN) == fp / (fp + tn)
    assert theirs == FN / (FN + TN)
    assert found != pytest.approx(theirs)


def test_reference_bug_ssim_is_told_no_data_range():
    """Its SSIM gives floats in [-1, 1] and no range, which scikit-image refuses; older ones took 2, the dtype's."""
    a, b = np.random.default_rng(0).uniform(size=(2, 1, 24, 24))
    with pytest.raises(ValueError, match="data_range"):
        structural_similarity(2 * a[0] - 1, 2 * b[0] - 1)
    for scale in (1.0, 2.0):  # a scale that the range shares changes nothing
        _, theirs = structural_similarity(scale * a[0], scale * b[0], data_range=scale, full=True)
        np.testing.assert_allclose(similarity.ssim_map(a, b)[0], theirs, atol=1e-12)


def test_reference_bug_ssim_of_films_about_zero():
    """Nor would a range of 2 do: SSIM's luminance term wants black at 0, and mid-gray at 0 turns its sign."""
    texture = 0.01 * np.random.default_rng(0).standard_normal((1, 24, 24))
    a, b = 0.45 + texture, 0.55 + texture  # one film, a tenth brighter
    assert similarity.ssim(a, b)[0] > 0.9
    assert structural_similarity(2 * a[0] - 1, 2 * b[0] - 1, data_range=2.0) < 0
    assert similarity.ssim(1 - a, 1 - b)[0] > 0.9


def test_bad_input_is_told():
    scores, truth = films(6, n=4)
    with pytest.raises(UserError, match="one shape"):
        anomaly.at_threshold(scores, truth[:2], 0.5)
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(UserError, match="negative or not finite"):
            ranking(np.where(truth, bad, scores), truth)
        with pytest.raises(UserError, match="threshold"):
            anomaly.score(scores, truth, threshold=bad)
    with pytest.raises(UserError, match="one patient a film"):
        anomaly.score(scores, truth, ["p"] * 3, threshold=1.0)
    with pytest.raises(UserError, match="a film or more"):
        anomaly.difference(scores[:0], scores[:0], truth[:0])


def test_detection_is_the_area_of_films_and_their_average_precision():
    rng = np.random.default_rng(0)
    sick = np.arange(60) % 3 == 0
    scores = rng.normal(size=60) + sick
    found = anomaly.detection(scores, sick)
    assert found["film_auroc"]["value"] == pytest.approx(sk.roc_auc_score(sick, scores))
    assert found["film_average_precision"]["value"] == pytest.approx(sk.average_precision_score(sick, scores))
    for entry in found.values():
        assert entry["low"] < entry["value"] < entry["high"]
        assert entry["n"] == 60
    # Films of ten patients say less than sixty films do.
    few = anomaly.detection(scores, sick, np.arange(60) // 6)["film_auroc"]
    assert few["value"] == found["film_auroc"]["value"]
    assert few != found["film_auroc"]
