"""The two GANs: published sizes from shapes alone, and small ones run."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax import models
from cxrjax.errors import UserError
from cxrjax.models import cgan, dcgan

NOISE, CLASSES = 92, 8
TINY = {"sizes": (16, 32), "features": 8, "residuals": 1, "d_features": 4}
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def shaped(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def generator_shapes(net: Any, batch: int = 3) -> tuple[Any, Any]:
    """The variables and what a call returns."""
    args = shaped(batch, NOISE), shaped(batch, CLASSES), shaped()
    variables = jax.eval_shape(net.init, jax.random.key(0), *args)
    return variables, jax.eval_shape(net.apply, variables, *args)


def discriminator_shapes(net: Any, size: int, batch: int = 3) -> tuple[Any, Any]:
    args = shaped(batch, size, size, 1), shaped(batch, CLASSES)
    variables = jax.eval_shape(net.init, jax.random.key(0), *args)
    return variables, jax.eval_shape(net.apply, variables, *args)


def count(variables: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def shapes_of(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.shape, tree)


@pytest.mark.parametrize(("join", "expected"), [("latent", 16_475_392), ("c", 16_316_416)])
def test_the_generator_has_its_parameters_and_films(join: str, expected: int) -> None:
    net, _ = models.build_gan("cgan", join=join)
    variables, (films, endpoints) = generator_shapes(net)
    assert count(variables) == expected
    assert shapes_of(films) == ((3, 64, 64, 1), (3, 128, 128, 1), (3, 256, 256, 1))
    assert endpoints["query"].shape == endpoints["key"].shape == (3, 64 * 64, 8)
    assert [endpoints[f"h{i}"].shape[1:] for i in (1, 2, 3)] == [(64, 64, 64), (128, 128, 32), (256, 256, 16)]


def test_a_learned_tau_is_one_parameter_and_pooled_keys_are_a_quarter() -> None:
    net, _ = models.build_gan("cgan", tau="learned", kv_pool=2)
    variables, (_, endpoints) = generator_shapes(net)
    assert count(variables) == 16_475_392 + 1
    assert (endpoints["query"].shape[1], endpoints["key"].shape[1]) == (64 * 64, 32 * 32)


@pytest.mark.parametrize(("size", "expected"), [(64, 5_167_554), (128, 18_276_290), (256, 70_708_162)])
def test_a_discriminator_has_its_parameters_and_two_scores(size: int, expected: int) -> None:
    _, nets = models.build_gan("cgan")
    assert list(nets) == ["d64", "d128", "d256"]
    variables, (scores, endpoints) = discriminator_shapes(nets[f"d{size}"], size)
    assert count(variables) == expected
    assert shapes_of(scores) == ((3,), (3,))
    assert endpoints["features"].shape == (3, 4, 4, 512)
    kernels = [leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim == 4]
    vectors = jax.tree.leaves(variables["spectral"])  # one a convolution, as long as it has outputs
    assert sorted(k.shape[-1] for k in kernels) == sorted(u.shape[0] for u in vectors)
    assert set(variables) == {"params", "spectral"}


def test_the_dcgan_is_a_stem_and_six_convolutions_and_its_mirror() -> None:
    g, nets = models.build_gan("cdcgan")
    assert list(nets) == ["d256"]
    variables, (films, _) = generator_shapes(g)
    assert shapes_of(films) == ((3, 256, 256, 1),)
    widths = (1024, 512, 256, 128, 64, 32)
    between = sum(16 * a * b for a, b in itertools.pairwise(widths))
    assert count(variables) == 100 * 16 * 1024 + between + 2 * sum(widths) + (16 * 32 + 1)
    variables, (scores, endpoints) = discriminator_shapes(nets["d256"], 256)
    assert shapes_of(scores) == ((3,),)
    assert endpoints["features"].shape == (3, 4, 4, 1024)
    # The condition is 8 more channels at the input; the first map has a bias instead of a norm.
    assert count(variables) == (16 * 9 * 32 + 32) + between + 2 * sum(widths[:-1]) + (16 * 1024 + 1)


def inputs(batch: int = 3) -> tuple[jax.Array, jax.Array]:
    z = jax.random.normal(jax.random.key(1), (batch, NOISE))
    return z, jnp.eye(CLASSES)[jnp.arange(batch) % CLASSES]


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any, Any]:
    """A small generator, its variables, and a compiled call of it."""
    net, _ = models.build_gan("cgan", **TINY)
    variables = jit(net.init)(jax.random.key(0), *inputs(), jnp.float32(0))
    return net, variables, jit(net.apply)


def test_films_of_every_scale_are_within_the_unit_of_tanh_and_not_flat(tiny: Any) -> None:
    _, variables, call = tiny
    films, _ = call(variables, *inputs(), jnp.float32(0))
    assert shapes_of(films) == ((3, 16, 16, 1), (3, 32, 32, 1))
    for film in films:
        assert np.abs(film).max() <= 1
        assert np.std(film) > 0.01


def test_the_condition_changes_the_film_and_so_does_the_noise(tiny: Any) -> None:
    _, variables, call = tiny
    z, c = inputs()
    first, _ = call(variables, z, c, jnp.float32(0))
    for other in ((z, jnp.roll(c, 1, axis=1)), (z, jnp.zeros_like(c)), (z[::-1], c)):
        films, _ = call(variables, *other, jnp.float32(0))
        for a, b in zip(first, films, strict=True):
            assert (np.abs(a - b).max(axis=(1, 2, 3))[[0, 2]] > 1e-3).all()


def test_weight_zero_leaves_the_map_and_weight_one_adds_the_attention(tiny: Any) -> None:
    _, variables, call = tiny
    layer = cgan.SelfAttention(bottleneck=2)
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 6))
    params = layer.init(jax.random.key(1), x, jnp.float32(1))
    none, half, whole = (layer.apply(params, x, jnp.float32(tau))[0] for tau in (0, 0.5, 1))
    assert np.array_equal(none, x)
    assert np.abs(whole - x).max() > 0.1
    np.testing.assert_allclose(half - x, 0.5 * (whole - x), atol=1e-6)
    # In the network: before the first film, whose branch and all later ones it changes.
    zero, one = (call(variables, *inputs(), jnp.float32(tau)) for tau in (0, 1))
    for a, b in zip(zero[0], one[0], strict=True):
        assert np.abs(a - b).max() > 1e-4
    assert np.abs(zero[1]["h1"] - one[1]["h1"]).max() > 1e-4


def test_attention_is_the_formula_of_its_three_maps() -> None:
    layer = cgan.SelfAttention(bottleneck=2)
    x = jax.random.normal(jax.random.key(0), (1, 3, 3, 4))
    variables = layer.init(jax.random.key(1), x, jnp.float32(1))
    p, flat = variables["params"], np.asarray(x, np.float64).reshape(9, 4)
    f, g, h = (flat @ np.asarray(p[k]["kernel"])[0, 0] + np.asarray(p[k]["bias"]) for k in "fgh")
    s = np.exp(f @ g.T)  # s_ij of key i and query j
    o = (s / s.sum(axis=0)).T @ h
    y, _ = layer.apply(variables, x, jnp.float32(0.3))
    np.testing.assert_allclose(y.reshape(9, 4), flat + 0.3 * o, rtol=1e-4, atol=1e-5)


def test_a_learned_tau_starts_at_zero_and_listens_to_no_schedule(tiny: Any) -> None:
    _, variables, scheduled = tiny
    net, _ = models.build_gan("cgan", **TINY, tau="learned")
    init = jit(lambda: net.init(jax.random.key(0), *inputs(), jnp.float32(1))["params"]["tau"])
    assert float(init()) == 0
    learned = jit(net.apply)
    for own, given in ((0, 1), (1, 0)):
        mine = {**variables, "params": {**variables["params"], "tau": jnp.float32(own)}}
        films, _ = learned(mine, *inputs(), jnp.float32(given))
        expected, _ = scheduled(variables, *inputs(), jnp.float32(own))
        for a, b in zip(films, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((64, 256), r"\(64, 256\): each must be twice"),
        ((64, 64), r"\(64, 64\): each must be twice"),
        ((64, 96), "96 pixels is no 64 times a power of 2"),
        ((48, 96), "48 pixels is no 4 times a power of 2"),
        ((128, 64), "64 pixels is no 128 times"),
        ((2, 4), "2 pixels is no 4 times"),
    ],
)
def test_sizes_that_do_not_double_are_refused_by_name(sizes: tuple[int, ...], message: str) -> None:
    net, _ = models.build_gan("cgan", sizes=sizes)
    with pytest.raises(UserError, match=message):
        generator_shapes(net)


def test_a_dcgan_of_no_power_of_two_is_refused() -> None:
    g, nets = models.build_gan("cdcgan", size=96)
    with pytest.raises(UserError, match="96 pixels is no 4 times"):
        generator_shapes(g)
    with pytest.raises(UserError, match="96 pixels is no 4 times"):
        discriminator_shapes(nets["d96"], 96)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cgna", {}, "unknown GAN 'cgna'; did you mean 'cgan'"),
        ("cgan", {"size": 64}, "'size'; did you mean 'sizes'"),
        ("cgan", {"d_feature": 64}, "did you mean 'd_features'"),
        ("cdcgan", {"join": "c"}, "option of model 'cdcgan': 'join'"),
        ("cgan", {"join": "latnt"}, "join of model 'cgan': 'latnt'; did you mean 'latent'"),
        ("cgan", {"tau": "schedul"}, "did you mean 'schedule'"),
        ("cgan", {"dtype": "half16"}, "half16"),
    ],
)
def test_what_is_unknown_is_told_with_the_nearest(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build_gan(name, **options)


def test_options_reach_the_players() -> None:
    g, nets = models.build_gan("cgan", sizes=[16, 32], features=8, d_features=4, dtype="bfloat16")
    assert (g.sizes, g.features) == ((16, 32), 8)
    assert [(n, d.size, d.first, d.features) for n, d in nets.items()] == [("d16", 16, 16, 4), ("d32", 32, 16, 4)]
    assert {jnp.dtype(net.dtype) for net in (g, *nets.values())} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize(
    ("name", "options"), [("cgan", TINY), ("cdcgan", {"size": 16, "features": 4, "d_features": 4})]
)
def test_half_the_bits_compute_and_all_of_them_remain(tiny: Any, name: str, options: dict[str, Any]) -> None:
    half, nets = models.build_gan(name, **options, dtype="bfloat16")
    full, _ = models.build_gan(name, **options)
    found = [generator_shapes(half), *(discriminator_shapes(d, int(n.removeprefix("d"))) for n, d in nets.items())]
    for variables, (outputs, _) in found:
        assert {leaf.dtype for leaf in jax.tree.leaves((variables, outputs))} == {jnp.dtype("float32")}
    variables = tiny[1] if name == "cgan" else jit(full.init)(jax.random.key(0), *inputs(), jnp.float32(1))
    a, b = (jit(net.apply)(variables, *inputs(), jnp.float32(1))[0] for net in (full, half))
    for one, other in zip(a, b, strict=True):
        np.testing.assert_allclose(one, other, atol=0.2)
        assert not np.array_equal(one, other)  # computed in bfloat16 indeed


def test_the_scores_of_a_small_discriminator_tell_conditions_by_one_head_alone() -> None:
    net = models.build_gan("cgan", **TINY)[1]["d32"]
    x = jax.random.uniform(jax.random.key(2), (3, 32, 32, 1), minval=-1)
    _, c = inputs()
    variables = jit(net.init)(jax.random.key(0), x, c)
    call = jit(net.apply)
    (alone, together), _ = call(variables, x, c)
    (same, other), _ = call(variables, x, jnp.roll(c, 1, axis=1))
    assert np.array_equal(alone, same)
    assert (np.abs(together - other) > 1e-5).all()
    assert np.std(alone) > 0


def test_the_condition_reaches_the_score_of_the_dcgan() -> None:
    net = dcgan.Discriminator(16, 4)
    x = jax.random.uniform(jax.random.key(2), (3, 16, 16, 1), minval=-1)
    variables = jit(net.init)(jax.random.key(0), x, inputs()[1])
    call = jit(net.apply)
    a, b = (call(variables, x, c)[0][0] for c in (inputs()[1], jnp.zeros((3, CLASSES))))
    assert (np.abs(a - b) > 1e-6).all()
