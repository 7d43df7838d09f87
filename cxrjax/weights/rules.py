"""From torchvision's module names to this library's, a few rules a family."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from cxrjax.errors import UserError

# Tensors that no forward pass of a network reads, by the last part of their name.
UNREAD: dict[str, str] = {
    "num_batches_tracked": "torch's count of batches, which no forward pass reads",
    "op_threshs": "torchxrayvision's operating points, which act on probabilities after the network",
}
# The parts of a classifier that belong to its classes.
HEADS = ("head", "aux")
# Their last layers, of one row a class.
CLASS_LAYERS = ("head/classes", "aux/fc")
# In a pattern: what is caught, in the order in which a path has it, and what a name may lack.
_GROUP = r"\((?!\?)((?:[^()]|\(\?:[^()]*\))*)\)"
_OPTIONAL = r"\(\?:[^()]*\)\?"


class Family(NamedTuple):
    """How one family's modules are called.

    Attributes:
      rules: (pattern of the whole torch module name, Flax path) pairs; the first that matches counts.
      stem: Flax path of the convolution that sees films.
      plain: the network is torch's numbered Sequentials, named by position before the rules are read.
      normalize: what its ImageNet weights were trained under, a key of `ops.inputs.NORMALIZATIONS`.
    """

    rules: tuple[tuple[str, str], ...]
    stem: str
    plain: bool = False
    normalize: str = "imagenet"

    def paths(self, state: Mapping[str, np.ndarray]) -> dict[str, str]:
        """The Flax path of every module that a rule knows."""
        modules = {key.rpartition(".")[0] for key in state}
        names = _positions(modules) if self.plain else {module: module for module in modules}
        found = {module: self._path(name) for module, name in names.items()}
        return {module: path for module, path in found.items() if path}

    def names(self, paths: Iterable[str]) -> dict[str, str]:
        """`paths` backwards: the torch module of every Flax path that a rule gives."""
        found = {path: self._name(path) for path in paths}
        names = {path: name for path, name in found.items() if name}
        if not self.plain:
            return names
        numbers = _numbers_of(names.values())
        return {path: numbers[name] for path, name in names.items()}

    def _name(self, path: str) -> str:
        return next((name for rule in self.rules if (name := _backwards(*rule, path))), "")

    def _path(self, name: str) -> str:
        for pattern, path in self.rules:
            match = re.fullmatch(pattern, name)
            if match:
                return match.expand(path)
        return ""


def _backwards(pattern: str, given: str, path: str) -> str:
    """The name that a rule turns into this path; "" where it does not."""
    groups = re.findall(_GROUP, pattern)
    match = re.fullmatch(re.sub(r"\\(\d)", lambda m: f"({groups[int(m[1]) - 1]})", given), path)
    if not match:
        return ""
    words = iter(match.groups())
    return re.sub(_GROUP, lambda _: next(words), re.sub(_OPTIONAL, "", pattern)).replace("\\.", ".")


def _numbers(modules: Iterable[str], within: str) -> list[int]:
    return sorted(int(m[len(within) + 1 :]) for m in modules if re.fullmatch(rf"{within}\.\d+", m))


def _positions(modules: Iterable[str]) -> dict[str, str]:
    """`features.7` becomes `features.2.2`, block and place; `classifier.3` `hidden.1`, and the last `classes`.

    A ReLU stands between two convolutions of a block, a ReLU and a pool between blocks: the number that is left out
    tells where a block ends.
    """
    out: dict[str, str] = {}
    block, place, before = 1, 0, -2
    for number in _numbers(modules, "features"):
        block, place = (block + 1, 1) if number - before == 3 else (block, place + 1)
        before = number
        out[f"features.{number}"] = f"features.{block}.{place}"
    linear = _numbers(modules, "classifier")
    out |= {f"classifier.{number}": f"hidden.{i}" for i, number in enumerate(linear)}
    return out | {f"classifier.{number}": "classes" for number in linear[-1:]}


def _numbers_of(names: Collection[str]) -> dict[str, str]:
    """`_positions` backwards, as torchvision numbers its layers: a dropout too stands behind each hidden ReLU."""
    blocks = sorted(tuple(map(int, name.split(".")[1:])) for name in names if name.startswith("features."))
    out, number = {}, -2
    for block, place in blocks:
        number += 3 if place == 1 and block > 1 else 2
        out[f"features.{block}.{place}"] = f"features.{number}"
    linear = [*(f"hidden.{number}" for number in _numbers(names, "hidden")), "classes"]
    return out | {name: f"classifier.{3 * i}" for i, name in enumerate(linear)}


# `.0`: some checkpoints (CheXNet's) keep the last layer inside a Sequential with its sigmoid.
FAMILIES: dict[str, Family] = {
    "densenet": Family(
        (
            (r"features\.(conv0|norm0)", r"backbone/\1"),
            (r"features\.denseblock(\d+)\.denselayer(\d+)\.(norm\d|conv\d)", r"backbone/block\1_layer\2/\3"),
            (r"features\.transition(\d+)\.(norm|conv)", r"backbone/transition\1_\2"),
            (r"features\.norm5", r"backbone/norm_last"),
            (r"classifier(?:\.0)?", r"head/classes"),
        ),
        stem="backbone/conv0",
    ),
    "resnet": Family(
        (
            (r"(conv1|bn1)", r"backbone/\1"),
            (r"layer(\d+)\.(\d+)\.((?:conv|bn)\d)", r"backbone/layer\1_\2/\3"),
            (r"layer(\d+)\.(\d+)\.downsample\.0", r"backbone/layer\1_\2/downsample_conv"),
            (r"layer(\d+)\.(\d+)\.downsample\.1", r"backbone/layer\1_\2/downsample_bn"),
            (r"fc(?:\.0)?", r"head/classes"),
        ),
        stem="backbone/conv1",
    ),
    "vgg": Family(
        (
            (r"features\.(\d+)\.(\d+)", r"backbone/conv\1_\2"),
            (r"hidden\.(\d+)", r"head/hidden\1"),
            (r"classes", r"head/classes"),
        ),
        stem="backbone/conv1_1",
        plain=True,
    ),
    "inception": Family(
        (
            (r"(Conv2d_\w+)\.(conv|bn)", r"backbone/\1/\2"),
            (r"(Mixed_\w+)\.(branch\w+)\.(conv|bn)", r"backbone/\1/\2/\3"),
            (r"AuxLogits\.(conv\d)\.(conv|bn)", r"aux/\1/\2"),
            (r"AuxLogits\.fc", r"aux/fc"),
            (r"fc", r"head/classes"),
        ),
        stem="backbone/Conv2d_1a_3x3/conv",
        normalize="symmetric",
    ),
    "efficientnet": Family(
        (
            (r"_conv_stem", r"backbone/stem_conv"),
            (r"_bn0", r"backbone/stem_bn"),
            (r"_blocks\.(\d+)\._(expand|depthwise|project)_conv", r"backbone/block\1/\2_conv"),
            (r"_blocks\.(\d+)\._bn0", r"backbone/block\1/expand_bn"),
            (r"_blocks\.(\d+)\._bn1", r"backbone/block\1/depthwise_bn"),
            (r"_blocks\.(\d+)\._bn2", r"backbone/block\1/project_bn"),
            (r"_conv_head", r"backbone/top_conv"),
            (r"_bn1", r"backbone/top_bn"),
            (r"_fc", r"head/classes"),
        ),
        stem="backbone/stem_conv",
        normalize="efficientnet_lite",
    ),
}


def family_of(net: str) -> str:
    """The family of a network's name: `densenet121`, `fcn_densenet121` and `densenet` are one.

    Raises:
      UserError: no family of that name has torch weights.
    """
    for word in FAMILIES:
        if word in net:
            return word
    raise UserError(f"no torch weights are known for {net!r}: the families are {', '.join(FAMILIES)}")


def recognized(state: Mapping[str, np.ndarray]) -> str:
    """The family whose names most modules of a file have; "" where not even half of them have any's."""
    modules = {key.rpartition(".")[0] for key in state}
    known = {name: len(family.paths(state)) for name, family in FAMILIES.items()}
    best = max(known, key=lambda name: known[name])
    return best if 2 * known[best] >= len(modules) else ""


