"""A function over many films, a batch at a time, on every device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from cxrjax.train import mesh as meshes
from cxrjax.train import processes


def in_batches(mesh: Mesh, size: int, function: Callable[..., Any], *arrays: np.ndarray) -> Any:
    """Applies a jitted function to rows `size` at a time, the last batch padded by its first row; one compilation.

    Every process holds all rows, hands its share to its devices, and gets the whole answer back.
    """
    size = meshes.whole_batch(mesh, size)
    parts = []
    for start in range(0, len(arrays[0]), size):
        parts.append(one_batch(mesh, size, function, *(a[start : start + size] for a in arrays)))
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def one_batch(mesh: Mesh, size: int, function: Callable[..., Any], *arrays: np.ndarray) -> Any:
    """One batch of `in_batches`: at most `size` rows, a multiple of the devices."""
    share = size // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    real = len(arrays[0])
    padded = [np.concatenate([a, np.repeat(a[:1], size - real, axis=0)]) for a in arrays]
    out = processes.rows(function(*meshes.put(mesh, tuple(p[mine] for p in padded))))
    return jax.tree.map(lambda x: x[:real], out)
