"""What a treated film changed, and whom that convinced; on the host in float64.

Films are (n, h, w) in [0, 1], the i-th treated film made of the i-th film.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

SEEN = 1 / 32  # of the gray scale: a smaller change is not counted as one


def changed(films: ArrayLike, treated: ArrayLike, mask: ArrayLike | None = None, least: float = SEEN) -> np.ndarray:
    """The share of pixels within a mask (n, h, w) that changed by more than `least`, (n,); NaN where it is empty.

    A film that returns has 0; what treats little has little, whether or not it healed.
    """
    moved = np.abs(np.asarray(treated, np.float64) - np.asarray(films, np.float64)) > least
    inside = np.ones(moved.shape, bool) if mask is None else np.asarray(mask) > 0.5
    count = inside.sum(axis=(1, 2))
    share = (moved & inside).sum(axis=(1, 2))
    return np.divide(share, count, out=np.full(len(moved), np.nan), where=count > 0)


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
