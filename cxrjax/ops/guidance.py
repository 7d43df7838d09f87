"""Partial diffusion of a patient's film, mostly where a mask lights up: one sampler, five modes (ETRI deck, part 3).

With tau(p) = round(lambda M(p)) the per-pixel strength, and lambda the "treatment period":

* `uniform`: AnoDDPM, the whole film goes to x_lambda and back (Wyatt et al. 2022).
* `noise_matrix`: every noise term is multiplied by M, the deck's literal wording. Where M = 0 the film returns.
* `time_gated`: the whole film sits at one noise level at every step; a pixel is the model's from its tau(p) down and a
  fresh draw of q(x_t | x_0) above it, so that the network only sees what it was trained on.
* `mask_blend`: `uniform`, then pasted into the film through M; an ablation with visible seams.
* `per_pixel_time`: each pixel sits at its own noise level tau(p), for a network that is told the map of times (RAD: Kim
  et al. 2025). A network that is told one time must not be used so.

The first four are one program, and which of them a film gets is data: a sweep over modes and lambdas compiles once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.ops import diffusion, noise, solvers

Mode = Literal["uniform", "noise_matrix", "time_gated", "mask_blend", "per_pixel_time"]
MODES: tuple[str, ...] = get_args(Mode)
SAMPLERS = ("ancestral", "ddim", "dpmpp_2m", "sde_dpmpp_2m")
# (x (b, h, w, c), index (b,) or (b, h, w) int32) -> the predicted noise (b, h, w, c).
Epsilon = Callable[[jax.Array, jax.Array], jax.Array]

# Streams of randomness per film: shared by every mode, so that modes differ by their algebra alone.
_START, _GENERATED, _KNOWN, _AGAIN = range(4)


class Sampler(NamedTuple):
    """How a walk goes back.

    Attributes:
      name: `ancestral` with `variance`; `ddim` with `eta`; `dpmpp_2m`, of second order (Lu et al. 2022), or its
        stochastic form `sde_dpmpp_2m`.
      stride: distance between used times; a walk takes ceil(lambda / stride) network evaluations (times `resamples`).
      variance: of `ancestral`, see `diffusion.ancestral_step`.
      eta: noise of `ddim`.
      clip: bound of the estimated film in the model's units; None leaves it free.
      resamples: RePaint jumps (Lugmayr et al. 2022): each step is redone this often; 1 is off.
      noise: what is added.
      spacing: of the used times, see `diffusion.used_time`.
    """

    name: str = "ancestral"
    stride: int | jax.Array = 1
    variance: diffusion.Variance = "large"
    eta: float = 0.0
    clip: float | None = 1.0
    resamples: int = 1
    noise: noise.Draw = noise.gaussian
    spacing: diffusion.Spacing = "even"

    def check(self, by_pixel: bool = False) -> None:
        """Raises ValueError for a sampler that does not exist, cannot go back and forth, or has no times by pixel."""
        if self.name not in SAMPLERS:
            raise ValueError(f"sampler {self.name!r} is none of {', '.join(SAMPLERS)}")
        if self.spacing not in get_args(diffusion.Spacing):
            raise ValueError(f"spacing {self.spacing!r}: expected {' or '.join(get_args(diffusion.Spacing))}")
        if self.resamples > 1 and self.name in SAMPLERS[2:]:
            raise ValueError(f"{self.name} remembers its last step and cannot redo it; use ancestral or ddim")
        if by_pixel and (self.name not in SAMPLERS[:2] or self.resamples > 1):
            raise ValueError(f"per_pixel_time walks by ancestral or ddim without resampling, not by {self}")


ANCESTRAL = Sampler()


def code(mode: str) -> int:
    """The number of a mode in `MODES`, as `treat` reads it where the mode is data.

    Raises:
      ValueError: an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is none of {', '.join(MODES)}")
    return MODES.index(mode)


def _noise(
    keys: jax.Array, stream: int, i: jax.Array, t: jax.Array, shape: tuple[int, ...], draw: noise.Draw = noise.gaussian
) -> jax.Array:
    """Noise (b, *shape), each film from its own key, so that batching does not change a sample."""

    def one(key: jax.Array, i: jax.Array, t: jax.Array) -> jax.Array:
        return draw(jax.random.fold_in(jax.random.fold_in(key, stream), i), t, shape)

    return jax.vmap(one)(keys, i, t)


