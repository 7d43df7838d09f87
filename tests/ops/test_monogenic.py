"""The monogenic signal: Kovesi's own code as an oracle, and what waves, turns and constants must give."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.errors import UserError
from cxrjax.ops import monogenic

KOVESI = {"nscale": 5, "minWaveLength": 3, "mult": 2.1, "sigmaOnf": 0.55}
PLAIN = monogenic.DEFAULT._replace(boundary="plain")
# The settings of Kovesi's phasesymmono.
PHASESYMMONO = monogenic.PHASECONGMONO._replace(boundary="plain", guard_cutoff=0.4, guard_order=10.0)


def films(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def phasepack():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("phasepack")


@pytest.mark.parametrize("shape", [(33, 48), (48, 31)])
def test_kovesis_code_gives_the_same_phase_angle_and_symmetry_energy(shape):
    theirs, x = phasepack(), films(2, *shape)
    with jax.enable_x64(True):
        total = monogenic.summed(jnp.asarray(x), monogenic.PHASECONGMONO)
        angle = np.asarray(jnp.arctan2(total.even, jnp.hypot(total.odd1, total.odd2)))
        energy = np.asarray(monogenic.folded(jnp.asarray(x), PHASESYMMONO).symmetry)
    for i, film in enumerate(x):
        np.testing.assert_allclose(angle[i], theirs.phasecongmono(film, **KOVESI)[2], atol=1e-10, rtol=0)
        np.testing.assert_allclose(energy[i], theirs.phasesymmono(film, **KOVESI)[1], atol=1e-10, rtol=0)


def test_a_wave_has_constant_amplitude_its_phase_and_its_hilbert_partner():
    wavelength, n = 8.0, 64
    phase = 2 * np.pi * np.arange(n) / wavelength + 0.3
    film = np.broadcast_to(np.cos(phase), (n, n))
    with jax.enable_x64(True):
        even, odd1, odd2 = (np.asarray(part)[:, 0] for part in monogenic.monogenic(jnp.asarray(film)[None], PLAIN))
    gain = monogenic.band(np.array(1 / wavelength), 3.0 * 2.1 ** np.arange(5), PLAIN)
    gain = gain / (1 + (1 / wavelength / 0.45) ** 30)
    np.testing.assert_allclose(even, gain[:, None, None] * film, atol=1e-12)
    np.testing.assert_allclose(np.abs(odd1), np.broadcast_to(gain[:, None, None] * np.abs(np.sin(phase)), odd1.shape))
    np.testing.assert_allclose(odd2, 0, atol=1e-12)


@pytest.mark.parametrize("boundary", monogenic.BOUNDARIES)
@pytest.mark.parametrize("n", [24, 25])
def test_a_turned_film_has_a_turned_signal(boundary, n):
    options = monogenic.DEFAULT._replace(boundary=boundary)
    x = films(1, n, n)
    with jax.enable_x64(True):
        upright = [np.asarray(part)[:, 0] for part in monogenic.monogenic(jnp.asarray(x), options)]
        turned = monogenic.monogenic(jnp.asarray(np.rot90(x, axes=(1, 2)).copy()), options)
        even, odd1, odd2 = (np.rot90(np.asarray(part)[:, 0], -1, axes=(1, 2)) for part in turned)
    np.testing.assert_allclose(even, upright[0], atol=1e-12)
    np.testing.assert_allclose(odd1, upright[2], atol=1e-12)  # the axes change places
    np.testing.assert_allclose(odd2, -upright[1], atol=1e-12)


def test_a_constant_added_changes_nothing_and_a_constant_film_gives_zeros():
    x = films(2, 20, 21).astype(np.float32)
    before, after = monogenic.monogenic(x), monogenic.monogenic(x + np.float32(0.5))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for part in monogenic.monogenic(np.full((1, 29, 23), 0.3, np.float32)):
        assert not np.asarray(part).any()


def test_the_folded_sums_are_those_of_the_signal():
    x = films(2, 22, 19).astype(np.float32)
    signal, folded, total = monogenic.monogenic(x), monogenic.folded(x), monogenic.summed(x)
    power = signal.odd1**2 + signal.odd2**2
    for part, whole, short in zip(signal, folded.total, total, strict=True):
        np.testing.assert_allclose(whole, part.sum(axis=0), atol=2e-6)
        np.testing.assert_allclose(short, part.sum(axis=0), atol=2e-6)
    np.testing.assert_allclose(folded.symmetry, (jnp.abs(signal.even) - jnp.sqrt(power)).sum(axis=0), atol=5e-6)
    np.testing.assert_allclose(folded.odd_power, power.sum(axis=0), atol=5e-6)
    assert signal.even.shape == (5, 2, 22, 19)


@pytest.mark.parametrize(
    ("options", "octaves"),
    [
        (monogenic.Options(alpha=0.25, a=1.0), 4.90),
        (monogenic.Options(), 1.99),
        (monogenic.Options(alpha=1.0, a=4.0), 1.22),
        (monogenic.Options(family="log_gabor"), 2.03),
        (monogenic.Options(family="log_gabor", kappa=0.75), 0.98),
    ],
)
def test_filters_peak_at_their_wavelength_with_the_bandwidth_of_their_family(options, octaves):
    radius = np.exp2(np.linspace(-12, 4, 400_001)) / 10.0
    gain = monogenic.band(radius, 10.0, options)
    assert gain.max() == pytest.approx(1.0)
    assert radius[gain.argmax()] == pytest.approx(0.1, rel=1e-3)
    passed = radius[gain >= 0.5]
    assert np.log2(passed[-1] / passed[0]) == pytest.approx(octaves, abs=0.006)


def test_a_ramp_which_a_wrapped_border_makes_a_cliff_is_flat_in_its_periodic_component():
    ramp = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32), (1, 64, 64))
    energy = {
        b: float(jnp.abs(monogenic.summed(ramp, monogenic.DEFAULT._replace(boundary=b)).odd1).max())
        for b in ("periodic", "plain")
    }
    assert energy["periodic"] < 0.1 * energy["plain"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"family": "asdd"}, "did you mean 'assd'"),
        ({"boundary": "wrap"}, "periodic, plain, reflect"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"scales": 0}, "scales is 0"),
        ({"min_wavelength": 1.0}, "at least 2 pixels"),
    ],
)
def test_options_out_of_range_are_told(changes, words):
    with pytest.raises(UserError, match=words):
        monogenic.monogenic(jnp.ones((1, 8, 8)), monogenic.DEFAULT._replace(**changes))


@pytest.mark.parametrize("image", [jnp.ones((8, 8)), jnp.ones((1, 8, 8), jnp.int32), jnp.ones((1, 2, 8))])
def test_what_is_no_batch_of_films_is_told(image):
    with pytest.raises(UserError, match="expected"):
        monogenic.monogenic(image)
