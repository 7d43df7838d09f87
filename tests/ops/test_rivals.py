"""Each rival by the property that its paper gives it, with exact or toy networks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cxrjax.errors import UserError
from cxrjax.ops import classical, diffusion, guidance, rivals, sampling

SCHEDULE = diffusion.linear(1000)
SHAPE = (2, 8, 8, 1)
KEYS = jax.random.split(jax.random.key(7), 2)
IMAGE = jax.random.uniform(jax.random.key(1), SHAPE, minval=0.2, maxval=0.8)
X0 = 2 * IMAGE - 1
MASK = jnp.zeros(SHAPE).at[:, 2:5, 2:6].set(1.0)
LAM = jnp.array([400, 200], jnp.int32)
SAMPLER = sampling.Sampler(stride=50, variance="small")
SPREAD, MEAN = 0.4, -0.1  # of the pixels of Gaussian films
fast = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def gaussian(x, index):
    """The exact noise of films whose pixels are independent and Gaussian."""
    t = jnp.asarray(index) + 1
    a, s = diffusion.signal(SCHEDULE, t, x), diffusion.sigma(SCHEDULE, t, x)
    return s * (x - a * MEAN) / (a**2 * SPREAD**2 + s**2)


def against(film):
    """A linear classifier's loss: it calls bright films diseased."""
    return film.mean(axis=(1, 2, 3))


def unlike(a, b):
    return jnp.abs(a - b)


def case(**changes):
    given = {"epsilon": gaussian, "schedule": SCHEDULE, "x0": X0, "mask": MASK, "lam": LAM, "keys": KEYS,
             "sampler": SAMPLER, "loss": against, "distance": unlike}  # fmt: skip
    return rivals.Case(**given | changes)


def test_inversion_follows_the_flow_of_gaussian_films_in_closed_form():
    """The probability flow keeps a pixel's distance from the mean in units of its spread (Song et al. 2021)."""
    lam = jnp.array([500, 300], jnp.int32)
    x = fast(lambda: sampling.invert(gaussian, SCHEDULE, X0, lam, sampling.Sampler(stride=2)))()
    a, s = diffusion.signal(SCHEDULE, lam, X0), diffusion.sigma(SCHEDULE, lam, X0)
    wide = jnp.sqrt(a**2 * SPREAD**2 + s**2)
    np.testing.assert_allclose(x, a * MEAN + wide / SPREAD * (X0 - MEAN), rtol=0.02, atol=0.005)


def test_dif_fuse_is_the_ddim_reconstruction_outside_the_mask_and_ddpm_inside():
    by_film = SAMPLER._replace(stride=jnp.array([50, 50]))  # as a sweep hands it over
    fused, start = fast(lambda: (rivals.dif_fuse(case(sampler=by_film)), case().inverted()))()
    ddim = SAMPLER._replace(name="ddim")
    alone, made = fast(lambda: [case().walk(start=start, sampler=ddim._replace(eta=eta)) for eta in (0.0, 1.0)])()
    inside = np.asarray(MASK) > 0
    np.testing.assert_allclose(np.asarray(fused)[~inside], np.asarray(alone)[~inside], atol=1e-6)
    # Pixels of this network know nothing of each other: inside is the ancestral walk of the small variance itself.
    np.testing.assert_allclose(np.asarray(fused)[inside], np.asarray(made)[inside], atol=1e-5)
    assert np.abs(np.asarray(fused - alone)[inside]).mean() > 0.05


def test_autoddpm_draws_again_what_is_anomalous_and_that_alone():
    # Everything that this network makes is the mean film, and one square of the film is far from it.
    film = jnp.full(SHAPE, MEAN).at[:, 3:5, 3:5].set(0.9)

    def point(x, index):
        t = index + 1
        return (x - diffusion.signal(SCHEDULE, t, x) * MEAN) / diffusion.sigma(SCHEDULE, t, x)

    def run(square, threshold):
        return rivals.autoddpm(case(epsilon=point, x0=film), threshold=threshold, dilation=square, resamples=2)

    treated, kept = fast(lambda: (run(3 / 8, 0.1), run(3 / 8, 9.0)))()
    grown = np.zeros(SHAPE, bool)
    grown[:, 2:6, 2:6] = True  # the square, grown by 3 pixels about each
    assert np.array_equal(np.asarray(treated)[~grown], np.asarray(film)[~grown])
    np.testing.assert_allclose(np.asarray(treated)[grown], MEAN, atol=0.02)
    assert np.array_equal(kept, film)  # nothing is above the threshold


