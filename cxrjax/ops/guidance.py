"""Modes of treating a patient's film, mostly where a mask lights up: one table, one sampler (ETRI deck, part 3).

With tau(p) = round(lambda M(p)) the per-pixel strength, and lambda the "treatment period":

* `uniform`: AnoDDPM, the whole film goes to x_lambda and back (Wyatt et al. 2022).
* `noise_matrix`: every noise term is multiplied by M, the deck's literal wording. Where M = 0 the film returns.
* `time_gated`: the whole film sits at one noise level at every step; a pixel is the model's from its tau(p) down and a
  fresh draw of q(x_t | x_0) above it, so that the network only sees what it was trained on.
* `mask_blend`: `uniform`, then pasted into the film through M; an ablation with visible seams.
* `per_pixel_time`: each pixel sits at its own noise level tau(p), for a network that is told the map of times (RAD: Kim
  et al. 2025). A network that is told one time must not be used so.
* the others: published rivals, and what needs no model, see `rivals` and `classical`.

The first four are one program, and which of them a film gets is data: a sweep over modes and lambdas compiles once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.ops import classical, diffusion, rivals, sampling
from cxrjax.ops.sampling import ANCESTRAL, Epsilon, Sampler


class Mode(NamedTuple):
    """One way of treating films; a row of `MODES` is all that the library asks of it.

    Attributes:
      name: as an arm gives it.
      guided: a mask says where it treats.
      scales, gates: as in `sampling.sample`; with `pastes`, what may differ within one program.
      pastes: the treated film is pasted into the film through the mask.
      by_pixel: each pixel has a time of its own, for a network that is told the map of times.
      renews: the mask may be made anew while it walks.
      own: a walk of its own, `(rivals.Case) -> films in [-1, 1]`; its keyword arguments are keys that an arm may set.
      by_hand: films without a model, see `classical`; keyword arguments likewise.
      sees: asks the classifier of the arm's map for its loss or its perceptual distance.
      told: asks a network that is told the class.
      rival: not ours.
      back: options on the way back from a treated film, with their values; empty where it has no way back.
      cost: `(steps, lam, **options) -> network evaluations` of a walk of its own; `steps(lam)` of a plain one.
    """

    name: str
    guided: bool = True
    scales: bool = False
    gates: bool = False
    pastes: bool = False
    by_pixel: bool = False
    renews: bool = False
    own: Callable[..., jax.Array] | None = None
    by_hand: Callable[..., np.ndarray] | None = None
    sees: bool = False
    told: bool = False
    rival: bool = False
    back: tuple[tuple[str, Any], ...] = ()
    cost: Callable[..., int] = lambda steps, lam, **_: steps(lam)


_PUBLISHED = partial(Mode, guided=False, sees=True, rival=True)
_CLASSICAL = partial(Mode, rival=True, cost=lambda steps, lam, **_: 0)
MODES: dict[str, Mode] = {
    row.name: row
    for row in (
        Mode("uniform", guided=False, renews=True),
        Mode("noise_matrix", scales=True, renews=True),
        Mode("time_gated", gates=True, renews=True),
        Mode("mask_blend", pastes=True),
        Mode("per_pixel_time", by_pixel=True),
        Mode("gated_pull", own=rivals.gated_pull, sees=True),
        Mode("banded", own=rivals.banded, sees=True),
        _CLASSICAL("identity", by_hand=classical.identity, guided=False),
        _CLASSICAL("blurred", by_hand=classical.blurred),
        _CLASSICAL("inpainted", by_hand=classical.inpainted),
        Mode("dif_fuse", own=rivals.dif_fuse, rival=True, cost=lambda steps, lam: 3 * steps(lam)),
        _PUBLISHED("autoddpm", own=rivals.autoddpm, cost=lambda steps, lam, restart, resamples, **_: (
            steps(lam) + resamples * steps(round(restart * lam)))),
        _PUBLISHED("thor", own=rivals.thor),
        _PUBLISHED("fastdime", own=rivals.fastdime),
        Mode("class_free", own=rivals.class_free, guided=False, told=True, rival=True, back=(("toward", "diseased"),),
             cost=lambda steps, lam, **_: 3 * steps(lam)),
        _PUBLISHED("wolleb", own=rivals.wolleb, cost=lambda steps, lam, **_: 2 * steps(lam)),
    )
}  # fmt: skip


def row_of(mode: str | jax.Array) -> Mode | None:
    """A mode's row; None where the mode is data.

    Raises:
      ValueError: an unknown mode.
    """
    if not isinstance(mode, str):
        return None
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is none of {', '.join(MODES)}")
    return MODES[mode]


def code(mode: str) -> int:
    """The number of a mode in `MODES`, as `treat` reads it where the mode is data. Raises ValueError for none."""
    row_of(mode)
    return list(MODES).index(mode)


def alone(mode: str) -> str:
    """The mode itself where it is a program of its own, "" where it is data of one that it shares."""
    row = MODES[mode]
    return mode if row.by_pixel or row.own or row.by_hand else ""


def walk_of(mode: str) -> Mode:
    """What a mode's walk is, whatever becomes of it after: equal for modes that differ by their pasting alone."""
    return MODES[mode]._replace(name="", guided=True, renews=True, pastes=False)


