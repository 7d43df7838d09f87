"""The six augmentations: identities, closed forms, and the laws of what is drawn."""

from __future__ import annotations

from functools import partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from cxrjax.errors import UserError
from cxrjax.ops import warp

SIDE = 30  # grid cells of 6 pixels
MANY = 1500
NEUTRAL = warp.Amounts(0.0, 6.0, 0.0, 5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
# Compiled, and plainly: these programs run for milliseconds, and LLVM's optimizer would take seconds over each.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
sample = jit(warp.sample)
elastic_field = jit(warp.elastic_field, static_argnums=(1, 2, 3))
choose = jit(warp.choose, static_argnums=(1, 2))
compose = jit(warp.compose, static_argnums=(2, 3))
some_of_grids = jit(warp.some_of_grids, static_argnums=(1, 2))
TRACED = []  # the shapes for which `some_of` was compiled


@jit
def some_of(key: jax.Array, films: jax.Array) -> jax.Array:
    TRACED.append(films.shape)
    return warp.some_of(key, films)


@jit
def turning(angles: jax.Array) -> jax.Array:
    """Grids that turn films about their centers, counterclockwise."""
    return jax.vmap(lambda a: warp._affine(warp.identity((SIDE, SIDE)), warp._turn(a), jnp.zeros(2)))(angles)


def smooth_films(b: int = 2, side: int = SIDE) -> jax.Array:
    y, x = np.mgrid[:side, :side] / side
    films = [0.5 + 0.4 * np.sin(3 * x + i) * np.cos(4 * y - i) for i in range(b)]
    return jnp.asarray(np.stack(films)[..., None], jnp.float32)


def noise_films(b: int = 4, side: int = SIDE, c: int = 1) -> jax.Array:
    return jax.random.uniform(jax.random.key(9), (b, side, side, c))


def only(kind: int, b: int = MANY, side: int = SIDE, amounts: warp.Amounts = warp.TUTORIAL) -> np.ndarray:
    """Displacements (b, 2, side, side) of one kind of transform."""
    grids = compose(jax.random.key(0), jnp.full((b, 1), kind), (side, side), amounts)
    return np.asarray(grids - warp.identity((side, side))[None])


def test_neutral_transforms_return_the_film():
    films = noise_films(c=2)
    order = choose(jax.random.key(0), 4, 6)
    grids = compose(jax.random.key(1), order, (SIDE, SIDE), NEUTRAL)
    np.testing.assert_allclose(sample(films, grids), films, atol=1e-6)


def test_sampling_equals_scipy_with_a_mirrored_border():
    film = np.asarray(noise_films(1)[0, ..., 0])
    points = np.random.default_rng(0).uniform(-40, 80, (2, 9, 11))  # more than one mirror image away
    ours = sample(jnp.asarray(film)[None, ..., None], jnp.asarray(points, jnp.float32)[None])[0, ..., 0]
    np.testing.assert_allclose(ours, scipy.ndimage.map_coordinates(film, points, order=1, mode="mirror"), atol=2e-5)


def test_flips_mirror_left_and_right_as_often_as_asked():
    films, amounts = noise_films(), NEUTRAL._replace(flip_rate=1.0)
    grids = compose(jax.random.key(0), jnp.full((4, 1), warp.FLIP), (SIDE, SIDE), amounts)
    np.testing.assert_allclose(sample(films, grids), films[:, :, ::-1], atol=1e-5)
    moved = np.any(only(warp.FLIP) != 0, axis=(1, 2, 3))
    assert moved.mean() == pytest.approx(0.5, abs=0.04)  # 3.1 standard errors


def test_turning_there_and_back_is_the_identity():
    films = smooth_films()
    angles = jnp.asarray([0.15, -0.1])
    there = sample(films, turning(angles))
    back = sample(there, turning(-angles))
    inner = np.s_[:, 6:-6, 6:-6]
    assert float(jnp.abs(there - films)[inner].max()) > 0.03
    np.testing.assert_allclose(back[inner], films[inner], atol=5e-3)
    quarter = sample(noise_films(), turning(jnp.full(4, jnp.pi / 2)))
    np.testing.assert_allclose(quarter, jnp.rot90(noise_films(), axes=(1, 2)), atol=2e-4)


def test_rotation_displacements_follow_their_law():
    move = only(warp.ROTATE)
    radius = (SIDE - 1) / np.sqrt(2)
    length = np.hypot(*move[:, :, 0, 0].T)  # 2 r |sin(angle / 2)| at a corner, the angle uniform on +-10 degrees
    angles = np.radians(np.linspace(0, 10, 2001))
    law = 2 * radius * np.sin(angles / 2)
    assert length.max() <= law[-1] + 1e-3
    assert length.mean() == pytest.approx(law.mean(), rel=0.05)
    assert (length**2).mean() == pytest.approx((law**2).mean(), rel=0.08)


def test_scale_displacements_follow_their_law():
    move = only(warp.SCALE)
    edge = move[:, 0, 0, 0] / -((SIDE - 1) / 2)  # 1 / factor - 1
    factors = 1 / (1 + edge)
    assert factors.min() >= 0.9 - 1e-4
    assert factors.max() <= 1.1 + 1e-4
    assert factors.mean() == pytest.approx(1.0, abs=0.005)
    assert factors.var() == pytest.approx(0.1**2 / 3, rel=0.1)


def test_grid_displacements_follow_their_law():
    move = only(warp.GRID)
    at = np.arange(SIDE)
    cell, within = at // 6, at % 6
    law = 0.3**2 / 3 * (cell * 6.0**2 + within**2)  # independent steps add their variances
    np.testing.assert_allclose(move[:, 0, :, 0].var(axis=0), law, rtol=0.15, atol=1e-6)
    np.testing.assert_allclose(move[:, 1, 0, :].var(axis=0), law, rtol=0.15, atol=1e-6)
    assert (np.abs(move[:, 0].mean(axis=0)) < 4 * np.sqrt(law / MANY)[:, None] + 1e-6).all()


def test_optical_distortion_equals_opencv():
    move, center = only(warp.OPTICAL), (SIDE - 1) / 2
    r2 = 2 * (center / SIDE) ** 2
    strength = move[:, 0, 0, 0] / (-center * (r2 + r2**2))  # k, from one corner
    assert np.abs(strength).max() <= 2.0 + 1e-4
    assert strength.mean() == pytest.approx(0.0, abs=0.1)
    assert strength.var() == pytest.approx(4 / 3, rel=0.1)
    camera = np.array([[SIDE, 0, center], [0, SIDE, center], [0, 0, 1]])
    columns, rows = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    for k, film in zip(strength[:3].astype(float), move, strict=False):  # the whole map, from OpenCV for that k
        x, y = cv2.initUndistortRectifyMap(camera, np.array([k, k, 0, 0, 0]), None, camera, (SIDE, SIDE), cv2.CV_32FC1)
        np.testing.assert_allclose(film, [y - rows, x - columns], atol=1e-3)


def test_elastic_field_is_a_gaussian_filter_of_uniform_noise():
    key, sigma = jax.random.key(3), 1.7
    noise = np.asarray(jax.random.uniform(key, (2, 20, 24), minval=-1.0))
    expected = 5.0 * np.stack([scipy.ndimage.gaussian_filter(n, sigma, mode="reflect") for n in noise])
    np.testing.assert_allclose(elastic_field(key, (20, 24), 5.0, sigma), expected, atol=1e-5)


def test_elastic_displacements_follow_their_law():
    side = 2 * SIDE
    move = only(warp.ELASTIC, 100, side=side, amounts=warp.TUTORIAL._replace(alpha_affine=0.0))
    inner = move[:, :, side // 4 : -side // 4, side // 4 : -side // 4]
    sigma = 6.0 * side / 256
    lag = np.arange(-int(4 * sigma + 0.5), int(4 * sigma + 0.5) + 1)
    kernel = np.exp(-0.5 * (lag / sigma) ** 2)
    kernel /= kernel.sum()
    law = 120 * (side / 256) ** 2 / np.sqrt(3) * (kernel**2).sum()
    assert inner.std() == pytest.approx(law, rel=0.05)
    assert inner.mean() == pytest.approx(0.0, abs=0.05 * law)
    assert inner.std() / side == pytest.approx(120 / (2 * np.sqrt(3 * np.pi) * 6) / 256, rel=0.08)


def test_elastic_affine_moves_the_three_corners():
    moves = np.array([[0.7, -0.4], [0.2, 0.9], [-0.8, 0.3]])
    linear, offset = warp._elastic_affine(jnp.asarray(moves, jnp.float32), (SIDE, SIDE))
    square = SIDE // 3
    corners = square * np.array([[1, 1], [1, -1], [-1, -1]])
    for corner, move in zip(corners, moves, strict=True):  # the sampling map leads each moved corner back
        moved = corner + move
        np.testing.assert_allclose(moved + np.asarray(linear) @ moved + np.asarray(offset), corner, atol=1e-5)


def test_one_grid_equals_one_transform_after_the_other():
    films = smooth_films(3, 60)
    kinds = [warp.ROTATE, warp.ELASTIC, warp.GRID, warp.SCALE]
    key, amounts, shape = jax.random.key(5), warp.TUTORIAL, (60, 60)
    at_once = sample(films, compose(key, jnp.tile(jnp.asarray(kinds)[None], (3, 1)), shape, amounts))
    step_by_step = films
    for kind in kinds:  # a film's parameters hang on the key and not on the order
        step_by_step = sample(step_by_step, compose(key, jnp.full((3, 1), kind), shape, amounts))
    assert float(jnp.abs(at_once - films).mean()) > 0.02
    gap = jnp.abs(at_once - step_by_step)
    assert float(gap.mean()) < 2e-3  # what four interpolations blur
    assert float(gap.max()) < 3e-2
    backwards = sample(films, compose(key, jnp.tile(jnp.asarray(kinds[::-1])[None], (3, 1)), shape, amounts))
    assert float(jnp.abs(backwards - step_by_step).mean()) > 5 * float(gap.mean())


def test_exactly_n_distinct_transforms_with_even_chances():
    order = np.asarray(choose(jax.random.key(0), 3000, 4))
    assert order.shape == (3000, 4)
    assert all(len(set(row)) == 4 for row in order.tolist())
    chosen = np.stack([(order == k).any(axis=1).mean() for k in range(6)])
    np.testing.assert_allclose(chosen, 4 / 6, atol=0.03)  # 3.5 standard errors
    first = np.bincount(order[:, 0], minlength=6) / 3000
    np.testing.assert_allclose(first, 1 / 6, atol=0.024)
    with pytest.raises(UserError, match="n = 7"):
        choose(jax.random.key(0), 2, 7)


def test_keys_decide_and_batches_do_not():
    films = noise_films()
    once, again = some_of(jax.random.key(0), films), some_of(jax.random.key(0), films)
    other = some_of(jax.random.key(1), films)
    np.testing.assert_array_equal(once, again)
    assert (jnp.abs(once - other).mean(axis=(1, 2, 3)) > 1e-3).all()
    same_film = some_of(jax.random.key(0), jnp.tile(films[:1], (4, 1, 1, 1)))
    assert float(jnp.abs(same_film[0] - same_film[1]).mean()) > 1e-3  # each film draws for itself
    np.testing.assert_allclose(some_of(jax.random.key(0), films[:2]), once[:2], atol=1e-4)
    grids = some_of_grids(jax.random.key(0), 4, (SIDE, SIDE))
    np.testing.assert_allclose(sample(films, grids), once, atol=1e-4)  # masks can be warped alike


def test_one_compilation_serves_any_key_and_films_stay_in_range():
    films = jnp.round(noise_films())  # zeros and ones, the ends of the range
    for seed in range(3):
        out = some_of(jax.random.key(seed), films)
        assert out.shape == films.shape
        assert float(out.min()) >= 0.0
        assert float(out.max()) <= 1.0
    assert TRACED.count(films.shape) == 1


def test_impossible_sizes_are_told():
    with pytest.raises(UserError, match="1 x 8"):
        warp.identity((1, 8))
    with pytest.raises(UserError, match="sigma"):
        elastic_field(jax.random.key(0), (8, 8), 1.0, 3.0)
