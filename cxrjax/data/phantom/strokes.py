"""Random textures and branching lines whose shape does not depend on the film's size."""

from __future__ import annotations

import cv2
import numpy as np

from cxrjax.data.phantom.anatomy import Frame

Field = np.ndarray
CANVAS = 512


def texture(rng: np.random.Generator, n: int, cells: int, octaves: int = 3) -> Field:
    """Smooth noise with zero mean and about unit variance; (n, n) float32.

    Args:
      rng: the source of the coarse grids.
      n: the picture's size.
      cells: how many cells the coarsest octave has across the film.
      octaves: how many octaves, each twice as fine and 0.6 as strong.
    """
    out = np.zeros((n, n), np.float32)
    for k in range(octaves):
        grid = rng.standard_normal((cells << k, cells << k)).astype(np.float32)
        # Cubic upsampling of unit noise has a standard deviation of about 0.7.
        out += (0.6**k / 0.7) * cv2.resize(grid, (n, n), interpolation=cv2.INTER_CUBIC)
    return out / np.float32(np.sqrt(sum(0.36**k for k in range(octaves))))


def canvas_size(n: int) -> int:
    """Lines are drawn at twice the size and shrunk, so that small films show the same lines; larger films grow it."""
    return max(n, min(CANVAS, 2 * n))


def blank(n: int) -> Field:
    """An empty canvas for a film of n pixels; (c, c) uint8."""
    c = canvas_size(n)
    return np.zeros((c, c), np.uint8)


def stroke(canvas: Field, frame: Frame, lines: list[Field] | Field, width: float, value: float) -> None:
    """Draws polylines given in body coordinates, (m, k, 2), with a width in film heights and a value in [0, 1]."""
    c = len(canvas)
    points = list(np.round(frame.film(np.asarray(lines)) * c * 16).astype(np.int32))
    pixels = max(1, round(width * c))
    # Where the canvas is too coarse for the width, a fainter line carries the same weight.
    cv2.polylines(canvas, points, False, round(255 * value * min(1.0, width * c / pixels)), pixels, cv2.LINE_AA, 4)


def fill(canvas: Field, frame: Frame, line: Field, value: float) -> None:
    """Fills a polygon (k, 2) given in body coordinates."""
    points = np.round(frame.film(line) * len(canvas) * 16).astype(np.int32)
    cv2.fillPoly(canvas, [points], round(255 * value), cv2.LINE_AA, 4)


def finish(canvas: Field, n: int, blur: float) -> Field:
    """Blurs a canvas by `blur` film heights and brings it to (n, n) float32 in [0, 1]."""
    c = len(canvas)
    if blur * c > 0.3:
        canvas = cv2.GaussianBlur(canvas, (0, 0), blur * c)
    small = canvas if n == c else cv2.resize(canvas, (n, n), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / np.float32(255)


def grow(rng: np.random.Generator, start: Field, angle: Field, length: Field, steps: int, wander: float) -> Field:
    """Grows m smoothly wandering lines.

    Args:
      rng: the source of the bends.
      start: (m, 2) where they start; body coordinates.
      angle: (m,) first direction in radians.
      length: (m,) in film heights.
      steps: segments of each.
      wander: standard deviation of the bend at each step, radians.

    Returns:
      (m, steps + 1, 2) points.
    """
    bend = np.cumsum(rng.normal(0.0, wander, (len(start), steps)), axis=1) + angle[:, None]
    step = np.stack([np.cos(bend), np.sin(bend)], -1) * (length / steps)[:, None, None]
    return np.concatenate([start[:, None], start[:, None] + np.cumsum(step, axis=1)], axis=1)


def tree(rng: np.random.Generator, root: Field, angles: Field, length: float, generations: int) -> list[Field]:
    """A tree of vessels or bronchi; one (m, steps + 1, 2) array of lines for each generation."""
    start = np.broadcast_to(root, (len(angles), 2)) + rng.normal(0.0, 0.008, (len(angles), 2))
    size = length * rng.uniform(0.6, 1.15, len(angles))
    out, angle = [], np.asarray(angles, float)
    for _ in range(generations):
        lines = grow(rng, start, angle, size, 7, 0.09)
        out.append(lines)
        pick = np.repeat(np.arange(len(lines)), 2)
        node = rng.integers(2, 8, len(pick))
        heading = lines[pick, node] - lines[pick, node - 1]
        turn = rng.uniform(0.25, 0.75, len(pick)) * np.where(np.arange(len(pick)) % 2, 1, -1)
        start, angle = lines[pick, node], np.arctan2(heading[:, 1], heading[:, 0]) + turn
        size = size[pick] * rng.uniform(0.5, 0.8, len(pick))
    return out
