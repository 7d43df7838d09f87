"""The convolution of a doubled map against doubling first, in a layer whose parameters are those of any other."""

import jax
import numpy as np

from cxrjax.nn.conv import conv, double


def test_a_convolution_of_the_doubled_map_is_doubling_and_convolving():
    x = np.random.default_rng(0).standard_normal((2, 5, 4, 3)).astype(np.float32)
    plain, doubled = conv(6, 3, bias=True), conv(6, 3, bias=True, doubled=True)
    variables = plain.init(jax.random.key(0), x)
    assert jax.tree.structure(doubled.init(jax.random.key(0), x)) == jax.tree.structure(variables)
    np.testing.assert_allclose(doubled.apply(variables, x), plain.apply(variables, double(x)), rtol=1e-5, atol=1e-5)