def options_of(mode: str) -> dict[str, Any]:
    """The constants that an arm of a mode may set, with their published values."""
    own = MODES[mode].own or MODES[mode].by_hand
    parameters = inspect.signature(own).parameters.values() if own else ()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def evaluations(mode: str, lam: int, sampler: Sampler, options: Mapping[str, Any]) -> int:
    """How often the network is asked about a film."""

    def steps(distance: int) -> int:
        return -(-distance // int(sampler.stride)) * sampler.resamples

    return MODES[mode].cost(steps, lam, **options_of(mode) | dict(options))


def trait(mode: str | jax.Array, name: str, x: jax.Array) -> jax.Array:
    """Whether a film's mode has the attribute `name` of `Mode`, (b, 1, 1, 1) bool."""
    codes = jnp.full(x.shape[:1], code(mode)) if isinstance(mode, str) else mode
    return jnp.array([getattr(row, name) for row in MODES.values()])[codes][:, None, None, None]


def blend(image: jax.Array, generated: jax.Array, mask: jax.Array) -> jax.Array:
    """M generated + (1 - M) image; exact where M is 0 or 1."""
    return jnp.where(mask <= 0, image, jnp.where(mask >= 1, generated, mask * generated + (1 - mask) * image))


def treat(
    epsilon: Epsilon,
    schedule: diffusion.Schedule,
    image: jax.Array,
    mask: jax.Array,
    lam: jax.Array | int,
    keys: jax.Array,
    *,
    mode: str | jax.Array = "time_gated",
    sampler: Sampler = ANCESTRAL,
    remask: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    every: int = 0,
    loss: Callable[[jax.Array], jax.Array] | None = None,
    distance: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    told: Mapping[str, Epsilon] | None = None,
    options: Mapping[str, Any] | None = None,
) -> jax.Array:
    """Diffuses films to distance `lam` under a mask and denoises them back.

    Args:
      epsilon: the trained network.
      image: (b, h, w, 1) float32 in [0, 1].
      mask: (b, h, w, 1) in [0, 1]; read where the mode is guided.
      lam: () or (b,) int, 0 ... T; traced. At 0 the film returns bit for bit.
      keys: (b,) PRNG keys, one a film.
      mode: a name, or (b,) int32 of `code`, none of them a mode `alone`.
      sampler: see `Sampler`.
      remask: `(estimated film (b, h, w, 1) in [0, 1], mask) -> mask`, asked anew at every `every`-th used time.
      every: 0 keeps the mask.
      loss: `film (b, h, w, 1) in [0, 1] -> (b,)`, for a mode that sees.
      distance: `(film, film) -> (b, h, w, 1)`, likewise.
      told: the network told `healthy` and told `diseased`, for a mode that asks one that is.
      options: what an arm sets of `options_of`.

    Returns:
      (b, h, w, 1) float32 in [0, 1]; what the walk left alone has the input's bits, as where `time_gated` has tau = 0,
      or M = 0 in the masked modes.

    Raises:
      ValueError: an unknown mode or sampler, or a lambda, not traced, that the schedule has not.
    """
    x0 = 2.0 * image - 1.0
    row = row_of(mode)
    if row and row.own:
        sampler.check(row.name)
        case = rivals.Case(
            epsilon, schedule, x0, mask, sampling.distances(schedule, lam, len(image)), keys, sampler,
            None if loss is None else lambda x: loss((x + 1.0) / 2.0),
            None if distance is None else lambda a, b: distance((a + 1.0) / 2.0, (b + 1.0) / 2.0), told,
        )  # fmt: skip
        x = row.own(case, **(options or {}))
        touched = (x != x0) & (case.lam > 0)[:, None, None, None]
    else:
        renew = None if remask is None else lambda x, m: remask(jnp.clip((x + 1.0) / 2.0, 0.0, 1.0), m)
        x, touched, mask = sample(
            epsilon, schedule, x0, mask, lam, keys, mode=mode, sampler=sampler, remask=renew, every=every
        )
    # Going to [-1, 1] and back rounds; what was not touched must come back bit for bit.
    treated = jnp.where(touched, jnp.clip((x + 1.0) / 2.0, 0.0, 1.0), image)
    return jnp.where(trait(mode, "pastes", image), blend(image, treated, mask), treated)


def sample(
    epsilon: Epsilon,
    schedule: diffusion.Schedule,
    x0: jax.Array,
    mask: jax.Array,
    lam: jax.Array | int,
    keys: jax.Array,
    *,
    mode: str | jax.Array,
    sampler: Sampler,
    remask: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    every: int = 0,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`sampling.sample` as a mode has it, in the model's own space: films in [-1, 1], or latents of unit variance.

    A mode that pastes leaves that to the caller; one with a walk of its own has no place here.
    """
    row = row_of(mode)
    if row and row.by_pixel:
        sampler.check(row.name)
        return sampling.sample_by_pixel(epsilon, schedule, x0, mask, lam, keys, sampler)
    return sampling.sample(
        epsilon, schedule, x0, mask, lam, keys, sampler=sampler, scales=trait(mode, "scales", x0),
        gates=trait(mode, "gates", x0), remask=remask, every=every,
    )  # fmt: skip


def treat_by_hand(mode: str, films: np.ndarray, mask: np.ndarray, share: np.ndarray, **options: Any) -> np.ndarray:
    """Films (n, h, w, 1) in [0, 1] by a mode without a model, where the mask is above 1 - `share`, lambda / T (n,)."""
    by_hand = MODES[mode].by_hand
    assert by_hand is not None
    treated = by_hand(films, mask > 1 - share[:, None, None, None].astype(mask.dtype), **options)
    return treated.astype(films.dtype)
