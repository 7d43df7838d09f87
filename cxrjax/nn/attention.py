"""Self-attention over the positions of a feature map."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cxrjax.nn.conv import TORCH_UNIFORM, ZEROS
from cxrjax.nn.norm import group_norm
from cxrjax.ops.attention import attend

Array = jax.Array


class AttentionBlock(nn.Module):
    """GroupNorm, multi-head self-attention, zero-initialized projection, residual: the identity at initialization.

    Attributes:
      heads: number of heads; must divide the channels.
      groups: groups of the GroupNorm.
      dtype: compute dtype.
    """

    heads: int = 1
    groups: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, h, w, c = x.shape
        y = group_norm(self.groups, dtype=self.dtype, name="norm")(x).reshape(b, h * w, c)
        qkv = nn.Dense(3 * c, kernel_init=TORCH_UNIFORM, dtype=self.dtype, name="qkv")(y)
        # Head first, then q, k, v: the channel order of the published weights.
        qkv = qkv.reshape(b, h * w, self.heads, 3, c // self.heads)
        y = attend(qkv[..., 0, :], qkv[..., 1, :], qkv[..., 2, :]).reshape(b, h * w, c)
        y = nn.Dense(c, kernel_init=ZEROS, dtype=self.dtype, name="proj")(y)
        return x + y.reshape(b, h, w, c)
