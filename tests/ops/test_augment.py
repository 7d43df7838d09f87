"""Augmentations in the step: identities, what each does, and whose draw is whose."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from cxrjax.ops import augment, warp
from cxrjax.ops.augment import Ranges
from cxrjax.train import mesh as meshes

# These programs run for milliseconds, and LLVM's optimizer would take seconds over each.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
SIDE = 24
ALL = Ranges(
    warp=2, optical_limit=0.3, degrees=10.0, shift=0.1, zoom=0.2, shear=5.0, exposure=0.2, contrast=0.3, gamma=0.5,
    blur=1.0, cutout=0.5, noise=0.1,
)  # fmt: skip


def films(b: int = 8, c: int = 1) -> jax.Array:
    """Smooth, between 0.1 and 0.9."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    each = [0.5 + 0.4 * np.sin(3 * x + i) * np.cos(4 * y - i) for i in range(b)]
    return jnp.repeat(jnp.asarray(np.stack(each)[..., None], jnp.float32), c, axis=-1)


def amounts(*values: float) -> jax.Array:
    return jnp.asarray(values, jnp.float32)


@pytest.mark.parametrize("ranges", [ALL._replace(warp=0), Ranges(warp=2, optical_limit=0.3)], ids=["most", "warp"])
def test_a_film_is_drawn_by_its_number_alone_in_any_place_of_a_batch_on_any_devices(ranges):
    image, index, key = films(8), jnp.arange(40, 48), jax.random.key(3)
    vary = jit(partial(augment.vary, ranges))
    whole = np.asarray(vary(key, image, index))
    order = np.array([5, 0, 7, 2, 1, 6, 3, 4])
    np.testing.assert_allclose(vary(key, image[order], index[order]), whole[order], atol=1e-6)
    eight = meshes.make(8)
    spread = vary(meshes.replicate(eight, key), *meshes.put(eight, (np.asarray(image), np.asarray(index))))
    np.testing.assert_allclose(spread, whole, atol=1e-6)
    each = np.asarray(vary(key, image[:1].repeat(8, axis=0), index))  # one film under eight numbers
    assert np.abs(each - each[[1, 2, 3, 4, 5, 6, 7, 0]]).max(axis=(1, 2, 3)).min() > 0
    assert not np.array_equal(vary(jax.random.key(4), image, index), whole)


def test_nothing_changes_at_range_0_and_little_at_a_small_one():
    image, index = films(), jnp.arange(8)
    assert augment.vary(augment.NONE, jax.random.key(0), image, index) is image
    small = Ranges(**{name: 1e-6 for name in ALL.on if name not in ("warp", "blur")})  # a count and a width
    found = jit(partial(augment.vary, small))(jax.random.key(0), image, index)
    np.testing.assert_allclose(found, image, atol=1e-4)


@pytest.mark.parametrize("name", ALL.on[1:])  # the six of warp have tests of their own
def test_each_range_does_something_of_its_own(name):
    image = films(2)
    changed = jit(partial(augment.vary, Ranges(**{name: getattr(ALL, name)})))(jax.random.key(1), image, jnp.arange(2))
    assert float(jnp.abs(changed - image).max()) > 1e-3


@pytest.mark.parametrize("channels", [1, 3])
def test_films_stay_in_0_to_1_until_noise_is_added(channels):
    extreme = Ranges(degrees=180.0, shift=0.9, zoom=0.9, shear=60.0, exposure=1.0, contrast=0.9, gamma=3.0, cutout=0.9)
    image = films(64, channels)
    found = jit(partial(augment.vary, extreme))(jax.random.key(0), image, jnp.arange(64))
    assert found.shape == image.shape
    assert np.isfinite(found).all()
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_draws_fill_their_ranges_evenly():
    def drawn(films=4000, side=2, **ranges):
        flat, index = jnp.full((films, side, side, 1), 0.5), jnp.arange(films)
        return np.asarray(jit(partial(augment.vary, Ranges(**ranges)))(jax.random.key(0), flat, index))

    moved = drawn(exposure=0.2)[:, 0, 0, 0] - 0.5
    assert 0.19 < moved.max() <= 0.2 + 1e-6
    assert abs(moved.mean()) < 0.01
    assert moved.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.05)
    exponent = np.log(drawn(gamma=0.5)[:, 0, 0, 0]) / np.log(0.5)
    assert (exponent.min(), exponent.max()) == pytest.approx((1 / 1.5, 1.5), rel=0.01)
    assert np.median(exponent) == pytest.approx(1, abs=0.03)
    noisy = drawn(500, 16, noise=0.1)
    deviation = noisy.std(axis=(1, 2, 3))
    assert 0.09 < deviation.max() < 0.12
    assert deviation.min() < 0.01
    assert noisy.mean() == pytest.approx(0.5, abs=1e-3)


def test_exposure_moves_the_mean_contrast_the_spread_and_gamma_neither_black_nor_white():
    image = films(2)
    moved = augment.exposure(image, amounts(0.05, -0.1))
    np.testing.assert_allclose(moved.mean((1, 2, 3)) - image.mean((1, 2, 3)), [0.05, -0.1], atol=1e-6)
    spread = augment.contrast(image, amounts(0.5, 1.1))
    np.testing.assert_allclose(spread.mean((1, 2, 3)), image.mean((1, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(spread.std((1, 2, 3)), amounts(0.5, 1.1) * image.std((1, 2, 3)), rtol=1e-5)
    ends = jnp.tile(jnp.asarray([0.0, 0.25, 1.0]).reshape(1, 1, 3, 1), (2, 1, 1, 1))
    np.testing.assert_allclose(augment.gamma(ends, amounts(2.0, 0.5))[:, 0, :, 0], [[0, 0.0625, 1], [0, 0.5, 1]])


def test_an_affine_map_is_scipys():
    image = films(1)
    linear = augment.linear_map(amounts(12.0), amounts(0.8), amounts(7.0))
    affine = jit(warp.affine)
    found = affine(image, linear, jnp.asarray([[1.5, -2.0]]))
    middle = (SIDE - 1) / 2
    at = middle - np.asarray(linear[0]) @ [middle, middle] + [1.5, -2.0]
    expected = scipy.ndimage.affine_transform(np.asarray(image[0, ..., 0]), linear[0], at, order=1, mode="mirror")
    np.testing.assert_allclose(found[0, ..., 0], expected, atol=1e-5)
    turn = augment.linear_map(amounts(90.0), amounts(1.0), amounts(0.0))
    np.testing.assert_allclose(affine(image, turn, jnp.zeros((1, 2)))[0], np.rot90(image[0]), atol=1e-5)
    twice = augment.linear_map(amounts(0.0), amounts(2.0), amounts(0.0))
    np.testing.assert_allclose(twice[0], 0.5 * np.eye(2))  # a film magnified twice is read at half the distances


def test_a_cutout_is_a_square_of_the_mean_gray():
    image = films(2)
    found = augment.cut_out(image, jnp.asarray([[0.5, 0.5], [0.0, 1.0]]), amounts(0.5, 0.5))
    changed = np.asarray(found != image)[..., 0]
    middle = np.zeros((SIDE, SIDE), bool)
    middle[6:18, 6:18] = True
    corner = np.zeros((SIDE, SIDE), bool)
    corner[:6, 18:] = True
    np.testing.assert_array_equal(changed, [middle, corner])
    np.testing.assert_allclose(found[0, 12, 12], image[0].mean(), rtol=1e-6)
