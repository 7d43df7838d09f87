"""Second-order solvers against closed forms: the denoiser and the probability flow of a Gaussian prior are known."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.ops import diffusion, solvers

T = 1000
SCHEDULES = {name: make(T) for name, make in diffusion.SCHEDULES.items()}
SHAPE = (4096, 2, 2, 1)
# The prior in its eigenbasis: four independent pixels, from nearly known to as wide as the noise.
MEAN = jnp.asarray([0.3, -0.4, 0.1, 0.0]).reshape(1, 2, 2, 1)
VARIANCE = jnp.asarray([0.01, 0.05, 0.25, 1.0]).reshape(1, 2, 2, 1)

schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
# Figures of accuracy depend on how near the film a schedule's first times are.
usual_schedules = pytest.mark.parametrize(
    "schedule", [SCHEDULES["linear"], SCHEDULES["cosine"]], ids=["linear", "cosine"]
)


def denoise(schedule, x, t):
    """E[x_0 | x_t] under the prior."""
    a, b = diffusion.signal(schedule, t, x), diffusion.sigma(schedule, t, x)
    return MEAN + a * VARIANCE / (a**2 * VARIANCE + b**2) * (x - a * MEAN)


def marginal(schedule, t):
    """Mean and standard deviation of x_t under the prior."""
    a, b = diffusion.signal(schedule, t, MEAN), diffusion.sigma(schedule, t, MEAN)
    return a * MEAN, jnp.sqrt(a**2 * VARIANCE + b**2)


@jax.jit
def flow(schedule, x, t, s):
    """Where the probability flow from x_t ends at s: the map of one marginal to the other."""
    (mean_t, spread_t), (mean_s, spread_s) = marginal(schedule, t), marginal(schedule, s)
    return mean_s + spread_s / spread_t * (x - mean_t)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@jax.jit
def start(schedule, t):
    mean, spread = marginal(schedule, t)
    return mean + spread * normal(*SHAPE)


@partial(jax.jit, static_argnames="solver")
def take(solver, schedule, x, x0, previous_x0, t, s, previous_t, first, noise):
    """One step by any of the solvers, the old ones included."""
    if solver == "ddim":
        return diffusion.ddim_step(schedule, x, x0, t, s, noise)
    if solver == "ancestral":
        return diffusion.ancestral_step(schedule, x, x0, t, s, noise, "small")
    if solver == "2m":
        return solvers.dpmpp_2m_step(schedule, x, x0, previous_x0, t, s, previous_t, first)
    return solvers.sde_dpmpp_2m_step(schedule, x, x0, previous_x0, t, s, previous_t, first, noise)


SOLVERS = ("ddim", "ancestral", "2m", "sde")


@partial(jax.jit, static_argnames="solver")
def _walk(solver, schedule, x, times, n, key):
    def body(i, carry):
        x, previous_x0 = carry
        t, s, previous_t = times[i], times[i + 1], times[jnp.maximum(i - 1, 0)]
        x0 = denoise(schedule, x, t)
        noise = jax.random.normal(jax.random.fold_in(key, i), x.shape)
        return take(solver, schedule, x, x0, previous_x0, t, s, previous_t, i == 0, noise), x0

    return jax.lax.fori_loop(0, n, body, (x, jnp.zeros_like(x)))[0]


def walk(solver, schedule, x, times):
    """Through the used times, largest first, with the exact denoiser; compiled once for walks of any length."""
    padded = np.zeros(T + 1, np.int32)
    padded[: len(times)] = times
    return _walk(solver, schedule, x, padded, len(times) - 1, jax.random.key(1))


def error(solver, schedule, times):
    """RMS distance to the exact flow between the ends of `times`."""
    x = start(schedule, times[0])
    x_s = walk(solver, schedule, x, times)
    return float(np.sqrt(np.mean(np.square(np.asarray(x_s) - flow(schedule, x, times[0], times[-1])))))


def even(lam, n):
    return [lam * i // n for i in range(n, -1, -1)]


def quadratic(lam, n):
    return [max(i, lam * i * i // (n * n)) for i in range(n, -1, -1)]


@usual_schedules
def test_halving_the_stride_quarters_the_error_of_2m_and_halves_that_of_ddim(schedule):
    # To a time s > 0: the last step, which returns the posterior mean, is of first order in any solver.
    by_stride = [
        {solver: error(solver, schedule, list(range(640, 159, -stride))) for solver in ("2m", "ddim")}
        for stride in (80, 40, 20, 10)
    ]
    for coarse, fine in pairwise(by_stride):
        assert 3 < coarse["2m"] / fine["2m"] < 6
        assert 1.7 < coarse["ddim"] / fine["ddim"] < 2.3
    assert by_stride[-1]["2m"] < by_stride[-1]["ddim"] / 50


@usual_schedules
@pytest.mark.parametrize("n", [8, 16, 32])
def test_2m_beats_ddim_with_as_many_evaluations_down_to_the_film(schedule, n):
    for times in (even(600, n), quadratic(600, n)):
        assert error("2m", schedule, times) < 0.65 * error("ddim", schedule, times)
    # The last step is what is left: used times that crowd near the film make it small.
    assert error("2m", schedule, quadratic(600, n)) < 0.5 * error("2m", schedule, even(600, n))


@usual_schedules
def test_on_quadratic_times_2m_is_of_second_order_down_to_the_film(schedule):
    assert error("2m", schedule, quadratic(600, 16)) > 3 * error("2m", schedule, quadratic(600, 32))


@schedules
def test_the_first_step_is_ddim(schedule):
    t = np.asarray([1000, 999, 600, 600, 40, 3, 2])
    s = np.asarray([500, 998, 599, 200, 1, 2, 1])
    x, x0, junk = normal(3, 7, 4, 4, 1)
    ddim = take("ddim", schedule, x, x0, junk, t, s, t, True, junk)
    step = partial(take, "2m", schedule, noise=None)
    np.testing.assert_allclose(step(x, x0, junk, t, s, t, True), ddim, atol=1e-6)
    # Each film may be at its own time, and only some at their first step.
    first = np.arange(7) < 3
    mixed = step(x, x0, junk, t, s, np.minimum(t + 5, T), first)
    np.testing.assert_allclose(mixed[:3], ddim[:3], atol=1e-6)
    for i in range(3, 7):
        alone = step(x[i : i + 1], x0[i : i + 1], junk[i : i + 1], t[i], s[i], np.minimum(t[i] + 5, T), first[i])
        np.testing.assert_allclose(mixed[i : i + 1], alone, atol=1e-5)
        assert np.abs(mixed[i] - ddim[i]).max() > 1e-3


@schedules
def test_a_first_stochastic_step_is_ancestral_and_without_noise_it_is_2m(schedule):
    t, s, previous_t = np.asarray([[1000, 600, 40], [960, 560, 1], [1000, 640, 90]])
    x, x0, before, noise = normal(4, 3, 4, 4, 1)
    args = (schedule, x, x0, before, t, s, previous_t)
    first = take("sde", *args, True, noise)
    np.testing.assert_allclose(first, take("ancestral", *args, True, noise), atol=2e-5)
    later = np.asarray([True, False, False])
    quiet = jax.jit(partial(solvers.sde_dpmpp_2m_step, eta=0.0))(*args, later, noise)
    np.testing.assert_allclose(quiet, take("2m", *args, later, noise), atol=1e-6)


def textbook(log_alpha_bar, x, x0, previous_x0, t, s, previous_t, first):
    """Algorithm 2 of Lu et al. 2022 in float64; also the size of its largest term."""
    log = np.asarray(log_alpha_bar, np.float64)
    alpha, sigma = np.exp(log / 2), np.sqrt(-np.expm1(log))
    half_log_snr = log / 2 - np.log(sigma, where=sigma > 0, out=np.full_like(log, -np.inf))
    h, previous_h = half_log_snr[s] - half_log_snr[t], half_log_snr[t] - half_log_snr[previous_t]
    slope = np.where(first, 0.0, h / (2 * np.where(first, 1.0, previous_h)))  # 1 / (2 r)
    d = (1 + slope) * x0 - slope * previous_x0
    return sigma[s] / sigma[t] * x - alpha[s] * (np.exp(-h) - 1) * d, 1 + slope


@schedules
@pytest.mark.parametrize("before", ["the same stride", "one step"])
def test_every_pair_of_used_times_is_finite_and_agrees_with_the_textbook(schedule, before):
    # All strides 1 ... 999 from everywhere to everywhere.
    t, s = (np.asarray(index, np.int32) for index in np.tril_indices(T + 1, -1))
    keep = s > 0  # the last step is below
    t, s = t[keep], s[keep]
    previous_t = np.minimum(2 * t - s if before == "the same stride" else t + 1, T)
    first = t == T
    x, x0, previous_x0 = np.random.default_rng(0).uniform(-1, 1, (3, len(t))).astype(np.float32)
    films = (v.reshape(-1, 1, 1, 1) for v in (x, x0, previous_x0))
    got = np.asarray(take("2m", schedule, *films, t, s, previous_t, first, None)).ravel()
    want, scale = textbook(schedule.log_alpha_bar, x, x0, previous_x0, t, s, previous_t, first)
    assert len(t) == T * (T - 1) // 2
    assert np.isfinite(got).all()
    assert (np.abs(got - want) / scale).max() < 2e-6


@schedules
@pytest.mark.parametrize("solver", ["2m", "sde"])
def test_the_last_step_returns_the_estimate_and_has_a_finite_gradient(schedule, solver):
    t = np.arange(1, T + 1)
    x, x0, junk, noise = normal(4, T, 1, 1, 1)

    def last(x, x0):
        return take(solver, schedule, x, x0, junk, t, 0, np.minimum(t + 1, T), t == T, noise)

    new, pull = jax.vjp(last, x, x0)
    of_x, of_x0 = pull(np.ones_like(x))
    assert np.array_equal(new, x0)
    assert np.array_equal(of_x, np.zeros_like(x))
    assert np.array_equal(of_x0, np.ones_like(x))


@usual_schedules
def test_the_stochastic_solver_samples_the_prior_with_less_bias_than_ancestral_steps(schedule):
    n = SHAPE[0]
    prior = np.asarray(VARIANCE[0])

    def excess(solver, steps):
        """Relative error of the samples' variance; their mean is right at any number of steps."""
        films = np.asarray(walk(solver, schedule, start(schedule, T), quadratic(T, steps)))
        assert (np.abs(films.mean(axis=0) - np.asarray(MEAN[0])) < 4 * np.sqrt(prior / n)).all()
        return films.var(axis=0) / prior - 1

    assert (np.abs(excess("sde", 160)) < 4 * np.sqrt(2 / n)).all()
    assert np.abs(excess("sde", 40)).mean() < 0.5 * np.abs(excess("ancestral", 40)).mean()


