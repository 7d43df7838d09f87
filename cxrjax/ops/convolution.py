"""The one convolution: plain on GPU and TPU; on CPU with gradients written in forms that it computes fast.

XLA's CPU backend has two gaps. It brings the gradients of a convolution into the layout of its fast kernels only where
they stand at the top of a program: inside `lax.cond`, `lax.scan` or `lax.fori_loop` they fall to a loop that is 25 to
60 times slower. And that of the kernel, where a map is large, runs at a fifth of the speed of the forward pass. Here
both gradients are written in that layout to begin with, and that of the kernel, from `LARGE` positions on, as matrix
products film by film, which stay in the cache (the figures are those of `bench.py`, kernel_gradient).
On CPU reverse mode only: a custom gradient has no forward mode.
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
LARGE = 1024  # positions of a map: measured, the two forms of the kernel's gradient are level at 16 to 28 px


def convolve(x: Array, kernel: Array, stride: tuple[int, int], pad: Pairs, dilate: tuple[int, int] = (1, 1)) -> Array:
    """`lax.conv_general_dilated` of (b, h, w, c) with (kh, kw, c, o) -> (b, h', w', o).

    Args:
      x: feature map.
      kernel: of the same dtype.
      stride: of the windows.
      pad: ((top, bottom), (left, right)), of the dilated map.
      dilate: zeros put between the rows and columns of `x`, plus one; 2 makes a transposed convolution.
    """
    return jax.lax.platform_dependent(
        x, kernel, cpu=lambda x, kernel: on_cpu(x, kernel, stride, pad, dilate),
        default=lambda x, kernel: _conv(x, kernel, stride, pad, dilate),
    )  # fmt: skip


def _conv(
    x: Array, kernel: Array, stride: Sequence[int], pad: Pairs, dilate: Sequence[int], spread: Any = None
) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, tuple(stride), pad, lhs_dilation=tuple(dilate), rhs_dilation=spread, dimension_numbers=DIMENSIONS
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def on_cpu(x: Array, kernel: Array, stride: tuple[int, int], pad: Pairs, dilate: tuple[int, int]) -> Array:
    """`convolve` with the gradients for a CPU."""
    return _conv(x, kernel, stride, pad, dilate)


def _forward(
    x: Array, kernel: Array, stride: tuple[int, int], pad: Pairs, dilate: tuple[int, int]
) -> tuple[Array, tuple[Array, Array]]:
    return _conv(x, kernel, stride, pad, dilate), (x, kernel)


def _backward(
    stride: tuple[int, int], pad: Pairs, dilate: tuple[int, int], saved: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    of_x = []
    for axis in (0, 1):
        low = pad[axis][0]
        wide_x, wide_y = _spread(x, dilate, axis), _spread(dy, stride, axis)
        of_x.append((kernel.shape[axis] - 1 - low, wide_x + low - wide_y))
    flipped = jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2)  # (kh, kw, o, c)
    dx = _conv(dy, flipped, dilate, (of_x[0], of_x[1]), stride)
    large = dy.shape[1] * dy.shape[2] >= LARGE
    if large and tuple(dilate) == (1, 1) and len(dy) % jax.device_count() == 0:
        dkernel = by_film(x, dy, kernel.shape, stride, pad, blocks=jax.device_count())
    else:
        dkernel = by_convolution(x, dy, kernel.shape, stride, pad, dilate)
    return dx, dkernel.astype(kernel.dtype)


def _spread(x: Array, by: Sequence[int], axis: int) -> int:
    """Rows or columns of a map with zeros between them."""
    return (x.shape[1 + axis] - 1) * by[axis] + 1


def by_convolution(
    x: Array, dy: Array, shape: Sequence[int], stride: Sequence[int], pad: Pairs, dilate: Sequence[int] = (1, 1)
) -> Array:
    """The gradient of a kernel of `shape` as a convolution: the channels of x are its batch, dy is its kernel."""
    wide_x, wide_y = ([_spread(a, by, axis) for axis in (0, 1)] for a, by in ((x, dilate), (dy, stride)))
    above, beside = ((pad[i][0], shape[i] - 1 + wide_y[i] - wide_x[i] - pad[i][0]) for i in (0, 1))
    pads = above, beside
    x, spread = x.transpose(3, 1, 2, 0), tuple(dilate)
    if any(y > x for x, y in zip(wide_x, wide_y, strict=True)):
        # A kernel larger than its map has no fast CPU kernel either, and XLA would fold the padding back.
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*pads[i], dilate[i] - 1) for i in (0, 1)), (0, 0, 0)))
        x, pads, spread = jax.lax.optimization_barrier(x), ((0, 0), (0, 0)), (1, 1)
    rows = _conv(x, dy.transpose(1, 2, 0, 3), (1, 1), pads, spread, tuple(stride))
    return rows.transpose(1, 2, 0, 3)  # (c, kh, kw, o) -> (kh, kw, c, o)


def by_film(x: Array, dy: Array, shape: Sequence[int], stride: Sequence[int], pad: Pairs, *, blocks: int = 1) -> Array:
    """The gradient of a kernel of `shape` as kh matrix products a film, of dy with a film's columns side by side.

    One film's maps stay in the cache, where those of a batch go to memory and back for each position of the kernel.
    The wider of the two factors stands on the right, where the product reads it as it lies. Of undilated maps alone.

    The loop takes one film of each of `blocks` equal parts of the batch at a time: where the batch is split over as
    many devices, each goes through its own films, and a loop over the batch would gather them all.
    """
    (kh, kw, c, o), (down, right) = shape, stride
    high, broad = dy.shape[1:3]
    exact = jnp.promote_types(dy.dtype, jnp.float32)
    product = partial(jnp.matmul, preferred_element_type=exact)
    turned = kw * c < o

    def of_one(x: Array, dy: Array) -> Array:
        x = jnp.pad(x, (*pad, (0, 0)))
        beside = jnp.concatenate([x[:, j : j + (broad - 1) * right + 1 : right] for j in range(kw)], axis=-1)
        rows = [beside[i : i + (high - 1) * down + 1 : down].reshape(-1, kw * c) for i in range(kh)]
        dy = dy.reshape(-1, o)
        return jnp.stack([product(row.T, dy) if turned else product(dy.T, row) for row in rows])

    def add(total: Array, films: tuple[Array, Array]) -> tuple[Array, None]:
        return total + jax.vmap(of_one)(*films), None

    sides = (kh, kw * c, o) if turned else (kh, o, kw * c)
    x, dy = (a.reshape(blocks, -1, *a.shape[1:]).swapaxes(0, 1) for a in (x, dy))  # (b / blocks, blocks, h, w, .)
    total = jax.lax.scan(add, jnp.zeros((blocks, *sides), exact), (x, dy))[0].sum(axis=0)
    return (total if turned else total.transpose(0, 2, 1)).reshape(kh, kw, c, o)


on_cpu.defvjp(_forward, _backward)


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
