"""Masked partial diffusion where all is known: Gaussian films, their exact denoiser, conditional means by algebra.

Films are in the model's units, [-1, 1]. Every walk is affine in film and noise, so that the trace of a lesion, the
difference of two walks with the same keys, is free of noise.
"""

from functools import cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.ops import diffusion, guidance, sampling

T, STRIDE, BATCH, SIDE = 1000, 25, 256, 8
SCHEDULE = diffusion.linear(T)
ALPHA_BAR = np.exp(np.asarray(SCHEDULE.log_alpha_bar, np.float64))

# The prior N(MEAN, COV) of films of 8 x 8 pixels: smooth over 2 pixels, with some grain; 5 deviations fit in the range.
STD = 0.15
GRID = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), axis=-1).reshape(-1, 2)
DISTANCE2 = ((GRID[:, None] - GRID[None]) ** 2).sum(axis=-1)
COV = STD**2 * (np.exp(-DISTANCE2 / (2 * 2.0**2)) + 0.02 * np.eye(SIDE**2)) / 1.02
MEAN = 0.25 * np.cos(GRID[:, 0] / 3) * np.sin(GRID[:, 1] / 4)
VALUES, VECTORS = np.linalg.eigh(COV)

# A healthy film, a lesion in its middle, and the masks.
CENTER2 = ((GRID - 3.5) ** 2).sum(axis=-1)
INSIDE = (np.abs(GRID - 3.5) < 2).all(axis=-1)  # 4 x 4
HARD = INSIDE.astype(np.float64)
SOFT = np.clip(1 - (np.sqrt(CENTER2) - 1) / 3, 0, 1)  # above 0.6 inside, down to 0 in the corners
LESION = 1.5 * STD * np.exp(-CENTER2 / (2 * 1.2**2)) * INSIDE


def as_image(film):
    return np.float32((film + 1) / 2)


def exact(film):
    """Rounded so that it survives [0, 1] and float32."""
    return 2 * as_image(film).astype(np.float64) - 1


HEALTHY = exact(MEAN + np.linalg.cholesky(COV) @ np.random.default_rng(0).normal(size=SIDE**2))
ILL = exact(HEALTHY + LESION)

REGRESSION = COV[np.ix_(INSIDE, ~INSIDE)] @ np.linalg.inv(COV[np.ix_(~INSIDE, ~INSIDE)])
CONDITIONAL_MEAN = MEAN[INSIDE] + REGRESSION @ (HEALTHY - MEAN)[~INSIDE]  # E[inside | outside]
CONDITIONAL_VARIANCE = np.diag(COV[np.ix_(INSIDE, INSIDE)] - REGRESSION @ COV[np.ix_(~INSIDE, INSIDE)])


def epsilon(x, index):
    """The exact noise sqrt(1 - ab) (ab COV + (1 - ab) I)^-1 (x - sqrt(ab) MEAN), in the eigenbasis of COV."""
    log = SCHEDULE.log_alpha_bar[index + 1][:, None]
    vectors, values = jnp.asarray(VECTORS, jnp.float32), jnp.asarray(VALUES[None], jnp.float32)
    centered = x.reshape(-1, SIDE**2) - jnp.exp(0.5 * log) * jnp.asarray(MEAN[None], jnp.float32)
    noise = -jnp.expm1(log)
    return ((centered @ vectors) * jnp.sqrt(noise) / (jnp.exp(log) * values + noise) @ vectors.T).reshape(x.shape)


@cache
def program(sampler):
    """Compiled once a sampler: modes, masks and lambdas are data."""
    return jax.jit(
        lambda image, mask, lam, keys, mode: guidance.treat(
            epsilon, SCHEDULE, image, mask, lam, keys, mode=mode, sampler=sampler
        )
    )


def treat(mode, film, mask, lam, n=BATCH, **options):
    """n treatments (n, 64) of one film (64,) in [-1, 1], each with a key of its own."""
    run = program(sampling.Sampler(stride=STRIDE, clip=None, **{"variance": "small", **options}))
    image, mask = (np.broadcast_to(v.reshape(SIDE, SIDE, 1), (BATCH, SIDE, SIDE, 1)) for v in (as_image(film), mask))
    keys = jax.random.split(jax.random.key(0), n).reshape(-1, BATCH)
    lam, mode = np.full(BATCH, lam, np.int32), np.full(BATCH, guidance.code(mode), np.int32)
    parts = [run(image, np.float32(mask), lam, k, mode) for k in keys]
    return 2 * np.concatenate(parts).reshape(n, -1).astype(np.float64) - 1


