"""Partial diffusion of a patient's film, mostly where a mask lights up: one sampler, four modes (ETRI deck, part 3).

With tau(p) = round(lambda M(p)) the per-pixel strength, and lambda the "treatment period":

* `uniform`: AnoDDPM, the whole film goes to x_lambda and back (Wyatt et al. 2022).
* `noise_matrix`: every noise term is multiplied by M, the deck's literal wording. Where M = 0 the film returns.
* `time_gated`: the whole film sits at one noise level at every step; a pixel is the model's from its tau(p) down and a
  fresh draw of q(x_t | x_0) above it, so that the network only sees what it was trained on.
* `mask_blend`: `uniform`, then pasted into the film through M; an ablation with visible seams.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from cxrjax.ops import diffusion

Mode = Literal["uniform", "noise_matrix", "time_gated", "mask_blend"]
MODES: tuple[str, ...] = get_args(Mode)

# Streams of randomness per film: shared by every mode, so that modes differ by their algebra alone.
_START, _GENERATED, _KNOWN, _AGAIN = range(4)


def _noise(keys: jax.Array, stream: int, i: jax.Array | int, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal (b, *shape), each film from its own key, so that batching does not change a sample."""

    def one(key: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, stream), i), shape)

    return jax.vmap(one)(keys)


def strength(mask: jax.Array, lam: jax.Array | int) -> jax.Array:
    """tau(p) = round(lambda M(p)), how many of the last steps are left to the model at each pixel."""
    return jnp.round(mask * jnp.asarray(lam, mask.dtype))


def blend(image: jax.Array, generated: jax.Array, mask: jax.Array) -> jax.Array:
    """M generated + (1 - M) image; exact where M is 0 or 1."""
    return jnp.where(mask <= 0, image, jnp.where(mask >= 1, generated, mask * generated + (1 - mask) * image))


def treat(
    epsilon: Callable[[jax.Array, jax.Array], jax.Array],
    schedule: diffusion.Schedule,
    image: jax.Array,
    mask: jax.Array,
    lam: jax.Array | int,
    keys: jax.Array,
    *,
    mode: Mode = "time_gated",
    stride: int = 1,
    sampler: Literal["ancestral", "ddim"] = "ancestral",
    variance: diffusion.Variance = "large",
    eta: float = 0.0,
    clip: float | None = 1.0,
    resamples: int = 1,
) -> jax.Array:
    """Diffuses films to distance `lam` under a mask and denoises them back.

    Args:
      epsilon: `(x (b, h, w, 1) in [-1, 1], index (b,) int32 in 0 ... T-1) -> predicted noise`, the trained network.
      image: (b, h, w, 1) float32 in [0, 1].
      mask: (b, h, w, 1) in [0, 1]; ignored by `uniform`.
      lam: () int, 0 ... T; traced, so that a sweep compiles once. At 0 the film returns bit for bit.
      keys: (b,) PRNG keys, one a film.
      mode: see the module.
      stride: distance between used times; the walk takes ceil(lam / stride) network evaluations (times `resamples`).
      sampler: `ancestral` with `variance`, or `ddim` with `eta`.
      clip: bound of the estimated film in [-1, 1] units; None leaves it free.
      resamples: RePaint jumps (Lugmayr et al. 2022): each step is redone this often; 1 is off.

    Returns:
      (b, h, w, 1) float32 in [0, 1]; where `time_gated` has tau = 0, or M = 0 in the masked modes, the input's bits.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is none of {', '.join(MODES)}")
    if mode == "mask_blend":
        options = {"stride": stride, "sampler": sampler, "variance": variance, "eta": eta, "clip": clip}
        generated = treat(
            epsilon,
            schedule,
            image,
            mask,
            lam,
            keys,
            mode="uniform",
            resamples=resamples,
            **options,  # type: ignore[arg-type]
        )
        return blend(image, generated, mask)

    lam = jnp.asarray(lam, jnp.int32)
    shape = image.shape[1:]
    x0 = 2.0 * image - 1.0
    m = mask if mode == "noise_matrix" else jnp.ones_like(mask)
    tau = strength(mask, lam)
    n = diffusion.num_evaluations(lam, stride)

    def step(x: jax.Array, i: jax.Array, draw: jax.Array) -> jax.Array:
        """x at the i-th used time -> x at the one before."""
        t, s = diffusion.used_time(lam, i, n), diffusion.used_time(lam, i - 1, n)
        predicted = m * epsilon(x, jnp.full(x.shape[:1], t - 1, jnp.int32))
        estimate = diffusion.to_x0(schedule, x, t, predicted, clip)
        noise = m * _noise(keys, _GENERATED, draw, shape)
        if sampler == "ddim":
            new = diffusion.ddim_step(schedule, x, estimate, t, s, noise, eta)
        else:
            new = diffusion.ancestral_step(schedule, x, estimate, t, s, noise, variance)
        if mode == "time_gated":
            known = diffusion.q_sample(schedule, x0, s, _noise(keys, _KNOWN, draw, shape))
            new = jnp.where(t <= tau, new, known)
        return new

    def walk(j: jax.Array, x: jax.Array) -> jax.Array:
        i = n - j  # n ... 1
        for r in range(resamples):
            draw = i * resamples + r
            new = step(x, i, draw)
            if r < resamples - 1:  # back up to t and once more
                t, s = diffusion.used_time(lam, i, n), diffusion.used_time(lam, i - 1, n)
                keep = jnp.exp(0.5 * (schedule.log_alpha_bar[t] - schedule.log_alpha_bar[s]))
                x = keep * new + jnp.sqrt(1 - keep**2) * m * _noise(keys, _AGAIN, draw, shape)
        return new

    start = diffusion.q_sample(schedule, x0, lam, m * _noise(keys, _START, 0, shape))
    treated = (jax.lax.fori_loop(0, n, walk, start) + 1.0) / 2.0
    # Going to [-1, 1] and back rounds; what was not touched must come back bit for bit.
    touched = (n > 0) & ((tau > 0) if mode == "time_gated" else (m > 0))
    return jnp.where(touched, jnp.clip(treated, 0.0, 1.0), image)
