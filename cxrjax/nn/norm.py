"""Normalization layers with float32 statistics, whatever the compute dtype.

The parameters and the statistics have flax's names. What differs is the order of the arithmetic: sums run over the
positions of a film first, channels side by side as they lie, and a map is then scaled and shifted once. On a CPU a
train step's share of them is half of that of flax's layers; one reduction of both sums at once was three times slower.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer

Array = jax.Array


class BatchNorm(nn.Module):
    """`flax.linen.BatchNorm` over all axes but the last.

    Attributes:
      use_running_average: normalize by the running statistics, and leave them.
      momentum: share of the running statistics that an update keeps.
      epsilon: added to the variance.
      dtype: of the output; statistics, parameters and arithmetic are float32 at least.
      scale_init: of `scale`.
    """

    use_running_average: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    scale_init: Initializer = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        running = [self.variable("batch_stats", name, fill, (c,), jnp.float32)
                   for name, fill in (("mean", jnp.zeros), ("var", jnp.ones))]  # fmt: skip
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.use_running_average:
            mean, variance = (one.value for one in running)
        else:
            total, square = (sum_.sum(axis=0) for sum_ in _sums(x))
            mean, variance = _moments(total, square, x.size // c)
            if not self.is_initializing():
                for one, new in zip(running, (mean, variance), strict=True):
                    one.value = self.momentum * one.value + (1 - self.momentum) * new
        return _normalized(self, x, mean[None], variance[None], self.scale_init)


class GroupNorm(nn.Module):
    """`flax.linen.GroupNorm`: each film by itself, over its positions and the channels of a group.

    Attributes:
      num_groups: must divide the channels.
      epsilon: added to the variance.
      dtype: of the output; parameters and arithmetic are float32 at least.
    """

    num_groups: int
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, c = x.shape[0], x.shape[-1]
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        total, square = (sum_.reshape(b, self.num_groups, -1).sum(axis=-1) for sum_ in _sums(x))  # (b, groups)
        moments = _moments(total, square, x.size // (b * self.num_groups))
        mean, variance = (jnp.repeat(one, c // self.num_groups, axis=-1) for one in moments)  # (b, c)
        return _normalized(self, x, mean, variance, nn.initializers.ones_init())


def _sums(x: Array) -> tuple[Array, Array]:
    """Sums of values and of squares over a film's positions: (b, ..., c) -> (b, c) each."""
    positions = tuple(range(1, x.ndim - 1))
    return x.sum(axis=positions), jnp.square(x).sum(axis=positions)


def _moments(total: Array, square: Array, count: int) -> tuple[Array, Array]:
    mean = total / count
    return mean, jnp.maximum(square / count - jnp.square(mean), 0.0)


def _normalized(layer: BatchNorm | GroupNorm, x: Array, mean: Array, variance: Array, scale_init: Initializer) -> Array:
    """A map by the moments of its films, (b or 1, c), and by the layer's parameters `scale` and `bias`."""
    scale = layer.param("scale", scale_init, x.shape[-1:], jnp.float32)
    bias = layer.param("bias", nn.initializers.zeros_init(), x.shape[-1:], jnp.float32)
    factor = jax.lax.rsqrt(variance + layer.epsilon) * scale[None]
    term = bias[None] - mean * factor
    factor, term = (jnp.expand_dims(one, range(1, x.ndim - 1)) for one in (factor, term))
    return (x * factor + term).astype(layer.dtype)


def batch_norm(
    train: bool,
    *,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    dtype: Any = jnp.float32,
    name: str | None = None,
) -> BatchNorm:
    """BatchNorm, by default with torchvision's constants (torch writes the momentum 0.9 as 0.1).

    Statistics are taken in float32 and live in the collection `batch_stats`; they change only where `train` is true and
    that collection is mutable. The running variance is the biased one (torch: unbiased; the ratio is n / (n - 1)).
    """
    return BatchNorm(use_running_average=not train, momentum=momentum, epsilon=epsilon, dtype=dtype, name=name)


def group_norm(groups: int, *, dtype: Any = jnp.float32, name: str | None = None) -> GroupNorm:
    """GroupNorm over `groups` groups of channels, epsilon 1e-5, statistics in float32 (Wu and He 2018)."""
    return GroupNorm(num_groups=groups, epsilon=1e-5, dtype=dtype, name=name)
