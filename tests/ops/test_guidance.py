"""Invariants of CAM-guided partial diffusion."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.ops import diffusion, guidance, noise, sampling
from cxrjax.train import mesh as meshes

SCHEDULE = diffusion.linear(1000)
SHAPE = (3, 8, 8, 1)
KEYS = jax.random.split(jax.random.key(7), 3)
IMAGE = jax.random.uniform(jax.random.key(1), SHAPE)
MASK = jax.random.uniform(jax.random.key(2), SHAPE).at[:, :3].set(0.0)


def epsilon(x, index):
    """A fixed non-linear stand-in for a network: it looks at neighbors and at the time."""
    near = jnp.roll(x, 1, axis=1) + jnp.roll(x, -1, axis=2)
    return jnp.tanh(0.6 * x + 0.2 * near + 0.001 * index[:, None, None, None])


SCALAR = [mode for mode in guidance.MODES if not guidance.alone(mode)]  # those of one program
MODES = (*SCALAR, "per_pixel_time")


@cache
def program(net, sampler, pixel, remask, every):
    """Compiled once for a sampler: films, masks, lambdas, strides and modes are data."""

    def one(image, mask, lam, keys, stride, mode):
        mode, chosen = "per_pixel_time" if pixel else mode, sampler._replace(stride=stride)
        return guidance.treat(
            net, SCHEDULE, image, mask, lam, keys, mode=mode, sampler=chosen, remask=remask, every=every
        )

    return jax.jit(one, compiler_options={"xla_backend_optimization_level": 0})


def treat(
    net, image, mask, lam, keys, *, mode="time_gated", remask=None, every=0, sampler="ancestral", stride=1, **opts
):
    codes = jnp.full(image.shape[:1], guidance.code(mode)) if isinstance(mode, str) else mode
    pixel = isinstance(mode, str) and mode == "per_pixel_time"
    run = program(net, sampling.Sampler(name=sampler, **opts), pixel, remask, every)
    return run(image, mask, jnp.asarray(lam, jnp.int32), keys, jnp.int32(stride), codes)


def by_pixel(x, index):
    """The stand-in, told a time at every pixel."""
    near = jnp.roll(x, 1, axis=1) + jnp.roll(x, -1, axis=2)
    return jnp.tanh(0.6 * x + 0.2 * near + 0.001 * index[..., None])


def raw(image, mask, lam, keys, *, mode="time_gated", **options):
    """Not compiled, for a test's own program."""
    net = by_pixel if isinstance(mode, str) and mode == "per_pixel_time" else epsilon
    return guidance.treat(net, SCHEDULE, image, mask, lam, keys, mode=mode, sampler=sampling.Sampler(**options))


def run(*args, mode="time_gated", **options):
    return treat(by_pixel if mode == "per_pixel_time" else epsilon, *args, mode=mode, **options)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
@pytest.mark.parametrize("mode", ["noise_matrix", "time_gated", "mask_blend", "per_pixel_time"])
def test_a_full_mask_is_uniform(mode, sampler):
    options = {"stride": 30, "sampler": sampler, "variance": "small", "eta": 0.5}
    full = jnp.ones(SHAPE)
    uniform = run(IMAGE, full, 300, KEYS, mode="uniform", **options)
    assert float(jnp.abs(uniform - IMAGE).mean()) > 0.02
    np.testing.assert_allclose(run(IMAGE, full, 300, KEYS, mode=mode, **options), uniform, atol=1e-6)


@pytest.mark.parametrize("mode", ["noise_matrix", "time_gated", "mask_blend", "per_pixel_time"])
def test_an_empty_mask_returns_the_film_bit_for_bit(mode):
    treated = run(IMAGE, jnp.zeros(SHAPE), 400, KEYS, mode=mode, stride=50)
    assert np.array_equal(treated, IMAGE)


@pytest.mark.parametrize("mode", MODES)
def test_lambda_zero_returns_the_film_bit_for_bit(mode):
    assert np.array_equal(run(IMAGE, MASK, 0, KEYS, mode=mode, stride=50), IMAGE)


