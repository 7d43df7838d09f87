"""Convolutions with torch's explicit padding, their initializers, and the factor-two resamplings."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer

Array = jax.Array

HE_FAN_IN: Initializer = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
HE_FAN_OUT: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# torch's default for convolutions and dense layers: uniform within 1 / sqrt(fan_in).
TORCH_UNIFORM: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
GLOROT: Initializer = nn.initializers.variance_scaling(1.0, "fan_avg", "normal")
ZEROS: Initializer = nn.initializers.zeros_init()


def conv(
    features: int,
    kernel: int,
    stride: int = 1,
    *,
    bias: bool = False,
    init: Initializer = HE_FAN_OUT,
    dtype: Any = jnp.float32,
    name: str | None = None,
) -> nn.Conv:
    """A square convolution padded by `kernel // 2` on every side, as torch pads (XLA's SAME differs when strided)."""
    pad = (kernel // 2, kernel // 2)
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=(stride, stride),
        padding=(pad, pad),
        use_bias=bias,
        kernel_init=init,
        dtype=dtype,
        name=name,
    )


def max_pool(x: Array, kernel: int = 3, stride: int = 2, pad: int = 1) -> Array:
    """Maximum over windows; the padding never wins. (b, h, w, c) -> (b, h', w', c)."""
    return nn.max_pool(x, (kernel, kernel), strides=(stride, stride), padding=((pad, pad), (pad, pad)))


def halve(x: Array) -> Array:
    """Mean over 2x2 windows, an odd last row or column dropped. (b, h, w, c) -> (b, h // 2, w // 2, c)."""
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    # A reshape, not a window: the gradient of a windowed sum is slow on CPU.
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def double(x: Array) -> Array:
    """Nearest-neighbor enlargement by two. (b, h, w, c) -> (b, 2h, 2w, c)."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c))
    return x.reshape(b, 2 * h, 2 * w, c)
