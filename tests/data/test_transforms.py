"""Augmentations move pixels by known amounts and draw all chance from the generator given."""

from __future__ import annotations

import numpy as np
import pytest

from cxrjax.data.transforms import TRANSFORMS, compose, crop, flip, rotate


@pytest.fixture
def film() -> np.ndarray:
    y, x = np.mgrid[:56, :56]
    return (128 + 60 * np.sin(x / 9) + 60 * np.cos(y / 7)).astype(np.uint8)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_shape_type_and_source_are_kept_and_seed_decides(film, name):
    before = film.copy()
    outs = [TRANSFORMS[name](film, np.random.default_rng(seed)) for seed in (1, 1, *range(2, 12))]
    assert all(out.shape == film.shape and out.dtype == np.uint8 for out in outs)
    np.testing.assert_array_equal(film, before)
    np.testing.assert_array_equal(outs[0], outs[1])
    assert any((out != outs[0]).any() for out in outs)


def test_flip_mirrors_half_of_the_films(film):
    outs = [flip(film, np.random.default_rng(seed)) for seed in range(400)]
    mirrored = [(out == film[:, ::-1]).all() for out in outs]
    assert all((out == film).all() for out, m in zip(outs, mirrored, strict=True) if not m)
    assert 150 < sum(mirrored) < 250


def test_crop_is_a_shift_of_at_most_a_fourteenth(film):
    shifts = set()
    for seed in range(300):
        out = crop(film, np.random.default_rng(seed))
        inner = out[8:-8, 8:-8]
        ((dy, dx),) = [
            (dy, dx)
            for dy in range(-4, 5)
            for dx in range(-4, 5)
            if (film[8 + dy : 48 + dy, 8 + dx : 48 + dx] == inner).all()
        ]
        shifts.add((dy, dx))
    assert {dy for dy, _ in shifts} == {dx for _, dx in shifts} == set(range(-4, 5))


def test_rotate_keeps_the_center_and_nears_identity_for_small_angles(film):
    class Fixed:
        def __init__(self, degrees: float):
            self.degrees = degrees

        def uniform(self, low: float, high: float) -> float:
            assert (low, high) == (-10.0, 10.0)
            return self.degrees

    np.testing.assert_array_equal(rotate(film, Fixed(0.0)), film)
    turned = rotate(film, Fixed(10.0)).astype(int)
    np.testing.assert_allclose(turned[27:29, 27:29], film[27:29, 27:29], atol=4)
    back = rotate(rotate(film, Fixed(10.0)), Fixed(-10.0)).astype(int)
    np.testing.assert_allclose(back[16:40, 16:40], film[16:40, 16:40], atol=4)
    assert np.abs(turned - film).max() > 10


def test_compose_applies_in_order(film):
    rng = np.random.default_rng(0)
    expected = rotate(flip(film, rng), rng)
    np.testing.assert_array_equal(compose(("flip", "rotate"))(film, np.random.default_rng(0)), expected)


def test_brightness_multiplies_all_of_a_film_by_one_factor_within_a_fifth(film):
    factors = []
    for seed in range(40):
        stacked = TRANSFORMS["brightness"](np.stack([film // 2, film // 2], -1), np.random.default_rng(seed))
        np.testing.assert_array_equal(stacked[..., 0], stacked[..., 1])
        factors.append(stacked.sum() / (2 * (film // 2).sum()))
        expected = np.clip(film // 2 * factors[-1], 0, 255)
        np.testing.assert_allclose(stacked[..., 0].astype(float), expected, atol=1)
    assert 0.79 < min(factors) < 0.85
    assert 1.15 < max(factors) < 1.21
    assert TRANSFORMS["brightness"](np.full((4, 4), 255, np.uint8), np.random.default_rng(0)).max() <= 255


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "brightness"])
def test_three_channels_move_together(film, name):
    out = TRANSFORMS[name](np.stack([film, 255 - film, film], -1), np.random.default_rng(2))
    assert out.shape == (56, 56, 3)
    alone = TRANSFORMS[name](film, np.random.default_rng(2))
    np.testing.assert_array_equal(out[..., 0], alone)
    np.testing.assert_array_equal(out[..., 2], alone)
    np.testing.assert_allclose(out[..., 1].astype(int), 255 - alone.astype(int), atol=1)
