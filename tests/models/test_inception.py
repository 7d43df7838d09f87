"""Inception-v3: torchvision's sizes and names, an auxiliary head in training alone, a small member of every block."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax import models
from cxrjax.errors import UserError
from cxrjax.models.inception import AuxHead, BasicConv2d
from cxrjax.nn.conv import mean3


def _shapes(name: str, size: int, channels: int, **options: Any) -> tuple[Any, Any]:
    """Endpoints in training and parameters, from shapes alone."""
    net = models.build(name, 5, **options)
    films = jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)
    variables = jax.eval_shape(net.init, jax.random.key(0), films)

    def forward(variables: Any, films: jax.Array) -> Any:
        rngs = {"dropout": jax.random.key(1)}
        return net.apply(variables, films, train=True, mutable=["batch_stats"], rngs=rngs)[0]

    (_, ends) = jax.eval_shape(forward, variables, films)
    return ends, variables["params"]


@pytest.mark.parametrize(("size", "sides"), [(299, (35, 17, 8)), (256, (29, 14, 6))])
def test_sizes_and_names_are_torchvision_s_and_the_auxiliary_head_adapts(size: int, sides: tuple[int, ...]) -> None:
    ends, params = _shapes("inception_v3", size, 1)
    assert [ends[name].shape[1] for name in ("Mixed_5d", "Mixed_6e", "Mixed_7c")] == list(sides)
    assert [ends[name].shape[3] for name in ("Mixed_5b", "Mixed_5d", "Mixed_6a", "Mixed_6e")] == [256, 288, 768, 768]
    assert [ends[name].shape[3] for name in ("Mixed_7a", "Mixed_7b", "Mixed_7c")] == [1280, 2048, 2048]
    assert ends["aux_logits"].shape == (2, 5)
    backbone = params["backbone"]
    assert backbone["Conv2d_1a_3x3"]["conv"]["kernel"].shape == (3, 3, 1, 32)
    assert backbone["Mixed_6c"]["branch7x7dbl_2"]["conv"]["kernel"].shape == (7, 1, 160, 160)
    assert backbone["Mixed_7b"]["branch3x3dbl_3a"]["conv"]["kernel"].shape == (1, 3, 384, 384)
    assert set(params["aux"]) == {"conv0", "conv1", "fc"}


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def _variables(net: Any, *args: Any) -> Any:
    """Random kernels and fresh statistics from shapes alone: no initializer is compiled."""

    def fill(path: Any, leaf: Any) -> np.ndarray:
        if path[-1].key == "kernel":
            return 0.3 * _normal(*leaf.shape)
        return np.full(leaf.shape, path[-1].key in ("var", "scale"), np.float32)

    shapes = jax.eval_shape(lambda key: net.init(key, *args), jax.random.key(0))
    return jax.tree.map_with_path(fill, shapes)


def test_normalization_has_its_own_epsilon() -> None:
    unit = BasicConv2d(4, 1)
    x = _normal(2, 3, 3, 2)
    variables = _variables(unit, x, False)
    expected = np.maximum(x @ variables["params"]["conv"]["kernel"][0, 0], 0) / math.sqrt(1 + 1e-3)
    ours = jax.jit(unit.apply, static_argnums=2)(variables, x, False)
    np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-7)  # an epsilon of 1e-5 is 5e-4 away


def test_mean3_counts_the_zeros_beyond_the_edge() -> None:
    x = _normal(2, 4, 5, 3)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = sum(padded[:, i : i + 4, j : j + 5] for i in range(3) for j in range(3)) / 9
    np.testing.assert_allclose(jax.jit(mean3)(x), expected, rtol=1e-5, atol=1e-6)


def test_auxiliary_head_pools_as_torchvision_at_299_px() -> None:
    """A map of 17x17 is pooled by windows of five, three apart, whose middle rows an adaptive pool would shift."""
    head = AuxHead(2, scale=0.02)
    x, apply = _normal(1, 17, 17, 3), jax.jit(head.apply)
    variables = _variables(head, {"aux_input": x})
    pooled = np.empty((1, 5, 5, 3), np.float32)
    for i in range(5):
        for j in range(5):
            pooled[:, i, j] = x[:, 3 * i : 3 * i + 5, 3 * j : 3 * j + 5].mean((1, 2))
    expected = apply(variables, {"aux_input": pooled})
    np.testing.assert_allclose(apply(variables, {"aux_input": x}), expected, rtol=1e-4, atol=1e-6)


def test_the_tiny_member_runs_and_its_auxiliary_head_speaks_in_training_alone() -> None:
    net = models.build("inception_tiny", 3)
    films = _normal(2, 13, 13, 1)
    variables = _variables(net, films)
    # Evaluation needs no auxiliary head, neither its output nor its parameters.
    shared = {kind: {k: v for k, v in tree.items() if k != "aux"} for kind, tree in variables.items()}
    logits, ends = jax.jit(net.apply)(shared, films)
    assert logits.shape == (2, 3)
    assert np.isfinite(logits).all()
    assert np.ptp(logits) > 0
    assert "aux_logits" not in ends

    net = models.build("inception_tiny", 3, blocks=(0, 1, 0))
    variables = _variables(net, films)

    @jax.jit
    @jax.grad
    def aux_gradient(params: Any) -> jax.Array:
        given = {**variables, "params": params}
        (_, ends), _ = net.apply(given, films, train=True, mutable=["batch_stats"])
        return (ends["aux_logits"] ** 2).sum()

    gradient = aux_gradient(variables["params"])
    size = {
        name: float(jnp.abs(layer["conv"]["kernel"]).max()) for name, layer in gradient["aux"].items() if name != "fc"
    }
    assert min(size.values()) > 0
    assert float(jnp.abs(gradient["backbone"]["Conv2d_1a_3x3"]["conv"]["kernel"]).max()) > 0
    above = jax.tree.leaves([gradient["head"], gradient["backbone"]["Mixed_7a"]])
    assert not any(np.asarray(leaf).any() for leaf in above)


@pytest.mark.parametrize(("name", "least"), [("inception_v3", 75), ("inception_tiny", 13)])
def test_too_small_films_are_refused(name: str, least: int) -> None:
    with pytest.raises(UserError, match=f"at least {least} px"):
        _shapes(name, least - 1, 1)
