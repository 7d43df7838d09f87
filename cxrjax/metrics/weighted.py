"""Figures of films that count more than once, for many weightings at a time: what a bootstrap repeats.

Weights are (n, d): the films' counts in each of d resamples. Figures are (d,), NaN where a resample lacks a class.
Films are sorted once for all resamples, so that a thousand cost one pass over (n, d): every figure here is settled at
the scores of positives, so that the negatives between two of them are summed at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from cxrjax.errors import UserError
from cxrjax.metrics.classification import _known


class Curve(NamedTuple):
    """Weight called positive as the threshold falls in u steps, from none to all.

    Attributes:
      true: (u + 1, d) weight of the positives at or above each threshold.
      false: (u + 1, d) weight of the negatives.
    """

    true: np.ndarray
    false: np.ndarray


def curve(labels: ArrayLike, scores: ArrayLike, weights: np.ndarray) -> Curve:
    """The counts from which every figure of a ranking follows.

    A step is a distinct score that a positive has, or all scores between two such: within the latter only the weight of
    negatives grows, which is a straight piece of the ROC curve and none of the precision-recall curve's.

    Args:
      labels: (n,) 1, 0 or NaN; an unknown takes no part.
      scores: (n,), higher for present.
      weights: (n, d) counts.

    Raises:
      UserError: lengths differ, a label is none of the three, or a score is not finite.
    """
    if len(np.asarray(labels)) != len(weights):
        raise UserError(f"weighted: {len(np.asarray(labels))} labels and {len(weights)} weights; expected one a film")
    rows = np.flatnonzero(~np.isnan(np.asarray(labels, dtype=np.float64)))
    truth, values = _known(labels, scores)
    order = np.argsort(-values, kind="stable")
    rows, sick, values = rows[order], truth[order] == 1, values[order]
    level = np.cumsum(np.append(False, np.diff(values) != 0)[: len(values)])  # a tie is one
    holds = np.bincount(level, weights=sick) > 0
    step = np.cumsum(holds | np.append(True, holds[:-1])[: len(holds)])[level] - 1
    steps = int(step[-1]) + 1 if len(step) else 0

    def risen(chosen: np.ndarray) -> np.ndarray:
        ends = np.searchsorted(step[chosen], np.arange(steps + 1))
        sums = sparse.csr_array((np.ones(chosen.sum()), rows[chosen], ends), shape=(steps, len(weights)))
        return np.concatenate([np.zeros((1, weights.shape[1])), np.cumsum(sums @ weights, axis=0)])

    return Curve(risen(sick), risen(~sick))


def auroc(found: Curve) -> np.ndarray:
    """Area under each resample's ROC curve, ties counting half: (d,) in [0, 1]."""
    height = found.true[1:] + found.true[:-1]
    area = np.einsum("ud,ud->d", np.diff(found.false, axis=0), height) / 2
    return ratio(area, found.true[-1] * found.false[-1])


def average_precision(found: Curve) -> np.ndarray:
    """Area under each resample's precision-recall steps: (d,) in [0, 1]; NaN with only one class."""
    precision = ratio(found.true[1:], found.true[1:] + found.false[1:])  # 0 / 0 only above the first film: no step
    area = np.einsum("ud,ud->d", np.diff(found.true, axis=0), np.nan_to_num(precision))
    return np.where(found.false[-1] > 0, ratio(area, found.true[-1]), np.nan)


def sensitivity_at_specificity(found: Curve, specificity: float = 0.95) -> np.ndarray:
    """Share of positives found while `specificity` of the negatives stay below the threshold: (d,)."""
    negatives = found.false[-1]
    kept = 1.0 - found.false / np.maximum(negatives, 1e-300) >= specificity - 1e-12
    last = kept.sum(axis=0) - 1  # false positives only grow along the curve
    true = found.true[last, np.arange(len(last))]
    return np.where(negatives > 0, ratio(true, found.true[-1]), np.nan)


def set_aside_at_sensitivity(found: Curve, sensitivity: float = 0.99) -> np.ndarray:
    """Share of all films below the highest threshold that still finds `sensitivity` of the positives: (d,)."""
    missing = found.true < sensitivity * found.true[-1] - 1e-9
    first, column = missing.sum(axis=0), np.arange(missing.shape[1])
    called = found.true[first, column] + found.false[first, column]
    total = found.true[-1] + found.false[-1]
    return np.where(found.true[-1] > 0, 1.0 - ratio(called, total), np.nan)


def confusion(labels: ArrayLike, predicted: ArrayLike, classes: int, weights: np.ndarray) -> np.ndarray:
    """Weights (d, classes, classes), rows the truth and columns the prediction, of class numbers (n,)."""
    cell = np.asarray(labels, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return (weights.T @ np.eye(classes**2)[cell]).reshape(-1, classes, classes)


def mean(totals: ArrayLike, weights: np.ndarray, counts: ArrayLike | None = None) -> np.ndarray:
    """Sum of the films' totals (n,) over the sum of their counts (n,), which are 1 unless given: (d,)."""
    totals = np.asarray(totals, dtype=np.float64)
    counts = np.ones(len(totals)) if counts is None else np.asarray(counts, dtype=np.float64)
    return ratio(totals @ weights, counts @ weights)


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full(np.broadcast_shapes(a.shape, b.shape), np.nan), where=b > 0)
