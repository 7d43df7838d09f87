"""Parameter counts: the published or torchvision figure of every family, from shapes alone."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from cxrjax import models


def _shapes(name: str, size: int, channels: int, **options: Any) -> dict[str, Any]:
    net = models.build(name, **options)
    args = [jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)]
    if name in models.DENOISERS:
        args.append(jax.ShapeDtypeStruct((1,), jnp.int32))
    return jax.eval_shape(net.init, jax.random.key(0), *args)["params"]


def _count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("channels", "expected"), [(3, 6_953_856), (1, 6_947_584)])
def test_densenet121_features(channels: int, expected: int) -> None:
    params = _shapes("densenet121", 64, channels, num_classes=14)
    assert _count(params["backbone"]) == expected
    assert _count(params["head"]) == 14 * 1024 + 14


@pytest.mark.parametrize(
    ("name", "channels", "options", "expected"),
    [
        ("densenet121", 3, {"num_classes": 1000}, 7_978_856),
        ("densenet121", 1, {"num_classes": 2, "hidden": (2048,)}, 9_050_882),
        ("resnet18", 3, {"num_classes": 1000}, 11_689_512),
        ("resnet18", 3, {"num_classes": 4}, 11_178_564),
        ("resnet34", 3, {"num_classes": 1000}, 21_797_672),
        ("resnet50", 3, {"num_classes": 1000}, 25_557_032),
        ("resnet101", 3, {"num_classes": 1000}, 44_549_160),
        ("resnet152", 3, {"num_classes": 1000}, 60_192_808),
        ("resnet200", 3, {"num_classes": 1000}, 64_673_832),
    ],
)
def test_classifiers(name: str, channels: int, options: dict[str, Any], expected: int) -> None:
    assert _count(_shapes(name, 64, channels, **options)) == expected


def test_conv_head_of_the_fully_convolutional_densenet() -> None:
    params = _shapes("densenet121", 64, 3, num_classes=14, head="conv")
    assert _count(params["head"]) == 1_177_600
    assert _count(params) == 8_131_456


def test_unet_at_256_px() -> None:
    assert _count(_shapes("unet", 256, 1, **models.unet_options(256))) == 131_649_793
    assert _count(_shapes("unet", 256, 1, attention=(16, 8))) == 130_331_393


def test_widened_features_add_one_convolution() -> None:
    plain = _count(_shapes("densenet121", 64, 1, num_classes=2))
    wide = _count(_shapes("densenet121", 64, 1, num_classes=2, widen_features=2048))
    assert wide - plain == (1024 * 2048 + 2048) + (2048 - 1024) * 2


def test_remat_keeps_the_parameter_paths() -> None:
    for name, options in [("densenet121", {"num_classes": 2}), ("resnet50", {"num_classes": 2}), ("unet", {})]:
        plain = _shapes(name, 64, 1, **options)
        remat = _shapes(name, 64, 1, remat=True, **options)
        same = jax.tree.map(lambda a, b: a.shape == b.shape, plain, remat)  # raises where the paths differ
        assert all(jax.tree.leaves(same)), name
