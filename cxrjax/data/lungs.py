"""Lung fields of frontal films, by a deformable template: an outline of each lung is moved until it lies on edges.

Thresholds cut a consolidation out of the lung, for it is as bright as the wall beside it; a whole outline spans it. The
outline wants gray to rise outward along it, in proportion to the film's own contrast; what it encloses is then grown
into the dark pixels just outside. Nothing is learned: the constants were set by eye on phantoms, children's and adults'
films.

Sources: Yuille et al. 1992 (deformable templates); the directions of edges alone, Steger 2002; Otsu 1979.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from skimage.filters import threshold_otsu

from cxrjax.errors import UserError

SMALLEST = 32  # pixels a side
_SIDE = 64  # of the film that outlines are fitted to: it holds all of a lung's outline and little of its vessels
_FINE = 128  # of the film that they are grown in
_POINTS = 40
# The right lung (on the film's left) in its box: across from the chest wall to the mediastinum, down from the apex to
# the costophrenic angle. Clockwise; the heart draws the last third of the medial border back by the taper.
_TAPERS = (0.0, 0.2, 0.4)
_APEX = ((0.82, 0.0), (0.95, 0.04), (0.99, 0.15), (1.0, 0.4))
_BASE = ((0.55, 0.83), (0.3, 0.865), (0.12, 0.93), (0.03, 1.0))
_WALL = ((0.0, 0.93), (0.0, 0.72), (0.03, 0.55), (0.11, 0.39), (0.24, 0.24), (0.4, 0.12), (0.6, 0.04))
_LIKELY = 200  # outlines of each side that are tried in pairs
# An alignment of 1 is an ideal outline. Of 120 fields of smooth noise 4 reached these, of 120 films turned by a quarter
# one; of 120 negatives and of 120 films upside down 14 and 15 did: this is no check of how a film was read.
_LEAST, _LEAST_OF_BOTH = 0.2, 0.8


class Lungs(NamedTuple):
    """Lung fields of n films.

    Attributes:
      mask: (n, h, w) bool, true in the lungs; all true where they were not found, so that nothing is hidden.
      found: (n,) bool, both lungs were found.
    """

    mask: np.ndarray
    found: np.ndarray


class _Outlines(NamedTuple):
    """Outlines of k right lungs, laid into a film of `_SIDE` with a frame of one pixel.

    Attributes:
      at: (k, points) int32 index into the flat framed film; 0, in the frame, for points off the film.
      across: (k, points) float32, of the outward unit normals.
      down: (k, points) float32.
      inner: (k, points / 2) int32 index of points well inside.
    """

    at: np.ndarray
    across: np.ndarray
    down: np.ndarray
    inner: np.ndarray


class _Half(NamedTuple):
    """A film whose sought lung lies on its left, the flat framed fields of it: edges in [-1, 1], and air outside."""

    across: np.ndarray
    down: np.ndarray
    air: np.ndarray


def lungs(image: ArrayLike) -> Lungs:
    """Finds both lungs of frontal films; opacities within the outline stay in.

    The mask is a little wide of the aerated lung and leaves out most of what lies behind the heart and below the
    diaphragm. Of the phantoms' lesions it keeps 99 % of the pixels of pneumonia, of an opaque lobe about 80 %, and less
    than half of a large effusion, whose upper edge it takes for the diaphragm.

    Args:
      image: (n, h, w) in [0, 1], bone white; at least 32 pixels a side.

    Returns:
      Masks and flags. A film whose lungs are not found is not masked: its mask is all true, its flag false. That is
      where no pair of outlines of a lung's size and place lies on edges: most often one opaque lung, a faint or a
      turned film.

    Raises:
      UserError: not (n, h, w), a side under 32 pixels, or values outside [0, 1].
    """
    image = np.asarray(image, dtype=np.float32)
    if image.ndim != 3 or min(image.shape[1:]) < SMALLEST:
        raise UserError(f"lungs: films {image.shape}; expected (n, h, w) of at least {SMALLEST} pixels a side")
    if image.size and not (image.min() >= 0 and image.max() <= 1):  # a NaN fails the first
        raise UserError("lungs: a film lies outside [0, 1]; divide 8-bit films by 255")
    mask, found = np.ones(image.shape, bool), np.zeros(len(image), bool)
    for i, film in enumerate(image):
        boxes, aligned = _fit(film)
        found[i] = min(aligned) >= _LEAST and sum(aligned) >= _LEAST_OF_BOTH
        if found[i]:
            mask[i] = _grown(film, boxes)
    return Lungs(mask, found)


def outside(image: ArrayLike) -> np.ndarray:
    """Where films (n, h, w) in [0, 1] show no found lung: (n, h, w) bool, all true where none was found."""
    found = lungs(image)
    return ~(found.mask & found.found[:, None, None])


def _fit(film: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    """The box (5,) of each lung, the left one's in the mirrored film, and how well each outline lies on edges."""
    halves = _halves(film)
    grid, outlines, cost = _search()
    single = [_aligned(half, outlines) - cost for half in halves]
    likely = [np.argpartition(-score, _LIKELY)[:_LIKELY] for score in single]
    right, left = (grid[which] for which in likely)
    total = single[0][likely[0]][:, None] + single[1][likely[1]][None] - _pair_cost(right[:, None], left[None])
    i, j = np.unravel_index(np.argmax(total), total.shape)
    boxes, best = [right[i], left[j]], total[i, j]
    aligned = [_aligned(half, _outlines(box[None]))[0] for half, box in zip(halves, boxes, strict=True)]
    for step, side in itertools.product((1.0, 1.0, 1.0, 1.0, 0.5), (0, 1)):
        other = boxes[1 - side]
        near = boxes[side] + _NEIGHBORS * np.array([step, step, step, step, 1.0])
        near[:, 4] = near[:, 4].clip(0, len(_TAPERS) - 1)
        near = near[near[:, 1] - near[:, 0] >= 0.12 * _SIDE]
        own = _aligned(halves[side], _outlines(near))
        score = own - _own_cost(near) + aligned[1 - side] - _own_cost(other) - _pair_cost(near, other)
        k = int(np.argmax(score))
        if score[k] > best:
            best, boxes[side], aligned[side] = score[k], near[k], own[k]
    return boxes, [float(value) for value in aligned]


