"""What a treated film changed, and whom that convinced; on the host in float64.

Films are (n, h, w) in [0, 1], the i-th treated film made of the i-th film.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from cxrjax.metrics import similarity

SEEN = 1 / 32  # of the gray scale: a smaller change is not counted as one


def changed(films: ArrayLike, treated: ArrayLike, mask: ArrayLike | None = None, least: float = SEEN) -> np.ndarray:
    """The share of pixels within a mask (n, h, w) that changed by more than `least`, (n,); NaN where it is empty.

    A film that returns has 0; what treats little has little, whether or not it healed.
    """
    moved = np.abs(np.asarray(treated, np.float64) - np.asarray(films, np.float64)) > least
    return similarity.mean_in(moved.astype(np.float64), mask)


def transferred(convinced: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Of films of which one network is convinced, whether another calls them normal as well: (m,) of (n,) bool.

    A low share is the sign of a network fooled rather than a film healed.
    """
    return normal[convinced]


def insertions(film: np.ndarray, treated: np.ndarray, steps: int) -> np.ndarray:
    """From films to treated films in equal shares of pixels, those of the largest change first: (steps + 1, n, h, w).

    Source: Khorram and Fuxin 2022, "Cycle-consistent counterfactuals by latent transformations", section 4.
    """
    flat, new = film.reshape(len(film), -1), treated.reshape(len(treated), -1)
    rank = np.argsort(np.argsort(-np.abs(new - flat), axis=1, kind="stable"), axis=1)
    pixels = flat.shape[1]
    path = [np.where(rank < round(pixels * step / steps), new, flat) for step in range(steps + 1)]
    return np.stack(path).reshape(steps + 1, *film.shape)


def cout(target: ArrayLike, source: ArrayLike) -> np.ndarray:
    """COUT: area under the target class's probability along `insertions`, less that of the film's own class.

    Args:
      target, source: (steps + 1, n) probabilities in [0, 1].

    Returns:
      (n,) in [-1, 1]: near 1 where few pixels turn the classifier, near -1 where none do. It rewards small changes that
      one network minds, adversarial ones too: read it beside `transferred`.

    Source: Khorram and Fuxin 2022, section 4.
    """
    gap = np.asarray(target, np.float64) - np.asarray(source, np.float64)
    return ((gap[1:] + gap[:-1]) / 2).mean(axis=0)


def spread(repeats: ArrayLike) -> np.ndarray:
    """The standard deviation of each pixel over seeds, (n, h, w), of treated films (seeds, n, h, w), two seeds or more.

    0 for what draws nothing. It rewards a model that leaves open what a film does not decide, and noise as well.
    """
    repeats = np.asarray(repeats, np.float64)
    return np.where(np.ptp(repeats, axis=0) == 0, 0.0, repeats.std(axis=0, ddof=1))  # a mean of equals may round


def seed_interval(repeats: ArrayLike, share: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of one more seed's film lies in this share of cases, if seeds are normal about their mean.

    Args:
      repeats: (seeds, n, h, w), two seeds or more.
      share: in (0, 1).

    Returns:
      low and high, (n, h, w): Student's prediction interval, mean -+ t sd sqrt(1 + 1 / seeds).
    """
    repeats = np.asarray(repeats, np.float64)
    s = len(repeats)
    half = stats.t.ppf((1 + share) / 2, s - 1) * spread(repeats) * np.sqrt(1 + 1 / s)
    center = np.clip(repeats.mean(axis=0), repeats.min(axis=0), repeats.max(axis=0))
    return center - half, center + half


def within(films: ArrayLike, low: np.ndarray, high: np.ndarray, mask: ArrayLike | None = None) -> np.ndarray:
    """The share of pixels within a mask (n, h, w) where films lie in an interval, (n,); NaN where it is empty."""
    films = np.asarray(films, np.float64)
    return similarity.mean_in(((low <= films) & (films <= high)).astype(np.float64), mask)


def dice(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Dice of two regions (n, h, w) bool, (n,) in [0, 1]: twice what they share over their sizes; NaN where both are
    empty."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    sizes = (a.sum(axis=(1, 2)) + b.sum(axis=(1, 2))).astype(np.float64)
    return np.divide(2 * (a & b).sum(axis=(1, 2)), sizes, out=np.full(len(a), np.nan), where=sizes > 0)


def attributes_changed(before: ArrayLike, after: ArrayLike) -> np.ndarray:
    """How many attributes (n, k) bool of a film are others once it is treated, (n,); their mean over films is MNAC.

    Source: Rodriguez et al. 2021, "Beyond trivial counterfactual explanations with diverse valuable explanations".
    """
    return (np.asarray(before, bool) != np.asarray(after, bool)).sum(axis=1).astype(np.float64)
