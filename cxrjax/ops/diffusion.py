"""Gaussian diffusion: schedules, forward process, posterior, ancestral and DDIM steps.

Times are *distances* t = 0 ... T: t = 0 is the film itself, and a network that was trained on indices 0 ... T-1 is
asked for index t - 1. A step goes from a used time t to the used time s < t before it, so that strided schedules need
no special case. The algebra knows nothing of networks.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Prediction = Literal["epsilon", "v"]
Variance = Literal["large", "small"]
Spacing = Literal["even", "quadratic"]


class Schedule(NamedTuple):
    """A noise schedule.

    Attributes:
      log_alpha_bar: (T + 1,) float32; entry t is log of the signal's share after t steps, entry 0 is 0. Logarithms keep
        1 - alpha_bar[t] / alpha_bar[s] exact for neighboring times, where the quotient itself would lose four digits.
    """

    log_alpha_bar: jax.Array

    @property
    def num_steps(self) -> int:
        return self.log_alpha_bar.shape[0] - 1


def _from_betas(betas: np.ndarray) -> Schedule:
    log_alpha_bar = np.concatenate([[0.0], np.cumsum(np.log1p(-betas))])  # float64
    return Schedule(jnp.asarray(log_alpha_bar, jnp.float32))


def linear(num_steps: int = 1000) -> Schedule:
    """The linear schedule, beta from 1e-4 to 2e-2 scaled by 1000 / T (Ho et al. 2020; Wyatt et al. 2022)."""
    scale = 1000 / num_steps
    return _from_betas(np.linspace(scale * 1e-4, min(scale * 2e-2, 0.999), num_steps, dtype=np.float64))


def scaled_linear(num_steps: int = 1000) -> Schedule:
    """The schedule of latent diffusion: sqrt(beta) evenly from beta = 0.0015 to 0.0205 (Pinaya et al. 2023)."""
    scale = 1000 / num_steps
    ends = np.sqrt(scale * 0.0015), np.sqrt(min(scale * 0.0205, 0.999))
    return _from_betas(np.linspace(*ends, num_steps, dtype=np.float64) ** 2)


def cosine(num_steps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """The cosine schedule (Nichol and Dhariwal 2021, eq. 17)."""
    at = np.cos((np.arange(num_steps + 1, dtype=np.float64) / num_steps + offset) / (1 + offset) * np.pi / 2) ** 2
    return _from_betas(np.minimum(1 - at[1:] / at[:-1], max_beta))


SCHEDULES = {"linear": linear, "scaled_linear": scaled_linear, "cosine": cosine}


def _like(value: jax.Array, x: jax.Array) -> jax.Array:
    """Appends axes to a scalar or (b,) value until it broadcasts over `x`."""
    value = jnp.asarray(value)
    return value if value.ndim == 0 else value.reshape(value.shape + (1,) * (x.ndim - value.ndim))


def signal(schedule: Schedule, t: jax.Array, x: jax.Array) -> jax.Array:
    """sqrt(alpha_bar_t), shaped to broadcast over `x`."""
    return _like(jnp.exp(0.5 * schedule.log_alpha_bar[t]), x)


def sigma(schedule: Schedule, t: jax.Array, x: jax.Array) -> jax.Array:
    """sqrt(1 - alpha_bar_t), shaped to broadcast over `x`."""
    return _like(jnp.sqrt(-jnp.expm1(schedule.log_alpha_bar[t])), x)


def q_sample(schedule: Schedule, x0: jax.Array, t: jax.Array, noise: jax.Array) -> jax.Array:
    """Draws x_t ~ q(x_t | x_0) (Ho et al. 2020, eq. 4).

    Args:
      x0: (b, h, w, c) in [-1, 1].
      t: () or (b,) int, a distance in 0 ... T; at 0 the film comes back.
      noise: like `x0`, standard normal.
    """
    return signal(schedule, t, x0) * x0 + sigma(schedule, t, x0) * noise


def to_epsilon(schedule: Schedule, x: jax.Array, t: jax.Array, output: jax.Array, prediction: Prediction) -> jax.Array:
    """Reads a network's output as noise; v is sqrt(ab) eps - sqrt(1 - ab) x0 (Salimans and Ho 2022, eq. 12)."""
    if prediction == "epsilon":
        return output
    return sigma(schedule, t, x) * x + signal(schedule, t, x) * output


