"""Spectral normalization: a convolution divided by its kernel's largest singular value (Miyato et al. 2018)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer

from cxrjax.ops.convolution import convolve

Array = jax.Array
COLLECTION = "spectral"


def normalize(vector: Array) -> Array:
    """A vector of length 1 in its direction; zeros of a vector of zeros."""
    length = jnp.linalg.norm(vector)
    return vector / jnp.where(length > 0, length, 1.0)


def power_iteration(matrix: Array, u: Array, iterations: int = 1) -> tuple[Array, Array]:
    """A better left singular vector, and the norm that it and its partner give.

    Args:
      matrix: (o, n) float32.
      u: (o,) of length 1.
      iterations: 0 leaves `u` and takes the norm with it.

    Returns:
      `u` (o,), and sigma = u' W v with v = W' u normalized before u's last change: () at most the true norm. Gradients
      flow through the matrix alone. Of a matrix of zeros `u` as it was, and 0.
    """
    fixed = jax.lax.stop_gradient(matrix)
    v = normalize(fixed.T @ u)
    for i in range(iterations):
        moved = normalize(fixed @ v)
        u = jnp.where(moved.any(), moved, u)  # a kernel of zeros must not end the iteration for good
        if i < iterations - 1:
            v = normalize(fixed.T @ u)
    return u, u @ (matrix @ v)


class SpectralConv(nn.Module):
    """A convolution with a bias whose kernel, as a matrix (o, kh kw c), has spectral norm 1; zeros stay zeros.

    The left singular vector lives in the collection `spectral`. A forward pass with that collection mutable moves it by
    one power iteration; any other uses it as it is. Bounding the matrix does not bound the convolution's operator norm
    exactly: a known approximation.

    Attributes:
      features: o.
      kernel: side.
      stride, pad: of every side.
      kernel_init: of the kernel.
      dtype: compute dtype of the convolution; the iteration is float32.
    """

    features: int
    kernel: int
    stride: int = 1
    pad: int = 1
    kernel_init: Initializer = nn.initializers.orthogonal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        u = self.variable(COLLECTION, "u", self._first, self.features)
        moves = self.is_mutable_collection(COLLECTION) and not self.is_initializing()
        moved, sigma = power_iteration(kernel.reshape(-1, self.features).T, u.value, int(moves))
        if moves:
            u.value = moved
        scaled = kernel / jnp.where(sigma > 0, sigma, 1.0)
        y = convolve(
            x.astype(self.dtype), scaled.astype(self.dtype), (self.stride, self.stride),
            ((self.pad, self.pad), (self.pad, self.pad)), (1, 1),
        )  # fmt: skip
        return y + bias.astype(self.dtype)[None, None, None, :]

    def _first(self, features: int) -> Array:
        return normalize(jax.random.normal(self.make_rng("params"), (features,)))
