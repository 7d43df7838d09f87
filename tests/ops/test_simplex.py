"""OpenSimplex noise against PyPI's `opensimplex`, and the laws of its fractal sum."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.errors import UserError
from cxrjax.ops import simplex

opensimplex = pytest.importorskip("opensimplex")

SEEDS = (0, 3, -7, 2**63 - 1)
# Compiled plainly: these programs run for milliseconds, and LLVM's optimizer would take a second over each.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def at(perm: jax.Array, x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    """Noise at places whose shapes broadcast."""
    x, y, z = jnp.broadcast_arrays(*map(jnp.asarray, (x, y, z)))
    tables = simplex._tables(jnp.asarray(perm))
    return simplex._noise3(tables, jnp.int32(0), x.reshape(-1), y.reshape(-1), z.reshape(-1)).reshape(x.shape)


noise3 = jit(at)
COUNT, SIDE = 32, 64
KEYS = jax.random.split(jax.random.key(5), COUNT)
TIMES = jnp.arange(COUNT) * 37


@partial(jit, static_argnames=("channels", "options"))
def draw(keys: jax.Array, t: jax.Array, channels: int = 1, options: tuple[tuple[str, object], ...] = ()) -> jax.Array:
    options = {"wavelength": 16.0, **dict(options)}
    return jax.vmap(lambda key, t: simplex.noise(key, t, (SIDE, SIDE, channels), **options))(keys, t)


@pytest.fixture(scope="module")
def fields() -> np.ndarray:
    """(count, side, side, 2), six octaves from 16 px."""
    return np.asarray(draw(KEYS, TIMES, 2), np.float64)


def places(reach: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(-reach, reach, n) for n in (16, 12, 10)]


@pytest.mark.parametrize("seed", [*SEEDS, -(2**63), 2**70 + 1])
def test_a_seed_makes_the_table_of_opensimplex(seed: int) -> None:
    table = simplex.permutation_from_seed(seed)
    assert table.dtype == np.int64
    assert np.array_equal(table, opensimplex.OpenSimplex(seed)._perm)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("reach", [2.0, 1000.0])
def test_values_are_those_of_opensimplex(seed: int, reach: float) -> None:
    x, y, z = places(reach)
    wanted = opensimplex.OpenSimplex(seed).noise3array(x, y, z)  # (z, y, x)
    assert wanted.std() > 0.2
    with jax.enable_x64(True):
        found = noise3(simplex.permutation_from_seed(seed), x[None, None], y[None, :, None], z[:, None, None])
        assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_float32_is_close_far_from_the_origin() -> None:
    # Its error is that of rounding fractions: the places themselves are multiples of 2^-8.
    x, y, z = (np.round(256 * v) / 256 + 2.0**-9 for v in places(1000.0))
    table = simplex.permutation_from_seed(3)
    wanted = opensimplex.OpenSimplex(3).noise3array(x, y, z)
    grid = [v.astype(np.float32) for v in (x[None, None], y[None, :, None], z[:, None, None])]
    found = noise3(table, *grid)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6)


def test_noise_maps_over_permutations() -> None:
    tables = np.stack([simplex.permutation_from_seed(seed) for seed in SEEDS])
    x, y, z = (v[:10].astype(np.float32) for v in places(3.0))
    together = jit(jax.vmap(at, (0, None, None, None)))(tables, x, y, z)
    for found, table in zip(together, tables, strict=True):
        np.testing.assert_allclose(found, noise3(table, x, y, z), atol=1e-6)


def octave_sum(t: float, wavelength: float, h: int, w: int) -> np.ndarray:
    """The reference's sum: `rand_3d_fixed_T_octaves` of Julian-Wyatt/AnoDDPM."""
    oracle, total = opensimplex.OpenSimplex(3), np.zeros((h, w))
    for o in range(4):
        f = wavelength / 2**o
        total += 0.8**o * oracle.noise3array(np.arange(w) / f, np.arange(h) / f, np.array([t / f]))[0]
    return total


def test_the_fractal_is_the_octave_sum_of_the_reference() -> None:
    h, w = 24, 40
    with jax.enable_x64(True):
        fractal = jit(partial(simplex.fractal, shape=(h, w), octaves=4, wavelength=51.3))
        found = np.asarray(fractal(simplex.permutation_from_seed(3), t=100.37))
    wanted = octave_sum(100.37, 51.3, h, w)
    # Where x = y, places can lie on a jump of the published function, on whose side rounding decides.
    off = ~np.eye(h, w, dtype=bool)
    np.testing.assert_allclose(found[off], wanted[off], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-4)


def test_at_whole_pixels_and_times_it_differs_by_the_jumps_alone() -> None:
    found = jit(partial(simplex.fractal, shape=(24, 40), octaves=4))(simplex.permutation_from_seed(3), t=100)
    assert found.dtype == jnp.float32
    error = np.abs(found - octave_sum(100, 64.0, 24, 40))
    assert error.max() < 5e-4
    assert np.median(error) < 1e-6


