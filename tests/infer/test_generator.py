"""A trained generator as an object: what its programs are shared by."""

from __future__ import annotations

import jax
import numpy as np

from cxrjax import defaults
from cxrjax.infer import generator
from cxrjax.train import mesh as meshes

CLASSES = ("Mass", "Pneumonia")


def test_films_compile_once_a_shape_whatever_the_weights_and_however_often(caplog):
    net = {"name": "cdcgan", "size": 16, "features": 4}
    config = defaults.gan(net, 1e-3, 1, 8, latent=8)
    trained = [generator.untrained(config, CLASSES, 16, seed, meshes.make(1)) for seed in (0, 1)]
    z, c = generator.noise(trained[0].options, 6, 0), generator.codes(trained[0].options, np.arange(6) % 3)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        one, again, other, short = (
            t.films(z[:n], c[:n], 3)[-1] for t, n in zip((*trained[:1] * 2, *trained[::-1]), (6, 6, 6, 2), strict=True)
        )
    assert len([r for r in caplog.records if "Compiling jit(_generate)" in r.getMessage()]) == 1
    np.testing.assert_array_equal(again, one)
    np.testing.assert_array_equal(short, one[:2])
    assert (other != one).any()
