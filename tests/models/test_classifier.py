"""Classifiers: endpoints agree with each other, statistics move only in training, half precision stays close."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax import models
from cxrjax.models.classifier import global_pool

TINY = ["densenet_tiny", "resnet_tiny"]


def _films(size: int, count: int = 2) -> jax.Array:
    return jax.random.uniform(jax.random.key(7), (count, size, size, 1))


@pytest.fixture(scope="module", params=TINY)
def tiny(request: pytest.FixtureRequest) -> tuple[str, Any, Any]:
    net = models.build(request.param, num_classes=3)
    return request.param, net, jax.jit(net.init)(jax.random.key(0), _films(32))


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("size", [32, 64])
def test_last_map_is_fine_enough_for_cams(name: str, size: int) -> None:
    net = models.build(name, num_classes=2)
    (_, ends), _ = jax.eval_shape(net.init_with_output, jax.random.key(0), _films(size))
    assert min(ends["features"].shape[1:3]) >= 8


def test_small_densenet_keeps_8x8_at_64_px() -> None:
    net = models.build("densenet_small", num_classes=2)
    (_, ends), _ = jax.eval_shape(net.init_with_output, jax.random.key(0), _films(64))
    assert ends["features"].shape[1:3] == (8, 8)


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
    logits, ends = net.apply(variables, _films(32))
    assert logits.shape == (2, 3)
    np.testing.assert_allclose(ends["pooled"], ends["features"].mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ends["penultimate"], ends["pooled"])
    np.testing.assert_allclose(ends["map"].mean((1, 2)), logits, rtol=1e-5, atol=1e-5)
    again = net.apply(variables, ends["features"], method="head_from")
    np.testing.assert_allclose(again, logits, rtol=1e-6, atol=1e-6)


def test_grad_cam_weights_under_gap_are_the_dense_weights(tiny: tuple[str, Any, Any]) -> None:
    _, net, variables = tiny
    _, ends = net.apply(variables, _films(32))
    grad = jax.grad(lambda f: net.apply(variables, f, method="head_from")[:, 1].sum())(ends["features"])
    area = grad.shape[1] * grad.shape[2]
    kernel = variables["params"]["head"]["classes"]["kernel"][:, 1]
    np.testing.assert_allclose(grad[0, 0, 0] * area, kernel, rtol=1e-4, atol=1e-6)


def test_another_size_is_accepted(tiny: tuple[str, Any, Any]) -> None:
    _, net, variables = tiny
    logits, ends = net.apply(variables, _films(48))
    assert logits.shape == (2, 3)
    assert ends["features"].shape[1:3] == (12, 12)


def test_statistics_move_only_in_training_and_not_in_a_frozen_backbone(tiny: tuple[str, Any, Any]) -> None:
    _, net, variables = tiny

    def stats_after(**modes: bool) -> list[np.ndarray]:
        _, new = net.apply(variables, _films(32), mutable=["batch_stats"], **modes)
        return [np.asarray(leaf) for leaf in jax.tree.leaves(new["batch_stats"])]

    before = [np.asarray(leaf) for leaf in jax.tree.leaves(variables["batch_stats"])]
    assert len(before) > 4
    for still in (stats_after(), stats_after(train=True, backbone_train=False)):
        assert all(np.array_equal(a, b) for a, b in zip(before, still, strict=True))
    assert all(not np.array_equal(a, b) for a, b in zip(before, stats_after(train=True), strict=True))


def test_half_precision_keeps_float32_where_it_matters(tiny: tuple[str, Any, Any]) -> None:
    name, net, variables = tiny
    half = models.build(name, num_classes=3, dtype="bfloat16")
    (logits, ends), new = half.apply(variables, _films(32), train=True, mutable=["batch_stats"])
    (exact, _), _ = net.apply(variables, _films(32), train=True, mutable=["batch_stats"])
    assert ends["features"].dtype == jnp.bfloat16
    assert logits.dtype == ends["pooled"].dtype == ends["penultimate"].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(logits, exact, atol=0.05)
    assert not np.array_equal(logits, exact)


def _head(**options: Any) -> tuple[jax.Array, dict[str, jax.Array], Any]:
    head = models.Head(num_classes=2, **options)
    x = jax.random.normal(jax.random.key(1), (2, 4, 4, 8))
    (logits, ends), variables = head.init_with_output(jax.random.key(0), x)
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


def test_dropout_acts_in_training_alone() -> None:
    head = models.Head(num_classes=2, dropout=0.5)
    x = jnp.ones((2, 4, 4, 64))
    variables = head.init(jax.random.key(0), x)
    calm = head.apply(variables, x)[1]["penultimate"]
    np.testing.assert_array_equal(calm, np.ones((2, 64)))
    wild = head.apply(variables, x, train=True, rngs={"dropout": jax.random.key(3)})[1]["penultimate"]
    assert set(np.unique(wild)) == {0.0, 2.0}


def test_lse_lies_between_mean_and_maximum_and_reaches_both() -> None:
    x = jax.random.normal(jax.random.key(2), (3, 5, 7, 4))
    mean, top, lse = (global_pool(x, kind) for kind in ("gap", "gmp", "lse"))
    assert bool(jnp.all((mean < lse) & (lse < top)))
    np.testing.assert_allclose(global_pool(x, "lse", 1e-3), mean, atol=2e-3)
    np.testing.assert_allclose(global_pool(x, "lse", 1e4), top, atol=1e-3)
    # Wang et al. 2017, eq. 1, as printed.
    star = jnp.abs(x).max(axis=(1, 2), keepdims=True)
    printed = star[:, 0, 0] + jnp.log(jnp.exp(10 * (x - star)).mean((1, 2))) / 10
    np.testing.assert_allclose(lse, printed, rtol=1e-4, atol=1e-4)


def test_conv_head_is_one_convolution_in_two() -> None:
    """With nothing between them, the 1x1 and the 3x3 kernel compose to a single 3x3 kernel."""
    head = models.ConvHead(num_classes=2, width=6)
    x = jax.random.normal(jax.random.key(1), (2, 5, 5, 8))
    (logits, ends), variables = head.init_with_output(jax.random.key(0), x)
    params = variables["params"]
    kernel = jnp.einsum("im,abmo->abio", params["mix"]["kernel"][0, 0], params["classes"]["kernel"])
    one = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(one, ends["map"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ends["map"].max((1, 2)), logits)
    bent, _ = models.ConvHead(num_classes=2, width=6, activation="relu").apply(variables, x)
    assert not np.allclose(bent, logits)
