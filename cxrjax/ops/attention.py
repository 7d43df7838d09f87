"""Self-attention over a map: by the formula, by blocks of queries, and by cuDNN's fused kernel where it runs.

The last two do without the map of all pairs: memory grows with the number of positions, not its square.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

Array = jax.Array
BLOCK = 128  # queries at a time
PAIRS = 2**20  # of a film's head at a time: a map of 32x32 is one block, which is the formula


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


def attend(query: Array, key: Array, value: Array) -> Array:
    """Multi-head softmax attention, scaled by d^-1/2, in the form that the machine runs best.

    cuDNN's fused kernel where `fuses` says so, else blocks of queries. The latter scales query and key by d^-1/4 each,
    which keeps half-precision products in range where scaling the product would not (Dhariwal and Nichol 2021); the
    softmax is float32 in both.

    Args:
      query, key, value: (b, n, heads, d) of one dtype.

    Returns:
      (b, n, heads, d), in the dtype of `value`.
    """
    if fuses(query):
        return fused(query, key, value, "cudnn")
    b, n, heads, d = query.shape
    scale = d**-0.25
    q, k, v = (x.swapaxes(1, 2).reshape(b * heads, n, d) for x in (query * scale, key * scale, value))
    return blockwise(q, k, v, max(BLOCK, PAIRS // n)).reshape(b, heads, n, d).swapaxes(1, 2)


def fused(query: Array, key: Array, value: Array, implementation: Literal["cudnn", "xla"]) -> Array:
    """`attend` by `jax.nn.dot_product_attention`; of its two implementations "xla" runs anywhere."""
    return jax.nn.dot_product_attention(query, key, value, implementation=implementation)


def fuses(query: Array) -> bool:
    """Whether cuDNN's fused attention takes (b, n, heads, d) on the devices of this process.

    That is on an NVIDIA GPU from Ampere on, in half precision, with heads of a multiple of 8 channels, at most 128, or
    256 from Hopper on.

    Source: `jax.nn.dot_product_attention`; NVIDIA, cuDNN developer guide, scaled dot product attention.
    """
    if jax.default_backend() != "gpu" or query.dtype not in (jnp.bfloat16, jnp.float16):
        return False
    generation = str(getattr(jax.local_devices()[0], "compute_capability", "")).partition(".")[0]
    if not generation.isdecimal() or int(generation) < 8:  # AMD's has letters
        return False
    width = query.shape[-1]
    return width % 8 == 0 and width <= (256 if int(generation) >= 9 else 128)
