"""The U-Net: zero noise at birth, closed forms of its parts, the time reaches the output."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax import models
from cxrjax.errors import UserError
from cxrjax.models.unet import ResBlock, fold, unfold
from cxrjax.nn.attention import AttentionBlock
from cxrjax.nn.conv import double, halve
from cxrjax.nn.embedding import timestep_embedding

OPTIONS: dict[str, Any] = {"base": 8, "mults": (1, 2), "groups": 4, "attention": (4,)}


def _inputs() -> tuple[jax.Array, jax.Array]:
    return jax.random.normal(jax.random.key(3), (2, 8, 8, 1)), jnp.array([0, 999])


@pytest.fixture(scope="module")
def awake() -> tuple[Any, Any]:
    """A small U-Net whose zero-initialized layers were given weights."""
    net = models.build("unet_tiny", **OPTIONS)
    variables = jax.jit(net.init)(jax.random.key(0), *_inputs())
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(9), len(leaves))
    leaves = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.jit(net.apply), jax.tree.unflatten(tree, leaves)


def test_predicts_exactly_zero_at_initialization() -> None:
    net = models.build("unet_tiny", **OPTIONS)
    eps, ends = jax.jit(net.init_with_output)(jax.random.key(0), *_inputs())[0]
    np.testing.assert_array_equal(eps, np.zeros((2, 8, 8, 1)))
    assert ends["middle"].shape == (2, 4, 4, 16)
    assert float(jnp.abs(ends["middle"]).max()) > 0


def test_timestep_embedding_closed_form() -> None:
    got = timestep_embedding(jnp.array([0, 1, 999]), 8)
    for i, t in enumerate([0, 1, 999]):
        for k in range(4):
            angle = t * 10_000 ** (-k / 4)
            np.testing.assert_allclose(got[i, k], np.sin(angle), atol=1e-4)
            np.testing.assert_allclose(got[i, 4 + k], np.cos(angle), atol=1e-4)
    np.testing.assert_array_equal(timestep_embedding(jnp.array([3]), 8), timestep_embedding(jnp.array([3.0]), 8))


def test_time_reaches_the_output_and_films_stay_apart(awake: tuple[Any, Any]) -> None:
    apply, variables = awake
    x, t = _inputs()
    eps = apply(variables, x, t)[0]
    swapped = apply(variables, x[::-1], t[::-1])[0]
    np.testing.assert_allclose(swapped[::-1], eps, rtol=1e-4, atol=1e-4)
    later = apply(variables, x, t.at[0].set(500))[0]
    assert float(jnp.abs(later[0] - eps[0]).max()) > 1e-3
    np.testing.assert_allclose(later[1], eps[1], rtol=1e-4, atol=1e-4)


def test_half_precision_changes_little(awake: tuple[Any, Any]) -> None:
    apply, variables = awake
    exact = apply(variables, *_inputs())[0]
    half = jax.jit(models.build("unet_tiny", dtype="bfloat16", **OPTIONS).apply)(variables, *_inputs())[0]
    assert half.dtype == jnp.float32
    assert float(jnp.abs(half - exact).mean()) < 0.05 * float(jnp.abs(exact).mean())
    assert not np.array_equal(half, exact)


def test_attention_sits_at_the_named_map_sizes() -> None:
    def sites(attention: tuple[int, ...]) -> set[str]:
        net = models.build("unet", base=8, mults=(1, 2), groups=4, attention=attention)
        params = jax.eval_shape(net.init, jax.random.key(0), *_inputs())["params"]
        return {name for name in params if "attention" in name}

    assert sites(()) == {"middle_attention"}
    deep = {"down1_0", "down1_1", "up1_0", "up1_1", "up1_2"}
    assert sites((4,)) == {f"{name}_attention" for name in deep} | {"middle_attention"}


def test_attention_commutes_with_a_permutation_of_positions() -> None:
    block = AttentionBlock(heads=2, groups=4)
    x = jax.random.normal(jax.random.key(0), (1, 3, 4, 8))
    variables = block.init(jax.random.key(1), x)
    np.testing.assert_array_equal(block.apply(variables, x), x)  # the projection is born zero
    variables["params"]["proj"]["kernel"] = jax.random.normal(jax.random.key(2), (8, 8))
    order = np.random.default_rng(0).permutation(12)
    shuffled = x.reshape(1, 12, 8)[:, order].reshape(x.shape)
    expected = np.asarray(block.apply(variables, x)).reshape(1, 12, 8)[:, order].reshape(x.shape)
    np.testing.assert_allclose(np.asarray(block.apply(variables, shuffled)), expected, rtol=1e-4, atol=1e-5)


def test_a_newborn_resampling_block_is_the_resampling() -> None:
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 8))
    emb = jnp.ones((1, 16))
    for kind, resize in {"down": halve, "up": double}.items():
        y, _ = ResBlock(8, kind, groups=4).init_with_output(jax.random.key(1), x, emb, False)
        np.testing.assert_array_equal(y, resize(x))
    np.testing.assert_allclose(halve(double(x)), x, rtol=1e-6)


def test_patches_fold_and_unfold() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    folded = fold(x, 2)
    assert folded.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(unfold(folded, 2), x)
    np.testing.assert_array_equal(np.sort(folded[1, 1, 2]), np.sort(x[1, 2:4, 4:6].reshape(-1)))


def test_sides_and_groups_that_do_not_divide_are_told() -> None:
    t = jnp.zeros((1,))
    with pytest.raises(UserError, match="divisible by 4"):
        models.build("unet_tiny").init(jax.random.key(0), jnp.zeros((1, 30, 32, 1)), t)
    with pytest.raises(UserError, match="groups"):
        models.build("unet_tiny", base=20, groups=8).init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)), t)


@pytest.mark.parametrize("updown", ["plain", pytest.param("block", marks=pytest.mark.slow)])
def test_a_constant_map_of_times_is_one_time(updown: str) -> None:
    net = models.build("unet_tiny", **OPTIONS, patch=2, updown=updown)
    x, t = jax.random.normal(jax.random.key(3), (2, 16, 16, 1)), jnp.array([3, 999])
    variables = jax.jit(net.init)(jax.random.key(0), x, t)
    variables = jax.tree.map(lambda p: p + 0.02, variables)
    apply = jax.jit(net.apply)
    eps, _ = apply(variables, x, t)
    spread, _ = apply(variables, x, jnp.broadcast_to(t[:, None, None], (2, 16, 16)))
    np.testing.assert_allclose(spread, eps, atol=1e-5)
    half = jnp.broadcast_to(t[:, None, None], (2, 16, 16)).at[:, :, 8:].set(500)
    assert float(jnp.abs(apply(variables, x, half)[0] - eps).max()) > 1e-4
