"""How alike two films are, film by film, over the whole film or inside a mask; on the host in float64.

Films are (n, h, w) in [0, 1]; a mask is (n, h, w), true (or above 0.5) where pixels count: `~mask` is the outside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from skimage.metrics import structural_similarity

from cxrjax.errors import UserError

_WINDOW = 7  # pixels a side of the uniform SSIM window, scikit-image's default


def ssim_map(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Structural similarity about each pixel, for a data range of 1.

    Args:
      a: (n, h, w) in [0, 1].
      b: (n, h, w) in [0, 1].

    Returns:
      (n, h, w) in [-1, 1]. The window is 7 pixels a side, or the largest odd side that fits a smaller film.

    Raises:
      UserError: shapes differ, or a side is under 3 pixels.

    Source: Wang et al. 2004, by scikit-image.
    """
    a, b = _pair(a, b)
    side = min(a.shape[1:])
    if side < 3:
        raise UserError(f"ssim: films of {a.shape[1]} x {a.shape[2]} pixels; expected at least 3 x 3")
    if not len(a):
        return np.zeros(a.shape)
    window = min(_WINDOW, side - 1 + side % 2)
    return structural_similarity(a, b, win_size=window, data_range=1.0, channel_axis=0, full=True)[1]


def ssim(a: ArrayLike, b: ArrayLike, mask: ArrayLike | None = None) -> np.ndarray:
    """Mean of `ssim_map` over the mask: films (n, h, w) in [0, 1]; (n,) in [-1, 1], NaN where the mask is empty."""
    return mean_in(ssim_map(a, b), mask)


def mae(a: ArrayLike, b: ArrayLike, mask: ArrayLike | None = None) -> np.ndarray:
    """Mean absolute difference over the mask: films (n, h, w); (n,) in their unit, NaN where the mask is empty."""
    a, b = _pair(a, b)
    return mean_in(np.abs(a - b), mask)


def psnr(a: ArrayLike, b: ArrayLike, mask: ArrayLike | None = None) -> np.ndarray:
    """-10 log10 of the mean squared difference over the mask, for a data range of 1.

    Films (n, h, w) in [0, 1]; (n,) in dB, infinite for equal films, NaN where the mask is empty.
    """
    a, b = _pair(a, b)
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(mean_in((a - b) ** 2, mask))


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 3 or a.shape != b.shape:
        raise UserError(f"similarity: films {a.shape} and {b.shape}; expected one shape (n, h, w) for both")
    return a, b


def mean_in(values: np.ndarray, mask: ArrayLike | None = None) -> np.ndarray:
    """Mean of values (n, h, w) over the mask, film by film: (n,), NaN where it is empty."""
    inside = np.ones(values.shape, bool) if mask is None else np.asarray(mask) > 0.5
    if inside.shape != values.shape:
        raise UserError(f"similarity: a mask {inside.shape} for films {values.shape}; expected one shape (n, h, w)")
    total = np.where(inside, values, 0.0).sum(axis=(1, 2))
    count = inside.sum(axis=(1, 2))
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
