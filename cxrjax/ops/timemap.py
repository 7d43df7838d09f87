"""Maps of diffusion times for networks that are told a time at every pixel (RAD: Kim et al. 2025, section 4)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

GRIDS = (2, 4, 8)  # blobs a side: as coarse as a lung, as fine as a lesion
EVERYWHERE = 0.1  # share of maps that are 1 at every pixel: the scalar-time network is the special case


def blobs(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A random map (h, w) in [0, 1] with regions of 0, of 1, and edges between them that may be soft or hard.

    A coarse grid of normal values, enlarged smoothly, is cut at a random level with a random slope.
    """
    grid_key, level_key, slope_key, all_key, *keys = jax.random.split(key, 4 + len(GRIDS))
    fields = jnp.stack([
        jax.image.resize(jax.random.normal(k, (n + 1, n + 1)), shape, "cubic") for k, n in zip(keys, GRIDS, strict=True)
    ])  # (3, h, w)  # fmt: skip
    field = fields[jax.random.randint(grid_key, (), 0, len(GRIDS))]
    level = jax.random.uniform(level_key, minval=-0.5, maxval=1.0)
    slope = jnp.exp(jax.random.uniform(slope_key, minval=jnp.log(0.5), maxval=jnp.log(50.0)))
    cut = jnp.clip(slope * (field - level), 0.0, 1.0)
    return jnp.where(jax.random.uniform(all_key) < EVERYWHERE, 1.0, cut)


def pooled(t: jax.Array, side: int) -> jax.Array:
    """Times (b, h, w) averaged over squares to (b, side', side); the short side keeps the film's aspect."""
    b, h, w = t.shape
    factor = w // side
    return t.astype(jnp.float32).reshape(b, h // factor, factor, w // factor, factor).mean(axis=(2, 4))
