"""The monogenic signal of films: band-passed even parts and their two odd (Riesz) partners, over scales.

Band-pass filters are isotropic, real and zero at the constant; the Riesz pair is i (U, V) / R for frequencies (U, V) in
cycles a pixel and R their length. All filters are constants computed on the host in float64, once a film size and
setting, and cast to the films' type; real transforms do half the work of complex ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.errors import UserError, did_you_mean
from cxrjax.types import Array

FAMILIES = ("assd", "log_gabor")
BOUNDARIES = ("periodic", "plain", "reflect")
GRIDS = ("exact", "kovesi")


class Options(NamedTuple):
    """The filter bank; wavelengths are pixels of the film as given, so features change with its resolution.

    The defaults are ours where no paper gives them: the alpha-scale-space derivative of order 3 with alpha 1/2 (1.99
    octaves wide) is the twin of Kovesi's log-Gabor filter with kappa 0.55, and the wavelengths are Kovesi's.

    Attributes:
      family: `assd`, R**a exp(-(sigma R)**(2 alpha)) (Belaid and Boukerroui 2014), or `log_gabor` (Kovesi 1999).
      alpha: ASSD, in (0, 1]; 1/2 is the Poisson and 1 the Gaussian family.
      a: ASSD, order of the derivative, above 0.
      kappa: log-Gabor, bandwidth in (0, 1): 0.55 is 2.03 octaves, 0.65 1.46, 0.75 0.98.
      scales: number of filters.
      min_wavelength: of the first filter's peak, pixels, at least 2.
      multiplier: of the wavelength from one filter to the next, above 1.
      boundary: `periodic` filters the film's periodic component (Moisan 2011), which has no jump across the border;
        `plain` wraps the film; `reflect` mirrors it, at four times the cost.
      guard_cutoff: Butterworth low-pass that keeps the corners of the spectrum out, cycles a pixel; 0 is no guard.
      guard_order: its order n, 1 / (1 + (R / cutoff)**(2 n)).
      grid: `exact` frequencies k / n, with no odd response at Nyquist (it has none); or `kovesi`, those of Kovesi's
        code: k / (n - 1) on an axis of odd length, and Nyquist's odd parts mixed on one of even length.
    """

    family: str = "assd"
    alpha: float = 0.5
    a: float = 3.0
    kappa: float = 0.55
    scales: int = 5
    min_wavelength: float = 3.0
    multiplier: float = 2.1
    boundary: str = "periodic"
    guard_cutoff: float = 0.45
    guard_order: float = 15.0
    grid: str = "exact"


DEFAULT = Options()
# The settings under which Kovesi's phasecongmono computes what the features here are made of.
PHASECONGMONO = Options(family="log_gabor", grid="kovesi")


class Signal(NamedTuple):
    """The monogenic signal, or its sum over scales; fields (s, b, h, w) or (b, h, w).

    Attributes:
      even: band-passed films (M1).
      odd1: Riesz partner along the columns' direction (M2).
      odd2: Riesz partner along the rows' direction (M3).
    """

    even: Array
    odd1: Array
    odd2: Array


class Folded(NamedTuple):
    """Sums over scales, each (b, h, w).

    Attributes:
      total: of the signal.
      symmetry: of |M1| - sqrt(M2^2 + M3^2), the phase-symmetry energy (Kovesi 1997); any sign.
      odd_power: of M2^2 + M3^2.
    """

    total: Signal
    symmetry: Array
    odd_power: Array


class Filters(NamedTuple):
    """Transfer functions on the half spectrum of `rfft2`, float64 and complex128.

    Attributes:
      band: (s, h, w // 2 + 1), peak 1 before the guard.
      riesz1: (h, w // 2 + 1).
      riesz2: (h, w // 2 + 1).
    """

    band: np.ndarray
    riesz1: np.ndarray
    riesz2: np.ndarray


def filters(shape: tuple[int, int], options: Options = DEFAULT) -> Filters:
    """The filter bank for films of `shape` (h, w); see `Options` for the families and their sources.

    Raises:
      UserError: an option out of its range, or a side shorter than four pixels.
    """
    _check(shape, options)
    return _filters(shape, options)


def band(radius: np.ndarray, wavelength: float, options: Options = DEFAULT) -> np.ndarray:
    """A band-pass filter, without guard, at frequencies `radius` > 0 in cycles a pixel: 1 at 1 / `wavelength`."""
    ratio = radius * wavelength
    if options.family == "log_gabor":
        return np.exp(-(np.log(ratio) ** 2) / (2 * math.log(options.kappa) ** 2))
    # The peak of R**a exp(-(sigma R)**(2 alpha)) fixes sigma; in this form it does not overflow for large a.
    power = 2 * options.alpha
    return np.exp(options.a * (np.log(ratio) + (1 - ratio**power) / power))


@partial(jax.jit, static_argnames="options")
def monogenic(image: Array, options: Options = DEFAULT) -> Signal:
    """The monogenic signal at every scale (Felsberg and Sommer 2001).

    Args:
      image: (b, h, w) float32 or float64, any range; a constant added changes nothing.
      options: see `Options`.

    Returns:
      fields (s, b, h, w), of the films' type.

    Raises:
      UserError: `image` is not such an array, or an option is out of its range.
    """
    split, bank, restore = _prepare(image, options)
    bands = jnp.asarray(bank.band, image.dtype)[:, None]  # (s, 1, h, w')
    return Signal(*(restore(part[None] * bands) for part in split))


@partial(jax.jit, static_argnames="options")
def summed(image: Array, options: Options = DEFAULT) -> Signal:
    """The signal summed over scales, by three inverse transforms in all; arguments as `monogenic`, fields (b, h, w)."""
    split, bank, restore = _prepare(image, options)
    total = jnp.asarray(bank.band.sum(axis=0), image.dtype)[None]  # (1, h, w')
    return Signal(*(restore(part * total) for part in split))


@partial(jax.jit, static_argnames="options")
def folded(image: Array, options: Options = DEFAULT) -> Folded:
    """What the features need of all scales, one scale in memory at a time; arguments as `monogenic`."""
    split, bank, restore = _prepare(image, options)
    parts = jnp.stack(split)  # (3, b, h, w')

    def scale(carry: Folded, band_: Array) -> tuple[Folded, None]:
        even, odd1, odd2 = restore(parts * band_[None, None])
        power = odd1**2 + odd2**2
        return Folded(
            Signal(carry.total.even + even, carry.total.odd1 + odd1, carry.total.odd2 + odd2),
            carry.symmetry + jnp.abs(even) - jnp.sqrt(power),
            carry.odd_power + power,
        ), None

    zero = jnp.zeros_like(image)
    start = Folded(Signal(zero, zero, zero), zero, zero)
    return jax.lax.scan(scale, start, jnp.asarray(bank.band, image.dtype))[0]


def _prepare(image: Array, options: Options) -> tuple[tuple[Array, ...], Filters, Callable[[Array], Array]]:
    """The films' spectrum times 1 and the Riesz pair, the filters, and the way back to films."""
    if image.ndim != 3 or not jnp.issubdtype(image.dtype, jnp.floating):
        raise UserError(f"monogenic: got {image.dtype}{list(image.shape)}; expected float films (b, h, w)")
    h, w = image.shape[1:]
    _check((h, w), options)
    # The middle of the range is taken off, which no filter sees: a constant film is then exactly 0, not rounding noise.
    highest, lowest = image.max(axis=1), image.min(axis=1)  # an axis at a time, which a CPU does faster
    middle = 0.5 * (highest.max(axis=1) + lowest.min(axis=1))
    image = image - middle[:, None, None]
    if options.boundary == "reflect":
        image = jnp.concatenate([image, image[:, ::-1]], axis=1)
        image = jnp.concatenate([image, image[:, :, ::-1]], axis=2)  # (b, 2h, 2w)
    size = image.shape[1], image.shape[2]
    bank = _filters(size, options)
    spectrum = jnp.fft.rfft2(image)  # (b, h, w')
    if options.boundary == "periodic":
        spectrum = spectrum - _smooth(image, spectrum.dtype)
    riesz = (jnp.asarray(part, spectrum.dtype)[None] for part in (bank.riesz1, bank.riesz2))
    split = (spectrum, *(spectrum * part for part in riesz))

    def restore(product: Array) -> Array:
        return jnp.fft.irfft2(product, s=size)[..., :h, :w]

    return split, bank, restore


def _smooth(image: Array, dtype: np.dtype) -> Array:
    """The spectrum of the smooth component (Moisan 2011, eq. 12): (b, h, w').

    Its source lives on the border, so that one transform a border line is enough.
    """
    across = jnp.fft.rfft(image[:, 0] - image[:, -1])  # (b, w'), the jump from the last row to the first
    down = jnp.fft.fft(image[:, :, 0] - image[:, :, -1])  # (b, h)
    rows, columns = (jnp.asarray(part, dtype)[None] for part in _border(image.shape[1:]))
    return across[:, None] * rows + down[:, :, None] * columns


def _check(shape: tuple[int, int], options: Options) -> None:
    for name, known in (("family", FAMILIES), ("boundary", BOUNDARIES), ("grid", GRIDS)):
        value = getattr(options, name)
        if value not in known:
            raise UserError(f"monogenic: {name} is {value!r}; one of {', '.join(known)}{did_you_mean(value, known)}")
    if min(shape) < 4:
        raise UserError(f"monogenic: a film of {shape[0]} x {shape[1]} pixels; expected at least 4 x 4")
    ranges = {
        "alpha": (0 < options.alpha <= 1, "above 0, at most 1"),
        "a": (options.a > 0, "above 0"),
        "kappa": (0 < options.kappa < 1, "between 0 and 1"),
        "scales": (isinstance(options.scales, int) and options.scales >= 1, "a whole number, at least 1"),
        "min_wavelength": (options.min_wavelength >= 2, "at least 2 pixels"),
        "multiplier": (options.multiplier > 1, "above 1"),
        "guard_cutoff": (0 <= options.guard_cutoff <= 0.5, "at most 0.5 cycles a pixel, or 0 for none"),
        "guard_order": (options.guard_order > 0, "above 0"),
    }
    for name, (right, expected) in ranges.items():
        if not right:
            raise UserError(f"monogenic: {name} is {getattr(options, name)!r}; expected {expected}")


def _frequencies(n: int, options: Options) -> np.ndarray:
    steps = np.round(np.fft.fftfreq(n) * n)
    return steps / (n - 1 if options.grid == "kovesi" and n % 2 else n)


@lru_cache(maxsize=16)
def _filters(shape: tuple[int, int], options: Options) -> Filters:
    h, w = shape
    half = slice(0, w // 2 + 1)
    v, u = _frequencies(h, options)[:, None], _frequencies(w, options)[None, :]
    # Nyquist, which an even length has and where an odd filter must vanish to be real
    last_v = np.broadcast_to((v == -0.5) & (h % 2 == 0), shape)[:, half]
    last_u = np.broadcast_to((u == -0.5) & (w % 2 == 0), shape)[:, half]
    v, u = (np.broadcast_to(part, shape)[:, half].copy() for part in (v, u))
    radius = np.hypot(u, v)
    radius[0, 0] = 1.0  # any value: the filters are 0 there
    lengths = [options.min_wavelength * options.multiplier**s for s in range(options.scales)]
    bands = np.stack([band(radius, length, options) for length in lengths])  # (s, h, w')
    if options.guard_cutoff:
        bands /= 1 + (radius / options.guard_cutoff) ** (2 * options.guard_order)
    bands[:, 0, 0] = 0.0
    riesz1, riesz2 = np.where(last_u, 0, 1j * u / radius), np.where(last_v, 0, 1j * v / radius)
    if options.grid == "kovesi":
        # One complex filter there holds both parts; what each lacks in symmetry at Nyquist falls into the other.
        mixed1, mixed2 = np.where(last_v, v / radius, 0), np.where(last_u, u / radius, 0)
        riesz1, riesz2 = riesz1 - mixed1, riesz2 + mixed2
    return Filters(bands, riesz1, riesz2)


@lru_cache(maxsize=16)
def _border(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What turns the transforms of the jumps across rows and across columns into the smooth component's."""
    h, w = shape
    y = 2 * np.pi * np.arange(h)[:, None] / h
    x = 2 * np.pi * np.arange(w // 2 + 1)[None, :] / w
    laplacian = 2 * (2 - np.cos(y) - np.cos(x))
    laplacian[0, 0] = 1.0  # the mean stays with the periodic component
    return (1 - np.exp(1j * y)) / laplacian, (1 - np.exp(1j * x)) / laplacian
