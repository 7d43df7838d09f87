"""Crops, the border-only control, and normalizations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.ops import inputs

FILM = jnp.arange(2 * 8 * 8, dtype=jnp.float32).reshape(2, 8, 8, 1) / 128


def test_random_crops_are_squares_of_the_film_at_every_offset():
    crops = jax.vmap(lambda key: inputs.random_crop(key, FILM, 6))(jax.random.split(jax.random.key(0), 200))
    corners = np.asarray(crops[:, 0, 0, 0, 0]) * 128  # 8 row + column
    assert {(int(c) // 8, int(c) % 8) for c in corners} == {(y, x) for y in range(3) for x in range(3)}
    first, row, column = np.asarray(crops[0, 1]), *divmod(int(crops[0, 1, 0, 0, 0] * 128) - 64, 8)
    np.testing.assert_array_equal(first, FILM[1, row : row + 6, column : column + 6])


def test_ten_crops_are_corners_and_middle_and_their_mirror_images():
    ten = inputs.views(FILM, ("flip", "shift"), 6)
    assert ten.shape == (10, 2, 6, 6, 1)
    np.testing.assert_array_equal(ten[3], FILM[:, 2:, 2:])
    np.testing.assert_array_equal(ten[4], inputs.center_crop(FILM, 6))
    np.testing.assert_array_equal(ten[5:], ten[:5, :, :, ::-1])


def test_views_of_a_whole_film_are_itself_its_mirror_image_and_moves_by_a_share_of_its_side():
    assert np.array_equal(inputs.views(FILM, ()), FILM[None])
    plain, mirrored = inputs.views(FILM, ("flip",))
    np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])
    moved = inputs.views(FILM, ("shift",))
    assert moved.shape == (5, *FILM.shape)
    np.testing.assert_array_equal(moved[4], FILM)
    np.testing.assert_array_equal(moved[0][:, 1:, 1:], FILM[:, :-1, :-1])  # by a pixel, the least there is
    np.testing.assert_array_equal(moved[0][:, 0, 1:], FILM[:, 1, :-1])  # its border mirrored
    np.testing.assert_array_equal(moved[3][:, :-1, :-1], FILM[:, 1:, 1:])
    ten = inputs.views(FILM, ("shift", "flip"))
    np.testing.assert_array_equal(ten, np.concatenate([moved, moved[:, :, :, ::-1]]))


def test_the_border_control_hides_all_but_the_frame():
    seen = np.asarray(inputs.border_only(FILM + 1, 0.25))
    assert not seen[:, 2:6, 2:6].any()
    kept = np.array(FILM + 1)
    kept[:, 2:6, 2:6] = 0
    np.testing.assert_array_equal(seen, kept)


def test_normalizations_map_their_own_center_to_zero():
    for kind, center in (("film", 0.5), ("symmetric", 0.5), ("unit", 0.0), ("efficientnet_lite", 127 / 255)):
        assert float(inputs.normalize(jnp.full((1, 2, 2, 1), center), kind).max()) == 0
    mean = jnp.broadcast_to(jnp.asarray(inputs.IMAGENET[0]), (1, 2, 2, 3))
    np.testing.assert_allclose(inputs.normalize(mean, "imagenet"), 0, atol=1e-7)
    np.testing.assert_allclose(
        inputs.normalize(mean + 1, "imagenet")[0, 0, 0] * jnp.asarray(inputs.IMAGENET[1]), 1, rtol=1e-6
    )


@pytest.mark.parametrize("kind", inputs.NORMALIZATIONS)
def test_three_like_channels_are_told_by_the_planes_of_one(kind):
    film = jnp.asarray(np.random.default_rng(0).random((1, 4, 4, 1)), jnp.float32)
    planes = np.asarray(inputs.normalize(film, kind))
    assert planes.shape[-1] == (2 if kind == "imagenet" else 1)
    three = inputs.normalize(jnp.repeat(film, 3, axis=-1), kind)
    np.testing.assert_allclose(planes @ inputs.like_channels(kind).T, three, rtol=0, atol=1e-6)
