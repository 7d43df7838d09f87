"""Local-phase enhancement (ENH) of films: three channels that show structure whatever the exposure.

LwPA is the local weighted mean phase angle, LPE the local phase energy and ELEA the enhanced local energy attenuation
(Qi et al. 2021; JKIICE 2021, eqs. 2 to 4, prints them with misplaced indices and brackets, which all forms here put
right).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.errors import UserError, did_you_mean
from cxrjax.ops import cam, monogenic, transmission
from cxrjax.ops.monogenic import Signal
from cxrjax.types import Array

CHANNELS = ("LwPA", "LPE", "ELEA")
# The first of each is the default.
_FORMS = {"lwpa_form": ("kovesi", "printed"), "elea_max": ("transmission", "film")}


class Options(NamedTuple):
    """The three channels' constants.

    Attributes:
      lwpa_form: `kovesi`, atan2(sum M1, sqrt((sum M2)^2 + (sum M3)^2)); or `printed`, as in the paper's eq. 2,
        arctan(sum M1 / sqrt(sum M2^2 + sum M3^2)): squares are summed, not sums squared.
      elea_max: what ELEA divides by the greater of it and epsilon: the `transmission` map (Qi et al. 2021); or the
        `film` in [0, 1], as the paper's eq. 4 prints.
      rho: ELEA's constant echogenicity, in [0, 1]; ours, no paper gives it.
      delta: ELEA's exponent (Meng et al. 2013).
      epsilon: least transmission that ELEA divides by (Meng et al. 2013).
      bank: the filters, see `monogenic.Options`.
      contextual: the regularizer of the transmission map, see `transmission.Options`.
    """

    lwpa_form: str = "kovesi"
    elea_max: str = "transmission"
    rho: float = 0.9
    delta: float = 0.85
    epsilon: float = 1e-4
    bank: monogenic.Options = monogenic.DEFAULT
    contextual: transmission.Options = transmission.DEFAULT


DEFAULT = Options()


def configure(options: Options = DEFAULT, **changes: Any) -> Options:
    """`options` with fields changed by name, those of `bank` and `contextual` too: `configure(family="log_gabor")`.

    Raises:
      UserError: no such option.
    """
    parts: dict[str, Any] = {"bank": options.bank, "contextual": options.contextual}
    own: dict[str, Any] = {}
    names = (*options._fields, *options.bank._fields, *options.contextual._fields)
    for name, value in changes.items():
        if name not in names:
            raise UserError(f"enhance: no option {name!r}; there are {', '.join(names)}{did_you_mean(name, names)}")
        for part, fields in parts.items():
            if name in fields._fields:
                parts[part] = fields._replace(**{name: value})
        if name in options._fields:
            own[name] = value
    return options._replace(**{**parts, **own})


def lwpa(image: Array | np.ndarray, options: Options = DEFAULT, **changes: Any) -> Array:
    """Local weighted mean phase angle: pi / 2 on a bright line, 0 on an edge, -pi / 2 on a dark line.

    A positive factor or a constant changes nothing; on a constant film it is 0.

    Args:
      image: (b, h, w) float32 or float64.
      options: see `Options`; `changes` are as in `configure`.

    Returns:
      (b, h, w) radians in [-pi / 2, pi / 2].

    Raises:
      UserError: `image` is not such an array, or an option is unknown or out of its range.

    Source: Qi et al. 2021; Kovesi's "feature type" (phasecongmono).
    """
    return _by_film(image, _known(options, changes), "lwpa")


def enhance(image: Array | np.ndarray, options: Options = DEFAULT, **changes: Any) -> Array:
    """The three channels of `CHANNELS`, each scaled to [0, 1] by film; a constant film gives zeros.

    Args:
      image: (b, h, w) or (b, h, w, 1) float32 or float64 in [0, 1].
      options: see `Options`; `changes` are as in `configure`.

    Returns:
      (b, h, w, 3) in [0, 1], of the films' type.

    Raises:
      UserError: as `lwpa`.

    Source: JKIICE 2021, eqs. 2 to 4, after Qi et al. 2021; the scaling is ours.
    """
    if image.ndim == 4 and image.shape[-1] == 1:
        image = image[..., 0]
    return _by_film(image, _known(options, changes), "enh")


def _known(options: Options, changes: dict[str, Any]) -> Options:
    options = configure(options, **changes)
    for name, forms in _FORMS.items():
        if (value := getattr(options, name)) not in forms:
            near = did_you_mean(value, forms)
            raise UserError(f"enhance: {name} is {value!r}; expected one of {', '.join(forms)}{near}")
    if options.epsilon <= 0:
        raise UserError(f"enhance: epsilon is {options.epsilon}; expected above 0")
    return options


@partial(jax.jit, static_argnames=("options", "feature"))
def _by_film(image: Array | np.ndarray, options: Options, feature: str) -> Array:
    """A feature of (b, h, w). A CPU takes film after film, whose arrays stay in its cache; others take the batch."""
    compute: Callable[[Array], Array] = partial(_FEATURES[feature], options=options)
    if image.ndim != 3:
        return compute(jnp.asarray(image))  # which says what is wrong
    return jax.lax.platform_dependent(
        image,
        cpu=lambda films: jax.lax.map(lambda film: compute(film[None])[0], films),
        default=compute,
    )


def _angle(total: Signal) -> Array:
    return jnp.arctan2(total.even, jnp.sqrt(total.odd1**2 + total.odd2**2))


def _lwpa(image: Array, options: Options) -> Array:
    if options.lwpa_form == "printed":
        return _both(image, options)[0]
    return _angle(monogenic.summed(image, options.bank))


def _both(image: Array, options: Options) -> tuple[Array, Array]:
    """LwPA and LPE, symmetry energy times LwPA, from one filtering: (b, h, w) each."""
    folded = monogenic.folded(image, options.bank)
    printed = options.lwpa_form == "printed"
    phase = jnp.arctan2(folded.total.even, jnp.sqrt(folded.odd_power)) if printed else _angle(folded.total)
    return phase, folded.symmetry * phase


def _attenuation(image: Array, energy: Array, options: Options) -> Array:
    """ELEA, (LPE - rho) / max(A, epsilon)^delta + rho, of LPE (b, h, w) scaled to [0, 1]; A is its transmission map,
    or the film."""
    energy = cam.min_max(energy)
    map_ = image if options.elea_max == "film" else _transmission(energy, options)
    return (energy - options.rho) / jnp.maximum(map_, options.epsilon) ** options.delta + options.rho


def _transmission(energy: Array, options: Options) -> Array:
    initial = energy
    if options.contextual.initial == "boundcon":
        initial = transmission.boundary_constraint(energy, options.rho, options.contextual)
    return transmission.regularize(initial, energy, options.contextual)


def _enh(image: Array, options: Options) -> Array:
    phase, energy = _both(image, options)
    return jnp.stack([cam.min_max(part) for part in (phase, energy, _attenuation(image, energy, options))], axis=-1)


_FEATURES: dict[str, Callable[..., Array]] = {
    "lwpa": _lwpa,
    "enh": _enh,
}
