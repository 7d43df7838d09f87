"""Maps of diffusion times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.errors import UserError
from cxrjax.ops import noise, timemap


def test_blobs_are_empty_here_full_there_and_soft_between():
    keys = jax.random.split(jax.random.key(0), 200)
    maps = np.asarray(jax.vmap(lambda k: timemap.blobs(k, (16, 16)))(keys))
    assert maps.min() == 0
    assert maps.max() == 1
    everywhere = (maps == 1).all(axis=(1, 2)).mean()
    assert 0.05 < everywhere < 0.25
    assert 0.2 < (maps == 0).mean() < 0.8
    assert ((maps > 0) & (maps < 1)).any(axis=(1, 2)).mean() > 0.5
    # Neighbors are alike: blobs, not noise.
    assert np.abs(np.diff(maps, axis=1)).mean() < 0.15


def test_a_pooled_map_is_the_mean_of_its_squares():
    t = jnp.arange(2 * 4 * 8).reshape(2, 4, 8)
    pooled = timemap.pooled(t, 4)
    assert pooled.shape == (2, 2, 4)
    assert float(pooled[0, 0, 0]) == np.mean([0, 1, 8, 9])


def test_draws_of_a_film_do_not_depend_on_its_batch():
    keys, t = jax.random.split(jax.random.key(0), 3), jnp.asarray([5, 90, 400])
    for name in noise.NOISES:
        draw = noise.of(name, {"wavelength": 8.0} if name == "simplex" else None)
        together = noise.draw(draw, keys, t, (8, 8, 2))
        assert together.shape == (3, 8, 8, 2)
        np.testing.assert_allclose(noise.draw(draw, keys[1:2], t[1:2], (8, 8, 2))[0], together[1], atol=1e-6)
        assert float(jnp.abs(together[0] - together[1]).mean()) > 0.05
        assert float(jnp.abs(together[0, ..., 0] - together[0, ..., 1]).mean()) > 0.05


def test_an_unknown_noise_is_refused():
    with pytest.raises(UserError, match="perlin"):
        noise.of("perlin")