def target(schedule: Schedule, x0: jax.Array, t: jax.Array, noise: jax.Array, prediction: Prediction) -> jax.Array:
    """What the network should answer at x_t: the noise, or v."""
    if prediction == "epsilon":
        return noise
    return signal(schedule, t, x0) * noise - sigma(schedule, t, x0) * x0


def to_x0(schedule: Schedule, x: jax.Array, t: jax.Array, epsilon: jax.Array, clip: float | None = 1.0) -> jax.Array:
    """The film that `epsilon` implies at x_t, clipped to [-clip, clip] unless `clip` is None."""
    x0 = (x - sigma(schedule, t, x) * epsilon) / signal(schedule, t, x)
    return x0 if clip is None else jnp.clip(x0, -clip, clip)


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0): its mean, its variance ("small") and the upper bound of the reverse variance ("large")."""

    mean: jax.Array
    small: jax.Array
    large: jax.Array


def posterior(schedule: Schedule, x0: jax.Array, x: jax.Array, t: jax.Array, s: jax.Array) -> Posterior:
    """The Gaussian q(x_s | x_t, x_0) for used times s < t (Ho et al. 2020, eqs. 6 and 7, with t - 1 replaced by s).

    At s = 0 the mean is `x0` and the small variance 0.
    """
    log_t, log_s = schedule.log_alpha_bar[t], schedule.log_alpha_bar[s]
    beta = -jnp.expm1(log_t - log_s)  # 1 - alpha_bar_t / alpha_bar_s
    noise_t, noise_s = -jnp.expm1(log_t), -jnp.expm1(log_s)
    of_x0 = jnp.exp(0.5 * log_s) * beta / noise_t
    of_x = jnp.exp(0.5 * (log_t - log_s)) * noise_s / noise_t
    mean = _like(of_x0, x) * x0 + _like(of_x, x) * x
    return Posterior(mean, _like(beta * noise_s / noise_t, x), _like(beta, x))


def ancestral_step(
    schedule: Schedule,
    x: jax.Array,
    x0: jax.Array,
    t: jax.Array,
    s: jax.Array,
    noise: jax.Array,
    variance: Variance = "large",
) -> jax.Array:
    """One reverse step x_t -> x_s given an estimate of the film; no noise on the last step, s = 0.

    `large` is the reference's choice for unit steps (Wyatt et al. 2022). With an exact denoiser of Gaussian films,
    strides of 25 leave about 0.7 of the variance under `small` and 1.04 of it under `large`.
    """
    post = posterior(schedule, x0, x, t, s)
    spread = jnp.sqrt(post.large if variance == "large" else post.small)
    return post.mean + _like(jnp.asarray(s > 0, x.dtype), x) * spread * noise


def ddim_step(
    schedule: Schedule,
    x: jax.Array,
    x0: jax.Array,
    t: jax.Array,
    s: jax.Array,
    noise: jax.Array,
    eta: float | jax.Array = 0.0,
) -> jax.Array:
    """One DDIM step x_t -> x_s (Song et al. 2021, eq. 12); eta = 1 is the ancestral step with the small variance."""
    sigma_t, sigma_s = sigma(schedule, t, x), sigma(schedule, s, x)
    epsilon = (x - signal(schedule, t, x) * x0) / sigma_t
    post = posterior(schedule, x0, x, t, s)
    spread = eta * jnp.sqrt(post.small)
    direction = jnp.sqrt(jnp.maximum(sigma_s**2 - spread**2, 0.0))
    return signal(schedule, s, x) * x0 + direction * epsilon + spread * noise


def num_evaluations(lam: jax.Array | int, stride: int | jax.Array) -> jax.Array:
    """How many network evaluations a walk from distance `lam` to 0 takes: ceil(lam / stride)."""
    return (jnp.asarray(lam) + stride - 1) // stride


def used_time(lam: jax.Array, i: jax.Array, n: jax.Array, spacing: Spacing = "even") -> jax.Array:
    """The i-th of the n + 1 used times 0 ... lam, rounded down.

    Args:
      lam: a distance; n: how many steps there are.
      i: 0 ... n.
      spacing: `even`, or `quadratic`, lam (i / n)^2 (Song et al. 2021, appendix D.2): the steps near the film, whose
        errors stay, become the short ones. Times are distinct where lam >= n.
    """
    n = jnp.maximum(n, 1)
    if spacing == "even":
        return (lam * i) // n
    return jnp.minimum(jnp.maximum(i, (lam * i // n) * i // n), lam)  # in this order int32 holds it
