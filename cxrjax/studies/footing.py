"""Whether systems that are compared were trained alike, but for what is compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
from flax.traverse_util import flatten_dict

from cxrjax.ops import augment
from cxrjax.phases import members
from cxrjax.tasks import TASKS

CAPACITY = 0.1  # parameters that differ by a smaller share are alike
_AUGMENTATION = ("augment", *(name for name in augment.Ranges._fields if name != "optical_limit"), "crop")
_BOOKKEEPING = frozenset({"eval_batch", "log_every", "eval_every", "save_every"})  # of no weight


class Side(NamedTuple):
    """A system that is compared: its title, the config of its run and its phase there."""

    title: str
    config: Any
    phase: str


def notes(pairs: Iterable[tuple[Side, Side]], *, by_seed: bool = False) -> list[str]:
    """A sentence on the pairs that are not trained alike, where there are any.

    Told are films seen (in the phases that one goes on from, too), patience, augmentation, seeds, patients, the updates
    of a generator and its discriminators, and parameters. A pair that differs in one key alone compares that key, and
    nothing is told: a warning, no error, since whoever compares two recipes as they are may do so.

    Args:
      pairs: of systems that are compared.
      by_seed: they are compared seed by seed, so that one may have more of them.
    """
    each = ((f"{a.title} and {b.title}", _differences(a, b, by_seed)) for a, b in pairs)
    told = [f"{names} in {', '.join(found)}" for names, found in each if found]
    return [f"These compared systems differ in more than what is compared: {'; '.join(told)}."] if told else []


def _differences(a: Side, b: Side, by_seed: bool) -> list[str]:
    """What two systems' trainings differ in, each in words with both values."""
    if len(_keys(a, b)) < 2:
        return []
    ours, theirs = _training(a), _training(b)
    if by_seed:
        del ours["seeds"]
    out = [
        f"{name} ({_words(ours[name])} against {_words(theirs[name])})"
        for name in ours
        if name in theirs and ours[name] != theirs[name]
    ]
    ours, theirs = _parameters(a), _parameters(b)
    return out + [
        f"{name} ({ours[name]:,} against {theirs[name]:,})"
        for name in ours
        if name in theirs and abs(ours[name] - theirs[name]) > CAPACITY * max(ours[name], theirs[name])
    ]


def _keys(a: Side, b: Side) -> set[str]:
    """The keys in which two phases differ."""
    one, two = (flatten_dict(side.config[side.phase].to_dict(), sep=".") for side in (a, b))
    return {key for key in (one.keys() | two.keys()) - _BOOKKEEPING if one.get(key) != two.get(key)}


def _training(side: Side) -> dict[str, Any]:
    phase = side.config[side.phase]
    films, earlier = phase.steps * phase.batch, phase.carry
    while earlier:
        films += side.config[earlier].steps * side.config[earlier].batch
        earlier = side.config[earlier].carry
    out = {"films seen": films, "augmentation": _augmentation(phase), "seeds": phase.get("seeds", 1)}
    out["training patients"] = phase.get("patients", 0) or "all"
    if phase.optim.schedule == "plateau":
        out["films of patience"] = phase.optim.patience * phase.eval_every * phase.batch
    if phase.task == "gan":
        each = phase.ratio_mode == "all_d_per_batch"
        out["updates of the generator"] = phase.steps if each else phase.steps // phase.ratio
        out["updates of the discriminator"] = phase.steps * (phase.ratio if each else 1)
    return out


def _augmentation(phase: Any) -> tuple[str, ...]:
    found = {key: phase[key] for key in _AUGMENTATION if phase.get(key)}
    out = [*sorted(found.pop("augment", ())), *(f"{key} {value:g}" for key, value in found.items())]
    return tuple(out)


def _parameters(side: Side) -> dict[str, int]:
    """Of the network, or of a generator and of all its discriminators."""
    config, name = side.config, side.phase
    task = TASKS[config[name].task](config[name], tuple(config.data.classes))
    state = jax.eval_shape(task.init, jax.random.key(0), members.example_of(config, name, 1))
    count = {network: sum(leaf.size for leaf in jax.tree.leaves(found)) for network, found in state.params.items()}
    if "g" not in count:
        return {"parameters": sum(count.values())}
    generator = count.pop("g")
    return {"parameters of the generator": generator, "parameters of the discriminators": sum(count.values())}


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return " + ".join(value) or "none"
    return value if isinstance(value, str) else f"{value:,}"
