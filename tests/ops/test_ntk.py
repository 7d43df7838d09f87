"""The tangent kernel: by hand, against explicit Jacobians, and against the closed form at infinite width."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.errors import UserError
from cxrjax.ops import ntk

X = np.random.default_rng(0).normal(size=(10, 5)).astype(np.float32)


def test_the_kernel_of_a_linear_function_is_the_gram_matrix():
    kernel = ntk.empirical(lambda p, x: x @ p, jnp.zeros((5, 3)), jnp.asarray(X), block=4)
    np.testing.assert_allclose(kernel, X.astype(np.float64) @ X.T, atol=1e-5)


def test_the_kernel_is_the_contraction_of_jacobians():
    params = ntk.two_layer_init(jax.random.key(0), 5, 16, 3)
    jacobian = jax.jit(jax.jacrev(ntk.two_layer))(params, jnp.asarray(X))
    flat = np.concatenate([np.asarray(j, np.float64).reshape(10, 3, -1) for j in jax.tree.leaves(jacobian)], axis=2)
    expected = np.einsum("iap,jap->ij", flat, flat) / 3
    np.testing.assert_allclose(ntk.empirical(ntk.two_layer, params, jnp.asarray(X)), expected, atol=1e-4)


def test_the_limit_of_known_angles():
    x = np.array([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0]])  # |x|^2 / d = 2
    right = 2 * 1 / (2 * np.pi)  # at a right angle only the second layer is left, sin(pi / 2) / 2 pi
    expected = [[2, right, 0], [right, 2, right], [0, right, 2]]
    np.testing.assert_allclose(ntk.arc_cosine(x), expected, atol=1e-12)


def test_the_limit_is_symmetric_positive_and_scales_with_its_inputs():
    kernel = ntk.arc_cosine(X)
    np.testing.assert_allclose(kernel, kernel.T, rtol=1e-12)
    assert ntk.spectrum(kernel)[0] > 0
    np.testing.assert_allclose(ntk.arc_cosine(3 * X.astype(np.float64)), 9 * kernel, rtol=1e-7)


def test_a_wide_network_tends_to_the_closed_form_as_the_root_of_its_width():
    limit, widths = ntk.arc_cosine(X), np.array([64, 256, 1024, 4096])

    def error(width, seed):
        params = ntk.two_layer_init(jax.random.key(seed), 5, int(width), 1)
        return ntk.relative_change(ntk.empirical(ntk.two_layer, params, jnp.asarray(X)), limit)

    errors = [np.sqrt(np.mean([error(width, seed) ** 2 for seed in range(6)])) for width in widths]
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    assert -0.65 < slope < -0.35
    assert errors[-1] < 0.05


def test_the_spectrum_of_a_known_matrix():
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    smallest, condition = ntk.spectrum(turn @ np.diag([0.5, 1.0, 2.0, 8.0]) @ turn.T)
    assert smallest == pytest.approx(0.5, rel=1e-12)
    assert condition == pytest.approx(16, rel=1e-12)
    assert ntk.spectrum(np.diag([1.0, 0.0]))[1] == np.inf


def test_relative_change():
    assert ntk.relative_change(2 * X, X) == pytest.approx(1)
    assert ntk.relative_change(X, X) == 0


def test_too_many_inputs_are_refused():
    with pytest.raises(UserError, match="256"):
        ntk.empirical(lambda p, x: x @ p, jnp.zeros((1, 1)), jnp.zeros((257, 1)))
