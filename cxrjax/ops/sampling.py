"""The one sampler of partial diffusion: films go to a distance and come back, by pixel, under a mask, or pulled.

It knows no mode: what scales, gates, merges or pulls a step is handed in, as arrays and small pure functions, so that
the modes of `guidance` and the published algorithms of `rivals` are all the same walk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.ops import diffusion, noise, solvers

SAMPLERS = ("ancestral", "ddim", "dpmpp_2m", "sde_dpmpp_2m")
# (x (b, h, w, c), index (b,) or (b, h, w) int32) -> the predicted noise (b, h, w, c).
Epsilon = Callable[[jax.Array, jax.Array], jax.Array]
# (x_s as the step has it, the estimated film, a draw of q(x_s | x_0), t, s (b,)) -> the x_s to go on with.
Merge = Callable[[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
# (the estimated film, x_t, t (b,)) -> the gradient (b, h, w, c) of what is to be lowered, its scale included. A step
# predicts sigma_t times it as noise beside the network's (Dhariwal and Nichol 2021, algorithm 2), which moves the mean
# of an ancestral step by minus beta_t / sqrt(alpha_t) times it.
Pull = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

# Streams of randomness per film: shared by every mode, so that modes differ by their algebra alone.
_START, _GENERATED, _KNOWN, _AGAIN = range(4)


class Sampler(NamedTuple):
    """How a walk goes back.

    Attributes:
      name: `ancestral` with `variance`; `ddim` with `eta`; `dpmpp_2m`, of second order (Lu et al. 2022), or its
        stochastic form `sde_dpmpp_2m`.
      stride: distance between used times; a walk takes ceil(lambda / stride) network evaluations (times `resamples`).
      variance: of `ancestral`, see `diffusion.ancestral_step`.
      eta: noise of `ddim`, one for all films or (b, 1, 1, 1).
      clip: bound of the estimated film in the model's units; None leaves it free.
      resamples: RePaint jumps (Lugmayr et al. 2022): each step is redone this often; 1 is off.
      noise: what is added.
      spacing: of the used times, see `diffusion.used_time`.
    """

    name: str = "ancestral"
    stride: int | jax.Array = 1
    variance: diffusion.Variance = "large"
    eta: float | jax.Array = 0.0
    clip: float | None = 1.0
    resamples: int = 1
    noise: noise.Draw = noise.gaussian
    spacing: diffusion.Spacing = "even"

    def check(self, alone: str = "") -> None:
        """Raises ValueError for a sampler that does not exist, cannot go back and forth, or is none for a mode.

        `alone` is a mode whose walk is its own: by pixel, or with steps that are merged, neither of which can be redone
        nor remembered.
        """
        if self.name not in SAMPLERS:
            raise ValueError(f"sampler {self.name!r} is none of {', '.join(SAMPLERS)}")
        if self.spacing not in get_args(diffusion.Spacing):
            raise ValueError(f"spacing {self.spacing!r}: expected {' or '.join(get_args(diffusion.Spacing))}")
        if self.resamples > 1 and self.name in SAMPLERS[2:]:
            raise ValueError(f"{self.name} remembers its last step and cannot redo it; use ancestral or ddim")
        if alone and (self.name not in SAMPLERS[:2] or self.resamples > 1):
            raise ValueError(f"{alone} walks by ancestral or ddim without resampling, not by {self}")


ANCESTRAL = Sampler()


def _noise(
    keys: jax.Array, stream: int, i: jax.Array, t: jax.Array, shape: tuple[int, ...], draw: noise.Draw = noise.gaussian
) -> jax.Array:
    """Noise (b, *shape), each film from its own key, so that batching does not change a sample."""

    def one(key: jax.Array, i: jax.Array, t: jax.Array) -> jax.Array:
        return draw(jax.random.fold_in(jax.random.fold_in(key, stream), i), t, shape)

    return jax.vmap(one)(keys, i, t)


def start_noise(keys: jax.Array, lam: jax.Array, shape: tuple[int, ...], draw: noise.Draw) -> jax.Array:
    """The noise (b, *shape) that films go to distance `lam` (b,) by."""
    return _noise(keys, _START, jnp.zeros_like(lam), lam, shape, draw)


def distances(schedule: diffusion.Schedule, lam: jax.Array | int, b: int) -> jax.Array:
    """Distances (b,) int32. Raises ValueError where one, not traced, is none of the schedule's."""
    if not isinstance(lam, jax.core.Tracer):
        low, high = np.asarray(lam).min(), np.asarray(lam).max()
        if low < 0 or high > schedule.num_steps:
            raise ValueError(f"lambda of {low} to {high}: expected 0 ... {schedule.num_steps}, as the schedule's")
    return jnp.broadcast_to(jnp.asarray(lam, jnp.int32), (b,))


def strength(mask: jax.Array, lam: jax.Array | int) -> jax.Array:
    """tau(p) = round(lambda M(p)), how many of the last steps are left to the model at each pixel."""
    lam = jnp.asarray(lam, mask.dtype)
    return jnp.round(mask * (lam if lam.ndim == 0 else lam[:, None, None, None]))


