from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.ops import diffusion

T = 1000
SCHEDULE = diffusion.linear(T)


def test_linear_schedule_has_the_published_values():
    alpha_bar = np.exp(np.asarray(SCHEDULE.log_alpha_bar, np.float64))
    at = [50, 100, 200, 250, 400, 500, 600, 800]
    np.testing.assert_allclose(
        alpha_bar[at], [0.9710, 0.8970, 0.6590, 0.5241, 0.1952, 0.0786, 0.0259, 0.0015], atol=6e-5
    )
    assert alpha_bar[0] == 1.0


@pytest.mark.parametrize("name", diffusion.SCHEDULES)
def test_every_table_entry_is_finite_and_decreasing(name):
    log = np.asarray(diffusion.SCHEDULES[name](T).log_alpha_bar)
    assert np.isfinite(log).all()
    assert (np.diff(log) < 0).all()


def test_q_sample_has_the_stated_mean_and_variance():
    x0 = jnp.full((20000, 1, 1, 1), 0.7)
    noise = jax.random.normal(jax.random.key(0), x0.shape)
    x = np.asarray(diffusion.q_sample(SCHEDULE, x0, jnp.int32(400), noise), np.float64)
    alpha_bar = np.exp(float(SCHEDULE.log_alpha_bar[400]))
    assert abs(x.mean() - np.sqrt(alpha_bar) * 0.7) < 4 * np.sqrt((1 - alpha_bar) / len(x))
    assert abs(x.var() / (1 - alpha_bar) - 1) < 0.05


def brute_force_posterior(t, s):
    """Multiplies the two Gaussians q(x_t | x_s) and q(x_s | x_0) in float64."""
    betas = np.linspace(1e-4, 2e-2, T)
    bar = np.concatenate([[1.0], np.cumprod(1 - betas)])
    a, beta = bar[t] / bar[s], 1 - bar[t] / bar[s]
    precision = a / beta + 1 / (1 - bar[s])
    return np.sqrt(a) / beta / precision, np.sqrt(bar[s]) / (1 - bar[s]) / precision, 1 / precision


@pytest.mark.parametrize(("t", "s"), [(2, 1), (500, 499), (T, T - 1), (600, 560), (T, 1)])
def test_posterior_is_the_product_of_its_gaussians_also_over_strides(t, s):
    of_x, of_x0, variance = brute_force_posterior(t, s)
    one = jnp.ones((1, 1, 1, 1))
    zero = jnp.zeros_like(one)
    post_x = diffusion.posterior(SCHEDULE, zero, one, jnp.int32(t), jnp.int32(s))
    post_x0 = diffusion.posterior(SCHEDULE, one, zero, jnp.int32(t), jnp.int32(s))
    np.testing.assert_allclose(post_x.mean.item(), of_x, rtol=2e-4)
    np.testing.assert_allclose(post_x0.mean.item(), of_x0, rtol=2e-3)
    np.testing.assert_allclose(np.asarray(post_x.small).item(), variance, rtol=2e-3)


@pytest.mark.parametrize("t", [1, 40, T])
def test_the_last_step_returns_the_estimate_without_noise(t):
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 1))
    x0 = jnp.clip(x * 0.3, -1, 1)
    noise = jax.random.normal(jax.random.key(1), x.shape)
    for variance in ("large", "small"):
        new = diffusion.ancestral_step(SCHEDULE, x, x0, jnp.int32(t), jnp.int32(0), noise, variance)
        np.testing.assert_allclose(new, x0, atol=1e-6)
    np.testing.assert_allclose(
        diffusion.ddim_step(SCHEDULE, x, x0, jnp.int32(t), jnp.int32(0), noise, 1.0), x0, atol=1e-6
    )


@pytest.mark.parametrize(("t", "s"), [(500, 499), (600, 560)])
def test_ddim_with_eta_one_is_the_ancestral_step(t, s):
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 1))
    x0, noise = jnp.clip(x, -1, 1), jax.random.normal(jax.random.key(1), x.shape)
    ddim = diffusion.ddim_step(SCHEDULE, x, x0, jnp.int32(t), jnp.int32(s), noise, eta=1.0)
    ancestral = diffusion.ancestral_step(SCHEDULE, x, x0, jnp.int32(t), jnp.int32(s), noise, "small")
    np.testing.assert_allclose(ddim, ancestral, atol=2e-4)


def test_ddim_with_a_perfect_estimate_stays_on_the_forward_path():
    x0 = jnp.clip(jax.random.normal(jax.random.key(0), (2, 4, 4, 1)), -1, 1)
    noise = jax.random.normal(jax.random.key(1), x0.shape)
    x = diffusion.q_sample(SCHEDULE, x0, jnp.int32(600), noise)
    for t, s in ((600, 450), (450, 200), (200, 10)):
        x = diffusion.ddim_step(SCHEDULE, x, x0, jnp.int32(t), jnp.int32(s), jnp.zeros_like(x))
        np.testing.assert_allclose(x, diffusion.q_sample(SCHEDULE, x0, jnp.int32(s), noise), atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_the_training_target_gives_back_noise_and_film(prediction):
    x0 = jnp.clip(jax.random.normal(jax.random.key(0), (3, 4, 4, 1)), -1, 1)
    noise = jax.random.normal(jax.random.key(1), x0.shape)
    t = jnp.asarray([1, 300, 700])
    x = diffusion.q_sample(SCHEDULE, x0, t, noise)
    output = diffusion.target(SCHEDULE, x0, t, noise, prediction)
    epsilon = diffusion.to_epsilon(SCHEDULE, x, t, output, prediction)
    np.testing.assert_allclose(epsilon, noise, atol=1e-4)
    np.testing.assert_allclose(diffusion.to_x0(SCHEDULE, x, t, epsilon), x0, atol=1e-3)


@pytest.mark.parametrize(("lam", "stride"), [(600, 40), (100, 40), (7, 40), (1000, 1), (0, 40), (399, 50)])
def test_used_times_run_from_zero_to_lambda_and_never_stand_still(lam, stride):
    n = int(diffusion.num_evaluations(lam, stride))
    times = [int(diffusion.used_time(jnp.int32(lam), jnp.int32(i), jnp.int32(n))) for i in range(n + 1)]
    assert times[0] == 0
    assert times[-1] == lam
    assert n == -(-lam // stride)
    assert (np.diff(times) > 0).all()
    assert max(np.diff(times), default=0) <= stride


@pytest.mark.parametrize("spacing", ["even", "quadratic"])
@pytest.mark.parametrize(("lam", "n"), [(1000, 1000), (1000, 50), (600, 7), (50, 50), (37, 5), (1, 1), (0, 0)])
def test_used_times_rise_from_the_film_to_lambda_one_after_the_other(lam, n, spacing):
    at = partial(diffusion.used_time, jnp.int32(lam), n=jnp.int32(n), spacing=spacing)
    times = np.asarray([int(at(jnp.int32(i))) for i in range(n + 1)])
    assert times[0] == 0
    assert times[-1] == lam
    assert (np.diff(times) > 0).all()
    if spacing == "quadratic" and n > 2 and lam > 10 * n:
        assert (np.diff(times)[1:] >= np.diff(times)[:-1] - 1).all()  # the steps next to the film are the shortest
        assert times[1] < lam / n