def test_the_noise_matrix_walk_itself_keeps_the_film_where_the_mask_is_empty():
    # Not through `treat`, whose last line would hide a mistake in the algebra.
    x0 = 2 * IMAGE - 1
    x = diffusion.q_sample(SCHEDULE, x0, jnp.int32(400), jnp.zeros(SHAPE))
    for t, s in ((400, 250), (250, 80), (80, 0)):
        estimate = diffusion.to_x0(SCHEDULE, x, jnp.int32(t), 0.0 * epsilon(x, jnp.full(3, t - 1)))
        x = diffusion.ancestral_step(SCHEDULE, x, estimate, jnp.int32(t), jnp.int32(s), jnp.zeros(SHAPE))
    np.testing.assert_allclose(x, x0, atol=1e-5)


def test_time_gated_keeps_pixels_whose_strength_rounds_to_zero():
    mask = MASK.at[:, 3].set(0.0004)  # tau = round(400 * 0.0004) = 0
    treated = run(IMAGE, mask, 400, KEYS, mode="time_gated", stride=1)
    kept = np.asarray(sampling.strength(mask, 400) == 0)
    assert kept[:, 3].all()
    assert np.array_equal(np.asarray(treated)[kept], np.asarray(IMAGE)[kept])
    assert (np.asarray(treated)[~kept] != np.asarray(IMAGE)[~kept]).mean() > 0.95


def test_the_known_part_follows_the_forward_process():
    # With one used step left above s, an ungated pixel of x_s is a draw of q(x_s | x_0): seen through the network.
    seen = []

    def spy(x, index):
        jax.debug.callback(lambda x, i: seen.append((int(i[0]), np.asarray(x))), x, index)
        return epsilon(x, index)

    n = 4000
    image = jnp.full((n, 1, 1, 1), 0.8)
    keys = jax.random.split(jax.random.key(0), n)
    out = treat(spy, image, jnp.zeros_like(image), 600, keys, stride=200)
    jax.block_until_ready(out)
    jax.effects_barrier()
    assert sorted(i for i, _ in seen) == [199, 399, 599]
    for index, x in seen:
        alpha_bar = np.exp(float(SCHEDULE.log_alpha_bar[index + 1]))
        assert abs(x.mean() - np.sqrt(alpha_bar) * 0.6) < 4 * np.sqrt((1 - alpha_bar) / n)
        assert abs(x.var() / (1 - alpha_bar) - 1) < 0.1


@pytest.mark.parametrize("mode", ["noise_matrix", "time_gated", "mask_blend", "per_pixel_time"])
def test_a_weaker_mask_changes_less(mode):
    change = [
        float(jnp.abs(run(IMAGE, scale * MASK, 500, KEYS, mode=mode, stride=25, variance="small") - IMAGE).mean())
        for scale in (0.0, 0.33, 0.66, 1.0)
    ]
    assert change[0] == 0
    assert change == sorted(change)
    assert change[-1] > change[1]


@pytest.mark.parametrize("mode", MODES)
def test_batching_does_not_change_a_film(mode):
    whole = run(IMAGE, MASK, 300, KEYS, mode=mode, stride=50)
    alone = run(IMAGE[1:2], MASK[1:2], 300, KEYS[1:2], mode=mode, stride=50)
    np.testing.assert_allclose(alone[0], whole[1], atol=1e-6)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 (fake) devices")
@pytest.mark.parametrize("pixel", [False, True])
def test_sharding_does_not_change_a_film(pixel):
    mesh = meshes.make(8)
    image = jax.random.uniform(jax.random.key(1), (16, 8, 8, 1))
    mask = jax.random.uniform(jax.random.key(2), image.shape)
    keys = jax.random.key_data(jax.random.split(jax.random.key(7), 16))
    modes = np.resize([guidance.code(mode) for mode in SCALAR], 16).astype(np.int32)

    def both(image, mask, keys, modes):
        keys, at = jax.random.wrap_key_data(keys), jnp.full(16, 3)
        draws = [sampling._noise(keys, 1, at, at, (8, 8, 1), noise.of(name)) for name in noise.NOISES]
        return raw(image, mask, 300, keys, mode="per_pixel_time" if pixel else modes, stride=50), draws

    both = jax.jit(both, compiler_options={"xla_backend_optimization_level": 0})
    one, draws = both(image, mask, keys, modes)
    split, split_draws = both(*meshes.put(mesh, tuple(np.asarray(x) for x in (image, mask, keys, modes))))
    assert len(split.sharding.device_set) == 8
    for drawn, again in zip(draws, split_draws, strict=True):
        assert np.array_equal(drawn, again)
    np.testing.assert_allclose(one, split, atol=1e-4)


