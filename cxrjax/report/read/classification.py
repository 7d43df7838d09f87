"""What a classification study leaves in its workdir beside its numbers: predictions, maps and phase channels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.errors import UserError
from cxrjax.report.read.files import load_checked, read_lines
from cxrjax.report.read.workdir import Run

_MEMBER = re.compile(r"(?P<system>.+)_\d{1,2}")
FLOOR = "logreg32"
_PROBES = {"probe": "linear probe", "knn": "nearest neighbors"}  # what their files are called in words


@dataclass(frozen=True)
class Member:
    """One trained network on the films that it was scored on.

    Attributes:
      key: (n,) str, the film. label: (n, k), 1 present, 0 absent, NaN unknown. probability: (n, k) in [0, 1].
    """

    key: np.ndarray
    label: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class System:
    """A system by name, with its classes in the order of the columns.

    `members` holds one entry where the system was trained once, or where its members are folds: each film was then
    predicted by the one member that had not seen it, and the predictions are pooled. It holds an entry a seed where
    several members predicted the same films. `trained` counts the networks.
    """

    name: str
    classes: tuple[str, ...]
    members: tuple[Member, ...]
    trained: int

    @property
    def exclusive(self) -> bool:
        """Whether every film belongs to exactly one class."""
        label = self.members[0].label
        return label.shape[1] > 1 and bool(np.isfinite(label).all() and (label.sum(axis=1) == 1).all())

    @property
    def films(self) -> int:
        return len(self.members[0].key)

    def pooled(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and probabilities of all members, one below the other."""
        return np.concatenate([m.label for m in self.members]), np.concatenate([m.probability for m in self.members])


@dataclass(frozen=True)
class Maps:
    """Films with what a network looked at.

    Attributes:
      image, map: (m, s, s) in [0, 1]. truth: (m, s, s) bool, the finding or its box, empty where unknown.
      finding, key: (m,) str. score: (m,) the probability of the finding.
    """

    image: np.ndarray
    map: np.ndarray
    truth: np.ndarray
    finding: np.ndarray
    key: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class Failures:
    """Films that were called wrong, the surest first.

    Attributes:
      image: (m, s, s) in [0, 1]. map: the same of what was said, or None.
      key, truth, said: (m,) str, the two last in words.
    """

    image: np.ndarray
    map: np.ndarray | None
    key: np.ndarray
    truth: np.ndarray
    said: np.ndarray


@dataclass(frozen=True)
class Channels:
    """Films (m, s, s) with their phase features `enh` (m, s, s, 3), all in [0, 1], and the class of each (m,) str."""

    image: np.ndarray
    enh: np.ndarray
    label: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Classification(Run):
    """A finished study of classifiers; `grid` holds the rows of a grid search."""

    systems: list[System] = field(default_factory=list)
    maps: Maps | None = None
    failures: Failures | None = None
    channels: Channels | None = None
    grid: list[dict[str, Any]] = field(default_factory=list)


def read(run: Run) -> Classification:
    """The predictions, maps, failures, phase channels and grid search of a workdir; what a run lacks is empty.

    Raises:
      UserError: a file that cannot be read, or arrays that disagree.
    """
    workdir, searched = run.workdir, run.results.get("grid")
    phase = searched.get("phase") if isinstance(searched, dict) else None
    return run.extended(
        Classification,
        systems=titled(read_systems(workdir / "predictions", run.notes), run.study),
        maps=read_maps(workdir / "maps.npz"),
        failures=read_failures(workdir / "failures.npz"),
        channels=read_channels(workdir / "enh.npz"),
        grid=read_lines(workdir / str(phase or "grid") / "rows.jsonl"),
    )


def system_of(name: str, names: set[str]) -> str:
    """The system that a phase belongs to: `fcn` for `fcn_3` where there is a `fcn_0` too, else the name itself."""
    match = _MEMBER.fullmatch(name)
    return match["system"] if match and f"{match['system']}_0" in names else name


