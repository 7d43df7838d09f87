"""Whether a treated film is still this patient's: likeness of features, and which film of many is nearest to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cxrjax.errors import UserError

_BLOCK = 64  # treated films in memory in float64


def cosine(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Cosine of the angle between rows of features (n, d), (n,) in [-1, 1]; NaN where a row is all zeros.

    Raises:
      UserError: shapes differ.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or a.shape != b.shape:
        raise UserError(f"cosine: features {a.shape} and {b.shape}; expected one shape (n, d) for both")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(axis=1), lengths, out=np.full(len(a), np.nan), where=lengths > 0)


def ranks(treated: ArrayLike, films: ArrayLike) -> np.ndarray:
    """The rank of its own film among all films, by correlation of pixels; 1 is re-identified.

    Args:
      treated: (n, h, w), the i-th made of the i-th film.
      films: (n, h, w), the gallery.

    Returns:
      (n,) int in 1 ... n; films that are as near as the own one do not count before it.

    Raises:
      UserError: shapes differ or a pixel is not finite.
    """
    a, b = np.asarray(treated), np.asarray(films)
    if a.ndim != 3 or a.shape != b.shape:
        raise UserError(f"ranks: films {a.shape} and {b.shape}; expected one shape (n, h, w) for both")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):  # nothing would rank before such a film
        raise UserError("ranks: a pixel is NaN or infinite; look for a diverged run or a bad film")
    return ranks_in(correlation(a, b))


def correlation(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Correlation of pixels of each film (n, h, w) with each of others (m, h, w), (n, m); 0 of a blank one."""
    a, gallery = np.asarray(a), _standardized(np.asarray(b)).T
    return np.concatenate([_standardized(a[i : i + _BLOCK]) @ gallery for i in range(0, max(1, len(a)), _BLOCK)])


def similarity(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Cosine of each row of features (n, d) with each of others (m, d), (n, m); 0 of a row of zeros."""
    return _unit(np.asarray(a, np.float64)) @ _unit(np.asarray(b, np.float64)).T


def ranks_in(like: np.ndarray) -> np.ndarray:
    """The rank (n,) of each row's own column in a likeness (n, n), from 1; what is as near does not count before it."""
    return 1 + (like > np.diag(like)[:, None]).sum(axis=1)


def verification(like: np.ndarray) -> float:
    """AUROC of the diagonal of a likeness (n, n), pairs of one patient, against the rest, pairs of two; ties count
    half."""
    return _above(np.diag(like), like[~np.eye(len(like), dtype=bool)])


def verification_draws(like: np.ndarray, draws: int = 500, seed: int = 0) -> np.ndarray:
    """`verification` in resamples of the patients, (draws,); two draws of one patient make no pair of two."""
    rng = np.random.default_rng(seed)
    out = np.empty(draws)
    for d in range(draws):
        drawn = rng.integers(len(like), size=len(like))
        others = like[np.ix_(drawn, drawn)][drawn[:, None] != drawn[None, :]]
        out[d] = _above(np.diag(like)[drawn], others) if len(others) else np.nan
    return out


def _above(own: np.ndarray, others: np.ndarray) -> float:
    """The share of pairs of one of `own` and one of `others` in which the former is higher; ties count half."""
    own = np.sort(own)
    below = np.searchsorted(own, others, "left") + np.searchsorted(own, others, "right")  # own ones under each, twice
    return float(1 - below.mean() / (2 * len(own)))


def _standardized(x: np.ndarray) -> np.ndarray:
    """Rows (n, h w) of mean 0 and length 1, in float64; a blank film is zeros."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    return _unit(flat)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows (n, d) at length 1; one of zeros stays."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
