"""Where a map points: against boxes or masks of the finding, on the host in float64.

Maps are (n, h, w) in [0, 1], each scaled by whoever made it; truth is (n, h, w), true inside the finding, and a map
whose truth is empty has no figure (NaN). Boxes are (x, y, width, height) in pixels of the map, as NIH writes them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from cxrjax.errors import UserError


class Overlap(NamedTuple):
    """Each (n,) in [0, 1]: intersection over union, and over the detected region alone (IoBB)."""

    iou: np.ndarray
    iobb: np.ndarray


def masks(boxes: ArrayLike, height: int, width: int) -> np.ndarray:
    """(n, height, width) bool, true for pixels whose center lies in the box: boxes (n, 4) as x, y, width, height.

    A box thinner than a pixel holds the pixel it lies in; one that lies outside the film holds none.

    Raises:
      UserError: not (n, 4), a side that is not positive, or a number that is not finite.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise UserError(f"boxes of shape {boxes.shape}; expected (n, 4) as x, y, width, height")
    if not np.isfinite(boxes).all() or (boxes[:, 2:] <= 0).any():
        raise UserError("a box has a side of 0 or less, or a number that is not finite; expected x, y, width, height")

    def inside(start: np.ndarray, side: np.ndarray, count: int) -> np.ndarray:
        center = np.arange(count) + 0.5
        within = (center[None] >= start[:, None]) & (center[None] < (start + side)[:, None])
        nearest = np.arange(count)[None] == np.floor(start + side / 2)[:, None]
        return np.where(within.any(axis=1, keepdims=True), within, nearest)  # (n, count)

    across = inside(boxes[:, 0], boxes[:, 2], width)
    down = inside(boxes[:, 1], boxes[:, 3], height)
    return down[:, :, None] & across[:, None, :]


def pointing(maps: ArrayLike, truth: ArrayLike, tolerance: float = 0.0) -> np.ndarray:
    """Whether the map's greatest value lies in the finding: (n,) 1, 0, or the share of tied maxima that do.

    Args:
      maps: (n, h, w) in [0, 1].
      truth: (n, h, w), true inside.
      tolerance: pixels about the finding that still count as a hit; 15 in the source, on full-size photographs.

    Returns:
      (n,); a blank map scores the finding's share of the film, as pointing at random does. NaN where truth is empty.

    Raises:
      UserError: shapes differ or a map lies outside [0, 1].

    Source: Zhang et al. 2018 (excitation backprop), section 4.1.
    """
    maps, truth = _pair(maps, truth)
    out = np.full(len(maps), np.nan)
    for i in np.flatnonzero(truth.any(axis=(1, 2))):
        near = ndimage.distance_transform_edt(~truth[i]) <= tolerance
        out[i] = near[maps[i] == maps[i].max()].mean()
    return out


def overlap(maps: ArrayLike, truth: ArrayLike, level: float = 0.5) -> Overlap:
    """IoU and IoBB of the region where the map is at or above a level; both 0 where nothing is.

    Args:
      maps: (n, h, w) in [0, 1].
      truth: (n, h, w), true inside.
      level: above 0, up to 1.

    Raises:
      UserError: shapes differ, a map lies outside [0, 1], or the level does.

    Source: Wang et al. 2017, section 4.2.
    """
    maps, truth = _pair(maps, truth)
    if not 0 < level <= 1:
        raise UserError(f"localization: level {level}; expected above 0 and at most 1")
    region = maps >= level
    both = (region & truth).sum(axis=(1, 2)).astype(np.float64)
    either, detected = (region | truth).sum(axis=(1, 2)), region.sum(axis=(1, 2))
    there = truth.any(axis=(1, 2))
    iou = np.divide(both, either, out=np.zeros(len(maps)), where=either > 0)
    iobb = np.divide(both, detected, out=np.zeros(len(maps)), where=detected > 0)
    return Overlap(np.where(there, iou, np.nan), np.where(there, iobb, np.nan))


def _pair(maps: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    maps, truth = np.asarray(maps, dtype=np.float64), np.asarray(truth) > 0.5
    if maps.ndim != 3 or maps.shape != truth.shape:
        raise UserError(f"localization: maps {maps.shape} and truth {truth.shape}; expected one shape (n, h, w)")
    if maps.size and not (maps.min() >= -1e-6 and maps.max() <= 1 + 1e-6):
        raise UserError("localization: a map lies outside [0, 1]; scale each map by its least and greatest value")
    return maps, truth