def test_thor_blends_by_its_formula_and_renoises_by_the_noise_of_the_start():
    """One step from lambda to a blending time: what the network is asked about next is the formula's film."""
    asked = []

    def spy(x, index):
        jax.debug.callback(lambda x, i: asked.append((int(i[0]), np.asarray(x))), x, index)
        return gaussian(x, index)

    lam, side = jnp.array([100, 100], jnp.int32), SHAPE[2]
    one = case(epsilon=spy, lam=lam, sampler=SAMPLER._replace(variance="large"))
    out = rivals.thor(one, at=(0.5,), blur=0.0, window=3 / side)
    jax.block_until_ready(out)
    jax.effects_barrier()
    asked.sort(key=lambda row: -row[0])
    assert [index for index, _ in asked] == [99, 49]
    noise = sampling.start_noise(KEYS, lam, SHAPE[1:], SAMPLER.noise)
    x = diffusion.q_sample(SCHEDULE, X0, lam, noise)
    np.testing.assert_allclose(asked[0][1], x, atol=1e-6)
    estimate = np.clip(diffusion.to_x0(SCHEDULE, x, lam, gaussian(x, lam - 1)), -1, 1)
    found = np.clip(np.abs(estimate - X0), 0, 1) * np.abs(estimate - X0)
    found = found[..., 0] / found.max(axis=(1, 2, 3))[:, None, None]  # by each film's own largest value
    closed = [ndimage.grey_closing(one, (3, 3), mode="nearest") for one in found]
    grown = np.stack([ndimage.grey_dilation(one, (3, 3), mode="nearest") for one in closed])
    seen = np.clip((grown + found) / 2, 0, 1)[..., None]
    mixed = seen * estimate + (1 - seen) * np.asarray(X0)
    wanted = diffusion.q_sample(SCHEDULE, jnp.asarray(mixed), lam // 2, noise)
    np.testing.assert_allclose(asked[1][1], wanted, atol=1e-5)


def test_a_pull_lowers_the_loss_of_a_linear_classifier_and_moves_the_mean_by_beta():
    free, pulled = fast(lambda: [case(mask=MASK).walk(pull=pull) for pull in (
        None, lambda estimate, x, t: jnp.ones_like(x) * 0.05)])()  # fmt: skip
    assert (np.asarray(against(pulled)) < np.asarray(against(free))).all()
    # One unit step from t: the mean moves by minus beta_t / sqrt(alpha_t) times the gradient.
    t, s, x = jnp.int32(300), jnp.int32(299), X0
    beta = -jnp.expm1(SCHEDULE.log_alpha_bar[t] - SCHEDULE.log_alpha_bar[s])
    moved = []
    for gradient in (0.0, 2.0):
        noise = gaussian(x, t - 1) + diffusion.sigma(SCHEDULE, t, x) * gradient
        estimate = diffusion.to_x0(SCHEDULE, x, t, noise, None)
        moved.append(diffusion.posterior(SCHEDULE, estimate, x, t, s).mean)
    np.testing.assert_allclose(moved[1] - moved[0], jnp.full(SHAPE, -2 * beta / jnp.sqrt(1 - beta)), rtol=1e-2)


@pytest.mark.parametrize("mode", ["fastdime", "wolleb", "gated_pull", "banded"])
def test_a_pulled_mode_lowers_the_loss_whatever_its_batch(mode):
    own = guidance.MODES[mode].own
    assert own is not None

    def run(scale, rows=slice(None)):
        cut = {name: getattr(case(), name)[rows] for name in ("x0", "mask", "lam", "keys")}
        return own(case(**cut), scale=scale)

    off, on, alone = fast(lambda: (run(0.0), run(60.0), run(60.0, slice(1, 2))))()
    assert (np.asarray(against(on)) < np.asarray(against(off)) - 1e-3).all()
    np.testing.assert_allclose(alone[0], on[1], atol=1e-5)  # a loss averaged over the batch would halve the gradient


def test_banded_keeps_the_films_fine_waves_to_the_end_or_is_time_gated():
    everywhere = jnp.ones(SHAPE)
    fine, gated, whole = fast(lambda: (
        rivals.banded(case(mask=everywhere), keep=0.0, coarse=2.0), case(mask=everywhere).walk(gates=True),
        rivals.banded(case(mask=everywhere), keep=1.0, coarse=2.0),
    ))()  # fmt: skip
    change = np.asarray(fine - X0)
    np.testing.assert_allclose(rivals.low_pass(change, 2.0), change, atol=1e-5)  # coarse alone
    assert np.abs(change).mean() > 0.05
    np.testing.assert_array_equal(whole, gated)
    outside = np.asarray(fast(lambda: rivals.banded(case(), coarse=2.0))() - X0)[np.asarray(MASK) == 0]
    assert np.array_equal(outside, np.zeros_like(outside))


def test_coarse_and_fine_part_a_film_and_two_draws_of_noise_are_white_together():
    slow, quick = (np.broadcast_to(np.cos(2 * np.pi * k * np.arange(8) / 8), SHAPE[:3])[..., None] for k in (1, 3))
    np.testing.assert_allclose(rivals.low_pass(jnp.asarray(slow + quick), 2.0), slow, atol=1e-5)
    one, other = jax.random.normal(jax.random.key(3), (2, 400, 8, 8, 1))
    mixed = np.asarray(other + rivals.low_pass(one - other, 2.0))
    power = np.square(np.abs(np.fft.fft2(mixed[..., 0]))).mean(axis=0) / 64
    np.testing.assert_allclose(power, 1, atol=0.3)  # of every wave, coarse or fine


def test_fastdime_gives_back_what_has_not_changed():
    """Where no pixel near has changed by the threshold, the last step is the film itself, at its own time."""
    film = jnp.full(SHAPE, MEAN).at[:, 0, 0].set(0.95)

    def point(x, index):
        t = index + 1
        return (x - diffusion.signal(SCHEDULE, t, x) * MEAN) / diffusion.sigma(SCHEDULE, t, x)

    treated = fast(lambda: rivals.fastdime(case(epsilon=point, x0=film), scale=0.0, dilation=3 / 8))()
    near = np.zeros(SHAPE, bool)
    near[:, :2, :2] = True
    assert np.array_equal(np.asarray(treated)[~near], np.asarray(film)[~near])
    assert (np.abs(np.asarray(treated - film)[:, 0, 0]) > 0.5).all()


@pytest.mark.parametrize("mode", [name for name, row in guidance.MODES.items() if row.own])
def test_the_evaluations_told_are_those_made_and_lambda_zero_returns_the_film(mode):
    asked = []

    def spy(x, index):
        jax.debug.callback(lambda i: asked.append(len(i)), index)
        return gaussian(x, index)

    options = {"resamples": 2} if mode == "autoddpm" else {}  # each is compiled

    @fast
    def run(lam):
        return guidance.treat(
            spy, SCHEDULE, IMAGE, MASK, lam, KEYS, loss=against, distance=unlike, mode=mode, options=options,
            sampler=SAMPLER, told={"healthy": spy, "diseased": spy},
        )  # fmt: skip

    jax.block_until_ready(run(jnp.int32(300)))
    jax.effects_barrier()
    assert sum(asked) / len(IMAGE) == guidance.evaluations(mode, 300, SAMPLER, options)
    assert np.array_equal(run(jnp.int32(0)), IMAGE)


def test_a_walk_of_its_own_is_refused_a_solver_with_a_memory():
    with pytest.raises(ValueError, match="thor walks by ancestral or ddim"):
        guidance.treat(gaussian, SCHEDULE, IMAGE, MASK, 9, KEYS, mode="thor", sampler=sampling.Sampler("dpmpp_2m"))


def test_films_by_hand_change_where_the_mask_is_above_what_lambda_leaves():
    films, mask = np.asarray(IMAGE), np.asarray(MASK) * 0.5
    for name in ("blurred", "inpainted"):
        none, some = (guidance.treat_by_hand(name, films, mask, np.full(2, share)) for share in (0.4, 0.6))
        assert np.array_equal(none, films)
        assert np.array_equal(some[mask == 0], films[mask == 0])
        assert (some[mask > 0] != films[mask > 0]).mean() > 0.9
        assert guidance.evaluations(name, 500, SAMPLER, {}) == 0
    assert np.array_equal(guidance.treat_by_hand("identity", films, mask, np.ones(2)), films)


def test_a_point_blurs_to_a_gaussian_and_a_slope_is_continued():
    region = np.asarray(MASK) > 0
    dot = np.zeros(SHAPE, np.float32)
    dot[:, 3, 3] = 1
    soft = classical.blurred(dot, region, width=1 / 8)  # of a point: the Gaussian of standard deviation 1 itself
    assert np.array_equal(soft[~region], dot[~region])
    np.testing.assert_allclose(soft[:, 3, 4] / soft[:, 3, 3], np.exp(-0.5), rtol=1e-5)
    ramp = np.broadcast_to(np.linspace(0.2, 0.6, 8)[:, None, None], SHAPE).astype(np.float32)
    np.testing.assert_allclose(classical.inpainted(np.where(region, 0.9, ramp), region), ramp, atol=1e-4)
    flat = np.full(SHAPE, 0.25, np.float32)
    flat[region] = 0.9
    np.testing.assert_allclose(classical.inpainted(flat, region), 0.25, atol=1e-6)


def towards(mean):
    """`gaussian` of films about another mean: what a network that is told their class says."""

    def epsilon(x, index):
        t = jnp.asarray(index) + 1
        a, s = diffusion.signal(SCHEDULE, t, x), diffusion.sigma(SCHEDULE, t, x)
        return s * (x - a * mean) / (a**2 * SPREAD**2 + s**2)

    return epsilon


TOLD = {"healthy": towards(MEAN + 0.1), "diseased": towards(MEAN - 0.1)}


def test_class_free_without_weight_is_the_inversion_undone():
    fine = case(told=TOLD, sampler=sampling.Sampler(stride=2, clip=None))
    kept, moved = fast(lambda: [rivals.class_free(fine, weight=weight) for weight in (0.0, 3.0)])()
    np.testing.assert_allclose(kept, X0, atol=0.02)  # steps of 2
    assert np.abs(moved - X0).min() > 0.05


def test_class_free_goes_by_its_weight_toward_the_class_that_it_is_told():
    """Noises of Gaussian films differ by their means: the way down is the flow of films about mean + weight x gap."""
    fine = case(told=TOLD, sampler=sampling.Sampler(stride=2, clip=None))
    asked = [("healthy", 3.0, 0.3), ("healthy", 1.0, 0.1), ("diseased", 3.0, -0.3)]
    found = fast(lambda: [rivals.class_free(fine, weight=w, toward=c, quantile=0.0) for c, w, _ in asked])()
    a, s = diffusion.signal(SCHEDULE, LAM, X0), diffusion.sigma(SCHEDULE, LAM, X0)
    moves = 1 - a * SPREAD / jnp.sqrt(a**2 * SPREAD**2 + s**2)
    for out, (_, _, gap) in zip(found, asked, strict=True):
        np.testing.assert_allclose(out, X0 + gap * moves, atol=0.02)
    with pytest.raises(UserError, match=r"'well'.*healthy"):
        rivals.class_free(fine, toward="well")


def test_an_estimate_beyond_its_range_is_cut_at_a_quantile_and_scaled_down():
    t = jnp.array([300, 300])
    estimate = np.linspace(-1.5, 2.5, 128).reshape(SHAPE).astype(np.float32)
    estimate[1] /= 4  # a film within its range stays as it is
    noise = np.asarray(jax.random.normal(KEYS[0], SHAPE))
    x = diffusion.q_sample(SCHEDULE, estimate, t, noise)
    out = rivals.scaled_down(SCHEDULE, x, t, jnp.asarray(noise), 0.9)
    back = np.asarray(diffusion.to_x0(SCHEDULE, x, t, out, None))
    most = np.quantile(np.abs(estimate[0]), 0.9)
    np.testing.assert_allclose(back[0], np.clip(estimate[0], -most, most) / most, atol=1e-4)
    np.testing.assert_array_equal(out[1], noise[1])
    np.testing.assert_array_equal(rivals.scaled_down(SCHEDULE, x, t, jnp.asarray(noise), 0.0), noise)
