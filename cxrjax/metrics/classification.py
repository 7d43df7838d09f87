"""Figures of merit of a classifier, on the host in float64.

Labels are 1 present, 0 absent, NaN unknown; a film with an unknown label takes no part. A figure that the films at
hand do not define, such as the AUROC of a class without positives, is NaN and is left out of a mean.
Scikit-learn, which takes long to import, is imported where it is asked.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from cxrjax.errors import UserError


class Interval(NamedTuple):
    """A figure and the ends of its confidence interval; NaN where it is undefined."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """A paired difference, the ends of its confidence interval and the two-sided p-value of no difference."""

    value: float
    low: float
    high: float
    p: float


def accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Share of films whose class is right: labels and predicted (n,) class numbers; NaN without films."""
    from sklearn import metrics as sk

    labels, predicted = _numbers(labels), _numbers(predicted)
    return float(sk.accuracy_score(labels, predicted)) if labels.size else float("nan")


def balanced_accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Mean over the classes present of the share found: labels and predicted (n,) class numbers; NaN without films."""
    labels, predicted = _numbers(labels), _numbers(predicted)
    if not labels.size:
        return float("nan")
    return float(np.mean([np.mean(predicted[labels == c] == c) for c in np.unique(labels)]))


def confusion(labels: ArrayLike, predicted: ArrayLike, classes: int) -> np.ndarray:
    """Counts (classes, classes) int64, rows the truth and columns the prediction, of class numbers (n,)."""
    labels, predicted = _numbers(labels).astype(np.int64), _numbers(predicted).astype(np.int64)
    both = np.concatenate([labels, predicted])
    if both.size and (both.min() < 0 or both.max() >= classes):
        raise UserError(f"confusion: class numbers {both.min()} to {both.max()}; expected 0 to {classes - 1}")
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve, ties counting half.

    Args:
      labels: (n,) 1, 0 or NaN.
      scores: (n,), higher for present; any monotone scale.

    Returns:
      [0, 1]; NaN where only one class is known.

    Raises:
      UserError: shapes differ, a label is none of the three, or a score is not finite.
    """
    from sklearn import metrics as sk

    truth, scores = _known(labels, scores)
    return float(sk.roc_auc_score(truth, scores)) if _two_classes(truth) else float("nan")


