"""The networks, by name: `build("densenet121", num_classes=14)`."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from cxrjax.errors import UserError
from cxrjax.models import autoencoder, cgan, dcgan, densenet, efficientnet, inception, resnet, unet, vgg
from cxrjax.models.autoencoder import Autoencoder, PatchDiscriminator
from cxrjax.models.classifier import Classifier, ConvHead, Head
from cxrjax.models.inception import AuxHead
from cxrjax.models.lstm import LstmHead

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "cnn5": vgg.cnn5,
    "cnn5_tiny": vgg.cnn5_tiny,
    "densenet121": densenet.densenet121,
    "densenet_tiny": densenet.densenet_tiny,
    "efficientnet_lite0": efficientnet.efficientnet_lite0,
    "efficientnet_lite1": efficientnet.efficientnet_lite1,
    "efficientnet_lite2": efficientnet.efficientnet_lite2,
    "efficientnet_lite_tiny": efficientnet.efficientnet_lite_tiny,
    "inception_tiny": inception.inception_tiny,
    "inception_v3": inception.inception_v3,
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet101": resnet.resnet101,
    "resnet152": resnet.resnet152,
    "resnet200": resnet.resnet200,
    "resnet_tiny": resnet.resnet_tiny,
    "vgg16": vgg.vgg16,
    "vgg_tiny": vgg.vgg_tiny,
}
HEADS: dict[str, Callable[..., nn.Module]] = {"pool": Head, "conv": ConvHead, "lstm": LstmHead}
DENOISERS: dict[str, Callable[..., nn.Module]] = {"unet": unet.unet, "unet_tiny": unet.unet_tiny}
# Each with its discriminator.
AUTOENCODERS: dict[str, tuple[Callable[..., Autoencoder], Callable[..., PatchDiscriminator]]] = {
    "autoencoder": (Autoencoder, PatchDiscriminator),
    "autoencoder_tiny": (autoencoder.autoencoder_tiny, autoencoder.patch_tiny),
}


class Preset(NamedTuple):
    """A backbone with the head and the options it is published with; whatever `build` is told goes before them."""

    backbone: str
    head: str = "pool"
    options: Mapping[str, Any] = {}


_VGG = {"pool": "flatten", "dropout": 0.5, "hidden_init": "he"}
_WANG = {"pool": "lse", "lse_r": 10.0}
PRESETS: dict[str, Preset] = {
    "cnn5": Preset("cnn5", options={"pool": "flatten", "hidden": (625,)}),
    "cnn5_tiny": Preset("cnn5_tiny", options={"pool": "flatten", "hidden": (64,)}),
    "densenet_lstm": Preset("densenet121", "lstm"),  # Yao et al. 2017
    "densenet_lstm_tiny": Preset("densenet_tiny", "lstm", {"units": 32}),
    "fcn_densenet121": Preset("densenet121", "conv"),
    "fcn_densenet_tiny": Preset("densenet_tiny", "conv", {"width": 128}),
    "inception_tiny": Preset("inception_tiny"),
    "inception_v3": Preset("inception_v3", options={"dropout": 0.5}),
    "vgg16": Preset("vgg16", options={**_VGG, "grid": 7, "hidden": (4096, 4096)}),
    "vgg_tiny": Preset("vgg_tiny", options={**_VGG, "grid": 4, "hidden": (128,)}),
    "wang_resnet50": Preset("resnet50", options={**_WANG, "transition": 2048}),  # Wang et al. 2017
    "wang_resnet_tiny": Preset("resnet_tiny", options={**_WANG, "transition": 64}),
}

# Options that take one of a few words, by the class that reads them.
_CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "DenseNet": {"stem": ("imagenet", "small")},
    "Inception": {"stem": ("imagenet", "small")},
    "ResNet": {"stem": ("imagenet", "cifar")},
    "Generator": {"join": ("latent", "c"), "tau": ("schedule", "learned")},
    "UNet": {"updown": ("block", "plain")},
    "Head": {
        "pool": ("gap", "gmp", "lse", "flatten"),
        "hidden_init": ("torch", "he"),
        "border": ("edge", "zeros"),
    },
    "ConvHead": {
        "pool": ("gap", "gmp", "lse"),
        "activation": ("none", "relu"),
        "last_init": ("glorot_sqrt", "literal"),
        "border": ("edge", "zeros"),
    },
    "LstmHead": {"pool": ("gap", "gmp", "lse")},
}


def build(name: str, num_classes: int | None = None, *, head: str | None = None, **options: Any) -> nn.Module:
    """The network called `name`, unbound; no parameters are made here.

    A classifier is called `net.apply(variables, x, train=..., backbone_train=..., label=...) -> (logits, endpoints)`, a
    denoiser `net.apply(variables, x, t, train=...) -> (eps, endpoints)`; both take films (b, h, w, c) with any c.

    Args:
      name: a key of `BACKBONES` or `PRESETS` (classifiers) or of `DENOISERS`.
      num_classes: logits of a classifier; must be absent for a denoiser.
      head: a key of `HEADS`: "pool" (pool, dense layers), "conv" (convolutions, pool) or "lstm" (one step a label);
        the preset's where absent, else "pool"; read by classifiers alone.
      **options: fields of the family's class (`DenseNet`, `EfficientNet`, `Inception`, `ResNet`, `VGG`, `UNet`) and,
        for a classifier, of its head, over those of the preset. `aux=False` leaves out Inception's auxiliary head.
        `dtype` may be a name ("bfloat16"); lists are read as tuples.

    Raises:
      UserError: an unknown name, option or value; options that contradict each other; `num_classes` missing, or given
        to a denoiser.
    """
    if name in DENOISERS:
        if num_classes is not None:
            raise UserError(f"model {name!r} predicts noise, not classes: leave `num_classes` out")
        return _make(name, DENOISERS[name], _checked(name, options, [DENOISERS[name]]))
    if name not in BACKBONES and name not in PRESETS:
        raise UserError(_unknown("model", name, [*BACKBONES, *PRESETS, *DENOISERS]))
    if num_classes is None or num_classes < 1:
        raise UserError(f"model {name!r} needs `num_classes`, its number of logits (at least 1); got {num_classes!r}")
    preset = PRESETS.get(name, Preset(name))
    if head is None:
        head = preset.head
    if head not in HEADS:
        raise UserError(_unknown(f"head of model {name!r}:", head, HEADS))
    make = BACKBONES[preset.backbone]
    has_aux = _class(make) is inception.Inception
    wants_aux = has_aux and bool(options.pop("aux", True))
    given = _checked(name, options, [make, HEADS[head]], ["aux"] if has_aux else [])
    # A preset's options are of its own head: another head gets those of the backbone alone.
    own = preset.options if head == preset.head else {k: v for k, v in preset.options.items() if k in _fields(make)}
    chosen = {**own, **given}
    if given.get("grid") and chosen.get("pool") != "flatten":
        raise UserError(f"model {name!r}: grid={given['grid']!r} is read under pool='flatten' alone; leave one out")
    return Classifier(
        backbone=_make(name, make, chosen),
        head=_make(name, partial(HEADS[head], num_classes=num_classes), chosen),
        aux=_make(name, partial(AuxHead, num_classes=num_classes), {"scale": make().scale, **chosen})
        if wants_aux
        else None,
    )


def build_gan(name: str, **options: Any) -> tuple[nn.Module, dict[str, nn.Module]]:
    """A generator and its discriminators by name (`d64`, ...), unbound.

    Args:
      name: "cgan" (a discriminator for each of `sizes`, spectrally normalized) or "cdcgan" (one, with BatchNorm).
      **options: fields of the generator's class; `d_features`, the channels of a discriminator's first convolution.

    Raises:
      UserError: an unknown name, option or value.
    """
    if name not in ("cgan", "cdcgan"):
        raise UserError(_unknown("GAN", name, ("cgan", "cdcgan")))
    family = cgan if name == "cgan" else dcgan
    given = _checked(name, options, [family.Generator], ["d_features"])
    g = _make(name, family.Generator, given)
    features = given.get("d_features", family.Discriminator.features)
    if family is dcgan:
        return g, {f"d{g.size}": dcgan.Discriminator(g.size, features, g.dtype)}
    return g, {f"d{size}": cgan.Discriminator(size, g.sizes[0], features, g.dtype) for size in g.sizes}


def build_autoencoder(name: str, **options: Any) -> tuple[Autoencoder, PatchDiscriminator]:
    """An autoencoder and the discriminator of its reconstructions, unbound.

    Args:
      name: a key of `AUTOENCODERS`.
      **options: fields of `Autoencoder`, of which both read `groups` and `dtype`; `d_features` and `d_layers` of the
        discriminator.

    Raises:
      UserError: an unknown name, option or value.
    """
    if name not in AUTOENCODERS:
        raise UserError(_unknown("autoencoder", name, AUTOENCODERS))
    make, make_patch = AUTOENCODERS[name]
    given = _checked(name, options, [make], ["d_features", "d_layers"])
    net = make(**{key: value for key, value in given.items() if not key.startswith("d_")})
    own = {key.removeprefix("d_"): value for key, value in given.items() if key.startswith("d_")}
    return net, make_patch(groups=net.groups, dtype=net.dtype, **own)


def _class(make: Callable[..., nn.Module]) -> Any:
    return make.func if isinstance(make, partial) else make


def _fields(make: Callable[..., nn.Module]) -> list[str]:
    skip = {"parent", "name", "num_classes"}
    return [field.name for field in dataclasses.fields(_class(make)) if field.name not in skip]


def _checked(
    name: str, options: Mapping[str, Any], makes: list[Callable[..., nn.Module]], more: Iterable[str] = ()
) -> dict[str, Any]:
    known = [*(field for make in makes for field in _fields(make)), *more]
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
    chosen = {key: value for key, value in options.items() if key in _fields(make)}
    for key, words in _CHOICES.get(_class(make).__name__, {}).items():
        if key in chosen and chosen[key] not in words:
            raise UserError(_unknown(f"{key} of model {name!r}:", chosen[key], words))
    return make(**chosen)


def _unknown(what: str, given: object, known: Iterable[str]) -> str:
    names = sorted(set(known))
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {what} {given!r}; {hint}known: {', '.join(names)}"