@pytest.mark.parametrize(("lam", "stride", "indices"), [(1, 1, [0]), (1000, 1000, [999]), (1000, 500, [999, 499])])
def test_the_network_is_asked_for_the_first_and_the_last_index_and_no_other(lam, stride, indices):
    seen = []

    def spy(x, index):
        jax.debug.callback(lambda i: seen.append(int(i[0])), index)
        return epsilon(x, index)

    out = treat(spy, IMAGE, MASK, lam, KEYS, stride=stride)
    jax.block_until_ready(out)
    jax.effects_barrier()
    assert sorted(seen, reverse=True) == indices
    assert np.isfinite(np.asarray(out)).all()


def test_a_sweep_over_lambda_compiles_once():
    traces = []

    @jax.jit
    def at(lam):
        traces.append(1)
        return raw(IMAGE, MASK, lam, KEYS, stride=50)

    films = [np.asarray(at(jnp.int32(lam))) for lam in (0, 100, 350, 600)]
    assert len(traces) == 1
    assert np.array_equal(films[0], IMAGE)
    assert not np.array_equal(films[1], films[3])


def test_an_exact_denoiser_of_a_point_returns_that_point():
    # If every film is mu, eps = (x - sqrt(ab) mu) / sqrt(1 - ab), and a whole walk must end at mu inside the mask.
    mu = jax.random.uniform(jax.random.key(5), (1, 8, 8, 1), minval=-0.9, maxval=0.9)

    def point(x, index):
        t = index + 1
        return (x - diffusion.signal(SCHEDULE, t, x) * mu) / diffusion.sigma(SCHEDULE, t, x)

    mask = jnp.zeros(SHAPE).at[:, 2:5, 2:5].set(1.0)
    treated = treat(point, IMAGE, mask, 500, KEYS, stride=20, variance="small")
    inside = np.asarray(mask) > 0
    wanted = np.broadcast_to((np.asarray(mu) + 1) / 2, SHAPE)
    np.testing.assert_allclose(np.asarray(treated)[inside], wanted[inside], atol=2e-3)
    assert np.array_equal(np.asarray(treated)[~inside], np.asarray(IMAGE)[~inside])


def test_resampling_changes_the_draws_and_keeps_the_known_part():
    once = run(IMAGE, MASK, 300, KEYS, mode="time_gated", stride=50)
    thrice = run(IMAGE, MASK, 300, KEYS, mode="time_gated", stride=50, resamples=3)
    kept = np.asarray(sampling.strength(MASK, 300) == 0)
    assert not np.array_equal(once, thrice)
    assert np.array_equal(np.asarray(thrice)[kept], np.asarray(IMAGE)[kept])


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="time_gatd"):
        run(IMAGE, MASK, 100, KEYS, mode="time_gatd")


def test_modes_and_lambdas_as_data_are_those_by_name_in_one_program():
    traces = []

    @jax.jit
    def at(image, mask, lam, mode, keys):
        traces.append(1)
        return raw(image, mask, lam, keys, mode=mode, stride=50, variance="small")

    rows = [(mode, lam) for mode in SCALAR for lam in (0, 120, 300)]
    n = len(rows)
    mode = jnp.asarray([guidance.code(m) for m, _ in rows], jnp.int32)
    lam = jnp.asarray([lam for _, lam in rows], jnp.int32)
    wide = [jnp.broadcast_to(x[:1], (n, *x.shape[1:])) for x in (IMAGE, MASK, KEYS)]
    together = at(wide[0], wide[1], lam, mode, wide[2])
    at(wide[0], wide[1], lam[::-1], mode[::-1], wide[2])
    assert len(traces) == 1
    for row, (name, distance) in enumerate(rows):
        alone = run(IMAGE[:1], MASK[:1], distance, KEYS[:1], mode=name, stride=50, variance="small")
        np.testing.assert_allclose(together[row], alone[0], atol=1e-6, err_msg=f"{name} at {distance}")


