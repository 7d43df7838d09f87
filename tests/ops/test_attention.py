"""Blockwise attention is dense attention, in a fraction of its memory; so is the fused kernel, where it is taken."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.ops import attention

jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def inputs(m, n, b=2, d=4, e=6):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = ((b, m, d), (b, n, d), (b, n, e))
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def gradients(function):
    """The gradients by query, key and value of a loss that no output drops out of."""
    return jax.grad(lambda *qkv: jnp.sin(function(*qkv)).sum(), argnums=(0, 1, 2))


# Whole blocks with more keys than queries, and a last block of one query with fewer.
@pytest.mark.parametrize(("m", "n", "block"), [(16, 33, 8), (17, 5, 8)])
def test_blockwise_is_dense_in_value_and_gradients(m, n, block):
    qkv = inputs(m, n)
    blockwise = partial(attention.blockwise, block=block)
    both = [jit(lambda *qkv, f=f: (f(*qkv), gradients(f)(*qkv)))(*qkv) for f in (attention.dense, blockwise)]
    assert both[1][0].shape == (2, m, 6)
    for a, b in zip(*(jax.tree.leaves(x) for x in both), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_dense_is_the_formula():
    q, k, v = (np.asarray(x, np.float64) for x in inputs(5, 7))
    weights = np.exp(np.einsum("bmd,bnd->bmn", q, k))
    expected = np.einsum("bmn,bne->bme", weights / weights.sum(axis=-1, keepdims=True), v)
    np.testing.assert_allclose(attention.dense(*inputs(5, 7)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_query_that_tells_no_key_from_another_gives_the_mean_of_the_values(scale):
    q, k, v = inputs(11, 7)
    k = jnp.broadcast_to(k[:, :1], k.shape) if scale else k  # equal keys, or a query of nothing
    expected = np.broadcast_to(v.mean(axis=1, keepdims=True), (2, 11, 6))
    np.testing.assert_allclose(attention.blockwise(scale * q, k, v, block=4), expected, atol=1e-5)


def test_scores_that_overflow_an_exponential_do_not():
    q, k, v = inputs(9, 6)
    out = np.asarray(attention.blockwise(1e4 * q, k, v, block=4))
    best = np.einsum("bmd,bnd->bmn", q, k).argmax(axis=-1)
    np.testing.assert_allclose(out, np.take_along_axis(np.asarray(v), best[..., None], axis=1), atol=1e-5)


def test_memory_of_blockwise_at_64_by_64_positions_is_a_fraction_of_that_of_dense():
    n, b, d, e = 64 * 64, 16, 8, 64
    shapes = [jax.ShapeDtypeStruct((b, n, width), jnp.float32) for width in (d, d, e)]

    def peak(function):
        compiled = jit(gradients(function)).lower(*shapes).compile()  # never run
        return compiled.memory_analysis().temp_size_in_bytes

    pairs = 4 * b * n * n  # bytes of one float32 map of all pairs
    dense, blockwise = peak(attention.dense), peak(attention.blockwise)
    assert dense >= pairs
    assert blockwise < dense / 4
    assert blockwise < pairs / 4  # no such map at all


def heads(n=70, h=3, d=8):
    return jax.random.normal(jax.random.key(0), (3, 2, n, h, d))


def test_attend_is_a_weighted_mean():
    q, k, v = heads(n=5)
    mean = np.broadcast_to(v.mean(1, keepdims=True), v.shape)
    np.testing.assert_allclose(attention.attend(0 * q, k, v), mean, atol=1e-5)
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(8)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("bhqk,bkhd->bqhd", weights, v)
    np.testing.assert_allclose(attention.attend(q, k, v), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pairs", [2**20, 70 * 32], ids=["one block", "three blocks"])
def test_the_fused_form_is_ours_in_value_and_gradients(monkeypatch, pairs):
    monkeypatch.setattr(attention, "PAIRS", pairs)
    monkeypatch.setattr(attention, "BLOCK", 16)
    forms = (attention.attend, partial(attention.fused, implementation="xla"))
    ours, theirs = (jit(lambda *qkv, f=f: (f(*qkv), gradients(f)(*qkv)))(*heads()) for f in forms)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_fused_kernel_is_taken_where_it_runs(monkeypatch):
    asked = []
    monkeypatch.setattr(attention, "fuses", lambda query: query.dtype == jnp.bfloat16)
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *qkv, **options: asked.append(options) or qkv[2])
    attention.attend(*heads(n=5))
    assert asked == []
    attention.attend(*heads(n=5).astype(jnp.bfloat16))
    assert asked == [{"implementation": "cudnn"}]


@pytest.mark.parametrize(
    ("backend", "capability", "dtype", "width", "expected"),
    [
        ("gpu", "9.0", "bfloat16", 256, True),
        ("gpu", "9.0", "bfloat16", 264, False),
        ("gpu", "8.0", "float16", 128, True),
        ("gpu", "8.0", "bfloat16", 256, False),
        ("gpu", "12.0", "bfloat16", 64, True),
        ("gpu", "9.0", "float32", 64, False),
        ("gpu", "9.0", "bfloat16", 60, False),
        ("gpu", "7.5", "float16", 64, False),
        ("gpu", "gfx942", "bfloat16", 64, False),
        ("cpu", "", "bfloat16", 64, False),
        ("tpu", "", "bfloat16", 64, False),
    ],
)
def test_the_fused_kernels_conditions(monkeypatch, backend, capability, dtype, width, expected):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "local_devices", lambda: [SimpleNamespace(compute_capability=capability)])
    assert attention.fuses(jax.ShapeDtypeStruct((1, 64, 2, width), jnp.dtype(dtype))) is expected
