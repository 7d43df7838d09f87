"""The noise that a diffusion adds: Gaussian, or simplex (Wyatt et al. 2022); each film draws from a key of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from cxrjax.errors import UserError
from cxrjax.ops import simplex

# (key, t () int, shape (h, w, c)) -> (h, w, c) float32.
Draw = Callable[[jax.Array, jax.Array, tuple[int, ...]], jax.Array]
NOISES = ("gaussian", "simplex")


def gaussian(key: jax.Array, t: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal (h, w, c); the time is not read."""
    return jax.random.normal(key, shape, jnp.float32)


def of(name: str, options: Mapping[str, Any] | None = None) -> Draw:
    """The noise called `name`.

    Args:
      name: `gaussian`, or `simplex`.
      options: of simplex noise: `octaves`, `persistence`, `wavelength`, `norm`, see `simplex.noise`.

    Raises:
      UserError: an unknown name.
    """
    if name not in NOISES:
        raise UserError(f"noise is {name!r}: expected {' or '.join(NOISES)}")
    return gaussian if name == "gaussian" else partial(simplex.noise, **(options or {}))


def draw(noise: Draw, keys: jax.Array, t: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Noise (b, *shape) of keys (b,) at times (b,): batching and sharding change no film's."""
    return jax.vmap(lambda key, at: noise(key, at, shape))(keys, t)
