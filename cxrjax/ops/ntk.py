"""The neural tangent kernel: of a network as it is, and of an infinitely wide two-layer one (Jacot et al. 2018).

The kernel of f at parameters p is K(x, y) = <df/dp(x), df/dp(y)>. Where it stays what it was at the start, gradient
descent on p is kernel regression with K.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from cxrjax.errors import UserError
from cxrjax.types import Array, Key, PyTree

MOST_INPUTS = 256


def empirical(function: Callable[[PyTree, Array], Array], params: PyTree, x: Array, *, block: int = 16) -> np.ndarray:
    """The kernel of a network on some inputs, for several outputs the mean of theirs: tr(J(x) J(y)^T) / k.

    No Jacobian is ever held: the gradient of each input's output is pushed forward through all inputs, `block` of them
    at a time. The blocks are looped over from the host, since XLA's convolution gradients are slow in a scan on CPU.

    Args:
      function: `(params, x) -> (n, k)`, which treats inputs apart (BatchNorm with running statistics).
      params: a pytree of floats.
      x: (n, ...), at most 256 inputs.
      block: gradients held at a time, each as large as `params`.

    Returns:
      (n, n) float64, symmetric; computed in the dtype of the parameters, so that in float32 eigenvalues below about
      1e-6 of the largest are rounding.

    Raises:
      UserError: more than 256 inputs.
    """
    n = len(x)
    if n > MOST_INPUTS:
        raise UserError(f"the tangent kernel is for at most {MOST_INPUTS} inputs, not {n}; give fewer")
    outputs = jax.eval_shape(function, params, x).shape[1]
    columns = jax.jit(partial(_columns, function), static_argnums=3)
    out = np.zeros((n, n))
    for start in range(0, n, block):
        at = np.arange(start, start + block).clip(max=n - 1)  # the last block is filled up: one shape compiles once
        parts = [np.asarray(columns(params, x, x[at], c), np.float64) for c in range(outputs)]
        rows = np.sum(parts, axis=0)  # (block, n)
        out[start : start + block] = rows[: n - start]
    return (out + out.T) / (2 * outputs)


def _columns(function: Callable[[PyTree, Array], Array], params: PyTree, x: Array, some: Array, c: int) -> Array:
    """<df_c(y), df_c(x)> for each y of `some` (b, ...) and all x (n, ...): (b, n)."""

    def one(y: Array) -> Array:
        gradient = jax.grad(lambda p: function(p, y[None])[0, c])(params)
        return jax.jvp(lambda p: function(p, x)[:, c], (params,), (gradient,))[1]  # (n,)

    return jax.vmap(one)(some)


def two_layer_init(key: Key, inputs: int, width: int, outputs: int) -> dict[str, Array]:
    """Standard normal weights `hidden` (inputs, width) and `out` (width, outputs), float32."""
    first, second = jax.random.split(key)
    return {
        "hidden": jax.random.normal(first, (inputs, width)),
        "out": jax.random.normal(second, (width, outputs)),
    }


def two_layer(params: dict[str, Array], x: Array) -> Array:
    """ReLU net without biases in the NTK parametrization, scales 1 / sqrt(fan in). (n, d) -> (n, k).

    Its kernel at a random start tends to `arc_cosine` as width^-1/2.
    """
    hidden = jax.nn.relu(x @ params["hidden"] / np.sqrt(x.shape[1]))  # (n, width)
    return hidden @ params["out"] / np.sqrt(hidden.shape[1])


def arc_cosine(x: np.ndarray) -> np.ndarray:
    """The tangent kernel of `two_layer` at infinite width, both layers trained, in closed form.

    With t the angle between two inputs: |x||y|/d (sin t + (pi - t) cos t) / 2pi for the second layer (Cho and Saul
    2009, eq. 6, order 1) and x.y/d (pi - t) / 2pi for the first (order 0).

    Args:
      x: (n, d), no row of which is 0.

    Returns:
      (n, n) float64.
    """
    x = np.asarray(x, np.float64)
    norm = np.linalg.norm(x, axis=1)
    size = norm[:, None] * norm[None, :] / x.shape[1]
    cosine = np.clip(x @ x.T / (x.shape[1] * size), -1, 1)
    angle = np.arccos(cosine)
    second = size * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)
    return second + size * cosine * (np.pi - angle) / (2 * np.pi)


def relative_change(after: np.ndarray, before: np.ndarray) -> float:
    """|after - before| / |before|, Frobenius."""
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


def spectrum(kernel: np.ndarray) -> tuple[float, float]:
    """Smallest eigenvalue and condition number of a symmetric (n, n), in float64; infinite unless positive definite."""
    values = np.linalg.eigvalsh(np.asarray(kernel, np.float64))
    return float(values[0]), float(values[-1] / values[0]) if values[0] > 0 else float("inf")
