"""The hand-written gradients of a convolution against XLA's own, and the two shortcuts against what they replace."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cxrjax.nn.conv import double
from cxrjax.ops import convolution
from cxrjax.ops.convolution import convolve, convolve_with_code, double_and_convolve
from cxrjax.train import mesh as meshes

# Compiled without LLVM's optimizer: programs of milliseconds, of which there are many.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def normal(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


def reference(x, kernel, stride, pad, dilate):
    return jax.lax.conv_general_dilated(
        x, kernel, stride, pad, lhs_dilation=dilate, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def with_gradients(function, *inputs):
    """The value and the gradient by every input under a random cotangent."""

    @jit
    def run(*inputs):
        y, back = jax.vjp(function, *inputs)
        return y, back(jnp.asarray(normal(y.shape, 99), y.dtype))

    return run(*inputs)


def assert_equal(one, other, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "pad", "dilate"),
    [
        ((7, 9), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
        ((8, 6), (4, 4), (2, 2), ((1, 1), (1, 1)), (1, 1)),  # a discriminator's halving
        ((9, 7), (4, 4), (2, 2), ((1, 1), (1, 1)), (1, 1)),  # no window reaches the last row
        ((7, 8), (3, 2), (2, 1), ((0, 1), (2, 0)), (1, 1)),  # nothing alike on both axes
        ((4, 4), (4, 4), (1, 1), ((0, 0), (0, 0)), (1, 1)),  # a score: one window
        ((5, 6), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
        ((6, 5), (1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1)),  # windows that skip rows
        ((5, 5), (2, 3), (1, 1), ((3, 0), (4, 5)), (1, 1)),  # more padding than a window is wide
        ((4, 5), (4, 4), (1, 1), ((2, 2), (2, 2)), (2, 2)),  # transposed, of stride 2
        ((5, 4), (3, 3), (1, 1), ((1, 2), (2, 1)), (2, 2)),
        ((5, 4), (3, 4), (2, 1), ((1, 1), (0, 3)), (1, 2)),
    ],
)
def test_value_and_gradients_are_those_of_xla(side, kernel, stride, pad, dilate):
    with jax.enable_x64(True):
        x, w = normal((2, *side, 3), 0), normal((*kernel, 3, 5), 1)
        mine = with_gradients(lambda x, w: convolve(x, w, stride, pad, dilate), x, w)
        assert_equal(mine, with_gradients(lambda x, w: reference(x, w, stride, pad, dilate), x, w))


@pytest.mark.parametrize("width", [3, 40])  # the columns of a film side by side wider than dy, and narrower
@pytest.mark.parametrize(("kernel", "stride"), [((3, 3), (1, 1)), ((5, 5), (2, 2)), ((3, 2), (2, 1)), ((1, 3), (1, 2))])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_every_form_of_a_kernels_gradient_is_that_of_xla(width, kernel, stride, dtype, tolerance):
    with jax.enable_x64(True):
        x, w = normal((2, 9, 7, 4), 0).astype(dtype), normal((*kernel, 4, width), 1).astype(dtype)
        pad = tuple((side // 2, side // 2) for side in kernel)
        y, back = jax.vjp(lambda w: reference(x, w, stride, pad, (1, 1)), w)
        dy = normal(y.shape, 2).astype(dtype)
        expected = back(jnp.asarray(dy))[0]
        by_blocks = partial(convolution.by_film, blocks=2)
        for form in (convolution.by_film, by_blocks, convolution.by_convolution):
            found = jit(lambda x, dy, form=form: form(x, dy, w.shape, stride, pad))(x, dy)
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("side", "batch", "loops"), [(32, 16, True), (31, 16, False), (32, 12, False)])
def test_large_maps_take_the_form_by_film_where_the_devices_share_the_batch(side, batch, loops):
    x, w = (jax.ShapeDtypeStruct(shape, np.float32) for shape in ((batch, side, side, 3), (3, 3, 3, 4)))
    gradient = jax.grad(lambda w, x: convolution.on_cpu(x, w, (1, 1), ((1, 1), (1, 1)), (1, 1)).sum())
    assert jax.device_count() == 8
    assert ("scan" in str(jax.make_jaxpr(gradient)(w, x))) == loops


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 (fake) devices")
def test_films_that_are_split_over_devices_stay_where_they_are():
    mesh = meshes.make()
    x, dy = (meshes.put(mesh, normal((16, 9, 9, n), n).astype(np.float32)) for n in (3, 4))
    form = partial(convolution.by_film, shape=(3, 3, 3, 4), stride=(1, 1), pad=((1, 1), (1, 1)), blocks=8)
    program = jax.jit(form, out_shardings=NamedSharding(mesh, PartitionSpec())).lower(x, dy).compile().as_text()
    assert re.findall(r" (all-\w+|collective-\w+)\(", program) == ["all-reduce"]


HALVING = ((2, 2), ((1, 1), (1, 1)), (1, 1))


def test_gradients_are_the_same_inside_a_branch_and_a_loop():
    with jax.enable_x64(True):
        films, w = normal((3, 2, 6, 6, 3), 0), normal((4, 4, 3, 3), 1)

        def gradient(x, conv):
            return jax.grad(lambda w: jnp.sin(conv(x, w, *HALVING)).sum())(w)

        expected = np.stack([gradient(x, reference) for x in films])

        @jit
        def scanned(films):
            return jax.lax.scan(lambda total, x: (total + gradient(x, convolve), None), jnp.zeros_like(w), films)[0]

        @jit
        def chosen(first, films):
            return jax.lax.cond(first, lambda f: gradient(f[0], convolve), lambda f: gradient(f[1], convolve), films)

        assert_equal(scanned(films), expected.sum(axis=0))
        for i, first in enumerate((True, False)):
            assert_equal(chosen(first, films), expected[i])


@pytest.mark.parametrize("side", [(4, 4), (3, 5), (1, 2)])
def test_double_and_convolve_is_doubling_then_convolving(side):
    with jax.enable_x64(True):
        x, w = normal((2, *side, 3), 0), normal((3, 3, 3, 4), 1)
        plain = with_gradients(lambda x, w: reference(double(x), w, (1, 1), ((1, 1), (1, 1)), (1, 1)), x, w)
        assert plain[0].shape == (2, 2 * side[0], 2 * side[1], 4)
        assert_equal(with_gradients(double_and_convolve, x, w), plain)


@pytest.mark.parametrize("side", [(4, 4), (3, 5), (2, 1)])
def test_convolve_with_code_is_concatenating_the_tiled_code(side):
    with jax.enable_x64(True):
        x, code, w = normal((2, *side, 3), 0), normal((2, 5), 1), normal((3, 3, 8, 4), 2)

        def plain(x, code, w):
            tiled = jnp.broadcast_to(code[:, None, None, :], (*x.shape[:3], 5))
            return reference(jnp.concatenate([x, tiled], axis=-1), w, (1, 1), ((1, 1), (1, 1)), (1, 1))

        assert_equal(with_gradients(convolve_with_code, x, code, w), with_gradients(plain, x, code, w))
