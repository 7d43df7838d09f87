"""Spectral normalization: the norm that power iteration finds, and the vector that only training moves."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.nn.spectral import SpectralConv, normalize, power_iteration

# A map of one window: the layer is its matrix (o, kh kw c) and a bias.
LAYER = SpectralConv(6, 3, pad=0, kernel_init=nn.initializers.normal(1.0))
FILM = jax.random.normal(jax.random.key(5), (1, 3, 3, 4))


def planted(rows, columns, ratio, seed=0):
    """A matrix of norm 3 whose second singular value is `ratio` times the first."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((n, rows)))[0] for n in (rows, columns))
    values = np.concatenate([[3.0], 3.0 * ratio * np.linspace(1, 0.1, rows - 1)])
    return (left * values) @ right.T


def start(rows, seed=1):
    u = np.random.default_rng(seed).standard_normal(rows)
    return u / np.linalg.norm(u)


@pytest.mark.parametrize("ratio", [0.9, 0.5])
def test_fifty_iterations_find_a_planted_norm(ratio):
    with jax.enable_x64(True):
        matrix, u = planted(8, 30, ratio), start(8)
        run = partial(jax.jit, static_argnums=2)(power_iteration)
        moved, sigma = run(matrix, u, 50)
        assert float(sigma) == pytest.approx(3.0, rel=1e-6)
        assert float(jnp.linalg.norm(moved)) == pytest.approx(1)
        assert abs(float(power_iteration(matrix, u, 1)[1]) - 3.0) > 1e-3  # it was not known before


def test_the_estimate_rises_to_the_norm_of_a_random_matrix_and_never_above():
    matrix = jnp.asarray(np.random.default_rng(0).standard_normal((32, 144)), jnp.float32)
    exact = np.linalg.norm(np.asarray(matrix, np.float64), ord=2)

    @jax.jit
    def run(u):
        return jax.lax.scan(lambda u, _: power_iteration(matrix, u), u, None, length=1000)

    u, seen = run(jnp.asarray(start(32), jnp.float32))
    assert float(seen[-1]) == pytest.approx(exact, rel=1e-4)
    assert (np.diff(seen) >= -1e-4).all()
    assert (np.asarray(seen) <= exact * (1 + 1e-5)).all()
    # No iteration leaves the vector and takes the norm with it; many at once are many, one by one.
    same, sigma = power_iteration(matrix, u, 0)
    assert np.array_equal(same, u)
    assert float(sigma) == pytest.approx(exact, rel=1e-4)
    first = jnp.asarray(start(32), jnp.float32)
    at_once, by_one = power_iteration(matrix, first, 3), first
    for i in range(3):
        by_one, sigma = power_iteration(matrix, by_one)
        np.testing.assert_allclose(sigma, seen[i], rtol=1e-5)
    np.testing.assert_allclose(at_once[0], by_one, atol=1e-5)


def test_a_vector_of_nothing_stays_finite():
    assert np.array_equal(normalize(jnp.zeros(3)), np.zeros(3))


def matrix_of(variables):
    return variables["params"]["kernel"].reshape(-1, LAYER.features).T


def u_of(variables):
    return variables["spectral"]["u"]


def train_forward(variables, film=FILM):
    y, changed = LAYER.apply(variables, film, mutable=["spectral"])
    return y, {**variables, **changed}


@pytest.fixture(scope="module")
def variables():
    return LAYER.init(jax.random.key(0), FILM)


def test_a_training_forward_is_one_power_iteration_and_uses_what_it_finds(variables):
    y, moved = train_forward(variables)
    expected, sigma = power_iteration(matrix_of(variables), u_of(variables), 1)
    np.testing.assert_allclose(u_of(moved), expected, atol=1e-6)
    assert np.abs(u_of(moved) - power_iteration(matrix_of(variables), u_of(variables), 2)[0]).max() > 1e-3
    np.testing.assert_allclose(y[0, 0, 0], matrix_of(variables) @ FILM.reshape(-1) / sigma, rtol=1e-4, atol=1e-5)
    # The films have no say in it, nor how many they are.
    _, again = train_forward(variables, jnp.concatenate([FILM, 3 + FILM]))
    np.testing.assert_allclose(u_of(again), u_of(moved), atol=1e-6)


