"""The networks, by name: `build("densenet121", num_classes=14)`."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cxrjax.models import densenet, resnet, unet
from cxrjax.models.classifier import Classifier, ConvHead, Head
from cxrjax.models.unet import unet_options
from cxrjax.types import UserError

__all__ = ["BACKBONES", "DENOISERS", "HEADS", "Classifier", "ConvHead", "Head", "build", "unet_options"]

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "densenet121": densenet.densenet121,
    "densenet_small": densenet.densenet_small,
    "densenet_tiny": densenet.densenet_tiny,
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet101": resnet.resnet101,
    "resnet152": resnet.resnet152,
    "resnet200": resnet.resnet200,
    "resnet_tiny": resnet.resnet_tiny,
}
HEADS: dict[str, Callable[..., nn.Module]] = {"pool": Head, "conv": ConvHead}
DENOISERS: dict[str, Callable[..., nn.Module]] = {"unet": unet.unet, "unet_tiny": unet.unet_tiny}

# Options that take one of a few words, by the class that reads them.
_CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "DenseNet": {"stem": ("imagenet", "small")},
    "ResNet": {"stem": ("imagenet", "cifar")},
    "UNet": {"updown": ("block", "plain")},
    "Head": {"pool": ("gap", "gmp", "lse")},
    "ConvHead": {
        "pool": ("gap", "gmp", "lse"),
        "activation": ("none", "relu"),
        "last_init": ("glorot_sqrt", "literal"),
    },
}


def build(name: str, num_classes: int | None = None, *, head: str = "pool", **options: Any) -> nn.Module:
    """The network called `name`, unbound; no parameters are made here.

    A classifier is called `net.apply(variables, x, train=...) -> (logits, endpoints)`, a denoiser
    `net.apply(variables, x, t, train=...) -> (eps, endpoints)`; both take films (b, h, w, c) with any c.

    Args:
      name: a key of `BACKBONES` (classifiers) or `DENOISERS`.
      num_classes: logits of a classifier; must be absent for a denoiser.
      head: a key of `HEADS`: "pool" (pool, dense layers) or "conv" (convolutions, pool); read by classifiers alone.
      **options: fields of the family's class (`DenseNet`, `ResNet`, `UNet`) and, for a classifier, of its head.
        `dtype` may be a name ("bfloat16"); lists are read as tuples.

    Raises:
      UserError: an unknown name, option or value; `num_classes` missing, or given to a denoiser.
    """
    if name in DENOISERS:
        if num_classes is not None:
            raise UserError(f"model {name!r} predicts noise, not classes: leave `num_classes` out")
        return _make(name, DENOISERS[name], _checked(name, options, [DENOISERS[name]]))
    if name not in BACKBONES:
        raise UserError(_unknown("model", name, [*BACKBONES, *DENOISERS]))
    if num_classes is None or num_classes < 1:
        raise UserError(f"model {name!r} needs `num_classes`, its number of logits (at least 1); got {num_classes!r}")
    if head not in HEADS:
        raise UserError(_unknown(f"head of model {name!r}:", head, HEADS))
    options = _checked(name, options, [BACKBONES[name], HEADS[head]])
    return Classifier(
        backbone=_make(name, BACKBONES[name], options),
        head=_make(name, partial(HEADS[head], num_classes=num_classes), options),
    )


def _fields(make: Callable[..., nn.Module]) -> list[str]:
    skip = {"parent", "name", "num_classes"}
    cls: Any = make.func if isinstance(make, partial) else make
    return [field.name for field in dataclasses.fields(cls) if field.name not in skip]


def _checked(name: str, options: Mapping[str, Any], makes: list[Callable[..., nn.Module]]) -> dict[str, Any]:
    known = [field for make in makes for field in _fields(make)]
    for key in options:
        if key not in known:
            raise UserError(_unknown(f"option of model {name!r}:", key, known))
    out = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    if "dtype" in out:
        try:
            out["dtype"] = jnp.dtype(out["dtype"])
        except TypeError as e:
            raise UserError(f"model {name!r}: dtype={out['dtype']!r} is no dtype; say float32 or bfloat16") from e
    return out


def _make(name: str, make: Callable[..., nn.Module], options: Mapping[str, Any]) -> nn.Module:
    cls: Any = make.func if isinstance(make, partial) else make
    chosen = {key: value for key, value in options.items() if key in _fields(make)}
    for key, words in _CHOICES.get(cls.__name__, {}).items():
        if key in chosen and chosen[key] not in words:
            raise UserError(_unknown(f"{key} of model {name!r}:", chosen[key], words))
    return make(**chosen)


def _unknown(what: str, given: object, known: Iterable[str]) -> str:
    names = sorted(set(known))
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {what} {given!r}; {hint}known: {', '.join(names)}"
