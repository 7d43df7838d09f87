"""Likeness of films: identities, closed forms, and masks that are respected."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cxrjax.errors import UserError
from cxrjax.metrics import similarity


def films(seed: int, n: int = 3, side: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(n, side, side))


@pytest.mark.parametrize("side", [3, 4, 7, 16])
def test_a_film_is_like_itself(side):
    a = films(0, side=side)
    np.testing.assert_allclose(similarity.ssim_map(a, a), 1.0, atol=1e-12)
    np.testing.assert_array_equal(similarity.mae(a, a), 0.0)
    assert np.isposinf(similarity.psnr(a, a)).all()


def test_each_film_is_judged_alone():
    a, b = films(1), films(2)
    whole = similarity.ssim_map(a, b)
    assert whole.shape == a.shape
    for i in range(3):
        _, alone = structural_similarity(a[i], b[i], data_range=1.0, full=True)
        np.testing.assert_allclose(whole[i], alone, atol=1e-12)
        expected = peak_signal_noise_ratio(a[i], b[i], data_range=1.0)
        assert similarity.psnr(a, b)[i] == pytest.approx(expected, abs=1e-10)


def test_masks_are_respected():
    a = films(3)
    mask = np.zeros(a.shape, bool)
    mask[0, :, :8] = True  # film 1 keeps an empty mask
    mask[2] = True
    b = np.where(mask, a + 0.1, a)
    np.testing.assert_allclose(similarity.mae(a, b, mask), [0.1, np.nan, 0.1])
    np.testing.assert_allclose(similarity.mae(a, b, ~mask), [0.0, 0.0, np.nan])
    np.testing.assert_allclose(similarity.psnr(a, b, mask), [20.0, np.nan, 20.0])
    np.testing.assert_allclose(similarity.mae(a, b), [0.05, 0.0, 0.1])
    inside, outside = similarity.ssim(a, b, mask), similarity.ssim(a, b, ~mask)
    assert inside[0] < outside[0] < 1.0  # windows reach over the mask's edge
    assert np.isnan(inside[1])
    np.testing.assert_allclose(similarity.ssim(a, b)[0], (inside[0] + outside[0]) / 2)


def test_bad_shapes_are_told():
    with pytest.raises(UserError, match="one shape"):
        similarity.mae(films(0), films(0)[0])
    with pytest.raises(UserError, match="a mask"):
        similarity.mae(films(0), films(0), np.ones((16, 16)))
    with pytest.raises(UserError, match="at least 3 x 3"):
        similarity.ssim_map(films(0, side=2), films(0, side=2))