def rms(x):
    return float(np.sqrt(np.mean(x**2)))


def outside(treated):
    """RMS change outside the lesion's square, in deviations of the prior."""
    return rms((treated - ILL)[:, ~INSIDE]) / STD


def residual(mode, mask, lam, **options):
    """The share of the lesion that is left, by projection: 1 untreated, 0 gone."""
    trace = treat(mode, ILL, mask, lam, **options) - treat(mode, HEALTHY, mask, lam, **options)
    return float((trace @ LESION).mean() / (LESION @ LESION))


def law(film, stride, lam=T, resamples=1):
    """Mean and variance, in the eigenbasis, of what a walk from lam with small variances makes of a film: float64.

    The used times are coarse, so this is the prior only in the limit of small strides.
    """
    times = range(lam, -1, -stride)
    shift, variance = np.sqrt(ALPHA_BAR[lam]) * (film - MEAN) @ VECTORS, np.full(SIDE**2, 1 - ALPHA_BAR[lam])
    for t, s in pairwise(times):
        keep, left = ALPHA_BAR[t] / ALPHA_BAR[s], (1 - ALPHA_BAR[s]) / (1 - ALPHA_BAR[t])
        gain = np.sqrt(ALPHA_BAR[t]) * VALUES / (ALPHA_BAR[t] * VALUES + 1 - ALPHA_BAR[t])  # E[x_0 | x_t]
        of_x = np.sqrt(keep) * left + np.sqrt(ALPHA_BAR[s]) * (1 - keep) / (1 - ALPHA_BAR[t]) * gain
        for r in range(resamples):
            shift, variance = of_x * shift, of_x**2 * variance + (1 - keep) * left
            if r < resamples - 1:
                shift, variance = np.sqrt(keep) * shift, keep * variance + 1 - keep
    return MEAN @ VECTORS + shift, variance


def pixels(variance):
    """The diagonal of the covariance with these variances in the eigenbasis, relative to the prior's."""
    return VECTORS**2 @ variance / np.diag(COV)


