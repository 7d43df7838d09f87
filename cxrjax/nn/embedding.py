"""Sinusoidal embedding of the diffusion timestep."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from cxrjax.nn.conv import TORCH_UNIFORM

Array = jax.Array


def timestep_embedding(t: Array, dim: int) -> Array:
    """Sines, then cosines, of `t` at dim / 2 frequencies exp(-ln(1e4) k / (dim / 2)), k = 0 .. dim / 2 - 1.

    Args:
      t: (...) timestep, 0-based, integer or real: (b,), or (b, h, w), one a pixel.
      dim: even width.

    Returns:
      (..., dim) float32. Source: Wyatt et al. 2022, after Vaswani et al. 2017.
    """
    half = dim // 2
    freqs = jnp.exp(-math.log(1e4) / half * jnp.arange(half, dtype=jnp.float32))
    angles = t.astype(jnp.float32)[..., None] * freqs.reshape((1,) * t.ndim + (half,))  # (..., half)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class TimeEmbedding(nn.Module):
    """Sinusoids of width `dim`, dense 4 dim, SiLU, dense 4 dim, all in float32. (b,) -> (b, 4 dim).

    A map of times (b, h, w) -> (b, h, w, 4 dim), by the same weights: dense layers at every pixel are 1x1 convolutions.
    """

    dim: int

    @nn.compact
    def __call__(self, t: Array) -> Array:
        y = timestep_embedding(t, self.dim)
        y = nn.silu(nn.Dense(4 * self.dim, kernel_init=TORCH_UNIFORM, name="dense1")(y))
        return nn.Dense(4 * self.dim, kernel_init=TORCH_UNIFORM, name="dense2")(y)
