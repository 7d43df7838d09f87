"""`build`: every mistake is told with the nearest right word."""

from __future__ import annotations

from typing import Any

import pytest

from cxrjax import models
from cxrjax.errors import UserError


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("densenet112", {"num_classes": 2}, "densenet121"),
        ("densenet121", {"num_classes": 2, "hiden": (8,)}, "hidden"),
        ("resnet18", {"num_classes": 2, "growth": 12}, "growth"),
        ("resnet18", {"num_classes": 2, "stem": "small"}, "cifar"),
        ("densenet_tiny", {"num_classes": 2, "pool": "gapp"}, "'gap'"),
        ("densenet_tiny", {"num_classes": 2, "dtype": "bfloat15"}, "bfloat16"),
        ("densenet_tiny", {"num_classes": 2, "head": "convv"}, "'conv'"),
        ("densenet_tiny", {"num_classes": 2, "head": "conv", "hidden": (8,)}, "hidden"),
        ("densenet_tiny", {}, "num_classes"),
        ("vgg61", {"num_classes": 2}, "vgg16"),
        ("fcn_densenet12", {"num_classes": 2}, "fcn_densenet121"),
        ("vgg16", {"num_classes": 2, "pool": "flaten"}, "'flatten'"),
        ("vgg16", {"num_classes": 2, "pool": "gap", "grid": 7}, "flatten"),
        ("vgg16", {"num_classes": 2, "aux": True}, "aux"),
        ("inception_v3", {"num_classes": 2, "stem": "cifar"}, "imagenet"),
        ("fcn_densenet121", {"num_classes": 2, "border": "egde"}, "'edge'"),
        ("wang_resnet50", {"num_classes": 2, "border": "zero"}, "'zeros'"),
        ("densenet_lstm", {"num_classes": 2, "pool": "flatten"}, "gap, gmp, lse"),
        ("densenet_lstm", {"num_classes": 2, "hidden": (8,)}, "hidden"),
        ("unet", {"num_classes": 2}, "num_classes"),
        ("unet", {"multss": (1, 2)}, "mults"),
    ],
)
def test_mistakes_are_told(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        models.build(name, **options)


def test_lists_are_read_as_tuples() -> None:
    assert models.build("unet", mults=[1, 2]) == models.build("unet", mults=(1, 2))


@pytest.mark.parametrize(
    ("preset", "family", "options"),
    [
        ("fcn_densenet121", "densenet121", {"head": "conv"}),
        ("wang_resnet50", "resnet50", {"pool": "lse", "lse_r": 10.0, "transition": 2048}),
        ("densenet_lstm", "densenet121", {"head": "lstm"}),
    ],
)
def test_a_preset_is_a_family_with_options(preset: str, family: str, options: dict[str, Any]) -> None:
    assert models.build(preset, 14) == models.build(family, 14, **options)


def test_what_is_told_goes_before_a_preset() -> None:
    assert models.build("wang_resnet50", 14, lse_r=5.0, transition=64).head == models.Head(
        14, pool="lse", lse_r=5.0, transition=64
    )
    # Yao et al.'s encoder without its decoder, to see what the decoder is worth.
    assert models.build("densenet_lstm", 14, head="pool") == models.build("densenet121", 14)


def test_every_preset_is_of_a_known_family() -> None:
    for name, preset in models.PRESETS.items():
        assert preset.backbone in models.BACKBONES, name
        net = models.build(name, 3)
        known = {**vars(net.backbone), **vars(net.head)}
        assert set(preset.options) <= set(known), name
