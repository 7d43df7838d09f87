"""Multi-scale structural similarity on device: how alike two films are, for the diversity of samples."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, finest scale first
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def _window() -> np.ndarray:
    x = np.arange(WINDOW) - WINDOW // 2
    g = np.exp(-(x**2) / (2 * SIGMA**2))
    return (g / g.sum()).astype(np.float32)


def _smooth(x: Array) -> Array:
    """The Gaussian mean about each pixel that a whole window fits around. (b, h, w) -> (b, h - 10, w - 10)."""
    g = jnp.asarray(_window())
    for axis in (1, 2):
        n = x.shape[axis] - WINDOW + 1
        shifted = [g[i] * jax.lax.slice_in_dim(x, i, i + n, axis=axis) for i in range(WINDOW)]
        x = jnp.stack(shifted).sum(axis=0)
    return x


def _terms(a: Array, b: Array) -> tuple[Array, Array]:
    """Mean luminance-and-structure term (the SSIM), and mean structure term alone, each (b,)."""
    ma, mb = _smooth(a), _smooth(b)
    va, vb = _smooth(a * a) - ma * ma, _smooth(b * b) - mb * mb
    structure = (2 * (_smooth(a * b) - ma * mb) + C2) / (va + vb + C2)
    luminance = (2 * ma * mb + C1) / (ma * ma + mb * mb + C1)
    return (luminance * structure).mean(axis=(1, 2)), structure.mean(axis=(1, 2))


def scales(side: int) -> int:
    """How many of the five scales a film of this side has: its window must fit the smallest."""
    return max(sum(side // 2**i >= WINDOW for i in range(len(WEIGHTS))), 1)


def ms_ssim(a: Array, b: Array) -> Array:
    """Multi-scale SSIM of films in [0, 1], data range 1: (b, s, s, 1) twice -> (b,) in [0, 1].

    NaN for films under 11 pixels, around which no window fits.

    A film under 176 pixels has fewer than five scales; their weights are scaled to sum 1, so that values of different
    sides do not compare. Source: Wang et al. 2003.
    """
    if a.shape[1] < WINDOW:
        return jnp.full(a.shape[0], jnp.nan)
    a, b = a[..., 0].astype(jnp.float32), b[..., 0].astype(jnp.float32)
    count = scales(a.shape[1])
    weights = np.asarray(WEIGHTS[:count]) / sum(WEIGHTS[:count])
    out = jnp.ones(a.shape[0])
    for i, weight in enumerate(weights):
        whole, structure = _terms(a, b)
        term = whole if i == count - 1 else structure
        out = out * jnp.maximum(term, 0.0) ** float(weight)
        if i < count - 1:
            a, b = (x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2] for x in (a, b))
            a, b = (x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2).mean(axis=(2, 4)) for x in (a, b))
    return out
