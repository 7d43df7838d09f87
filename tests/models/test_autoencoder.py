"""The autoencoder: its published size, the latent's distribution, films apart; its patch discriminator."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax import models
from cxrjax.errors import UserError

SMALL: dict[str, Any] = {"channels": (8, 16), "latent": 2, "groups": 4, "d_features": 4, "d_layers": 1}
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def abstract(net: Any, size: int) -> Any:
    """A network's variables for films of a size, without any computation."""
    film = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    if not isinstance(net, models.Autoencoder):
        return jax.eval_shape(net.init, jax.random.key(0), film)
    noise = jax.ShapeDtypeStruct(net.latent_shape(film.shape), jnp.float32)
    return jax.eval_shape(net.init, jax.random.key(0), film, noise)


def count(variables: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def conv(kernel: int, inputs: int, outputs: int) -> int:
    return kernel**2 * inputs * outputs + outputs


def residual(inputs: int, outputs: int) -> int:
    """Two GroupNorms, two convolutions, and a third where channels differ."""
    skip = conv(1, inputs, outputs) if inputs != outputs else 0
    return 2 * inputs + conv(3, inputs, outputs) + 2 * outputs + conv(3, outputs, outputs) + skip


def test_the_published_form_has_the_parameters_of_its_layer_list() -> None:
    net, patch = models.build_autoencoder("autoencoder")
    encoder = [
        conv(3, 1, 64),
        residual(64, 64), residual(64, 64), conv(3, 64, 64),  # 512 px, halved
        residual(64, 128), residual(128, 128), conv(3, 128, 128),  # 256 px, halved
        residual(128, 128), residual(128, 128), conv(3, 128, 128),  # 128 px, halved
        residual(128, 128), residual(128, 128),  # 64 px
        2 * 128, conv(3, 128, 6),
    ]  # fmt: skip
    decoder = [
        conv(3, 3, 128),
        residual(128, 128), residual(128, 128), conv(3, 128, 128),  # 64 px, doubled
        residual(128, 128), residual(128, 128), conv(3, 128, 128),  # 128 px, doubled
        residual(128, 128), residual(128, 128), conv(3, 128, 128),  # 256 px, doubled
        residual(128, 64), residual(64, 64),  # 512 px
        2 * 64, conv(3, 64, 1),
    ]  # fmt: skip
    assert net.latent_shape((2, 512, 512, 1)) == (2, 64, 64, 3)
    variables = abstract(net, 512)
    assert count({"params": variables["params"]["encoder"]}) == sum(encoder) == 2_196_678
    assert count({"params": variables["params"]["decoder"]}) == sum(decoder) == 2_414_593
    # 4x4 convolutions, of which those before a GroupNorm have no bias.
    hidden = sum(16 * i * o + 2 * o for i, o in ((64, 128), (128, 256), (256, 512)))
    assert count(abstract(patch, 512)) == conv(4, 1, 64) + hidden + conv(4, 512, 1) == 2_763_585


def test_residual_blocks_may_stand_next_to_the_latent() -> None:
    none, two = (abstract(models.build_autoencoder("autoencoder", middle=n)[0], 64)["params"] for n in (0, 2))
    for part in ("encoder", "decoder"):
        assert set(two[part]) - set(none[part]) == {"middle_0", "middle_1"}


@pytest.fixture(scope="module")
def small() -> tuple[Any, Any, Any]:
    """A small autoencoder, its variables, and two films of 16 px."""
    net, _ = models.build_autoencoder("autoencoder_tiny", **SMALL)
    x = jax.random.uniform(jax.random.key(1), (2, 16, 16, 1), minval=-1.0, maxval=1.0)
    return net, jit(net.init)(jax.random.key(0), x, jnp.zeros((2, 4, 4, 2))), x


def test_the_latent_is_the_mean_plus_the_deviation_times_noise(small: tuple[Any, Any, Any]) -> None:
    net, variables, x = small
    noise = jax.random.normal(jax.random.key(2), (2, 4, 4, 2))
    made, ends = jit(net.apply)(variables, x, noise)
    mean, logvar = jit(partial(net.apply, method="encode"))(variables, x)
    np.testing.assert_allclose(ends["mean"], mean, atol=1e-5)
    np.testing.assert_allclose(ends["logvar"], logvar, atol=1e-5)
    np.testing.assert_allclose(ends["z"], mean + np.exp(0.5 * logvar) * noise, rtol=1e-5, atol=1e-5)
    decode = jit(partial(net.apply, method="decode"))
    np.testing.assert_allclose(decode(variables, ends["z"]), made, atol=1e-5)
    assert not np.allclose(decode(variables, mean), made, atol=1e-4)


@pytest.mark.parametrize(("bias", "expected"), [(1e4, 20.0), (-1e4, -30.0)])
def test_the_log_variance_has_bounds_and_the_mean_has_none(
    small: tuple[Any, Any, Any], bias: float, expected: float
) -> None:
    net, variables, x = small
    encoder = variables["params"]["encoder"]
    out = {**encoder["out"], "bias": jnp.full(4, bias)}
    changed = {"params": {**variables["params"], "encoder": {**encoder, "out": out}}}
    mean, logvar = jit(partial(net.apply, method="encode"))(changed, x)
    np.testing.assert_array_equal(logvar, np.full((2, 4, 4, 2), expected))
    np.testing.assert_allclose(mean, np.full((2, 4, 4, 2), bias), rtol=1e-2)


def test_films_stay_apart(small: tuple[Any, Any, Any]) -> None:
    net, variables, x = small
    encode = jit(partial(net.apply, method="encode"))
    mean, other = (encode(variables, films)[0] for films in (x, x.at[1].set(0.3)))
    np.testing.assert_array_equal(mean[0], other[0])
    assert not np.allclose(mean[1], other[1], atol=1e-3)
    _, patch = models.build_autoencoder("autoencoder_tiny", **SMALL)
    variables = jit(patch.init)(jax.random.key(0), x)
    score, other = (jit(patch.apply)(variables, films) for films in (x, x.at[1].set(0.3)))
    np.testing.assert_array_equal(score[0], other[0])
    assert not np.array_equal(score[1], other[1])


def test_half_precision_changes_little(small: tuple[Any, Any, Any]) -> None:
    net, variables, x = small
    noise = jnp.zeros((2, 4, 4, 2))
    exact, ends = jit(net.apply)(variables, x, noise)
    half_net, patch = models.build_autoencoder("autoencoder_tiny", **SMALL, dtype="bfloat16")
    assert patch.dtype == jnp.bfloat16
    half, half_ends = jit(half_net.apply)(variables, x, noise)
    for a, b in ((exact, half), (ends["mean"], half_ends["mean"]), (ends["logvar"], half_ends["logvar"])):
        assert b.dtype == jnp.float32
        assert not np.array_equal(a, b)
        assert float(jnp.abs(a - b).mean()) < 0.03 * float(jnp.abs(a).mean())
    made = jax.eval_shape(half_net.init, jax.random.key(0), x, noise)
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype("float32")}


