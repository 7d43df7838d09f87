"""The normalization layers against flax's: values, gradients and running statistics."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.nn.norm import batch_norm, group_norm

# Compiled without LLVM's optimizer: programs of milliseconds, of which there are many.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
LAYERS = {
    "batch": (batch_norm(True, momentum=0.8), nn.BatchNorm(use_running_average=False, momentum=0.8, epsilon=1e-5)),
    "running": (batch_norm(False), nn.BatchNorm(use_running_average=True, epsilon=1e-5)),
    "group": (group_norm(4), nn.GroupNorm(num_groups=4, epsilon=1e-5)),
}


def drawn(layer, x):
    """Its variables, drawn: a layer's own begin at ones and zeros."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: np.float32(rng.uniform(0.5, 2, a.shape)), layer.init(jax.random.key(0), x))


@pytest.mark.parametrize("shape", [(3, 5, 7, 8), (6, 8)])
@pytest.mark.parametrize("name", LAYERS)
def test_values_gradients_and_statistics_are_those_of_flax(name, shape):
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    x = 3 * x + 5
    ours, theirs = LAYERS[name]
    variables = drawn(theirs, x)
    assert jax.tree.map(jnp.shape, dict(ours.init(jax.random.key(0), x))) == jax.tree.map(jnp.shape, dict(variables))

    def run(layer):
        def loss(params, x):
            y, new = layer.apply({**variables, "params": params}, x, mutable=["batch_stats"])
            return (jnp.sin(y) * weight).sum(), (y, new)

        return jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(variables["params"], x)

    for a, b in zip(jax.tree.leaves(run(ours)), jax.tree.leaves(run(theirs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_half_precision_is_normalized_in_float32(name):
    """A mean of 200 leaves bfloat16 two digits of what is around it; sums of it in bfloat16 would leave none."""
    x = jnp.asarray(200 + np.random.default_rng(0).standard_normal((4, 16, 16, 8)), jnp.bfloat16)
    ours = LAYERS[name][0]
    variables = drawn(ours, x)
    whole = ours.apply(variables, x.astype(jnp.float32), mutable=["batch_stats"])[0]
    half = ours.clone(dtype=jnp.bfloat16).apply(variables, x, mutable=["batch_stats"])[0]
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), whole, rtol=1e-2, atol=1e-2)
