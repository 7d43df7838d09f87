"""The transmission map: a film's map made smooth except where the film has structure (Meng et al. 2013).

Minimizes (lam / 2) ||A - A_0||^2 + (1 / J) sum_j || W_j (D_j * A) ||_1 over A, for J small difference filters D_j that
wrap around the border and weights W_j = exp(-weight |D_j * guide|^2). Half-quadratic splitting gives the differences a
life of their own, tied by (beta / 2) sum_j ||u_j - D_j * A||^2: u_j is then a soft threshold and A one division in the
spectrum, and beta grows from round to round. The factor 1 / J is that of the authors' code, not of their equation.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.errors import UserError, lookup
from cxrjax.types import Array

_RING = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))  # a pixel's neighbors, clockwise
_TAPS = (*_RING, (1, 1))
_SCALE = 255.0  # the boundary constraint's bounds are in gray levels


class Options(NamedTuple):
    """The regularizer's constants, those of the authors' code unless said otherwise.

    Attributes:
      filters: `kirsch8`, the eight compass operators, each of norm 1; `meng_literal`, the authors' list, in which the
        north operator stands twice and the south one is missing; `port9`, eight and a Laplacian (the Python port
        image_dehazer, with lam 0.1 and beta_max 16, and weight 3 where its three channels are one gray film).
      lam: weight of the data term.
      weight: of the squared difference in the exponent of W.
      beta: first weight of the splitting's penalty.
      beta_rate: its growth from round to round, above 1.
      beta_max: rounds go on while beta is below it.
      iterations: steps at each beta.
      initial: what the map starts from and stays near: `guide`, the film's own map (Qi et al. 2021), or `boundcon`, the
        boundary constraint that a range of radiances sets.
      c0: lower bound of radiance, gray levels (`boundcon`).
      c1: upper bound of radiance, gray levels (`boundcon`).
      window: side of the closing's square, pixels (`boundcon`).
    """

    filters: str = "kirsch8"
    lam: float = 2.0
    weight: float = 1.0
    beta: float = 1.0
    beta_rate: float = 2 * math.sqrt(2)
    beta_max: float = 256.0
    iterations: int = 1
    initial: str = "guide"
    c0: float = 30.0
    c1: float = 300.0
    window: int = 3


DEFAULT = Options()


def bank(name: str) -> np.ndarray:
    """The difference filters (j, 3, 3), float64, each of Frobenius norm 1 and sum 0; names as in `Options.filters`.

    Raises:
      UserError: no such bank.
    """
    compass = []
    for start in range(8):  # the three 5s walk around the ring
        operator = np.full((3, 3), -3.0)
        operator[1, 1] = 0.0
        for step in range(3):
            operator[_RING[(start + step) % 8]] = 5.0
        compass.append(operator)
    laplacian = np.full((3, 3), -1.0)
    laplacian[1, 1] = 8.0
    banks = {
        "kirsch8": compass,
        "meng_literal": [compass[0] if j == 4 else operator for j, operator in enumerate(compass)],
        "port9": [*compass, laplacian],
    }
    chosen = np.stack(lookup(banks, name, "transmission: filters"))
    return chosen / np.linalg.norm(chosen, axis=(1, 2), keepdims=True)


def differences(x: Array, options: Options = DEFAULT) -> Array:
    """D_j * x, the differences of maps (b, h, w) around the border: (j, b, h, w)."""
    return _differences(_wrap(x, 1), _coefficients(options.filters, x.dtype))


def boundary_constraint(guide: Array, airlight: float, options: Options = DEFAULT) -> Array:
    """The least transmission that keeps radiance between `c0` and `c1`, closed by a square (Meng et al. 2013, eq. 8).

    Args:
      guide: (b, h, w) in [0, 1].
      airlight: in (c0 / 255, c1 / 255).
      options: see `Options`.

    Returns:
      (b, h, w) in [0, 1].

    Raises:
      UserError: `airlight` is not between the bounds.
    """
    air = airlight * _SCALE
    if not options.c0 < air < options.c1:
        raise UserError(
            f"transmission: airlight {airlight} is {air:.0f} gray levels; expected between c0 = {options.c0} "
            f"and c1 = {options.c1}"
        )
    gray = guide * _SCALE
    least = jnp.minimum(jnp.maximum((air - gray) / (air - options.c0), (gray - air) / (options.c1 - air)), 1.0)
    window = (1, options.window, options.window)
    opened = jax.lax.reduce_window(least, -jnp.inf, jax.lax.max, window, (1, 1, 1), "SAME")
    return jax.lax.reduce_window(opened, jnp.inf, jax.lax.min, window, (1, 1, 1), "SAME")


@partial(jax.jit, static_argnames="options")
def regularize(initial: Array, guide: Array, options: Options = DEFAULT) -> Array:
    """The map near `initial` that is smooth where `guide` is (the module's objective, by half-quadratic splitting).

    Args:
      initial: (b, h, w) float32 or float64, usually in [0, 1].
      guide: (b, h, w), whose differences set the weights.
      options: see `Options`.

    Returns:
      (b, h, w), non-negative.

    Raises:
      UserError: an option out of its range.

    Source: Meng et al. 2013, eqs. 12 to 20.
    """
    betas = _schedule(options)
    h, w = initial.shape[1:]
    taps = _coefficients(options.filters, initial.dtype)
    power = jnp.asarray(_power((h, w), options.filters), initial.dtype)[None]  # (1, h, w')
    data = jnp.fft.rfft2(initial)
    # Everything before the adjoint lives on one pixel more a side, so that wrapping is done once a round.
    weights = jnp.exp(-options.weight * _differences(_wrap(guide, 2), taps) ** 2) / taps.shape[0]

    def step(current: Array, beta: Array) -> tuple[Array, None]:
        d = _differences(_wrap(current, 2), taps)  # (j, b, h+2, w+2)
        threshold = weights / beta
        u = d - jnp.clip(d, -threshold, threshold)
        target = jnp.fft.rfft2(_adjoint(u, taps))
        ratio = options.lam / beta
        return jnp.abs(jnp.fft.irfft2((ratio * data + target) / (ratio + power), s=(h, w))), None

    return jax.lax.scan(step, initial, jnp.asarray(betas, initial.dtype))[0]


def objective(
    current: Array, initial: Array, guide: Array, options: Options = DEFAULT, beta: float | None = None
) -> Array:
    """What `regularize` makes small, by film: (b,). Arguments as there.

    With `beta`, the splitting's objective after its differences are chosen best, which replaces |d| by a Huber function
    and is at most the true one; a step at that beta never raises it.
    """
    d = jnp.abs(differences(current, options))  # (j, b, h, w)
    weights = jnp.exp(-options.weight * differences(guide, options) ** 2) / d.shape[0]
    terms = weights * d
    if beta is not None:
        threshold = weights / beta
        terms = jnp.where(d <= threshold, 0.5 * beta * d**2, weights * (d - 0.5 * threshold))
    return 0.5 * options.lam * ((current - initial) ** 2).sum(axis=(1, 2)) + terms.sum(axis=(0, 2, 3))


def _wrap(x: Array, n: int) -> Array:
    return jnp.pad(x, ((0, 0), (n, n), (n, n)), mode="wrap")


def _differences(wrapped: Array, taps: Array) -> Array:
    """Correlations of maps (b, h + 2, w + 2) with each filter: (j, b, h, w)."""
    h, w = wrapped.shape[1] - 2, wrapped.shape[2] - 2
    around = jnp.stack([wrapped[:, y : y + h, x : x + w] for y, x in _TAPS[: taps.shape[1]]])
    return jnp.einsum("jk,kbhw->jbhw", taps, around, precision="highest")


def _adjoint(u: Array, taps: Array) -> Array:
    """The transpose of `_differences`, summed over filters; u (j, b, h + 2, w + 2) is read around: (b, h, w)."""
    h, w = u.shape[2] - 2, u.shape[3] - 2
    back = jnp.einsum("jk,jbhw->kbhw", taps, u, precision="highest")
    parts = [back[k, :, 2 - y : 2 - y + h, 2 - x : 2 - x + w] for k, (y, x) in enumerate(_TAPS[: taps.shape[1]])]
    return sum(parts[1:], parts[0])


def _coefficients(name: str, dtype: np.dtype) -> Array:
    """The bank's values at each neighbor, (j, 8), or (j, 9) where the middle counts."""
    chosen = bank(name)
    taps = np.stack([chosen[:, y, x] for y, x in _TAPS], axis=1)
    return jnp.asarray(taps if taps[:, -1].any() else taps[:, :-1], dtype)


@lru_cache(maxsize=16)
def _power(shape: tuple[int, int], name: str) -> np.ndarray:
    """sum_j |F D_j|^2 on the half spectrum of `rfft2`."""
    h, w = shape
    chosen = bank(name)
    kernels = np.zeros((len(chosen), h, w))
    for y, x in _TAPS:
        kernels[:, (y - 1) % h, (x - 1) % w] += chosen[:, y, x]
    return (np.abs(np.fft.rfft2(kernels)) ** 2).sum(axis=0)


def _schedule(options: Options) -> list[float]:
    if options.initial not in ("guide", "boundcon"):
        raise UserError(f"transmission: initial is {options.initial!r}; expected guide or boundcon")
    for name, least in (("lam", 0.0), ("beta", 0.0), ("beta_rate", 1.0), ("iterations", 0)):
        if not getattr(options, name) > least:
            raise UserError(f"transmission: {name} is {getattr(options, name)}; expected above {least}")
    betas, beta = [], options.beta
    while beta < options.beta_max:
        betas += [beta] * options.iterations
        beta *= options.beta_rate
    if not betas:
        raise UserError(f"transmission: beta is {options.beta}; expected below beta_max = {options.beta_max}")
    return betas
