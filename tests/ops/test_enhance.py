"""The phase features: what lines, edges, factors and constants must give, and that films do not see each other."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.errors import UserError
from cxrjax.ops import enhance, monogenic, transmission

SHAPE = (3, 25, 25)  # one shape and type, so that few programs are compiled


@pytest.fixture(autouse=True)
def doubles() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def lpe(films, options=enhance.DEFAULT):
    return np.asarray(enhance._both(films, options)[1])


def films(seed=0):
    return np.random.default_rng(seed).random(SHAPE)


def test_a_bright_line_an_edge_and_a_dark_line_have_their_angles():
    line, step = np.zeros((65, 65)), np.zeros((65, 65))
    line[:, 32] = 1.0
    step[:, 33:] = 1.0
    step[:, 32] = 0.5
    angle = np.asarray(enhance.lwpa(jnp.stack([line, step, 1 - line])))[:, 32, 32]
    np.testing.assert_allclose(angle, [np.pi / 2, 0, -np.pi / 2], atol=1e-9)


def test_a_waves_angle_is_linear_in_its_phase():
    phase = 2 * np.pi * np.arange(64) / 16 + 0.2
    angle = np.asarray(enhance.lwpa(np.broadcast_to(np.cos(phase), (1, 64, 64)), boundary="plain"))[0, 10]
    from_crest = np.abs((phase + np.pi) % (2 * np.pi) - np.pi)
    np.testing.assert_allclose(angle, np.pi / 2 - from_crest, atol=1e-10)


def test_the_angle_ignores_a_factor_and_a_constant_and_lpe_scales():
    x = films()
    np.testing.assert_allclose(enhance.lwpa(3 * x + 0.2), enhance.lwpa(x), atol=1e-9)
    np.testing.assert_allclose(lpe(3 * x + 0.2), 3 * lpe(x), atol=1e-9)
    np.testing.assert_allclose(enhance.enhance(3 * x + 0.2), enhance.enhance(x), atol=1e-9)


def test_turned_films_have_turned_features():
    turned = np.asarray(enhance.enhance(np.rot90(films(), axes=(1, 2)).copy()))
    np.testing.assert_allclose(np.rot90(turned, -1, axes=(1, 2)), enhance.enhance(films()), atol=1e-9)


def test_lpe_is_the_symmetry_energy_times_the_angle():
    x = films()
    got = lpe(x)
    np.testing.assert_allclose(got, monogenic.folded(x).symmetry * enhance.lwpa(x), atol=1e-12)
    assert got.min() < 0 < got.max()


def test_elea_is_its_formula():
    changes = {"boundary": "reflect", "initial": "boundcon", "filters": "port9", "rho": 0.7, "delta": 0.5}
    options = enhance.configure(**changes)
    energy = lpe(films(), options)
    low, high = energy.min(axis=(1, 2), keepdims=True), energy.max(axis=(1, 2), keepdims=True)
    unit = (energy - low) / (high - low)
    start = transmission.boundary_constraint(unit, 0.7, options.contextual)
    map_ = np.asarray(transmission.regularize(start, unit, options.contextual))
    want = (unit - 0.7) / np.maximum(map_, 1e-4) ** 0.5 + 0.7
    np.testing.assert_allclose(enhance._attenuation(films(), lpe(films(), options), options), want, atol=1e-10)


def unit(x):
    low, high = x.min(axis=(1, 2), keepdims=True), x.max(axis=(1, 2), keepdims=True)
    return (x - low) / (high - low)


def test_the_printed_forms_are_the_papers_equations():
    """Eqs. 2 to 4, their indices put right: the arctangent, the squares summed under the root, the film's maximum."""
    x = films()
    even, odd1, odd2 = (np.asarray(part) for part in monogenic.monogenic(x))  # (scales, b, h, w)
    angle = np.arctan(even.sum(axis=0) / np.sqrt((odd1**2 + odd2**2).sum(axis=0)))
    energy = (np.abs(even) - np.sqrt(odd1**2 + odd2**2)).sum(axis=0) * angle
    attenuated = (unit(energy) - 0.9) / np.maximum(x, 0.2) ** 0.85 + 0.9
    np.testing.assert_allclose(enhance.lwpa(x, lwpa_form="printed"), angle, rtol=1e-9)
    got = enhance.enhance(x, lwpa_form="printed", elea_max="film", epsilon=0.2)
    np.testing.assert_allclose(got, np.stack([unit(angle), unit(energy), unit(attenuated)], axis=-1), atol=1e-9)
    assert not np.allclose(got[..., 2], enhance.enhance(x, lwpa_form="printed", epsilon=0.2)[..., 2], atol=1e-2)


def test_channels_fill_the_unit_interval_and_a_constant_film_gives_zeros():
    x = films().astype(np.float32)
    x[2] = 0.3
    y = np.asarray(enhance.enhance(x[..., None]))
    assert y.shape == (*SHAPE, 3)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y[:2].min(axis=(1, 2)), 0, atol=1e-7)
    np.testing.assert_allclose(y[:2].max(axis=(1, 2)), 1, atol=1e-6)
    assert (y[2] == 0).all()


def test_a_film_does_not_depend_on_its_batch():
    x, others = films(), films(1)
    others[1] = x[1]
    together = np.asarray(enhance.enhance(x))
    np.testing.assert_array_equal(together[1], enhance.enhance(others)[1])
    np.testing.assert_array_equal(together[::-1], enhance.enhance(x[::-1].copy()))


def test_film_after_film_equals_the_whole_batch_at_once():
    at_once = jax.jit(enhance._enh, static_argnums=1)(films(), enhance.DEFAULT)
    np.testing.assert_allclose(enhance.enhance(films()), at_once, atol=1e-10)


def test_options_are_changed_by_name_wherever_they_live():
    options = enhance.configure(family="log_gabor", lam=1.0, rho=0.8)
    assert (options.bank.family, options.contextual.lam, options.rho) == ("log_gabor", 1.0, 0.8)
    assert options.bank.scales == 5
    names = [*enhance.Options._fields, *monogenic.Options._fields, *transmission.Options._fields]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"familly": "assd"}, "did you mean 'family'"),
        ({"lwpa_form": "kovesy"}, "kovesi"),
        ({"elea_max": "flim"}, "did you mean 'film'"),
        ({"epsilon": 0}, "epsilon"),
    ],
)
def test_unknown_options_are_told(changes, words):
    with pytest.raises(UserError, match=words):
        enhance.enhance(np.ones(SHAPE), **changes)


def test_what_is_no_batch_of_films_is_told():
    with pytest.raises(UserError, match="expected float films"):
        enhance.enhance(jnp.ones((1, 8, 8, 3)))