@pytest.mark.parametrize("mode", SCALAR)
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "sde_dpmpp_2m"])
def test_second_order_samplers_obey_the_mask(mode, sampler):
    full, none = jnp.ones(SHAPE), jnp.zeros(SHAPE)
    uniform = run(IMAGE, full, 300, KEYS, mode="uniform", stride=50, sampler=sampler)
    np.testing.assert_allclose(run(IMAGE, full, 300, KEYS, mode=mode, stride=50, sampler=sampler), uniform, atol=1e-6)
    if mode != "uniform":
        assert np.array_equal(run(IMAGE, none, 300, KEYS, mode=mode, stride=50, sampler=sampler), IMAGE)


def test_a_solver_with_a_memory_cannot_redo_a_step():
    with pytest.raises(ValueError, match="dpmpp_2m remembers"):
        run(IMAGE, MASK, 100, KEYS, sampler="dpmpp_2m", resamples=2)
    with pytest.raises(ValueError, match="per_pixel_time"):
        run(IMAGE, MASK, 100, KEYS, mode="per_pixel_time", sampler="dpmpp_2m")


def test_a_renewed_mask_is_the_one_that_ends_the_walk():
    # The mask of the estimate is empty from the first renewal on, so every pixel is the film's own again.
    gone = run(IMAGE, jnp.ones(SHAPE), 300, KEYS, stride=50, remask=lambda x, m: jnp.zeros_like(m), every=2)
    assert np.array_equal(gone, IMAGE)
    same = run(IMAGE, MASK, 300, KEYS, stride=50, remask=lambda x, m: jnp.maximum(m, MASK), every=2)
    np.testing.assert_allclose(same, run(IMAGE, MASK, 300, KEYS, stride=50), atol=1e-6)


def test_per_pixel_time_asks_for_each_pixels_own_time():
    seen = []

    def spy(x, index):
        jax.debug.callback(lambda i: seen.append(np.asarray(i)), index)
        return by_pixel(x, index)

    out = treat(spy, IMAGE, MASK, 400, KEYS, mode="per_pixel_time", stride=100)
    jax.block_until_ready(out)
    jax.effects_barrier()
    tau = np.asarray(sampling.strength(MASK, 400))[..., 0].astype(int)
    asked = sorted(seen, key=lambda i: -i.max())
    assert len(asked) == 4
    for i, index in zip((4, 3, 2, 1), asked, strict=True):
        np.testing.assert_array_equal(index + 1, tau * i // 4)


def test_simplex_noise_reaches_every_draw_of_a_walk():
    one = run(IMAGE, MASK, 300, KEYS, mode="uniform", stride=50)
    other = run(IMAGE, MASK, 300, KEYS, mode="uniform", stride=50, noise=noise.of("simplex", {"wavelength": 8.0}))
    assert float(jnp.abs(one - other).mean()) > 0.01
    alone = run(
        IMAGE[1:2], MASK[1:2], 300, KEYS[1:2], mode="uniform", stride=50,
        noise=noise.of("simplex", {"wavelength": 8.0}),
    )  # fmt: skip
    np.testing.assert_allclose(alone[0], other[1], atol=1e-5)


@pytest.mark.parametrize("lam", [1001, -1, np.array([500, 1001, 3])])
def test_a_lambda_that_the_schedule_has_not_is_refused(lam):
    with pytest.raises(ValueError, match=r"expected 0 \.\.\. 1000"):
        raw(IMAGE, MASK, lam, KEYS, name="dpmpp_2m", stride=100)


@pytest.mark.parametrize("name", sampling.SAMPLERS)
def test_samplers_keep_float32_where_64_bits_are_on(name):
    plain = raw(IMAGE, MASK, 300, KEYS, name=name, stride=100)
    with jax.enable_x64(True):
        wide = raw(IMAGE, MASK, 300, KEYS, name=name, stride=jnp.asarray(100))
    assert wide.dtype == jnp.float32
    np.testing.assert_allclose(wide, plain, atol=1e-5)


@pytest.mark.parametrize("mode", guidance.MODES)
def test_a_walk_is_a_key_of_a_table(mode):
    """By which a sweep knows that what has been made without pasting need not be made again."""
    assert guidance.walk_of(mode) in {guidance.walk_of(mode): mode}