def auroc_per_class(labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """AUROC of every column: labels and scores (n, k); (k,) float64, NaN for a column of one class."""
    labels, scores = _columns(labels, scores)
    return np.array([auroc(labels[:, c], scores[:, c]) for c in range(labels.shape[1])])


def macro(values: ArrayLike) -> float:
    """Mean of the figures that are defined; NaN where none is."""
    values = np.asarray(values, dtype=np.float64)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the precision-recall steps: labels (n,) 1, 0 or NaN, scores (n,); NaN with only one class known."""
    from sklearn import metrics as sk

    truth, scores = _known(labels, scores)
    return float(sk.average_precision_score(truth, scores)) if _two_classes(truth) else float("nan")


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared distance of probabilities in [0, 1] from labels: both (n,) or (n, k); NaN without known labels."""
    labels, probabilities = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    truth, probabilities = _known(labels.ravel(), probabilities.ravel())
    if truth.size and (probabilities.min() < 0 or probabilities.max() > 1):
        raise UserError("brier: a probability lies outside [0, 1]; expected the sigmoid or softmax of the logits")
    return float(np.mean((probabilities - truth) ** 2)) if truth.size else float("nan")


def sensitivity_at_specificity(labels: ArrayLike, scores: ArrayLike, specificity: float = 0.95) -> tuple[float, float]:
    """The greatest share of positives found while at least `specificity` of the negatives stay below the threshold.

    Args:
      labels: (n,) 1, 0 or NaN.
      scores: (n,), higher for present.
      specificity: in [0, 1].

    Returns:
      (sensitivity, threshold); a film is called positive at `score >= threshold`, which is infinite where nothing may
      be called positive. Both NaN where only one class is known.
    """
    from sklearn import metrics as sk

    truth, scores = _known(labels, scores)
    if not _two_classes(truth):
        return float("nan"), float("nan")
    false, true, thresholds = sk.roc_curve(truth, scores, drop_intermediate=False)
    best = np.flatnonzero(1.0 - false >= specificity - 1e-12)[-1]  # both rates rise along the curve
    return float(true[best]), float(thresholds[best])


def delong(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """AUROC and the DeLong estimate of its variance, in O(n log n).

    Args:
      labels: (n,) 1, 0 or NaN.
      scores: (n,), higher for present.

    Returns:
      (AUROC, variance); NaN where only one class is known, variance NaN with fewer than two films of a class.

    Source: DeLong et al. 1988, by the midranks of Sun & Xu 2014.
    """
    truth, scores = _known(labels, scores)
    values, covariance = _delong(truth, scores[None])
    return float(values[0]), float(covariance[0, 0])


def delong_interval(labels: ArrayLike, scores: ArrayLike, level: float = 0.95) -> Interval:
    """AUROC with the interval of its DeLong variance, see `on_logits`; of width 0 where the classes are separated."""
    value, variance = delong(labels, scores)
    return on_logits(value, float(np.sqrt(variance)), level)


def on_logits(value: float, deviation: float, level: float = 0.95) -> Interval:
    """An area in [0, 1] with the normal interval of its logit, within (0, 1).

    The estimate is skewed where few films are of one class or the area is near 1: an interval about the area itself
    then misses a true area below it three times as often as one above.

    Args:
      value: the area; at 0 and 1 the interval has no width.
      deviation: its standard deviation, of which that of the logit follows.
      level: coverage of the interval.

    Source: the delta method, as Pepe 2003, section 5.2.3.
    """
    if not 0 < value < 1:
        return Interval(value, value, value)
    middle, half = special.logit(value), stats.norm.ppf(0.5 + level / 2) * deviation / (value * (1 - value))
    return Interval(value, float(special.expit(middle - half)), float(special.expit(middle + half)))


def delong_difference(labels: ArrayLike, a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Difference:
    """AUROC of model a less that of model b on the same films, with the paired DeLong interval and z-test.

    Args:
      labels: (n,) 1, 0 or NaN.
      a: (n,) scores of the first model.
      b: (n,) scores of the second model.
      level: coverage of the interval.

    Returns:
      The difference in [-1, 1]; p is 1 where both models rank alike and 0 where they differ without variance.
    """
    truth, a_scores = _known(labels, a)
    _, b_scores = _known(labels, b)
    values, covariance = _delong(truth, np.stack([a_scores, b_scores]))
    value = float(values[0] - values[1])
    deviation = np.sqrt(np.maximum(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0))
    if np.isnan(deviation):
        return Difference(value, float("nan"), float("nan"), float("nan"))
    half = float(stats.norm.ppf(0.5 + level / 2) * deviation)
    if deviation < 1e-12:
        return Difference(value, value - half, value + half, float(abs(value) < 1e-12))
    return Difference(value, value - half, value + half, float(2 * stats.norm.sf(abs(value) / deviation)))


def _delong(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROC (models,) and covariance (models, models) of scores (models, n) on truth (n,)."""
    models, (m, n) = len(scores), (int(truth.sum()), int((1 - truth).sum()))
    if not m or not n:
        return np.full(models, np.nan), np.full((models, models), np.nan)
    present, absent = scores[:, truth == 1], scores[:, truth == 0]
    ranks = stats.rankdata(np.concatenate([present, absent], axis=1), axis=1)
    found = (ranks[:, :m] - stats.rankdata(present, axis=1)) / n  # of each positive, negatives below it
    missed = 1.0 - (ranks[:, m:] - stats.rankdata(absent, axis=1)) / m  # of each negative, positives above it
    values = found.mean(axis=1)
    if m < 2 or n < 2:
        return values, np.full((models, models), np.nan)
    return values, np.atleast_2d(np.cov(found)) / m + np.atleast_2d(np.cov(missed)) / n


def _numbers(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values)
    if not np.isfinite(values).all():
        raise UserError("metrics: a class number is NaN or infinite; look for a diverged run or a bad film")
    return values


def _known(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose label is known, in float64."""
    truth, values = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise UserError(f"metrics: labels {truth.shape} and scores {values.shape}; expected one length (n,) for both")
    known = ~np.isnan(truth)
    truth, values = truth[known], values[known]
    if not np.isin(truth, (0.0, 1.0)).all():
        raise UserError("metrics: a label is none of 1, 0, NaN; write 1 present, 0 absent, NaN unknown")
    if lost := int((~np.isfinite(values)).sum()):
        raise UserError(f"metrics: {lost} scores are NaN or infinite; look for a diverged run or a bad film")
    return truth, values


def _columns(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 2 or labels.shape != scores.shape:
        raise UserError(f"metrics: labels {labels.shape} and scores {scores.shape}; expected (n, classes) for both")
    return labels, scores


def _two_classes(truth: np.ndarray) -> bool:
    return bool(truth.size) and 0 < truth.sum() < truth.size