def to_flax(key: str, value: np.ndarray) -> tuple[str, str, np.ndarray] | None:
    """Collection, leaf name and layout of one tensor, from its own name and rank; None for a name torch has not.

    Convolutions (o, i, h, w) become (h, w, i, o), linear layers (o, i) become (i, o); a weight of rank 1 is a
    BatchNorm's scale.
    """
    leaf = key.rpartition(".")[2]
    if leaf == "weight" and value.ndim == 4:
        return "params", "kernel", value.transpose(2, 3, 1, 0)
    if leaf == "weight" and value.ndim == 2:
        return "params", "kernel", value.T
    if leaf == "weight" and value.ndim == 1:
        return "params", "scale", value
    if leaf == "bias":
        return "params", "bias", value
    if leaf in ("running_mean", "running_var"):
        return "batch_stats", leaf.removeprefix("running_"), value
    return None


def to_torch(leaf: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """`to_flax` backwards: the last part of a tensor's name, and its layout."""
    if leaf == "kernel":
        return "weight", value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    return {"scale": "weight", "mean": "running_mean", "var": "running_var"}.get(leaf, leaf), value


def flattened(state: Mapping[str, np.ndarray], back: bool = False) -> dict[str, np.ndarray]:
    """A plain network's state with its first linear layer's inputs in our order: (o, c h w) becomes (o, h w c).

    torch flattens channels first, we flatten them last; c is what the last convolution gives. `back` brings ours to
    torch's order.

    Raises:
      UserError: that layer does not read a whole number of such maps.
    """
    modules = {key.rpartition(".")[0] for key in state}
    convs, linear = _numbers(modules, "features"), _numbers(modules, "classifier")
    first = f"classifier.{linear[0]}.weight" if linear else ""
    last = f"features.{convs[-1]}.weight" if convs else ""
    if first not in state or last not in state or state[first].ndim != 2:
        return dict(state)
    weight, channels = state[first], state[last].shape[0]
    if weight.shape[1] % channels:
        raise UserError(f"{first} is {weight.shape}: its inputs are no multiple of the {channels} channels of {last}")
    shape = (-1, channels) if back else (channels, -1)
    inputs = weight.reshape(weight.shape[0], *shape)  # (o, c, h w), or back
    return {**state, first: inputs.transpose(0, 2, 1).reshape(weight.shape)}
