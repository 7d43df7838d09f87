"""Figures of generated films other than the Fréchet distance, on the host in float64: KID and the Inception score."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from cxrjax.errors import UserError
from cxrjax.metrics.classification import Interval
from cxrjax.metrics.frechet import _checked


class _Kernel(NamedTuple):
    """Of a kernel matrix: mean of each row, each column and all, and mean square when the means are taken off."""

    rows: np.ndarray
    columns: np.ndarray
    mean: float
    square: float


def kid(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Kernel distance: the unbiased squared MMD of two sets under the kernel (x.y / d + 1)^3, with its standard error.

    The error is that of the two-sample U-statistic, its terms of first and of second order estimated apart, so that
    it holds for equal and for different sources alike. Memory grows as the square of the larger set.

    Args:
      a: (n, d) features.
      b: (m, d) features.

    Returns:
      (value, standard error); the value is 0 on average for one source, and below it half the time.

    Raises:
      UserError: not (n, d) and (m, d), fewer than two rows, or a number that is not finite.

    Source: Binkowski et al. 2018; the variance by Hoeffding's decomposition, as Sutherland et al. 2017.
    """
    a, b = _checked(a), _checked(b)
    if a.shape[1] != b.shape[1]:
        raise UserError(f"kid: sets of {a.shape[1]} and {b.shape[1]} features; expected as many in each")
    (n, m), within_a, within_b, across = (len(a), len(b)), _kernel(a, None), _kernel(b, None), _kernel(a, b)
    first = np.var(within_a.rows - across.rows, ddof=1) / n + np.var(within_b.rows - across.columns, ddof=1) / m
    second = 2 * within_a.square / (n * (n - 1)) + 2 * within_b.square / (m * (m - 1)) + 4 * across.square / (n * m)
    variance = max(4 * first - second, second)  # the means of rows carry the second-order terms twice
    return within_a.mean + within_b.mean - 2 * across.mean, float(np.sqrt(variance))


def kid_interval(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """KID with its normal interval, from the standard error of `kid`; not resampled, for repeated rows bias it.

    Measured on Gaussians of d = 4 to 100, n = 50 to 300: a 95 % interval holds its truth in 89 to 97 % of cases, lying
    too low more often than too high, and in 97 to 100 % for sets of one source.
    """
    value, error = kid(a, b)
    half = float(stats.norm.ppf(0.5 + level / 2)) * error
    return Interval(value, value - half, value + half)


def inception_score(probabilities: ArrayLike) -> float:
    """exp of the mean KL divergence of each film's classes from those of all: exp E KL(p(y|x) || p(y)).

    Args:
      probabilities: (n, k), 0 or more; each row is divided by its sum, as findings of one film may occur together.

    Returns:
      [1, k]: 1 where all rows are alike, k for films that are certain and spread evenly over the classes.

    Raises:
      UserError: not (n, k), no rows, a number below 0 or not finite, or a row of zeros.

    Source: Salimans et al. 2016.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or not p.size:
        raise UserError(f"probabilities of shape {p.shape}; expected (n, classes), one row a film")
    if not np.isfinite(p).all() or (p < 0).any() or not p.any(axis=1).all():
        raise UserError("a probability is below 0 or not finite, or a row is all 0; expected the sigmoid or softmax")
    p = p / p.sum(axis=1, keepdims=True)
    return float(np.exp(special.rel_entr(p, p.mean(axis=0)).sum(axis=1).mean()))


def _kernel(a: np.ndarray, b: np.ndarray | None) -> _Kernel:
    """Of all pairs of a row of a with one of b, or with another of a."""
    k = a @ (a if b is None else b).T
    k /= a.shape[1]
    k += 1.0
    k *= k * k
    n, m = k.shape
    if b is None:
        np.fill_diagonal(k, 0.0)
        m -= 1
    rows, columns = k.sum(axis=1) / m, k.sum(axis=0) / (m if b is None else n)
    mean = float(rows.mean())
    k -= rows[:, None]
    k -= columns - mean
    if b is None:
        np.fill_diagonal(k, 0.0)
    return _Kernel(rows, columns, mean, float((k**2).sum() / (n * m)))
