"""The way back to torch: every tensor that came from a file returns to it, and gray stems become ones of three."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax import models, weights
from cxrjax.errors import UserError
from cxrjax.weights.rules import UNREAD

NAMES = ("densenet", "resnet_basic", "resnet_bottleneck", "vgg", "inception")


@pytest.mark.parametrize("name", NAMES)
def test_a_converted_file_returns_as_it_was(case: Callable[..., Any], name: str) -> None:
    one = case(name)
    shapes = jax.eval_shape(one.net.init, jax.random.key(0), jnp.zeros(one.x.shape))
    variables, _ = weights.convert(one.state, shapes, one.family, head=True)
    back = weights.state_dict(variables, one.family, "imagenet")
    assert back.keys() == {key for key in one.state if key.rpartition(".")[2] not in UNREAD}
    for key, value in back.items():
        np.testing.assert_array_equal(value, one.state[key], key)


@pytest.mark.parametrize("normalize", ["film", "imagenet"])
def test_a_gray_stem_comes_back_through_one_of_three_channels(normalize: str) -> None:
    net = models.build("efficientnet_lite_tiny", num_classes=2)
    planes = 2 if normalize == "imagenet" else 1
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, planes)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), dict(shapes))
    state = weights.state_dict(variables, "efficientnet_lite_tiny", normalize)
    assert state["_conv_stem.weight"].shape[1] == 3
    again, report = weights.convert(state, shapes, "efficientnet_lite_tiny", head=True, normalize=normalize)
    assert report.folded == "_conv_stem.weight"
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), again, variables)


def test_a_network_that_torchvision_has_not_is_refused_by_its_parts() -> None:
    net = models.build("fcn_densenet_tiny", num_classes=2, blocks=(1,), growth=4, stem_features=8, width=8)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), dict(shapes))
    with pytest.raises(UserError, match=r"no names for head/mix of 'fcn_densenet_tiny'.*onnx"):
        weights.state_dict(zeros, "fcn_densenet_tiny", "film")
