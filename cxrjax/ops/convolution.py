"""A convolution whose gradients are convolutions in the layout that every backend runs fast, in any control flow.

XLA brings the gradients of a convolution into the layout of its fast CPU kernels only where they stand at the top of a
program: inside `lax.cond`, `lax.scan` or `lax.fori_loop` they fall to a loop that is 25 to 40 times slower. Here the
gradients are written in that layout to begin with. Reverse mode once only: a custom gradient has no forward mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Pairs = tuple[tuple[int, int], tuple[int, int]]
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def _conv(
    x: Array, kernel: Array, stride: Sequence[int], pad: Pairs, dilate: Sequence[int], spread: Any = None
) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, tuple(stride), pad, lhs_dilation=tuple(dilate), rhs_dilation=spread, dimension_numbers=DIMENSIONS
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolve(x: Array, kernel: Array, stride: tuple[int, int], pad: Pairs, dilate: tuple[int, int] = (1, 1)) -> Array:
    """`lax.conv_general_dilated` of (b, h, w, c) with (kh, kw, c, o) -> (b, h', w', o).

    Args:
      x: feature map.
      kernel: of the same dtype.
      stride: of the windows.
      pad: ((top, bottom), (left, right)), of the dilated map.
      dilate: zeros put between the rows and columns of `x`, plus one; 2 makes a transposed convolution.
    """
    return _conv(x, kernel, stride, pad, dilate)


def _forward(
    x: Array, kernel: Array, stride: tuple[int, int], pad: Pairs, dilate: tuple[int, int]
) -> tuple[Array, tuple[Array, Array]]:
    return _conv(x, kernel, stride, pad, dilate), (x, kernel)


def _backward(
    stride: tuple[int, int], pad: Pairs, dilate: tuple[int, int], saved: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    of_x, of_kernel = [], []
    for axis in (0, 1):
        k, low = kernel.shape[axis], pad[axis][0]
        wide_x = (x.shape[1 + axis] - 1) * dilate[axis] + 1
        wide_y = (dy.shape[1 + axis] - 1) * stride[axis] + 1
        of_x.append((k - 1 - low, wide_x + low - wide_y))
        of_kernel.append((low, k - 1 + wide_y - wide_x - low))
    flipped = jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2)  # (kh, kw, o, c)
    dx = _conv(dy, flipped, dilate, (of_x[0], of_x[1]), stride)
    # The batch is what is summed over: channels take its place in x, and dy is the kernel. The padding is made first,
    # since a kernel larger than its map has no fast CPU kernel either.
    wide = jax.lax.pad(
        x.transpose(3, 1, 2, 0), jnp.zeros((), x.dtype),
        ((0, 0, 0), *((*of_kernel[i], dilate[i] - 1) for i in (0, 1)), (0, 0, 0)),
    )  # fmt: skip
    wide = jax.lax.optimization_barrier(wide)  # XLA would fold the padding back into the convolution
    rows = _conv(wide, dy.transpose(1, 2, 0, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), stride)
    return dx, rows.transpose(1, 2, 0, 3)  # (c, kh, kw, o) -> (kh, kw, c, o)


convolve.defvjp(_forward, _backward)


def _phases(w: Array, axis: int) -> list[Array]:
    """What a 3-kernel is to the small map at a doubled map's even positions, and at its odd ones: w0 | w1 + w2, and
    w0 + w1 | w2."""
    w0, w1, w2 = jnp.split(w, 3, axis=axis)
    return [jnp.concatenate([w0, w1 + w2], axis=axis), jnp.concatenate([w0 + w1, w2], axis=axis)]


def double_and_convolve(x: Array, kernel: Array) -> Array:
    """Nearest doubling, then a 3x3 convolution that keeps the side: (b, h, w, c), (3, 3, c, o) -> (b, 2h, 2w, o).

    Computed on the small map, as one 2x2 convolution of four phases: 4 products a pixel instead of 9.
    """
    return _in_phases(x, [q for p in _phases(kernel, 0) for q in _phases(p, 1)])


def transposed(x: Array, kernel: Array) -> Array:
    """A 4x4 transposed convolution of stride 2 that doubles the side: (b, h, w, c), (4, 4, c, o) -> (b, 2h, 2w, o).

    It is `convolve` with dilation 2 and padding 2, in four phases: 4 products a pixel instead of 16, most of them of
    zeros.
    """
    return _in_phases(x, [kernel[i::2, j::2] for i in range(2) for j in range(2)])


def _in_phases(x: Array, kernels: Sequence[Array]) -> Array:
    """A doubled map from the 2x2 kernels of its even and odd rows and columns."""
    b, h, w, _ = x.shape
    o = kernels[0].shape[-1]
    small = jnp.concatenate(kernels, axis=-1)  # (2, 2, c, 4 o)
    y = convolve(x, small, (1, 1), ((1, 1), (1, 1))).reshape(b, h + 1, w + 1, 2, 2, o)
    rows = jnp.stack([y[:, :-1, :, 0], y[:, 1:, :, 1]], axis=2)  # (b, h, 2, w + 1, 2, o)
    both = jnp.stack([rows[:, :, :, :-1, 0], rows[:, :, :, 1:, 1]], axis=4)  # (b, h, 2, w, 2, o)
    return both.reshape(b, 2 * h, 2 * w, o)


def convolve_with_code(x: Array, code: Array, kernel: Array) -> Array:
    """A 3x3 convolution of a map beside a code tiled over it: (b, h, w, c), (b, k), (3, 3, c + k, o) -> (b, h, w, o).

    The code's share is the same at every position but for the windows that reach over the edge, so it is nine products
    a film, not nine a pixel.
    """
    c = x.shape[-1]
    taps = jnp.einsum("bk,ijko->bijo", code.astype(kernel.dtype), kernel[:, :, c:])  # (b, 3, 3, o)
    rows, columns = (jnp.asarray(_inside(n), kernel.dtype) for n in x.shape[1:3])
    return convolve(x, kernel[:, :, :c], (1, 1), ((1, 1), (1, 1))) + jnp.einsum("hi,wj,bijo->bhwo", rows, columns, taps)


def _inside(n: int) -> np.ndarray:
    """(n, 3) whether a window's tap at each position lies on the map."""
    at = np.arange(n)[:, None] + np.arange(-1, 2)[None]
    return ((at >= 0) & (at < n)).astype(np.float32)


def for_linen(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: Any,
    feature_group_count: int,
    precision: Any,
) -> Array:
    """`convolve` as `nn.Conv(conv_general_dilated=...)` calls it; refuses what it has no gradient for."""
    del dimension_numbers  # Linen's are those of `DIMENSIONS`
    if feature_group_count != 1 or tuple(rhs_dilation) != (1, 1) or precision is not None or isinstance(padding, str):
        raise ValueError("convolve takes no groups, no dilated kernels, no precision, and padding in numbers")
    return convolve(x, kernel, tuple(strides), (padding[0], padding[1]), tuple(lhs_dilation))
