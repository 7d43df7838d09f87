"""Maps against boxes and masks: exact hits, half hits, blank maps."""

from __future__ import annotations

import numpy as np
import pytest

from cxrjax.errors import UserError
from cxrjax.metrics import localization


def square(x: int, y: int, side: int, size: int = 16) -> np.ndarray:
    out = np.zeros((size, size))
    out[y : y + side, x : x + side] = 1.0
    return out


def test_boxes_hold_the_pixels_whose_centers_they_hold():
    found = localization.masks([[2, 4, 3, 5], [2.6, 4.0, 3.0, 5.0], [7.2, 7.2, 0.1, 0.1], [40, 40, 3, 3]], 16, 16)
    assert found.shape == (4, 16, 16)
    expected = np.zeros((16, 16), bool)
    expected[4:9, 2:5] = True
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(found[1], np.roll(expected, 1, axis=1))  # centers 3.5, 4.5, 5.5 of x
    assert np.argwhere(found[2]).tolist() == [[7, 7]]
    assert not found[3].any()
    for bad in ([[0, 0, 0, 4]], [[0, 0, np.nan, 4]], [0, 0, 4, 4]):
        with pytest.raises(UserError, match="expected"):
            localization.masks(bad, 16, 16)


def test_pointing_hits_misses_and_shrugs():
    truth = np.stack([square(2, 4, 4)] * 3 + [np.zeros((16, 16))])
    maps = np.stack([0.2 * square(0, 0, 16)] * 4)
    maps[0, 5, 3] = 1.0
    maps[1, 12, 3] = 1.0
    hits = localization.pointing(maps, truth)
    assert hits[:2].tolist() == [1.0, 0.0]
    assert hits[2] == pytest.approx(truth[2].mean())  # a blank map points everywhere
    assert np.isnan(hits[3])
    near = [localization.pointing(maps[1:2], truth[1:2], tolerance)[0] for tolerance in (4.0, 5.0)]
    assert near == [0.0, 1.0]  # row 12 lies five pixels below row 7


def test_overlap_of_the_finding_itself_of_half_and_of_nothing():
    truth = np.stack([square(4, 4, 8)] * 4 + [np.zeros((16, 16))])
    maps = np.stack([square(4, 4, 8), square(4, 4, 4), square(0, 0, 16), square(0, 0, 0), square(4, 4, 8)])
    found = localization.overlap(0.9 * maps, truth, 0.5)
    np.testing.assert_allclose(found.iou[:4], [1.0, 16 / 64, 64 / 256, 0.0])
    np.testing.assert_allclose(found.iobb[:4], [1.0, 1.0, 64 / 256, 0.0])
    assert np.isnan(found.iou[4])
    assert np.isnan(found.iobb[4])
    assert localization.overlap(0.9 * maps, truth, 0.95).iou[0] == 0.0


def test_bad_input_is_told():
    maps, truth = np.zeros((2, 8, 8)), np.ones((2, 8, 8))
    with pytest.raises(UserError, match="one shape"):
        localization.pointing(maps, truth[:, :4])
    with pytest.raises(UserError, match="outside"):
        localization.overlap(maps + 2, truth)
    with pytest.raises(UserError, match="level 0"):
        localization.overlap(maps, truth, 0)
