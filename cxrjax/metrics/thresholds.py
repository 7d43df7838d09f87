"""Precision, recall and F1: of exclusive classes from their confusion matrix, of findings from counts at a threshold.

A class without a film in the truth has none of the three (NaN) and is left out of a mean; a class that is there and
never called has precision 0. Arrays may have leading axes, such as the resamples of a bootstrap.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cxrjax.metrics.classification import _columns, _known, _two_classes
from cxrjax.metrics.weighted import ratio


class Counts(NamedTuple):
    """Films found, falsely called and missed, each (..., k)."""

    true: np.ndarray
    false: np.ndarray
    missed: np.ndarray


class Scores(NamedTuple):
    """Precision, recall and F1 in [0, 1], each (..., k) by class or (...) over the classes."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def from_confusion(matrix: ArrayLike) -> Counts:
    """Counts of each exclusive class from matrices (..., k, k), rows the truth."""
    matrix = np.asarray(matrix, dtype=np.float64)
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    return Counts(right, matrix.sum(axis=-2) - right, matrix.sum(axis=-1) - right)


def counts(labels: ArrayLike, predicted: ArrayLike, weights: np.ndarray | None = None) -> Counts:
    """Counts of each finding.

    Args:
      labels: (n, k) 1, 0 or NaN; an unknown takes no part.
      predicted: (n, k), true (or 1) where the finding is called.
      weights: (n, d) of the films in d resamples; without them each film counts once.

    Returns:
      Counts (k,), or (d, k) with weights.
    """
    labels, called = _columns(labels, predicted)
    cells = Counts(*((a & b).astype(np.float64) for a, b in (
        (labels == 1, called > 0), (labels == 0, called > 0), (labels == 1, called <= 0),
    )))  # fmt: skip
    if weights is None:
        return Counts(*(cell.sum(axis=0) for cell in cells))
    return Counts(*(weights.T @ cell for cell in cells))


def scores(found: Counts) -> Scores:
    """By class: precision, recall and F1 = 2 TP / (2 TP + FP + FN); NaN for a class without a film in the truth."""
    true, false, missed = (np.asarray(a, dtype=np.float64) for a in found)
    recall = ratio(true, true + missed)
    there = true + missed > 0
    precision = np.where(there, np.nan_to_num(ratio(true, true + false)), np.nan)
    f1 = np.where(there, ratio(2 * true, 2 * true + false + missed), np.nan)
    return Scores(precision, recall, f1)


def macro(found: Counts) -> Scores:
    """Means over the classes that are there."""
    return Scores(*(mean_defined(a) for a in scores(found)))


def micro(found: Counts) -> Scores:
    """Of all calls together; a class without a film in the truth takes no part."""
    there = found.true + found.missed > 0
    return scores(Counts(*(np.where(there, a, 0.0).sum(axis=-1) for a in found)))


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is defined."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))


def f1(labels: ArrayLike, scored: ArrayLike, threshold: float = 0.5) -> float:
    """F1 of one finding called at `score >= threshold`: labels (n,) 1, 0 or NaN, scores (n,); NaN with one class."""
    truth, values = _known(labels, scored)
    if not _two_classes(truth):
        return float("nan")
    return float(scores(counts(truth[:, None], (values >= threshold)[:, None])).f1[0])


def best_f1_threshold(labels: ArrayLike, scored: ArrayLike) -> float:
    """The threshold with the greatest F1, called at `score >= threshold`; of equals the highest.

    Args:
      labels: (n,) 1, 0 or NaN.
      scored: (n,), higher for present.

    Returns:
      One of the scores; NaN where only one class is known. Choose it on validation films, never on those reported on.
    """
    truth, values = _known(labels, scored)
    if not _two_classes(truth):
        return float("nan")
    order = np.argsort(-values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    found = np.cumsum(truth[order])[ends]
    return float(values[order][ends][np.argmax(2 * found / (ends + 1 + truth.sum()))])


def best_balanced_threshold(labels: ArrayLike, scored: ArrayLike) -> float:
    """The threshold with the greatest sum of sensitivity and specificity, called at `score >= threshold`.

    Args:
      labels: (n,) 1, 0 or NaN.
      scored: (n,), higher for present.

    Returns:
      Halfway between the lowest score called and the next below it, so that neither class of other films is favored; of
      equals the highest. NaN where only one class is known. Choose it on films that are not reported on.

    Source: Youden 1950.
    """
    truth, values = _known(labels, scored)
    if not _two_classes(truth):
        return float("nan")
    order = np.argsort(-values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    found = np.cumsum(truth[order])[ends]
    false = ends + 1 - found
    best = int(np.argmax(found / truth.sum() - false / (1 - truth).sum()))
    levels = values[order][ends]
    below = levels[min(best + 1, len(levels) - 1)]
    middle = (levels[best] + below) / 2
    return float(middle if middle > below else levels[best])
