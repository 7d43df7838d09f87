"""OpenSimplex noise in three dimensions, and its fractal sum: the noise of AnoDDPM (Wyatt et al. 2022).

OpenSimplex (Spencer 2014) is a sum over lattice points: where d is the way from a point to here and g the point's
gradient, each adds max(0, 2 - |d|^2)^4 (g . d) / 103. Its stretched cubic lattice is a face-centered one: a half-turn
about (1, 1, 1) takes point (i, j, k) to the integers (j+k, i+k, i+j), which are those with an even sum. The integers
with an odd sum are then the centers of the lattice's octahedra, and around the one nearest to here, w, only eight
points can be within reach: w +- e for the three axes, the corner of the unit cube that w and here have in common, and
the same corner with its nearest coordinate turned over. So one rule replaces the published tree of branches.
The published function also leaves out, inside tetrahedra, two points that reach in by a hair, and so jumps by up to
2e-4 where they change; so does this one. Where pixels, times and wavelengths are round numbers, many places lie exactly
on such a jump, and rounding decides there, in the published code as in this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.errors import UserError

Norm = Literal["none", "unit_std"]
NORMS: tuple[str, ...] = get_args(Norm)

# Of one octave over all permutations and places, measured: 0.31399 +- 0.0001 (3.2e7 values, 320 permutations).
# Were all gradients drawn alike and no point left out, it would be 0.31387.
STD = 0.3140

_SCALE = 103 * 3  # the published normalizer, and the denominator of the turned gradients


def _turned_gradients() -> np.ndarray:
    """(24,) int32: three times each gradient after the half-turn, one signed byte an axis, the first one lowest."""
    signs = [(x, y, z) for z in (1, -1) for y in (1, -1) for x in (-1, 1)]
    table = np.array([np.multiply(s, np.roll((11, 4, 4), axis)) for s in signs for axis in range(3)])
    turned = (2 * table.sum(1, keepdims=True) - 3 * table) & 0xFF
    return (turned << np.array([0, 8, 16])).sum(1).astype(np.int32)


_GRADIENTS = _turned_gradients()


def permutation_from_seed(seed: int) -> np.ndarray:
    """(256,) int64, on the host: the table that PyPI's `opensimplex` makes of a seed (any integer, taken mod 2^64)."""

    def following(state: int) -> int:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return state - 2**64 if state >= 2**63 else state  # int64 that wraps around

    for _ in range(3):
        seed = following(seed)
    source, table = list(range(256)), np.zeros(256, np.int64)
    for i in reversed(range(256)):
        seed = following(seed)
        r = (seed + 31) % (i + 1)
        table[i], source[r] = source[r], source[i]
    return table


def permutation(key: jax.Array) -> jax.Array:
    """(256,) int32: a random permutation, which is all that tells one noise from another."""
    return jax.random.permutation(key, jnp.arange(256, dtype=jnp.int32))


