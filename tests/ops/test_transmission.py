"""The transmission map: its objective falls, flat maps and the guide's edges stay, the filters are the papers'."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cxrjax.errors import UserError
from cxrjax.ops import transmission

PORT = transmission.Options(filters="port9", lam=0.1, beta_max=16.0, weight=3.0)  # of the published code

BANKS = ("kirsch8", "meng_literal", "port9")


def maps(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


@pytest.mark.parametrize("name", BANKS)
def test_filters_have_no_mean_and_norm_one(name):
    bank = transmission.bank(name)
    assert bank.shape == ({"port9": 9}.get(name, 8), 3, 3)
    np.testing.assert_allclose(bank.sum(axis=(1, 2)), 0, atol=1e-14)
    np.testing.assert_allclose((bank**2).sum(axis=(1, 2)), 1)


def test_eight_directions_are_one_turned_and_the_literal_list_lacks_the_south():
    right, literal = transmission.bank("kirsch8"), transmission.bank("meng_literal")
    assert {f.tobytes() for f in right} == {np.rot90(f, -1).copy().tobytes() for f in right}
    assert len({f.tobytes() for f in right}) == 8
    np.testing.assert_array_equal(literal[4], literal[0])
    np.testing.assert_allclose(right[4], right[0][::-1])
    np.testing.assert_array_equal(np.delete(literal, 4, axis=0), np.delete(right, 4, axis=0))


@pytest.mark.parametrize("name", BANKS)
def test_differences_are_correlations_that_wrap(name):
    x = maps(2, 7, 9).astype(np.float32)
    got = transmission.differences(x, transmission.DEFAULT._replace(filters=name))
    for j, kernel in enumerate(transmission.bank(name)):
        for b in range(2):
            np.testing.assert_allclose(got[j, b], ndimage.correlate(x[b], kernel, mode="wrap"), atol=1e-6)


def literal(initial, guide, options):
    """The authors' loop, written out with full transforms."""
    bank = transmission.bank(options.filters)
    delta = np.zeros(initial.shape)
    delta[0, 0] = 1.0
    power = sum(np.abs(np.fft.fft2(ndimage.correlate(delta, k, mode="wrap"))) ** 2 for k in bank)
    weights = [np.exp(-options.weight * ndimage.correlate(guide, k, mode="wrap") ** 2) for k in bank]
    current, beta = initial, options.beta
    while beta < options.beta_max:
        target = 0
        for kernel, weight in zip(bank, weights, strict=True):
            d = ndimage.correlate(current, kernel, mode="wrap")
            u = np.maximum(np.abs(d) - weight / beta / len(bank), 0) * np.sign(d)
            target = target + np.fft.fft2(ndimage.correlate(u, kernel[::-1, ::-1], mode="wrap"))
        ratio = options.lam / beta
        current = np.abs(np.fft.ifft2((ratio * np.fft.fft2(initial) + target) / (ratio + power)))
        beta *= options.beta_rate
    return current


@pytest.mark.parametrize("options", [transmission.DEFAULT, PORT], ids=["default", "port"])
def test_the_loop_written_out_gives_the_same_map(options):
    initial, guide = maps(2, 12, 15), maps(2, 12, 15, seed=1)
    with jax.enable_x64(True):
        got = np.asarray(transmission.regularize(jnp.asarray(initial), jnp.asarray(guide), options))
    for b in range(2):
        np.testing.assert_allclose(got[b], literal(initial[b], guide[b], options), atol=1e-12)


def test_a_step_at_one_beta_never_raises_the_split_objective():
    x = jnp.asarray(maps(2, 16, 16), jnp.float32)
    values = [transmission.objective(x, x, x, beta=8.0)]
    for iterations in (1, 3):
        options = transmission.DEFAULT._replace(beta=8.0, beta_max=9.0, beta_rate=10.0, iterations=iterations)
        values.append(transmission.objective(transmission.regularize(x, x, options), x, x, beta=8.0))
    assert (np.diff(np.stack(values), axis=0) < 0).all()


def test_the_map_has_a_lower_objective_than_its_start_and_than_its_neighbors():
    x = jnp.asarray(maps(2, 16, 16), jnp.float32)
    found = transmission.regularize(x, x)
    best = transmission.objective(found, x, x)
    assert (best < 0.8 * transmission.objective(x, x, x)).all()
    for seed in range(3):
        noise = 0.05 * jnp.asarray(maps(2, 16, 16, seed=seed) - 0.5, jnp.float32)
        assert (best < transmission.objective(found + noise, x, x)).all()
    # the split objective is at most the true one and meets it as beta grows
    assert (transmission.objective(found, x, x, beta=1.0) < best).all()
    np.testing.assert_allclose(transmission.objective(found, x, x, beta=1e6), best, rtol=1e-3)


def test_a_flat_map_is_a_fixed_point():
    flat = jnp.full((1, 9, 10), 0.4)
    np.testing.assert_allclose(transmission.regularize(flat, jnp.asarray(maps(1, 9, 10), jnp.float32)), flat, atol=1e-6)


def test_the_guides_edge_stays_sharper_than_one_the_guide_lacks():
    step = np.zeros((1, 24, 24), np.float32)
    step[:, :, 6:18] = 1.0
    guided = transmission.regularize(step, 3 * step, transmission.DEFAULT._replace(lam=0.3))
    blind = transmission.regularize(step, np.full_like(step, 0.5), transmission.DEFAULT._replace(lam=0.3))
    assert float(jnp.ptp(guided)) > 1.2 * float(jnp.ptp(blind))


def test_the_boundary_constraint_keeps_radiance_between_its_bounds():
    guide = 0.2 + 0.8 * maps(1, 10, 11).astype(np.float32)  # itself within the bounds
    got = np.asarray(transmission.boundary_constraint(guide, 0.9, transmission.DEFAULT._replace(window=1)))
    radiance = (255 * guide - 229.5) / got + 229.5
    assert radiance.min() == pytest.approx(30, abs=0.01)  # met, and never passed
    assert radiance.max() == pytest.approx(300, abs=0.01)
    closed = np.asarray(transmission.boundary_constraint(guide, 0.9))
    assert (closed >= got).all()
    assert (closed > got).any()
    with pytest.raises(UserError, match="between c0"):
        transmission.boundary_constraint(guide, 0.05)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"filters": "kirsch"}, "kirsch8"),
        ({"lam": 0.0}, "lam is 0"),
        ({"beta_rate": 1.0}, "beta_rate"),
        ({"beta": 300.0}, "beta_max"),
        ({"initial": "lpe"}, "guide or boundcon"),
    ],
)
def test_options_out_of_range_are_told(changes, words):
    with pytest.raises(UserError, match=words):
        transmission.regularize(jnp.ones((1, 8, 8)), jnp.ones((1, 8, 8)), transmission.DEFAULT._replace(**changes))