def test_a_new_layer_has_a_vector_of_length_one_and_another_forward_leaves_it(variables):
    assert u_of(variables).shape == (6,)
    assert float(jnp.linalg.norm(u_of(variables))) == pytest.approx(1, rel=1e-6)
    other = SpectralConv(6, 3, pad=0, kernel_init=nn.initializers.ones).init(jax.random.key(0), FILM)
    assert np.array_equal(u_of(other), u_of(variables))  # no kernel has moved it yet
    _, changed = LAYER.apply(variables, FILM, mutable=["batch_stats"])
    assert "spectral" not in changed
    y, sigma = LAYER.apply(variables, FILM), power_iteration(matrix_of(variables), u_of(variables), 0)[1]
    np.testing.assert_allclose(y[0, 0, 0], matrix_of(variables) @ FILM.reshape(-1) / sigma, rtol=1e-4, atol=1e-5)


def test_the_weight_in_use_has_norm_one_once_the_vector_has_settled(variables):
    step = jax.jit(lambda v: train_forward(v)[1])
    settled = variables
    for _ in range(100):
        settled = step(settled)

    def norm(v):
        jacobian = jax.jacobian(lambda x: LAYER.apply(v, x)[0, 0, 0])(FILM)  # (o, 1, 3, 3, c)
        return np.linalg.norm(np.asarray(jacobian, np.float64).reshape(6, -1), ord=2)

    assert np.linalg.norm(np.asarray(matrix_of(variables)), ord=2) > 2  # there is something to divide by
    assert 1 - 1e-3 <= norm(settled) <= 1 + 1e-3
    assert norm(variables) > 1 + 1e-2  # the norm is never overestimated


def test_the_gradient_flows_through_the_matrix_with_both_vectors_held(variables):
    cotangent, direction = (
        np.random.default_rng(0).standard_normal(6),
        np.random.default_rng(1).standard_normal((6, 36)),
    )
    w, x = np.asarray(matrix_of(variables), np.float64), np.asarray(FILM, np.float64).reshape(-1)
    old = np.asarray(u_of(variables), np.float64)
    v = w.T @ old / np.linalg.norm(w.T @ old)
    u = w @ v / np.linalg.norm(w @ v)

    def loss(w):
        return cotangent @ (w @ x) / (u @ w @ v)

    def mine(params):
        y, _ = LAYER.apply({**variables, "params": params}, FILM, mutable=["spectral"])
        return (jnp.asarray(cotangent, jnp.float32) * y[0, 0, 0]).sum()

    grad = np.asarray(jax.grad(mine)(variables["params"])["kernel"], np.float64).reshape(-1, 6).T
    h = 1e-6
    slope = (loss(w + h * direction) - loss(w - h * direction)) / (2 * h)
    assert (grad * direction).sum() == pytest.approx(slope, rel=1e-3)
    # A kernel divided by its norm has no use for being larger: nothing pulls along it.
    assert abs((grad * w).sum()) < 1e-4 * np.linalg.norm(grad) * np.linalg.norm(w)


def test_a_kernel_of_zeros_gives_zeros_a_finite_gradient_and_can_be_trained():
    variables = LAYER.init(jax.random.key(0), FILM)
    u = variables["spectral"]["u"]
    params = jax.tree.map(jnp.zeros_like, variables["params"])

    def output(params, u):
        return LAYER.apply({"params": params, "spectral": {"u": u}}, FILM, mutable=["spectral"])

    y, changed = output(params, u)
    assert (np.asarray(y) == 0).all()
    np.testing.assert_array_equal(changed["spectral"]["u"], u)  # not zeros, which no later kernel would move again
    gradient = jax.grad(lambda p: output(p, u)[0].sum())(params)["kernel"]
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient, np.broadcast_to(FILM[0, ..., None], gradient.shape), rtol=1e-5)
    kernel = 1e-15 * variables["params"]["kernel"]  # as small as a first step from zero may leave it
    for _ in range(50):
        _, changed = output({**params, "kernel": kernel}, u)
        u = changed["spectral"]["u"]
    assert float(jnp.linalg.norm(u)) == pytest.approx(1, rel=1e-5)
    matrix = np.asarray(kernel, np.float64).reshape(-1, 6).T
    assert float(power_iteration(matrix, u, 0)[1]) == pytest.approx(np.linalg.norm(matrix, ord=2), rel=1e-2)
