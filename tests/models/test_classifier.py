"""Classifiers: endpoints agree with each other, statistics move only in training, half precision stays close."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax import models
from cxrjax.models.classifier import global_pool

TINY = ["densenet_tiny", "efficientnet_lite_tiny", "resnet_tiny"]


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def _films(size: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(7).uniform(size=(count, size, size, 1)).astype(np.float32)


def _variables(net: Any, films: np.ndarray) -> Any:
    """He-normal kernels and fresh statistics from shapes alone: compiling every initializer would take seconds."""
    rng = np.random.default_rng(0)

    def fill(path: Any, leaf: Any) -> np.ndarray:
        if path[-1].key == "kernel":
            spread = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return (spread * rng.normal(size=leaf.shape)).astype(np.float32)
        return np.full(leaf.shape, path[-1].key in ("var", "scale"), np.float32)

    return jax.tree.map_with_path(fill, jax.eval_shape(net.init, jax.random.key(0), films))


@pytest.fixture(scope="module", params=TINY)
def tiny(request: pytest.FixtureRequest) -> tuple[str, Any, Any]:
    net = models.build(request.param, num_classes=3)
    return request.param, net, _variables(net, _films(32))


@pytest.mark.parametrize(("name", "size"), [("densenet121", 65), ("resnet50", 65), ("densenet121", 224)])
def test_maps_shrink_as_in_torchvision(name: str, size: int) -> None:
    net = models.build(name, num_classes=2)
    (logits, ends), _ = jax.eval_shape(net.init_with_output, jax.random.key(0), _films(size))
    # torch: 65 -> 33 (7x7/2 pad 3) -> 17 (3x3/2 pad 1), then floors in average pools, ceilings in strided 3x3.
    side = {("densenet121", 65): 2, ("resnet50", 65): 3, ("densenet121", 224): 7}[name, size]
    assert ends["features"].shape[1:3] == (side, side)
    assert logits.shape == (2, 2)


def test_endpoints_agree(tiny: tuple[str, Any, Any]) -> None:
    _, net, variables = tiny
    logits, ends = jax.jit(net.apply)(variables, _films(32))
    assert logits.shape == (2, 3)
    np.testing.assert_allclose(ends["pooled"], ends["features"].mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ends["penultimate"], ends["pooled"])
    np.testing.assert_allclose(ends["map"].mean((1, 2)), logits, rtol=1e-5, atol=1e-5)
    again = jax.jit(lambda v, f: net.apply(v, f, method="head_from"))(variables, ends["features"])
    np.testing.assert_allclose(again, logits, rtol=1e-6, atol=1e-6)


def test_grad_cam_weights_under_gap_are_the_dense_weights(tiny: tuple[str, Any, Any]) -> None:
    _, net, variables = tiny
    _, ends = jax.jit(net.apply)(variables, _films(32))
    grad = jax.jit(jax.grad(lambda f: net.apply(variables, f, method="head_from")[:, 1].sum()))(ends["features"])
    area = grad.shape[1] * grad.shape[2]
    kernel = variables["params"]["head"]["classes"]["kernel"][:, 1]
    np.testing.assert_allclose(grad[0, 0, 0] * area, kernel, rtol=1e-4, atol=1e-6)


def test_statistics_move_only_in_training_and_not_in_a_frozen_backbone(tiny: tuple[str, Any, Any]) -> None:
    _, net, variables = tiny

    def stats_after(**modes: bool) -> list[np.ndarray]:
        _, new = jax.jit(partial(net.apply, mutable=["batch_stats"], **modes))(variables, _films(16))
        return [np.asarray(leaf) for leaf in jax.tree.leaves(new["batch_stats"])]

    before = [np.asarray(leaf) for leaf in jax.tree.leaves(variables["batch_stats"])]
    assert len(before) > 4
    for still in (stats_after(), stats_after(train=True, backbone_train=False)):
        assert all(np.array_equal(a, b) for a, b in zip(before, still, strict=True))
    assert all(not np.array_equal(a, b) for a, b in zip(before, stats_after(train=True), strict=True))


def test_half_precision_keeps_float32_where_it_matters(tiny: tuple[str, Any, Any]) -> None:
    name, net, variables = tiny
    half = models.build(name, num_classes=3, dtype="bfloat16")
    train = {"train": True, "mutable": ["batch_stats"]}
    (logits, ends), new = jax.jit(partial(half.apply, **train))(variables, _films(32))
    (exact, _), _ = jax.jit(partial(net.apply, **train))(variables, _films(32))
    assert ends["features"].dtype == jnp.bfloat16
    assert logits.dtype == ends["pooled"].dtype == ends["penultimate"].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(logits, exact, atol=0.05)
    assert not np.array_equal(logits, exact)


def _head(**options: Any) -> tuple[jax.Array, dict[str, jax.Array], Any]:
    head = models.Head(num_classes=2, **options)
    x = _normal(2, 4, 4, 8)
    variables = _variables(head, x)
    logits, ends = jax.jit(head.apply)(variables, x)
    return logits, ends, variables


def test_wide_heads() -> None:
    _, ends, _ = _head(hidden=(32,))
    assert ends["penultimate"].shape == (2, 32)
    assert ends["pooled"].shape == (2, 8)
    assert float(ends["penultimate"].min()) >= 0
    assert "map" not in ends  # behind a hidden layer there is no class activation map
    logits, ends, _ = _head(widen_features=32)
    assert ends["penultimate"].shape == (2, 32)
    np.testing.assert_allclose(ends["map"].mean((1, 2)), logits, rtol=1e-5, atol=1e-6)


def test_dropout_follows_every_hidden_layer() -> None:
    head = models.Head(num_classes=2, hidden=(64, 64), dropout=0.5)
    x = _normal(2, 4, 4, 8)
    params = _variables(head, x)["params"]
    # The second layer made the identity, what comes out of it has been through both dropouts.
    params = {**params, "hidden1": {"kernel": jnp.eye(64), "bias": jnp.zeros(64)}}
    calm = jax.jit(head.apply)({"params": params}, x)[1]["penultimate"]
    drop = jax.jit(partial(head.apply, train=True))
    wild = drop({"params": params}, x, rngs={"dropout": jax.random.key(3)})[1]["penultimate"]
    ratio = np.asarray(wild)[np.asarray(calm) > 0] / np.asarray(calm)[np.asarray(calm) > 0]
    assert set(np.unique(ratio.round(4))) == {0.0, 4.0}
    assert 0.05 < (ratio > 0).mean() < 0.5


def test_flatten_keeps_positions_and_the_grid_forgets_the_size() -> None:
    _, ends, variables = _head(pool="flatten")
    assert ends["pooled"].shape == (2, 4 * 4 * 8)
    assert "map" not in ends
    x = _normal(2, 4, 4, 8)
    np.testing.assert_array_equal(ends["pooled"][1, (2 * 4 + 3) * 8 : (2 * 4 + 4) * 8], x[1, 2, 3])
    _, ends, variables = _head(pool="flatten", grid=2)
    head = models.Head(num_classes=2, pool="flatten", grid=2)
    _, other = jax.eval_shape(head.apply, variables, jnp.ones((1, 7, 5, 8)))
    assert other["pooled"].shape == ends["pooled"][:1].shape == (1, 2 * 2 * 8)


def test_transition_is_a_layer_of_the_head_with_its_own_statistics() -> None:
    head = models.Head(num_classes=2, transition=16, pool="lse")
    x = _normal(4, 4, 4, 8)
    variables = _variables(head, x)
    step = jax.jit(lambda variables: head.apply(variables, x, train=True, mutable=["batch_stats"]))
    (logits, ends), new = step(variables)
    assert ends["pooled"].shape == (4, 16)
    assert ends["map"].shape == (4, 4, 4, 2)
    assert np.isfinite(logits).all()
    before, after = (v["batch_stats"]["transition_bn"]["mean"] for v in (variables, new))
    assert not np.array_equal(before, after)


def test_ntk_parametrization_begins_with_the_spread_of_a_scaled_layer() -> None:
    """The function's scale at initialization does not depend on the width: kernels N(0, 1), outputs over sqrt(n)."""
    x = _normal(64, 1, 1, 32)
    for width in (256, 1024):
        head = models.Head(num_classes=8, hidden=(width,), ntk=True)
        (logits, _), variables = jax.jit(head.init_with_output)(jax.random.key(width, impl="rbg"), x)
        assert abs(float(variables["params"]["hidden0"]["kernel"].std()) - 1) < 0.03
        # E[logit^2] = E[relu(h)^2] = |x|^2 / (2 fan_in), for each of the two layers one division by its fan_in.
        assert 0.3 < float((logits**2).mean()) < 0.75


