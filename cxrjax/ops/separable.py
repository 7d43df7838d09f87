"""The two halves of a separable convolution, depthwise and pointwise, in forms that a CPU computes fast.

XLA's grouped convolution has fast kernels on GPU and TPU only. On CPU the sum of kh x kw shifted products is 10 to 60
times faster, and so is a kernel's gradient whose kh x kw sums are taken together, film by film: taken one by one, each
would read both maps from memory again. A 1x1 convolution is one matrix product over all positions, with gradients that
are such products; XLA's convolution takes 2 to 14 times as long for that of the kernel. Elsewhere both are the
backend's own. `depthwise` has reverse mode once only on CPU: a custom gradient has no forward mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp

from cxrjax.ops.convolution import DIMENSIONS, Pairs

Array = jax.Array


def depthwise(x: Array, kernel: Array, stride: tuple[int, int], pad: Pairs) -> Array:
    """`lax.conv_general_dilated` of as many groups as channels: (b, h, w, c), (kh, kw, 1, c) -> (b, h', w', c).

    Args:
      x: feature map.
      kernel: of the same dtype.
      stride: of the windows.
      pad: ((top, bottom), (left, right)).
    """
    return jax.lax.platform_dependent(
        x, kernel, cpu=lambda x, kernel: shifted(x, kernel, stride, pad),
        default=lambda x, kernel: grouped(x, kernel, stride, pad),
    )  # fmt: skip


def pointwise(x: Array, kernel: Array, stride: tuple[int, int]) -> Array:
    """`lax.conv_general_dilated` with one position and no padding: (b, h, w, c), (1, 1, c, o) -> (b, h', w', o)."""

    def product(x: Array, kernel: Array) -> Array:
        x = x[:, :: stride[0], :: stride[1]]
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], kernel.shape[-1])

    def plain(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(x, kernel, stride, "VALID", dimension_numbers=DIMENSIONS)

    return jax.lax.platform_dependent(x, kernel, cpu=product, default=plain)


def grouped(x: Array, kernel: Array, stride: tuple[int, int], pad: Pairs) -> Array:
    """`depthwise` by the backend's own convolution."""
    return jax.lax.conv_general_dilated(
        x, kernel, stride, pad, dimension_numbers=DIMENSIONS, feature_group_count=x.shape[-1]
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def shifted(x: Array, kernel: Array, stride: tuple[int, int], pad: Pairs) -> Array:
    """`depthwise` as a sum of shifted products."""
    wide = _padded(x, pad)
    high, broad = ((wide.shape[1 + i] - kernel.shape[i]) // stride[i] + 1 for i in (0, 1))
    return sum(film * kernel[i, j, None, None] for i, j, film in _windows(wide, kernel, stride, high, broad))  # type: ignore[return-value]


def _padded(x: Array, pad: Pairs) -> Array:
    return jnp.pad(x, ((0, 0), *pad, (0, 0)))


def _windows(
    wide: Array, kernel: Array, stride: tuple[int, int], high: int, broad: int
) -> Iterator[tuple[int, int, Array]]:
    """For each position in the kernel, what it meets in the padded map: (b, high, broad, c)."""
    down, right = stride
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            rows, columns = slice(i, i + (high - 1) * down + 1, down), slice(j, j + (broad - 1) * right + 1, right)
            yield i, j, wide[:, rows, columns]


def _forward(x: Array, kernel: Array, stride: tuple[int, int], pad: Pairs) -> tuple[Array, tuple[Array, Array]]:
    return shifted(x, kernel, stride, pad), (x, kernel)


def _backward(stride: tuple[int, int], pad: Pairs, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return _of_map(dy, kernel, stride, pad, x.shape), _of_kernel(_padded(x, pad), kernel, stride, dy)


def _of_map(dy: Array, kernel: Array, stride: tuple[int, int], pad: Pairs, shape: tuple[int, ...]) -> Array:
    """The gradient of the map, by where a position stands within a stride: no product is with an inserted zero."""
    (down, right), (kh, kw) = stride, kernel.shape[:2]
    _, high, broad, _ = dy.shape
    # Positions of the padded map that the map or a window reaches, in whole strides.
    up, across = (-(-max(shape[1 + i] + sum(pad[i]), kernel.shape[i]) // stride[i]) for i in (0, 1))
    lead = ((kh - 1) // down, (kw - 1) // right)
    wide = _padded(dy, ((lead[0], max(up - high, 0)), (lead[1], max(across - broad, 0))))
    phases = []
    for a in range(down):
        for b in range(right):
            of_phase = jnp.zeros((dy.shape[0], up, across, dy.shape[3]), dy.dtype)
            for i in range(a, kh, down):
                for j in range(b, kw, right):
                    top, left = lead[0] - i // down, lead[1] - j // right
                    of_phase += wide[:, top : top + up, left : left + across] * kernel[i, j, None, None]
            phases.append(of_phase)
    stacked = jnp.stack(phases).reshape(down, right, *phases[0].shape)  # (down, right, b, up, across, c)
    out = stacked.transpose(2, 3, 0, 4, 1, 5).reshape(-1, up * down, across * right, dy.shape[3])
    (top, _), (left, _) = pad
    return out[:, top : top + shape[1], left : left + shape[2]]


def _of_kernel(wide: Array, kernel: Array, stride: tuple[int, int], dy: Array) -> Array:
    """The gradient of the kernel: all positions' sums over a film in one pass, then over films."""
    exact = jnp.promote_types(dy.dtype, jnp.float32)
    products = [film.astype(exact) * dy for *_, film in _windows(wide, kernel, stride, *dy.shape[1:3])]
    zeros = [jnp.zeros((), exact)] * len(products)
    sums = jax.lax.reduce(products, zeros, lambda a, b: [p + q for p, q in zip(a, b, strict=True)], (1, 2))
    return jnp.stack([film.sum(0) for film in sums]).reshape(kernel.shape).astype(kernel.dtype)


shifted.defvjp(_forward, _backward)