# What broke other libraries.


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_cosine_schedule_with_alpha_bar_0_of_1_gives_no_nan(solver):
    # MONAI #8427: alphas_cumprod[0] == 1 made every film NaN.
    schedule = SCHEDULES["cosine"]
    assert np.exp(schedule.log_alpha_bar)[0] == 1
    for n in (1, 50, 250):
        films = walk(solver, schedule, start(schedule, T), even(T, n))
        assert np.isfinite(np.asarray(films)).all()
        assert np.abs(films).max() < 6


@schedules
@pytest.mark.parametrize("solver", SOLVERS)
def test_fewer_steps_than_in_training_go_to_the_used_time_before_and_not_to_t_minus_1(schedule, solver):
    # diffusers #2076: variances of t - 1 in a walk of 100 steps left films of noise. With the film known, a step must
    # lead from q(x_t | x_0) to q(x_s | x_0): signal and noise variance are read off the step's three coefficients.
    for t, s, previous_t in ((1000, 900, 1000), (900, 800, 1000), (600, 590, 610), (100, 50, 150), (20, 10, 30)):
        x, x0, noise = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1, 1)
        new = take(solver, schedule, x, x0, x0, t, s, previous_t, t == previous_t, noise)
        of_x, of_x0, of_noise = np.asarray(new, np.float64).ravel()
        alpha = np.exp(np.asarray(schedule.log_alpha_bar, np.float64) / 2)
        signal, variance = of_x * alpha[t] + of_x0, of_x**2 * (1 - alpha[t] ** 2) + of_noise**2
        assert signal == pytest.approx(alpha[s], abs=1e-5)
        assert variance == pytest.approx(1 - alpha[s] ** 2, abs=1e-5)
        assert signal**2 / variance > 1.05 * alpha[t - 1] ** 2 / (1 - alpha[t - 1] ** 2)
        assert (of_noise > 0.01) == (solver in ("ancestral", "sde"))