def test_every_head_takes_labels_and_films_alike() -> None:
    x = _normal(2, 4, 4, 8)
    label = jnp.asarray([[1.0, 0.0, jnp.nan], [0.0, 1.0, 1.0]])
    for name, make in models.HEADS.items():
        head = make(num_classes=3)
        variables = _variables(head, x)
        plain, labelled = jax.jit(lambda v, head=head: [head.apply(v, x, label=y)[0] for y in (None, label)])(variables)
        np.testing.assert_array_equal(plain, labelled, err_msg=name)  # labels are never read outside training


def test_dropout_acts_in_training_alone() -> None:
    head = models.Head(num_classes=2, dropout=0.5)
    x = jnp.ones((2, 4, 4, 64))
    variables = _variables(head, x)
    calm = jax.jit(head.apply)(variables, x)[1]["penultimate"]
    np.testing.assert_array_equal(calm, np.ones((2, 64)))
    wild = jax.jit(partial(head.apply, train=True))(variables, x, rngs={"dropout": jax.random.key(3)})
    wild = wild[1]["penultimate"]
    assert set(np.unique(wild)) == {0.0, 2.0}


def test_lse_lies_between_mean_and_maximum_and_reaches_both() -> None:
    x = _normal(3, 5, 7, 4)
    kinds = [("gap",), ("gmp",), ("lse",), ("lse", 1e-3), ("lse", 1e4)]
    mean, top, lse, soft, sharp = jax.jit(lambda x: [global_pool(x, *kind) for kind in kinds])(jnp.asarray(x))
    assert ((np.asarray(mean) < lse) & (np.asarray(lse) < top)).all()
    np.testing.assert_allclose(soft, mean, atol=2e-3)
    np.testing.assert_allclose(sharp, top, atol=1e-3)
    # Wang et al. 2017, eq. 1, as printed.
    star = np.abs(x).max(axis=(1, 2), keepdims=True)
    printed = star[:, 0, 0] + np.log(np.exp(10 * (x - star)).mean((1, 2))) / 10
    np.testing.assert_allclose(lse, printed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("border", "mode"), [("edge", "edge"), ("zeros", "constant")])
