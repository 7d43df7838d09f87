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
    assert channels == 1 or _count(params) == 6_968_206  # CheXNet


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
        # ResNet-50 less its classifier, the 3x3 transition with its BatchNorm, 14 logits.
        ("wang_resnet50", 3, {"num_classes": 14}, 23_508_032 + 9 * 2048**2 + 2 * 2048 + 14 * 2049),
        # Two dense layers to the state, four gates that see 15 inputs and 100 of state with one bias, one logit.
        # The torch package efficientnet_lite_pytorch.
        ("efficientnet_lite0", 3, {"num_classes": 1000}, 4_652_008),
        ("efficientnet_lite1", 3, {"num_classes": 1000}, 5_416_680),
        ("efficientnet_lite2", 3, {"num_classes": 1000}, 6_092_072),
        ("densenet_lstm", 1, {"num_classes": 14}, 6_947_584 + 2 * 102_500 + 4 * 100 * (15 + 100 + 1) + 101),
    ],
)
def test_classifiers(name: str, channels: int, options: dict[str, Any], expected: int) -> None:
    assert _count(_shapes(name, 64, channels, **options)) == expected


@pytest.mark.parametrize(
    ("name", "size", "channels", "options", "expected"),
    [
        ("vgg16", 224, 3, {"num_classes": 1000}, 138_357_544),
        ("vgg16", 299, 1, {"num_classes": 3, "grid": 0, "hidden": (256,)}, 25_331_395),
        ("vgg16", 299, 1, {"num_classes": 3, "pool": "gap", "hidden": (256,)}, 14_845_635),
        ("inception_v3", 299, 3, {"num_classes": 1000}, 27_161_264),
        ("cnn5", 256, 3, {"num_classes": 4}, 82_016_377),
        ("cnn5", 256, 3, {"num_classes": 4, "hidden": (128,)}, 16_871_108),
    ],
)
def test_classifiers_at_their_own_size(
    name: str, size: int, channels: int, options: dict[str, Any], expected: int
) -> None:
    assert _count(_shapes(name, size, channels, **options)) == expected


def test_the_convolutions_of_vgg16() -> None:
    assert _count(_shapes("vgg16", 299, 1, num_classes=3)["backbone"]) == 14_713_536


@pytest.mark.parametrize("name", sorted(name for name in models.PRESETS if name.endswith("_tiny")))
def test_tiny_members_are_small(name: str) -> None:
    assert _count(_shapes(name, 64, 1, num_classes=14)) < 1_000_000


def test_conv_head_of_the_fully_convolutional_densenet() -> None:
    params = _shapes("fcn_densenet121", 64, 3, num_classes=14)
    assert _count(params["head"]) == 1_177_600
    assert _count(params) == 8_131_456


def test_unet_at_256_px() -> None:
    assert _count(_shapes("unet", 256, 1, mults=(1, 1, 2, 2, 4, 4), attention=(32, 16, 8))) == 131_649_793
    assert _count(_shapes("unet", 256, 1, attention=(16, 8))) == 130_331_393


def test_widened_features_add_one_convolution() -> None:
    plain = _count(_shapes("resnet_tiny", 64, 1, num_classes=2))
    wide = _count(_shapes("resnet_tiny", 64, 1, num_classes=2, widen_features=2048))
    assert wide - plain == (48 * 2048 + 2048) + (2048 - 48) * 2


def test_remat_keeps_the_parameter_paths() -> None:
    for name, options in [
        ("densenet_tiny", {"num_classes": 2}),
        ("efficientnet_lite_tiny", {"num_classes": 2}),
        ("inception_tiny", {"num_classes": 2}),
        ("resnet_tiny", {"num_classes": 2}),
        ("unet_tiny", {}),
    ]:
        plain = _shapes(name, 64, 1, **options)
        remat = _shapes(name, 64, 1, remat=True, **options)
        same = jax.tree.map(lambda a, b: a.shape == b.shape, plain, remat)  # raises where the paths differ
        assert all(jax.tree.leaves(same)), name