def read_systems(folder: Path, notes: list[str]) -> list[System]:
    """The systems of `predictions/MEMBER.npz`, the floor last; the validation part's files are left aside.

    A member whose probabilities are not finite is left out and told in `notes`.

    Raises:
      UserError: arrays are missing or disagree in shape, or members of one system disagree about the classes.
    """
    paths = [p for p in sorted(folder.glob("*.npz"), key=_natural) if not p.stem.endswith((".val", ".train"))]
    names = {path.stem for path in paths}
    found: dict[str, list[tuple[Member, tuple[str, ...]]]] = {}
    for path in paths:
        arrays = load_checked(path, {"label": "n k", "probability": "n k", "key": "n", "classes?": "k"})
        if arrays is None:
            continue
        label, probability = arrays["label"].astype(np.float64), arrays["probability"].astype(np.float64)
        classes = tuple(map(str, arrays.get("classes", np.arange(label.shape[1]))))
        if not np.isfinite(probability).all():
            notes.append(f"predictions/{path.name} holds probabilities that are not numbers; no figure shows them.")
            continue
        member = Member(arrays["key"].astype(str), label, probability)
        found.setdefault(system_of(path.stem, names), []).append((member, classes))
    systems = [_system(name, entries, folder) for name, entries in found.items()]
    return sorted(systems, key=lambda system: system.name.startswith(FLOOR))


def titles(study: dict[str, Any]) -> dict[str, str]:
    """What systems are called on the page: by their config's `study.systems`, pairs, and the probes in words."""
    return _PROBES | {str(name): str(title) for name, title in study.get("systems") or ()}


def titled(systems: list[System], study: dict[str, Any]) -> list[System]:
    """The systems under their titles, where these differ."""
    given = titles(study)
    named = [replace(system, name=given.get(system.name, system.name)) for system in systems]
    return named if len({system.name for system in named}) == len(named) else systems


def _natural(path: Path) -> list[tuple[int, str]]:
    """A sort key that puts fcn_10 after fcn_9."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path.stem)]


def _system(name: str, entries: list[tuple[Member, tuple[str, ...]]], folder: Path) -> System:
    members, classes = [member for member, _ in entries], entries[0][1]
    if any(other != classes for _, other in entries):
        raise UserError(f"{folder}: the members of {name} have different classes; run the study again")
    keys = np.concatenate([member.key for member in members])
    trained = len(members)
    if trained > 1 and len(np.unique(keys)) == len(keys):
        label, probability = (np.concatenate([getattr(m, part) for m in members]) for part in ("label", "probability"))
        members = [Member(keys, label, probability)]
    return System(name, classes, tuple(members), trained)


def read_maps(path: Path) -> Maps | None:
    """`maps.npz`. Raises UserError where arrays are missing or disagree."""
    films = dict.fromkeys(("image", "map", "truth"), "n h w")
    arrays = load_checked(path, films | dict.fromkeys(("finding", "key", "score"), "n"))
    if arrays is None:
        return None
    image, maps, truth = (arrays[name].astype(np.float64) for name in ("image", "map", "truth"))
    finding, key = arrays["finding"].astype(str), arrays["key"].astype(str)
    return Maps(image, maps, truth > 0.5, finding, key, arrays["score"].astype(np.float64))


def read_failures(path: Path) -> Failures | None:
    """`failures.npz`. Raises UserError where arrays are missing or disagree."""
    words = ("key", "truth", "said")
    arrays = load_checked(path, {"image": "n h w", "map?": "n h w", **dict.fromkeys(words, "n")})
    if arrays is None:
        return None
    return Failures(arrays["image"], arrays.get("map"), *(arrays[name].astype(str) for name in words))


def read_channels(path: Path) -> Channels | None:
    """`enh.npz`. Raises UserError where arrays are missing or disagree."""
    arrays = load_checked(path, {"image": "n h w", "enh": "n h w 3", "label": "n"})
    if arrays is None:
        return None
    return Channels(arrays["image"].astype(float), arrays["enh"].astype(float), arrays["label"].astype(str))
