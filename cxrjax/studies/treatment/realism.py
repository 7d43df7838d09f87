"""Do treated films look like films of healthy patients? Frechet distances in a judge's features, beside their floor."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cxrjax.metrics import entries, frechet
from cxrjax.types import Results

AXES = 16  # principal axes: few enough for the dozens of films that a study treats
DRAWS = 200


class Reference(NamedTuple):
    """Held-out healthy films in a judge's features.

    Attributes:
      center, axes: (d,) and (d, k), the mean and the first principal axes of the healthy films' features.
      features: (n, k), the films on these axes.
      floor: the distance of two sets of healthy films of this size.
    """

    center: np.ndarray
    axes: np.ndarray
    features: np.ndarray
    floor: float


def reference(pooled: np.ndarray, films: int) -> Reference | None:
    """What treated films are measured against; None where there are too few healthy or treated films.

    Args:
      pooled: (n, d) features of held-out healthy films.
      films: how many treated films will be compared.
    """
    k = min(AXES, pooled.shape[1])
    if not (frechet.enough(len(pooled), k) and frechet.enough(films, k)):
        return None
    x = pooled.astype(np.float64)
    center = x.mean(axis=0)
    axes = np.linalg.svd(x - center, full_matrices=False)[2][:k].T  # (d, k)
    features = (x - center) @ axes
    return Reference(center, axes, features, frechet.floor(features))


def distance(to: Reference, pooled: np.ndarray) -> Results:
    """The distance of treated films' features (m, d) to the healthy films, an entry with its interval.

    The bias of few films is taken off, as far as halves of the sets show it.
    """
    found = frechet.estimate(to.features, (pooled - to.center) @ to.axes, draws=DRAWS)
    return entries.entry(found.debiased, found.debiased_low, found.debiased_high, n=len(pooled))