def _one_of_three(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where the first condition holds, where only the second does, and where neither does."""
    return a, ~a & b, ~a & ~b


def _indices(a: jax.Array, b: jax.Array, c: jax.Array) -> list[jax.Array]:
    """Turned coordinates of a lattice point -> its (i, j, k) mod 256, uint8; half-integers are rounded down."""
    return [(v >> 1).astype(jnp.uint8) for v in (b + c - a, a + c - b, a + b - c)]


def _tables(perms: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Permutations (b, 256) -> the same end to end (b*256,) uint8, and the gradients by the same index, int32."""
    flat = perms.reshape(-1)
    return flat.astype(jnp.uint8), jnp.asarray(_GRADIENTS)[flat % 24]


def _noise3(
    tables: tuple[jax.Array, jax.Array], first: jax.Array, x: jax.Array, y: jax.Array, z: jax.Array
) -> jax.Array:
    """Noise at (n,) places, each with the table that starts at `first`, () or (n,) int32."""
    perm, gradients = tables

    def look_up(table: jax.Array, index: jax.Array) -> jax.Array:
        at = first + index.astype(jnp.int32)  # uint8 has wrapped around
        return table.at[at].get(mode="promise_in_bounds", wrap_negative_indices=False)

    # Turned coordinates, 2/3 (x + y + z) - (x, y, z), as integers and the rest, so that far from 0 none is lost.
    whole = [jnp.floor(v) for v in (x, y, z)]
    part = [v - n for v, n in zip((x, y, z), whole, strict=True)]
    total = whole[0] + whole[1] + whole[2]
    thirds = jnp.floor(total / 3)
    rest = (total - 3 * thirds + part[0] + part[1] + part[2]) * (2 / 3)
    r = [rest - v for v in part]
    near = [jnp.round(v) for v in r]
    w = [(2 * thirds - n + v).astype(jnp.int32) for n, v in zip(whole, near, strict=True)]
    r = [v - n for v, n in zip(r, near, strict=True)]

    # The nearest integers with an odd sum: where it is even, one step along the axis that is off by most.
    even = (w[0] + w[1] + w[2]) & 1 == 0
    m = [jnp.abs(v) for v in r]
    for axis, most in enumerate(_one_of_three((m[0] >= m[1]) & (m[0] >= m[2]), m[1] >= m[2])):
        step = jnp.where(even & most, jnp.where(r[axis] < 0, -1, 1), 0)
        w[axis], r[axis] = w[axis] + step, r[axis] - step.astype(x.dtype)

    m = [jnp.abs(v) for v in r]
    square = r[0] * r[0] + r[1] * r[1] + r[2] * r[2]
    length = m[0] + m[1] + m[2]
    least = jnp.minimum(jnp.minimum(m[0], m[1]), m[2])
    is_least = _one_of_three(m[0] == least, m[1] == least)

    def contribution(reach: jax.Array, gradient: jax.Array, d: Sequence[jax.Array]) -> jax.Array:
        g = [((gradient << shift) >> 24).astype(x.dtype) for shift in (24, 16, 8)]
        return jnp.square(jnp.square(reach)) * (g[0] * d[0] + g[1] * d[1] + g[2] * d[2])

    # w +- e along each axis: half a step from w's (half-integer) indices in all three, so look-ups are shared.
    low = _indices(w[0], w[1], w[2])
    i, j, k = ((v, v + jnp.uint8(1)) for v in low)
    by_i = [look_up(perm, v) for v in i]
    by_ij = [[look_up(perm, p + v) for v in j] for p in by_i]
    value = jnp.zeros_like(x)
    for axis in range(3):
        # Inside a tetrahedron (length >= 1) the far point is left out, except on the axis that is off by least.
        floor = jnp.where((length >= 1) & ~is_least[axis], 1 - square, 0)
        for sign in (1, -1):
            up = [int((other == axis) == (sign < 0)) for other in range(3)]
            gradient = look_up(gradients, by_ij[up[0]][up[1]] + k[up[2]])
            reach = 1 - square + 2 * sign * r[axis]
            d = [v - sign if other == axis else v for other, v in enumerate(r)]
            value += contribution(jnp.where(reach > floor, reach, 0), gradient, d)

    # The corner of the unit cube, and the corner turned over in the coordinate that is off by least.
    corner = [jnp.where(v < 0, -1, 1) for v in r]
    turned = [jnp.where(here, -v, v) for here, v in zip(is_least, corner, strict=True)]
    reach = 2 * length - 1 - square
    for o, inside in ((corner, reach), (turned, reach - 4 * least)):
        pi, pj, pk = _indices(*(v + n for v, n in zip(w, o, strict=True)))
        gradient = look_up(gradients, look_up(perm, look_up(perm, pi) + pj) + pk)
        d = [v - n.astype(x.dtype) for v, n in zip(r, o, strict=True)]
        value += contribution(jnp.maximum(inside, 0), gradient, d)
    return value / _SCALE


def _check(octaves: int, persistence: float, wavelength: float) -> None:
    if not isinstance(octaves, int) or octaves < 1:
        raise UserError(f"simplex: octaves is {octaves!r}; expected a whole number from 1")
    for name, value in (("persistence", persistence), ("wavelength", wavelength)):
        if not value > 0:
            raise UserError(f"simplex: {name} is {value!r}; expected above 0")


def octaves_seen(wavelength: float, octaves: int) -> int:
    """How many of the octaves are of at least 2 pixels, the shortest wave that pixels show (Nyquist)."""
    return min(octaves, max(math.floor(math.log2(wavelength)), 0))


def fractal(
    perm: jax.Array,
    shape: tuple[int, int],
    t: jax.Array | float,
    *,
    octaves: int = 6,
    persistence: float = 0.8,
    wavelength: float = 64.0,
) -> jax.Array:
    """Sum over octaves o of persistence^o noise3(x / f, y / f, t / f) with f = wavelength / 2^o.

    As in the reference's `rand_3d_fixed_T_octaves`: x counts columns and y rows from 0, and one permutation serves all
    octaves. All octaves therefore share their origin: at row 0, column 0 the sum is exactly 0 wherever t is a
    multiple of the wavelength, and near it the spread is smaller or larger than elsewhere.

    Args:
      perm: (256,) integers, a permutation.
      shape: (h, w), pixels.
      t: () int or float, the diffusion time, in pixels' units; traced, and a constant to derivatives.
      octaves: how many, at least 1.
      persistence: amplitude of each octave relative to the one before.
      wavelength: of the first octave, pixels.

    Returns:
      (h, w) of jax's default float dtype. Under `vmap` about 45 bytes a pixel are held, however many octaves.

    Raises:
      UserError: an option out of its range.
    """
    _check(octaves, persistence, wavelength)
    h, w = shape
    dtype = jnp.result_type(float)
    order = np.arange(octaves)
    scales = (2.0**order / wavelength).astype(dtype), (float(persistence) ** order).astype(dtype)

    @jax.custom_batching.custom_vmap
    def fields(perms: jax.Array, t: jax.Array) -> jax.Array:
        """(b, 256), (b,) -> (b, h, w)"""

        def flat(v: jax.Array, *shape: int) -> jax.Array:
            return jnp.broadcast_to(v.reshape(shape), (len(t), h, w)).reshape(-1)

        # One flat index over all pixels of all fields, and operands that the loop holds in memory: on a CPU, look-ups
        # that read a row or a column by broadcasting take four times as long.
        columns, rows = jnp.arange(w, dtype=dtype), jnp.arange(h, dtype=dtype)
        x, y, z = flat(columns, 1, 1, w), flat(rows, 1, h, 1), flat(t, -1, 1, 1)
        first = flat(256 * jnp.arange(len(t), dtype=jnp.int32), -1, 1, 1)
        tables = _tables(perms)

        def add(total: jax.Array, scale: tuple[Any, Any]) -> tuple[jax.Array, None]:
            frequency, amplitude = scale
            return total + amplitude * _noise3(tables, first, x * frequency, y * frequency, z * frequency), None

        total, _ = jax.lax.scan(add, jnp.zeros_like(x), scales)
        return total.reshape(-1, h, w)

    @fields.def_vmap
    def _(size: int, batched: list[bool], perms: jax.Array, t: jax.Array) -> tuple[jax.Array, bool]:
        perms, t = (
            v if along else jnp.broadcast_to(v, (size, *v.shape)) for along, v in zip(batched, (perms, t), strict=True)
        )
        return fields(perms.reshape(-1, 256), t.reshape(-1)).reshape(size, -1, h, w), True

    t = jax.lax.stop_gradient(jnp.asarray(t, dtype))
    return fields(jnp.asarray(perm)[None], t[None])[0]


def noise(
    key: jax.Array,
    t: jax.Array | float,
    shape: tuple[int, ...],
    *,
    octaves: int = 6,
    persistence: float = 0.8,
    wavelength: float = 64.0,
    norm: Norm = "none",
) -> jax.Array:
    """Simplex noise of one film at one diffusion time: an independent `fractal` for every channel.

    Unlike the reference, which draws one field for a whole batch. Map it over keys and times for a batch.

    Args:
      key: a PRNG key. One key at neighboring times gives fields that resemble each other.
      t: () int or float; traced.
      shape: (h, w, c).
      octaves, persistence, wavelength: see `fractal`.
      norm: `none` keeps the reference's scale, whose standard deviation is 0.314 for one octave and 0.505 for the
        default six; `unit_std` divides by STD sqrt(sum_o persistence^(2 o)), as of uncorrelated octaves, which was
        found within 1 percent of the measured deviation of the sum.

    Returns:
      (h, w, c) float32 of mean 0.

    Raises:
      UserError: an unknown norm, or an option out of its range.
    """
    if norm not in NORMS:
        raise UserError(f"simplex: norm is {norm!r}; expected {' or '.join(NORMS)}")
    h, w, c = shape

    def channel(i: jax.Array) -> jax.Array:
        perm = permutation(jax.random.fold_in(key, i))
        return fractal(perm, (h, w), t, octaves=octaves, persistence=persistence, wavelength=wavelength)

    fields = jnp.moveaxis(jax.vmap(channel)(jnp.arange(c)), 0, -1)  # (h, w, c)
    std = STD * math.sqrt(sum(persistence ** (2 * o) for o in range(octaves)))
    return (fields / std if norm == "unit_std" else fields).astype(jnp.float32)