def sample(
    epsilon: Epsilon,
    schedule: diffusion.Schedule,
    x0: jax.Array,
    mask: jax.Array,
    lam: jax.Array | int,
    keys: jax.Array,
    *,
    sampler: Sampler = ANCESTRAL,
    scales: jax.Array | bool = False,
    gates: jax.Array | bool = False,
    remask: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    every: int = 0,
    start: jax.Array | None = None,
    merge: Merge | None = None,
    pull: Pull | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Films to distance `lam` and back, in the model's own space: films in [-1, 1], or latents of unit variance.

    Args:
      epsilon: the trained network.
      schedule: of its noise.
      x0: (b, h, w, c) in the model's units.
      mask: (b, h, w, 1) in [0, 1], read where it scales or gates.
      lam: () or (b,) int, 0 ... T; traced.
      keys: (b,) PRNG keys, one a film.
      sampler: see `Sampler`.
      scales: () or (b, 1, 1, 1) bool, every noise term is multiplied by the mask.
      gates: likewise, a pixel is the model's from its `strength` down and a fresh draw of q(x_t | x_0) above it.
      remask: `(estimated film (b, h, w, c), mask) -> mask`, asked anew at every `every`-th used time.
      every: 0 keeps the mask.
      start: x at `lam` (b, h, w, c); None draws q(x_lam | x_0).
      merge: what becomes of each new x, see `Merge`.
      pull: a gradient that each step goes against, see `Pull`.

    Returns:
      x (b, h, w, c), where the model had a part in it (b, h, w, 1) bool, and the last mask (b, h, w, 1).

    Raises:
      ValueError: a lambda, not traced, that the schedule has not, or an unknown sampler.
    """
    sampler.check()
    b, shape = x0.shape[0], x0.shape[1:]
    lam = distances(schedule, lam, b)
    n = diffusion.num_evaluations(lam, sampler.stride).astype(jnp.int32)  # (b,)
    history = sampler.name in SAMPLERS[2:]
    used = partial(diffusion.used_time, spacing=sampler.spacing)

    def draw(stream: int, i: jax.Array, t: jax.Array) -> jax.Array:
        return _noise(keys, stream, i, t, shape, sampler.noise)

    def step(x: jax.Array, mask: jax.Array, last: tuple[jax.Array, jax.Array], i: jax.Array, at: jax.Array) -> tuple:
        """x at the i-th used time -> x at the one before, the estimated film, and where the model made it."""
        t, s = used(lam, i, n), used(lam, i - 1, n)
        m = jnp.where(scales, mask, 1.0)
        predicted = m * epsilon(x, jnp.maximum(t - 1, 0))
        estimate = diffusion.to_x0(schedule, x, t, predicted, sampler.clip)
        if pull is not None:
            predicted += m * diffusion.sigma(schedule, t, x) * pull(estimate, x, t)
            estimate = diffusion.to_x0(schedule, x, t, predicted, sampler.clip)
        new = back(x, estimate, last, t, s, m * draw(_GENERATED, at, s), i == n)
        known = diffusion.q_sample(schedule, x0, s, draw(_KNOWN, at, s))
        new = new if merge is None else merge(new, estimate, known, t, s)
        mine = jnp.logical_not(gates) | (t[:, None, None, None] <= strength(mask, lam))  # (b, h, w, 1)
        return jnp.where(mine, new, known), estimate, jnp.where(scales, m > 0, mine)

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
                m = jnp.where(scales, mask, 1.0)
                again = keep * new + jnp.sqrt(1 - keep**2) * m * draw(_AGAIN, at, t)
                x = jnp.where(going, again, x)
        if remask is not None and every:
            due = (j + 1) % every == 0
            mask = jax.lax.cond(due, lambda: jnp.where(going, remask(estimate, mask), mask), lambda: mask)
        last = (estimate, used(lam, i, n)) if history else last
        return jnp.where(going, new, x), mask, last, jnp.where(going, mine, touched)

    start_mask = jnp.where(scales, mask, 1.0)
    x = start
    if x is None:
        x = diffusion.q_sample(schedule, x0, lam, start_mask * start_noise(keys, lam, shape, sampler.noise))
    last = (jnp.zeros_like(x0), lam) if history else (jnp.zeros(()), jnp.zeros((), jnp.int32))
    touched = jnp.zeros((b, *shape[:2], 1), bool)
    x, mask, _, touched = jax.lax.fori_loop(0, n.max(), walk, (x, mask, last, touched))
    return x, touched, mask


def sample_by_pixel(
    epsilon: Epsilon, schedule: diffusion.Schedule, x0: jax.Array, mask: jax.Array, lam: jax.Array | int,
    keys: jax.Array, sampler: Sampler,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """As `sample`, but every pixel goes to its own tau(p) and back, all of them arriving together."""
    b, shape = x0.shape[0], x0.shape[1:]
    lam = distances(schedule, lam, b)
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

    x = diffusion.q_sample(schedule, x0, tau, start_noise(keys, lam, shape, sampler.noise))
    return jax.lax.fori_loop(0, n.max(), walk, x), (tau > 0)[..., None], mask


def invert(
    epsilon: Epsilon, schedule: diffusion.Schedule, x0: jax.Array, lam: jax.Array, sampler: Sampler
) -> jax.Array:
    """The x at distance `lam` (b,) that DDIM without noise brings back to the film: its steps, run upward.

    The estimate is not clipped, or the way up would not be the way down. The network knows no time 0, and is asked for
    its first there.

    Source: Song et al. 2021, section 4.3.
    """
    n = diffusion.num_evaluations(lam, sampler.stride).astype(jnp.int32)

    def walk(i: jax.Array, x: jax.Array) -> jax.Array:
        j = jnp.minimum(i, n - 1)  # a film that has arrived stays
        s, t = (diffusion.used_time(lam, at, n, sampler.spacing) for at in (j, j + 1))
        predicted = epsilon(x, jnp.maximum(s - 1, 0))
        estimate = diffusion.to_x0(schedule, x, s, predicted, None)
        return jnp.where((i < n)[:, None, None, None], diffusion.q_sample(schedule, estimate, t, predicted), x)

    return jax.lax.fori_loop(0, n.max(), walk, x0)
