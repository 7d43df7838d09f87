"""Whether a probability means what it says: the reliability table, the expected calibration error, the temperature.

For exclusive classes the confidence is the greatest probability and `correct` says whether that class is right; for
findings it is the probability of presence and `correct` is the label, all columns together.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from cxrjax.errors import UserError
from cxrjax.metrics.weighted import ratio

BINS = 15
LIMITS = (0.05, 20.0)  # of a temperature: beyond them separable films would drive it to 0, reversed ones to infinity


@dataclasses.dataclass(frozen=True)
class Bin:
    """A bin of confidences: its ends, the mean confidence, the share that was right, and how many fell in it."""

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


def confidence(label: ArrayLike, probability: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(greatest probability, whether that class is right), each (n,), of one-hot labels and probabilities (n, k)."""
    label, probability = np.asarray(label), np.asarray(probability, dtype=np.float64)
    right = label.argmax(axis=1) == probability.argmax(axis=1)
    return probability.max(axis=1), right.astype(np.float64)


def edges(stated: ArrayLike, bins: int = BINS, mass: bool = False) -> np.ndarray:
    """(bins + 1,) ends from 0 to 1: of equal width, or of equal mass, which ties may leave with fewer bins.

    Args:
      stated: confidences of any shape in [0, 1].
      bins: how many.
      mass: as many confidences in each bin rather than as much of [0, 1].

    Source: equal width, Guo et al. 2017; equal mass, Nixon et al. 2019.
    """
    if not mass:
        return np.linspace(0.0, 1.0, bins + 1)
    inner = np.quantile(np.asarray(stated, dtype=np.float64), np.linspace(0.0, 1.0, bins + 1)[1:-1])
    return np.unique(np.concatenate([[0.0], inner, [1.0]]))


def reliability(stated: ArrayLike, correct: ArrayLike, bins: int = BINS, mass: bool = False) -> list[Bin]:
    """The bins that hold a confidence, lowest first: the rows of a reliability diagram.

    Args:
      stated: confidences of any shape in [0, 1].
      correct: of the same shape, 1, 0 or NaN; an unknown takes no part.
      bins: how many.
      mass: bins of equal mass; else of equal width.

    Raises:
      UserError: shapes differ or a confidence lies outside [0, 1].
    """
    sure, right = _pair(stated, correct)
    known = ~np.isnan(right)
    sure, right = sure[known], right[known]
    if not sure.size:
        return []
    ends = edges(sure, bins, mass)
    place = _place(sure, ends)
    rows = [(i, place == i) for i in range(len(ends) - 1)]
    return [
        Bin(float(ends[i]), float(ends[i + 1]), float(sure[m].mean()), float(right[m].mean()), int(m.sum()))
        for i, m in rows
        if m.any()
    ]


def ece(stated: ArrayLike, correct: ArrayLike, bins: int = BINS, mass: bool = False) -> float:
    """Expected calibration error, sum of |confidence - accuracy| over the bins by their share; NaN without films.

    Arguments as for `reliability`. Chance alone makes it positive: with few films a bin it overstates the error.

    Source: Naeini et al. 2015; Guo et al. 2017, eq. 3.
    """
    rows = reliability(stated, correct, bins, mass)
    total = sum(row.count for row in rows)
    return float(sum(abs(row.confidence - row.accuracy) * row.count for row in rows) / total) if rows else float("nan")


def ece_parts(stated: ArrayLike, correct: ArrayLike, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """What each film brings to the equal-width bins, for `ece_of`: gaps (n, bins) and counts (n,).

    Args:
      stated: (n,) or (n, k) confidences in [0, 1].
      correct: of the same shape, 1, 0 or NaN.
      bins: how many.
    """
    stated, correct = _pair(stated, correct)
    stated, correct = stated.reshape(len(stated), -1), correct.reshape(len(stated), -1)
    known = ~np.isnan(correct)
    gaps = np.zeros((len(stated), bins))
    film, _ = np.nonzero(known)
    np.add.at(gaps, (film, _place(stated[known], edges(stated, bins))), (stated - correct)[known])
    return gaps, known.sum(axis=1).astype(np.float64)


def ece_of(gaps: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error (d,) of each column of film weights (n, d), from `ece_parts`."""
    return ratio(np.abs(gaps.T @ weights).sum(axis=0), counts @ weights)


def temperature(labels: ArrayLike, logits: ArrayLike, kind: Literal["softmax", "sigmoid"]) -> float:
    """The T that minimizes the negative log likelihood of labels under logits / T.

    Args:
      labels: (n, k) 1, 0 or NaN; of exclusive classes one-hot, where a film with an unknown takes no part.
      logits: (n, k) of validation films, never of those reported on.
      kind: `softmax` for exclusive classes, `sigmoid` for findings.

    Returns:
      T in [0.05, 20]: above 1 where the network is too sure. NaN without known labels.

    Raises:
      UserError: shapes differ or a logit is not finite.

    Source: Guo et al. 2017, section 4.2.
    """
    truth, logits = np.asarray(labels, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    if truth.ndim != 2 or truth.shape != logits.shape:
        raise UserError(f"temperature: labels {truth.shape} and logits {logits.shape}; expected (n, classes) for both")
    if not np.isfinite(logits).all():
        raise UserError("temperature: a logit is not finite; look for a diverged run")
    known = ~np.isnan(truth)
    if kind == "softmax":
        known = np.asarray(known.all(axis=1))
    truth, logits = truth[known], logits[known]
    if not truth.size:
        return float("nan")

    def slope(log_t: float) -> float:
        """Derivative of the loss in 1 / T, which rises with 1 / T: the loss is convex in it."""
        scaled = logits * np.exp(-log_t)
        stated = special.softmax(scaled, axis=1) if kind == "softmax" else special.expit(scaled)
        return float(np.sum((stated - truth) * logits))

    low, high = np.log(LIMITS)
    if slope(low) <= 0:
        return LIMITS[0]
    if slope(high) >= 0:
        return LIMITS[1]
    return float(np.exp(optimize.brentq(slope, low, high, xtol=1e-13)))


def _pair(stated: ArrayLike, correct: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    stated, correct = np.asarray(stated, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if stated.shape != correct.shape:
        raise UserError(f"calibration: confidences {stated.shape} and outcomes {correct.shape}; expected one shape")
    if stated.size and not (stated.min() >= -1e-6 and stated.max() <= 1 + 1e-6):  # a float32 softmax may pass 1
        raise UserError("calibration: a confidence lies outside [0, 1]; expected the sigmoid or softmax of the logits")
    return np.clip(stated, 0.0, 1.0), correct


def _place(stated: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The bin (low, high] of each confidence, 0 falling in the first."""
    return np.clip(np.searchsorted(ends, stated, side="left") - 1, 0, len(ends) - 2)