def strength(mask: jax.Array, lam: jax.Array | int) -> jax.Array:
    """tau(p) = round(lambda M(p)), how many of the last steps are left to the model at each pixel."""
    lam = jnp.asarray(lam, mask.dtype)
    return jnp.round(mask * (lam if lam.ndim == 0 else lam[:, None, None, None]))


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
    mode: Mode | jax.Array = "time_gated",
    sampler: Sampler = ANCESTRAL,
    remask: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    every: int = 0,
) -> jax.Array:
    """Diffuses films to distance `lam` under a mask and denoises them back.

    Args:
      epsilon: the trained network.
      image: (b, h, w, 1) float32 in [0, 1].
      mask: (b, h, w, 1) in [0, 1]; ignored by `uniform`.
      lam: () or (b,) int, 0 ... T; traced. At 0 the film returns bit for bit.
      keys: (b,) PRNG keys, one a film.
      mode: a name, or (b,) int32 of `code`, none of them `per_pixel_time`.
      sampler: see `Sampler`.
      remask: `(estimated film (b, h, w, 1) in [0, 1], mask) -> mask`, asked anew at every `every`-th used time.
      every: 0 keeps the mask.

    Returns:
      (b, h, w, 1) float32 in [0, 1]; where `time_gated` has tau = 0, or M = 0 in the masked modes, the input's bits.

    Raises:
      ValueError: an unknown mode or sampler, or a lambda, not traced, that the schedule has not.
    """
    renew = None if remask is None else lambda x, m: remask(jnp.clip((x + 1.0) / 2.0, 0.0, 1.0), m)
    x, touched, mask = sample(
        epsilon, schedule, 2.0 * image - 1.0, mask, lam, keys, mode=mode, sampler=sampler, remask=renew, every=every
    )
    # Going to [-1, 1] and back rounds; what was not touched must come back bit for bit.
    treated = jnp.where(touched, jnp.clip((x + 1.0) / 2.0, 0.0, 1.0), image)
    return jnp.where(is_mode(mode, "mask_blend", image), blend(image, treated, mask), treated)


def is_mode(mode: str | jax.Array, name: str, x: jax.Array) -> jax.Array:
    """Whether a film's mode is `name`, (b, 1, 1, 1) bool."""
    codes = jnp.full(x.shape[:1], code(mode)) if isinstance(mode, str) else mode
    return (codes == code(name))[:, None, None, None]


