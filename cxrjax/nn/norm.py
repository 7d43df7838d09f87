"""Normalization layers with float32 statistics, whatever the compute dtype."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp


def batch_norm(
    train: bool,
    *,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    dtype: Any = jnp.float32,
    name: str | None = None,
) -> nn.BatchNorm:
    """BatchNorm, by default with torchvision's constants (torch writes the momentum 0.9 as 0.1).

    Statistics are taken in float32 and live in the collection `batch_stats`; they change only where `train` is true and
    that collection is mutable. The running variance is the biased one (torch: unbiased; the ratio is n / (n - 1)).
    """
    return nn.BatchNorm(use_running_average=not train, momentum=momentum, epsilon=epsilon, dtype=dtype, name=name)


def group_norm(groups: int, *, dtype: Any = jnp.float32, name: str | None = None) -> nn.GroupNorm:
    """GroupNorm over `groups` groups of channels, epsilon 1e-5, statistics in float32 (Wu and He 2018)."""
    return nn.GroupNorm(num_groups=groups, epsilon=1e-5, dtype=dtype, name=name)
