"""Depthwise and pointwise convolutions: values and gradients are those of XLA's convolution."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.nn.conv import conv
from cxrjax.ops.separable import depthwise, grouped, pointwise, shifted

SIDES = ((7, 9), (8, 5), (3, 11), (1, 1))
KERNELS = ((3, 3), (5, 5), (2, 3))
STRIDES = ((1, 1), (2, 2), (3, 2))
PADS = (((1, 1), (1, 1)), ((0, 1), (2, 2)), ((2, 2), (2, 1)))


def both(dtype, side, kernel, stride, pad):
    """(value, gradient of the map, gradient of the kernel) of the shifted form and of XLA's."""
    rng = np.random.default_rng(sum(side) + sum(kernel))
    x = jnp.asarray(rng.normal(size=(2, *side, 3)), dtype)
    k = jnp.asarray(rng.normal(size=(*kernel, 1, 3)), dtype)
    out = []
    for form in (shifted, grouped):
        y, pull = jax.vjp(lambda x, k, form=form: form(x, k, stride, pad), x, k)
        out.append((y, *pull(jnp.asarray(np.random.default_rng(0).normal(size=y.shape), dtype))))
    return out


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_values_and_gradients_are_those_of_the_grouped_convolution(dtype, tolerance, kernel, stride):
    with jax.enable_x64(dtype == "float64"):
        tried = 0
        for side in SIDES:
            for pad in PADS:
                if all(n + sum(p) >= k for n, p, k in zip(side, pad, kernel, strict=True)):
                    for ours, xla in zip(*both(dtype, side, kernel, stride, pad), strict=True):
                        assert ours.dtype == xla.dtype == dtype
                        np.testing.assert_allclose(
                            ours, xla, rtol=tolerance, atol=tolerance * float(jnp.abs(xla).max())
                        )
                    tried += 1
        assert tried >= 6


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_a_pointwise_convolution_is_one_of_one_position(dtype, tolerance, stride):
    with jax.enable_x64(dtype == "float64"):
        rng = np.random.default_rng(0)
        x, k = jnp.asarray(rng.normal(size=(2, 7, 8, 3)), dtype), jnp.asarray(rng.normal(size=(1, 1, 3, 5)), dtype)
        dimensions = ("NHWC", "HWIO", "NHWC")
        ours, pull = jax.vjp(lambda x, k: pointwise(x, k, stride), x, k)
        plain = lambda x, k: jax.lax.conv_general_dilated(x, k, stride, "VALID", dimension_numbers=dimensions)  # noqa: E731
        xla, pull_xla = jax.vjp(plain, x, k)
        dy = jnp.asarray(rng.normal(size=xla.shape), dtype)
        for a, b in zip((ours, *pull(dy)), (xla, *pull_xla(dy)), strict=True):
            assert a.dtype == b.dtype == dtype
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * float(jnp.abs(b).max()))


def test_half_precision_sums_a_kernel_gradient_in_float32():
    x, dy = jnp.full((1, 64, 64, 1), 1.0, jnp.bfloat16), jnp.full((1, 64, 64, 1), 1.0, jnp.bfloat16)
    k = jnp.zeros((1, 1, 1, 1), jnp.bfloat16)
    (found,) = jax.vjp(lambda k: shifted(x, k, (1, 1), ((0, 0), (0, 0))), k)[1](dy)
    assert found.dtype == jnp.bfloat16
    assert float(found.reshape(())) == 4096.0  # bfloat16 sums of ones end at 256


def test_the_form_is_chosen_by_the_platform():
    x, k = jnp.zeros((1, 6, 6, 4)), jnp.zeros((3, 3, 1, 4))
    traced = jax.jit(lambda x, k: depthwise(x, k, (1, 1), ((1, 1), (1, 1)))).trace(x, k)
    assert "feature_group_count = 4" in traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "convolution" not in traced.lower(lowering_platforms=("cpu",)).as_text()


@pytest.mark.parametrize("stride", [1, 2])
def test_a_linen_layer_pads_as_tensorflow_does(stride):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 8, 6)), jnp.float32)
    ours = conv(6, 5, stride, pad="SAME", groups=6)
    plain = nn.Conv(6, (5, 5), strides=stride, padding="SAME", feature_group_count=6, use_bias=False)
    variables = ours.init(jax.random.key(0), x)
    np.testing.assert_allclose(ours.apply(variables, x), plain.apply(variables, x), rtol=1e-5, atol=1e-5)
