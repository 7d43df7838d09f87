"""The committed fixtures, each with the network of this library that it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np
import pytest

from cxrjax import models, weights

FOLDER = Path(__file__).parent / "fixtures"
_DENSE = {"blocks": (1, 2), "growth": 8, "bn_size": 2, "stem_features": 12}
_NARROW = {"widths": (8, 16, 32, 64)}
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "densenet": ("densenet121", _DENSE),
    "densenet_xrv": ("densenet121", _DENSE),
    "resnet_basic": ("resnet18", {**_NARROW, "blocks": (2, 1, 1, 1)}),
    "resnet_bottleneck": ("resnet50", {**_NARROW, "blocks": (1, 1, 1, 1)}),
    "vgg": ("vgg16", {"convs": (1, 2), "widths": (4, 8), "grid": 7, "hidden": (16, 12)}),
    "inception": ("inception_v3", {"scale": 1 / 16}),
}


class Case(NamedTuple):
    """A state dict (prefixes gone), its network's name and fresh module, an input (b, h, w, c), torch's logits."""

    path: Path
    state: dict[str, np.ndarray]
    family: str
    net: nn.Module
    x: np.ndarray
    logits: np.ndarray


@pytest.fixture(scope="session")
def case() -> Callable[..., Case]:
    def make(name: str, num_classes: int = 5, **more: Any) -> Case:
        path = FOLDER / f"{name}.safetensors"
        family, options = NETS[name]
        state = weights.load(path)
        x = np.moveaxis(state.pop("fixture.input"), 1, -1)
        logits = state.pop("fixture.logits")
        net = models.build(family, num_classes=num_classes, **{**options, **more})
        return Case(path, state, family, net, x, logits)

    return make
