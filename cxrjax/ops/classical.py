"""Treatments without a model: they show what the measures of a treatment reward. On the host, film by film.

Each takes films (n, h, w, 1) float32 in [0, 1] and the region (n, h, w, 1) bool that it may change.
"""

from __future__ import annotations

import cv2
import numpy as np


def identity(films: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The films themselves."""
    return films


def blurred(films: np.ndarray, region: np.ndarray, *, width: float = 1 / 16) -> np.ndarray:
    """Inside the region the film after a Gaussian blur, its standard deviation `width` of the side."""
    soft = [cv2.GaussianBlur(film, (0, 0), width * film.shape[1])[..., None] for film in films]
    return np.where(region, np.stack(soft), films)


def inpainted(films: np.ndarray, region: np.ndarray, *, radius: float = 3 / 64) -> np.ndarray:
    """Inside the region what its border continues to, by Telea's fast marching (2004) in OpenCV.

    Args:
      films, region: as above.
      radius: of the neighborhood that a pixel is made of, as a share of the side.
    """
    filled = [
        cv2.inpaint(film[..., 0], inside[..., 0].astype(np.uint8), radius * film.shape[1], cv2.INPAINT_TELEA)
        for film, inside in zip(films, region, strict=True)
    ]
    return np.where(region, np.clip(np.stack(filled)[..., None], 0, 1), films)
