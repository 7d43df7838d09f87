"""Convolutions with torch's explicit padding, their initializers, and the factor-two resamplings."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.initializers import Initializer

from cxrjax.ops.convolution import convolve, double_and_convolve
from cxrjax.ops.separable import depthwise, pointwise

Array = jax.Array

HE_FAN_IN: Initializer = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
HE_FAN_OUT: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# torch's default for convolutions and dense layers: uniform within 1 / sqrt(fan_in).
TORCH_UNIFORM: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
GLOROT: Initializer = nn.initializers.variance_scaling(1.0, "fan_avg", "normal")
ZEROS: Initializer = nn.initializers.zeros_init()


def conv(
    features: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    *,
    pad: int | str | None = None,
    groups: int = 1,
    bias: bool = False,
    doubled: bool = False,
    init: Initializer = HE_FAN_OUT,
    dtype: Any = jnp.float32,
    name: str | None = None,
) -> nn.Conv:
    """A convolution padded by `kernel // 2` on every side, as torch pads (XLA's SAME differs when strided).

    `kernel` is a side, or (height, width); `pad` is another padding of every side, or "SAME", TensorFlow's, by the
    side of the map. `groups` of channels see nothing of each other; as many as there are channels is depthwise.
    `doubled` is of the map's nearest enlargement by two, for kernels of 3.
    """
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    pads = pad if isinstance(pad, str) else [(p, p) for p in (side // 2 if pad is None else pad for side in sides)]
    return nn.Conv(
        features,
        sides,
        strides=(stride, stride),
        padding=pads,
        feature_group_count=groups,
        use_bias=bias,
        kernel_init=init,
        dtype=dtype,
        conv_general_dilated=_of_doubled if doubled else _by_kind,
        name=name,
    )


def _by_kind(x: Array, kernel: Array, strides: Any, padding: Any, *, feature_group_count: int, **options: Any) -> Array:
    """What `nn.Conv` calls: depthwise, pointwise and all others, each in forms of its own on CPU."""
    stride, sides = (strides[0], strides[1]), kernel.shape[:2]
    pads = jax.lax.padtype_to_pads(x.shape[1:3], sides, stride, padding) if isinstance(padding, str) else padding
    (top, bottom), (left, right) = pads
    if feature_group_count == x.shape[-1] == kernel.shape[-1] != 1:
        return depthwise(x, kernel, stride, ((top, bottom), (left, right)))
    if sides == (1, 1) and feature_group_count == 1 and not (top or bottom or left or right):
        return pointwise(x, kernel, stride)
    if feature_group_count == 1 and tuple(options["rhs_dilation"]) == (1, 1):
        return convolve(x, kernel, stride, ((top, bottom), (left, right)))
    return jax.lax.conv_general_dilated(x, kernel, stride, pads, feature_group_count=feature_group_count, **options)


def _of_doubled(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """What `nn.Conv` calls where the map is to be doubled first: on CPU without the doubled map."""
    one = ((1, 1), (1, 1))
    return jax.lax.platform_dependent(
        x, kernel, cpu=double_and_convolve, default=lambda x, kernel: convolve(double(x), kernel, (1, 1), one)
    )


BORDERS = {"edge": "edge", "zeros": "constant"}  # and numpy's names for them


def bordered(x: Array, border: str) -> Array:
    """A map with one position more on every side: "edge" repeats its border, "zeros" adds none of its own.

    For a 3x3 convolution without padding that a global maximum follows. Zeros bring the border's answers nearer to 0:
    where most answers are negative, as those of rare findings are, the border then holds the maximum.

    (b, h, w, c) -> (b, h + 2, w + 2, c).
    """
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=BORDERS[border])


def max_pool(x: Array, kernel: int = 3, stride: int = 2, pad: int = 1) -> Array:
    """Maximum over windows; the padding never wins. (b, h, w, c) -> (b, h', w', c)."""
    return nn.max_pool(x, (kernel, kernel), strides=(stride, stride), padding=((pad, pad), (pad, pad)))


def halve(x: Array) -> Array:
    """Mean over 2x2 windows, an odd last row or column dropped. (b, h, w, c) -> (b, h // 2, w // 2, c)."""
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    # A reshape, not a window: the gradient of a windowed sum is slow on CPU.
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def max_halve(x: Array) -> Array:
    """Maximum over 2x2 windows, an odd last row or column dropped. (b, h, w, c) -> (b, h // 2, w // 2, c)."""
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    # A reshape for the same reason as in `halve`: the gradient of a windowed maximum is slower still.
    return x.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


def mean3(x: Array) -> Array:
    """Mean over 3x3 windows one apart, zeros beyond the edge counted as torch counts them. (b, h, w, c) -> the same."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    return (x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]) / 9


def adaptive_mean(x: Array, grid: int) -> Array:
    """Mean over grid x grid windows that cover the map, as torch's adaptive average pool lays them.

    Window i of n rows runs from floor(i n / grid) to ceil((i + 1) n / grid): windows overlap where grid does not divide
    n, and repeat rows where it exceeds n. (b, h, w, c) -> (b, grid, grid, c).
    """
    if x.shape[1:3] == (grid, grid):
        return x
    rows, columns = (jnp.asarray(_windows(n, grid), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("gh,bhwc,kw->bgkc", rows, x, columns)


def _windows(n: int, grid: int) -> np.ndarray:
    out = np.zeros((grid, n))
    for i in range(grid):
        start, end = i * n // grid, -(-(i + 1) * n // grid)
        out[i, start:end] = 1 / (end - start)
    return out


def double(x: Array) -> Array:
    """Nearest-neighbor enlargement by two. (b, h, w, c) -> (b, 2h, 2w, c)."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c))
    return x.reshape(b, 2 * h, 2 * w, c)
