"""`build`: every mistake is told with the nearest right word."""

from __future__ import annotations

from typing import Any

import pytest

from cxrjax import models
from cxrjax.types import UserError


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
        ("unet", {"num_classes": 2}, "num_classes"),
        ("unet", {"multss": (1, 2)}, "mults"),
    ],
)
def test_mistakes_are_told(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        models.build(name, **options)


def test_lists_are_read_as_tuples() -> None:
    assert models.build("unet", mults=[1, 2]) == models.build("unet", mults=(1, 2))


def test_no_published_form_for_other_sizes() -> None:
    with pytest.raises(UserError, match="96 px"):
        models.unet_options(96)
