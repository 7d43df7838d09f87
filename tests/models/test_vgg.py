"""Plain stacks: the pools against their definitions, He's spread at the start."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from cxrjax import models
from cxrjax.errors import UserError
from cxrjax.nn.conv import adaptive_mean, max_halve


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _variables(net: Any, films: np.ndarray) -> Any:
    """Random parameters from shapes alone: no initializer is compiled."""
    return jax.tree.map(lambda leaf: 0.2 * _normal(*leaf.shape), jax.eval_shape(net.init, jax.random.key(0), films))


@pytest.mark.parametrize(("name", "channels"), [("vgg_tiny", 1), ("cnn5_tiny", 3)])
def test_smallest_films_run_and_smaller_are_refused(name: str, channels: int) -> None:
    net, films = models.build(name, 2), _normal(2, 8, 8, channels)
    variables = _variables(net, films)

    @jax.jit
    def both(variables: Any, films: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        logits, ends = net.apply(variables, films)
        return logits, net.apply(variables, ends["features"], method="head_from"), ends["features"]

    logits, again, features = both(variables, films)
    assert features.shape[1:3] == (1, 1)
    assert np.isfinite(logits).all()
    assert np.ptp(logits) > 0
    np.testing.assert_allclose(again, logits, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="at least 8 px"):
        jax.eval_shape(net.apply, variables, films[:, :7])


def test_a_block_is_convolution_bias_relu_then_maximum() -> None:
    net, films = models.build("cnn5_tiny", 2, convs=(1,), widths=(4,)), _normal(2, 6, 7, 3)
    variables = _variables(net, films)
    _, ends = jax.jit(net.apply)(variables, films)
    layer = variables["params"]["backbone"]["conv1_1"]
    padded = np.pad(films, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((2, 6, 7, 4), np.float32) + layer["bias"]
    for i in range(3):
        for j in range(3):
            y += padded[:, i : i + 6, j : j + 7] @ layer["kernel"][i, j]
    y = np.maximum(y, 0)
    np.testing.assert_allclose(ends["block1"], y, rtol=1e-4, atol=1e-5)
    expected = y[:, :, :6].reshape(2, 3, 2, 3, 2, 4).max((2, 4))  # the odd last column is dropped
    np.testing.assert_allclose(ends["features"], expected, rtol=1e-4, atol=1e-5)


def test_max_halve_has_the_value_and_gradient_of_a_windowed_maximum() -> None:
    x, weight = _normal(2, 5, 6, 3), _normal(2, 2, 3, 3, seed=1)  # no ties, where the two gradients may differ

    @jax.jit
    def all_four(x: jax.Array) -> list[jax.Array]:
        pools = (max_halve, lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)))
        return [f(x) for pool in pools for f in (pool, jax.grad(lambda x, pool=pool: (pool(x) * weight).sum()))]

    ours, our_gradient, theirs, their_gradient = all_four(x)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(our_gradient, their_gradient)


@pytest.mark.parametrize(("h", "w", "grid"), [(9, 9, 7), (3, 5, 4), (7, 7, 7)])
def test_adaptive_mean_is_the_mean_over_its_windows(h: int, w: int, grid: int) -> None:
    x = _normal(2, h, w, 3)
    expected = np.empty((2, grid, grid, 3), np.float32)
    for i in range(grid):
        for j in range(grid):
            rows = slice(math.floor(i * h / grid), math.ceil((i + 1) * h / grid))
            columns = slice(math.floor(j * w / grid), math.ceil((j + 1) * w / grid))
            expected[:, i, j] = x[:, rows, columns].mean((1, 2))
    ours = jax.jit(adaptive_mean, static_argnums=1)(x, grid)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_kernels_start_with_he_s_spread() -> None:
    """Variance 2 / fan_in keeps the mean square through ReLU layers (He et al. 2015); torch's default is a sixth."""
    net = models.build("vgg16", 2, convs=(1, 1), widths=(16, 32), hidden=(256,), grid=1)
    params = jax.jit(net.init)(jax.random.key(0, impl="rbg"), np.zeros((1, 4, 4, 1), np.float32))["params"]
    for kernel, fan_in in [
        (params["backbone"]["conv2_1"]["kernel"], 9 * 16),
        (params["head"]["hidden0"]["kernel"], 32),
    ]:
        np.testing.assert_allclose(np.std(kernel), math.sqrt(2 / fan_in), rtol=0.05)