def test_conv_head_is_one_convolution_in_two(border: str, mode: str) -> None:
    """With nothing between them, the 1x1 and the 3x3 kernel compose to a single 3x3 kernel."""
    head = models.ConvHead(num_classes=2, width=6, border=border)
    x = _normal(2, 5, 5, 8)
    variables = _variables(head, x)
    logits, ends = jax.jit(head.apply)(variables, x)
    params = variables["params"]
    kernel = np.einsum("im,abmo->abio", params["mix"]["kernel"][0, 0], params["classes"]["kernel"])
    conv = nn.Conv(2, (3, 3), padding="VALID", use_bias=False)
    around = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode)
    one = jax.jit(conv.apply)({"params": {"kernel": kernel}}, around)
    np.testing.assert_allclose(one, ends["map"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ends["map"].max((1, 2)), logits)
    bent, _ = jax.jit(models.ConvHead(num_classes=2, width=6, activation="relu", border=border).apply)(variables, x)
    assert not np.allclose(bent, logits)


@pytest.mark.parametrize("make", [models.ConvHead, partial(models.Head, transition=16, pool="gmp")])
def test_the_border_of_a_map_holds_no_more_maxima_than_its_share(make: Any) -> None:
    """A film that is the same everywhere has the same score everywhere, and one whose scores are all below 0 has its
    maximum where the film has it: a border of zeros would decide for the border's positions."""
    x = np.full((1, 7, 7, 8), _normal(8))
    for border in ("edge", "zeros"):
        head = make(num_classes=3, border=border)
        maps = np.asarray(jax.jit(head.apply)(_variables(head, x), x)[1]["map"])
        assert (np.ptp(maps, axis=(1, 2)).max() < 1e-5) == (border == "edge"), border


def test_where_all_answers_are_negative_the_maximum_is_where_the_film_has_it() -> None:
    place = [(1, 1), (3, 4), (5, 2)]
    x = np.ones((3, 7, 7, 8), np.float32)
    for film, at in zip(x, place, strict=True):
        film[at] = 0
    kernels = {"mix": {"kernel": np.ones((1, 1, 8, 4), np.float32) / 8}}
    kernels["classes"] = {"kernel": -np.ones((3, 3, 4, 1), np.float32) / 36}  # minus the mean of 3x3 positions
    for border in ("edge", "zeros"):
        maps = models.ConvHead(1, width=4, border=border).apply({"params": kernels}, x)[1]["map"]
        highest = np.unravel_index(np.asarray(maps).reshape(3, -1).argmax(axis=1), (7, 7))
        away = np.abs(np.stack(highest, axis=1) - place).max(axis=1)
        assert (away <= 1).all() == (border == "edge"), border