def test_the_law_of_a_walk_tends_to_the_prior_with_the_stride():
    errors = [np.abs(pixels(law(ILL, stride)[1]) - 1).max() for stride in (25, 10, 5, 1)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05
    np.testing.assert_allclose(law(ILL, 1)[0], MEAN @ VECTORS, atol=0.01 * STD)


@pytest.mark.parametrize(
    ("lam", "options"),
    [(T, {}), (100, {}), (T, {"resamples": 5}), pytest.param(T, {"name": "ddim", "eta": 1.0}, marks=pytest.mark.slow)],
    ids=["all the way", "part of the way", "with jumps", "ddim, eta 1"],
)
def test_uniform_has_the_law_of_its_walk_which_from_t_is_the_prior_as_far_as_the_stride_allows(lam, options):
    jumps = options.get("resamples", 1)
    n = BATCH * (12 if jumps == 1 else 4)
    modes = treat("uniform", ILL, HARD, lam, n, **options) @ VECTORS
    mean, variance = law(ILL, STRIDE, lam, jumps)
    assert (np.abs(modes.mean(axis=0) - mean) < 4.5 * np.sqrt(variance / n)).all()
    assert (np.abs(modes.var(axis=0) / variance - 1) < 4.5 * np.sqrt(2 / n)).all()
    # No two modes, and so no two pixels, are more related than chance makes them.
    correlation = np.corrcoef(modes, rowvar=False) - np.eye(SIDE**2)
    assert np.abs(correlation).max() < 5 / np.sqrt(n)
    assert (np.abs(modes @ VECTORS.T) < 1).all()  # the final clip has never cut


def condition(lam, resamples):
    """RMS distance of the treated inside's mean from E[inside | outside] in deviations of the prior; and the ratio of
    its variance to the conditional one."""
    inside = treat("time_gated", ILL, HARD, lam, resamples=resamples)[:, INSIDE]
    return rms(inside.mean(axis=0) - CONDITIONAL_MEAN) / STD, float(np.mean(inside.var(axis=0) / CONDITIONAL_VARIANCE))


def test_time_gated_tends_to_the_conditional_law_with_lambda_and_with_resampling():
    once = [condition(lam, 1) for lam in (25, 100, T)]
    often = [condition(lam, 5) for lam in (25, 100, T)]
    # In deviations of the prior: 0.69, 0.53, 0.49 and 0.41, 0.19, 0.19; the film itself is at 0.78.
    for by_lambda in (once, often):
        assert by_lambda[0][0] > 1.2 * by_lambda[1][0]
        assert by_lambda[2][0] < by_lambda[1][0] + 0.01
    assert rms((ILL[INSIDE] - CONDITIONAL_MEAN) / STD) > once[0][0]
    for single, repeated in zip(once, often, strict=True):
        assert repeated[0] < 0.65 * single[0]
    assert often[-1][0] < 0.22
    # The spread, too: 3.2 times the conditional variance without resampling, 1.8 with it.
    assert 1 < often[-1][1] < 2.1 < 2.7 < once[-1][1]


@pytest.mark.parametrize("lam", [200, 600])
def test_binary_masks_keep_the_outside_and_remove_the_lesion_as_uniform_cannot(lam):
    uniform = treat("uniform", ILL, HARD, lam)
    left = {200: 0.3, 600: 0.01}[lam]
    assert outside(uniform) > 1  # as far off as another film of the prior nearly is, sqrt(2)
    for mode in ("noise_matrix", "time_gated"):
        treated = treat(mode, ILL, HARD, lam)
        assert np.array_equal(treated[:, ~INSIDE], np.broadcast_to(ILL, treated.shape)[:, ~INSIDE])
        assert rms(treated[:, INSIDE] - ILL[INSIDE]) > 0.5 * STD
        assert 0 < residual(mode, HARD, lam) < residual("uniform", HARD, lam) < left


def test_a_soft_mask_lies_between_a_binary_one_and_uniform():
    for lam in (200, 600):
        assert 0.2 < outside(treat("time_gated", ILL, SOFT, lam)) < 0.6 * outside(treat("uniform", ILL, SOFT, lam))
        assert residual("time_gated", HARD, lam) < residual("time_gated", SOFT, lam) < 0.3
    assert 0.4 < outside(treat("noise_matrix", ILL, SOFT, 200)) < outside(treat("uniform", ILL, SOFT, 200))
    assert residual("noise_matrix", HARD, 200) < residual("noise_matrix", SOFT, 200) < 0.3


def test_a_soft_noise_matrix_over_a_long_walk_leaves_the_films_the_denoiser_knows():
    # Half the noise is not what the denoiser was told of, and 1 / sqrt(alpha_bar) magnifies what it then leaves: worse
    # outside than no mask at all. `time_gated` has one noise level everywhere, for this reason.
    treated = {mode: treat(mode, ILL, SOFT, 600) for mode in ("uniform", "noise_matrix", "time_gated")}
    assert outside(treated["noise_matrix"]) > 1.5 * outside(treated["uniform"])
    assert outside(treated["time_gated"]) < 0.6 * outside(treated["uniform"])


@jax.jit
def half_version(film, mask, lam):
    """What `treat` must not be: the mask scales the noise on the way out only, and the way back is the usual one."""
    n = diffusion.num_evaluations(lam, STRIDE)
    film, mask = (jnp.broadcast_to(v.astype(jnp.float32)[None], (BATCH, SIDE**2)) for v in (film, mask))

    def back(j, x):
        t, s = diffusion.used_time(lam, n - j, n), diffusion.used_time(lam, n - j - 1, n)
        x0 = diffusion.to_x0(SCHEDULE, x, t, epsilon(x, jnp.full(BATCH, t - 1)), None)
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(1), j), x.shape)
        return diffusion.ancestral_step(SCHEDULE, x, x0, t, s, noise, "small")

    start = diffusion.q_sample(SCHEDULE, film, lam, mask * jax.random.normal(jax.random.key(0), film.shape))
    return jax.lax.fori_loop(0, n, back, start)


def test_a_mask_in_the_forward_step_alone_protects_nothing():
    lam = jnp.int32(600)
    uniform = outside(np.asarray(half_version(ILL, np.ones(SIDE**2), lam), np.float64))
    assert uniform == pytest.approx(outside(treat("uniform", ILL, HARD, 600)), rel=0.03)  # the same walk
    assert outside(np.asarray(half_version(ILL, HARD, lam), np.float64)) > 0.95 * uniform
    empty = np.asarray(half_version(ILL, np.zeros(SIDE**2), lam), np.float64)
    assert rms(empty - ILL) > STD  # not the film, although the mask asked for nothing
    for mode in ("noise_matrix", "time_gated"):
        assert np.array_equal(treat(mode, ILL, np.zeros(SIDE**2), 600), np.broadcast_to(ILL, (BATCH, SIDE**2)))
