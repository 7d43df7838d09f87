"""Second-order reverse steps: DPM-Solver++(2M) and its stochastic form (Lu et al. 2022, "DPM-Solver++").

Times are distances as in `diffusion`: t = 0 is the film, and a step goes from a used time t to the used time s < t.
With alpha = sqrt(alpha_bar), sigma = sqrt(1 - alpha_bar) and lambda = log(alpha / sigma), both steps hold the estimate
of the film linear in lambda, from this network evaluation and the one before; they cost no more than `ddim_step`.
The last step, to the film, returns the estimate as any solver does: its error falls with the last used time alone.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from cxrjax.ops import diffusion


def log_snr_gain(schedule: diffusion.Schedule, t: jax.Array, s: jax.Array) -> jax.Array:
    """h = lambda_s - lambda_t, how much half the log signal-to-noise ratio grows from t down to s.

    lambda_t = log(alpha_t / sigma_t) by itself is read off to about 1e-6, which neighboring times would not survive:
    sigma_t^2 / sigma_s^2 - 1 = (alpha_s^2 - alpha_t^2) / sigma_s^2 is taken from the difference of the logarithms.

    Args:
      t: int of any shape, 1 ... T.
      s: int, 0 <= s <= t; at 0 the answer is +inf.
    """
    log_t, log_s = schedule.log_alpha_bar[t], schedule.log_alpha_bar[s]
    lost = -jnp.exp(log_s) * jnp.expm1(log_t - log_s)  # alpha_s^2 - alpha_t^2
    return 0.5 * (log_s - log_t + jnp.log1p(lost / -jnp.expm1(log_s)))


def dpmpp_2m_step(
    schedule: diffusion.Schedule,
    x: jax.Array,
    x0: jax.Array,
    previous_x0: jax.Array,
    t: jax.Array,
    s: jax.Array,
    previous_t: jax.Array,
    first: jax.Array,
) -> jax.Array:
    """One DPM-Solver++(2M) step x_t -> x_s (Lu et al. 2022, algorithm 2): deterministic, of second order.

    x_s = sigma_s / sigma_t x - alpha_s (e^-h - 1) D, D = x0 + h / (2 h_previous) (x0 - previous_x0). Where there is no
    step before, D = x0 and this is DDIM; the last step, where h is infinite, is x0 itself.

    Args:
      x: (b, h, w, c), the film at t.
      x0: like `x`, the film as estimated at t.
      previous_x0: like `x`, the film as estimated at the used time before; where `first`, anything finite.
      t: () or (b,) int, 1 ... T; may be traced, like the next three.
      s: () or (b,) int, 0 <= s < t; at 0 the answer is `x0`, bit for bit.
      previous_t: () or (b,) int, the used time before, t < previous_t <= T; where `first`, anything in 1 ... T.
      first: () or (b,) bool, no step was taken before this one, or x was noised anew since (a RePaint jump).

    Returns:
      (b, h, w, c).
    """
    return _step(schedule, x, x0, previous_x0, t, s, previous_t, first, None, 0.0)


def sde_dpmpp_2m_step(
    schedule: diffusion.Schedule,
    x: jax.Array,
    x0: jax.Array,
    previous_x0: jax.Array,
    t: jax.Array,
    s: jax.Array,
    previous_t: jax.Array,
    first: jax.Array,
    noise: jax.Array,
    eta: float = 1.0,
) -> jax.Array:
    """One SDE-DPM-Solver++(2M) step x_t -> x_s in its midpoint form: fresh noise at every step but the last.

    x_s = sigma_s / sigma_t e^(-eta h) x + alpha_s (1 - e^(-(1 + eta) h)) D + sigma_s sqrt(1 - e^(-2 eta h)) noise with
    D as in `dpmpp_2m_step`. A `first` step at eta = 1 is `ancestral_step` with the small variance.

    Args:
      noise: like `x`, standard normal; the other arguments as in `dpmpp_2m_step`.
      eta: 0 is `dpmpp_2m_step`, 1 the reverse SDE (Lu et al. 2022); between them as k-diffusion's 2M SDE sampler.

    Returns:
      (b, h, w, c).
    """
    return _step(schedule, x, x0, previous_x0, t, s, previous_t, first, noise, eta)


def _step(
    schedule: diffusion.Schedule,
    x: jax.Array,
    x0: jax.Array,
    previous_x0: jax.Array,
    t: jax.Array,
    s: jax.Array,
    previous_t: jax.Array,
    first: jax.Array,
    noise: jax.Array | None,
    eta: float,
) -> jax.Array:
    t, s, previous_t, first = (_over(value, x) for value in (t, s, previous_t, first))
    last = s == 0
    # The last step and the first need no h and no h_previous: a finite stand-in keeps infinity and 0 / 0 out of the
    # gradient, which `where` alone would not.
    s = jnp.where(last, t, s)
    h = log_snr_gain(schedule, t, s)
    previous_h = jnp.where(first, 1.0, log_snr_gain(schedule, previous_t, t))
    estimate = x0 + jnp.where(first, 0.0, 0.5 * h / previous_h) * (x0 - previous_x0)  # D
    alpha_s, sigma_s = diffusion.signal(schedule, s, x), diffusion.sigma(schedule, s, x)
    keep = sigma_s / diffusion.sigma(schedule, t, x) * jnp.exp(-eta * h)
    new = keep * x - alpha_s * jnp.expm1(-(1 + eta) * h) * estimate
    if noise is not None:
        new += sigma_s * jnp.sqrt(-jnp.expm1(-2 * eta * h)) * noise
    return jnp.where(last, x0, new)


def _over(value: jax.Array, x: jax.Array) -> jax.Array:
    """A scalar or (b,) value as (1, 1, 1, 1) or (b, 1, 1, 1), so that it broadcasts over `x`."""
    value = jnp.asarray(value)
    return value.reshape((-1,) + (1,) * (x.ndim - 1))
