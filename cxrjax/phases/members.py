"""The members of a phase: folds of the patients, seeds, or the only one; their names, and which films they see."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import jax
import numpy as np

from cxrjax import data
from cxrjax.data import splits
from cxrjax.errors import UserError
from cxrjax.infer.finished import classes_of, member_names, reads_features
from cxrjax.tasks import OF_PAIRS
from cxrjax.types import Batch, Key


class Member(NamedTuple):
    """One training of a phase: a fold of the patients, another seed, or the only one.

    Attributes:
      name: of its checkpoints, log lines and predictions.
      phase: the name of its config.
      number: from 0.
      keep: positions in the train part that it trains on; None for all.
      held_out: positions in the train part that are its test films; None where a part of its own is.
    """

    name: str
    phase: str
    number: int
    keep: np.ndarray | None
    held_out: np.ndarray | None


def name_key(key: Key, name: str) -> Key:
    """A key of its own for a name, stable over runs and Python's hash seed."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def root_of(config: Any, member: Member) -> str:
    """What a member draws by: seeds of the same number begin alike and see films in the same order in every phase, so
    that arms can be paired."""
    return f"seed_{member.number}" if config.get("seeds", 1) > 1 else member.name


def folds_of(config: Any, films: data.Prepared, folds: int) -> np.ndarray:
    """(n,) the fold of each film of the train part, the same for every phase, the floor and the checks."""
    table = films.table("train")
    return splits.folds(table["patient"].tolist(), table["labels"], folds, seed=config.data.seed)


def field_of(config: Any, phase: str) -> str:
    """What of the films a phase reads: "enh", the local-phase channels made with them, "outside" of found lungs, or
    "image"."""
    if config[phase].get("border", 0.0):
        return "outside"
    return "enh" if reads_features(config, phase) else "image"


def only(films: data.Prepared, split: str, name: str) -> np.ndarray | None:
    """Indices of a split's films that carry one class; None, meaning all of them, for an empty name."""
    if not name:
        return None
    chosen = data.labels.select(films.table(split)["labels"], films.columns, (name,))[:, 0] == 1
    if not chosen.any():
        raise UserError(f"no film of the {split} part is labeled {name!r}, which this phase is to see only")
    return np.flatnonzero(chosen)


def part_of(config: Any, phase: str) -> str:
    """The part of the films that a phase trains on."""
    return config[phase].get("part", "train")


def kept(config: Any, films: data.Prepared, split: str, phase: str) -> np.ndarray | None:
    """Indices of a split's films that a phase sees; None for all of them.

    A phase with `normal = "drop"` sees only films of its classes.
    """
    chosen = only(films, split, config[phase].only)
    if config[phase].get("normal", "") != "drop":
        return chosen
    label = data.labels.select(films.table(split)["labels"], films.columns, tuple(config.data.classes))
    sick = np.flatnonzero((label == 1).any(axis=1))
    if not len(sick):
        raise UserError(
            f"no film of the {split} part has any of {', '.join(config.data.classes)}, and Normal is dropped"
        )
    return sick if chosen is None else np.intersect1d(sick, chosen)


def of(config: Any, films: data.Prepared, phase: str) -> list[Member]:
    """A phase's members: `folds` patient-grouped, stratified folds of the train part, or `seeds` trainings on all."""
    # What is taken from a finished run sees no films to train on.
    keep = None if config[phase].get("from_run", "") else kept(config, films, part_of(config, phase), phase)
    folds = config[phase].get("folds", 0)
    if folds < 2:
        keep = fewer(config, films, phase, keep)
        return [Member(name, phase, i, keep, None) for i, name in enumerate(member_names(config, phase))]
    number = folds_of(config, films, folds)
    allowed = np.arange(len(number)) if keep is None else keep
    return [
        Member(
            name, phase, i, fewer(config, films, phase, allowed[number[allowed] != i]), allowed[number[allowed] == i]
        )
        for i, name in enumerate(member_names(config, phase))
    ]


def fewer(config: Any, films: data.Prepared, phase: str, keep: np.ndarray | None) -> np.ndarray | None:
    """Of the films that a member may train on, those of as many patients as the phase's `patients` says.

    Raises:
      UserError: there are fewer.
    """
    wanted = config[phase].get("patients", 0)
    if not wanted or config[phase].get("from_run", ""):
        return keep
    part = part_of(config, phase)
    return first(films, part, np.arange(films.count(part)) if keep is None else keep, wanted, config.data.seed)


def first(films: data.Prepared, part: str, keep: np.ndarray, wanted: int, seed: int) -> np.ndarray:
    """Of films of a part, those of its first patients: see `splits.nested`.

    Raises:
      UserError: there are fewer.
    """
    table = films.table(part)
    place = splits.nested(table["patient"][keep].tolist(), table["labels"][keep], seed=seed)
    if not 0 < wanted <= (there := int(place.max(initial=-1)) + 1):
        raise UserError(f"patients is {wanted}, and there are {there} to train on; expected 1 to {there}, or 0 for all")
    return keep[place < wanted]


def example_of(config: Any, phase: str, devices: int) -> Batch:
    """Blank films, or pairs of them, as the phase reads them, one a device."""
    channels = 2 if config[phase].task in OF_PAIRS else 3 if field_of(config, phase) == "enh" else 1
    return Batch.blank(devices, config.data.size, len(classes_of(config, phase)), channels)
