"""Where a map points: against boxes or masks of the finding, on the host in float64.

Maps are (n, h, w) in [0, 1], each scaled by whoever made it; truth is (n, h, w), true inside the finding, and a map
whose truth is empty has no figure (NaN). Boxes are (x, y, width, height) in pixels of the map, as NIH writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from cxrjax.types import UserError

LEVELS = tuple(level / 20 for level in range(1, 20))
WANG_LEVELS = (60 / 255, 180 / 255)  # Wang et al. 2017, section 4.2


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


def best_level(maps: ArrayLike, truth: ArrayLike, levels: Sequence[float] = LEVELS) -> float:
    """The level of the greatest mean IoU, the lowest of equals; NaN where no truth is known.

    Choose it on validation films: chosen on the films reported on it flatters the IoU, and the page has to say so.
    """
    maps, truth = _pair(maps, truth)
    there = truth.any(axis=(1, 2))
    if not there.any():
        return float("nan")
    means = [overlap(maps[there], truth[there], level).iou.mean() for level in levels]
    return float(levels[int(np.argmax(means))])


def detected_boxes(heat: ArrayLike, levels: Sequence[float] = WANG_LEVELS) -> np.ndarray:
    """The boxes about each connected region at or above each level: a map (h, w) in [0, 1] -> (m, 4), largest first.

    Raises:
      UserError: a number is not finite.

    Source: Wang et al. 2017, section 4.2 (60 and 180 of 255); regions touch by their sides.
    """
    heat = np.asarray(heat, dtype=np.float64)
    if not np.isfinite(heat).all():
        raise UserError("localization: a map is NaN or infinite somewhere; look for a diverged run or a bad film")
    found = set()
    for level in levels:
        regions, _ = ndimage.label(heat >= level)
        for down, across in ndimage.find_objects(regions):
            found.add((across.start, down.start, across.stop - across.start, down.stop - down.start))
    boxes = sorted(found, key=lambda box: (-box[2] * box[3], box))
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def box_overlap(detected: ArrayLike, truth: ArrayLike) -> Overlap:
    """IoU and IoBB of every detected box with every true one: (m, 4) and (t, 4) -> (m, t) each."""
    a, b = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in (detected, truth))
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    both = np.prod(np.clip(high - low, 0.0, None), axis=2)  # (m, t)
    area_a, area_b = np.prod(a[:, 2:], axis=1)[:, None], np.prod(b[:, 2:], axis=1)[None]
    return Overlap(both / (area_a + area_b - both), both / np.broadcast_to(area_a, both.shape))


def box_hits(maps: ArrayLike, boxes: Sequence[ArrayLike], levels: Sequence[float] = WANG_LEVELS) -> Overlap:
    """Of each film the best IoU and IoBB that any detected box has with any true one.

    Args:
      maps: (n, h, w) in [0, 1].
      boxes: n arrays (t, 4) as x, y, width, height in pixels of the map.
      levels: of `detected_boxes`.

    Returns:
      (n,) each; Wang's accuracy is the share of films at or above a T such as 0.1. 0 where nothing is detected, NaN
      where no box is known.

    Raises:
      UserError: as many boxes as maps are wanted.
    """
    maps = np.asarray(maps, dtype=np.float64)
    if len(maps) != len(boxes):
        raise UserError(f"localization: {len(maps)} maps and boxes of {len(boxes)} films; expected one length")
    best = np.full((2, len(maps)), np.nan)
    for i, (heat, truth) in enumerate(zip(maps, boxes, strict=True)):
        if np.asarray(truth).size:
            found = box_overlap(detected_boxes(heat, levels), truth)
            best[:, i] = [part.max(initial=0.0) for part in found]
    return Overlap(best[0], best[1])


def _pair(maps: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    maps, truth = np.asarray(maps, dtype=np.float64), np.asarray(truth) > 0.5
    if maps.ndim != 3 or maps.shape != truth.shape:
        raise UserError(f"localization: maps {maps.shape} and truth {truth.shape}; expected one shape (n, h, w)")
    if maps.size and not (maps.min() >= -1e-6 and maps.max() <= 1 + 1e-6):
        raise UserError("localization: a map lies outside [0, 1]; scale each map by its least and greatest value")
    return maps, truth