def test_permutations_are_permutations_and_differ() -> None:
    tables = np.asarray(jax.vmap(simplex.permutation)(KEYS[:8]))
    assert tables.dtype == np.int32
    assert np.array_equal(np.sort(tables, axis=1), np.broadcast_to(np.arange(256), (8, 256)))
    assert (tables[:-1] == tables[1:]).mean() < 0.05


def test_films_and_channels_are_independent(fields: np.ndarray) -> None:
    flat = fields.transpose(0, 3, 1, 2).reshape(2 * COUNT, -1)
    found = np.corrcoef(flat)[~np.eye(2 * COUNT, dtype=bool)]
    # A field of 4 x 4 wavelengths has some tens of independent values.
    assert abs(found.mean()) < 0.01
    assert np.abs(found).max() < 0.7
    assert found.std() < 0.2


def test_a_film_is_the_same_alone_and_with_fewer_channels(fields: np.ndarray) -> None:
    alone = jit(lambda key, t: simplex.noise(key, t, (SIDE, SIDE, 1), wavelength=16.0))(KEYS[3], TIMES[3])
    assert alone.dtype == jnp.float32
    np.testing.assert_allclose(alone[..., 0], fields[3, ..., 0], atol=1e-6)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 (fake) devices")
def test_sharding_does_not_change_a_film(fields: np.ndarray) -> None:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:8]), ("data",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    found = draw(jax.device_put(KEYS, split), jax.device_put(TIMES, split), 2)
    assert len(found.sharding.device_set) == 8
    np.testing.assert_allclose(found, fields, atol=1e-6)


def test_its_mean_is_zero_and_its_deviation_known(fields: np.ndarray) -> None:
    assert abs(fields.mean()) < 0.02
    assert np.sqrt(np.square(fields).mean()) == pytest.approx(0.505, rel=0.03)


ONE_OCTAVE = (("octaves", 1), ("wavelength", 8.0), ("norm", "unit_std"))


@pytest.mark.parametrize("options", [(("norm", "unit_std"),), ONE_OCTAVE])
def test_unit_std(options: tuple[tuple[str, object], ...]) -> None:
    found = draw(KEYS, TIMES, options=options)
    assert np.sqrt(np.square(found).mean()) == pytest.approx(1.0, rel=0.03)


def power(fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in cycles a pixel and mean power, (side, side) both, through a window since fields do not wrap."""
    window = np.hanning(SIDE)
    spectrum = np.square(np.abs(np.fft.fft2(fields * window * window[:, None]))).mean(0)
    return np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE))), spectrum


def test_six_octaves_have_a_red_spectrum(fields: np.ndarray) -> None:
    frequency, spectrum = power(fields[..., 0])
    edges = 2.0 ** np.arange(-5, 0)
    bands = [spectrum[(frequency >= a) & (frequency < b)].mean() for a, b in pairwise(edges)]
    assert all(high < 0.5 * low for low, high in pairwise(bands))


def test_one_octave_keeps_to_its_wavelength() -> None:
    frequency, spectrum = power(np.asarray(draw(KEYS, TIMES, options=ONE_OCTAVE))[..., 0])
    share = spectrum / spectrum.sum()
    assert share[frequency > 1.2 / 8].sum() < 2e-3
    assert share[(frequency > 0.3 / 8) & (frequency < 1.0 / 8)].sum() > 0.7


def test_neighboring_times_resemble_each_other_and_far_ones_do_not(fields: np.ndarray) -> None:
    def correlation(later: int) -> float:
        return np.corrcoef(np.asarray(draw(KEYS, TIMES + later, 2)).ravel(), fields.ravel())[0, 1]

    near, far = correlation(1), correlation(48)
    assert 0.7 < near < 0.99
    assert abs(far) < 0.05


def test_memory_does_not_grow_with_octaves() -> None:
    def held(octaves: int) -> int:
        fractal = partial(simplex.fractal, shape=(SIDE, SIDE), octaves=octaves)
        tables, times = jnp.zeros((8, 256), jnp.int32), jnp.zeros(8)
        return jit(jax.vmap(fractal)).lower(tables, t=times).compile().memory_analysis().temp_size_in_bytes

    assert held(6) < 100 * 8 * SIDE**2
    assert held(6) < 1.1 * held(2)


def test_it_is_a_constant_to_derivatives() -> None:
    def loss(scale: jax.Array, t: jax.Array) -> jax.Array:
        noise = jax.checkpoint(lambda scale: scale * simplex.noise(KEYS[0], t, (8, 8, 2), octaves=1))
        return noise(scale).sum()

    value, (by_scale, by_time) = jit(jax.value_and_grad(loss, argnums=(0, 1)))(2.0, 3.0)
    assert abs(float(value)) > 0.1
    assert float(by_scale) == pytest.approx(float(value) / 2, rel=1e-4)
    assert float(by_time) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [({"norm": "unit"}, "norm is 'unit'.*unit_std"), ({"octaves": 0}, "octaves is 0.*from 1"),
     ({"octaves": 2.5}, "octaves is 2.5"), ({"persistence": 0.0}, "persistence is 0.0.*above 0"),
     ({"wavelength": -1.0}, "wavelength is -1.0")],
)  # fmt: skip
def test_mistakes_are_told(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        simplex.noise(KEYS[0], 0, (8, 8, 1), **options)
