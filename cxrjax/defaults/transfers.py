"""A transfer: pretrained weights under a new head, which is trained first, then all of it with the backbone slower."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from cxrjax.defaults import variants
from cxrjax.defaults.phases import classify, optim

LITE0 = {"name": "efficientnet_lite0"}
# A network of as many parameters for films from random weights: Lite0's own design is hard to begin with few films.
RESNET18 = {"name": "resnet18", "widths": (35, 70, 140, 280)}

# How films of the second phase vary; the first, whose features are computed once, cannot have any.
VARIED = {
    "augment": ("flip",), "degrees": 10.0, "shift": 0.05, "zoom": 0.1, "exposure": 0.1, "contrast": 0.2, "gamma": 0.2,
}  # fmt: skip


def transfer(name: str, net: dict[str, Any], head_steps: int, steps: int, **changes: Any) -> dict[str, ConfigDict]:
    """The two phases of a transfer, by name and in order: `NAME_head` and `NAME`.

    Both see batches of 32 on a cosine; their network sees three channels as the weights' own set had them. With
    `weights=""` both begin at random weights, and the second trains all of them at one rate: the same films, the same
    steps, no transfer.

    Args:
      name: of the second phase, whose network is the system.
      net: `name` and options of a network.
      head_steps: of the first phase: on features that are computed once, thousands take seconds.
      steps: of the second.
      **changes: to keys of both; those that vary films, average views or evaluate go to the second alone.
    """
    begun = {"weights": "imagenet", "channels": 3, "normalize": "efficientnet_lite", **changes}
    own = {key: begun.pop(key) for key in list(begun) if key in _SECOND}
    weights = begun.pop("weights")
    frozen, slower = ("^backbone/",), (("^backbone/", 0.1),) if weights else ()
    head = _adamw(head_steps, frozen=frozen)
    return {
        f"{name}_head": classify(net, head, head_steps, 32, weights=weights, cached=True, eval_batch=32, **begun),
        name: classify(
            net, _adamw(steps, slower=slower), steps, 32, carry=f"{name}_head",
            **{"eval_batch": 32, "save_every": 50, **VARIED, **begun, **own},
        ),
    }  # fmt: skip


def _adamw(steps: int, **changes: Any) -> ConfigDict:
    return optim(
        "adamw", 1e-3, schedule="cosine", warmup=max(steps // 20, 1), weight_decay=1e-2, clip=1.0, **changes
    )  # fmt: skip


_RANGES: dict[str, tuple[tuple[Any, ...], str]] = {
    "augment": ((("flip",), (), ...), "ours: mirrored as in this field's training"),
    "degrees": ((10.0, 0.0, ...), "ours: the range that the ETRI deck states"),
    "shift": ((0.05, 0.0, ...), "ours"),
    "zoom": ((0.1, 0.0, ...), "ours"),
    "shear": ((0.0, 5.0, ...), "ours"),
    "exposure": ((0.1, 0.0, ...), "ours: hospitals differ in it"),
    "contrast": ((0.2, 0.0, ...), "ours: hospitals differ in it"),
    "gamma": ((0.2, 0.0, ...), "ours: hospitals differ in it"),
    "blur": ((0.0, 1.0, ...), "ours"),
    "noise": ((0.0, 0.05, ...), "ours"),
    "cutout": ((0.0, 0.3, ...), "DeVries and Taylor 2017; ours in size"),
}
_SECOND = {*_RANGES, "crop", "warp", "optical_limit", "tta", "select", "metric", "eval_every"}


def transfer_choices(name: str) -> dict[str, tuple[tuple[Any, ...], str]]:
    """The choices of a transfer's second phase."""
    found = {
        "optim.slower": (((("^backbone/", 0.1),), (), ...), "ours: what is pretrained moves less"),
        "backbone_stats": (("trained", "kept"), "ours; kept also leaves out stochastic depth in the backbone"),
        "balance": ((False, True), "ours"),
        "label_smoothing": ((0.0, 0.1, ...), "ours"),
        "tta": (((), ("flip",), ("flip", "shift"), ...), "ours: views of a film that evaluation averages"),
        **_RANGES,
    }
    return {f"{name}.{key}": entry for key, entry in found.items()}


def set_phases(c: ConfigDict, *groups: dict[str, ConfigDict]) -> None:
    """Puts the phases of these groups, in order, in place of all that a config has."""
    for name in c.phases:
        del c[name]
    found = {name: phase for group in groups for name, phase in group.items()}
    c.phases = tuple(found)
    c.update(found)


def smoke_transfer(c: ConfigDict, films: tuple[int, int, int] = (64, 16, 40)) -> None:
    """Makes transfers seconds long, on phantoms and, lest a file be needed, from random weights."""
    variants.smoke(c, films, c.phases, eval_batch=16)
    for name in c.phases:
        c[name].weights = ""
        if c[name].net.name == LITE0["name"]:
            c[name].net.name = "efficientnet_lite_tiny"
        elif c[name].net.name == RESNET18["name"]:
            c[name].net = {"name": "resnet_tiny", "widths": (13, 26)}
    c.study.probe.phase = ""
