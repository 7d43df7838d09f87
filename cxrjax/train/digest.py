"""Digests of a state's leaves, computed where the arrays are: any sharding, any number of processes, no host copy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.types import State


def _mix(h: jax.Array) -> jax.Array:
    """The finalizer of MurmurHash3, a bijection of uint32."""
    h = (h ^ (h >> 16)) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * np.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def _words(x: jax.Array) -> jax.Array:
    """The bits of `x` as uint32, of its own shape, or with an axis of 2 more for 64-bit and complex numbers."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag], axis=-1)
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    if x.dtype.itemsize == 8:
        return jax.lax.bitcast_convert_type(x, jnp.uint32)
    if jnp.issubdtype(x.dtype, jnp.integer):
        return x.astype(jnp.uint32)  # wraps, and so loses nothing
    return jax.lax.bitcast_convert_type(x, f"uint{jnp.finfo(x.dtype).bits}").astype(jnp.uint32)


# One small program per shape: a single program over all leaves takes five times as long to compile.
@jax.jit
def leaf_digest(x: jax.Array) -> jax.Array:
    """Digest of an array's bits and their positions: the wrapping sum of `mix(bits ^ mix(position + 1))`.

    `mix` is a bijection, so one changed element always changes the sum; a swap is missed with probability 2^-32 (a
    weighted sum without it would never notice `x` and `-x` trading places). Sums of integers have no order, so
    shardings and process counts do not matter.

    Args:
      x: any shape; bool, integer, float of any width, or complex.

    Returns:
      () uint32.
    """
    words = _words(x)
    position = jnp.ones(words.shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(words.ndim)):  # positions by iota, since a reshape would gather a sharded array
        position += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * np.uint32(stride % 2**32)
        stride *= words.shape[axis]
    return jnp.sum(_mix(words ^ _mix(position)), dtype=jnp.uint32)


@jax.jit
def _stack(digests: Sequence[jax.Array]) -> jax.Array:
    return jnp.stack(digests)


def is_key(x: Any) -> bool:
    """Whether a leaf is a typed PRNG key."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def named_leaves(state: State) -> dict[str, Any]:
    """Leaves by path, such as `params/net/Conv_0/kernel`."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    if len(named) != len(leaves):
        raise ValueError("two leaves of the state have one path: a dict key holds '/' or repeats a number as a string")
    return named


def kind_of(leaf: Any) -> dict[str, Any]:
    """Shape and dtype, as JSON."""
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def stored_form(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """What is written: no empty leaves (Orbax refuses them), and keys as their words."""
    return {k: jax.random.key_data(x) if is_key(x) else x for k, x in leaves.items() if math.prod(x.shape)}


def digest_of(stored: Mapping[str, Any]) -> jax.Array:
    """(leaves,) uint32, in the order of the sorted names."""
    return _stack([leaf_digest(stored[name]) for name in sorted(stored)])  # (leaves,)