def test_what_does_not_fit_is_told() -> None:
    net, patch = models.build_autoencoder("autoencoder_tiny", **SMALL)
    with pytest.raises(UserError, match="18x16 px does not halve 1 times after patches of 2; use sides divisible by 4"):
        net.init(jax.random.key(0), jnp.zeros((1, 18, 16, 1)), jnp.zeros((1, 4, 4, 2)))
    with pytest.raises(UserError, match="films of 3 channels"):
        net.latent_shape((1, 16, 16, 3))
    with pytest.raises(UserError, match=r"\(8, 12\) must each divide by groups=8"):
        abstract(models.build_autoencoder("autoencoder_tiny", channels=(8, 12), groups=8)[0], 16)
    with pytest.raises(UserError, match="4x4 px is too small for 1 layers"):
        abstract(patch, 4)
    with pytest.raises(UserError, match="8 channels do not divide by groups=16"):
        abstract(models.build_autoencoder("autoencoder_tiny", groups=16, d_features=4)[1], 64)
    with pytest.raises(UserError, match="unknown autoencoder 'autoencoder_tyni'; did you mean 'autoencoder_tiny'"):
        models.build_autoencoder("autoencoder_tyni")
    with pytest.raises(UserError, match="unknown option of model 'autoencoder': 'd_layer'; did you mean 'd_layers'"):
        models.build_autoencoder("autoencoder", d_layer=2)
