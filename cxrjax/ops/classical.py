"""Treatments without a model: they show what the measures of a treatment reward. On the host, film by film.

Each takes films (n, h, w, 1) float32 in [0, 1] and the region (n, h, w, 1) bool that it may change.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.restoration import inpaint_biharmonic


def identity(films: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The films themselves."""
    return films


def blurred(films: np.ndarray, region: np.ndarray, *, width: float = 1 / 16) -> np.ndarray:
    """Inside the region the film after a Gaussian blur, its standard deviation `width` of the side."""
    std = width * films.shape[2]
    return np.where(region, ndimage.gaussian_filter(films, (0, std, std, 0)), films)


def inpainted(films: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Inside the region what its border continues to, by the biharmonic equation (Damelin and Hoang 2018)."""
    filled = [
        inpaint_biharmonic(film[..., 0], inside[..., 0]) if inside.any() else film[..., 0]
        for film, inside in zip(films, region, strict=True)
    ]
    return np.where(region, np.clip(np.stack(filled)[..., None], 0, 1), films)
