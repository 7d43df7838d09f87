"""Multi-scale SSIM: its fixed points, its symmetry, and scikit-image's SSIM where one scale fits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from cxrjax.nn.conv import halve
from cxrjax.ops import ms_ssim as multiscale

ms_ssim = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})(multiscale.ms_ssim)


def films(side, b=2, seed=0):
    """Smooth films with some grain, in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    smooth = np.stack([0.5 + 0.3 * np.sin(5 * x + i) * np.cos(4 * y - i) for i in range(b)])
    return np.clip(smooth + 0.05 * rng.standard_normal(smooth.shape), 0, 1)[..., None].astype(np.float32)


@pytest.mark.parametrize("side", [16, 48])
def test_a_film_is_wholly_like_itself(side):
    np.testing.assert_allclose(ms_ssim(films(side), films(side)), 1, atol=1e-6)
    dark = jnp.zeros((1, side, side, 1))
    np.testing.assert_allclose(ms_ssim(dark, dark), 1, atol=1e-6)


@pytest.mark.parametrize("side", [11, 21])
def test_one_scale_is_the_ssim_of_scikit_image_where_whole_windows_fit(side):
    a, b = films(side), films(side, seed=1)[::-1].copy()
    expected = []
    for one, two in zip(a[..., 0], b[..., 0], strict=True):
        _, values = structural_similarity(
            one.astype(np.float64), two.astype(np.float64), gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, data_range=1, full=True,
        )  # fmt: skip
        expected.append(max(values[5:-5, 5:-5].mean(), 0.0))
    assert min(expected) < 0.9
    np.testing.assert_allclose(ms_ssim(a, b), expected, atol=1e-4)


def test_two_scales_are_the_structure_of_the_first_and_the_whole_of_the_second_by_their_weights():
    a = films(32)
    b = np.clip(0.6 * a + 0.1, 0, 1)  # another level and another contrast
    whole, structure = (np.asarray(t) for t in multiscale._terms(jnp.asarray(a[..., 0]), jnp.asarray(b[..., 0])))
    assert (whole < structure).all()  # the level counts at the last scale alone
    half = [np.asarray(halve(jnp.asarray(x)))[..., 0].astype(np.float64) for x in (a, b)]
    last = [
        structural_similarity(
            one, two, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, full=True
        )[1][5:-5, 5:-5].mean()
        for one, two in zip(*half, strict=True)
    ]
    first, second = np.asarray(multiscale.WEIGHTS[:2]) / sum(multiscale.WEIGHTS[:2])
    np.testing.assert_allclose(ms_ssim(a, b), structure**first * np.asarray(last) ** second, atol=1e-4)


def test_likeness_falls_with_noise_and_does_not_ask_which_film_is_first():
    a = films(48)
    noise = np.random.default_rng(7).standard_normal(a.shape).astype(np.float32)
    noisy = [np.clip(a + level * noise, 0, 1) for level in (0.02, 0.05, 0.1, 0.3)]
    falling = np.stack([ms_ssim(a, b) for b in noisy])
    assert (np.diff(falling, axis=0) < -0.01).all()
    assert (falling < 1).all()
    assert (falling >= 0).all()
    np.testing.assert_allclose([ms_ssim(b, a) for b in noisy], falling, atol=1e-6)


def test_opposite_films_are_not_below_zero():
    out = np.asarray(ms_ssim(films(16), 1 - films(16)))
    assert np.array_equal(out, [0, 0])


def test_scales_are_those_whose_smallest_film_a_window_fits():
    sides = (8, 11, 21, 22, 43, 44, 87, 88, 175, 176, 256, 1024)
    assert [multiscale.scales(side) for side in sides] == [1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5]