def _grown(film: np.ndarray, boxes: list[np.ndarray]) -> np.ndarray:
    """Both outlines filled, each grown into the dark pixels that touch it nearby, smoothed and widened: (h, w) bool."""
    fine = cv2.GaussianBlur(_resized(film, _FINE, _FINE), (0, 0), 1.5)
    both = np.zeros((_FINE, _FINE), bool)
    # An opaque lobe shortens its own lung's outline and not the other's, so each also reaches as far as the other.
    top, bottom = min(box[2] for box in boxes), max(box[3] for box in boxes)
    for side, (lateral, medial, *ends, taper) in enumerate(boxes):
        x, y, _, _ = _points(np.array([[lateral, medial, *ends, taper], [lateral, medial, top, bottom, taper]]))
        corners = (np.stack([_SIDE - 1 - x if side else x, y], axis=2) + 0.5) * (_FINE / _SIDE) - 0.5
        filled = np.zeros((_FINE, _FINE), np.uint8)
        for outline in np.rint(corners * 16).astype(np.int32):
            cv2.fillPoly(filled, [outline], 1, shift=4)
        inside = filled > 0
        band = _morphed(cv2.MORPH_DILATE, inside, 4)
        dark = band & (fine < threshold_otsu(fine[band]))
        _, parts = cv2.connectedComponents((dark | inside).astype(np.uint8), connectivity=4)
        touching = parts == np.bincount(parts[inside]).argmax()
        both |= _morphed(cv2.MORPH_CLOSE, _morphed(cv2.MORPH_OPEN, touching, 2) | inside, 4)
    # An opacity at the lung's edge does not let it grow; a lesion's rim is worth more than a tight outline.
    both = _morphed(cv2.MORPH_DILATE, both, 1)
    return _resized(both.astype(np.float32), *film.shape) >= 0.5


def _resized(film: np.ndarray, height: int, width: int) -> np.ndarray:
    shrinks = height < film.shape[0] and width < film.shape[1]
    return np.asarray(cv2.resize(film, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def _morphed(operation: int, mask: np.ndarray, radius: int) -> np.ndarray:
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), operation, disk)) > 0


def _halves(film: np.ndarray) -> tuple[_Half, _Half]:
    """The film for its right lung, and mirrored for its left."""
    small = _resized(film, _SIDE, _SIDE)
    # Air between arm and chest is as dark within as a lung, and darker; unlike a lung it reaches the film's border.
    dark = ndimage.binary_opening(np.pad(small < 0.25 * np.quantile(small, 0.9), 3, constant_values=True))
    parts, _ = ndimage.label(dark)
    air = (parts == parts[2, 2])[3:-3, 3:-3].astype(np.float32)
    smooth = cv2.GaussianBlur(small, (0, 0), 1.6, borderType=cv2.BORDER_REPLICATE)
    gx, gy = (
        cv2.Sobel(smooth, cv2.CV_32F, *axis, ksize=3, scale=1 / 8, borderType=cv2.BORDER_REPLICATE)
        for axis in ((1, 0), (0, 1))
    )
    slope = np.hypot(gx, gy)
    strength = np.hypot(slope, 2 * np.median(slope) + 1e-6)  # strong edges all count alike
    gx, gy = gx / strength, gy / strength
    return (
        _Half(*(np.pad(field, 1).ravel() for field in (gx, gy, air))),
        _Half(*(np.pad(field[:, ::-1], 1).ravel() for field in (-gx, gy, air))),
    )