def sample(
    epsilon: Epsilon,
    schedule: diffusion.Schedule,
    x0: jax.Array,
    mask: jax.Array,
    lam: jax.Array | int,
    keys: jax.Array,
    *,
    mode: Mode | jax.Array = "time_gated",
    sampler: Sampler = ANCESTRAL,
    remask: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    every: int = 0,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`treat` in the model's own space: films in [-1, 1], or latents of unit variance.

    Args:
      x0: (b, h, w, c) in the model's units.
      mask: (b, h, w, 1) in [0, 1].
      remask: of an estimate (b, h, w, c) and the mask.
      epsilon, schedule, lam, keys, mode, sampler, every: as in `treat`. `mask_blend` is `uniform` here: its pasting is
        left to the caller.

    Returns:
      x (b, h, w, c), where the model had a part in it (b, h, w, 1) bool, and the last mask (b, h, w, 1).
    """
    if not isinstance(lam, jax.core.Tracer):
        ends = np.min(lam), np.max(lam)
        if ends[0] < 0 or ends[1] > schedule.num_steps:
            raise ValueError(
                f"lambda of {ends[0]} to {ends[1]}: expected 0 ... {schedule.num_steps}, as the schedule's"
            )
    by_pixel = isinstance(mode, str) and code(mode) == code("per_pixel_time")
    sampler.check(by_pixel)
    if by_pixel:
        return _per_pixel(epsilon, schedule, x0, mask, lam, keys, sampler)
    b, shape = x0.shape[0], x0.shape[1:]
    lam = jnp.broadcast_to(jnp.asarray(lam, jnp.int32), (b,))
    n = diffusion.num_evaluations(lam, sampler.stride).astype(jnp.int32)  # (b,)
    matrix, gated = is_mode(mode, "noise_matrix", x0), is_mode(mode, "time_gated", x0)
    history = sampler.name in SAMPLERS[2:]
    used = partial(diffusion.used_time, spacing=sampler.spacing)

    def draw(stream: int, i: jax.Array, t: jax.Array) -> jax.Array:
        return _noise(keys, stream, i, t, shape, sampler.noise)

    def step(x: jax.Array, mask: jax.Array, last: tuple[jax.Array, jax.Array], i: jax.Array, at: jax.Array) -> tuple:
        """x at the i-th used time -> x at the one before, the estimated film, and where the model made it."""
        t, s = used(lam, i, n), used(lam, i - 1, n)
        m = jnp.where(matrix, mask, 1.0)
        predicted = m * epsilon(x, jnp.maximum(t - 1, 0))
        estimate = diffusion.to_x0(schedule, x, t, predicted, sampler.clip)
        new = back(x, estimate, last, t, s, m * draw(_GENERATED, at, s), i == n)
        known = diffusion.q_sample(schedule, x0, s, draw(_KNOWN, at, s))
        mine = ~gated | (t[:, None, None, None] <= strength(mask, lam))  # (b, h, w, 1)
        return jnp.where(mine, new, known), estimate, jnp.where(matrix, m > 0, mine)

    def back(x, estimate, last, t, s, noise, first):
        if sampler.name == "ancestral":
            return diffusion.ancestral_step(schedule, x, estimate, t, s, noise, sampler.variance)
        if sampler.name == "ddim":
            return diffusion.ddim_step(schedule, x, estimate, t, s, noise, sampler.eta)
        if sampler.name == "dpmpp_2m":
            return solvers.dpmpp_2m_step(schedule, x, estimate, last[0], t, s, last[1], first)
        return solvers.sde_dpmpp_2m_step(schedule, x, estimate, last[0], t, s, last[1], first, noise)

    def walk(j: jax.Array, carry: tuple) -> tuple:
        x, mask, last, touched = carry
        i = n - j  # (b,): n ... 1, then the film is done
        going = (i > 0)[:, None, None, None]
        i = jnp.maximum(i, 1)
        for r in range(sampler.resamples):
            at = i * sampler.resamples + r
            new, estimate, mine = step(x, mask, last, i, at)
            if r < sampler.resamples - 1:  # back up to t and once more
                t, s = used(lam, i, n), used(lam, i - 1, n)
                keep = jnp.exp(0.5 * (schedule.log_alpha_bar[t] - schedule.log_alpha_bar[s]))[:, None, None, None]
                m = jnp.where(matrix, mask, 1.0)
                again = keep * new + jnp.sqrt(1 - keep**2) * m * draw(_AGAIN, at, t)
                x = jnp.where(going, again, x)
        if remask is not None and every:
            due = (j + 1) % every == 0
            mask = jax.lax.cond(due, lambda: jnp.where(going, remask(estimate, mask), mask), lambda: mask)
        last = (estimate, used(lam, i, n)) if history else last
        return jnp.where(going, new, x), mask, last, jnp.where(going, mine, touched)

    start_mask = jnp.where(matrix, mask, 1.0)
    x = diffusion.q_sample(schedule, x0, lam, start_mask * draw(_START, jnp.zeros_like(lam), lam))
    last = (jnp.zeros_like(x0), lam) if history else (jnp.zeros(()), jnp.zeros((), jnp.int32))
    touched = jnp.zeros((b, *shape[:2], 1), bool)
    x, mask, _, touched = jax.lax.fori_loop(0, n.max(), walk, (x, mask, last, touched))
    return x, touched, mask


def _per_pixel(
    epsilon: Epsilon, schedule: diffusion.Schedule, x0: jax.Array, mask: jax.Array, lam: jax.Array | int,
    keys: jax.Array, sampler: Sampler,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """Every pixel goes to its own tau(p) and back, all of them arriving together."""
    b, shape = x0.shape[0], x0.shape[1:]
    lam = jnp.broadcast_to(jnp.asarray(lam, jnp.int32), (b,))
    n = diffusion.num_evaluations(lam, sampler.stride)
    tau = strength(mask, lam)[..., 0].astype(jnp.int32)  # (b, h, w)

    def used(i: jax.Array) -> jax.Array:
        return diffusion.used_time(tau, i[:, None, None], n[:, None, None], sampler.spacing)

    def walk(j: jax.Array, x: jax.Array) -> jax.Array:
        i = jnp.maximum(n - j, 1)
        t, s = used(i), used(i - 1)
        # A pixel whose times are equal stands still; any s < t keeps its algebra finite.
        moves, t_safe = t > s, jnp.maximum(t, 1)
        s_safe = jnp.where(moves, s, t_safe - 1)
        estimate = diffusion.to_x0(schedule, x, t_safe, epsilon(x, t - 1), sampler.clip)
        noise = _noise(
            keys, _GENERATED, i * sampler.resamples, diffusion.used_time(lam, i - 1, n), shape, sampler.noise
        )
        if sampler.name == "ddim":
            new = diffusion.ddim_step(schedule, x, estimate, t_safe, s_safe, noise, sampler.eta)
        else:
            new = diffusion.ancestral_step(schedule, x, estimate, t_safe, s_safe, noise, sampler.variance)
        return jnp.where(moves[..., None] & (n > j)[:, None, None, None], new, x)

    start = _noise(keys, _START, jnp.zeros_like(lam), lam, shape, sampler.noise)
    x = diffusion.q_sample(schedule, x0, tau, start)
    return jax.lax.fori_loop(0, n.max(), walk, x), (tau > 0)[..., None], mask
