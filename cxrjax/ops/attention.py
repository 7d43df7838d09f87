"""Self-attention over a map without the map of all pairs: memory grows with the number of positions, not its square."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array
BLOCK = 128  # queries at a time


def dense(query: Array, key: Array, value: Array) -> Array:
    """Softmax attention by the formula: (b, m, d), (b, n, d), (b, n, e) -> (b, m, e); the pairs are float32."""
    scores = jnp.einsum("bmd,bnd->bmn", query, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("bmn,bne->bme", weights, value)


def blockwise(query: Array, key: Array, value: Array, block: int = BLOCK) -> Array:
    """`dense`, `block` queries at a time in both passes; the backward pass makes each block's weights anew.

    Args:
      query: (b, m, d), unscaled.
      key: (b, n, d).
      value: (b, n, e).
      block: queries at a time; they are padded to a multiple.

    Returns:
      (b, m, e). Peak memory beside inputs and gradients is O(b block n).

    Source: Rabe and Staats 2021, section 3, in blocks of queries alone.
    """
    b, m, d = query.shape
    if m <= block:
        return dense(query, key, value)
    blocks = -(-m // block)
    padded = jnp.pad(query, ((0, 0), (0, blocks * block - m), (0, 0)))
    parts = padded.reshape(b, blocks, block, d).swapaxes(0, 1)  # (blocks, b, block, d)
    out = jax.lax.map(jax.checkpoint(lambda part: dense(part, key, value)), parts)
    return out.swapaxes(0, 1).reshape(b, blocks * block, -1)[:, :m]