def _aligned(half: _Half, outlines: _Outlines) -> np.ndarray:
    """Mean rise of gray outward along each outline, less the share of outside air within: (k,), 1 at most."""
    at, across, down, inner = outlines
    rise = (half.across[at] * across + half.down[at] * down).mean(axis=1)
    return rise - half.air[inner].mean(axis=1)


@cache
def _shapes() -> tuple[np.ndarray, np.ndarray]:
    """The outline of each taper in the unit box, and its tangents: (tapers, points, 2) each."""
    out = []
    for taper in _TAPERS:
        medial = ((1.0 - 0.45 * taper, 0.7), (1.0 - taper, 0.86))
        corners = np.array([*_APEX, *medial, *_BASE, *_WALL, _APEX[0]])
        length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
        even = np.linspace(0.0, length[-1], _POINTS, endpoint=False)
        out.append(np.stack([np.interp(even, length, corners[:, axis]) for axis in (0, 1)], axis=1))
    shapes = np.stack(out)
    return shapes, np.roll(shapes, -1, axis=1) - np.roll(shapes, 1, axis=1)


def _points(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Outlines of boxes (k, 5): across, down and the outward unit normal's two parts, each (k, points).

    A box is lateral, medial, top, bottom in pixels of `_SIDE`, and the number of its taper.
    """
    shape, tangent = (part[boxes[:, 4].astype(int)] for part in _shapes())
    width, height = boxes[:, 1:2] - boxes[:, 0:1], boxes[:, 3:4] - boxes[:, 2:3]
    x, y = boxes[:, 0:1] + width * shape[:, :, 0], boxes[:, 2:3] + height * shape[:, :, 1]
    across, down = height * tangent[:, :, 1], -width * tangent[:, :, 0]
    length = np.hypot(across, down)
    return x, y, across / length, down / length


def _outlines(boxes: np.ndarray) -> _Outlines:
    x, y, across, down = _points(boxes)

    def index(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        column, row = (np.rint(a).astype(np.int32) for a in (x, y))
        on = (column >= 0) & (column < _SIDE) & (row >= 0) & (row < _SIDE)
        return np.where(on, (row + 1) * (_SIDE + 2) + column + 1, 0)

    inner = (a.mean(axis=1, keepdims=True) * 0.25 + a[:, ::2] * 0.75 for a in (x, y))
    return _Outlines(index(x, y), across.astype(np.float32), down.astype(np.float32), index(*inner))


@cache
def _search() -> tuple[np.ndarray, _Outlines, np.ndarray]:
    """Every box of a coarse grid (k, 5) that a lung could fill, with its outline and its cost (k,)."""
    lateral, medial, top, bottom = (np.arange(*ends, 3) for ends in ((1, 26), (18, 36), (1, 29), (34, 66)))
    grid = np.array(list(itertools.product(lateral, medial, top, bottom, range(len(_TAPERS)))), np.float64)
    width, height = grid[:, 1] - grid[:, 0], grid[:, 3] - grid[:, 2]
    sizes = (width >= 9) & (width <= 30) & (height >= 22) & (height <= 60)
    grid = grid[sizes & (height >= 1.1 * width) & (height <= 3.6 * width)]
    return grid, _outlines(grid), _own_cost(grid)


_NEIGHBORS = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=5)))


def _own_cost(boxes: np.ndarray) -> np.ndarray:
    """Against short and against broad lungs: a half-hidden lung has edges on its clear half only. Boxes (..., 5)."""
    width, height = boxes[..., 1] - boxes[..., 0], boxes[..., 3] - boxes[..., 2]
    return 0.5 * np.maximum(0.0, 0.7 - height / _SIDE) + 0.25 * np.maximum(0.0, 1.7 - height / width)


def _pair_cost(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Against pairs that are no pair: unlike heights and widths, too near, too far, off the middle. Boxes (..., 5)."""
    lateral, _, top, bottom = (np.abs(one[..., k] - other[..., k]) / _SIDE for k in range(4))
    gap = (_SIDE - 1 - one[..., 1] - other[..., 1]) / _SIDE
    ratio = np.log((one[..., 1] - one[..., 0]) / (other[..., 1] - other[..., 0]))
    cost = 0.3 * top + 0.3 * bottom + 0.25 * np.abs(ratio) + np.maximum(0.0, lateral / 2 - 0.05)
    return cost + 4.0 * (np.maximum(0.0, 0.08 - gap) + np.maximum(0.0, gap - 0.3))
