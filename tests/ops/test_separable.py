"""Depthwise and pointwise convolutions: values and gradients are those of XLA's convolution."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.nn.conv import conv
from cxrjax.ops.separable import depthwise, grouped, pointwise, shifted

CASES = [(side, pad) for side in ((7, 9), (8, 5)) for pad in (((1, 1), (1, 1)), ((0, 1), (2, 2)))]
KERNELS = ((3, 3), (5, 5), (2, 3))
STRIDES = ((1, 1), (2, 2), (3, 2))
DTYPES = (("float32", 1e-5), ("float64", 1e-12))
# Compiled without LLVM's optimizer, and all cases at once: a case of its own would take seconds.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def with_gradients(form, x, kernel, dy):
    """(value, gradient of the map, gradient of the kernel)."""
    y, pull = jax.vjp(form, x, kernel)
    return y, *pull(dy)


def assert_same(ours, xla, dtype, tolerance):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(xla), strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * float(np.abs(b).max()))


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_values_and_gradients_are_those_of_the_grouped_convolution(dtype, tolerance, kernel, stride):
    rng = np.random.default_rng(0)
    with jax.enable_x64(dtype == "float64"):
        k, out = rng.normal(size=(*kernel, 1, 3)).astype(dtype), {}
        inputs = []
        for side, pad in CASES:
            x = rng.normal(size=(2, *side, 3)).astype(dtype)
            sides = ((n + sum(p) - m) // s + 1 for n, p, m, s in zip(side, pad, kernel, stride, strict=True))
            inputs.append((x, rng.normal(size=(2, *sides, 3)).astype(dtype)))
        for form in (shifted, grouped):

            def every(inputs, k, form=form):
                return [
                    with_gradients(lambda x, k, pad=pad: form(x, k, stride, pad), x, k, dy)
                    for (_, pad), (x, dy) in zip(CASES, inputs, strict=True)
                ]

            out[form] = jit(every)(inputs, k)
        assert_same(out[shifted], out[grouped], dtype, tolerance)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_a_pointwise_convolution_is_one_of_one_position(dtype, tolerance, stride):
    with jax.enable_x64(dtype == "float64"):
        rng = np.random.default_rng(0)
        x, k = rng.normal(size=(2, 7, 8, 3)).astype(dtype), rng.normal(size=(1, 1, 3, 5)).astype(dtype)
        dy = rng.normal(size=(2, -(-7 // stride[0]), -(-8 // stride[1]), 5)).astype(dtype)

        def plain(x, k):
            return jax.lax.conv_general_dilated(x, k, stride, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

        def ours(x, k):
            return pointwise(x, k, stride)

        found, expected = (jit(partial(with_gradients, form))(x, k, dy) for form in (ours, plain))
        assert_same(found, expected, dtype, tolerance)


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
