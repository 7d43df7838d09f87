"""The six geometric augmentations of the ETRI study, composed into one sampling grid and applied by one interpolation.

A grid holds, for every pixel of the new film, the row and the column of the old film to read: `(2, h, w)`, in pixels.
Transforms that follow each other are chained on these coordinates, last transform first, so a film is interpolated
once however many transforms it takes. Every transform is written as a displacement that is exactly zero when its
parameters are neutral; a slot holds the parameters of the one transform drawn for it and neutral ones for the others.

Parameters follow Albumentations 1.x, with three differences. The elastic field keeps its law relative to the film:
smoothing noise of one draw a pixel leaves a standard deviation of alpha / (2 sqrt(3 pi) sigma), so with sigma scaled by
s = h / 256, alpha is scaled by s**2. The optical distortion keeps its center (Albumentations adds half a pixel). The
grid distortion cuts the film into cells of exactly w / steps (Albumentations rounds down and squeezes the remainder).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cxrjax.errors import UserError
from cxrjax.types import Array, Key

KINDS = ("elastic", "grid", "optical", "rotate", "scale", "flip")
ELASTIC, GRID, OPTICAL, ROTATE, SCALE, FLIP = range(len(KINDS))
_REFERENCE = 256  # the height for which the elastic amounts are given
_TRUNCATE = 4.0  # standard deviations kept of the Gaussian, as in scipy.ndimage


class Amounts(NamedTuple):
    """How strong each transform is; the non-rigid three are those of the Albumentations tutorial.

    Attributes:
      alpha: elastic amplitude, pixels of a 256-pixel film (scaled by (h / 256)**2, see the module).
      sigma: standard deviation of the elastic smoothing, pixels of a 256-pixel film.
      alpha_affine: largest move of the three points that fix the elastic's affine part, pixels of a 256-pixel film.
      grid_steps: cells an axis of the grid distortion.
      grid_limit: relative change of a cell's width, drawn from +-limit.
      optical_limit: radial coefficient k, drawn from +-limit. At 2 the corners of a film fold over its center.
      optical_shift: move of the optical center, drawn from +-shift and rounded to whole pixels, so 0.5 never moves it.
      degrees: rotation, drawn from +-degrees.
      zoom: magnification, drawn from 1 +- zoom.
      flip_rate: probability that a film which drew the flip is mirrored.
    """

    alpha: float = 120.0
    sigma: float = 6.0
    alpha_affine: float = 3.6
    grid_steps: int = 5
    grid_limit: float = 0.3
    optical_limit: float = 2.0
    optical_shift: float = 0.5
    degrees: float = 10.0
    zoom: float = 0.1
    flip_rate: float = 0.5


TUTORIAL = Amounts()


class _Slot(NamedTuple):
    """One film's parameters for one transform, neutral for all others.

    Attributes:
      elastic: (), 1 where the slot reads the elastic field, else 0.
      linear: (2, 2), the affine map less the identity, about the film's center.
      offset: (2,), pixels.
      steps: (2, grid_steps), relative change of each cell's width.
      k: (), radial coefficient.
      shift: (2,), pixels.
    """

    elastic: Array
    linear: Array
    offset: Array
    steps: Array
    k: Array
    shift: Array


def identity(shape: tuple[int, int]) -> Array:
    """The grid that returns the film: `(2, h, w)` float32, rows then columns, in pixels.

    Raises:
      UserError: a side is shorter than two pixels.
    """
    h, w = shape
    if min(h, w) < 2:
        raise UserError(f"warp: a film of {h} x {w} pixels; expected at least 2 x 2, give larger films")
    return jnp.stack(jnp.meshgrid(jnp.arange(h, dtype=jnp.float32), jnp.arange(w, dtype=jnp.float32), indexing="ij"))


def sample(images: Array, grids: Array) -> Array:
    """Films read along grids: bilinear, with the border mirrored about its pixels (OpenCV's BORDER_REFLECT_101).

    Args:
      images: (b, h, w, c), any range; masks too.
      grids: (b, 2, h', w'), pixels of `images`.

    Returns:
      (b, h', w', c), within the range of `images` up to rounding.
    """
    return jax.vmap(_bilinear)(images, grids)


def affine(images: Array, linear: Array, offset: Array) -> Array:
    """Films read along affine maps about their centers.

    Args:
      images: (b, h, w, c), any range.
      linear: (b, 2, 2), from a new pixel's (row, column) to the old one's.
      offset: (b, 2), pixels.

    Returns:
      (b, h, w, c), as `sample`.
    """
    points = identity((images.shape[1], images.shape[2]))
    return sample(images, jax.vmap(lambda a, move: _affine(points, a - jnp.eye(2), move))(linear, offset))


def choose(key: Key, b: int, n: int = 4) -> Array:
    """The transforms of each film, in the order of application: (b, n) int32 positions in `KINDS`, without repetition.

    Raises:
      UserError: n is not between 0 and 6.
    """
    if not 0 <= n <= len(KINDS):
        raise UserError(f"warp: n = {n} transforms a film; expected 0 to {len(KINDS)} ({', '.join(KINDS)})")
    draw = jax.vmap(lambda k: jnp.argsort(jax.random.uniform(k, (len(KINDS),)))[:n])
    return draw(_keys(key, b)).astype(jnp.int32)


def compose(key: Key, order: Array, shape: tuple[int, int], amounts: Amounts = TUTORIAL) -> Array:
    """Grids of the given transforms with random parameters.

    Args:
      key: decides the parameters; film i depends on `key` and i alone, not on the batch's size.
      order: (b, n) positions in `KINDS`, first applied first, none twice in a row of the array.
      shape: (h, w) of the films.
      amounts: see `Amounts`.

    Returns:
      (b, 2, h, w) float32, pixels.
    """
    return jax.vmap(lambda k, o: _film_grid(k, o, shape, amounts))(_keys(key, order.shape[0]), order)


def some_of_grids(key: Key, b: int, shape: tuple[int, int], n: int = 4, amounts: Amounts = TUTORIAL) -> Array:
    """The grids that `some_of` uses, to warp masks alike: (b, 2, h, w) float32, pixels."""
    order_key, draw_key = jax.random.split(key)
    return compose(draw_key, choose(order_key, b, n), shape, amounts)


def some_of(key: Key, images: Array, n: int = 4, *, amounts: Amounts = TUTORIAL) -> Array:
    """Films after n of the six transforms, drawn without replacement and applied in random order, film by film.

    Args:
      key: decides everything.
      images: (b, h, w, c) float32 in [0, 1].
      n: transforms a film, 0 to 6.
      amounts: see `Amounts`.

    Returns:
      (b, h, w, c) float32 in [0, 1].

    Source: ETRI deck (AnoDDPM + CAM), "randomly select 4"; parameters from the Albumentations tutorial.
    """
    b, h, w, _ = images.shape
    return jnp.clip(sample(images, some_of_grids(key, b, (h, w), n, amounts)), 0.0, 1.0)


def elastic_field(key: Key, shape: tuple[int, int], alpha: float, sigma: float) -> Array:
    """Random displacements: uniform noise on +-1, smoothed by a Gaussian, times alpha: (2, h, w), pixels.

    Away from the border the variance is alpha**2 / 3 (sum k**2)**2, k being the one-dimensional Gaussian kernel.

    Args:
      key: decides the noise.
      shape: (h, w).
      alpha: amplitude, pixels.
      sigma: standard deviation of the smoothing, pixels.

    Raises:
      UserError: the kernel is wider than the film.

    Source: Simard et al. 2003, section 2.
    """
    rows, columns = (_smoothing(length, sigma) for length in shape)
    noise = jax.random.uniform(key, (2, *shape), minval=-1.0)
    return alpha * jnp.einsum("ih,chw,jw->cij", rows, noise, columns)  # two banded matrices: a separable convolution


def _smoothing(length: int, sigma: float) -> Array:
    """`scipy.ndimage.gaussian_filter1d(mode="reflect")` as a (length, length) matrix."""
    radius = int(_TRUNCATE * sigma + 0.5)
    if sigma <= 0 or radius > length:
        raise UserError(f"warp: elastic sigma = {sigma} pixels; expected more than 0 and under {length / _TRUNCATE}")

    def kernel(lag: Array) -> Array:
        return jnp.where(jnp.abs(lag) <= radius, jnp.exp(-0.5 * (lag / sigma) ** 2), 0.0)

    i = jnp.arange(length)
    lag, mirror = i[:, None] - i[None, :], i[:, None] + i[None, :] + 1
    weights = kernel(lag) + kernel(mirror) + kernel(mirror - 2 * length)  # the film and its two mirror images
    return weights / kernel(jnp.arange(-radius, radius + 1)).sum()


def _keys(key: Key, b: int) -> Key:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(b))


def _fold(points: Array, shape: tuple[int, int]) -> Array:
    """Points outside the film, mirrored back into it about the centers of its border pixels."""
    last = jnp.asarray(shape, jnp.float32)[:, None, None] - 1.0
    turns = points - 2.0 * last * jnp.floor(points / (2.0 * last))  # in [0, 2 last]
    return last - jnp.abs(turns - last)


def _bilinear(film: Array, points: Array) -> Array:
    """film (h, w, c) read at points (2, h', w'): (h', w', c)."""
    h, w, c = film.shape
    y, x = _fold(points, (h, w))
    top, left = jnp.clip(jnp.floor(y), 0, h - 2), jnp.clip(jnp.floor(x), 0, w - 2)
    fy, fx = (y - top)[..., None], (x - left)[..., None]
    at = top.astype(jnp.int32) * w + left.astype(jnp.int32)
    flat = film.reshape(h * w, c)
    corner = [flat.at[at + step].get(mode="promise_in_bounds") for step in (0, 1, w, w + 1)]
    upper = corner[0] * (1.0 - fx) + corner[1] * fx
    lower = corner[2] * (1.0 - fx) + corner[3] * fx
    return upper * (1.0 - fy) + lower * fy


def _centered(points: Array) -> Array:
    h, w = points.shape[1:]
    return points - jnp.asarray([(h - 1) / 2, (w - 1) / 2], jnp.float32)[:, None, None]


def _affine(points: Array, linear: Array, offset: Array) -> Array:
    """points + linear (points - center) + offset, for points (2, h, w)."""
    y, x = _centered(points)
    move = jnp.stack([linear[0, 0] * y + linear[0, 1] * x, linear[1, 0] * y + linear[1, 1] * x])
    return points + move + offset[:, None, None]


def _turn(angle: Array) -> Array:
    """The rotation less the identity, on (row, column)."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos - 1.0, sin]), jnp.stack([-sin, cos - 1.0])])


def _stretch(points: Array, steps: Array, shape: tuple[int, int]) -> Array:
    """Cells of equal width made wider or narrower, so that what follows a cell moves with it (grid distortion)."""
    cell = jnp.asarray(shape, jnp.float32)[:, None, None] / steps.shape[1]
    moves = [steps[:, i, None, None] * jnp.clip(points - i * cell, 0.0, cell) for i in range(steps.shape[1])]
    return points + sum(moves[1:], moves[0])


def _optical(points: Array, k: Array, shift: Array, shape: tuple[int, int]) -> Array:
    """Radial distortion 1 + k r**2 + k r**4 with r in film sides, as `cv2.initUndistortRectifyMap` for k1 = k2 = k."""
    centered = _centered(points)
    r2 = jnp.sum((centered / jnp.asarray(shape, jnp.float32)[:, None, None]) ** 2, axis=0, keepdims=True)
    return points + centered * (k * (r2 + r2**2)) + shift[:, None, None]


def _draw(key: Key, kinds: Array, shape: tuple[int, int], amounts: Amounts) -> _Slot:
    """Draws every transform's parameters once and hands each slot those of its kind; leaves have leading size n."""
    cells = 2 * amounts.grid_steps
    unit = jax.random.uniform(key, (cells + 12,), minval=-1.0)  # one draw: a key split costs as much as the maths
    steps = unit[:cells].reshape(2, amounts.grid_steps) * amounts.grid_limit
    triangle, unit = unit[cells : cells + 6].reshape(3, 2), unit[cells + 6 :]
    k, shift = unit[0] * amounts.optical_limit, jnp.round(unit[1:3] * amounts.optical_shift)
    turn = _turn(unit[3] * math.radians(amounts.degrees))
    factor = 1.0 + unit[4] * amounts.zoom
    mirrored = (0.5 * (unit[5] + 1.0) < amounts.flip_rate).astype(jnp.float32)
    linear, offset = _elastic_affine(triangle * amounts.alpha_affine * shape[0] / _REFERENCE, shape)
    affine = jnp.zeros((len(KINDS), 2, 2)).at[ELASTIC].set(linear).at[ROTATE].set(turn)
    affine = affine.at[SCALE].set((1.0 / factor - 1.0) * jnp.eye(2)).at[FLIP, 1, 1].set(-2.0 * mirrored)
    on = jax.nn.one_hot(kinds, len(KINDS))  # (n, 6)
    return _Slot(
        elastic=on[:, ELASTIC],
        linear=affine[kinds],
        offset=on[:, ELASTIC, None] * offset[None],
        steps=on[:, GRID, None, None] * steps[None],
        k=on[:, OPTICAL] * k,
        shift=on[:, OPTICAL, None] * shift[None],
    )


def _elastic_affine(moves: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
    """The affine part of the elastic transform, from the moves (3, 2) of a central triangle's corners, in pixels.

    Returns the linear part less the identity and the offset, both of the *sampling* map (the inverse of the move).
    """
    square = min(shape) // 3
    a, b, c = moves  # at +(1, 1), +(1, -1) and -(1, 1) squares from the center
    extra = jnp.stack([b - c, a - b], axis=1) / (2.0 * square)
    move = c + square * jnp.sum(extra, axis=1)  # of the center
    (p, q), (r, s) = extra + jnp.eye(2)
    inverse = jnp.stack([jnp.stack([s, -q]), jnp.stack([-r, p])]) / (p * s - q * r)
    return inverse - jnp.eye(2), -jnp.sum(inverse * move[None], axis=1)


def _film_grid(key: Key, order: Array, shape: tuple[int, int], amounts: Amounts) -> Array:
    """One film's grid (2, h, w). A scan over the slots: unrolled, the chain compiles several times slower."""
    draw_key, field_key = jax.random.split(key)
    scale = shape[0] / _REFERENCE
    field = elastic_field(field_key, shape, amounts.alpha * scale**2, amounts.sigma * scale)
    table = jnp.moveaxis(field, 0, -1)  # (h, w, 2)

    def step(points: Array, slot: _Slot) -> tuple[Array, None]:
        points = _fold(points, shape)
        points = points + slot.elastic * jnp.moveaxis(_bilinear(table, points), -1, 0)
        # the elastic transform is affine first, displaced second; on coordinates, the other way around
        points = _affine(_fold(points, shape), slot.linear, slot.offset)
        return _optical(_stretch(points, slot.steps, shape), slot.k, slot.shift, shape), None

    kinds = order[::-1]  # coordinates are chained from the last transform to the first
    return jax.lax.scan(step, identity(shape), _draw(draw_key, kinds, shape, amounts))[0]
